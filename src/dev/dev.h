/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block devices: the door through which bytes reach and leave stable storage.
 *
 * A device is an array of 4 KiB blocks owned by one reactor. Offsets, lengths and memory are
 * multiples of DEV_BLOCK_BYTES. Operations are asynchronous (dev_submit) with a blocking form for
 * fibers on top. Completion of a write means durable only when `volatile_cache` is false; else a
 * later completed flush makes every write completed before that flush was submitted durable.
 *
 * Backends: `uring` (files and block devices, O_DIRECT), `sim` (memory, with faults), `record` (a
 * wrapper that logs writes and flushes for crash tests). An SPDK NVMe queue pair a reactor fits
 * behind the same operations.
 */
#ifndef SHOAL_DEV_DEV_H
#define SHOAL_DEV_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"

struct reactor;
struct dev;

#define DEV_BLOCK_BYTES 4096u
#define DEV_MAX_IOV 8u

enum dev_op { DEV_READ, DEV_WRITE, DEV_FLUSH };

/*
 * struct dev_io - One operation, owned by the caller until done() is called.
 * @iov: memory, aligned to 4 KiB in address and length; lent to the device until done()
 * @done: called once, on the reactor's stack, with 0 or a negative SHOAL_E_* (IO, FULL, SHUTDOWN).
 *        A short transfer is an IO error; nothing is known then of what was written.
 */
struct dev_io {
    enum dev_op op;
    uint64_t offset_bytes;
    struct iovec iov[DEV_MAX_IOV];
    unsigned iov_count;
    void (*done)(struct dev_io *io, int result);

    struct list_node node; /* the backend's while the operation is under way */
    void *backend[6];      /* likewise */
};

struct dev_ops {
    void (*submit)(struct dev *dev, struct dev_io *io);
    void (*close)(struct dev *dev);
};

struct dev {
    const struct dev_ops *ops;
    struct reactor *reactor;
    uint64_t size_bytes;
    bool volatile_cache; /* a completed write needs a flush to be durable */
    char name[64];       /* for messages: the path's last part, or what a test calls it */
};

/* Never fails; a range outside the device completes with SHOAL_E_INVALID. */
void dev_submit(struct dev *dev, struct dev_io *io);

/* Blocking forms, for fibers. Return 0 or a negative SHOAL_E_*. */
int dev_read(struct dev *dev, uint64_t offset_bytes, void *buffer, size_t len);
int dev_write(struct dev *dev, uint64_t offset_bytes, const void *buffer, size_t len);
int dev_writev(struct dev *dev, uint64_t offset_bytes, const struct iovec *iov, unsigned count);
int dev_flush(struct dev *dev);

/* No operation may be under way (CHECKed). */
void dev_close(struct dev *dev);

/*
 * dev_uring_open() - A file or block device through the reactor's io_uring, with O_DIRECT where the
 * file system has it (told once in the log where not).
 * @size_bytes: 0: as it is; else a regular file is created or grown to this size, allocated and
 *              written once, so that later writes need no metadata and cannot fail for space
 * The device holds an exclusive lock (flock) on it: two nodes cannot share one.
 */
int dev_uring_open(struct reactor *reactor, const char *path, uint64_t size_bytes, bool read_only,
                   struct dev **out);

#endif
