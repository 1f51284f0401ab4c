/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>

#include "base/macros.h"
#include "core/test_reactor.h"
#include "core/uring.h"

struct waited_op {
    struct uring_op op;
    struct completion completion;
};

static void complete(struct uring_op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    completion_signal(&container_of(op, struct waited_op, op)->completion, result);
}

static void with_fiber(void (*run)(void *arg), void *arg)
{
    struct reactor *reactor = test_reactor_real();
    struct fiber_pool *pool;

    assert_int_equal(fiber_pool_create(reactor, "test", 1, 0, &pool), 0);
    assert_int_equal(fiber_spawn(pool, run, arg), 0);
    test_run_fibers(reactor, pool);
    assert_int_equal(uring_in_flight(reactor_uring(reactor)), 0);
    fiber_pool_destroy(pool);
    reactor_destroy(reactor);
}

static void send_through_a_pipe(void *arg)
{
    (void)arg;
    struct uring *uring = reactor_uring(reactor_self());
    struct waited_op reading = {.op.complete = complete};
    struct waited_op writing = {.op.complete = complete};
    char sent[] = "through the ring";
    char got[sizeof(sent)] = {0};
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    io_uring_prep_read(uring_get_sqe(uring, &reading.op), fds[0], got, sizeof(got), 0);
    fiber_yield(); /* the read is under way before there is anything to read */
    assert_int_equal(uring_in_flight(uring), 1);
    io_uring_prep_write(uring_get_sqe(uring, &writing.op), fds[1], sent, sizeof(sent), 0);
    assert_int_equal(completion_wait(&writing.completion), sizeof(sent));
    assert_int_equal(completion_wait(&reading.completion), sizeof(sent));
    assert_string_equal(got, sent);
    close(fds[0]);
    close(fds[1]);
}

static void completions_wake_the_fiber_that_waits(void **state)
{
    (void)state;
    with_fiber(send_through_a_pipe, NULL);
}

static void cancel_a_read(void *arg)
{
    (void)arg;
    struct reactor *reactor = reactor_self();
    struct uring *uring = reactor_uring(reactor);
    struct waited_op reading = {.op.complete = complete};
    char got[8];
    int fds[2];
    int64_t result;

    assert_int_equal(pipe(fds), 0);
    io_uring_prep_read(uring_get_sqe(uring, &reading.op), fds[0], got, sizeof(got), 0);
    assert_false(completion_wait_until(&reading.completion, reactor_now_ns(reactor) + 3000000,
                                       &result));
    uring_cancel(uring, &reading.op);
    assert_int_equal(completion_wait(&reading.completion), -ECANCELED);
    close(fds[0]);
    close(fds[1]);
}

static void a_cancelled_operation_still_completes(void **state)
{
    (void)state;
    with_fiber(cancel_a_read, NULL);
}

#define MANY 1000

static void submit_many(void *arg)
{
    static struct waited_op ops[MANY];
    struct uring *uring = reactor_uring(reactor_self());

    (void)arg;
    for (unsigned i = 0; i < MANY; i++) {
        ops[i] = (struct waited_op){.op.complete = complete};
        io_uring_prep_nop(uring_get_sqe(uring, &ops[i].op));
    }
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(completion_wait(&ops[i].completion), 0);
}

static void more_operations_than_entries_are_taken(void **state)
{
    (void)state;
    with_fiber(submit_many, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completions_wake_the_fiber_that_waits),
        cmocka_unit_test(a_cancelled_operation_still_completes),
        cmocka_unit_test(more_operations_than_entries_are_taken),
    };
    return cmocka_run_group_tests_name("uring", tests, NULL, NULL);
}
