/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macros.h"
#include "core/mailbox.h"
#include "core/test_reactor.h"
#include "core/timer.h"
#include "shoal/error.h"

#define MS UINT64_C(1000000)

static uint64_t monotonic_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void one_seed_gives_one_run(void **state)
{
    (void)state;
    struct test_clock clock;
    uint64_t drawn[2];
    for (unsigned i = 0; i < 2; i++) {
        struct reactor *reactor = test_reactor_virtual(&clock, 99);
        drawn[i] = prng_next(reactor_prng(reactor));
        assert_string_equal(reactor_name(reactor), "test");
        assert_null(reactor_uring(reactor));
        reactor_destroy(reactor);
    }
    assert_int_equal(drawn[0], drawn[1]);
}

static void time_stands_still_within_a_poll(void **state)
{
    (void)state;
    struct test_clock clock;
    struct reactor *reactor = test_reactor_virtual(&clock, 1);
    clock.now_ns = 5000;
    assert_int_equal(reactor_now_ns(reactor), 5000);
    reactor_poll_once(reactor);
    clock.now_ns = 4000; /* a clock that jumps back is not believed */
    assert_int_equal(reactor_now_ns(reactor), 5000);
    assert_null(reactor_self());
    reactor_destroy(reactor);
}

/* ---- sources ---- */

struct counting {
    struct reactor_source source;
    unsigned polled;
    unsigned work;
    struct counting *removes;
};

static unsigned count_poll(struct reactor_source *source)
{
    struct counting *counting = container_of(source, struct counting, source);

    assert_non_null(reactor_self());
    assert_null(fiber_self());
    counting->polled++;
    if (counting->removes != NULL)
        reactor_remove_source(reactor_self(), &counting->removes->source);
    counting->removes = NULL;
    return counting->work == 0 ? 0 : counting->work--;
}

static void sources_are_polled_and_may_remove_one_another(void **state)
{
    (void)state;
    struct test_clock clock;
    struct reactor *reactor = test_reactor_virtual(&clock, 1);
    struct counting sources[3] = {0};
    for (unsigned i = 0; i < 3; i++) {
        sources[i].source.poll = count_poll;
        reactor_add_source(reactor, &sources[i].source);
    }
    sources[2].work = 1;
    assert_int_equal(reactor_poll_once(reactor), 1);
    sources[0].removes = &sources[1];
    assert_int_equal(reactor_poll_once(reactor), 0);
    assert_int_equal(sources[0].polled, 2);
    assert_int_equal(sources[1].polled, 1);
    assert_int_equal(sources[2].polled, 2);
    sources[0].removes = &sources[0];
    reactor_poll_once(reactor);
    reactor_poll_once(reactor);
    assert_int_equal(sources[0].polled, 3);
    assert_int_equal(sources[2].polled, 4);
    reactor_remove_source(reactor, &sources[2].source);
    reactor_destroy(reactor);
}

/* ---- sleeping ---- */

static void note_fire(struct timer *timer)
{
    (void)timer;
}

static void a_wait_ends_at_the_next_timer_or_at_its_limit(void **state)
{
    (void)state;
    for (unsigned entries = 0; entries <= 64; entries += 64) {
        struct reactor *reactor;
        struct timer timer = {0};
        assert_int_equal(reactor_create(&(struct reactor_config){.cpu = -1, .seed = 1,
                                                                 .uring_entries = entries},
                                        &reactor),
                         0);
        reactor_poll_once(reactor);
        uint64_t start_ns = reactor_now_ns(reactor);
        timer_arm(reactor, &timer, start_ns + 100000 * MS, note_fire);
        reactor_wait(reactor, start_ns + 3 * MS);
        assert_true(reactor_now_ns(reactor) >= start_ns + 3 * MS);
        assert_int_equal(reactor_poll_once(reactor), 0);
        assert_true(timer_armed(&timer));
        start_ns = reactor_now_ns(reactor);
        timer_arm(reactor, &timer, start_ns + 10 * MS, note_fire);
        while (reactor_poll_once(reactor) == 0)
            reactor_wait(reactor, UINT64_MAX);
        assert_true(reactor_now_ns(reactor) >= start_ns + 10 * MS);
        assert_false(timer_armed(&timer));
        reactor_destroy(reactor);
    }
}

static void nothing(void *arg)
{
    (void)arg;
}

static void a_wait_with_a_ready_fiber_does_not_sleep(void **state)
{
    (void)state;
    struct reactor *reactor = test_reactor_real();
    struct fiber_pool *pool;
    assert_int_equal(fiber_pool_create(reactor, "test", 1, 0, &pool), 0);
    assert_int_equal(fiber_spawn(pool, nothing, NULL), 0);
    reactor_wait(reactor, UINT64_MAX); /* would never return */
    test_run_fibers(reactor, pool);
    reactor_wake(reactor);
    reactor_wait(reactor, UINT64_MAX); /* nor would this */
    fiber_pool_destroy(pool);
    reactor_destroy(reactor);
}

static void *stop_later(void *arg)
{
    usleep(200000);
    reactor_stop(arg);
    return NULL;
}

static void an_idle_reactor_sleeps_until_it_is_stopped(void **state)
{
    (void)state;
    struct reactor *reactor;
    assert_int_equal(
        reactor_create(&(struct reactor_config){.cpu = -1, .seed = 1, .uring_entries = 64,
                                                .spin_ns = 1000 * MS},
                       &reactor),
        0);
    pthread_t thread;
    uint64_t cpu_ns = monotonic_ns(CLOCK_THREAD_CPUTIME_ID);
    assert_int_equal(pthread_create(&thread, NULL, stop_later, reactor), 0);
    reactor_run(reactor);
    cpu_ns = monotonic_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
    pthread_join(thread, NULL);
    assert_true(cpu_ns < 100 * MS); /* of about 200 */
    reactor_destroy(reactor);
}

struct ticking {
    struct timer timer;
    unsigned ticks;
};

static void tick(struct timer *timer)
{
    struct ticking *ticking = container_of(timer, struct ticking, timer);
    struct reactor *reactor = reactor_self();

    if (++ticking->ticks == 50)
        reactor_stop(reactor);
    else
        timer_arm(reactor, timer, reactor_now_ns(reactor) + 4 * MS, tick);
}

static void timers_never_start_a_spin(void **state)
{
    (void)state;
    struct reactor *reactor;
    struct ticking ticking = {0};
    assert_int_equal(
        reactor_create(&(struct reactor_config){.cpu = -1, .seed = 1, .uring_entries = 64,
                                                .spin_ns = 1000 * MS},
                       &reactor),
        0);
    timer_arm(reactor, &ticking.timer, 0, tick);
    uint64_t cpu_ns = monotonic_ns(CLOCK_THREAD_CPUTIME_ID);
    reactor_run(reactor);
    cpu_ns = monotonic_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
    assert_int_equal(ticking.ticks, 50);
    assert_true(cpu_ns < 100 * MS); /* of about 200 */
    reactor_destroy(reactor);
}

/* ---- an outer event loop ---- */

static int readable(int fd, int timeout_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    return poll(&pollfd, 1, timeout_ms);
}

static void count_delivery(struct mail *mail)
{
    (void)mail;
}

static void *post_later(void *arg)
{
    static struct mail mail = {.deliver = count_delivery};
    usleep(5000);
    mailbox_post(arg, &mail);
    return NULL;
}

static void *poll_elsewhere(void *arg)
{
    while (reactor_poll_once(arg) > 0)
        ;
    reactor_event_arm(arg);
    return NULL;
}

static void on_another_thread(void *(*run)(void *), void *arg)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run, arg), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void the_event_fd_tells_of_mail_and_timers(void **state)
{
    (void)state;
    for (unsigned roaming = 0; roaming < 2; roaming++) {
        struct reactor *reactor;
        struct timer timers[2] = {0};
        assert_int_equal(reactor_create(&(struct reactor_config){.cpu = -1, .seed = 1,
                                                                 .uring_entries = 64,
                                                                 .roaming = roaming != 0},
                                        &reactor),
                         0);
        int fd = reactor_event_fd(reactor);
        assert_true(fd >= 0);
        assert_int_equal(reactor_event_fd(reactor), fd);
        reactor_poll_once(reactor);
        reactor_event_arm(reactor);
        assert_int_equal(readable(fd, 0), 0);

        on_another_thread(post_later, reactor);
        assert_int_equal(readable(fd, 20000), 1);
        while (reactor_poll_once(reactor) == 0)
            assert_int_equal(readable(fd, 20000), 1);
        reactor_event_arm(reactor);
        reactor_poll_once(reactor);

        /* Armed first for later, then for sooner: the sooner counts. */
        uint64_t now_ns = reactor_now_ns(reactor);
        timer_arm(reactor, &timers[0], now_ns + 100000 * MS, note_fire);
        reactor_event_arm(reactor);
        timer_arm(reactor, &timers[1], now_ns + 10 * MS, note_fire);
        reactor_event_arm(reactor);
        while (timer_armed(&timers[1])) {
            assert_int_equal(readable(fd, 20000), 1);
            reactor_poll_once(reactor);
            reactor_event_arm(reactor);
        }
        assert_true(timer_armed(&timers[0]));
        timer_cancel(&timers[0]);

        /* What is there already when it is armed is told at once. */
        reactor_wake(reactor);
        reactor_event_arm(reactor);
        assert_int_equal(readable(fd, 0), 1);
        reactor_destroy(reactor);
    }
}

static void a_roaming_reactor_outlives_the_threads_that_poll_it(void **state)
{
    (void)state;
    struct reactor *reactor;
    struct timer timer = {0};
    assert_int_equal(
        reactor_create(&(struct reactor_config){.cpu = -1, .seed = 1, .uring_entries = 64,
                                                .roaming = true},
                       &reactor),
        0);
    int fd = reactor_event_fd(reactor);
    assert_true(fd >= 0);
    timer_arm(reactor, &timer, reactor_now_ns(reactor) + 20 * MS, note_fire);
    for (unsigned i = 0; i < 3; i++)
        on_another_thread(poll_elsewhere, reactor);
    while (timer_armed(&timer)) {
        assert_int_equal(readable(fd, 20000), 1);
        on_another_thread(poll_elsewhere, reactor);
    }
    on_another_thread(post_later, reactor);
    assert_int_equal(readable(fd, 20000), 1);
    on_another_thread(poll_elsewhere, reactor);
    reactor_destroy(reactor);
}

static void virtual_time_has_no_event_fd(void **state)
{
    (void)state;
    struct test_clock clock;
    struct reactor *reactor = test_reactor_virtual(&clock, 1);
    assert_int_equal(reactor_event_fd(reactor), SHOAL_E_UNSUPPORTED);
    reactor_destroy(reactor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_seed_gives_one_run),
        cmocka_unit_test(time_stands_still_within_a_poll),
        cmocka_unit_test(sources_are_polled_and_may_remove_one_another),
        cmocka_unit_test(a_wait_ends_at_the_next_timer_or_at_its_limit),
        cmocka_unit_test(a_wait_with_a_ready_fiber_does_not_sleep),
        cmocka_unit_test(an_idle_reactor_sleeps_until_it_is_stopped),
        cmocka_unit_test(timers_never_start_a_spin),
        cmocka_unit_test(the_event_fd_tells_of_mail_and_timers),
        cmocka_unit_test(a_roaming_reactor_outlives_the_threads_that_poll_it),
        cmocka_unit_test(virtual_time_has_no_event_fd),
    };
    return cmocka_run_group_tests_name("reactor", tests, NULL, NULL);
}
