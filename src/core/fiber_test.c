/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/pool.h"
#include "core/fiber.h"
#include "core/test_reactor.h"
#include "shoal/error.h"

static struct test_clock test_clock;
static struct reactor *reactor;
static struct fiber_pool *pool;
static char trace[256];

static void mark(char c)
{
    size_t len = strlen(trace);
    assert_true(len + 1 < sizeof(trace));
    trace[len] = c;
}

static int setup(void **state)
{
    (void)state;
    memset(trace, 0, sizeof(trace));
    reactor = test_reactor_virtual(&test_clock, 1);
    return fiber_pool_create(reactor, "test", 8, 0, &pool);
}

static int teardown(void **state)
{
    (void)state;
    fiber_pool_destroy(pool);
    reactor_destroy(reactor);
    return 0;
}

static void spawn(void (*run)(void *), void *arg)
{
    assert_int_equal(fiber_spawn(pool, run, arg), 0);
}

/* ---- running ---- */

static void mark_twice(void *arg)
{
    mark(*(char *)arg);
    fiber_yield();
    mark(*(char *)arg);
}

static void fibers_run_in_the_order_they_became_ready(void **state)
{
    (void)state;
    char names[] = "abc";
    for (unsigned i = 0; i < 3; i++)
        spawn(mark_twice, &names[i]);
    assert_int_equal(fiber_pool_in_use(pool), 3);
    assert_null(fiber_self());
    assert_int_equal(reactor_poll_once(reactor), 3);
    assert_string_equal(trace, "abc");
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "abcabc");
    assert_int_equal(fiber_pool_in_use(pool), 0);
}

static void yield_once(void *arg)
{
    (void)arg;
    fiber_yield();
}

static void use_and_destroy_a_pool(void *arg)
{
    struct fiber_pool *other = NULL;
    (void)arg;
    assert_int_equal(fiber_pool_create(reactor, "other", 2, 0, &other), 0);
    assert_int_equal(fiber_spawn(other, yield_once, NULL), 0);
    while (fiber_pool_in_use(other) > 0)
        fiber_yield();
    fiber_pool_destroy(other);
    mark('d');
}

static void a_fiber_may_destroy_the_pool_of_others(void **state)
{
    (void)state;
    spawn(use_and_destroy_a_pool, NULL);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "d");
}

static void a_pool_with_no_free_fiber_is_busy(void **state)
{
    (void)state;
    char a = 'a';
    for (unsigned i = 0; i < 8; i++)
        spawn(mark_twice, &a);
    assert_int_equal(fiber_spawn(pool, mark_twice, &a), SHOAL_E_BUSY);
    test_run_idle(reactor, &test_clock);
    spawn(mark_twice, &a);
    test_run_idle(reactor, &test_clock);
    assert_int_equal(strlen(trace), 18);
    pool_fail_after(1); /* as if it were empty */
    assert_int_equal(fiber_spawn(pool, mark_twice, &a), SHOAL_E_BUSY);
    pool_fail_after(0);
}

static void keep_registers(void *arg)
{
    uint64_t base = *(const uint64_t *)arg;
    volatile double real = (double)base / 3.0;
    uint64_t v[8];
    unsigned char deep[4096];

    memset(deep, (int)base, sizeof(deep));
    for (unsigned i = 0; i < 8; i++)
        v[i] = base * (i + 1);
    for (unsigned round = 0; round < 50; round++) {
        fiber_yield();
        for (unsigned i = 0; i < 8; i++)
            v[i] += round;
    }
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(v[i], base * (i + 1) + 49 * 50 / 2);
    for (unsigned i = 0; i < sizeof(deep); i++)
        assert_int_equal(deep[i], (unsigned char)base);
    assert_true(real == (double)base / 3.0);
    mark('k');
}

static void a_fiber_keeps_its_registers_and_stack_over_switches(void **state)
{
    (void)state;
    uint64_t bases[8] = {3, 5, 7, 11, 13, 17, 19, 23};
    for (unsigned i = 0; i < 8; i++)
        spawn(keep_registers, &bases[i]);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "kkkkkkkk");
}

static void set_and_check_request(void *arg)
{
    uint64_t id = *(const uint64_t *)arg;
    log_set_request(id, id);
    fiber_yield();
    assert_int_equal(log_context_get().request_hi, id);
    mark('l');
}

static void each_fiber_has_its_own_log_context(void **state)
{
    (void)state;
    uint64_t ids[2] = {41, 42};
    log_set_request(7, 7);
    spawn(set_and_check_request, &ids[0]);
    spawn(set_and_check_request, &ids[1]);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "ll");
    assert_int_equal(log_context_get().request_hi, 7);
    log_set_request(0, 0);
}

static void sleep_then_mark(void *arg)
{
    uint64_t start_ns = reactor_now_ns(reactor);
    uint64_t duration_ns = (uint64_t)(*(char *)arg - '0') * 1000;
    fiber_sleep(duration_ns);
    assert_int_equal(reactor_now_ns(reactor), start_ns + duration_ns);
    mark(*(char *)arg);
}

static void a_sleeping_fiber_wakes_when_it_is_due(void **state)
{
    (void)state;
    char durations[] = "312";
    for (unsigned i = 0; i < 3; i++)
        spawn(sleep_then_mark, &durations[i]);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "123");
}

/* ---- completions ---- */

static void wait_for_completion(void *arg)
{
    assert_int_equal(completion_wait(arg), -5);
    mark('w');
}

static void signal_completion(void *arg)
{
    mark('s');
    completion_signal(arg, -5);
}

static void a_completion_wakes_its_waiter_with_the_result(void **state)
{
    (void)state;
    struct completion completion = {0};
    spawn(wait_for_completion, &completion);
    spawn(signal_completion, &completion);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "sw");
}

static void a_completion_may_be_signalled_before_the_wait(void **state)
{
    (void)state;
    struct completion completion = {0};
    completion_signal(&completion, -5);
    spawn(wait_for_completion, &completion);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "w");
}

static void wait_1000(void *arg)
{
    struct completion *completion = arg;
    int64_t result = 0;
    uint64_t deadline_ns = reactor_now_ns(reactor) + 1000;

    if (completion_wait_until(completion, deadline_ns, &result)) {
        mark('d');
        assert_int_equal(result, -5);
    } else {
        mark('t');
        assert_int_equal(reactor_now_ns(reactor), deadline_ns);
        assert_int_equal(completion_wait(completion), -5);
        mark('w');
    }
}

static void a_wait_with_a_deadline_gives_up_then(void **state)
{
    (void)state;
    struct completion completion = {0};
    spawn(wait_1000, &completion);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "t");
    completion_signal(&completion, -5);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "tw");
}

static void a_completion_before_the_deadline_disarms_it(void **state)
{
    (void)state;
    struct completion completion = {0};
    spawn(wait_1000, &completion);
    while (reactor_poll_once(reactor) > 0)
        ;
    completion_signal(&completion, -5);
    assert_int_equal(reactor_next_timer_ns(reactor), UINT64_MAX);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "d");
}

/* ---- queues ---- */

static struct fiber_queue queue;

static void wait_in_queue(void *arg)
{
    fiber_queue_wait(&queue);
    mark(*(char *)arg);
}

static void a_queue_is_first_come_first_served(void **state)
{
    (void)state;
    char names[] = "abc";
    fiber_queue_init(&queue);
    assert_false(fiber_queue_wake_one(&queue));
    for (unsigned i = 0; i < 3; i++)
        spawn(wait_in_queue, &names[i]);
    test_run_idle(reactor, &test_clock);
    assert_false(fiber_queue_empty(&queue));
    assert_true(fiber_queue_wake_one(&queue));
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "a");
    fiber_queue_wake_all(&queue);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "abc");
    assert_true(fiber_queue_empty(&queue));
}

static void wait_in_queue_until(void *arg)
{
    uint64_t deadline_ns = *(const uint64_t *)arg;
    mark(fiber_queue_wait_until(&queue, deadline_ns) ? 'w' : 't');
}

static void waits_in_a_queue_time_out_one_by_one(void **state)
{
    (void)state;
    uint64_t deadlines[] = {5000, 3000, UINT64_MAX};
    fiber_queue_init(&queue);
    for (unsigned i = 0; i < 3; i++)
        spawn(wait_in_queue_until, &deadlines[i]);
    while (reactor_poll_once(reactor) > 0)
        ;
    test_clock.now_ns = 3000;
    while (reactor_poll_once(reactor) > 0)
        ;
    assert_string_equal(trace, "t");
    fiber_queue_wake_one(&queue);
    assert_int_equal(reactor_next_timer_ns(reactor), UINT64_MAX);
    fiber_queue_wake_one(&queue);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "tww");
}

/* ---- groups and mutexes ---- */

static struct fiber_group group;

static void piece(void *arg)
{
    fiber_sleep(*(const uint64_t *)arg);
    mark('p');
    fiber_group_done(&group);
}

static void fan_out(void *arg)
{
    uint64_t *durations = arg;
    fiber_group_init(&group);
    for (unsigned i = 0; i < 3; i++) {
        fiber_group_add(&group);
        spawn(piece, &durations[i]);
    }
    fiber_group_wait(&group);
    mark('J');
    fiber_group_wait(&group);
    mark('J');
}

static void a_group_joins_when_all_pieces_are_done(void **state)
{
    (void)state;
    uint64_t durations[] = {300, 0, 200};
    spawn(fan_out, durations);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "pppJJ");
}

static struct fiber_mutex mutex;

static void critical(void *arg)
{
    fiber_mutex_lock(&mutex);
    mark(*(char *)arg);
    fiber_sleep(100);
    mark(*(char *)arg);
    fiber_mutex_unlock(&mutex);
}

static void a_mutex_serves_its_waiters_in_order(void **state)
{
    (void)state;
    char names[] = "abc";
    fiber_mutex_init(&mutex);
    for (unsigned i = 0; i < 3; i++)
        spawn(critical, &names[i]);
    test_run_idle(reactor, &test_clock);
    assert_string_equal(trace, "aabbcc");
    assert_false(mutex.held);
}

/* ---- what must stop the process ---- */

static bool dies(void (*run)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        signal(SIGSEGV, SIG_DFL);
        run();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void block_outside(void)
{
    struct completion completion = {0};
    completion_wait(&completion);
}

static void a_blocking_call_outside_a_fiber_stops_the_process(void **state)
{
    (void)state;
    assert_true(dies(block_outside));
}

__attribute__((noinline)) static unsigned recurse(unsigned depth)
{
    volatile unsigned char frame[1024];
    frame[0] = (unsigned char)depth;
    frame[depth % sizeof(frame)] = 1;
    return depth == 0 ? frame[0] : recurse(depth - 1) + frame[1];
}

static void overflow_fiber(void *arg)
{
    (void)arg;
    recurse(4096);
}

static void overflow_stack(void)
{
    spawn(overflow_fiber, NULL);
    reactor_poll_once(reactor);
}

static void a_stack_overflow_hits_the_guard(void **state)
{
    (void)state;
    assert_true(dies(overflow_stack));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(fibers_run_in_the_order_they_became_ready),
        TEST(a_fiber_may_destroy_the_pool_of_others),
        TEST(a_pool_with_no_free_fiber_is_busy),
        TEST(a_fiber_keeps_its_registers_and_stack_over_switches),
        TEST(each_fiber_has_its_own_log_context),
        TEST(a_sleeping_fiber_wakes_when_it_is_due),
        TEST(a_completion_wakes_its_waiter_with_the_result),
        TEST(a_completion_may_be_signalled_before_the_wait),
        TEST(a_wait_with_a_deadline_gives_up_then),
        TEST(a_completion_before_the_deadline_disarms_it),
        TEST(a_queue_is_first_come_first_served),
        TEST(waits_in_a_queue_time_out_one_by_one),
        TEST(a_group_joins_when_all_pieces_are_done),
        TEST(a_mutex_serves_its_waiters_in_order),
        TEST(a_blocking_call_outside_a_fiber_stops_the_process),
        TEST(a_stack_overflow_hits_the_guard),
    };
    return cmocka_run_group_tests_name("fiber", tests, NULL, NULL);
}
