/* SPDX-License-Identifier: Apache-2.0 */
/* The checker itself: it accepts what can be explained, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "history.h"

static struct history *create(void **state)
{
    struct history *history = calloc(1, sizeof *history);

    assert_non_null(history);
    *state = history;
    return history;
}

static int destroy(void **state)
{
    free(*state);
    return 0;
}

static void one(struct history *history, enum operation_kind kind, uint32_t value,
                enum operation_outcome outcome)
{
    struct operation *operation = history_call(history, 0, kind, 0);

    operation->value = value;
    history_return(history, operation, outcome, 0);
}

static void a_read_of_what_was_written_is_explained(void **state)
{
    struct history *history = create(state);

    one(history, OPERATION_GET, 0, OUTCOME_DONE);
    one(history, OPERATION_PUT, 1, OUTCOME_DONE);
    one(history, OPERATION_GET, 1, OUTCOME_DONE);
    one(history, OPERATION_REMOVE, 0, OUTCOME_DONE);
    one(history, OPERATION_EXISTS, 0, OUTCOME_REFUSED);
    assert_true(history_explains(history, 0));
}

static void a_lost_write_is_found(void **state)
{
    struct history *history = create(state);

    one(history, OPERATION_PUT, 1, OUTCOME_DONE);
    one(history, OPERATION_GET, 0, OUTCOME_DONE);
    assert_false(history_explains(history, 0));
}

static void an_older_value_after_a_newer_one_is_found(void **state)
{
    struct history *history = create(state);

    one(history, OPERATION_PUT, 1, OUTCOME_DONE);
    one(history, OPERATION_PUT, 2, OUTCOME_UNKNOWN);
    one(history, OPERATION_GET, 2, OUTCOME_DONE);
    one(history, OPERATION_GET, 1, OUTCOME_DONE);
    assert_false(history_explains(history, 0));
}

static void an_unknown_write_may_come_late_but_only_once(void **state)
{
    struct history *history = create(state);

    one(history, OPERATION_PUT, 1, OUTCOME_DONE);
    one(history, OPERATION_PUT, 2, OUTCOME_UNKNOWN);
    one(history, OPERATION_GET, 1, OUTCOME_DONE);
    one(history, OPERATION_GET, 2, OUTCOME_DONE);
    assert_true(history_explains(history, 0));
    one(history, OPERATION_PUT, 3, OUTCOME_DONE);
    one(history, OPERATION_GET, 2, OUTCOME_DONE);
    assert_false(history_explains(history, 0));
}

static void a_removed_blob_that_comes_back_is_found(void **state)
{
    struct history *history = create(state);

    one(history, OPERATION_PUT, 1, OUTCOME_DONE);
    one(history, OPERATION_REMOVE, 0, OUTCOME_DONE);
    one(history, OPERATION_GET, 1, OUTCOME_DONE);
    assert_false(history_explains(history, 0));
}

static void two_puts_if_absent_cannot_both_succeed(void **state)
{
    struct history *history = create(state);
    struct operation *first = history_call(history, 0, OPERATION_PUT_ABSENT, 0);
    struct operation *second = history_call(history, 0, OPERATION_PUT_ABSENT, 1);

    first->value = 1;
    second->value = 2;
    history_return(history, first, OUTCOME_DONE, 0);
    history_return(history, second, OUTCOME_REFUSED, 0);
    assert_true(history_explains(history, 0));
    second->outcome = OUTCOME_DONE;
    assert_false(history_explains(history, 0));
}

static void operations_side_by_side_may_take_either_order(void **state)
{
    struct history *history = create(state);
    struct operation *put = history_call(history, 0, OPERATION_PUT, 0);
    struct operation *get = history_call(history, 0, OPERATION_GET, 1);

    put->value = 1;
    get->value = 1;
    history_return(history, get, OUTCOME_DONE, 0);
    history_return(history, put, OUTCOME_DONE, 0);
    assert_true(history_explains(history, 0));
    get->value = 0;
    assert_true(history_explains(history, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_read_of_what_was_written_is_explained, destroy),
        cmocka_unit_test_teardown(a_lost_write_is_found, destroy),
        cmocka_unit_test_teardown(an_older_value_after_a_newer_one_is_found, destroy),
        cmocka_unit_test_teardown(an_unknown_write_may_come_late_but_only_once, destroy),
        cmocka_unit_test_teardown(a_removed_blob_that_comes_back_is_found, destroy),
        cmocka_unit_test_teardown(two_puts_if_absent_cannot_both_succeed, destroy),
        cmocka_unit_test_teardown(operations_side_by_side_may_take_either_order, destroy),
    };

    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
