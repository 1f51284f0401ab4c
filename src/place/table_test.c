/* SPDX-License-Identifier: Apache-2.0 */
#include "place/table_test.h"

#include "base/hash.h"
#include "shoal/error.h"

static struct prng prng;

static void a_table_is_the_same_in_whatever_order_targets_are_listed(void **state)
{
    struct cluster listed = cluster_new(20, 3, 1);
    struct cluster shuffled = cluster_new(20, 3, 1);
    (void)state;

    for (size_t i = 0; i < listed.count; i++)
        listed.targets[i].domain = shuffled.targets[i].domain = listed.targets[i].node % 7 + 1;
    for (size_t i = shuffled.count - 1; i > 0; i--) {
        const size_t j = prng_below(&prng, i + 1);
        const struct place_target t = shuffled.targets[i];
        shuffled.targets[i] = shuffled.targets[j];
        shuffled.targets[j] = t;
    }
    struct place_table a = table_new(&listed, 10, 6);
    struct place_table b = table_new(&shuffled, 10, 6);
    for (uint32_t p = 0; p < 1u << 10; p++) {
        for (unsigned i = 0; i < 6; i++) {
            assert_int_equal(listed.targets[place_targets(&a, 6, p)[i]].id,
                             shuffled.targets[place_targets(&b, 6, p)[i]].id);
        }
    }
    table_free(&a);
    table_free(&b);
    cluster_free(&listed);
    cluster_free(&shuffled);
}

/* If this fails, the change that made it fail would move the data of every cluster. */
static void the_table_of_a_known_cluster_never_changes(void **state)
{
    struct cluster c = cluster_new(30, 4, 1);
    uint64_t hash = 0;
    (void)state;

    for (size_t i = 0; i < c.count; i++)
        c.targets[i].domain = c.targets[i].node % 8;
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++) {
        struct place_table table = table_new(&c, 8, width);
        hash = hash64(table.rows[width], place_table_bytes(8, 1u << width), hash);
        table_free(&table);
    }
    assert_int_equal(hash, UINT64_C(0x4512cc80ea6ff92b));
    cluster_free(&c);
}

static void one_build_gives_each_width_the_table_it_would_have_alone(void **state)
{
    const uint32_t widths = 1u << 1 | 1u << 3 | 1u << 6 | 1u << 12;
    const size_t bytes = place_table_bytes(9, widths);
    struct cluster c = cluster_new(14, 2, 1);
    struct place_table all;
    void *memory = aligned_alloc(64, bytes);
    (void)state;

    assert_int_equal(bytes, 4 * 32 << 9);
    assert_non_null(memory);
    assert_int_equal(place_table_build(&all, memory, bytes, c.targets, c.count, 9, widths), 0);
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++) {
        struct place_table one = table_new(&c, 9, width);
        if ((widths >> width & 1) == 0)
            assert_null(all.rows[width]);
        else
            assert_memory_equal(all.rows[width], one.rows[width], 32 << 9);
        table_free(&one);
    }
    free(memory);
    cluster_free(&c);
}

static void shards_are_spread_over_nodes_then_over_domains_and_zones(void **state)
{
    (void)state;

    for (int round = 0; round < 600; round++) {
        const unsigned width = 1 + (unsigned)prng_below(&prng, PLACE_WIDTH_MAX);
        struct cluster c = random_cluster(&prng);
        struct place_verdict verdict;
        const int error = place_check(&verdict, c.targets, c.count, 1, width - 1);
        assert_int_equal(error, verdict.targets < width ? SHOAL_E_UNAVAILABLE : 0);
        struct place_table table = table_new(&c, 6, width);
        for (uint32_t p = 0; p < 64; p++)
            check_set(&c, &table, p, &verdict);
        table_free(&table);
        cluster_free(&c);
    }
}

static void a_table_that_is_updated_is_the_one_built_from_nothing(void **state)
{
    (void)state;

    check_updates(&prng, 300);
}

static void a_target_that_is_out_counts_as_not_listed(void **state)
{
    struct cluster c = cluster_new(9, 2, 1);
    struct cluster without = cluster_new(8, 2, 1);
    (void)state;

    cluster_set_node(&c, 8, false);
    struct place_table a = table_new(&c, 10, 6);
    struct place_table b = table_new(&without, 10, 6);
    assert_memory_equal(a.rows[6], b.rows[6], place_table_bytes(10, 1u << 6));
    table_free(&a);
    table_free(&b);
    cluster_free(&c);
    cluster_free(&without);
}

static void nonsense_is_refused(void **state)
{
    static struct place_target many[PLACE_TARGETS_MAX + 1];
    static _Alignas(64) struct place_row rows[16];
    struct cluster c = cluster_new(4, 2, 1);
    struct place_table t;
    (void)state;

    const int invalid = SHOAL_E_INVALID;
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), c.targets, 8, 23, 64), invalid);
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), c.targets, 8, 4, 0), invalid);
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), c.targets, 8, 4, 1), invalid);
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), c.targets, 8, 4, 1 << 13), invalid);
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), many, ARRAY_LEN(many), 4, 64),
                     SHOAL_E_TOO_LARGE);
    c.targets[3].id = 5;
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), c.targets, 8, 4, 64), invalid);
    c.targets[3].id = 3;
    c.targets[3].domain = 1;
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), c.targets, 8, 4, 64), invalid);
    c.targets[2].domain = 1;
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), c.targets, 8, 4, 64), 0);
    c.targets[3].zone = 2; /* a node in two */
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), c.targets, 8, 4, 64), invalid);
    c.targets[2].zone = 2;
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), c.targets, 8, 4, 64), 0);
    cluster_set_domain(&c, 2, 1); /* a domain in two */
    assert_int_equal(place_table_build(&t, rows, sizeof(rows), c.targets, 8, 4, 64), invalid);
    cluster_free(&c);
}

static void a_table_without_targets_names_none(void **state)
{
    struct cluster c = cluster_new(1, 1, 1);
    (void)state;

    c.targets[0].placeable = false;
    struct place_table table = table_new(&c, 3, 6);
    for (uint32_t p = 0; p < 8; p++) {
        for (unsigned i = 0; i < PLACE_WIDTH_MAX; i++)
            assert_int_equal(place_targets(&table, 6, p)[i], PLACE_NONE);
    }
    table_free(&table);
    cluster_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_is_the_same_in_whatever_order_targets_are_listed),
        cmocka_unit_test(the_table_of_a_known_cluster_never_changes),
        cmocka_unit_test(one_build_gives_each_width_the_table_it_would_have_alone),
        cmocka_unit_test(shards_are_spread_over_nodes_then_over_domains_and_zones),
        cmocka_unit_test(a_table_that_is_updated_is_the_one_built_from_nothing),
        cmocka_unit_test(a_target_that_is_out_counts_as_not_listed),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(a_table_without_targets_names_none),
    };
    prng_seed(&prng, 1);
    return cmocka_run_group_tests_name("place_table", tests, NULL, NULL);
}
