/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shoal/error.h"

int file_error(int system_errno)
{
    switch (system_errno) {
    case ENOENT:
        return SHOAL_E_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return SHOAL_E_DENIED;
    case EEXIST:
        return SHOAL_E_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return SHOAL_E_FULL;
    case EFBIG:
        return SHOAL_E_TOO_LARGE;
    case ENOMEM:
        return SHOAL_E_NO_MEMORY;
    case EIO:
        return SHOAL_E_IO;
    default:
        return SHOAL_E_SYSTEM;
    }
}

static void close_keeping_errno(int fd)
{
    int saved = errno;
    close(fd);
    errno = saved;
}

/* Reads to the end into a buffer that grows, for files in /proc have no size. */
static int read_all(int fd, size_t max, char **data, size_t *length)
{
    size_t size = 4096;
    size_t used = 0;
    char *buffer = malloc(size + 1);
    if (buffer == NULL)
        return SHOAL_E_NO_MEMORY;
    int error = 0;
    for (;;) {
        if (used == size) {
            char *larger = realloc(buffer, size * 2 + 1);
            if (larger == NULL) {
                error = SHOAL_E_NO_MEMORY;
                break;
            }
            buffer = larger;
            size *= 2;
        }
        ssize_t got = read(fd, buffer + used, size - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            error = file_error(errno);
        if (got <= 0)
            break;
        used += (size_t)got;
        if (used > max) {
            errno = EFBIG;
            error = SHOAL_E_TOO_LARGE;
            break;
        }
    }
    if (error != 0) {
        free(buffer);
        return error;
    }
    buffer[used] = '\0';
    *data = buffer;
    *length = used;
    return 0;
}

int file_read(const char *path, size_t max, char **data, size_t *length)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return file_error(errno);
    int error = read_all(fd, max, data, length);
    close_keeping_errno(fd);
    return error;
}

static int write_all(int fd, const void *data, size_t length)
{
    const uint8_t *at = data;
    while (length > 0) {
        ssize_t put = write(fd, at, length);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return file_error(errno);
        at += put;
        length -= (size_t)put;
    }
    return 0;
}

static int sync_directory_of(const char *path)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        strcpy(directory, ".");
    else
        snprintf(directory, sizeof directory, "%.*s", (int)(slash - path + 1), path);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return file_error(errno);
    int error = fsync(fd) == 0 ? 0 : file_error(errno);
    close_keeping_errno(fd);
    return error;
}

int file_write_atomic(const char *path, const void *data, size_t length, mode_t mode)
{
    char temporary[PATH_MAX];
    int printed = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (printed < 0 || (size_t)printed >= sizeof temporary) {
        errno = ENAMETOOLONG;
        return SHOAL_E_SYSTEM;
    }
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return file_error(errno);
    int error = write_all(fd, data, length);
    if (error == 0 && (fchmod(fd, mode) != 0 || fsync(fd) != 0))
        error = file_error(errno);
    close_keeping_errno(fd);
    if (error == 0 && rename(temporary, path) != 0)
        error = file_error(errno);
    if (error != 0) {
        int saved = errno;
        unlink(temporary);
        errno = saved;
        return error;
    }
    return sync_directory_of(path);
}

static int make_directory(const char *path, mode_t mode)
{
    struct stat found;
    if (mkdir(path, mode) == 0)
        return 0;
    int saved = errno;
    /* A read-only or foreign parent may refuse before it says that the directory is there. */
    if (stat(path, &found) == 0 && S_ISDIR(found.st_mode))
        return 0;
    errno = saved;
    return file_error(errno);
}

int file_make_directories(const char *path, mode_t mode)
{
    char partial[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof partial) {
        errno = length == 0 ? ENOENT : ENAMETOOLONG;
        return file_error(errno);
    }
    memcpy(partial, path, length + 1);
    for (size_t i = 1; i < length; i++) {
        if (partial[i] != '/')
            continue;
        partial[i] = '\0';
        int error = make_directory(partial, mode);
        if (error != 0)
            return error;
        partial[i] = '/';
    }
    return make_directory(partial, mode);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

int file_remove_tree(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT)
        return 0;
    return file_error(errno);
}
