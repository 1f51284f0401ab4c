/* SPDX-License-Identifier: Apache-2.0 */
#include "place/table_test.h"

#include "base/hash.h"

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
    assert_int_equal(hash, UINT64_C(0x83b9087fea07df61));
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

/* Count what a set holds of each, and compare with the row's own account and the verdict's. */
static void check_set(const struct cluster *c, const struct place_table *table, unsigned width,
                      uint32_t partition, const struct place_verdict *verdict)
{
    const struct place_row *row = &table->rows[width][partition];
    unsigned most_on_a_node = 0;
    unsigned most_in_a_domain = 0;

    for (unsigned i = 0; i < PLACE_WIDTH_MAX; i++) {
        unsigned on_node = 0;
        unsigned in_domain = 0;
        if (i >= width)
            assert_int_equal(row->target[i], PLACE_NONE);
        if (row->target[i] == PLACE_NONE)
            continue;
        for (unsigned j = 0; j < width; j++) {
            if (row->target[j] == PLACE_NONE)
                continue;
            const struct place_target *a = &c->targets[row->target[i]];
            const struct place_target *b = &c->targets[row->target[j]];
            assert_true(a->placeable && a->weight > 0);
            assert_true(i == j || a->id != b->id);
            on_node += a->node == b->node;
            in_domain += a->node == b->node || (a->domain == b->domain && a->domain != 0);
        }
        most_on_a_node = MAX(most_on_a_node, on_node);
        most_in_a_domain = MAX(most_in_a_domain, in_domain);
    }
    assert_int_equal(row->most_on_a_node, most_on_a_node);
    assert_true(most_on_a_node <= verdict->most_on_a_node);
    if (verdict->domains > 1 && verdict->domains != verdict->nodes) {
        assert_int_equal(row->most_in_a_domain, most_in_a_domain);
        assert_true(most_in_a_domain <= verdict->most_in_a_domain);
    }
}

/* Small clusters of every shape: few nodes, few domains, lopsided ones, drives that are out. */
static void shards_are_spread_over_nodes_then_over_domains(void **state)
{
    (void)state;

    for (int round = 0; round < 600; round++) {
        const unsigned nodes = 1 + (unsigned)prng_below(&prng, 20);
        const unsigned per_node = 1 + (unsigned)prng_below(&prng, 5);
        const unsigned width = 1 + (unsigned)prng_below(&prng, PLACE_WIDTH_MAX);
        const unsigned domains = (unsigned)prng_below(&prng, 8);
        struct cluster c = cluster_new(nodes, per_node, 1);
        struct place_verdict verdict;
        uint32_t domain = 0;
        for (size_t i = 0; i < c.count; i++) {
            if (i % per_node == 0)
                domain = (uint32_t)prng_below(&prng, domains + 1);
            c.targets[i].domain = domain;
            c.targets[i].placeable = !prng_chance(&prng, 1, 5);
            if (prng_chance(&prng, 1, 20))
                c.targets[i].weight = 0;
        }
        const int error = place_check(&verdict, c.targets, c.count, 1, width - 1);
        assert_int_equal(error, verdict.targets < width ? SHOAL_E_UNAVAILABLE : 0);
        struct place_table table = table_new(&c, 6, width);
        for (uint32_t p = 0; p < 64; p++) {
            unsigned filled = 0;
            for (unsigned i = 0; i < width; i++)
                filled += place_targets(&table, width, p)[i] != PLACE_NONE;
            assert_int_equal(filled, MIN(verdict.targets, width));
            check_set(&c, &table, width, p, &verdict);
        }
        table_free(&table);
        cluster_free(&c);
    }
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

/*
 * One row: what moves when a node joins or leaves, in percent of what the node itself holds, and
 * how full the fullest target is in percent of the best that the spread rules allow. The bounds are
 * what was measured and a little more: they are there to notice a change for the worse.
 */
struct quality {
    unsigned nodes, unequal, width, bits;
    unsigned join, leave, fullest;
};

static void check_quality(const struct quality *q)
{
    struct cluster c = cluster_new(q->nodes + 1, 4, q->unequal);

    cluster_set_node(&c, q->nodes, false);
    struct place_table before = table_new(&c, q->bits, q->width);
    if (q->fullest != 0)
        assert_in_range(table_fullest(&c, &before) * 100, 95, q->fullest);

    cluster_set_node(&c, q->nodes, true);
    struct place_table joined = table_new(&c, q->bits, q->width);
    struct movement m = table_movement(&c, &before, &joined, q->nodes);
    assert_true(m.least > 0);
    assert_in_range(m.moved * 100 / m.least, 100, q->join);

    cluster_set_node(&c, q->nodes, false);
    cluster_set_node(&c, q->nodes / 2, false);
    struct place_table left = table_new(&c, q->bits, q->width);
    m = table_movement(&c, &before, &left, q->nodes / 2);
    assert_true(m.least > 0);
    assert_in_range(m.moved * 100 / m.least, 100, q->leave);

    table_free(&before);
    table_free(&joined);
    table_free(&left);
    cluster_free(&c);
}

static void a_node_that_joins_or_leaves_moves_little_else_and_loads_stay_even(void **state)
{
    static const struct quality rows[] = {
        /* nodes, unequal, width, bits: join, leave, fullest */
        {6, 0, 6, 14, 112, 102, 102},   {24, 0, 6, 14, 102, 102, 109},
        {3, 0, 3, 14, 110, 102, 102},   {24, 0, 3, 14, 102, 102, 110},
        {24, 1, 6, 14, 102, 102, 109},  {24, 4, 6, 14, 106, 120, 110},
        {6, 1, 1, 14, 101, 101, 109},   {24, 4, 1, 14, 108, 108, 111},
        {96, 4, 6, 16, 102, 102, 109},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_quality(&rows[i]);
}

/* Where nodes are few for the width, or differ much in weight, the rules leave little choice. */
static void what_moves_in_a_tight_cluster_is_bounded(void **state)
{
    static const struct quality rows[] = {
        {3, 0, 6, 14, 130, 165, 0},   {6, 4, 6, 14, 145, 112, 102}, {9, 0, 6, 14, 122, 124, 112},
        {9, 4, 6, 14, 128, 132, 112}, {6, 0, 10, 14, 130, 155, 0},  {12, 0, 10, 14, 140, 120, 115},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_quality(&rows[i]);
}

static void more_weight_takes_shards_from_others_only(void **state)
{
    struct cluster c = cluster_new(24, 4, 1);
    uint64_t gained = 0;
    uint64_t moved = 0;
    (void)state;

    struct place_table before = table_new(&c, 14, 6);
    c.targets[40].weight *= 2;
    struct place_table after = table_new(&c, 14, 6);
    for (uint32_t p = 0; p < 1u << 14; p++) {
        for (unsigned i = 0; i < 6; i++) {
            const uint16_t from = place_targets(&before, 6, p)[i];
            const uint16_t to = place_targets(&after, 6, p)[i];
            moved += from != to;
            gained += from != 40 && to == 40;
            assert_true(from == to || from != 40);
        }
    }
    assert_true(gained > 100);
    assert_in_range(moved * 100 / gained, 100, 150);
    table_free(&before);
    table_free(&after);
    cluster_free(&c);
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
        cmocka_unit_test(shards_are_spread_over_nodes_then_over_domains),
        cmocka_unit_test(a_target_that_is_out_counts_as_not_listed),
        cmocka_unit_test(a_node_that_joins_or_leaves_moves_little_else_and_loads_stay_even),
        cmocka_unit_test(what_moves_in_a_tight_cluster_is_bounded),
        cmocka_unit_test(more_weight_takes_shards_from_others_only),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(a_table_without_targets_names_none),
    };
    prng_seed(&prng, 1);
    return cmocka_run_group_tests_name("place_table", tests, NULL, NULL);
}
