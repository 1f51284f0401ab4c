/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of core know of a reactor, and nobody else.
 */
#ifndef SHOAL_CORE_REACTOR_PRIVATE_H
#define SHOAL_CORE_REACTOR_PRIVATE_H

#include <stdatomic.h>

#include "base/log.h"
#include "core/fiber_context.h"
#include "core/mailbox.h"
#include "core/reactor.h"
#include "core/timer_heap.h"

struct reactor {
    char name[32];
    struct reactor_clock clock;
    uint64_t now_ns;
    struct prng prng;
    int cpu;
    bool roaming;
    bool polling; /* a thread is in reactor_poll_once() */
    bool submission_waits; /* since the last reactor_wait(), which did not sleep */

    struct list ready; /* fibers to run, in order */
    struct fiber *running;
    struct fiber_context context; /* of the polling thread's own stack */
    unsigned fibers;              /* taken from all pools */
    unsigned pools;

    struct timer_heap timers;
    struct list sources;
    struct list_node *next_source; /* where a poll under way goes on */
    struct uring *uring;

    /* Adaptive spinning: see reactor_run(). */
    uint64_t spin_ns;
    uint64_t last_event_ns;
    unsigned spin_score;

    /* What other threads touch, on cache lines of its own. */
    _Alignas(64) _Atomic(struct mail *) mailbox;
    atomic_bool sleeping;
    atomic_bool wake_pending;
    atomic_bool stopping;
    int wake_fd; /* an eventfd; -1 for a reactor on virtual time, which never sleeps */
};

/* Any thread: end the reactor's sleep if it is in one or about to begin one. */
void reactor_wake_sleeper(struct reactor *reactor);

/* Deliver what was posted before the call. Return: how much. */
unsigned mailbox_deliver(struct reactor *reactor);

/* Run each fiber that is ready now, once. Return: how many. */
unsigned fiber_run_ready(struct reactor *reactor);

#endif
