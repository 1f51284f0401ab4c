/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the reactor, and the DMA arena, know of the ring.
 */
#ifndef SHOAL_CORE_URING_PRIVATE_H
#define SHOAL_CORE_URING_PRIVATE_H

#include <liburing.h>

#include "base/list.h"
#include "core/uring.h"

/* Regions that can be registered with one ring; each is at most 1 GiB. */
#define URING_REGIONS_MAX 64u
#define URING_REGION_BYTES_MAX (UINT64_C(1) << 30)

struct uring_region {
    uintptr_t start;
    uintptr_t end; /* 0: a free slot */
};

/* A copy of what was submitted, so that it can be again: see uring_get_sqe(). */
struct uring_saved {
    struct io_uring_sqe sqe;
    struct uring_saved *next_free;
    bool cancelled; /* by us: then -ECANCELED is the answer */
};

struct uring {
    struct io_uring ring;
    unsigned in_flight; /* of users; not the ring's own */
    unsigned setup_flags;
    bool enabled; /* by the first thread that polls: it becomes the single issuer */
    bool regions_supported;
    unsigned regions_end; /* slots at and above it are free */
    struct uring_region regions[URING_REGIONS_MAX];

    int wake_fd;
    uint64_t wake_value; /* read into by wake_op */
    struct uring_op wake_op;
    bool wake_armed;

    struct uring_saved *saved; /* of a roaming ring, else NULL */
    struct uring_saved *saved_free;

    /* For an outer event loop, see reactor_event_fd(). */
    int event_fd;
    struct uring_op timeout_op;
    struct __kernel_timespec timeout;
    uint64_t timeout_due_ns; /* UINT64_MAX: none is armed */
};

/*
 * @wake_fd: an eventfd, not the ring's, whose readability ends a sleep
 * Return: 0, SHOAL_E_NO_MEMORY or SHOAL_E_SYSTEM, logged
 */
int uring_create(const char *name, unsigned entries, bool roaming, int wake_fd,
                 struct uring **out);
void uring_destroy(struct uring *uring);

/* Run the completions that have arrived. Return: how many of users'. */
unsigned uring_poll(struct uring *uring);

/* Hand what was prepared to the kernel. */
void uring_submit(struct uring *uring);

/* Submit, then sleep until a completion, a wake, or for @timeout_ns (UINT64_MAX: for ever). */
void uring_sleep(struct uring *uring, uint64_t timeout_ns);

bool uring_has_completions(struct uring *uring);

/* The fd that each completion makes readable; a negative SHOAL_E_* when it cannot be had. */
int uring_event_fd(struct uring *uring);

/* Make the event fd readable at @due_ns of CLOCK_BOOTTIME at the latest. */
void uring_arm_timeout(struct uring *uring, uint64_t due_ns);

/* Return: index of the registration, or -1 where the kernel or a limit does not allow it. */
int uring_register_region(struct uring *uring, void *at, size_t len);
void uring_unregister_region(struct uring *uring, int index);

#endif
