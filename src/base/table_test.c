/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "base/random.h"
#include "base/table.h"
#include "shoal/error.h"

#define KEYS 512

struct thing {
    int other;
    uint64_t id;
};

static void what_was_inserted_is_found_until_removed(void **state)
{
    (void)state;
    struct table *table = table_create(4, offsetof(struct thing, id), sizeof(uint64_t), 9);
    struct thing a = {.id = 1};
    struct thing b = {.id = 2};
    struct thing again = {.id = 1};
    assert_int_equal(table_insert(table, &a), 0);
    assert_int_equal(table_insert(table, &b), 0);
    assert_int_equal(table_insert(table, &again), SHOAL_E_EXISTS);
    assert_ptr_equal(table_find_u64(table, 1), &a);
    assert_ptr_equal(table_remove_u64(table, 1), &a);
    assert_null(table_find_u64(table, 1));
    assert_null(table_remove_u64(table, 1));
    assert_ptr_equal(table_find(table, &b.id), &b);
    assert_int_equal(table_count(table), 1);
    table_destroy(table);
}

static void one_more_than_the_capacity_is_refused(void **state)
{
    (void)state;
    static struct thing things[11];
    struct table *table = table_create(10, offsetof(struct thing, id), sizeof(uint64_t), 9);
    for (uint64_t i = 0; i < 11; i++) {
        things[i].id = i;
        assert_int_equal(table_insert(table, &things[i]), i < 10 ? 0 : SHOAL_E_FULL);
    }
    assert_int_equal(table_insert(table, &things[3]), SHOAL_E_EXISTS);
    assert_int_equal(table_capacity(table), 10);
    table_destroy(table);
}

static void a_random_history_agrees_with_an_array(void **state)
{
    (void)state;
    static struct thing things[KEYS];
    bool inside[KEYS] = {0};
    uint32_t count = 0;
    struct prng prng;
    prng_seed(&prng, 11);
    struct table *table = table_create(300, offsetof(struct thing, id), sizeof(uint64_t), 5);
    for (int i = 0; i < KEYS; i++)
        things[i].id = (uint64_t)i * 64;
    for (int step = 0; step < 200000; step++) {
        uint64_t i = prng_below(&prng, KEYS);
        if (prng_chance(&prng, 1, 2)) {
            int expected = inside[i] ? SHOAL_E_EXISTS : count == 300 ? SHOAL_E_FULL : 0;
            assert_int_equal(table_insert(table, &things[i]), expected);
            count += expected == 0;
            inside[i] = inside[i] || expected == 0;
        } else {
            void *removed = table_remove_u64(table, i * 64);
            assert_ptr_equal(removed, inside[i] ? &things[i] : NULL);
            count -= inside[i];
            inside[i] = false;
        }
        uint64_t probe = prng_below(&prng, KEYS);
        assert_ptr_equal(table_find_u64(table, probe * 64), inside[probe] ? &things[probe] : NULL);
        assert_int_equal(table_count(table), count);
    }
    table_destroy(table);
}

static void iterating_meets_each_object_once_in_an_order_of_its_seed(void **state)
{
    (void)state;
    static struct thing things[100];
    uint64_t first_order[100];
    for (int round = 0; round < 2; round++) {
        struct table *table = table_create(100, offsetof(struct thing, id), sizeof(uint64_t), 3);
        bool met[100] = {0};
        for (uint64_t i = 0; i < 100; i++) {
            things[i].id = i;
            assert_int_equal(table_insert(table, &things[i]), 0);
        }
        uint64_t cursor = 0;
        struct thing *thing;
        for (int i = 0; (thing = table_next(table, &cursor)) != NULL; i++) {
            assert_false(met[thing->id]);
            met[thing->id] = true;
            if (round == 0)
                first_order[i] = thing->id;
            else
                assert_int_equal(first_order[i], thing->id);
        }
        for (int i = 0; i < 100; i++)
            assert_true(met[i]);
        table_destroy(table);
    }
}

static void keys_may_be_bytes(void **state)
{
    (void)state;
    struct name {
        uint8_t key[32];
    } a, b;
    memset(&a, 1, sizeof a);
    memset(&b, 1, sizeof b);
    b.key[31] = 2;
    struct table *table = table_create(2, 0, sizeof a.key, 0);
    assert_int_equal(table_insert(table, &a), 0);
    assert_int_equal(table_insert(table, &b), 0);
    assert_ptr_equal(table_find(table, b.key), &b);
    table_destroy(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_inserted_is_found_until_removed),
        cmocka_unit_test(one_more_than_the_capacity_is_refused),
        cmocka_unit_test(a_random_history_agrees_with_an_array),
        cmocka_unit_test(iterating_meets_each_object_once_in_an_order_of_its_seed),
        cmocka_unit_test(keys_may_be_bytes),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
