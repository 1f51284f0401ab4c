/* SPDX-License-Identifier: Apache-2.0 */
/* A thousand nodes: as table_test.c, and too slow under sanitizers to stand there. */
#include "place/table_test.h"

static void a_thousand_nodes_move_little_else_and_stay_even(void **state)
{
    (void)state;

    for (unsigned unequal = 0; unequal <= 4; unequal += 4) {
        struct cluster was = cluster_new(1001, 32, unequal);
        struct cluster is = cluster_copy(&was);
        cluster_set_node(&was, 1000, false);
        struct place_table before = table_balanced(&was, NULL, 16, 6);
        for (int step = 0; step < 3; step++) {
            struct place_table after = table_balanced(&is, &before, 16, 6);
            const struct movement m = table_movement(&was, &before, &is, &after);
            assert_in_range(m.moved * 100 / m.least, 85, 105);
            assert_in_range(table_fullest(&is, &after) * 100, 95, 110);
            table_free(&before);
            before = after;
            memcpy(was.targets, is.targets, is.count * sizeof(*is.targets));
            cluster_set_node(&is, 500 + (unsigned)step, false);
        }
        table_free(&before);
        cluster_free(&was);
        cluster_free(&is);
    }
}

static void ninety_six_nodes_do_so_at_any_width_and_weights(void **state)
{
    static const unsigned widths[] = {1, 3, 6, 10};
    (void)state;

    for (unsigned unequal = 0; unequal <= 4; unequal += 4) {
        for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
            struct cluster was = cluster_new(97, 4, unequal);
            struct cluster is = cluster_copy(&was);
            cluster_set_node(&was, 96, false);
            struct place_table before = table_balanced(&was, NULL, 16, widths[i]);
            assert_in_range(table_fullest(&was, &before) * 100, 95, 105);
            struct place_table joined = table_balanced(&is, &before, 16, widths[i]);
            const struct movement m = table_movement(&was, &before, &is, &joined);
            assert_in_range(m.moved * 100 / m.least, 95, 103);
            table_free(&before);
            table_free(&joined);
            cluster_free(&was);
            cluster_free(&is);
        }
    }
}

static void racks_of_a_thousand_nodes_get_one_shard_each(void **state)
{
    struct cluster c = cluster_new(1000, 2, 1);
    (void)state;

    for (size_t i = 0; i < c.count; i++)
        c.targets[i].domain = 1 + c.targets[i].node / 20;
    struct place_table table = table_balanced(&c, NULL, 14, 12);
    struct place_verdict verdict;
    assert_int_equal(place_check(&verdict, c.targets, c.count, 8, 4), 0);
    assert_int_equal(verdict.most_in_a_domain, 1);
    for (uint32_t p = 0; p < 1u << 14; p++)
        check_set(&c, &table, p, &verdict);
    table_free(&table);
    cluster_free(&c);
}

static void thousands_of_updated_tables_are_those_built_from_nothing(void **state)
{
    struct prng prng;
    (void)state;

    prng_seed(&prng, 2);
    check_updates(&prng, 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_nodes_move_little_else_and_stay_even),
        cmocka_unit_test(ninety_six_nodes_do_so_at_any_width_and_weights),
        cmocka_unit_test(thousands_of_updated_tables_are_those_built_from_nothing),
        cmocka_unit_test(racks_of_a_thousand_nodes_get_one_shard_each),
    };
    return cmocka_run_group_tests_name("place_scale", tests, NULL, NULL);
}
