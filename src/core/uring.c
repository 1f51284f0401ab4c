/* SPDX-License-Identifier: Apache-2.0 */
#include "core/uring_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "shoal/error.h"

/*
 * A non-roaming ring is enabled, and from then on used, by one thread: the kernel then takes no
 * lock on it and runs completion work only when that thread asks (DEFER_TASKRUN), instead of
 * interrupting it. Older kernels get the best set of flags they know.
 */
static const unsigned flag_sets[] = {
    IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_R_DISABLED,
};
/*
 * So many prepared operations are handed over without waiting for the end of the poll: a device that
 * finished a whole queue at once would stand idle while we work through what it brought.
 */
#define SUBMIT_BATCH 4u

/* A roaming thread may leave and never enter the kernel for us again: its work must not wait. */
static const unsigned roaming_flag_sets[] = {
    IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_R_DISABLED,
};

static void explain_refusal(const char *name, int system_errno)
{
    switch (system_errno) {
    case EPERM:
    case EACCES:
    case ENOSYS:
        LOG_ERROR("%s: io_uring is forbidden here (%s). In a container its seccomp profile must "
                  "allow io_uring_setup, io_uring_enter and io_uring_register; on the host, sysctl "
                  "kernel.io_uring_disabled must be 0; the kernel must be 5.15 or newer",
                  name, strerror(system_errno));
        break;
    case ENOMEM:
        LOG_ERROR("%s: no memory for an io_uring; on older kernels it counts against the limit of "
                  "locked memory (ulimit -l)",
                  name);
        break;
    default:
        LOG_ERROR("%s: io_uring cannot be set up: %s", name, strerror(system_errno));
        break;
    }
}

static int ring_init(struct uring *uring, unsigned entries, bool roaming)
{
    const unsigned *sets = roaming ? roaming_flag_sets : flag_sets;
    unsigned n_sets = roaming ? ARRAY_LEN(roaming_flag_sets) : ARRAY_LEN(flag_sets);
    int error = -EINVAL;

    for (unsigned i = 0; i < n_sets && error == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = sets[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = entries * 4,
        };
        error = io_uring_queue_init_params(entries, &uring->ring, &params);
        uring->setup_flags = params.flags;
        if (error == 0 && !(params.features & IORING_FEAT_EXT_ARG)) {
            io_uring_queue_exit(&uring->ring);
            error = -ENOSYS;
        }
    }
    return error;
}

static void wake_complete(struct uring_op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    (void)result; /* Even a cancelled one is a wake: the thread that armed it may have ended. */
    container_of(op, struct uring, wake_op)->wake_armed = false;
}

static void timeout_complete(struct uring_op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    (void)result;
    container_of(op, struct uring, timeout_op)->timeout_due_ns = UINT64_MAX;
}

/* ---- operations that outlive their thread ---- */

static int create_saved(struct uring *uring, unsigned count)
{
    uring->saved = calloc(count, sizeof(*uring->saved));
    if (uring->saved == NULL)
        return SHOAL_E_NO_MEMORY;
    for (unsigned i = 0; i < count; i++) {
        uring->saved[i].next_free = uring->saved_free;
        uring->saved_free = &uring->saved[i];
    }
    return 0;
}

static bool is_of_user(const struct uring *uring, const struct uring_op *op)
{
    return op != NULL && op != &uring->wake_op && op != &uring->timeout_op;
}

/* What was prepared since the last submission; its users have filled it in by now. */
static void save_prepared(struct uring *uring)
{
    if (uring->saved == NULL)
        return;
    const struct io_uring_sq *sq = &uring->ring.sq;
    for (unsigned i = sq->sqe_head; i != sq->sqe_tail; i++) {
        const struct io_uring_sqe *sqe = &sq->sqes[i & *sq->kring_mask];
        struct uring_op *op = (struct uring_op *)(uintptr_t)sqe->user_data;
        struct uring_saved *saved = uring->saved_free;
        /* Of a chain the kernel cancels the rest when a link fails: that is for its user. */
        if (!is_of_user(uring, op) || saved == NULL || op->saved != NULL ||
            (sqe->flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)) != 0)
            continue;
        uring->saved_free = saved->next_free;
        saved->sqe = *sqe;
        saved->cancelled = false;
        op->saved = saved;
    }
}

static void release_saved(struct uring *uring, struct uring_op *op)
{
    if (op->saved == NULL)
        return;
    op->saved->next_free = uring->saved_free;
    uring->saved_free = op->saved;
    op->saved = NULL;
}

int uring_create(const char *name, unsigned entries, bool roaming, int wake_fd,
                 struct uring **out)
{
    struct uring *uring = calloc(1, sizeof(*uring));
    if (uring == NULL)
        return SHOAL_E_NO_MEMORY;
    int error = ring_init(uring, entries, roaming);
    if (error != 0) {
        explain_refusal(name, -error);
        free(uring);
        return error == -ENOMEM ? SHOAL_E_NO_MEMORY : SHOAL_E_SYSTEM;
    }
    if (roaming && create_saved(uring, entries * 4) != 0) {
        io_uring_queue_exit(&uring->ring);
        free(uring);
        return SHOAL_E_NO_MEMORY;
    }
    io_uring_ring_dontfork(&uring->ring);
    uring->regions_supported =
        io_uring_register_buffers_sparse(&uring->ring, URING_REGIONS_MAX) == 0;
    uring->wake_fd = wake_fd;
    uring->wake_op.complete = wake_complete;
    uring->event_fd = -1;
    uring->timeout_op.complete = timeout_complete;
    uring->timeout_due_ns = UINT64_MAX;
    *out = uring;
    return 0;
}

void uring_destroy(struct uring *uring)
{
    if (uring == NULL)
        return;
    CHECK_MSG(uring->in_flight == 0, "%u io_uring operations are in flight", uring->in_flight);
    io_uring_queue_exit(&uring->ring);
    if (uring->event_fd >= 0)
        close(uring->event_fd);
    free(uring->saved);
    free(uring);
}

unsigned uring_in_flight(const struct uring *uring)
{
    return uring->in_flight;
}

/* ---- submission ---- */

static void enable(struct uring *uring)
{
    if (uring->enabled)
        return;
    /* By hand: Debian 12's liburing declares io_uring_enable_rings() but does not export it. */
    long error = syscall(__NR_io_uring_register, uring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
                         NULL, 0);
    CHECK_MSG(error == 0, "enabling an io_uring: %s", strerror(errno));
    uring->enabled = true;
}

static bool needs_kernel(struct uring *uring)
{
    unsigned flags = __atomic_load_n(uring->ring.sq.kflags, __ATOMIC_RELAXED);
    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

static void check_enter(int result)
{
    CHECK_MSG(result != -EEXIST, "a reactor is polled by two threads; it must be set to roam");
    CHECK_MSG(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY ||
                  result == -ETIME,
              "io_uring_enter: %s", strerror(-result));
}

void uring_submit(struct uring *uring)
{
    enable(uring);
    if (io_uring_sq_ready(&uring->ring) == 0)
        return;
    save_prepared(uring);
    check_enter(io_uring_submit_and_get_events(&uring->ring));
}

static struct io_uring_sqe *raw_sqe(struct uring *uring)
{
    struct io_uring_sqe *sqe;

    if (io_uring_sq_ready(&uring->ring) >= SUBMIT_BATCH)
        uring_submit(uring);
    /*
     * Full: the kernel takes all of it, but for moments in which it has no memory, or in which the
     * completion queue has overflown; neither lasts.
     */
    while ((sqe = io_uring_get_sqe(&uring->ring)) == NULL) {
        enable(uring);
        save_prepared(uring);
        check_enter(io_uring_submit_and_get_events(&uring->ring));
    }
    memset(sqe, 0, sizeof(*sqe));
    return sqe;
}

static struct io_uring_sqe *own_sqe(struct uring *uring, struct uring_op *op)
{
    struct io_uring_sqe *sqe = raw_sqe(uring);
    io_uring_sqe_set_data(sqe, op);
    return sqe;
}

struct io_uring_sqe *uring_get_sqe(struct uring *uring, struct uring_op *op)
{
    uring->in_flight++;
    op->saved = NULL;
    return own_sqe(uring, op);
}

void uring_cancel(struct uring *uring, struct uring_op *op)
{
    struct io_uring_sqe *sqe = raw_sqe(uring);
    save_prepared(uring); /* so that one cancelled before its submission is marked too */
    if (op->saved != NULL)
        op->saved->cancelled = true;
    io_uring_prep_cancel(sqe, op, 0);
    io_uring_sqe_set_data(sqe, NULL); /* nobody waits for the cancel itself */
}

/* ---- completion ---- */

bool uring_has_completions(struct uring *uring)
{
    return io_uring_cq_ready(&uring->ring) > 0 || needs_kernel(uring);
}

/* A copy out of the ring first: the callback may submit, and so let the kernel write more. */
static bool take_cqe(struct uring *uring, struct io_uring_cqe *out)
{
    unsigned head = *uring->ring.cq.khead;
    unsigned tail = __atomic_load_n(uring->ring.cq.ktail, __ATOMIC_ACQUIRE);

    if (head == tail)
        return false;
    *out = uring->ring.cq.cqes[head & *uring->ring.cq.kring_mask];
    io_uring_cq_advance(&uring->ring, 1);
    return true;
}

/* Return: whether it was a user's, and done. */
static bool complete_of_user(struct uring *uring, struct uring_op *op,
                             const struct io_uring_cqe *cqe)
{
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
        if (cqe->res == -ECANCELED && op->saved != NULL && !op->saved->cancelled) {
            *raw_sqe(uring) = op->saved->sqe;
            return false;
        }
        release_saved(uring, op);
        uring->in_flight--;
    }
    op->complete(op, cqe->res, cqe->flags);
    return true;
}

unsigned uring_poll(struct uring *uring)
{
    enable(uring);
    if (needs_kernel(uring))
        check_enter(io_uring_get_events(&uring->ring));

    unsigned done = 0;
    struct io_uring_cqe cqe;
    /* What callbacks bring about is the next poll's. */
    for (unsigned left = io_uring_cq_ready(&uring->ring); left > 0; left--) {
        CHECK(take_cqe(uring, &cqe));
        struct uring_op *op = io_uring_cqe_get_data(&cqe);
        if (is_of_user(uring, op))
            done += complete_of_user(uring, op, &cqe);
        else if (op != NULL)
            op->complete(op, cqe.res, cqe.flags);
    }
    return done;
}

static void arm_wake(struct uring *uring)
{
    if (uring->wake_armed)
        return;
    struct io_uring_sqe *sqe = own_sqe(uring, &uring->wake_op);
    io_uring_prep_read(sqe, uring->wake_fd, &uring->wake_value, sizeof(uring->wake_value), 0);
    uring->wake_armed = true;
}

void uring_sleep(struct uring *uring, uint64_t timeout_ns)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec timeout = {
        .tv_sec = (int64_t)(timeout_ns / 1000000000u),
        .tv_nsec = (long long)(timeout_ns % 1000000000u),
    };

    enable(uring);
    arm_wake(uring);
    save_prepared(uring);
    check_enter(io_uring_submit_and_wait_timeout(
        &uring->ring, &cqe, 1, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL));
}

/* ---- an outer event loop ---- */

int uring_event_fd(struct uring *uring)
{
    if (uring->event_fd >= 0)
        return uring->event_fd;

    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return SHOAL_E_SYSTEM;
    int error = io_uring_register_eventfd(&uring->ring, fd);
    if (error != 0) {
        LOG_ERROR("registering an eventfd with io_uring: %s", strerror(-error));
        close(fd);
        return SHOAL_E_SYSTEM;
    }
    uring->event_fd = fd;
    return fd;
}

void uring_arm_timeout(struct uring *uring, uint64_t due_ns)
{
    arm_wake(uring);
    /* One that is armed for earlier stays: waking once too often costs less than moving it. */
    if (due_ns == UINT64_MAX || uring->timeout_due_ns <= due_ns)
        return;
    uring->timeout.tv_sec = (int64_t)(due_ns / 1000000000u);
    uring->timeout.tv_nsec = (long long)(due_ns % 1000000000u);
    if (uring->timeout_due_ns == UINT64_MAX) {
        struct io_uring_sqe *sqe = own_sqe(uring, &uring->timeout_op);
        io_uring_prep_timeout(sqe, &uring->timeout, 0,
                              IORING_TIMEOUT_ABS | IORING_TIMEOUT_BOOTTIME);
    } else {
        /*
         * If it fires first, the update finds nothing, and its firing has made the fd readable. The clock
         * is that of the timeout; the kernel takes none here.
         */
        struct io_uring_sqe *sqe = own_sqe(uring, NULL);
        io_uring_prep_timeout_update(sqe, &uring->timeout, (uintptr_t)&uring->timeout_op,
                                     IORING_TIMEOUT_ABS);
    }
    uring->timeout_due_ns = due_ns;
}

/* ---- registered memory ---- */

int uring_register_region(struct uring *uring, void *at, size_t len)
{
    if (!uring->regions_supported)
        return -1;
    for (unsigned i = 0; i < URING_REGIONS_MAX; i++) {
        if (uring->regions[i].end != 0)
            continue;
        struct iovec iov = {.iov_base = at, .iov_len = len};
        if (io_uring_register_buffers_update_tag(&uring->ring, i, &iov, NULL, 1) != 1)
            return -1;
        uring->regions[i].start = (uintptr_t)at;
        uring->regions[i].end = (uintptr_t)at + len;
        uring->regions_end = MAX(uring->regions_end, i + 1);
        return (int)i;
    }
    return -1;
}

void uring_unregister_region(struct uring *uring, int index)
{
    struct iovec none = {0};

    CHECK(index >= 0 && (unsigned)index < uring->regions_end);
    /* Failing here leaves memory pinned until the ring goes, no more. */
    io_uring_register_buffers_update_tag(&uring->ring, (unsigned)index, &none, NULL, 1);
    uring->regions[index] = (struct uring_region){0};
}
