/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

struct pair {
    int first;
    int second;
};

/* Runs @body in a child and gives what it wrote to stderr; fails unless it aborted. */
static void expect_abort(void (*body)(void), char *said, size_t size)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        body();
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t got;
    while ((got = read(ends[0], said + used, size - 1 - used)) > 0)
        used += (size_t)got;
    said[used] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void break_check(void)
{
    int one = 1;
    CHECK(one == 2);
}

static void break_check_with_message(void)
{
    int one = 1;
    CHECK_MSG(one == 2, "one is %d", one);
}

static void a_broken_check_names_expression_and_place_and_aborts(void **state)
{
    (void)state;
    char said[1024];
    expect_abort(break_check, said, sizeof said);
    assert_non_null(strstr(said, "one == 2"));
    assert_non_null(strstr(said, "check_test.c:"));
    assert_non_null(strstr(said, "break_check()"));
}

static void a_broken_check_shows_its_values(void **state)
{
    (void)state;
    char said[1024];
    expect_abort(break_check_with_message, said, sizeof said);
    assert_non_null(strstr(said, "one is 1"));
}

static void a_check_that_holds_is_silent_and_evaluated_once(void **state)
{
    (void)state;
    int count = 0;
    CHECK(++count == 1);
    CHECK_MSG(++count == 2, "count %d", count);
    assert_int_equal(count, 2);
}

static void min_and_max_evaluate_their_sides_once(void **state)
{
    (void)state;
    int a = 1;
    int b = 5;
    assert_int_equal(MIN(a++, b++), 1);
    assert_int_equal(a, 2);
    assert_int_equal(b, 6);
    assert_int_equal(MAX(a, b), 6);
}

static void container_of_finds_the_structure(void **state)
{
    (void)state;
    struct pair pair = {1, 2};
    int *second = &pair.second;
    assert_ptr_equal(container_of(second, struct pair, second), &pair);
    struct pair many[7];
    assert_int_equal(ARRAY_LEN(many), 7);
}

static void rounding_keeps_to_powers_of_two(void **state)
{
    (void)state;
    assert_int_equal(round_up_u64(0, 4096), 0);
    assert_int_equal(round_up_u64(1, 4096), 4096);
    assert_int_equal(round_up_u64(4096, 4096), 4096);
    assert_int_equal(round_down_u64(8191, 4096), 4096);
    assert_int_equal(div_round_up_u64(9, 4), 3);
    assert_int_equal(div_round_up_u64(UINT64_MAX, 2), UINT64_C(1) << 63);
    assert_true(is_power_of_two(64));
    assert_false(is_power_of_two(0));
    assert_false(is_power_of_two(65));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_check_names_expression_and_place_and_aborts),
        cmocka_unit_test(a_broken_check_shows_its_values),
        cmocka_unit_test(a_check_that_holds_is_silent_and_evaluated_once),
        cmocka_unit_test(min_and_max_evaluate_their_sides_once),
        cmocka_unit_test(container_of_finds_the_structure),
        cmocka_unit_test(rounding_keeps_to_powers_of_two),
    };
    return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
