/* SPDX-License-Identifier: Apache-2.0 */
/* Moves as pure changes of a map: a small cluster whose learners learn at once, or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/random.h"
#include "cluster/cluster.h"
#include "cluster/test_map.h"
#include "shoal/error.h"

#define BITS 6u
#define ROWS (1u << BITS)

static void up(struct cluster_map *map, uint32_t node)
{
    struct wire_item_enroll_target items[4];
    unsigned count = 0;
    uint32_t incarnation;
    for (uint32_t t = 0; t < map->targets_count; t++)
        if (map->targets[t].node == node)
            items[count++] = (struct wire_item_enroll_target){.target = map->targets[t].id};
    assert_int_equal(map_change_node_up(map, map->nodes[node].name, 0, &incarnation, items, count),
                     0);
}

static void add_node(struct cluster_map *map, const char *name, uint32_t target)
{
    struct map_node node = {.rack = 0};
    snprintf(node.name, sizeof node.name, "%s", name);
    snprintf(node.replication, sizeof node.replication, "%s:1", name);
    assert_int_equal(map_change_node_add(map, &node), 0);
    assert_int_equal(map_change_target_add(map, target, name, 100), 0);
    up(map, map->nodes_count - 1);
}

static struct cluster_map *cluster(unsigned nodes)
{
    struct cluster_map *map = test_map(nodes, 1, BITS);
    struct map_pool coded = test_pool("coded", 4, 2), copies = test_pool("copies", 1, 2);
    assert_int_equal(map_change_pool_create(map, &coded), 0);
    assert_int_equal(map_change_pool_create(map, &copies), 0);
    for (uint32_t i = 0; i < nodes; i++)
        up(map, i);
    assert_int_equal(map_change_publish(map), 0);
    return map;
}

/* The next epoch, as everybody else gets it: encoded, decoded, placed. */
static void publish(struct cluster_map **map)
{
    struct cluster_map *next = cluster_map_copy(*map), *back = NULL, *fresh = NULL;
    assert_non_null(next);
    assert_int_equal(map_change_publish(next), 0);
    size_t room = cluster_map_encoded_size(next);
    uint8_t *bytes = malloc(room);
    size_t len = cluster_map_encode(next, bytes, room);
    assert_true(len > 0);
    assert_int_equal(cluster_map_decode(bytes, len, &back), 0);
    assert_int_equal(cluster_map_decode(bytes, len, &fresh), 0);
    assert_int_equal(cluster_map_place(back, *map), 0);
    assert_int_equal(cluster_map_place(fresh, NULL), 0); /* as who knew no map before */
    for (unsigned w = 1; w <= PLACE_WIDTH_MAX; w++) {
        if (next->table->rows[w] == NULL)
            continue;
        for (uint32_t p = 0; p < ROWS; p++) {
            assert_memory_equal(next->table->rows[w][p].target, back->table->rows[w][p].target,
                                2 * PLACE_WIDTH_MAX);
            assert_memory_equal(next->table->rows[w][p].target, fresh->table->rows[w][p].target,
                                2 * PLACE_WIDTH_MAX);
            if (next->moves != NULL)
                assert_memory_equal(next->moves->rows[w][p].target,
                                    back->moves->rows[w][p].target, 2 * PLACE_WIDTH_MAX);
        }
    }
    free(bytes);
    cluster_map_free(fresh);
    cluster_map_free(next);
    cluster_map_free(*map);
    *map = back;
}

/* In every row: nobody twice, those beside included; what moves, moves from somebody else. */
static void check_rows(const struct cluster_map *map)
{
    for (uint32_t i = 0; i < map->pools_count; i++)
        for (uint32_t p = 0; p < ROWS; p++) {
            struct target_set set;
            const struct map_target *seen[2 * BLOB_SET_MAX];
            unsigned count = 0;
            cluster_map_partition_set(map, &map->pools[i], p, &set);
            for (unsigned j = 0; j < set.width; j++) {
                if (set.targets[j] != NULL)
                    seen[count++] = set.targets[j];
                if (set.beside[j] != NULL)
                    seen[count++] = set.beside[j];
            }
            for (unsigned a = 0; a < count; a++)
                for (unsigned b = 0; b < a; b++)
                    assert_ptr_not_equal(seen[a], seen[b]);
            assert_true((set.leaving & ~set.moving) == 0);
        }
}

/* Every learner that may has learned everything; and every node has adopted the newest map. */
static void step(struct cluster_map **map)
{
    struct cluster_map *next = *map;
    uint64_t epoch = next->epoch;
    uint32_t rows[2 * ROWS];
    unsigned count = 0;
    (void)map_change_confirm(next, epoch);
    for (uint32_t p = 0; p < ROWS; p++) {
        rows[count++] = map_row_key(6, p);
        rows[count++] = map_row_key(3, p);
    }
    for (uint32_t t = 0; t < next->targets_count; t++)
        (void)map_change_rows_moved(next, next->targets[t].id,
                                    next->nodes[next->targets[t].node].incarnation, epoch, rows,
                                    count);
    publish(map);
    check_rows(*map);
}

static uint32_t serves(const struct cluster_map *map, uint32_t target)
{
    struct target_places *places = calloc(map->targets_count, sizeof *places);
    assert_non_null(places);
    cluster_map_places(map, places);
    uint32_t count = places[target].serves + places[target].leaves;
    free(places);
    return count;
}

static uint32_t moving(const struct cluster_map *map)
{
    return map->moves == NULL ? 0 : (uint32_t)(map->moves->arriving + map->moves->leaving);
}

static void a_new_node_takes_its_share_and_little_else_moves(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(6);
    add_node(map, "n6", 6);
    publish(&map);
    uint32_t moves = moving(map);
    assert_true(moves > 0);
    assert_int_equal(serves(map, 6), 0);
    assert_int_equal(cluster_map_degraded_partitions(map), 0);
    /* The learner takes writes and is no member otherwise. */
    struct target_set set;
    cluster_map_partition_set(map, &map->pools[0], 0, &set);
    assert_int_equal(set.clean, 0x3f);
    for (int i = 0; i < 4; i++)
        step(&map);
    assert_int_equal(moving(map), 0);
    /* Little else but what it has now was moved. */
    assert_true(moves >= serves(map, 6) && moves * 10 <= serves(map, 6) * 11);
    assert_int_equal(cluster_map_degraded_partitions(map), 0);
    cluster_map_free(map);
}

static void what_left_a_position_takes_writes_until_it_knows(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(6);
    add_node(map, "n6", 6);
    publish(&map);
    struct target_set set;
    uint32_t p = 0;
    for (;; p++) {
        cluster_map_partition_set(map, &map->pools[0], p, &set);
        if (set.moving != 0)
            break;
    }
    unsigned at = (unsigned)__builtin_ctz(set.moving);
    const uint32_t old = set.targets[at]->id, row = map_row_key(6, p);
    assert_int_equal(set.leaving, 0);
    assert_int_equal(set.beside[at]->id, 6);
    uint32_t incarnation = map->nodes[6].incarnation;
    assert_int_equal(map_change_rows_moved(map, 6, incarnation + 1, map->epoch, &row, 1),
                     SHOAL_E_STALE_EPOCH);
    assert_int_equal(map_change_rows_moved(map, 6, incarnation, map->epoch - 1, &row, 1),
                     SHOAL_E_STALE_EPOCH);
    assert_int_equal(map_change_rows_moved(map, 6, incarnation, map->epoch, &row, 1), 0);
    publish(&map);
    cluster_map_partition_set(map, &map->pools[0], p, &set);
    assert_int_equal(set.targets[at]->id, 6);
    assert_int_equal(set.beside[at]->id, old);
    assert_int_equal(set.leaving, 1u << at);
    /* Somebody is at an older epoch still. */
    assert_true(cluster_map_unconfirmed(map));
    assert_int_equal(map_change_confirm(map, map->epoch - 1), SHOAL_E_STALE_EPOCH);
    assert_int_equal(map_change_confirm(map, map->epoch), 0);
    publish(&map);
    cluster_map_partition_set(map, &map->pools[0], p, &set);
    assert_int_equal(set.leaving, 0);
    assert_null(set.beside[at]);
    cluster_map_free(map);
}

static void a_learner_of_its_own_may_not_take_over(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(6);
    add_node(map, "n6", 6);
    publish(&map);
    step(&map);
    assert_int_equal(map_change_node_down(map, "n6"), 0);
    publish(&map);
    assert_int_equal(map->targets[6].state, TARGET_DOWN);
    up(map, 6);
    assert_int_equal(map->targets[6].state, TARGET_LEARNER);
    uint32_t rows[ROWS];
    for (uint32_t p = 0; p < ROWS; p++)
        rows[p] = map_row_key(6, p);
    assert_int_equal(
        map_change_rows_moved(map, 6, map->nodes[6].incarnation, map->epoch, rows, ROWS),
        SHOAL_E_STALE_EPOCH);
    cluster_map_free(map);
}

static void a_drained_node_ends_with_nothing_and_never_degrades(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(8);
    assert_int_equal(map_change_node_remove(map, "n3"), SHOAL_E_CONDITION);
    assert_int_equal(map_change_node_drain(map, "n3", true), 0);
    assert_int_equal(map_change_node_drain(map, "n3", true), SHOAL_E_EXISTS);
    publish(&map);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(cluster_map_degraded_partitions(map), 0);
        step(&map);
    }
    assert_int_equal(serves(map, 3), 0);
    assert_int_equal(moving(map), 0);
    assert_int_equal(map_change_node_remove(map, "n3"), 0);
    publish(&map);
    assert_true(map->nodes[3].removed);
    /* It can come again under its name. */
    struct map_node node = {.name = "n3"};
    assert_int_equal(map_change_node_add(map, &node), 0);
    assert_int_equal(map->nodes_count, 8);
    cluster_map_free(map);
}

static void a_drain_that_is_undone_moves_back_what_has_moved(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(8);
    uint32_t had = serves(map, 3);
    assert_int_equal(map_change_node_drain(map, "n3", true), 0);
    publish(&map);
    step(&map);
    assert_int_equal(map_change_node_drain(map, "n3", false), 0);
    publish(&map);
    for (int i = 0; i < 6; i++)
        step(&map);
    assert_int_equal(moving(map), 0);
    assert_int_equal(serves(map, 3), had);
    assert_int_equal(map->holds_count, 0);
    cluster_map_free(map);
}

static void too_few_nodes_cannot_be_drained(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(6);
    assert_int_equal(map_change_node_drain(map, "n3", true), SHOAL_E_CONDITION);
    assert_false(map->nodes[3].draining);
    assert_int_equal(map_change_target_weight(map, 3, 0), SHOAL_E_CONDITION);
    assert_int_equal(map->targets[3].weight, 100);
    cluster_map_free(map);
}

static void what_is_out_is_rebuilt_elsewhere_and_comes_back_as_a_joiner(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(7);
    uint32_t had = serves(map, 2);
    assert_int_equal(map_change_target_out(map, 2, true), SHOAL_E_INVALID);
    assert_int_equal(map_change_node_down(map, "n2"), 0);
    publish(&map);
    assert_int_equal(map->targets[2].state, TARGET_DOWN);
    assert_int_equal(moving(map), 0);
    assert_int_equal(map_change_target_out(map, 2, true), 0);
    publish(&map);
    assert_int_equal(serves(map, 2), 0);
    assert_true(moving(map) >= had);
    for (int i = 0; i < 4; i++)
        step(&map);
    assert_int_equal(moving(map), 0);
    assert_int_equal(cluster_map_degraded_partitions(map), 0);
    /* No other domain goes out by itself meanwhile, nor where nobody could take over. */
    assert_int_equal(map_change_node_down(map, "n1"), 0);
    publish(&map);
    assert_int_equal(map_change_target_out(map, 1, true), SHOAL_E_CONDITION);
    up(map, 1);
    up(map, 2);
    assert_int_equal(map->targets[2].state, TARGET_CLEAN);
    publish(&map);
    assert_int_equal(serves(map, 2), 0);
    assert_true(moving(map) > 0);
    assert_int_equal(map_change_target_clean(map, 1, map->nodes[1].incarnation, map->epoch), 0);
    publish(&map);
    for (int i = 0; i < 6; i++)
        step(&map);
    assert_true(serves(map, 2) * 10 >= had * 9 && serves(map, 2) * 10 <= had * 11);
    assert_int_equal(cluster_map_degraded_partitions(map), 0);
    cluster_map_free(map);
}

/* Both in one epoch: it was out, and missed writes. */
static void what_returns_as_it_goes_out_serves_nothing_either(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(7);
    assert_int_equal(map_change_node_down(map, "n2"), 0);
    publish(&map);
    assert_int_equal(map_change_target_out(map, 2, true), 0);
    up(map, 2);
    publish(&map);
    assert_int_equal(map->targets[2].state, TARGET_CLEAN);
    assert_int_equal(serves(map, 2), 0);
    assert_true(moving(map) > 0);
    cluster_map_free(map);
}

static struct cluster_map *with_cache(void)
{
    struct cluster_map *map = cluster(7);
    struct map_pool cache = test_pool("cache", 1, 0);
    cache.cache = true;
    assert_int_equal(map_change_pool_create(map, &cache), 0);
    publish(&map);
    return map;
}

/* R47: what nobody else has of a cache is given up later than the rest, once nobody is in its company. */
static void sets_of_one_are_given_up_when_their_target_is_alone(void **state)
{
    (void)state;
    struct cluster_map *map = with_cache();
    assert_int_equal(map_change_node_down(map, "n2"), 0);
    publish(&map);
    assert_int_equal(map_change_target_out(map, 2, false), 0);
    publish(&map);
    assert_true(serves(map, 2) > 0 && cluster_map_keeps_ones(map, &map->targets[2]));
    assert_int_equal(map_change_target_out(map, 2, false), SHOAL_E_INVALID);
    assert_int_equal(map_change_target_out(map, 2, true), 0);
    publish(&map);
    assert_int_equal(serves(map, 2), 0);
    assert_false(cluster_map_keeps_ones(map, &map->targets[2]));
    assert_int_equal(map_change_target_out(map, 2, true), SHOAL_E_INVALID);
    cluster_map_free(map);
}

/* Or when somebody who knows that the node is dead removes it. */
static void sets_of_one_are_given_up_with_their_dead_node(void **state)
{
    (void)state;
    struct cluster_map *map = with_cache();
    assert_int_equal(map_change_node_remove(map, "n2"), SHOAL_E_CONDITION);
    assert_int_equal(map_change_node_down(map, "n2"), 0);
    publish(&map);
    assert_int_equal(map_change_node_remove(map, "n2"), SHOAL_E_CONDITION);
    assert_int_equal(map_change_target_out(map, 2, false), 0);
    publish(&map);
    assert_true(serves(map, 2) > 0);
    assert_int_equal(map_change_node_remove(map, "n2"), 0);
    publish(&map);
    assert_int_equal(serves(map, 2), 0);
    cluster_map_free(map);
}

static void without_a_free_node_nothing_goes_out(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(6);
    assert_int_equal(map_change_node_down(map, "n2"), 0);
    publish(&map);
    assert_int_equal(map_change_target_out(map, 2, true), SHOAL_E_CONDITION);
    assert_int_equal(map->targets[2].state, TARGET_DOWN);
    cluster_map_free(map);
}

/* Whatever changes in whatever order, rows stay right, and when it ends everything comes to rest. */
static void changes_upon_changes_come_to_rest(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 25; seed++) {
        struct prng prng;
        prng_seed(&prng, seed);
        struct cluster_map *map = cluster(8);
        uint32_t joined = 8;
        for (int round = 0; round < 60; round++) {
            uint32_t n = (uint32_t)prng_below(&prng, map->nodes_count);
            const char *name = map->nodes[n].name;
            switch (prng_below(&prng, 8)) {
            case 0:
                (void)map_change_node_drain(map, name, prng_chance(&prng, 1, 2));
                break;
            case 1:
                (void)map_change_target_weight(map, n, (uint32_t)prng_below(&prng, 300));
                break;
            case 2:
                if (joined < 12) {
                    char new_name[16];
                    snprintf(new_name, sizeof new_name, "n%u", joined);
                    add_node(map, new_name, joined++);
                }
                break;
            case 3:
                (void)map_change_node_down(map, name);
                break;
            case 4:
                if (!map->targets[n].up && !map->nodes[n].removed)
                    up(map, n);
                break;
            case 5:
                (void)map_change_target_clean(map, n, map->nodes[n].incarnation, map->epoch);
                break;
            case 6:
                (void)map_change_target_out(map, n, true);
                break;
            default:
                (void)map_change_node_remove(map, name);
                break;
            }
            if (prng_chance(&prng, 1, 2))
                publish(&map);
            if (prng_chance(&prng, 1, 3))
                step(&map);
            check_rows(map);
            for (uint32_t i = 0; i < map->pools_count; i++)
                for (uint32_t p = 0; p < ROWS; p++) {
                    struct target_set set;
                    cluster_map_partition_set(map, &map->pools[i], p, &set);
                    assert_true(target_set_count(set.clean) >= map->pools[i].k);
                }
        }
        for (int i = 0; i < 12; i++) {
            for (uint32_t n = 0; n < map->nodes_count; n++) {
                if (!map->targets[n].up && !map->nodes[n].removed)
                    up(map, n);
                (void)map_change_target_clean(map, n, map->nodes[n].incarnation, map->epoch);
            }
            step(&map);
        }
        assert_int_equal(moving(map), 0);
        assert_int_equal(cluster_map_degraded_partitions(map), 0);
        cluster_map_free(map);
    }
}

static unsigned most_on_a_node(const struct target_set *set)
{
    unsigned most = 0;
    for (unsigned i = 0; i < set->width; i++) {
        unsigned same = 0;
        for (unsigned j = 0; j < set->width; j++)
            same += set->targets[i] != NULL && set->targets[j] != NULL &&
                    set->targets[i]->node == set->targets[j]->node;
        most = most < same ? same : most;
    }
    return most;
}

/* Rows move one by one, in any order: no node ever has two shards of one. */
static void a_row_is_never_spread_worse_while_it_moves(void **state)
{
    (void)state;
    struct cluster_map *map = test_map(8, 2, BITS);
    struct map_pool pool = test_pool("coded", 4, 2);
    struct prng prng;
    prng_seed(&prng, 5);
    assert_int_equal(map_change_pool_create(map, &pool), 0);
    for (uint32_t i = 0; i < 8; i++)
        up(map, i);
    assert_int_equal(map_change_publish(map), 0);
    for (int round = 0; round < 400; round++) {
        if (round % 50 == 0)
            for (uint32_t t = 0; t < 16; t++)
                (void)map_change_target_weight(map, t, 1 + (uint32_t)prng_below(&prng, 400));
        uint32_t rows[ROWS], t = (uint32_t)prng_below(&prng, 16);
        unsigned count = 0;
        for (uint32_t p = 0; p < ROWS; p++)
            if (prng_chance(&prng, 1, 2))
                rows[count++] = map_row_key(6, p);
        (void)map_change_confirm(map, map->epoch);
        (void)map_change_rows_moved(map, t, map->nodes[map->targets[t].node].incarnation,
                                    map->epoch, rows, count);
        publish(&map);
        check_rows(map);
        for (uint32_t p = 0; p < ROWS; p++) {
            struct target_set set;
            cluster_map_partition_set(map, &map->pools[0], p, &set);
            assert_int_equal(most_on_a_node(&set), 1);
        }
    }
    cluster_map_free(map);
}

static void holds_that_fit_no_table_are_refused(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(8);
    assert_int_equal(map_change_node_drain(map, "n1", true), 0);
    publish(&map);
    assert_true(map->holds_count > 0);
    struct map_hold *hold = &map->holds[map->holds_count - 1];
    const struct map_hold right = *hold;
    hold->key |= 0xf << 1; /* a position beyond the width */
    assert_int_equal(cluster_map_place(map, NULL), SHOAL_E_INVALID);
    *hold = right;
    hold->key |= 1u << (5 + BITS); /* a partition that there is not */
    assert_int_equal(cluster_map_place(map, NULL), SHOAL_E_INVALID);
    *hold = right;
    hold->target = hold->placed; /* or somebody who serves there already */
    for (uint16_t t = 0; t < 8; t++)
        hold->target = t != right.target && t != right.placed ? t : hold->target;
    (void)cluster_map_place(map, NULL);
    *hold = right;
    assert_int_equal(cluster_map_place(map, NULL), 0);
    cluster_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_node_takes_its_share_and_little_else_moves),
        cmocka_unit_test(what_left_a_position_takes_writes_until_it_knows),
        cmocka_unit_test(a_learner_of_its_own_may_not_take_over),
        cmocka_unit_test(a_drained_node_ends_with_nothing_and_never_degrades),
        cmocka_unit_test(a_drain_that_is_undone_moves_back_what_has_moved),
        cmocka_unit_test(too_few_nodes_cannot_be_drained),
        cmocka_unit_test(what_is_out_is_rebuilt_elsewhere_and_comes_back_as_a_joiner),
        cmocka_unit_test(what_returns_as_it_goes_out_serves_nothing_either),
        cmocka_unit_test(sets_of_one_are_given_up_when_their_target_is_alone),
        cmocka_unit_test(sets_of_one_are_given_up_with_their_dead_node),
        cmocka_unit_test(without_a_free_node_nothing_goes_out),
        cmocka_unit_test(changes_upon_changes_come_to_rest),
        cmocka_unit_test(a_row_is_never_spread_worse_while_it_moves),
        cmocka_unit_test(holds_that_fit_no_table_are_refused),
    };
    return cmocka_run_group_tests_name("moves", tests, NULL, NULL);
}
