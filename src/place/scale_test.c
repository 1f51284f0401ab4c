/* SPDX-License-Identifier: Apache-2.0 */
/* A thousand nodes: as table_test.c, and too slow under sanitizers to stand there. */
#include "place/table_test.h"

static void a_thousand_nodes_move_little_else_and_stay_even(void **state)
{
    struct cluster c = cluster_new(1001, 4, 4);
    (void)state;

    cluster_set_node(&c, 1000, false);
    struct place_table before = table_new(&c, 18, 6);
    assert_in_range(table_fullest(&c, &before) * 100, 95, 110);

    cluster_set_node(&c, 1000, true);
    struct place_table joined = table_new(&c, 18, 6);
    struct movement m = table_movement(&c, &before, &joined, 1000);
    assert_in_range(m.moved * 100 / m.least, 100, 110);

    cluster_set_node(&c, 1000, false);
    cluster_set_node(&c, 500, false);
    struct place_table left = table_new(&c, 18, 6);
    m = table_movement(&c, &before, &left, 500);
    assert_in_range(m.moved * 100 / m.least, 100, 110);

    table_free(&before);
    table_free(&joined);
    table_free(&left);
    cluster_free(&c);
}

static void ninety_six_nodes_do_so_at_any_width_and_weights(void **state)
{
    static const unsigned widths[] = {1, 3, 6, 10};
    (void)state;

    for (unsigned unequal = 0; unequal <= 4; unequal += 4) {
        for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
            struct cluster c = cluster_new(97, 4, unequal);
            cluster_set_node(&c, 96, false);
            struct place_table before = table_new(&c, 16, widths[i]);
            assert_in_range(table_fullest(&c, &before) * 100, 95, 111);
            cluster_set_node(&c, 96, true);
            struct place_table joined = table_new(&c, 16, widths[i]);
            const struct movement m = table_movement(&c, &before, &joined, 96);
            assert_in_range(m.moved * 100 / m.least, 100, widths[i] == 1 ? 112 : 103);
            table_free(&before);
            table_free(&joined);
            cluster_free(&c);
        }
    }
}

static void racks_of_a_thousand_nodes_get_one_shard_each(void **state)
{
    struct cluster c = cluster_new(1000, 2, 1);
    (void)state;

    for (size_t i = 0; i < c.count; i++)
        c.targets[i].domain = 1 + c.targets[i].node / 20;
    struct place_table table = table_new(&c, 14, 12);
    for (uint32_t p = 0; p < 1u << 14; p++) {
        assert_int_equal(table.rows[12][p].most_in_a_domain, 1);
        assert_int_equal(table.rows[12][p].most_on_a_node, 1);
    }
    table_free(&table);
    cluster_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_nodes_move_little_else_and_stay_even),
        cmocka_unit_test(ninety_six_nodes_do_so_at_any_width_and_weights),
        cmocka_unit_test(racks_of_a_thousand_nodes_get_one_shard_each),
    };
    return cmocka_run_group_tests_name("place_scale", tests, NULL, NULL);
}
