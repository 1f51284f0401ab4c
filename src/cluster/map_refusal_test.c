/* SPDX-License-Identifier: Apache-2.0 */
/* What a map refuses: changes that cannot be, bytes that are no map, memory that is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <jansson.h>

#include "base/crc32c.h"
#include "base/macros.h"
#include "base/test_memory.h"
#include "cluster/cluster.h"
#include "cluster/test_map.h"
#include "shoal/error.h"

/* Six nodes with a target each, all up, and two pools. */
static struct cluster_map *six(void)
{
    struct cluster_map *map = test_map(6, 1, 3);
    struct map_pool coded = test_pool("coded", 4, 2), copied = test_pool("copied", 1, 2);
    CHECK(map_change_pool_create(map, &coded) == 0);
    CHECK(map_change_pool_create(map, &copied) == 0);
    for (uint32_t i = 0; i < 6; i++) {
        struct wire_item_enroll_target target = {.target = i};
        uint32_t incarnation;
        CHECK(map_change_node_up(map, map->nodes[i].name, 1, &incarnation, &target, 1) == 0);
    }
    CHECK(map_change_publish(map) == 0);
    return map;
}

/* ---- changes ---- */

static const struct map_node good_node = {.name = "new", .data = "d:1", .replication = "r:1",
                                          .management = "m:1"};

/* Each text of a node without its end. */
static const struct {
    size_t offset, size;
} node_texts[] = {
    {offsetof(struct map_node, name), sizeof good_node.name},
    {offsetof(struct map_node, data), sizeof good_node.data},
    {offsetof(struct map_node, replication), sizeof good_node.replication},
    {offsetof(struct map_node, management), sizeof good_node.management},
};

static void a_node_has_texts_that_end(void **state)
{
    (void)state;
    struct cluster_map *map = six();
    struct map_node nameless = good_node;
    nameless.name[0] = 0;
    assert_int_equal(map_change_node_add(map, &nameless), SHOAL_E_INVALID);
    assert_int_equal(map_change_node_addresses(map, &good_node), SHOAL_E_NOT_FOUND);
    for (unsigned i = 0; i < ARRAY_LEN(node_texts); i++) {
        struct map_node endless = good_node;
        memset((char *)&endless + node_texts[i].offset, 'x', node_texts[i].size);
        assert_int_equal(map_change_node_add(map, &endless), SHOAL_E_INVALID);
        if (i > 0) {
            memcpy(endless.name, "n0", sizeof "n0");
            assert_int_equal(map_change_node_addresses(map, &endless), SHOAL_E_INVALID);
        }
    }
    assert_int_equal(map_change_node_add(map, &good_node), 0);
    assert_int_equal(map_change_node_add(map, &good_node), SHOAL_E_EXISTS);
    struct map_node moved = good_node;
    memcpy(moved.data, "d:2", sizeof "d:2");
    assert_int_equal(map_change_node_addresses(map, &moved), 0);
    assert_string_equal(cluster_map_node_named(map, "new")->data, "d:2");
    assert_null(cluster_map_node_named(map, "newer"));
    cluster_map_free(map);
}

static void a_map_has_room_for_so_many(void **state)
{
    (void)state;
    struct cluster_map *map = test_map(1, 1, 0);
    struct map_node node = good_node;
    /* All but the last one at once: added one by one they take seconds under a sanitizer. */
    map->targets = realloc(map->targets, CLUSTER_TARGETS_MAX * sizeof *map->targets);
    for (uint32_t i = 1; i < CLUSTER_TARGETS_MAX - 1; i++) {
        map->targets[i] = map->targets[0];
        map->targets[i].id = i;
    }
    map->targets_count = CLUSTER_TARGETS_MAX - 1;
    assert_int_equal(map_change_target_add(map, CLUSTER_TARGETS_MAX, "n0", 1), 0);
    assert_int_equal(map_change_target_add(map, CLUSTER_TARGETS_MAX + 1, "n0", 1),
                     SHOAL_E_TOO_LARGE);
    while (map->nodes_count < CLUSTER_NODES_MAX) {
        snprintf(node.name, sizeof node.name, "more%u", map->nodes_count);
        assert_int_equal(map_change_node_add(map, &node), 0);
    }
    assert_int_equal(map_change_node_add(map, &good_node), SHOAL_E_TOO_LARGE);
    cluster_map_free(map);

    map = test_map(1, 1, 0);
    struct map_pool pool = test_pool("", 1, 0);
    while (map->pools_count < CLUSTER_POOLS_MAX) {
        snprintf(pool.name, sizeof pool.name, "p%u", map->pools_count);
        assert_int_equal(map_change_pool_create(map, &pool), 0);
    }
    snprintf(pool.name, sizeof pool.name, "more");
    assert_int_equal(map_change_pool_create(map, &pool), SHOAL_E_TOO_LARGE);
    cluster_map_free(map);
}

static void a_target_is_new_has_a_node_and_a_weight(void **state)
{
    (void)state;
    struct cluster_map *map = test_map(2, 1, 0);
    assert_int_equal(map_change_target_add(map, 9, "none", 1), SHOAL_E_NOT_FOUND);
    assert_int_not_equal(map_change_target_add(map, 9, "n0", 0), 0);
    assert_int_equal(map_change_target_add(map, 1, "n0", 1), SHOAL_E_EXISTS);
    assert_int_equal(map_change_target_add(map, WIRE_NO_TARGET, "n0", 1), SHOAL_E_TOO_LARGE);
    assert_int_equal(map_change_target_add(map, 9, "n0", 1), 0);
    assert_int_equal(cluster_map_target(map, 9)->node, 0); /* its number is not its index */
    assert_null(cluster_map_target(map, 2));
    cluster_map_free(map);
}

static void what_is_not_there_does_not_change(void **state)
{
    (void)state;
    struct cluster_map *map = six();
    struct wire_item_enroll_target foreign = {.target = 1}, none = {.target = 77};
    struct map_pool pool = test_pool("none", 4, 2);
    uint32_t incarnation;
    assert_int_equal(map_change_node_up(map, "none", 1, &incarnation, NULL, 0), SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_node_up(map, "n0", 2, &incarnation, &foreign, 1), SHOAL_E_INVALID);
    assert_int_equal(map_change_node_up(map, "n0", 2, &incarnation, &none, 1), SHOAL_E_INVALID);
    assert_int_equal(map_change_node_down(map, "none"), SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_target_failed(map, 77, 1), SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_target_clean(map, 77, 1, map->epoch), SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_target_replaced(map, 77), SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_target_accept(map, 77), SHOAL_E_NOT_FOUND);
    assert_int_equal(map_change_pool_set(map, &pool), SHOAL_E_NO_POOL);
    cluster_map_free(map);
}

static void an_enrolment_heard_twice_is_one(void **state)
{
    (void)state;
    struct cluster_map *map = six();
    uint32_t first = map->nodes[3].incarnation, incarnation = 0;
    struct wire_item_enroll_target target = {.target = 3};
    assert_int_equal(map_change_node_up(map, "n3", 1, &incarnation, &target, 1), SHOAL_E_EXISTS);
    assert_int_equal(incarnation, first);
    assert_int_equal(map_change_node_up(map, "n3", 2, &incarnation, &target, 1), 0);
    assert_true(incarnation > first);
    assert_int_equal(map_change_node_down(map, "n3"), 0);
    assert_int_equal(map_change_node_up(map, "n3", 2, &incarnation, &target, 1), 0);
    cluster_map_free(map);
}

static void only_a_present_learner_becomes_clean(void **state)
{
    (void)state;
    struct cluster_map *map = six();
    struct map_target *target = &map->targets[3];
    uint32_t incarnation = map->nodes[3].incarnation;
    assert_int_equal(map_change_target_clean(map, 3, incarnation, map->epoch), SHOAL_E_EXISTS);
    target->state = TARGET_OUT;
    assert_int_equal(map_change_target_clean(map, 3, incarnation, map->epoch), SHOAL_E_INVALID);
    assert_int_equal(map_change_target_replaced(map, 3), 0);
    target->state = TARGET_LEARNER;
    target->up = false;
    assert_int_equal(map_change_target_clean(map, 3, incarnation, map->epoch),
                     SHOAL_E_STALE_EPOCH);
    target->up = true;
    assert_int_equal(map_change_target_clean(map, 3, incarnation, map->epoch), 0);
    cluster_map_free(map);
}

static void a_replaced_drive_has_lost_what_it_held_until_that_is_accepted(void **state)
{
    (void)state;
    struct cluster_map *map = six();
    assert_int_equal(map_change_target_replaced(map, 2), 0);
    assert_int_equal(map->targets[2].state, TARGET_LEARNER);
    assert_int_equal(map_change_node_down(map, "n4"), 0);
    assert_int_equal(map_change_target_replaced(map, 4), 0);
    assert_int_equal(map->targets[4].state, TARGET_DOWN);
    assert_true(map->targets[2].lost && map->targets[4].lost);
    assert_int_equal(map_change_target_accept(map, 2), 0);
    assert_false(map->targets[2].lost);
    cluster_map_free(map);
}

/* ---- pools ---- */

#define REFUSED_POOL(change)                                                                       \
    do {                                                                                           \
        struct map_pool pool = test_pool("coded", 4, 2);                                           \
        char why[256];                                                                             \
        change;                                                                                    \
        assert_int_equal(map_pool_check(map, &pool, why), SHOAL_E_INVALID);                        \
        assert_true(strlen(why) > 0);                                                              \
        assert_int_not_equal(map_change_pool_set(map, &pool), 0);                                  \
    } while (0)

static void a_pool_that_cannot_be_is_refused_with_a_reason(void **state)
{
    (void)state;
    struct cluster_map *map = six();
    REFUSED_POOL(memset(pool.name, 'x', sizeof pool.name));
    REFUSED_POOL(pool.name[0] = 0);
    REFUSED_POOL(pool.name[2] = '/');
    REFUSED_POOL(pool.k = 0);
    REFUSED_POOL(pool.m = 0);
    REFUSED_POOL(pool.m = 5);
    REFUSED_POOL(pool.k = 8); /* ten of six targets */
    REFUSED_POOL(pool.stripe_size = 0);
    REFUSED_POOL(pool.stripe_size = (16u << 20) + 4096);
    REFUSED_POOL(pool.stripe_size = 4097);
    REFUSED_POOL(pool.users_count = CLUSTER_POOL_USERS_MAX + 1);
    struct map_pool same = test_pool("coded", 4, 2);
    same.erasure = false;
    assert_int_equal(map_change_pool_set(map, &same), SHOAL_E_UNSUPPORTED);
    same = test_pool("coded", 4, 1);
    assert_int_equal(map_change_pool_set(map, &same), SHOAL_E_UNSUPPORTED);
    assert_int_equal(map->pools[0].m, 2);
    assert_null(cluster_map_pool(map, 3));
    cluster_map_free(map);
}

/* Fields of JSON; a word of the reason for refusing them, or NULL. */
static const struct {
    const char *json, *why;
} wishes[] = {
    {"{}", "name"},
    {"{'name': 7}", "name"},
    {"{'name': 'a-name-that-is-longer-than-the-sixty-three-bytes-that-there-are-for-it'}", "name"},
    {"{'name': 'p', 'k': -1}", "k "},
    {"{'name': 'p', 'k': 13}", "k "},
    {"{'name': 'p', 'k': '4'}", "k "},
    {"{'name': 'p', 'm': true}", "m "},
    {"{'name': 'p', 'k': 1, 'ttl_s': 4294967296}", "ttl_s"},
    {"{'name': 'p', 'k': 1, 'quota_bytes': -5}", "quota_bytes"},
    {"{'name': 'p', 'k': 1, 'stripe_size': 1.5}", "stripe_size"},
    {"{'name': 'p', 'k': 1, 'stripe_size': 5000}", "4 KiB"},
    {"{'name': 'p', 'k': 1, 'copies_below': []}", "copies_below"},
    {"{'name': 'p', 'k': 1, 'erasure': 1}", "erasure"},
    {"{'name': 'p', 'k': 1, 'cache': 'yes'}", "cache"},
    {"{'name': 'p', 'k': 1, 'ack_memory': null}", "ack_memory"},
    {"{'name': 'p', 'k': 1, 'ack_memory': true}", "from memory"},
    {"{'name': 'p', 'k': 1, 'users': 'alice'}", "users"},
    {"{'name': 'p', 'k': 1, 'users': ['a','b','c','d','e','f','g','h','i','j','k','l','m','n','o',"
     "'p','q']}", "users"},
    {"{'name': 'p', 'k': 1, 'users': ['']}", "user"},
    {"{'name': 'p', 'k': 1, 'users': [3]}", "user"},
    {"{'name': 'p', 'k': 1, 'users': ['sixty-four-bytes-are-one-byte-more-than-fits-into-a-name-with"
     "-its-end']}", "user"},
    {"{'name': 'p', 'k': 4, 'm': 0}", "redundancy"},
    {"{'name': 'p', 'k': 1, 'm': 2, 'cache': true, 'ttl_s': 60, 'users': ['alice'], "
     "'stripe_size': 65536, 'copies_below': 4096, 'quota_bytes': 9}", NULL},
};

/* With ' for ", so that the table reads. */
static json_t *parse(const char *text)
{
    char json[512];
    snprintf(json, sizeof json, "%s", text);
    for (char *at = json; *at != 0; at++)
        if (*at == '\'')
            *at = '"';
    json_error_t error;
    json_t *value = json_loads(json, 0, &error);
    CHECK_MSG(value != NULL, "%s: %s", text, error.text);
    return value;
}

static void a_pool_as_json_is_taken_or_refused_with_a_reason(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(wishes); i++) {
        struct map_pool pool = {0};
        char why[256];
        json_t *json = parse(wishes[i].json);
        int error = map_pool_from_json(json, &pool, why);
        json_decref(json);
        if (wishes[i].why == NULL) {
            assert_int_equal(error, 0);
            assert_true(pool.cache && pool.ttl_s == 60 && pool.copies_below == 4096);
            assert_true(map_pool_admits(&pool, "alice") && !map_pool_admits(&pool, "bob"));
        } else {
            assert_int_equal(error, SHOAL_E_INVALID);
            assert_non_null(strstr(why, wishes[i].why));
        }
    }
}

/* ---- bytes ---- */

#define LEN_AT 12u
#define CRC_AT 16u
#define FIELDS_AT 24u
#define COUNTS_AT (FIELDS_AT + 41u) /* of nodes, targets and pools, four bytes each */

/* Decodes what somebody wrote who knows the format, and has the checksum right. */
static int decode(uint8_t *bytes, size_t len)
{
    struct cluster_map *map = NULL;
    store_le32(bytes + LEN_AT, (uint32_t)(len - FIELDS_AT));
    store_le32(bytes + CRC_AT, crc32c(0, bytes + FIELDS_AT, len - FIELDS_AT));
    int error = cluster_map_decode(bytes, len, &map);
    cluster_map_free(map);
    return error;
}

static uint8_t bytes[16384];

static size_t encode(struct cluster_map *map)
{
    memset(bytes, 0, sizeof bytes);
    size_t len = cluster_map_encode(map, bytes, sizeof bytes);
    CHECK(len > 0);
    return len;
}

#define REFUSED_MAP(change)                                                                        \
    do {                                                                                           \
        struct cluster_map *map = six();                                                           \
        change;                                                                                    \
        assert_int_equal(decode(bytes, encode(map)), SHOAL_E_INVALID);                             \
        cluster_map_free(map);                                                                     \
    } while (0)

static void a_map_that_cannot_be_is_refused(void **state)
{
    (void)state;
    REFUSED_MAP(map->partition_bits = PLACE_BITS_MAX + 1);
    REFUSED_MAP(map->nodes[4] = map->nodes[2]);
    REFUSED_MAP(map->targets[3].node = 6);
    REFUSED_MAP(map->targets[3].state = TARGET_CLEAN + 1);
    REFUSED_MAP(map->targets[3].id = map->targets[2].id);
    REFUSED_MAP(map->targets[5].id = WIRE_NO_TARGET);
    REFUSED_MAP(map->pools[0].id = BLOB_POOL_UPLOADS);
    REFUSED_MAP(map->pools[1].id = map->pools[0].id);
    REFUSED_MAP(memcpy(map->pools[1].name, "coded", sizeof "coded"));
    REFUSED_MAP(map->pools[0].k = 0);
}

static void counts_beyond_their_bounds_are_refused(void **state)
{
    (void)state;
    static const uint32_t most[] = {CLUSTER_NODES_MAX, CLUSTER_TARGETS_MAX, CLUSTER_POOLS_MAX};
    struct cluster_map *map = six();
    for (unsigned i = 0; i < ARRAY_LEN(most); i++) {
        size_t len = encode(map);
        assert_int_equal(decode(bytes, len), 0);
        store_le32(bytes + COUNTS_AT + (size_t)4 * i, most[i]);
        assert_int_equal(decode(bytes, len), SHOAL_E_INVALID); /* allowed, and not there */
        store_le32(bytes + COUNTS_AT + (size_t)4 * i, most[i] + 1);
        assert_int_equal(decode(bytes, len), SHOAL_E_INVALID);
    }
    /* The number of users, found as the first byte that another one changes. */
    static uint8_t none[sizeof bytes];
    memcpy(none, bytes, encode(map));
    map->pools[1].users_count = 1;
    size_t len = encode(map), at = FIELDS_AT;
    while (none[at] == bytes[at])
        at++;
    bytes[at] = CLUSTER_POOL_USERS_MAX + 1;
    assert_int_equal(decode(bytes, len), SHOAL_E_INVALID);
    cluster_map_free(map);
}

static void a_map_cut_anywhere_or_too_long_is_refused(void **state)
{
    (void)state;
    struct cluster_map *map = six();
    size_t whole = encode(map);
    assert_int_equal(decode(bytes, whole), 0);
    assert_int_equal(decode(bytes, whole + 1), SHOAL_E_INVALID);
    for (size_t len = FIELDS_AT; len < whole; len++)
        assert_int_equal(decode(bytes, len), SHOAL_E_INVALID);
    static uint8_t small[sizeof bytes];
    for (size_t room = 0; room < whole; room++)
        assert_int_equal(cluster_map_encode(map, small, room), 0);
    struct cluster_map *back = NULL;
    size_t len = encode(map);
    assert_int_equal(cluster_map_decode(bytes, len - 1, &back), SHOAL_E_CORRUPT);
    bytes[8]++;
    assert_int_equal(cluster_map_decode(bytes, len, &back), SHOAL_E_FORMAT);
    bytes[0]++;
    assert_int_equal(cluster_map_decode(bytes, len, &back), SHOAL_E_INVALID);
    cluster_map_free(map);
}

/* ---- memory ---- */

/* All that allocates, one after the other, until one of it fails. */
static int use(const struct cluster_map *map)
{
    struct map_pool pool = test_pool("third", 2, 1);
    char why[256];
    struct cluster_map *copy = cluster_map_copy(map), *back = NULL, *empty = cluster_map_create();
    int error = copy == NULL || empty == NULL ? SHOAL_E_NO_MEMORY : 0;
    if (error == 0)
        error = map_change_node_add(empty, &good_node);
    if (error == 0)
        error = map_change_target_add(empty, 1, "new", 1);
    if (error == 0)
        error = map_pool_check(copy, &pool, why);
    if (error == 0)
        error = map_change_pool_create(copy, &pool);
    if (error == 0)
        error = map_change_publish(copy);
    if (error == 0)
        error = cluster_map_decode(bytes, cluster_map_encode(copy, bytes, sizeof bytes), &back);
    cluster_map_free(copy);
    cluster_map_free(back);
    cluster_map_free(empty);
    return error;
}

static void memory_that_runs_out_is_told_and_nothing_else_happens(void **state)
{
    (void)state;
    struct cluster_map *map = six();
    uint64_t epoch = map->epoch, nth = 0;
    for (;;) {
        memory_fail_after(++nth);
        int error = use(map);
        if (!memory_fail_fired()) {
            assert_int_equal(error, 0);
            break;
        }
        assert_int_equal(error, SHOAL_E_NO_MEMORY);
    }
    assert_true(nth > 20);
    assert_int_equal(map->epoch, epoch);
    assert_int_equal(map->pools_count, 2);
    /* Who cannot tell whether a pool is safe calls it unsafe. */
    assert_false(cluster_map_pool_unsafe(map, &map->pools[0]));
    memory_fail_after(1);
    assert_true(cluster_map_pool_unsafe(map, &map->pools[0]));
    assert_true(memory_fail_fired());
    cluster_map_free(map);
}

/* A list of which a part is missing reads like a whole one. */
static void a_map_as_json_is_all_of_it_or_nothing(void **state)
{
    (void)state;
    struct cluster_map *map = six();
    map->pools[0].m = 0; /* unsafe, as a pool is called when nobody can tell */
    map->pools[1].m = 0;
    map->pools[1].users_count = 2;
    memcpy(map->pools[1].users[0], "alice", sizeof "alice");
    memcpy(map->pools[1].users[1], "bob", sizeof "bob");
    json_set_alloc_funcs(malloc, free);
    json_t *whole = cluster_map_to_json(map);
    assert_int_equal(json_array_size(json_object_get(whole, "targets")), 6);
    uint64_t nth = 0;
    for (bool fired = true; fired;) {
        memory_fail_after(++nth);
        json_t *json = cluster_map_to_json(map);
        fired = memory_fail_fired();
        assert_true(json == NULL || json_equal(json, whole));
        json_decref(json);
    }
    assert_true(nth > 100);
    json_decref(whole);
    cluster_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_has_texts_that_end),
        cmocka_unit_test(a_map_has_room_for_so_many),
        cmocka_unit_test(a_target_is_new_has_a_node_and_a_weight),
        cmocka_unit_test(what_is_not_there_does_not_change),
        cmocka_unit_test(an_enrolment_heard_twice_is_one),
        cmocka_unit_test(only_a_present_learner_becomes_clean),
        cmocka_unit_test(a_replaced_drive_has_lost_what_it_held_until_that_is_accepted),
        cmocka_unit_test(a_pool_that_cannot_be_is_refused_with_a_reason),
        cmocka_unit_test(a_pool_as_json_is_taken_or_refused_with_a_reason),
        cmocka_unit_test(a_map_that_cannot_be_is_refused),
        cmocka_unit_test(counts_beyond_their_bounds_are_refused),
        cmocka_unit_test(a_map_cut_anywhere_or_too_long_is_refused),
        cmocka_unit_test(memory_that_runs_out_is_told_and_nothing_else_happens),
        cmocka_unit_test(a_map_as_json_is_all_of_it_or_nothing),
    };
    return cmocka_run_group_tests_name("map refusal", tests, NULL, NULL);
}
