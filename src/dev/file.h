/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening what the uring backend works on: a regular file, which is locked, allocated and written
 * once, or a block device, which is locked and measured. Private to dev/.
 */
#ifndef SHOAL_DEV_FILE_H
#define SHOAL_DEV_FILE_H

#include <stdbool.h>
#include <stdint.h>

struct dev_file {
    int fd; /* holds the lock; the caller closes it */
    uint64_t size_bytes;
    bool volatile_cache;
};

/* As dev_uring_open() says. */
int dev_file_open(const char *path, uint64_t size_bytes, bool read_only, struct dev_file *out);

#endif
