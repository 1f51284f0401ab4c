/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "cluster/cluster.h"
#include "cluster/test_map.h"
#include "shoal/error.h"

static int move(struct cluster_map *map, const char *first, const char *second, const char *rack,
                const char *row)
{
    const char *nodes[] = {first, second};
    const struct map_move ask = {
        .nodes = nodes, .count = second == NULL ? 1 : 2, .rack = rack, .row = row};
    return map_change_nodes_move(map, &ask);
}

static void assert_stands(const struct cluster_map *map, unsigned node, const char *rack,
                          const char *row)
{
    assert_string_equal(cluster_map_rack(map, &map->nodes[node]), rack);
    assert_string_equal(cluster_map_row(map, &map->nodes[node]), row);
}

static void a_name_keeps_its_number(void **state)
{
    struct cluster_map *map = test_map(4, 1, 4);
    (void)state;
    assert_int_equal(move(map, "n0", "n1", "a", NULL), 0);
    assert_int_equal(move(map, "n2", "n3", "b", NULL), 0);
    assert_int_equal(map->nodes[1].rack, 1);
    assert_int_equal(map->nodes[3].rack, 2);
    /* Nobody is in a for a while; it comes back to its places. */
    assert_int_equal(move(map, "n0", "n1", "b", NULL), 0);
    assert_int_equal(move(map, "n1", NULL, "a", NULL), 0);
    assert_int_equal(map->nodes[1].rack, 1);
    /* Then another name may have what none has. */
    assert_int_equal(move(map, "n1", NULL, "", NULL), 0);
    assert_stands(map, 1, "", "");
    assert_int_equal(move(map, "n1", NULL, "c", NULL), 0);
    assert_int_equal(map->nodes[1].rack, 1);
    assert_stands(map, 1, "c", "");
    cluster_map_free(map);
}

static void a_rack_stands_in_one_row(void **state)
{
    struct cluster_map *map = test_map(5, 1, 4);
    (void)state;
    assert_int_equal(move(map, "n0", "n1", "a", "east"), 0);
    assert_int_equal(move(map, "n2", NULL, "a", NULL), 0); /* where the others of it are */
    assert_stands(map, 2, "a", "east");
    assert_int_equal(move(map, "n3", NULL, "a", "west"), SHOAL_E_CONDITION);
    assert_stands(map, 3, "", "");
    assert_int_equal(move(map, "n0", NULL, NULL, "west"), SHOAL_E_CONDITION);
    assert_int_equal(move(map, "n0", "n1", NULL, "west"), SHOAL_E_CONDITION);
    assert_stands(map, 0, "a", "east");
    assert_int_equal(move(map, "n2", NULL, "b", "west"), 0);
    assert_int_equal(move(map, "n0", "n1", NULL, "west"), 0); /* all of it */
    assert_stands(map, 1, "a", "west");
    assert_int_equal(move(map, "n4", NULL, NULL, "east"), 0); /* a row without a rack */
    assert_stands(map, 4, "", "east");
    cluster_map_free(map);
}

static void what_cannot_be_is_refused_and_changes_nothing(void **state)
{
    static const char *const names[] = {"two words", "quo\"te", "tab\t", "back\\slash"};
    struct cluster_map *map = test_map(3, 1, 4);
    char longer[CLUSTER_NAME_MAX + 1];
    (void)state;
    memset(longer, 'x', CLUSTER_NAME_MAX);
    longer[CLUSTER_NAME_MAX] = 0;
    assert_int_equal(move(map, "n0", "n9", "a", NULL), SHOAL_E_NOT_FOUND);
    assert_int_equal(move(map, "n0", NULL, longer, NULL), SHOAL_E_INVALID);
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(move(map, "n0", NULL, "a", names[i]), SHOAL_E_INVALID);
    assert_stands(map, 0, "", "");
    const char *many[MAP_MOVE_MAX + 1];
    for (unsigned i = 0; i <= MAP_MOVE_MAX; i++)
        many[i] = "n0";
    const struct map_move ask = {.nodes = many, .count = MAP_MOVE_MAX + 1, .rack = "a"};
    assert_int_equal(map_change_nodes_move(map, &ask), SHOAL_E_TOO_LARGE);
    cluster_map_free(map);
}

static size_t encode(const struct cluster_map *map, uint8_t *bytes, size_t room)
{
    assert_true(cluster_map_encoded_size(map) <= room);
    size_t len = cluster_map_encode(map, bytes, room);
    assert_true(len > 0);
    return len;
}

static void a_map_of_nothing_can_be_encoded(void **state)
{
    static uint8_t bytes[65536];
    struct cluster_map *map = cluster_map_create();
    (void)state;
    size_t len = encode(map, bytes, sizeof bytes);
    assert_true(len <= cluster_map_encoded_size(map));
    cluster_map_free(map);
}

static void names_travel_with_the_map(void **state)
{
    static uint8_t bytes[65536];
    struct cluster_map *map = test_map(3, 1, 4), *copy, *back;
    (void)state;
    assert_int_equal(move(map, "n0", "n1", "a", "east"), 0);
    assert_int_equal(move(map, "n2", NULL, "b", "west"), 0);
    copy = cluster_map_copy(map);
    assert_non_null(copy);
    assert_stands(copy, 2, "b", "west");
    size_t len = encode(copy, bytes, sizeof bytes);
    assert_int_equal(cluster_map_decode(bytes, len, &back), 0);
    assert_stands(back, 1, "a", "east");
    assert_stands(back, 2, "b", "west");
    cluster_map_free(back);
    /* A name twice is no name. */
    copy->racks.list[1][0] = 'a';
    len = encode(copy, bytes, sizeof bytes);
    assert_int_equal(cluster_map_decode(bytes, len, &back), SHOAL_E_INVALID);
    copy->racks.list[1][0] = ' ';
    len = encode(copy, bytes, sizeof bytes);
    assert_int_equal(cluster_map_decode(bytes, len, &back), SHOAL_E_INVALID);
    cluster_map_free(map);
    cluster_map_free(copy);
}

/* Nine nodes are said to stand in three racks: three copies, one in each, once they have moved. */
static void data_moves_to_where_the_racks_are(void **state)
{
    struct cluster_map *map = test_map(9, 1, 6);
    struct map_pool pool = test_pool("p", 1, 2);
    (void)state;
    assert_int_equal(map_change_pool_create(map, &pool), 0);
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        struct wire_item_enroll_target target = {.target = i};
        uint32_t incarnation;
        assert_int_equal(
            map_change_node_up(map, map->nodes[i].name, 0, &incarnation, &target, 1), 0);
    }
    assert_int_equal(map_change_publish(map), 0);
    assert_null(map->moves);
    for (unsigned i = 0; i < 9; i++) {
        char node[16], rack[16];
        snprintf(node, sizeof node, "n%u", i);
        snprintf(rack, sizeof rack, "r%u", i / 3);
        assert_int_equal(move(map, node, NULL, rack, NULL), 0);
    }
    assert_int_equal(map_change_publish(map), 0);
    assert_non_null(map->moves);
    for (uint32_t p = 0; p < 64; p++) {
        struct target_set set;
        unsigned in_rack[4] = {0};
        cluster_map_partition_set(map, cluster_map_pool_named(map, "p"), p, &set);
        for (unsigned i = 0; i < 3; i++) {
            const struct map_target *end = set.beside[i] != NULL ? set.beside[i] : set.targets[i];
            assert_true(++in_rack[map->nodes[end->node].rack] == 1);
        }
    }
    cluster_map_free(map);
}

static void a_pool_survives_the_loss_of_what_is_named(void **state)
{
    static const struct {
        unsigned nodes, racks, rows;
        enum map_survives survives;
    } cases[] = {{2, 0, 0, SURVIVES_NOTHING}, {6, 0, 0, SURVIVES_NODE},  {6, 2, 0, SURVIVES_NODE},
                 {6, 3, 0, SURVIVES_RACK},    {12, 6, 2, SURVIVES_RACK}, {12, 6, 3, SURVIVES_ROW}};
    (void)state;
    for (unsigned c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct cluster_map *map = test_map(cases[c].nodes, 3, 4);
        struct map_pool pool = test_pool("p", 4, 2);
        for (unsigned i = 0; i < cases[c].nodes && cases[c].racks > 0; i++) {
            char node[16], rack[16], row[16] = "";
            snprintf(node, sizeof node, "n%u", i);
            snprintf(rack, sizeof rack, "r%u", i % cases[c].racks);
            if (cases[c].rows > 0)
                snprintf(row, sizeof row, "w%u", i % cases[c].racks % cases[c].rows);
            assert_int_equal(move(map, node, NULL, rack, row), 0);
        }
        assert_int_equal(cluster_map_pool_survives(map, &pool), cases[c].survives);
        cluster_map_free(map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_keeps_its_number),
        cmocka_unit_test(a_rack_stands_in_one_row),
        cmocka_unit_test(what_cannot_be_is_refused_and_changes_nothing),
        cmocka_unit_test(a_map_of_nothing_can_be_encoded),
        cmocka_unit_test(names_travel_with_the_map),
        cmocka_unit_test(data_moves_to_where_the_racks_are),
        cmocka_unit_test(a_pool_survives_the_loss_of_what_is_named),
    };
    return cmocka_run_group_tests_name("map_names", tests, NULL, NULL);
}
