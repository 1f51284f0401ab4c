/* SPDX-License-Identifier: Apache-2.0 */
#include "core/reactor.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "core/reactor_private.h"
#include "core/uring_private.h"
#include "shoal/error.h"

#define NS_PER_S UINT64_C(1000000000)

/*
 * A spin needs this score. Each poll with events that comes within `spin_ns` of the last such poll
 * adds one, each that comes later halves it. A heartbeat with its answer makes three or four close
 * polls after a far one, so heartbeats stay far below: it takes real traffic to get there, and an
 * outlier in real traffic does not end it.
 */
#define SPIN_SCORE 32u

static _Thread_local struct reactor *current;

/* Not inlined: a fiber of a roaming reactor may have changed threads since the last call. */
__attribute__((noinline)) struct reactor *reactor_self(void)
{
    return current;
}

/* ---- time ---- */

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t kernel_now_ns(void *ctx)
{
    (void)ctx;
    return read_clock(CLOCK_BOOTTIME); /* it goes on while the host sleeps, as leases do */
}

static uint64_t kernel_wall_s(void *ctx)
{
    (void)ctx;
    return read_clock(CLOCK_REALTIME_COARSE) / NS_PER_S;
}

static const struct reactor_clock kernel_clock = {kernel_now_ns, kernel_wall_s, NULL};

static uint64_t refresh_now(struct reactor *reactor)
{
    uint64_t now_ns = reactor->clock.now_ns(reactor->clock.ctx);
    reactor->now_ns = MAX(now_ns, reactor->now_ns);
    return reactor->now_ns;
}

uint64_t reactor_clock_ns(const struct reactor *reactor)
{
    return reactor->clock.now_ns(reactor->clock.ctx);
}

uint64_t reactor_now_ns(const struct reactor *reactor)
{
    if (!reactor->polling)
        return MAX(reactor->clock.now_ns(reactor->clock.ctx), reactor->now_ns);
    return reactor->now_ns;
}

uint64_t reactor_wall_s(const struct reactor *reactor)
{
    return reactor->clock.wall_s(reactor->clock.ctx);
}

uint64_t reactor_next_timer_ns(const struct reactor *reactor)
{
    return timer_heap_next_ns(&reactor->timers);
}

/* ---- life ---- */

static int open_events(struct reactor *reactor, const struct reactor_config *config)
{
    /* On virtual time it is stepped by hand and never sleeps. */
    reactor->wake_fd = -1;
    if (config->clock != NULL && config->uring_entries == 0)
        return 0;
    reactor->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (reactor->wake_fd < 0) {
        LOG_ERROR("%s: eventfd: %s", reactor->name, strerror(errno));
        return SHOAL_E_SYSTEM;
    }
    if (config->uring_entries == 0)
        return 0;
    return uring_create(reactor->name, config->uring_entries, config->roaming, reactor->wake_fd,
                        &reactor->uring);
}

static void free_reactor(struct reactor *reactor)
{
    uring_destroy(reactor->uring);
    if (reactor->wake_fd >= 0)
        close(reactor->wake_fd);
    if (reactor->timers.entries != NULL)
        timer_heap_destroy(&reactor->timers);
    free(reactor);
}

int reactor_create(const struct reactor_config *config, struct reactor **out)
{
    struct reactor *reactor = aligned_alloc(64, round_up_u64(sizeof(*reactor), 64));
    if (reactor == NULL)
        return SHOAL_E_NO_MEMORY;
    memset(reactor, 0, sizeof(*reactor));
    snprintf(reactor->name, sizeof(reactor->name), "%s",
             config->name == NULL ? "reactor" : config->name);
    reactor->clock = config->clock == NULL ? kernel_clock : *config->clock;
    reactor->cpu = config->cpu;
    reactor->roaming = config->roaming;
    reactor->spin_ns = config->spin_ns;
    list_init(&reactor->ready);
    list_init(&reactor->sources);
    prng_seed(&reactor->prng, config->seed == 0 ? random_os_u64() : config->seed);
    refresh_now(reactor);

    int error = open_events(reactor, config);
    if (error == 0)
        error = timer_heap_create(&reactor->timers);
    if (error != 0) {
        free_reactor(reactor);
        return error;
    }
    *out = reactor;
    return 0;
}

void reactor_destroy(struct reactor *reactor)
{
    if (reactor == NULL)
        return;
    CHECK(!reactor->polling);
    CHECK_MSG(reactor->fibers == 0, "%u fibers are left on %s", reactor->fibers, reactor->name);
    CHECK_MSG(reactor->pools == 0, "%u fiber pools are left on %s", reactor->pools, reactor->name);
    CHECK(list_empty(&reactor->sources));
    CHECK(atomic_load(&reactor->mailbox) == NULL);
    free_reactor(reactor);
}

const char *reactor_name(const struct reactor *reactor)
{
    return reactor->name;
}

struct prng *reactor_prng(struct reactor *reactor)
{
    return &reactor->prng;
}

struct uring *reactor_uring(struct reactor *reactor)
{
    return reactor->uring;
}

/* ---- sources ---- */

void reactor_add_source(struct reactor *reactor, struct reactor_source *source)
{
    list_push_back(&reactor->sources, &source->node);
}

void reactor_remove_source(struct reactor *reactor, struct reactor_source *source)
{
    if (reactor->next_source == &source->node)
        reactor->next_source = source->node.next;
    list_remove(&source->node);
}

static unsigned poll_sources(struct reactor *reactor)
{
    unsigned done = 0;

    for (struct list_node *node = reactor->sources.head.next; node != &reactor->sources.head;
         node = reactor->next_source) {
        /* A source may remove itself, or the next one. */
        reactor->next_source = node->next;
        struct reactor_source *source = list_entry(node, struct reactor_source, node);
        done += source->poll(source);
    }
    reactor->next_source = NULL;
    return done;
}

/* ---- polling ---- */

/* @events: out: what came from outside, that is, neither from timers nor from fibers. */
static unsigned poll_without_submit(struct reactor *reactor, unsigned *events)
{
    CHECK_MSG(current == NULL && !reactor->polling, "%s is polled from inside a poll",
              reactor->name);
    current = reactor;
    reactor->polling = true;
    /* Awake now: nobody needs to write to wake_fd until we say again that we sleep. */
    if (atomic_load_explicit(&reactor->sleeping, memory_order_relaxed))
        atomic_store(&reactor->sleeping, false);
    refresh_now(reactor);

    unsigned done = reactor->uring == NULL ? 0 : uring_poll(reactor->uring);
    done += poll_sources(reactor);
    done += mailbox_deliver(reactor);
    *events = done;
    done += timer_heap_fire(&reactor->timers, reactor->now_ns);
    done += fiber_run_ready(reactor);

    reactor->polling = false;
    current = NULL;
    return done;
}

unsigned reactor_poll_once(struct reactor *reactor)
{
    unsigned events;
    unsigned done = poll_without_submit(reactor, &events);

    if (reactor->uring != NULL)
        uring_submit(reactor->uring);
    return done;
}

unsigned reactor_poll_before_wait(struct reactor *reactor)
{
    unsigned events;
    return poll_without_submit(reactor, &events);
}

static bool has_work(struct reactor *reactor)
{
    return !list_empty(&reactor->ready) || atomic_load(&reactor->mailbox) != NULL ||
           atomic_load(&reactor->wake_pending) || atomic_load(&reactor->stopping);
}

static void sleep_on_fd(struct reactor *reactor, uint64_t timeout_ns)
{
    struct pollfd fd = {.fd = reactor->wake_fd, .events = POLLIN};
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_S),
                               .tv_nsec = (long)(timeout_ns % NS_PER_S)};
    uint64_t value;

    if (ppoll(&fd, 1, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL) == 1)
        CHECK(read(reactor->wake_fd, &value, sizeof(value)) == sizeof(value));
}

void reactor_wait(struct reactor *reactor, uint64_t limit_ns)
{
    CHECK_MSG(reactor->wake_fd >= 0, "%s is on virtual time and cannot sleep", reactor->name);
    uint64_t until_ns = MIN(limit_ns, timer_heap_next_ns(&reactor->timers));
    uint64_t now_ns = until_ns == UINT64_MAX ? 0 : refresh_now(reactor);

    /* Say that we sleep, then look again: see mailbox_post(). */
    atomic_store(&reactor->sleeping, true);
    if (until_ns > now_ns && !has_work(reactor)) {
        uint64_t timeout_ns = until_ns == UINT64_MAX ? UINT64_MAX : until_ns - now_ns;
        if (reactor->uring == NULL)
            sleep_on_fd(reactor, timeout_ns);
        else
            uring_sleep(reactor->uring, timeout_ns);
        reactor->submission_waits = false;
    } else if (reactor->uring != NULL) {
        /* Most often the next poll is the last before a sleep, whose system call submits as well. */
        if (reactor->submission_waits || atomic_load(&reactor->stopping))
            uring_submit(reactor->uring);
        reactor->submission_waits = !reactor->submission_waits;
    }
    atomic_store(&reactor->sleeping, false);
    atomic_store(&reactor->wake_pending, false);
}

void reactor_wake_sleeper(struct reactor *reactor)
{
    /* Of many wakers of one sleep, one writes. */
    if (atomic_load(&reactor->sleeping) && atomic_exchange(&reactor->sleeping, false)) {
        uint64_t one = 1;
        CHECK(write(reactor->wake_fd, &one, sizeof(one)) == sizeof(one));
    }
}

void reactor_wake(struct reactor *reactor)
{
    atomic_store(&reactor->wake_pending, true);
    reactor_wake_sleeper(reactor);
}

void reactor_stop(struct reactor *reactor)
{
    atomic_store(&reactor->stopping, true);
    reactor_wake_sleeper(reactor);
}

/* ---- running ---- */

static void pin(const struct reactor *reactor)
{
    if (reactor->cpu < 0)
        return;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)reactor->cpu, &cpus);
    int error = pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
    if (error != 0)
        LOG_WARN("%s: cannot pin to CPU %d: %s", reactor->name, reactor->cpu, strerror(error));
}

/* Whether to poll again rather than to sleep after a poll that had @events. */
static bool spin_on(struct reactor *reactor, unsigned events)
{
    if (reactor->spin_ns == 0)
        return false;
    bool close = reactor->now_ns - reactor->last_event_ns <= reactor->spin_ns;
    if (events > 0) {
        reactor->spin_score =
            close ? MIN(reactor->spin_score + 1, 2 * SPIN_SCORE) : reactor->spin_score / 2;
        reactor->last_event_ns = reactor->now_ns;
        close = true;
    }
    return close && reactor->spin_score >= SPIN_SCORE;
}

void reactor_run(struct reactor *reactor)
{
    pin(reactor);
    while (!atomic_load_explicit(&reactor->stopping, memory_order_relaxed)) {
        unsigned events;
        poll_without_submit(reactor, &events);
        /* Before a sleep the submission rides on the same system call. */
        if (spin_on(reactor, events)) {
            if (reactor->uring != NULL)
                uring_submit(reactor->uring);
        } else {
            reactor_wait(reactor, UINT64_MAX);
        }
    }
    atomic_store(&reactor->stopping, false);
}

/* ---- an outer event loop ---- */

int reactor_event_fd(struct reactor *reactor)
{
    if (reactor->uring == NULL || reactor->clock.now_ns != kernel_now_ns)
        return SHOAL_E_UNSUPPORTED;
    return uring_event_fd(reactor->uring);
}

void reactor_event_arm(struct reactor *reactor)
{
    int fd = reactor_event_fd(reactor);
    uint64_t value = 0;

    CHECK(fd >= 0);
    /* What made it readable so far has been polled for, or is found below. */
    ssize_t ignored = read(fd, &value, sizeof(value));
    (void)ignored;
    uring_arm_timeout(reactor->uring, timer_heap_next_ns(&reactor->timers));
    uring_submit(reactor->uring);
    atomic_store(&reactor->sleeping, true);
    bool woken = atomic_exchange(&reactor->wake_pending, false);
    if (woken || has_work(reactor) || uring_has_completions(reactor->uring)) {
        value = 1;
        CHECK(write(fd, &value, sizeof(value)) == sizeof(value));
    }
}
