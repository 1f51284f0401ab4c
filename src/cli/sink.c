/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool sink_open(struct sink *sink, const char *path)
{
    struct stat about;
    *sink = (struct sink){.path = path, .fd = STDOUT_FILENO};
    if (path == NULL || strcmp(path, "-") == 0) {
        sink->path = NULL;
        return true;
    }
    bool special = stat(path, &about) == 0 && !S_ISREG(about.st_mode);
    if (special && S_ISDIR(about.st_mode)) {
        shoal_fail(SHOAL_E_INVALID, "%s is a directory: name a file in it", path);
        return false;
    }
    if (special) {
        sink->fd = open(path, O_WRONLY | O_CLOEXEC);
    } else {
        snprintf(sink->temporary, sizeof sink->temporary, "%s.shoal-XXXXXX", path);
        sink->fd = mkostemp(sink->temporary, O_CLOEXEC);
        mode_t mask = umask(0);
        umask(mask);
        if (sink->fd >= 0)
            (void)fchmod(sink->fd, 0666 & ~mask);
    }
    if (sink->fd < 0)
        shoal_fail(SHOAL_E_IO, "cannot write %s: %s", path, strerror(errno));
    return sink->fd >= 0;
}

bool sink_write(struct sink *sink, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t wrote = write(sink->fd, data, len);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0) {
            shoal_fail(SHOAL_E_IO, "cannot write %s: %s",
                       sink->path != NULL ? sink->path : "to standard output", strerror(errno));
            return false;
        }
        data += wrote;
        len -= (size_t)wrote;
    }
    return true;
}

bool sink_close(struct sink *sink, bool ok)
{
    if (sink->path == NULL || sink->fd < 0)
        return ok;
    if (close(sink->fd) != 0 && ok) {
        shoal_fail(SHOAL_E_IO, "cannot write %s: %s", sink->path, strerror(errno));
        ok = false;
    }
    if (sink->temporary[0] == 0)
        return ok;
    if (ok && rename(sink->temporary, sink->path) != 0) {
        shoal_fail(SHOAL_E_IO, "cannot write %s: %s", sink->path, strerror(errno));
        ok = false;
    }
    if (!ok)
        (void)unlink(sink->temporary);
    return ok;
}
