/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>

#include "base/log.h"
#include "base/macros.h"
#include "core/test_reactor.h"
#include "core/uring.h"
#include "shoal/error.h"

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

/* ---- threads that come and go ---- */

static void *poll_and_leave(void *arg)
{
    while (reactor_poll_once(arg) > 0)
        ;
    return NULL;
}

static void poll_on_another_thread(struct reactor *reactor)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, poll_and_leave, reactor), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static int pipe_fds[2];
static int64_t read_result;

static void read_from_pipe(void *arg)
{
    (void)arg;
    struct waited_op reading = {.op.complete = complete};
    char got[8];

    io_uring_prep_read(uring_get_sqe(reactor_uring(reactor_self()), &reading.op), pipe_fds[0], got,
                       sizeof(got), 0);
    read_result = completion_wait(&reading.completion);
}

static void an_operation_outlives_the_thread_that_submitted_it(void **state)
{
    (void)state;
    struct reactor *reactor;
    struct fiber_pool *pool;

    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(
        reactor_create(&(struct reactor_config){.cpu = -1, .seed = 1, .uring_entries = 64,
                                                .roaming = true},
                       &reactor),
        0);
    assert_int_equal(fiber_pool_create(reactor, "test", 1, 0, &pool), 0);
    assert_int_equal(fiber_spawn(pool, read_from_pipe, NULL), 0);
    poll_on_another_thread(reactor);
    assert_int_equal(fiber_pool_in_use(pool), 1);
    assert_int_equal(write(pipe_fds[1], "ping", 4), 4);
    while (fiber_pool_in_use(pool) > 0)
        poll_on_another_thread(reactor);
    assert_int_equal(read_result, 4);
    fiber_pool_destroy(pool);
    reactor_destroy(reactor);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* ---- where io_uring is forbidden ---- */

static char last_line[1024];

static void keep_line(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static bool forbid_io_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(filter), .filter = filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int create_where_forbidden(void)
{
    struct reactor *reactor;

    if (!forbid_io_uring())
        return 77;
    log_set_sink(keep_line, NULL);
    int error = reactor_create(
        &(struct reactor_config){.name = "r", .cpu = -1, .uring_entries = 64}, &reactor);
    return error == SHOAL_E_SYSTEM && strstr(last_line, "io_uring is forbidden here") != NULL &&
                   strstr(last_line, "seccomp") != NULL
               ? 0
               : 1;
}

static void a_container_that_forbids_io_uring_is_told_apart(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(create_where_forbidden());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip(); /* seccomp itself is not to be had here */
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completions_wake_the_fiber_that_waits),
        cmocka_unit_test(a_cancelled_operation_still_completes),
        cmocka_unit_test(more_operations_than_entries_are_taken),
        cmocka_unit_test(an_operation_outlives_the_thread_that_submitted_it),
        cmocka_unit_test(a_container_that_forbids_io_uring_is_told_apart),
    };
    return cmocka_run_group_tests_name("uring", tests, NULL, NULL);
}
