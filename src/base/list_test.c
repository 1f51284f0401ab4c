/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
    int number;
    struct list_node node;
};

static struct item items[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};

/* The numbers in order as one decimal: 0, 1, 2 is 12. */
static int order(struct list *list)
{
    int sum = 0;
    list_for_each(list, struct item, node, item)
        sum = sum * 10 + item->number;
    return sum;
}

static void order_is_that_of_pushing(void **state)
{
    (void)state;
    struct list list = LIST_INIT(list);
    assert_true(list_empty(&list));
    assert_null(list_first(&list));
    assert_null(list_pop_front(&list));
    list_push_back(&list, &items[2].node);
    list_push_back(&list, &items[3].node);
    list_push_front(&list, &items[1].node);
    assert_int_equal(order(&list), 123);
    assert_int_equal(list_count(&list), 3);
    assert_ptr_equal(list_last(&list), &items[3].node);
    assert_ptr_equal(list_pop_front(&list), &items[1].node);
    assert_int_equal(order(&list), 23);
}

static void a_removed_node_is_linked_nowhere(void **state)
{
    (void)state;
    struct list list;
    list_init(&list);
    list_push_back(&list, &items[1].node);
    assert_true(list_linked(&items[1].node));
    list_remove(&items[1].node);
    assert_false(list_linked(&items[1].node));
    list_remove(&items[1].node);
    assert_true(list_empty(&list));
}

static void the_current_object_may_be_removed_while_walking(void **state)
{
    (void)state;
    struct list list;
    list_init(&list);
    for (int i = 0; i < 4; i++)
        list_push_back(&list, &items[i].node);
    list_for_each(&list, struct item, node, item) {
        if (item->number % 2 == 0)
            list_remove(&item->node);
    }
    assert_int_equal(order(&list), 13);
}

static void break_leaves_the_walk(void **state)
{
    (void)state;
    struct list list;
    list_init(&list);
    for (int i = 0; i < 4; i++)
        list_push_back(&list, &items[i].node);
    int visited = 0;
    list_for_each(&list, struct item, node, item) {
        visited++;
        if (item->number == 1)
            break;
    }
    assert_int_equal(visited, 2);
}

static void splicing_moves_all_in_order(void **state)
{
    (void)state;
    struct list a;
    struct list b;
    list_init(&a);
    list_init(&b);
    list_push_back(&a, &items[1].node);
    list_push_back(&b, &items[2].node);
    list_push_back(&b, &items[3].node);
    list_splice_back(&a, &b);
    assert_int_equal(order(&a), 123);
    assert_true(list_empty(&b));
    list_splice_back(&a, &b);
    assert_int_equal(order(&a), 123);
    list_splice_back(&b, &a);
    assert_int_equal(order(&b), 123);
    assert_ptr_equal(list_last(&b), &items[3].node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_that_of_pushing),
        cmocka_unit_test(a_removed_node_is_linked_nowhere),
        cmocka_unit_test(the_current_object_may_be_removed_while_walking),
        cmocka_unit_test(break_leaves_the_walk),
        cmocka_unit_test(splicing_moves_all_in_order),
    };
    return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
