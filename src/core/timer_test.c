/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "base/random.h"
#include "core/test_reactor.h"
#include "core/timer.h"

#define MANY 1000

struct numbered {
    struct timer timer;
    unsigned number;
    uint64_t due_ns;
};

static struct numbered timers[MANY];
static unsigned fired[MANY];
static unsigned n_fired;

static void note(struct timer *timer)
{
    fired[n_fired++] = container_of(timer, struct numbered, timer)->number;
}

static int setup(void **state)
{
    (void)state;
    memset(timers, 0, sizeof(timers));
    for (unsigned i = 0; i < MANY; i++)
        timers[i].number = i;
    n_fired = 0;
    return 0;
}

static void timers_fire_in_order_of_time(void **state)
{
    (void)state;
    struct test_clock clock;
    struct reactor *reactor = test_reactor_virtual(&clock, 1);
    struct prng prng;
    prng_seed(&prng, 7);

    for (unsigned i = 0; i < MANY; i++) {
        timers[i].due_ns = 2000 + prng_below(&prng, 300);
        timer_arm(reactor, &timers[i].timer, timers[i].due_ns, note);
    }
    assert_int_equal(reactor_poll_once(reactor), 0);
    test_run_idle(reactor, &clock);
    assert_int_equal(n_fired, MANY);
    for (unsigned i = 1; i < MANY; i++) {
        struct numbered *a = &timers[fired[i - 1]];
        struct numbered *b = &timers[fired[i]];
        /* Of equal times the one armed first: here, the lower number. */
        assert_true(a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->number < b->number));
    }
    reactor_destroy(reactor);
}

static void a_cancelled_timer_does_not_fire(void **state)
{
    (void)state;
    struct test_clock clock;
    struct reactor *reactor = test_reactor_virtual(&clock, 1);
    struct prng prng;
    prng_seed(&prng, 8);

    for (unsigned i = 0; i < MANY; i++)
        timer_arm(reactor, &timers[i].timer, 2000 + prng_below(&prng, 5000), note);
    for (unsigned i = 0; i < MANY; i += 3) {
        timer_cancel(&timers[i].timer);
        timer_cancel(&timers[i].timer);
        assert_false(timer_armed(&timers[i].timer));
    }
    test_run_idle(reactor, &clock);
    assert_int_equal(n_fired, MANY - (MANY + 2) / 3);
    for (unsigned i = 0; i < n_fired; i++)
        assert_int_not_equal(fired[i] % 3, 0);
    reactor_destroy(reactor);
}

static void arming_an_armed_timer_moves_it(void **state)
{
    (void)state;
    struct test_clock clock;
    struct reactor *reactor = test_reactor_virtual(&clock, 1);

    timer_arm(reactor, &timers[0].timer, 2000, note);
    timer_arm(reactor, &timers[1].timer, 3000, note);
    timer_arm(reactor, &timers[0].timer, 4000, note);
    assert_int_equal(reactor_next_timer_ns(reactor), 3000);
    test_run_idle(reactor, &clock);
    assert_int_equal(n_fired, 2);
    assert_int_equal(fired[0], 1);
    assert_int_equal(fired[1], 0);
    reactor_destroy(reactor);
}

static unsigned rounds;

static void again_at_once(struct timer *timer)
{
    if (++rounds < 5)
        timer_arm(reactor_self(), timer, 0, again_at_once);
}

static void a_timer_that_rearms_itself_in_the_past_fires_once_a_poll(void **state)
{
    (void)state;
    struct test_clock clock;
    struct reactor *reactor = test_reactor_virtual(&clock, 1);

    rounds = 0;
    timer_arm(reactor, &timers[0].timer, 0, again_at_once);
    for (unsigned i = 1; i <= 5; i++) {
        assert_int_equal(reactor_poll_once(reactor), 1);
        assert_int_equal(rounds, i);
    }
    assert_int_equal(reactor_poll_once(reactor), 0);
    reactor_destroy(reactor);
}

static void cancel_the_next(struct timer *timer)
{
    note(timer);
    timer_cancel(&timers[1].timer);
}

static void a_callback_may_cancel_another_timer_that_is_due(void **state)
{
    (void)state;
    struct test_clock clock;
    struct reactor *reactor = test_reactor_virtual(&clock, 1);

    timer_arm(reactor, &timers[0].timer, 10, cancel_the_next);
    timer_arm(reactor, &timers[1].timer, 10, note);
    timer_arm(reactor, &timers[2].timer, 10, note);
    test_run_idle(reactor, &clock);
    assert_int_equal(n_fired, 2);
    assert_int_equal(fired[1], 2);
    reactor_destroy(reactor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(timers_fire_in_order_of_time, setup),
        cmocka_unit_test_setup(a_cancelled_timer_does_not_fire, setup),
        cmocka_unit_test_setup(arming_an_armed_timer_moves_it, setup),
        cmocka_unit_test_setup(a_timer_that_rearms_itself_in_the_past_fires_once_a_poll, setup),
        cmocka_unit_test_setup(a_callback_may_cancel_another_timer_that_is_due, setup),
    };
    return cmocka_run_group_tests_name("timer", tests, NULL, NULL);
}
