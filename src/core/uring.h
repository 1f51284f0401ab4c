/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reactor's io_uring instance, shared by the file device and the TCP network. Private to those
 * two: everything else asks them.
 *
 * A user embeds struct uring_op, fills an SQE, and is called back from the reactor's poll when the
 * completion arrives. SQEs are submitted a few at a time, and the last of them at the end of the
 * poll; so links between them (IOSQE_IO_LINK) cannot be relied on.
 */
#ifndef SHOAL_CORE_URING_H
#define SHOAL_CORE_URING_H

#include <stdbool.h>
#include <stdint.h>

struct io_uring_sqe;
struct reactor;
struct uring;

struct uring_op {
    /* @result: the CQE's res; @flags: the CQE's flags (IORING_CQE_F_MORE: more will follow). */
    void (*complete)(struct uring_op *op, int32_t result, uint32_t flags);
    struct uring_saved *saved; /* the ring's */
};

/*
 * uring_get_sqe() - A zeroed SQE whose completion calls @op. Flushes the queue when it is full, so
 * it never fails. @op, and all memory that the SQE points to, must live until the last completion.
 *
 * The kernel ends operations with -ECANCELED when the thread that submitted them ends; on a roaming
 * reactor such an operation is submitted again and nobody hears of it.
 */
struct io_uring_sqe *uring_get_sqe(struct uring *uring, struct uring_op *op);

/* Ask that @op ends early; its completion still comes (-ECANCELED or its result). */
void uring_cancel(struct uring *uring, struct uring_op *op);

/* Operations whose last completion has not come. */
unsigned uring_in_flight(const struct uring *uring);

#endif
