/* SPDX-License-Identifier: Apache-2.0 */
#include "place/table_test.h"

#include "shoal/error.h"

static struct prng prng;

/*
 * One row: nodes join and leave, one by one. Bounds in percent: what moves of the least that must,
 * and the fullest target of the best that the spread rules allow, after each.
 */
struct quality {
    unsigned nodes, per_node, unequal, width, bits;
    unsigned moved, fullest;
};

static struct place_table check_step(const struct quality *q, const struct cluster *was,
                                     struct place_table *before, const struct cluster *is)
{
    struct place_table after = table_balanced(is, before, q->bits, q->width);
    const struct movement m = table_movement(was, before, is, &after);

    assert_true(m.least > 0);
    assert_in_range(m.moved * 100 / m.least, 50, q->moved);
    assert_in_range(table_fullest(is, &after) * 100, 95, q->fullest);
    table_free(before);
    return after;
}

static void check_quality(const struct quality *q)
{
    struct cluster was = cluster_new(q->nodes + 1, q->per_node, q->unequal);
    struct cluster is = cluster_copy(&was);

    cluster_set_node(&was, q->nodes, false);
    struct place_table table = table_balanced(&was, NULL, q->bits, q->width);
    assert_in_range(table_fullest(&was, &table) * 100, 95, q->fullest);
    table = check_step(q, &was, &table, &is);
    cluster_set_node(&was, q->nodes, true);
    cluster_set_node(&is, q->nodes / 2, false);
    table = check_step(q, &was, &table, &is);
    cluster_set_node(&was, q->nodes / 2, false);
    cluster_set_node(&is, 0, false);
    table = check_step(q, &was, &table, &is);
    cluster_set_node(&was, 0, false);
    cluster_set_node(&is, q->nodes / 2, true);
    table = check_step(q, &was, &table, &is);
    table_free(&table);
    cluster_free(&was);
    cluster_free(&is);
}

static void a_node_that_joins_or_leaves_moves_little_else_and_loads_stay_even(void **state)
{
    static const struct quality rows[] = {
        /* nodes, targets of each, unequal, width, bits: moved, fullest */
        {3, 4, 0, 3, 12, 105, 105},   {3, 4, 4, 3, 12, 105, 105},   {6, 4, 0, 6, 13, 105, 105},
        {6, 4, 4, 6, 13, 105, 105},   {6, 16, 4, 6, 13, 105, 106},  {9, 4, 0, 6, 13, 105, 105},
        {9, 4, 4, 6, 13, 105, 105},   {12, 4, 0, 10, 13, 105, 105}, {12, 4, 4, 10, 13, 105, 105},
        {24, 4, 0, 3, 13, 105, 105},  {24, 4, 4, 6, 13, 105, 105},  {24, 16, 4, 6, 13, 105, 106},
        {24, 4, 4, 1, 13, 105, 107},  {96, 4, 0, 6, 13, 105, 106},  {96, 4, 4, 6, 13, 105, 106},
        {96, 32, 4, 6, 15, 105, 106},
        /* Several shards a node. */
        {3, 4, 0, 6, 12, 105, 105},   {3, 4, 4, 6, 12, 105, 105},   {6, 4, 0, 10, 12, 105, 105},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_quality(&rows[i]);
}

static void racks_are_even_and_move_little(void **state)
{
    struct cluster was = cluster_new(40, 4, 4);
    (void)state;

    for (size_t i = 0; i < was.count; i++)
        was.targets[i].domain = 1 + was.targets[i].node / 4;
    struct place_table before = table_balanced(&was, NULL, 13, 6);
    struct cluster is = cluster_copy(&was);
    cluster_set_node(&is, 17, false);
    struct place_table after = table_balanced(&is, &before, 13, 6);
    const struct movement m = table_movement(&was, &before, &is, &after);
    assert_in_range(m.moved * 100 / m.least, 90, 108);
    assert_in_range(table_fullest(&is, &after) * 100, 95, 106);
    table_free(&before);
    table_free(&after);
    cluster_free(&was);
    cluster_free(&is);
}

/* Three rows of four racks with four nodes each, six shards: two in each row, and never two in a rack. */
static void zones_are_even_and_move_little(void **state)
{
    struct cluster was = cluster_new(48, 4, 4);
    (void)state;

    for (size_t i = 0; i < was.count; i++) {
        was.targets[i].domain = 1 + was.targets[i].node / 4;
        was.targets[i].zone = 1 + was.targets[i].node / 16;
    }
    struct place_table before = table_balanced(&was, NULL, 13, 6);
    struct cluster is = cluster_copy(&was);
    cluster_set_node(&is, 17, false);
    struct place_table after = table_balanced(&is, &before, 13, 6);
    for (uint32_t p = 0; p < 1u << 13; p++) {
        unsigned in_zone[4] = {0}, in_domain[13] = {0};
        for (unsigned i = 0; i < 6; i++) {
            const struct place_target *t = &is.targets[table_rows(&after)[p].target[i]];
            assert_true(++in_zone[t->zone] <= 2 && ++in_domain[t->domain] <= 1);
        }
    }
    const struct movement m = table_movement(&was, &before, &is, &after);
    assert_in_range(m.moved * 100 / m.least, 90, 108);
    assert_in_range(table_fullest(&is, &after) * 100, 95, 106);
    table_free(&before);
    table_free(&after);
    cluster_free(&was);
    cluster_free(&is);
}

static void more_weight_takes_shards_from_others_only(void **state)
{
    struct cluster c = cluster_new(24, 4, 1);
    uint64_t gained = 0;
    uint64_t moved = 0;
    (void)state;

    struct place_table before = table_balanced(&c, NULL, 13, 6);
    c.targets[40].weight *= 2;
    struct place_table after = table_balanced(&c, &before, 13, 6);
    for (uint32_t p = 0; p < 1u << 13; p++) {
        for (unsigned i = 0; i < 6; i++) {
            const uint16_t from = table_rows(&before)[p].target[i];
            const uint16_t to = table_rows(&after)[p].target[i];
            moved += from != to;
            gained += from != 40 && to == 40;
            assert_true(from == to || from != 40);
        }
    }
    assert_true(gained > 100);
    assert_in_range(moved * 100 / gained, 100, 106);
    table_free(&before);
    table_free(&after);
    cluster_free(&c);
}

static void nothing_moves_when_nothing_changes(void **state)
{
    struct cluster c = cluster_new(9, 4, 4);
    (void)state;

    struct place_table before = table_balanced(&c, NULL, 11, 6);
    struct place_table after = table_balanced(&c, &before, 11, 6);
    assert_memory_equal(table_rows(&before), table_rows(&after), 32 << 11);
    table_free(&before);
    table_free(&after);
    cluster_free(&c);
}

/* Fixes carry a table: from what hashing gives and from them alone it is made again. */
static void check_fixes(const struct cluster *c, const struct place_table *table)
{
    const unsigned width = table_width(table);
    struct place_table hashed = table_new(c, table->bits, width);
    struct place_table again = table_new(c, table->bits, width);
    const size_t count = place_fixes(&hashed, table, NULL, 0);
    struct place_fix *fixes = calloc(count + 1, sizeof(*fixes));

    assert_non_null(fixes);
    assert_int_equal(place_fixes(&hashed, table, fixes, count), count);
    assert_int_equal(place_table_fix(&again, c->targets, c->count, fixes, count), 0);
    assert_memory_equal(table_rows(&again), table_rows(table), 32 << table->bits);
    free(fixes);
    table_free(&hashed);
    table_free(&again);
}

static void every_table_of_a_chain_keeps_the_spread_rules(void **state)
{
    (void)state;

    for (int round = 0; round < 150; round++) {
        const unsigned width = 1 + (unsigned)prng_below(&prng, PLACE_WIDTH_MAX);
        struct cluster c = random_cluster(&prng);
        struct place_table table = table_balanced(&c, NULL, 5, width);
        for (int step = 0; step < 8; step++) {
            struct place_verdict verdict;
            const int error = place_check(&verdict, c.targets, c.count, 1, width - 1);
            assert_int_equal(error, verdict.targets < width ? SHOAL_E_UNAVAILABLE : 0);
            for (uint32_t p = 0; p < 1u << 5; p++)
                check_set(&c, &table, p, &verdict);
            check_fixes(&c, &table);
            random_change(&prng, &c);
            struct place_table next = table_balanced(&c, &table, 5, width);
            table_free(&table);
            table = next;
        }
        table_free(&table);
        cluster_free(&c);
    }
}

static void fixes_that_cannot_be_are_refused(void **state)
{
    struct cluster c = cluster_new(6, 2, 1);
    struct place_table wanted = table_new(&c, 2, 3);
    struct place_fix fixes[2];
    (void)state;

    table_rows(&wanted)[1].target[0] = PLACE_NONE;
    table_rows(&wanted)[2].target[2] = PLACE_NONE;
    struct place_table hashed = table_new(&c, 2, 3);
    assert_int_equal(place_fixes(&hashed, &wanted, fixes, 2), 2);
    const struct place_fix good[2] = {fixes[0], fixes[1]};

    for (int wrong = 0; wrong < 7; wrong++) {
        struct place_table table = table_new(&c, 2, 3);
        memcpy(fixes, good, sizeof(fixes));
        c.targets[11].placeable = wrong != 6;
        switch (wrong) {
        case 0: /* none yet */
            break;
        case 1: /* out of order */
            fixes[0] = good[1];
            fixes[1] = good[0];
            break;
        case 2: /* beyond the width */
            fixes[1].cell |= 15;
            break;
        case 3: /* another width */
            fixes[1].cell += 1u << 26;
            break;
        case 4: /* no such target */
            fixes[1].target = 12;
            break;
        case 5: /* twice in a set */
            fixes[1].target = table_rows(&hashed)[2].target[0];
            break;
        default: /* out */
            fixes[1].target = 11;
        }
        assert_int_equal(place_table_fix(&table, c.targets, c.count, fixes, 2),
                         wrong == 0 ? 0 : SHOAL_E_INVALID);
        table_free(&table);
    }
    table_free(&wanted);
    table_free(&hashed);
    cluster_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_that_joins_or_leaves_moves_little_else_and_loads_stay_even),
        cmocka_unit_test(racks_are_even_and_move_little),
        cmocka_unit_test(zones_are_even_and_move_little),
        cmocka_unit_test(more_weight_takes_shards_from_others_only),
        cmocka_unit_test(nothing_moves_when_nothing_changes),
        cmocka_unit_test(every_table_of_a_chain_keeps_the_spread_rules),
        cmocka_unit_test(fixes_that_cannot_be_are_refused),
    };
    prng_seed(&prng, 1);
    return cmocka_run_group_tests_name("place_balance", tests, NULL, NULL);
}
