/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/macros.h"
#include "dev/dev.h"
#include "shoal/error.h"

#define FILL_BYTES (8u << 20)
#define SAY_FROM_BYTES (UINT64_C(1) << 30) /* files that take a while are announced */

/* ---- opening ---- */

static int refuse(const char *path, const char *what, int system_errno)
{
    LOG_ERROR("device %s: %s: %s", path, what, strerror(system_errno));
    return file_error(system_errno);
}

/* Without O_DIRECT where the file system has none: correct, but through the page cache. */
static int open_direct(const char *path, int flags, int *fd)
{
    *fd = open(path, flags | O_DIRECT, 0600);
    if (*fd < 0 && errno == EINVAL) {
        *fd = open(path, flags, 0600);
        if (*fd >= 0)
            LOG_WARN("device %s: its file system has no O_DIRECT; reads and writes go through the "
                     "page cache",
                     path);
    }
    if (*fd >= 0)
        return 0;
    if (errno == EBUSY) {
        LOG_ERROR("device %s is mounted or otherwise in use by the system; give Shoal a device of "
                  "its own",
                  path);
        return SHOAL_E_BUSY;
    }
    return refuse(path, "cannot be opened", errno);
}

static int lock(const char *path, int fd, bool read_only)
{
    if (flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return refuse(path, "cannot be locked", errno);
    LOG_ERROR("device %s is in use by another process (it is locked); stop that node first", path);
    return SHOAL_E_BUSY;
}

/* ---- block devices ---- */

static bool has_write_cache(dev_t device)
{
    /* A partition has no queue of its own; its disk is the directory above it. */
    static const char *const places[] = {"queue/write_cache", "../queue/write_cache"};

    for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
        char path[PATH_MAX];
        char *text;
        size_t length;
        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(device), minor(device),
                 places[i]);
        if (file_read(path, 4096, &text, &length) != 0)
            continue;
        bool through = strncmp(text, "write through", strlen("write through")) == 0;
        free(text);
        return !through;
    }
    return true; /* unknown: the safe answer */
}

static int take_block_device(const char *path, uint64_t size_bytes, const struct stat *status,
                             struct dev_file *file)
{
    uint64_t bytes;
    int logical_bytes;

    if (ioctl(file->fd, BLKGETSIZE64, &bytes) != 0 ||
        ioctl(file->fd, BLKSSZGET, &logical_bytes) != 0)
        return refuse(path, "its size cannot be read", errno);
    if (logical_bytes > (int)DEV_BLOCK_BYTES) {
        LOG_ERROR("device %s has blocks of %d bytes; at most %u are supported", path, logical_bytes,
                  DEV_BLOCK_BYTES);
        return SHOAL_E_UNSUPPORTED;
    }
    if (bytes < size_bytes || bytes < DEV_BLOCK_BYTES) {
        LOG_ERROR("device %s has %lu bytes, %lu were asked for", path, (unsigned long)bytes,
                  (unsigned long)size_bytes);
        return SHOAL_E_INVALID;
    }
    file->size_bytes = round_down_u64(bytes, DEV_BLOCK_BYTES);
    file->volatile_cache = has_write_cache(status->st_rdev);
    return 0;
}

/* ---- regular files ---- */

static int refuse_growth(const char *path, uint64_t from, uint64_t to, int system_errno)
{
    LOG_ERROR("device %s: cannot grow it from %lu to %lu bytes: %s", path, (unsigned long)from,
              (unsigned long)to, strerror(system_errno));
    return system_errno == ENOSPC || system_errno == EDQUOT || system_errno == EFBIG
               ? SHOAL_E_FULL
               : file_error(system_errno);
}

static int write_zeros(const char *path, int fd, uint64_t from, uint64_t to)
{
    /* Anonymous memory: zero, and aligned as O_DIRECT wants it. */
    void *zeros = mmap(NULL, FILL_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1,
                       0);
    int error = 0;

    if (zeros == MAP_FAILED)
        return SHOAL_E_NO_MEMORY;
    for (uint64_t at = from; at < to && error == 0;) {
        ssize_t n = pwrite(fd, zeros, (size_t)MIN(to - at, (uint64_t)FILL_BYTES), (off_t)at);
        if (n > 0)
            at += (uint64_t)n;
        else if (n == 0 || errno != EINTR)
            error = refuse_growth(path, from, to, n == 0 ? EIO : errno);
    }
    munmap(zeros, FILL_BYTES);
    if (error == 0 && fsync(fd) != 0)
        error = refuse_growth(path, from, to, errno);
    return error;
}

/* A name that a crash can take away again is no place for data. */
static int sync_directory(const char *path)
{
    char copy[PATH_MAX];

    snprintf(copy, sizeof(copy), "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return refuse(path, "its directory cannot be opened", errno);
    int error = fsync(fd) == 0 ? 0 : refuse(path, "its directory cannot be synced", errno);
    close(fd);
    return error;
}

/*
 * Space is allocated first, so that a full disk is told at once; the size grows only with what has
 * been written, so that a preparation cut short goes on where it was when it is tried again.
 */
static int grow(const char *path, int fd, uint64_t from, uint64_t to)
{
    struct timespec start;
    struct timespec end;

    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) != 0 &&
        errno != EOPNOTSUPP && errno != ENOSYS)
        return refuse_growth(path, from, to, errno);
    if (to - from >= SAY_FROM_BYTES)
        LOG_INFO("device %s: writing %lu MiB once, so that later writes need no allocation", path,
                 (unsigned long)((to - from) >> 20));
    clock_gettime(CLOCK_MONOTONIC, &start);
    int error = write_zeros(path, fd, from, to);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (error == 0 && to - from >= SAY_FROM_BYTES)
        LOG_INFO("device %s: ready after %ld s", path, (long)(end.tv_sec - start.tv_sec));
    return error == 0 ? sync_directory(path) : error;
}

static int take_regular_file(const char *path, uint64_t size_bytes, bool read_only,
                             const struct stat *status, struct dev_file *file)
{
    uint64_t now_bytes = round_down_u64((uint64_t)status->st_size, DEV_BLOCK_BYTES);

    if (size_bytes % DEV_BLOCK_BYTES != 0 || size_bytes > INT64_MAX) {
        LOG_ERROR("device %s: a size of %lu bytes was asked for; it must be a multiple of %u", path,
                  (unsigned long)size_bytes, DEV_BLOCK_BYTES);
        return SHOAL_E_INVALID;
    }
    if (now_bytes < size_bytes) {
        if (read_only) {
            LOG_ERROR("device %s has %lu bytes, %lu were asked for, and it is opened to read only",
                      path, (unsigned long)now_bytes, (unsigned long)size_bytes);
            return SHOAL_E_INVALID;
        }
        int error = grow(path, file->fd, now_bytes, size_bytes);
        if (error != 0)
            return error;
        now_bytes = size_bytes;
    }
    if (now_bytes == 0) {
        LOG_ERROR("device %s is an empty file; say how large it is to be", path);
        return SHOAL_E_INVALID;
    }
    file->size_bytes = now_bytes;
    file->volatile_cache = true; /* the page cache's metadata and the disk below */
    return 0;
}

/* ---- both ---- */

static int take(const char *path, uint64_t size_bytes, bool read_only, struct dev_file *file)
{
    struct stat status;

    int error = lock(path, file->fd, read_only);
    if (error != 0)
        return error;
    if (fstat(file->fd, &status) != 0)
        return refuse(path, "cannot be examined", errno);
    if (S_ISBLK(status.st_mode))
        return take_block_device(path, size_bytes, &status, file);
    return take_regular_file(path, size_bytes, read_only, &status, file);
}

int dev_file_open(const char *path, uint64_t size_bytes, bool read_only, struct dev_file *out)
{
    struct stat status;
    int flags = O_CLOEXEC | (read_only ? O_RDONLY : O_RDWR);
    bool exists = stat(path, &status) == 0;

    if (!exists && size_bytes > 0 && !read_only)
        flags |= O_CREAT;
    /* Looked at first, because opening a pipe would wait. */
    if (exists && !S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        LOG_ERROR("device %s is neither a regular file nor a block device", path);
        return SHOAL_E_UNSUPPORTED;
    }
    if (exists && S_ISBLK(status.st_mode) && !read_only)
        flags |= O_EXCL; /* of a block device: not while it is mounted */
    int error = open_direct(path, flags, &out->fd);
    if (error != 0)
        return error;
    error = take(path, size_bytes, read_only, out);
    if (error != 0)
        close(out->fd);
    return error;
}
