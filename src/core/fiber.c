/* SPDX-License-Identifier: Apache-2.0 */
#include "core/fiber.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/pool.h"
#include "core/reactor_private.h"
#include "shoal/error.h"

/* Sanitizers' frames are several times larger than ours. */
#define STACK_SCALE (SHOAL_ASAN || SHOAL_TSAN ? 4u : 1u)
#define STACK_DEFAULT_BYTES (64u << 10)
#define STACK_COLOURS 16u
#define STACK_COLOUR_BYTES 256u

/*
 * A fiber's life: free, ready, running, then waiting and ready in turn, finished, free. Its stack
 * is set up when it first runs; afterwards it stays in fiber_main()'s loop between two lives, so that
 * starting one costs what a switch costs.
 */
struct fiber {
    struct list_node node; /* in pool->free, reactor->ready or a queue's waiters */
    struct fiber_pool *pool;
    struct fiber_context context;
    void (*run)(void *arg); /* NULL: finished */
    void *arg;
    struct log_context log;
    struct timer timer;
    struct completion *awaited; /* by completion_wait_until() */
    bool woken;                 /* by a queue, rather than by its timer */
    bool started;               /* its stack has been set up */
    void *stack;
};

struct fiber_pool {
    struct reactor *reactor;
    char name[24];
    unsigned count;
    unsigned in_use;
    size_t stack_bytes;
    size_t slot_bytes; /* the stack and the guard below it */
    char *stacks;
    struct list free;
    struct fiber fibers[];
};

/* ---- pools ---- */

static int map_stacks(struct fiber_pool *pool)
{
    size_t guard_bytes = (size_t)sysconf(_SC_PAGESIZE);

    pool->slot_bytes = pool->stack_bytes + guard_bytes;
    char *at = mmap(NULL, pool->count * pool->slot_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (at == MAP_FAILED)
        return SHOAL_E_NO_MEMORY;
    for (unsigned i = 0; i < pool->count; i++) {
        char *slot = at + i * pool->slot_bytes;
        if (mprotect(slot, guard_bytes, PROT_NONE) != 0) {
            LOG_ERROR("cannot guard the stack of fiber %u of %u of '%s': %s; two mappings a fiber "
                      "are needed, see sysctl vm.max_map_count",
                      i, pool->count, pool->name, strerror(errno));
            munmap(at, pool->count * pool->slot_bytes);
            return SHOAL_E_NO_MEMORY;
        }
        pool->fibers[i].stack = slot + guard_bytes;
    }
    pool->stacks = at;
    return 0;
}

int fiber_pool_create(struct reactor *reactor, const char *name, unsigned count,
                      size_t stack_bytes, struct fiber_pool **out)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);

    CHECK(count > 0);
    struct fiber_pool *pool = calloc(1, sizeof(*pool) + count * sizeof(pool->fibers[0]));
    if (pool == NULL)
        return SHOAL_E_NO_MEMORY;
    pool->reactor = reactor;
    snprintf(pool->name, sizeof(pool->name), "%s", name);
    pool->count = count;
    pool->stack_bytes = round_up_u64(stack_bytes == 0 ? STACK_DEFAULT_BYTES : stack_bytes,
                                     page_bytes) * STACK_SCALE;
    list_init(&pool->free);
    int error = map_stacks(pool);
    if (error != 0) {
        free(pool);
        return error;
    }
    for (unsigned i = 0; i < count; i++) {
        pool->fibers[i].pool = pool;
        list_push_back(&pool->free, &pool->fibers[i].node);
    }
    reactor->pools++;
    *out = pool;
    return 0;
}

static void switch_to(struct reactor *reactor, struct fiber *fiber)
{
    fiber_context_switch(&reactor->context, &fiber->context, false);
}

static void pool_free(struct fiber_pool *pool)
{
    struct reactor *reactor = pool->reactor;
    for (unsigned i = 0; i < pool->count; i++) {
        struct fiber *fiber = &pool->fibers[i];
        if (!fiber->started)
            continue;
        /* Woken with nothing to run, it leaves its stack for good: sanitizers need to see that. */
        switch_to(reactor, fiber);
        fiber_context_fini(&fiber->context);
    }
    munmap(pool->stacks, pool->count * pool->slot_bytes);
    reactor->pools--;
    free(pool);
}

/* Stacks are left from the reactor's own stack only; a fiber asks for it and waits. */
struct pool_end {
    struct timer timer;
    struct fiber_pool *pool;
    struct completion done;
};

static void pool_end(struct timer *timer)
{
    struct pool_end *end = container_of(timer, struct pool_end, timer);

    pool_free(end->pool);
    completion_signal(&end->done, 0);
}

void fiber_pool_destroy(struct fiber_pool *pool)
{
    if (pool == NULL)
        return;
    CHECK_MSG(pool->in_use == 0, "%u fibers of '%s' are left", pool->in_use, pool->name);
    if (pool->reactor->running == NULL) {
        pool_free(pool);
        return;
    }
    struct pool_end end = {.pool = pool};
    timer_arm(pool->reactor, &end.timer, pool->reactor->now_ns, pool_end);
    (void)completion_wait(&end.done);
}

unsigned fiber_pool_in_use(const struct fiber_pool *pool)
{
    return pool->in_use;
}

/* ---- running ---- */

static void fiber_main(void *arg)
{
    struct fiber *fiber = arg;
    struct reactor *reactor = fiber->pool->reactor;

    fiber_context_entered(&reactor->context);
    while (fiber->run != NULL) {
        fiber->run(fiber->arg);
        fiber->run = NULL;
        fiber_context_switch(&fiber->context, &reactor->context, false);
    }
    fiber_context_switch(&fiber->context, &reactor->context, true);
    CHECK_MSG(false, "a fiber ran after its end");
}

int fiber_spawn(struct fiber_pool *pool, void (*run)(void *arg), void *arg)
{
    if (UNLIKELY(pool_fails_now()) || list_empty(&pool->free))
        return SHOAL_E_BUSY;
    struct list_node *node = list_pop_front(&pool->free);
    struct fiber *fiber = list_entry(node, struct fiber, node);
    if (!fiber->started) {
        /*
         * Stacks lie whole pages apart, so their tops would all compete for the same few lines of
         * the cache; each starts a little lower than its neighbour.
         */
        size_t colour = (size_t)(fiber - pool->fibers) % STACK_COLOURS * STACK_COLOUR_BYTES;
        fiber_context_init(&fiber->context, fiber->stack, pool->stack_bytes - colour, fiber_main,
                           fiber);
        fiber->started = true;
    }
    fiber->run = run;
    fiber->arg = arg;
    fiber->log = log_context_get();
    pool->in_use++;
    pool->reactor->fibers++;
    list_push_back(&pool->reactor->ready, &fiber->node);
    return 0;
}

/* The last to finish is the next to start: its stack is still in the cache. */
static void fiber_finished(struct fiber *fiber)
{
    struct fiber_pool *pool = fiber->pool;

    CHECK(!timer_armed(&fiber->timer));
    pool->in_use--;
    pool->reactor->fibers--;
    list_push_front(&pool->free, &fiber->node);
}

unsigned fiber_run_ready(struct reactor *reactor)
{
    if (list_empty(&reactor->ready))
        return 0;

    unsigned ran = 0;
    struct log_context log = log_context_get();
    struct list now;
    list_init(&now);
    list_splice_back(&now, &reactor->ready);

    struct list_node *node;
    while ((node = list_pop_front(&now)) != NULL) {
        struct fiber *fiber = list_entry(node, struct fiber, node);
        log_context_set(fiber->log);
        reactor->running = fiber;
        switch_to(reactor, fiber);
        reactor->running = NULL;
        fiber->log = log_context_get();
        if (fiber->run == NULL)
            fiber_finished(fiber);
        ran++;
    }
    log_context_set(log);
    return ran;
}

struct fiber *fiber_self(void)
{
    struct reactor *reactor = reactor_self();
    return reactor == NULL ? NULL : reactor->running;
}

static struct fiber *blocking_self(void)
{
    struct fiber *fiber = fiber_self();
    CHECK_MSG(fiber != NULL, "a blocking call outside a fiber");
    return fiber;
}

static void fiber_ready(struct fiber *fiber)
{
    list_push_back(&fiber->pool->reactor->ready, &fiber->node);
}

/* Whoever is to wake the fiber must have been told of it before. */
static void fiber_suspend(struct fiber *fiber)
{
    fiber_context_switch(&fiber->context, &fiber->pool->reactor->context, false);
}

void fiber_yield(void)
{
    struct fiber *fiber = blocking_self();

    fiber_ready(fiber);
    fiber_suspend(fiber);
}

static void sleep_over(struct timer *timer)
{
    fiber_ready(container_of(timer, struct fiber, timer));
}

void fiber_sleep_until(uint64_t due_ns)
{
    struct fiber *fiber = blocking_self();

    timer_arm(fiber->pool->reactor, &fiber->timer, due_ns, sleep_over);
    fiber_suspend(fiber);
}

void fiber_sleep(uint64_t duration_ns)
{
    fiber_sleep_until(reactor_now_ns(blocking_self()->pool->reactor) + duration_ns);
}

/* ---- completions ---- */

void completion_signal(struct completion *completion, int64_t result)
{
    CHECK(!completion->done);
    completion->done = true;
    completion->result = result;
    if (completion->waiter != NULL) {
        timer_cancel(&completion->waiter->timer);
        fiber_ready(completion->waiter);
        completion->waiter = NULL;
    }
}

int64_t completion_wait(struct completion *completion)
{
    if (!completion->done) {
        struct fiber *fiber = blocking_self();
        CHECK(completion->waiter == NULL);
        completion->waiter = fiber;
        fiber_suspend(fiber);
        CHECK(completion->done);
    }
    return completion->result;
}

static void completion_timed_out(struct timer *timer)
{
    struct fiber *fiber = container_of(timer, struct fiber, timer);

    CHECK(fiber->awaited->waiter == fiber);
    fiber->awaited->waiter = NULL;
    fiber_ready(fiber);
}

bool completion_wait_until(struct completion *completion, uint64_t deadline_ns, int64_t *result)
{
    if (!completion->done) {
        struct fiber *fiber = blocking_self();
        CHECK(completion->waiter == NULL);
        completion->waiter = fiber;
        fiber->awaited = completion;
        if (deadline_ns != UINT64_MAX)
            timer_arm(fiber->pool->reactor, &fiber->timer, deadline_ns, completion_timed_out);
        fiber_suspend(fiber);
        fiber->awaited = NULL;
        if (!completion->done)
            return false;
    }
    *result = completion->result;
    return true;
}

/* ---- queues ---- */

void fiber_queue_init(struct fiber_queue *queue)
{
    list_init(&queue->waiters);
}

void fiber_queue_wait(struct fiber_queue *queue)
{
    struct fiber *fiber = blocking_self();

    list_push_back(&queue->waiters, &fiber->node);
    fiber_suspend(fiber);
}

static void queue_timed_out(struct timer *timer)
{
    struct fiber *fiber = container_of(timer, struct fiber, timer);

    list_remove(&fiber->node);
    fiber_ready(fiber);
}

bool fiber_queue_wait_until(struct fiber_queue *queue, uint64_t deadline_ns)
{
    struct fiber *fiber = blocking_self();

    fiber->woken = false;
    list_push_back(&queue->waiters, &fiber->node);
    if (deadline_ns != UINT64_MAX)
        timer_arm(fiber->pool->reactor, &fiber->timer, deadline_ns, queue_timed_out);
    fiber_suspend(fiber);
    return fiber->woken;
}

bool fiber_queue_wake_one(struct fiber_queue *queue)
{
    struct list_node *node = list_pop_front(&queue->waiters);

    if (node == NULL)
        return false;
    struct fiber *fiber = list_entry(node, struct fiber, node);
    timer_cancel(&fiber->timer);
    fiber->woken = true;
    fiber_ready(fiber);
    return true;
}

void fiber_queue_wake_all(struct fiber_queue *queue)
{
    while (fiber_queue_wake_one(queue))
        ;
}

bool fiber_queue_empty(const struct fiber_queue *queue)
{
    return list_empty(&queue->waiters);
}

/* ---- groups and mutexes ---- */

void fiber_group_init(struct fiber_group *group)
{
    group->pending = 0;
    fiber_queue_init(&group->joined);
}

void fiber_group_add(struct fiber_group *group)
{
    group->pending++;
}

void fiber_group_done(struct fiber_group *group)
{
    CHECK(group->pending > 0);
    if (--group->pending == 0)
        fiber_queue_wake_all(&group->joined);
}

void fiber_group_wait(struct fiber_group *group)
{
    while (group->pending > 0)
        fiber_queue_wait(&group->joined);
}

void fiber_mutex_init(struct fiber_mutex *mutex)
{
    mutex->held = false;
    fiber_queue_init(&mutex->waiters);
}

void fiber_mutex_lock(struct fiber_mutex *mutex)
{
    CHECK(fiber_self() != NULL);
    if (mutex->held)
        fiber_queue_wait(&mutex->waiters); /* woken as its holder: see unlock */
    else
        mutex->held = true;
}

void fiber_mutex_unlock(struct fiber_mutex *mutex)
{
    CHECK(mutex->held);
    if (!fiber_queue_wake_one(&mutex->waiters))
        mutex->held = false;
}
