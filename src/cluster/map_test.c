/* SPDX-License-Identifier: Apache-2.0 */
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

static void all_up(struct cluster_map *map)
{
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        struct wire_item_enroll_target targets[4];
        unsigned count = 0;
        uint32_t incarnation;
        for (uint32_t t = 0; t < map->targets_count; t++)
            if (map->targets[t].node == i)
                targets[count++] = (struct wire_item_enroll_target){.target = map->targets[t].id};
        assert_int_equal(
            map_change_node_up(map, map->nodes[i].name, 0, &incarnation, targets, count), 0);
    }
}

static struct cluster_map *six_with_pool(uint8_t k, uint8_t m)
{
    struct cluster_map *map = test_map(6, 1, 6);
    struct map_pool pool = test_pool("p", k, m);
    assert_int_equal(map_change_pool_create(map, &pool), 0);
    all_up(map);
    assert_int_equal(map_change_publish(map), 0);
    return map;
}

static void down(struct cluster_map *map, const char *name)
{
    assert_int_equal(map_change_node_down(map, name), 0);
    assert_int_equal(map_change_publish(map), 0);
}

static void up_with(struct cluster_map *map, const char *name, uint32_t target, uint64_t device,
                    uint8_t flags)
{
    uint32_t incarnation;
    struct wire_item_enroll_target item = {.target = target, .flags = flags, .device = device};
    assert_int_equal(map_change_node_up(map, name, 0, &incarnation, &item, 1), 0);
    assert_int_equal(map_change_publish(map), 0);
}

static void up(struct cluster_map *map, const char *name, uint32_t target, uint8_t flags)
{
    up_with(map, name, target, 0, flags);
}

static void a_map_survives_encoding(void **state)
{
    (void)state;
    struct cluster_map *map = six_with_pool(4, 2);
    struct map_pool pool = test_pool("kv", 1, 0);
    pool.cache = true;
    pool.ttl_s = 60;
    pool.users_count = 2;
    strcpy(pool.users[0], "alice");
    strcpy(pool.users[1], "bob");
    assert_int_equal(map_change_pool_create(map, &pool), 0);
    assert_int_equal(map_change_publish(map), 0);
    size_t room = cluster_map_encoded_size(map);
    uint8_t *one = malloc(room), *two = malloc(room);
    size_t len = cluster_map_encode(map, one, room);
    assert_true(len > 0);
    assert_int_equal(cluster_map_encode(map, two, len - 1), 0);
    struct cluster_map *back = NULL;
    assert_int_equal(cluster_map_decode(one, len, &back), 0);
    assert_int_equal(cluster_map_encode(back, two, room), len);
    assert_memory_equal(one, two, len);
    assert_int_equal(back->epoch, map->epoch);
    assert_true(map_pool_admits(cluster_map_pool_named(back, "kv"), "bob"));
    assert_false(map_pool_admits(cluster_map_pool_named(back, "kv"), "eve"));
    assert_true(map_pool_admits(cluster_map_pool_named(back, "p"), "eve"));
    assert_non_null(cluster_map_pool(back, 1 | BLOB_POOL_UPLOADS));
    cluster_map_free(back);
    cluster_map_free(map);
    free(one);
    free(two);
}

static void a_damaged_map_is_refused(void **state)
{
    (void)state;
    struct cluster_map *map = six_with_pool(4, 2);
    size_t room = cluster_map_encoded_size(map);
    uint8_t *bytes = malloc(room);
    size_t len = cluster_map_encode(map, bytes, room);
    struct cluster_map *back = NULL;
    for (size_t i = 0; i < len; i++) {
        bytes[i] ^= 0x40;
        int error = cluster_map_decode(bytes, len, &back);
        bytes[i] ^= 0x40;
        if (i < 20)
            assert_int_not_equal(error, 0);
        else if (i >= 24)
            assert_int_equal(error, SHOAL_E_CORRUPT);
        if (error == 0)
            cluster_map_free(back);
    }
    for (size_t i = 0; i < len; i++)
        assert_int_not_equal(cluster_map_decode(bytes, i, &back), 0);
    cluster_map_free(map);
    free(bytes);
}

static void a_set_has_distinct_targets_and_a_primary(void **state)
{
    (void)state;
    struct cluster_map *map = six_with_pool(4, 2);
    for (uint32_t p = 0; p < 64; p++) {
        struct target_set set;
        cluster_map_partition_set(map, &map->pools[0], p, &set);
        assert_int_equal(set.width, 6);
        assert_int_equal(set.primary, 0);
        assert_int_equal(set.clean, 0x3f);
        uint32_t seen = 0;
        for (unsigned i = 0; i < 6; i++)
            seen |= 1u << set.targets[i]->id;
        assert_int_equal(seen, 0x3f);
        assert_true(target_set_writable(&set, &map->pools[0]));
    }
    assert_int_equal(cluster_map_degraded_partitions(map), 0);
    assert_int_equal(cluster_map_unwritable_partitions(map), 0);
    cluster_map_free(map);
}

static void deaths_beyond_m_leave_the_rest_clean(void **state)
{
    (void)state;
    struct cluster_map *map = six_with_pool(4, 2);
    down(map, "n0");
    down(map, "n1");
    assert_int_equal(map->targets[0].state, TARGET_DOWN);
    assert_int_equal(map->targets[1].state, TARGET_DOWN);
    assert_int_equal(cluster_map_unwritable_partitions(map), 0);
    assert_int_equal(cluster_map_degraded_partitions(map), 64);
    down(map, "n2");
    assert_int_equal(map->targets[2].state, TARGET_CLEAN);
    assert_false(map->targets[2].up);
    assert_int_equal(cluster_map_unwritable_partitions(map), 64);
    for (unsigned i = 3; i < 6; i++)
        down(map, map->nodes[i].name);
    for (unsigned i = 2; i < 6; i++)
        up(map, map->nodes[i].name, i, 0);
    for (unsigned i = 2; i < 6; i++)
        assert_int_equal(map->targets[i].state, TARGET_CLEAN);
    assert_int_equal(cluster_map_unwritable_partitions(map), 0);
    up(map, "n0", 0, 0);
    assert_int_equal(map->targets[0].state, TARGET_LEARNER);
    cluster_map_free(map);
}

static void an_absent_target_becomes_down_when_others_return(void **state)
{
    (void)state;
    struct cluster_map *map = six_with_pool(4, 2);
    down(map, "n0");
    down(map, "n1");
    down(map, "n2");
    up(map, "n0", 0, 0); /* a learner is no clean member yet */
    assert_int_equal(map->targets[2].state, TARGET_CLEAN);
    assert_int_equal(cluster_map_unwritable_partitions(map), 64);
    /* A whole cluster killed at once: with all judged together nobody becomes down. */
    struct cluster_map *other = six_with_pool(4, 2);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(map_change_node_down(other, other->nodes[i].name), 0);
    assert_int_equal(map_change_publish(other), 0);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(other->targets[i].state, TARGET_CLEAN);
    cluster_map_free(other);
    cluster_map_free(map);
}

static void a_quick_restart_is_clean_and_a_stale_one_learns(void **state)
{
    (void)state;
    struct cluster_map *map = six_with_pool(4, 2);
    uint32_t before = map->nodes[3].incarnation;
    up(map, "n3", 3, 0);
    assert_int_equal(map->targets[3].state, TARGET_CLEAN);
    assert_true(map->nodes[3].incarnation > before);
    up(map, "n3", 3, WIRE_ENROLL_STALE);
    assert_int_equal(map->targets[3].state, TARGET_LEARNER);
    assert_true(map->targets[3].lost);
    assert_int_equal(map_change_target_clean(map, 3, before, map->epoch), SHOAL_E_STALE_EPOCH);
    assert_int_equal(
        map_change_target_clean(map, 3, map->nodes[3].incarnation, map->epoch + 1),
        SHOAL_E_STALE_EPOCH);
    assert_int_equal(
        map_change_target_clean(map, 3, map->nodes[3].incarnation, map->epoch - 1),
        SHOAL_E_STALE_EPOCH);
    assert_int_equal(map_change_target_clean(map, 3, map->nodes[3].incarnation, map->epoch), 0);
    assert_int_equal(map->targets[3].state, TARGET_CLEAN);
    cluster_map_free(map);
}

static void a_device_that_the_map_does_not_know_has_lost_what_the_other_held(void **state)
{
    (void)state;
    struct cluster_map *map = six_with_pool(4, 2);
    up_with(map, "n3", 3, 77, 0); /* the first to be known */
    assert_int_equal(map->targets[3].state, TARGET_CLEAN);
    up_with(map, "n3", 3, 77, 0);
    assert_int_equal(map->targets[3].state, TARGET_CLEAN);
    assert_false(map->targets[3].lost);
    up_with(map, "n3", 3, 78, 0);
    assert_int_equal(map->targets[3].state, TARGET_LEARNER);
    assert_true(map->targets[3].lost);
    assert_int_equal(map->targets[3].device, 78);

    /* Told before: then whatever comes is what was meant. */
    up_with(map, "n4", 4, 5, 0);
    down(map, "n4");
    assert_int_equal(map_change_target_replaced(map, 4), 0);
    up_with(map, "n4", 4, 6, 0);
    assert_int_equal(map->targets[4].state, TARGET_LEARNER);
    assert_int_equal(map->targets[4].device, 6);

    map->targets[5].state = TARGET_OUT;
    map->targets[5].device = 9;
    up_with(map, "n5", 5, 10, 0);
    assert_int_equal(map->targets[5].state, TARGET_LEARNER);
    assert_true(map->targets[5].lost);
    cluster_map_free(map);
}

static void in_a_set_of_one_a_learner_serves(void **state)
{
    (void)state;
    struct cluster_map *map = six_with_pool(1, 0);
    down(map, "n0");
    up(map, "n0", 0, WIRE_ENROLL_STALE);
    assert_int_equal(map->targets[0].state, TARGET_LEARNER);
    assert_int_equal(cluster_map_unwritable_partitions(map), 0);
    cluster_map_free(map);
}

static void a_learner_that_dies_is_down(void **state)
{
    (void)state;
    struct cluster_map *map = six_with_pool(4, 2);
    down(map, "n5");
    up(map, "n5", 5, 0);
    assert_int_equal(map->targets[5].state, TARGET_LEARNER);
    down(map, "n5");
    assert_int_equal(map->targets[5].state, TARGET_DOWN);
    cluster_map_free(map);
}

static void a_failed_target_is_as_a_dead_one(void **state)
{
    (void)state;
    struct cluster_map *map = six_with_pool(4, 2);
    uint32_t incarnation = map->nodes[2].incarnation;
    assert_int_equal(map_change_target_failed(map, 2, incarnation + 7), SHOAL_E_STALE_EPOCH);
    assert_int_equal(map_change_target_failed(map, 2, incarnation), 0);
    assert_int_equal(map_change_publish(map), 0);
    assert_int_equal(map->targets[2].state, TARGET_DOWN);
    assert_true(map->nodes[2].up);
    cluster_map_free(map);
}

static void pools_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct cluster_map *map = test_map(3, 2, 4);
    struct map_pool pool = test_pool("wide", 8, 2);
    char why[256];
    assert_int_equal(map_pool_check(map, &pool, why), SHOAL_E_INVALID);
    assert_true(strlen(why) > 0);
    assert_int_equal(map_change_pool_create(map, &pool), SHOAL_E_INVALID);
    pool = test_pool("a/b", 1, 2);
    assert_int_equal(map_change_pool_create(map, &pool), SHOAL_E_INVALID);
    pool = test_pool("", 1, 2);
    assert_int_equal(map_change_pool_create(map, &pool), SHOAL_E_INVALID);
    pool = test_pool("ok", 4, 2);
    assert_int_equal(map_change_pool_create(map, &pool), 0);
    assert_int_equal(map_change_pool_create(map, &pool), SHOAL_E_EXISTS);
    assert_false(cluster_map_pool_unsafe(map, &pool)); /* two shards a node, m is 2 */
    struct map_pool risky = test_pool("risky", 5, 1);
    assert_true(cluster_map_pool_unsafe(map, &risky));
    assert_int_equal(map_change_pool_remove(map, "none"), SHOAL_E_NO_POOL);
    pool.quota_bytes = 5;
    assert_int_equal(map_change_pool_set(map, &pool), 0);
    assert_int_equal(map->pools[0].quota_bytes, 5);
    pool.k = 2;
    assert_int_equal(map_change_pool_set(map, &pool), SHOAL_E_UNSUPPORTED);
    assert_int_equal(map_change_pool_remove(map, "ok"), 0);
    assert_int_equal(map->pools_count, 0);
    cluster_map_free(map);
}

/* R4 in its general form: whatever dies and returns, no set ever has fewer than k clean members. */
static void every_set_keeps_k_clean_members_whatever_happens(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct prng prng;
        prng_seed(&prng, seed);
        struct cluster_map *map = six_with_pool(4, 2);
        struct map_pool copies = test_pool("copies", 1, 2);
        assert_int_equal(map_change_pool_create(map, &copies), 0);
        for (int step = 0; step < 60; step++) {
            uint32_t n = (uint32_t)prng_below(&prng, 6);
            uint32_t incarnation;
            struct wire_item_enroll_target item = {.target = n};
            if (prng_chance(&prng, 1, 2))
                (void)map_change_node_down(map, map->nodes[n].name);
            else
                (void)map_change_node_up(map, map->nodes[n].name, 0, &incarnation, &item, 1);
            if (prng_chance(&prng, 1, 3))
                (void)map_change_target_clean(map, n, map->nodes[n].incarnation, map->epoch);
            assert_int_equal(map_change_publish(map), 0);
            for (uint32_t i = 0; i < map->pools_count; i++)
                for (uint32_t p = 0; p < 64; p++) {
                    struct target_set set;
                    cluster_map_partition_set(map, &map->pools[i], p, &set);
                    assert_true(target_set_count(set.clean) >= map->pools[i].k);
                }
        }
        cluster_map_free(map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_survives_encoding),
        cmocka_unit_test(a_damaged_map_is_refused),
        cmocka_unit_test(a_set_has_distinct_targets_and_a_primary),
        cmocka_unit_test(deaths_beyond_m_leave_the_rest_clean),
        cmocka_unit_test(an_absent_target_becomes_down_when_others_return),
        cmocka_unit_test(a_quick_restart_is_clean_and_a_stale_one_learns),
        cmocka_unit_test(a_device_that_the_map_does_not_know_has_lost_what_the_other_held),
        cmocka_unit_test(in_a_set_of_one_a_learner_serves),
        cmocka_unit_test(a_learner_that_dies_is_down),
        cmocka_unit_test(a_failed_target_is_as_a_dead_one),
        cmocka_unit_test(pools_that_cannot_be_are_refused),
        cmocka_unit_test(every_set_keeps_k_clean_members_whatever_happens),
    };
    return cmocka_run_group_tests_name("cluster map", tests, NULL, NULL);
}
