/* SPDX-License-Identifier: Apache-2.0 */
/* What a map in which positions move refuses: wrong words of members, bytes, and want of memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/macros.h"
#include "base/test_memory.h"
#include "cluster/cluster.h"
#include "cluster/test_map.h"
#include "shoal/error.h"

#define NODES 8u

static void up(struct cluster_map *map, uint32_t node)
{
    struct wire_item_enroll_target item = {.target = map->targets[node].id};
    uint32_t incarnation;
    CHECK(map_change_node_up(map, map->nodes[node].name, 1, &incarnation, &item, 1) == 0);
}

/* Seven nodes that serve two pools, and an eighth that is to take its share of them. */
static struct cluster_map *moving(void)
{
    struct cluster_map *map = test_map(NODES - 1, 1, 4);
    struct map_pool coded = test_pool("coded", 4, 2), copied = test_pool("copied", 1, 2);
    struct map_node node = {.name = "n7", .replication = "n7:data"};
    CHECK(map_change_pool_create(map, &coded) == 0);
    CHECK(map_change_pool_create(map, &copied) == 0);
    for (uint32_t i = 0; i < NODES - 1; i++)
        up(map, i);
    CHECK(map_change_publish(map) == 0);
    CHECK(map_change_node_add(map, &node) == 0);
    CHECK(map_change_target_add(map, NODES - 1, "n7", 100) == 0);
    up(map, NODES - 1);
    CHECK(map_change_publish(map) == 0);
    CHECK(map->moves != NULL && map->moves->arriving > 0 && map->holds_count > 1);
    return map;
}

/* A row that target 7 learns. */
static uint32_t learned_row(const struct cluster_map *map)
{
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++)
        for (uint32_t p = 0; map->moves->rows[width] != NULL && p < 16; p++)
            for (unsigned i = 0; i < width; i++)
                if (map->moves->rows[width][p].target[i] == NODES - 1)
                    return map_row_key(width, p);
    fail_msg("target 7 learns nothing");
    return 0;
}

static void a_position_moves_by_the_word_of_who_learned_it_now(void **state)
{
    (void)state;
    struct cluster_map *map = moving();
    uint32_t row = learned_row(map), incarnation = map->nodes[7].incarnation;
    const uint32_t nowhere[] = {map_row_key(0, 0), map_row_key(13, 0), map_row_key(6, 16),
                                map_row_key(5, 0)};
    assert_int_equal(map_change_rows_moved(map, 77, incarnation, map->epoch, &row, 1),
                     SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_rows_moved(map, 7, incarnation + 1, map->epoch, &row, 1),
                     SHOAL_E_STALE_EPOCH);
    assert_int_equal(map_change_rows_moved(map, 7, incarnation, map->epoch - 1, &row, 1),
                     SHOAL_E_STALE_EPOCH);
    map->targets[7].up = false;
    assert_int_equal(map_change_rows_moved(map, 7, incarnation, map->epoch, &row, 1),
                     SHOAL_E_STALE_EPOCH);
    map->targets[7].up = true;
    map->targets[7].state = TARGET_LEARNER;
    assert_int_equal(map_change_rows_moved(map, 7, incarnation, map->epoch, &row, 1),
                     SHOAL_E_STALE_EPOCH);
    map->targets[7].state = TARGET_CLEAN;
    assert_int_equal(map_change_rows_moved(map, 7, incarnation, map->epoch, nowhere,
                                           ARRAY_LEN(nowhere)), SHOAL_E_EXISTS);
    assert_int_equal(map_change_rows_moved(map, 7, incarnation, map->epoch, &row, 1), 0);
    assert_int_equal(map_change_rows_moved(map, 7, incarnation, map->epoch, &row, 1),
                     SHOAL_E_EXISTS);
    cluster_map_free(map);
}

static void a_position_is_left_once_everybody_knows_the_newest_map(void **state)
{
    (void)state;
    struct cluster_map *map = moving();
    uint32_t row = learned_row(map);
    assert_int_equal(map_change_rows_moved(map, 7, map->nodes[7].incarnation, map->epoch, &row, 1),
                     0);
    assert_int_equal(map_change_publish(map), 0);
    assert_int_equal(map->moves->leaving, 1);
    assert_true(cluster_map_unconfirmed(map));
    assert_int_equal(map_change_confirm(map, map->epoch - 1), SHOAL_E_STALE_EPOCH);
    assert_int_equal(map_change_confirm(map, map->epoch), 0);
    assert_int_equal(map_change_confirm(map, map->epoch), SHOAL_E_EXISTS);
    assert_int_equal(map_change_publish(map), 0);
    assert_int_equal(map->moves->leaving, 0);
    assert_false(cluster_map_unconfirmed(map));
    cluster_map_free(map);
}

static void what_is_not_there_is_not_drained_weighed_or_out(void **state)
{
    (void)state;
    struct cluster_map *map = moving();
    assert_int_equal(map_change_node_drain(map, "none", true), SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_node_drain(map, "n0", false), SHOAL_E_EXISTS);
    assert_int_equal(map_change_node_remove(map, "none"), SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_node_remove(map, "n0"), SHOAL_E_CONDITION);
    assert_int_equal(map_change_target_weight(map, 77, 1), SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_target_out(map, 77, true), SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_target_out(map, 0, true), SHOAL_E_INVALID); /* it is up */
    /* Eight nodes for six shards: two may go, no third. */
    assert_int_equal(map_change_node_drain(map, "n0", true), 0);
    assert_int_equal(map_change_target_weight(map, 1, 0), 0);
    assert_int_equal(map_change_target_weight(map, 2, 0), SHOAL_E_CONDITION);
    assert_int_equal(map_change_node_drain(map, "n2", true), SHOAL_E_CONDITION);
    assert_int_equal(map->targets[2].weight, 100);
    assert_false(map->nodes[2].draining);
    cluster_map_free(map);
}

static void no_more_than_one_failure_domain_is_out(void **state)
{
    (void)state;
    struct cluster_map *map = moving();
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(map_change_node_down(map, map->nodes[i].name), 0);
        assert_int_equal(map_change_publish(map), 0);
        assert_int_equal(map->targets[i].state, TARGET_DOWN);
    }
    assert_int_equal(map_change_target_out(map, 0, true), 0);
    assert_int_equal(map_change_target_out(map, 1, true), SHOAL_E_CONDITION);
    map->nodes[0].rack = map->nodes[1].rack = 9;
    assert_int_equal(map_change_target_out(map, 1, true), 0);
    cluster_map_free(map);
}

/* ---- bytes and memory ---- */

static uint8_t bytes[65536];

/* Encoded, decoded and placed, as at another node. */
static int passed_on(const struct cluster_map *map)
{
    struct cluster_map *back = NULL;
    size_t len = cluster_map_encode(map, bytes, sizeof bytes);
    CHECK(len > 0);
    int error = cluster_map_decode(bytes, len, &back);
    if (error == 0)
        error = cluster_map_place(back, NULL);
    cluster_map_free(back);
    return error;
}

#define REFUSED(change)                                                                            \
    do {                                                                                           \
        struct cluster_map *map = moving();                                                        \
        struct map_hold *hold = map->holds;                                                        \
        assert_int_equal(passed_on(map), 0);                                                       \
        change;                                                                                    \
        assert_int_equal(passed_on(map), SHOAL_E_INVALID);                                         \
        cluster_map_free(map);                                                                     \
    } while (0)

static void holds_that_cannot_be_are_refused(void **state)
{
    (void)state;
    REFUSED(hold[1].key = hold[0].key);
    REFUSED(hold[0].key = hold[1].key + 1);
    REFUSED(hold[0].target = NODES);
    REFUSED(hold[map->holds_count - 1].key = 31u << 27);
    REFUSED(hold[map->holds_count - 1].key |= 15u << 1); /* a position behind the last */
}

static int use(const struct cluster_map *map)
{
    struct cluster_map *copy = cluster_map_copy(map);
    uint32_t row = learned_row(map);
    int error = copy == NULL ? SHOAL_E_NO_MEMORY : 0;
    if (error == 0)
        error = map_change_rows_moved(copy, 7, copy->nodes[7].incarnation, copy->epoch, &row, 1);
    if (error == 0)
        error = map_change_node_down(copy, "n1");
    if (error == 0)
        error = map_change_publish(copy);
    if (error == 0)
        error = map_change_target_out(copy, 1, true);
    if (error == 0)
        error = map_change_node_drain(copy, "n2", true);
    if (error == 0)
        error = map_change_target_weight(copy, 3, 50);
    if (error == 0)
        error = map_change_publish(copy);
    if (error == 0)
        error = passed_on(copy);
    if (error == 0 && map_change_node_remove(copy, "n2") == SHOAL_E_NO_MEMORY)
        error = SHOAL_E_NO_MEMORY;
    cluster_map_free(copy);
    return error;
}

static void a_map_that_moves_without_memory_is_none(void **state)
{
    (void)state;
    struct cluster_map *map = moving();
    uint64_t nth = 0;
    for (;;) {
        memory_fail_after(++nth);
        int error = use(map);
        if (!memory_fail_fired()) {
            assert_int_equal(error, 0);
            break;
        }
        assert_int_equal(error, SHOAL_E_NO_MEMORY);
    }
    assert_true(nth > 40);
    assert_int_equal(passed_on(map), 0);
    cluster_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_position_moves_by_the_word_of_who_learned_it_now),
        cmocka_unit_test(a_position_is_left_once_everybody_knows_the_newest_map),
        cmocka_unit_test(what_is_not_there_is_not_drained_weighed_or_out),
        cmocka_unit_test(no_more_than_one_failure_domain_is_out),
        cmocka_unit_test(holds_that_cannot_be_are_refused),
        cmocka_unit_test(a_map_that_moves_without_memory_is_none),
    };
    return cmocka_run_group_tests_name("map moves refusal", tests, NULL, NULL);
}
