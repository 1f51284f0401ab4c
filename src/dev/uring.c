/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/macros.h"
#include "core/dma.h"
#include "core/reactor.h"
#include "core/uring.h"
#include "dev/backend.h"
#include "dev/file.h"
#include "shoal/error.h"

struct dev_uring {
    struct dev dev;
    struct uring *uring;
    int fd;
};

/* What lies in dev_io.backend while the kernel has the operation. */
struct uring_io {
    struct uring_op op;
    struct dev_uring *device;
};

_Static_assert(sizeof(struct uring_io) <= sizeof(((struct dev_io *)0)->backend),
              "an operation's private part does not fit");

static struct uring_io *private_of(struct dev_io *io)
{
    return (struct uring_io *)(void *)io->backend;
}

static void start(struct dev_uring *device, struct dev_io *io);

static int result_of(struct dev_uring *device, const struct dev_io *io, int32_t result)
{
    static const char *const names[] = {
        [DEV_READ] = "read", [DEV_WRITE] = "write", [DEV_FLUSH] = "flush"};
    uint64_t wanted = dev_io_bytes(io);

    if (result >= 0 && (uint64_t)result == wanted)
        return 0;
    LOG_ERROR("%s: %s of %lu bytes at offset %lu: %s", device->dev.name, names[io->op],
              (unsigned long)wanted, (unsigned long)io->offset_bytes,
              result < 0 ? strerror(-result) : "short transfer");
    return result == -ENOSPC || result == -EDQUOT ? SHOAL_E_FULL : SHOAL_E_IO;
}

static void complete(struct uring_op *op, int32_t result, uint32_t flags)
{
    struct uring_io *mine = container_of(op, struct uring_io, op);
    struct dev_io *io = (struct dev_io *)(void *)((char *)mine - offsetof(struct dev_io, backend));
    struct dev_uring *device = mine->device;

    (void)flags;
    if (result == -EAGAIN || result == -EINTR) {
        start(device, io); /* nothing of it was done */
        return;
    }
    dev_finish(&device->dev, io, result_of(device, io, result));
}

static void start(struct dev_uring *device, struct dev_io *io)
{
    struct uring_io *mine = private_of(io);
    struct io_uring_sqe *sqe = uring_get_sqe(device->uring, &mine->op);

    if (io->op == DEV_FLUSH) {
        io_uring_prep_fsync(sqe, device->fd, IORING_FSYNC_DATASYNC);
        return;
    }
    if (io->iov_count == 1) {
        void *at = io->iov[0].iov_base;
        unsigned len = (unsigned)io->iov[0].iov_len;
        int index = dma_registered_index(device->dev.reactor, at, len);
        if (index >= 0 && io->op == DEV_READ)
            io_uring_prep_read_fixed(sqe, device->fd, at, len, io->offset_bytes, index);
        else if (index >= 0)
            io_uring_prep_write_fixed(sqe, device->fd, at, len, io->offset_bytes, index);
        else if (io->op == DEV_READ)
            io_uring_prep_read(sqe, device->fd, at, len, io->offset_bytes);
        else
            io_uring_prep_write(sqe, device->fd, at, len, io->offset_bytes);
    } else if (io->op == DEV_READ) {
        io_uring_prep_readv(sqe, device->fd, io->iov, io->iov_count, io->offset_bytes);
    } else {
        io_uring_prep_writev(sqe, device->fd, io->iov, io->iov_count, io->offset_bytes);
    }
}

static void submit(struct dev *dev, struct dev_io *io)
{
    struct dev_uring *device = container_of(dev, struct dev_uring, dev);
    struct uring_io *mine = private_of(io);

    mine->op.complete = complete;
    mine->device = device;
    start(device, io);
}

static void close_device(struct dev *dev)
{
    struct dev_uring *device = container_of(dev, struct dev_uring, dev);

    close(device->fd); /* the lock goes with it */
    free(device);
}

static const struct dev_ops uring_ops = {.submit = submit, .close = close_device};

int dev_uring_open(struct reactor *reactor, const char *path, uint64_t size_bytes, bool read_only,
                   struct dev **out)
{
    struct dev_file file;

    CHECK_MSG(reactor_uring(reactor) != NULL, "%s has no io_uring", reactor_name(reactor));
    int error = dev_file_open(path, size_bytes, read_only, &file);
    if (error != 0)
        return error;
    struct dev_uring *device = calloc(1, sizeof(*device));
    if (device == NULL) {
        close(file.fd);
        return SHOAL_E_NO_MEMORY;
    }
    const char *slash = strrchr(path, '/');
    dev_init(&device->dev, &uring_ops, reactor, slash == NULL ? path : slash + 1, file.size_bytes);
    device->dev.volatile_cache = file.volatile_cache;
    device->dev.read_only = read_only;
    device->uring = reactor_uring(reactor);
    device->fd = file.fd;
    *out = &device->dev;
    return 0;
}
