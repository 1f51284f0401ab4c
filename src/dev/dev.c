/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/dev.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/metrics.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "dev/backend.h"
#include "shoal/error.h"

struct dev_metrics {
    struct histogram *latency[3];
    struct counter *bytes[2];
    struct counter *errors;
    struct gauge *in_flight;
};

void dev_init(struct dev *dev, const struct dev_ops *ops, struct reactor *reactor, const char *name,
              uint64_t size_bytes)
{
    dev->ops = ops;
    dev->reactor = reactor;
    dev->size_bytes = size_bytes;
    list_init(&dev->finished);
    list_init(&dev->under_way);
    snprintf(dev->name, sizeof(dev->name), "%s", name);
}

/* ---- the life of an operation ---- */

uint64_t dev_io_bytes(const struct dev_io *io)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < io->iov_count; i++)
        bytes += io->iov[i].iov_len;
    return bytes;
}

static bool valid(const struct dev *dev, const struct dev_io *io)
{
    uint64_t bytes = 0;

    if (io->op == DEV_FLUSH)
        return io->iov_count == 0;
    if ((io->op == DEV_WRITE && dev->read_only) || io->iov_count == 0 ||
        io->iov_count > DEV_MAX_IOV || io->offset_bytes % DEV_BLOCK_BYTES != 0)
        return false;
    for (unsigned i = 0; i < io->iov_count; i++) {
        const struct iovec *iov = &io->iov[i];
        if (iov->iov_len == 0 || iov->iov_len % DEV_BLOCK_BYTES != 0 ||
            iov->iov_len > DEV_MAX_IO_BYTES || (uintptr_t)iov->iov_base % DEV_BLOCK_BYTES != 0)
            return false;
        bytes += iov->iov_len;
    }
    return bytes <= DEV_MAX_IO_BYTES && io->offset_bytes <= dev->size_bytes &&
           bytes <= dev->size_bytes - io->offset_bytes;
}

void dev_submit(struct dev *dev, struct dev_io *io)
{
    io->submitted_ns = reactor_now_ns(dev->reactor);
    dev->in_flight++;
    list_push_back(&dev->under_way, &io->order);
    if (dev->metrics != NULL)
        gauge_set(dev->metrics->in_flight, dev->in_flight);
    if (valid(dev, io))
        dev->ops->submit(dev, io);
    else
        dev_finish_later(dev, io, SHOAL_E_INVALID);
}

static void count(struct dev *dev, const struct dev_io *io, int result)
{
    struct dev_metrics *metrics = dev->metrics;

    if (metrics == NULL)
        return;
    gauge_set(metrics->in_flight, dev->in_flight);
    if (result != 0) {
        counter_add(metrics->errors, 1);
        return;
    }
    histogram_record(metrics->latency[io->op], reactor_now_ns(dev->reactor) - io->submitted_ns);
    if (io->op != DEV_FLUSH)
        counter_add(metrics->bytes[io->op], dev_io_bytes(io));
}

void dev_finish(struct dev *dev, struct dev_io *io, int result)
{
    CHECK(dev->in_flight > 0);
    dev->in_flight--;
    list_remove(&io->order);
    count(dev, io, result);
    io->done(io, result); /* @io, and @dev with it, may be gone after this */
}

static void finish_all(struct timer *timer)
{
    struct dev *dev = container_of(timer, struct dev, finish_timer);
    struct list now;
    struct list_node *node;

    /* Each in the list is in flight, so @dev cannot be closed before the last is told. */
    list_init(&now);
    list_splice_back(&now, &dev->finished);
    while ((node = list_pop_front(&now)) != NULL) {
        struct dev_io *io = list_entry(node, struct dev_io, node);
        dev_finish(dev, io, io->result);
    }
}

void dev_finish_later(struct dev *dev, struct dev_io *io, int result)
{
    io->result = result;
    if (list_empty(&dev->finished))
        timer_arm(dev->reactor, &dev->finish_timer, 0, finish_all);
    list_push_back(&dev->finished, &io->node);
}

uint64_t dev_waiting_since_ns(const struct dev *dev)
{
    struct list_node *oldest = list_first((struct list *)(uintptr_t)&dev->under_way);
    return oldest == NULL ? 0 : list_entry(oldest, struct dev_io, order)->submitted_ns;
}

void dev_close(struct dev *dev)
{
    if (dev == NULL)
        return;
    CHECK_MSG(dev->in_flight == 0, "%u operations are under way on %s", dev->in_flight, dev->name);
    timer_cancel(&dev->finish_timer);
    free(dev->metrics);
    dev->ops->close(dev);
}

/* ---- blocking forms ---- */

struct blocking_io {
    struct dev_io io;
    struct completion completion;
};

static void blocking_done(struct dev_io *io, int result)
{
    completion_signal(&container_of(io, struct blocking_io, io)->completion, result);
}

static int submit_blocking(struct dev *dev, struct blocking_io *blocking)
{
    blocking->io.done = blocking_done;
    dev_submit(dev, &blocking->io);
    return (int)completion_wait(&blocking->completion);
}

static int transfer(struct dev *dev, enum dev_op op, uint64_t offset_bytes,
                    const struct iovec *iov, unsigned count)
{
    struct blocking_io blocking = {
        .io = {.op = op, .offset_bytes = offset_bytes, .iov_count = count},
    };

    if (count > DEV_MAX_IOV)
        return SHOAL_E_INVALID;
    memcpy(blocking.io.iov, iov, count * sizeof(*iov));
    return submit_blocking(dev, &blocking);
}

int dev_read(struct dev *dev, uint64_t offset_bytes, void *buffer, size_t len)
{
    struct iovec iov = {.iov_base = buffer, .iov_len = len};
    return transfer(dev, DEV_READ, offset_bytes, &iov, 1);
}

int dev_write(struct dev *dev, uint64_t offset_bytes, const void *buffer, size_t len)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buffer, .iov_len = len};
    return transfer(dev, DEV_WRITE, offset_bytes, &iov, 1);
}

int dev_writev(struct dev *dev, uint64_t offset_bytes, const struct iovec *iov, unsigned count)
{
    return transfer(dev, DEV_WRITE, offset_bytes, iov, count);
}

int dev_flush(struct dev *dev)
{
    struct blocking_io blocking = {.io = {.op = DEV_FLUSH}};
    return submit_blocking(dev, &blocking);
}

/* ---- metrics ---- */

static void operation_labels(char *out, size_t size, const char *op, const char *labels)
{
    if (labels == NULL || labels[0] == '\0')
        snprintf(out, size, "op=\"%s\"", op);
    else
        snprintf(out, size, "op=\"%s\",%s", op, labels);
}

void dev_register_metrics(struct dev *dev, struct metrics *metrics, const char *labels)
{
    static const char *const names[] = {
        [DEV_READ] = "read", [DEV_WRITE] = "write", [DEV_FLUSH] = "flush"};
    struct dev_metrics *mine = calloc(1, sizeof(*mine));
    char with_op[256];

    if (mine == NULL) {
        LOG_WARN("%s: no memory for its metrics", dev->name);
        return;
    }
    for (unsigned op = 0; op < ARRAY_LEN(names); op++) {
        operation_labels(with_op, sizeof(with_op), names[op], labels);
        mine->latency[op] =
            metric_histogram(metrics, "shoal_dev_operation_seconds",
                             "Time from submission to completion on a device.", with_op);
        if (op != DEV_FLUSH)
            mine->bytes[op] = metric_counter(metrics, "shoal_dev_transferred_bytes_total",
                                             "Bytes read from and written to a device.", with_op);
    }
    mine->errors = metric_counter(metrics, "shoal_dev_errors_total",
                                  "Operations that failed on a device.", labels);
    mine->in_flight =
        metric_gauge(metrics, "shoal_dev_queue_depth", "Operations under way on a device.", labels);
    free(dev->metrics);
    dev->metrics = mine;
}
