/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/pool.h"
#include "base/sanitizer.h"

static void a_pool_gives_what_it_holds_and_then_nothing(void **state)
{
    (void)state;
    struct pool *pool = pool_create("test", 24, 3, 0);
    void *objects[3];
    for (int i = 0; i < 3; i++) {
        objects[i] = pool_get(pool);
        assert_non_null(objects[i]);
        assert_true(pool_owns(pool, objects[i]));
        memset(objects[i], i, 24);
    }
    assert_null(pool_get(pool));
    assert_int_equal(pool_in_use(pool), 3);
    pool_put(pool, objects[1]);
    assert_ptr_equal(pool_get(pool), objects[1]);
    for (int i = 0; i < 3; i++)
        pool_put(pool, objects[i]);
    assert_int_equal(pool_in_use(pool), 0);
    assert_int_equal(pool_capacity(pool), 3);
    pool_destroy(pool);
}

static void objects_are_aligned_as_asked(void **state)
{
    (void)state;
    struct pool *pool = pool_create("test", 100, 5, 4096);
    void *objects[5];
    for (int i = 0; i < 5; i++) {
        objects[i] = pool_get(pool);
        assert_int_equal((uintptr_t)objects[i] % 4096, 0);
    }
    for (int i = 0; i < 5; i++)
        pool_put(pool, objects[i]);
    pool_destroy(pool);
}

static void a_pool_of_none_is_exhausted_from_the_start(void **state)
{
    (void)state;
    struct pool *pool = pool_create("test", 8, 0, 0);
    assert_non_null(pool);
    assert_null(pool_get(pool));
    pool_destroy(pool);
}

static void a_pool_knows_its_own(void **state)
{
    (void)state;
    struct pool *pool = pool_create("test", 32, 2, 0);
    char *object = pool_get(pool);
    char other;
    assert_false(pool_owns(pool, &other));
    assert_false(pool_owns(pool, object + 1));
    pool_put(pool, object);
    pool_destroy(pool);
}

static void the_nth_allocation_fails_once(void **state)
{
    (void)state;
    struct pool *one = pool_create("one", 8, 4, 0);
    struct pool *two = pool_create("two", 8, 4, 0);
    pool_fail_after(2);
    void *first = pool_get(one);
    assert_non_null(first);
    assert_false(pool_fail_fired());
    assert_null(pool_get(two));
    assert_true(pool_fail_fired());
    void *third = pool_get(two);
    assert_non_null(third);
    pool_fail_after(0);
    assert_false(pool_fail_fired());
    pool_put(one, first);
    pool_put(two, third);
    pool_destroy(one);
    pool_destroy(two);
}

/* How a child that ran @body ended: its signal, or 0. */
static int death_of(void (*body)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        body();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        return WTERMSIG(status);
    return WEXITSTATUS(status);
}

static void put_twice(void)
{
    struct pool *pool = pool_create("test", 8, 2, 0);
    void *object = pool_get(pool);
    pool_put(pool, object);
    pool_put(pool, object);
}

static void put_foreign(void)
{
    static char foreign[8];
    pool_put(pool_create("test", 8, 2, 0), foreign);
}

static void leak(void)
{
    struct pool *pool = pool_create("test", 8, 2, 0);
    if (pool_get(pool) != NULL)
        pool_destroy(pool);
}

static void touch_after_put(void)
{
    struct pool *pool = pool_create("test", 8, 2, 0);
    volatile char *object = pool_get(pool);
    pool_put(pool, (void *)object);
    object[0] = 1;
}

static void misuse_stops_the_process(void **state)
{
    (void)state;
    assert_int_equal(death_of(put_twice), SIGABRT);
    assert_int_equal(death_of(put_foreign), SIGABRT);
    assert_int_equal(death_of(leak), SIGABRT);
}

static void a_free_object_is_poisoned(void **state)
{
    (void)state;
    if (!SHOAL_ASAN) {
        print_message("only ASan sees this\n");
        skip();
    }
    assert_int_not_equal(death_of(touch_after_put), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_gives_what_it_holds_and_then_nothing),
        cmocka_unit_test(objects_are_aligned_as_asked),
        cmocka_unit_test(a_pool_of_none_is_exhausted_from_the_start),
        cmocka_unit_test(a_pool_knows_its_own),
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(misuse_stops_the_process),
        cmocka_unit_test(a_free_object_is_poisoned),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
