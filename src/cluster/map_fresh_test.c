/* SPDX-License-Identifier: Apache-2.0 */
/* With leases, who has become clean counts only when everybody knows of it (R38, R46). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

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

static struct cluster_map *cluster(unsigned nodes, uint8_t k, uint8_t m, uint32_t lease_ms)
{
    struct cluster_map *map = test_map(nodes, 1, BITS);
    struct map_pool pool = test_pool("p", k, m);

    map->lease_ms = lease_ms;
    assert_int_equal(map_change_pool_create(map, &pool), 0);
    for (uint32_t i = 0; i < nodes; i++)
        up(map, i);
    assert_int_equal(map_change_publish(map), 0);
    return map;
}

/* n2 dies, returns, and catches up; then n0 and n1 are not heard any more. */
static struct cluster_map *two_are_lost_after_one_returned(uint32_t lease_ms, bool everybody_knew)
{
    struct cluster_map *map = cluster(3, 1, 2, lease_ms);

    assert_int_equal(map_change_node_down(map, "n2"), 0);
    assert_int_equal(map_change_publish(map), 0);
    assert_int_equal(map->targets[2].state, TARGET_DOWN);
    up(map, 2);
    assert_int_equal(map_change_publish(map), 0);
    assert_int_equal(map_change_target_clean(map, 2, map->nodes[2].incarnation, map->epoch), 0);
    assert_int_equal(map_change_publish(map), 0);
    assert_int_equal(map->targets[2].state, TARGET_CLEAN);
    assert_int_equal(cluster_map_unconfirmed(map), lease_ms != 0);
    if (everybody_knew) {
        assert_int_equal(map_change_confirm(map, map->epoch), 0);
        assert_int_equal(map_change_publish(map), 0);
    }
    assert_int_equal(map_change_node_down(map, "n0"), 0);
    assert_int_equal(map_change_node_down(map, "n1"), 0);
    assert_int_equal(map_change_publish(map), 0);
    return map;
}

static void nobody_goes_down_on_the_strength_of_one_that_they_may_not_know(void **state)
{
    (void)state;
    struct cluster_map *map = two_are_lost_after_one_returned(3000, false);
    assert_int_equal(map->targets[0].state, TARGET_CLEAN);
    assert_int_equal(map->targets[1].state, TARGET_CLEAN);
    assert_int_equal(cluster_map_unwritable_partitions(map), ROWS);
    /* Who returns has seen the map, and is clean at once. */
    up(map, 0);
    up(map, 1);
    assert_int_equal(map_change_publish(map), 0);
    assert_int_equal(cluster_map_unwritable_partitions(map), 0);
    cluster_map_free(map);

    map = two_are_lost_after_one_returned(3000, true);
    assert_int_equal(map->targets[0].state, TARGET_DOWN);
    assert_int_equal(map->targets[1].state, TARGET_DOWN);
    assert_int_equal(cluster_map_unwritable_partitions(map), 0);
    cluster_map_free(map);
}

static void without_leases_who_is_declared_dead_is_dead(void **state)
{
    (void)state;
    struct cluster_map *map = two_are_lost_after_one_returned(0, false);
    assert_int_equal(map->targets[0].state, TARGET_DOWN);
    assert_int_equal(cluster_map_unwritable_partitions(map), 0);
    cluster_map_free(map);
}

static void check_known(const struct cluster_map *map)
{
    for (uint32_t p = 0; p < ROWS; p++) {
        struct target_set set;
        cluster_map_partition_set(map, &map->pools[0], p, &set);
        const struct move_row *row =
            map->moves == NULL ? NULL : &map->moves->rows[set.width][p];
        uint16_t unknown = (uint16_t)(set.fresh | (row == NULL ? 0 : row->leaving));
        assert_true(target_set_count(set.clean & (uint16_t)~unknown) >= map->pools[0].k);
    }
}

static void positions_move_only_as_fast_as_everybody_hears_of_it(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(9, 4, 2, 3000);
    struct prng prng;
    uint64_t moved = 0;

    prng_seed(&prng, 9);
    for (int round = 0; round < 200; round++) {
        uint32_t rows[ROWS], t = (uint32_t)prng_below(&prng, 9);
        if (round % 20 == 0)
            for (uint32_t i = 0; i < 9; i++)
                (void)map_change_target_weight(map, i, 1 + (uint32_t)prng_below(&prng, 400));
        for (uint32_t p = 0; p < ROWS; p++)
            rows[p] = map_row_key(6, p);
        if (prng_chance(&prng, 1, 4))
            (void)map_change_confirm(map, map->epoch);
        moved += map_change_rows_moved(map, t, map->nodes[t].incarnation, map->epoch, rows, ROWS) == 0;
        assert_int_equal(map_change_publish(map), 0);
        check_known(map);
    }
    assert_true(moved > 20);
    cluster_map_free(map);
}

static void a_set_of_one_waits_for_who_left_it_and_may_not_know(void **state)
{
    (void)state;
    struct cluster_map *map = cluster(3, 1, 0, 3000);
    uint32_t row = UINT32_MAX;
    uint16_t old = 0, new = 0;

    assert_int_equal(map_change_node_drain(map, "n0", true), 0);
    assert_int_equal(map_change_publish(map), 0);
    for (uint32_t p = 0; p < ROWS && row == UINT32_MAX; p++)
        if (map->moves->rows[1][p].target[0] != PLACE_NONE) {
            row = p;
            old = map->table->rows[1][p].target[0];
            new = map->moves->rows[1][p].target[0];
        }
    uint32_t key = map_row_key(1, row);
    assert_int_equal(map_change_rows_moved(map, map->targets[new].id, map->nodes[new].incarnation,
                                           map->epoch, &key, 1), 0);
    assert_int_equal(map_change_publish(map), 0);
    struct target_set set;
    cluster_map_partition_set(map, &map->pools[0], row, &set);
    assert_true(target_set_writable(&set, &map->pools[0])); /* the one who leaves takes it too */
    assert_int_equal(map_change_node_down(map, map->nodes[old].name), 0);
    assert_int_equal(map_change_publish(map), 0);
    for (int i = 0; i < 2; i++) {
        cluster_map_partition_set(map, &map->pools[0], row, &set);
        assert_ptr_equal(set.targets[0], &map->targets[new]);
        assert_false(target_set_writable(&set, &map->pools[0]));
        (void)map_change_confirm(map, map->epoch);
        assert_int_equal(map_change_publish(map), 0);
    }
    up(map, old);
    assert_int_equal(map_change_publish(map), 0);
    cluster_map_partition_set(map, &map->pools[0], row, &set);
    assert_true(target_set_writable(&set, &map->pools[0]));
    assert_int_equal(map_change_confirm(map, map->epoch), 0);
    assert_int_equal(map_change_publish(map), 0);
    cluster_map_partition_set(map, &map->pools[0], row, &set);
    assert_true(set.leaving == 0 && set.fresh == 0);
    cluster_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_goes_down_on_the_strength_of_one_that_they_may_not_know),
        cmocka_unit_test(without_leases_who_is_declared_dead_is_dead),
        cmocka_unit_test(positions_move_only_as_fast_as_everybody_hears_of_it),
        cmocka_unit_test(a_set_of_one_waits_for_who_left_it_and_may_not_know),
    };
    return cmocka_run_group_tests_name("fresh members", tests, NULL, NULL);
}
