/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reactor: one event loop a core, and the only thing in Shoal that runs.
 *
 * A reactor owns everything that happens on its thread: fibers (core/fiber.h), timers, a mailbox
 * (core/mailbox.h), and sources of events such as the io_uring instance (core/uring.h) or a
 * simulated network. Nothing it owns is locked, because nothing else touches it; other threads
 * speak to it through its mailbox only.
 *
 * reactor_poll_once() is one explicit step, so a test or the simulator can step many reactors in
 * one thread, on virtual time. reactor_run() calls it until reactor_stop(), spinning while there is
 * work and for `spin_ns` after, then sleeping in the kernel.
 */
#ifndef SHOAL_CORE_REACTOR_H
#define SHOAL_CORE_REACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/random.h"

struct reactor;
struct fiber_pool;
struct uring;

/*
 * struct reactor_clock - The door through which time enters.
 * @now_ns: monotonic nanoseconds; never goes back
 * @wall_s: seconds since 1970, for what people read and for TTLs
 *
 * The default reads the kernel's clocks once per poll. The simulator supplies virtual time.
 */
struct reactor_clock {
    uint64_t (*now_ns)(void *ctx);
    uint64_t (*wall_s)(void *ctx);
    void *ctx;
};

struct reactor_config {
    const char *name;                  /* shown in logs, at most 31 characters are kept */
    const struct reactor_clock *clock; /* NULL: the kernel's; else must outlive the reactor */
    uint64_t seed;                     /* of the reactor's random numbers; 0: from the OS */
    uint64_t spin_ns;                  /* keep polling this long after the last work */
    int cpu;                           /* pin the running thread to this CPU, -1: do not */
    unsigned uring_entries;            /* 0: no io_uring (simulated and pure tests) */
    bool roaming;                      /* threads may take turns in polling it: see below */
};

/*
 * reactor_create() - A reactor, not running yet. Any thread; it then belongs to the first thread
 * that polls it. A roaming one may be polled by several, one at a time under a lock of the
 * caller's: a library driven by its callers. It gives up the io_uring modes for a single thread.
 * Return: 0, SHOAL_E_NO_MEMORY, or SHOAL_E_SYSTEM when io_uring is refused (logged with its cause
 * and what to do about it).
 */
int reactor_create(const struct reactor_config *config, struct reactor **out);

/* No fiber, fiber pool, source or undelivered mail may be left (CHECKed). */
void reactor_destroy(struct reactor *reactor);

/*
 * reactor_poll_once() - Completions, mail, due timers, then every fiber that became ready.
 * Return: how much was done; 0 means that nothing will happen before the next event.
 */
unsigned reactor_poll_once(struct reactor *reactor);

/*
 * reactor_poll_before_wait() - The same for a caller whose next call is reactor_wait(): what was
 * prepared for io_uring rides on its system call. If he stops instead, it waits for his next one.
 */
unsigned reactor_poll_before_wait(struct reactor *reactor);

/*
 * reactor_next_timer_ns() - When the earliest timer is due, UINT64_MAX when there is none. The
 * simulator moves its clock there when every reactor polled 0.
 */
uint64_t reactor_next_timer_ns(const struct reactor *reactor);

/*
 * reactor_wait() - Sleep in the kernel until an event, the next timer, or @limit_ns (absolute).
 */
void reactor_wait(struct reactor *reactor, uint64_t limit_ns);

/*
 * reactor_run() - Poll until reactor_stop(), spin while events come in quick succession and for
 * `spin_ns` after, sleep otherwise. A spin starts only when dozens of events have each come
 * within `spin_ns` of the one before, and a timer is not an event: heartbeats never start it.
 */
void reactor_run(struct reactor *reactor);
void reactor_stop(struct reactor *reactor); /* any thread; also wakes it */
void reactor_wake(struct reactor *reactor); /* any thread */

/*
 * reactor_event_fd() - For an outer event loop: a file descriptor to poll for POLLIN, the
 * reactor's, the same at each call. Only with io_uring and the kernel's clock.
 * Return: the fd, or SHOAL_E_UNSUPPORTED or SHOAL_E_SYSTEM.
 *
 * reactor_event_arm() - Call it after the last reactor_poll_once() and before going to sleep:
 * from here on the fd becomes readable when there is something to do, a due timer included. It is
 * readable at once when there is something now. Nobody needs to read from the fd.
 */
int reactor_event_fd(struct reactor *reactor);
void reactor_event_arm(struct reactor *reactor);

/* What it was called at creation, for messages. */
const char *reactor_name(const struct reactor *reactor);

/* The reactor being polled on this thread; NULL outside reactor_poll_once(). */
struct reactor *reactor_self(void);

/* The time now, read anew. */
uint64_t reactor_clock_ns(const struct reactor *reactor);

/* Time of the current poll; between polls, the time now. @reactor must be one of this thread's. */
uint64_t reactor_now_ns(const struct reactor *reactor);
uint64_t reactor_wall_s(const struct reactor *reactor);

/* The reactor's random numbers, the only source of them above core/. */
struct prng *reactor_prng(struct reactor *reactor);

/* The reactor's io_uring instance; NULL when it was created without. */
struct uring *reactor_uring(struct reactor *reactor);

/*
 * struct reactor_source - Something polled for events on each turn.
 * @poll: take what completed; returns how much. Runs on the reactor's stack: must not block, may
 *        wake and spawn fibers.
 */
struct reactor_source {
    unsigned (*poll)(struct reactor_source *source);
    struct list_node node;
};

void reactor_add_source(struct reactor *reactor, struct reactor_source *source);
void reactor_remove_source(struct reactor *reactor, struct reactor_source *source);

#endif
