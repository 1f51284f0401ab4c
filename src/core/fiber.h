/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fibers: a request is one function that reads top to bottom and blocks as if it were a thread.
 *
 * A fiber runs on one reactor from start to end, on a stack from a bounded pool with guard pages. A
 * switch is no system call. Only blocking calls switch: between two of them a fiber is alone on its
 * reactor and needs no lock. Everything here is called on the reactor's thread.
 */
#ifndef SHOAL_CORE_FIBER_H
#define SHOAL_CORE_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct reactor;
struct fiber;
struct fiber_pool;

/*
 * fiber_pool_create() - @count fibers of one class (client requests, member requests, control), all
 * memory taken now. One class cannot starve another.
 * @stack_bytes: 0 for the default (64 KiB; more under sanitizers)
 */
int fiber_pool_create(struct reactor *reactor, const char *name, unsigned count,
                      size_t stack_bytes, struct fiber_pool **out);

/* No fiber of it may be left (CHECKed). Called by a fiber of another pool, it blocks that one. */
void fiber_pool_destroy(struct fiber_pool *pool);

unsigned fiber_pool_in_use(const struct fiber_pool *pool);

/*
 * fiber_spawn() - Run @run(@arg) as a fiber; it is ready now and runs in this or the next poll.
 * Return: 0, or SHOAL_E_BUSY when the pool has no free fiber.
 */
int fiber_spawn(struct fiber_pool *pool, void (*run)(void *arg), void *arg);

/* The running fiber; NULL on the reactor's own stack. Blocking calls CHECK that it is not NULL. */
struct fiber *fiber_self(void);

void fiber_yield(void); /* let everything else that is ready run first */
void fiber_sleep_until(uint64_t due_ns);
void fiber_sleep(uint64_t duration_ns);

/*
 * struct completion - A one-shot event with a result, waited for by at most one fiber.
 *
 * The way out of every asynchronous operation: the issuer puts one on its stack, starts the
 * operation, and waits. Zero-initialised is valid and pending.
 */
struct completion {
    struct fiber *waiter;
    int64_t result;
    bool done;
};

void completion_signal(struct completion *completion, int64_t result);
int64_t completion_wait(struct completion *completion);

/*
 * completion_wait_until() - As completion_wait(), but give up at @deadline_ns.
 * Return: true and *@result, or false. After false the operation is still under way: its owner must
 * cancel it and wait again before the completion's memory goes.
 */
bool completion_wait_until(struct completion *completion, uint64_t deadline_ns, int64_t *result);

/*
 * struct fiber_queue - Fibers that wait for a condition, first come first served.
 */
struct fiber_queue {
    struct list waiters;
};

void fiber_queue_init(struct fiber_queue *queue);
void fiber_queue_wait(struct fiber_queue *queue);
bool fiber_queue_wait_until(struct fiber_queue *queue, uint64_t deadline_ns); /* false: timed out */
bool fiber_queue_wake_one(struct fiber_queue *queue);  /* false: nobody waited */
void fiber_queue_wake_all(struct fiber_queue *queue);
bool fiber_queue_empty(const struct fiber_queue *queue);

/*
 * struct fiber_group - Fan out, then join: each started piece is added, each end is done, the
 * parent waits for all.
 */
struct fiber_group {
    unsigned pending;
    struct fiber_queue joined;
};

void fiber_group_init(struct fiber_group *group);
void fiber_group_add(struct fiber_group *group);
void fiber_group_done(struct fiber_group *group);
void fiber_group_wait(struct fiber_group *group);

/* struct fiber_mutex - Held across blocking calls; waiters are served in order. */
struct fiber_mutex {
    bool held;
    struct fiber_queue waiters;
};

void fiber_mutex_init(struct fiber_mutex *mutex);
void fiber_mutex_lock(struct fiber_mutex *mutex);
void fiber_mutex_unlock(struct fiber_mutex *mutex);

#endif
