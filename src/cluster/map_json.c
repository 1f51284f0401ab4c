/* SPDX-License-Identifier: Apache-2.0 */
/* Pools and maps as JSON, for administrators. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "cluster/cluster.h"
#include "ec/ec.h"
#include "shoal/error.h"

#define WHY_BYTES 256

static bool take_u64(const json_t *json, const char *name, uint64_t max, uint64_t *value, char *why)
{
    const json_t *field = json_object_get(json, name);
    if (field == NULL)
        return true;
    if (!json_is_integer(field) || json_integer_value(field) < 0 ||
        (uint64_t)json_integer_value(field) > max) {
        snprintf(why, WHY_BYTES, "%s must be a whole number from 0 to %llu", name,
                 (unsigned long long)max);
        return false;
    }
    *value = (uint64_t)json_integer_value(field);
    return true;
}

static bool take_bool(const json_t *json, const char *name, bool *value, char *why)
{
    const json_t *field = json_object_get(json, name);
    if (field == NULL)
        return true;
    if (!json_is_boolean(field)) {
        snprintf(why, WHY_BYTES, "%s must be true or false", name);
        return false;
    }
    *value = json_is_true(field);
    return true;
}

static bool take_users(const json_t *json, struct map_pool *pool, char *why)
{
    const json_t *users = json_object_get(json, "users");
    if (users == NULL)
        return true;
    if (!json_is_array(users) || json_array_size(users) > CLUSTER_POOL_USERS_MAX) {
        snprintf(why, WHY_BYTES, "users must be a list of at most %u names",
                 CLUSTER_POOL_USERS_MAX);
        return false;
    }
    pool->users_count = 0;
    for (size_t i = 0; i < json_array_size(users); i++) {
        const char *name = json_string_value(json_array_get(users, i));
        if (name == NULL || name[0] == 0 || strlen(name) >= CLUSTER_NAME_MAX) {
            snprintf(why, WHY_BYTES, "a user is a name of 1 to %u bytes", CLUSTER_NAME_MAX - 1);
            return false;
        }
        snprintf(pool->users[pool->users_count++], CLUSTER_NAME_MAX, "%s", name);
    }
    return true;
}

/* What is not said stays as it is in @pool, or gets its default when that is 0. */
int map_pool_from_json(const json_t *json, struct map_pool *pool, char *why)
{
    why[0] = 0;
    const char *name = json_string_value(json_object_get(json, "name"));
    if (name == NULL || strlen(name) >= sizeof pool->name) {
        snprintf(why, WHY_BYTES, "name must be a text of at most %u bytes", CLUSTER_NAME_MAX - 1);
        return SHOAL_E_INVALID;
    }
    snprintf(pool->name, sizeof pool->name, "%s", name);
    uint64_t k = pool->k, m = pool->m, ttl_s = pool->ttl_s;
    uint64_t stripe_size = pool->stripe_size, copies_below = pool->copies_below;
    if (!take_u64(json, "k", EC_MEMBERS_MAX, &k, why) ||
        !take_u64(json, "m", EC_MEMBERS_MAX, &m, why) ||
        !take_u64(json, "ttl_s", UINT32_MAX, &ttl_s, why) ||
        !take_u64(json, "quota_bytes", INT64_MAX, &pool->quota_bytes, why) ||
        !take_u64(json, "stripe_size", UINT32_MAX, &stripe_size, why) ||
        !take_u64(json, "copies_below", UINT32_MAX, &copies_below, why) ||
        !take_bool(json, "erasure", &pool->erasure, why) ||
        !take_bool(json, "cache", &pool->cache, why) ||
        !take_bool(json, "ack_memory", &pool->ack_memory, why) || !take_users(json, pool, why))
        return SHOAL_E_INVALID;
    pool->k = (uint8_t)k;
    pool->m = (uint8_t)m;
    pool->ttl_s = (uint32_t)ttl_s;
    pool->stripe_size = stripe_size == 0 ? 4u << 20 : (uint32_t)stripe_size;
    pool->copies_below = copies_below == 0 ? EC_COPIES_BELOW : (uint32_t)copies_below;
    if (pool->ack_memory) {
        snprintf(why, WHY_BYTES, "acknowledging from memory is not in this release");
        return SHOAL_E_INVALID;
    }
    return map_pool_check(NULL, pool, why);
}

/* NULL for what lacks a part: half a list reads like a whole one. */
static json_t *whole_or_none(json_t *json, bool whole)
{
    if (whole)
        return json;
    json_decref(json);
    return NULL;
}

static json_t *pool_to_json(const struct cluster_map *map, const struct map_pool *pool)
{
    json_t *users = json_array();
    bool whole = true;
    for (unsigned i = 0; i < pool->users_count; i++)
        whole &= json_array_append_new(users, json_string(pool->users[i])) == 0;
    json_t *json = json_pack(
        "{s:i,s:s,s:b,s:i,s:i,s:b,s:I,s:I,s:I,s:I,s:b,s:o}", "id", (int)pool->id, "name",
        pool->name, "erasure", pool->erasure, "k", pool->k, "m", pool->m, "cache", pool->cache,
        "ttl_s", (json_int_t)pool->ttl_s, "quota_bytes", (json_int_t)pool->quota_bytes,
        "stripe_size", (json_int_t)pool->stripe_size, "copies_below",
        (json_int_t)pool->copies_below, "unsafe", cluster_map_pool_unsafe(map, pool), "users",
        users);
    return whole_or_none(json, whole);
}

static const char *state_name(enum target_state state)
{
    static const char *const names[] = {"out", "down", "learner", "clean"};
    return names[state];
}

json_t *cluster_map_to_json(const struct cluster_map *map)
{
    char cluster[2 * sizeof map->cluster + 1];
    hex_encode(map->cluster, sizeof map->cluster, cluster);
    struct target_places *places = calloc(map->targets_count + 1u, sizeof *places);
    json_t *nodes = json_array(), *targets = json_array(), *pools = json_array();
    bool whole = places != NULL;
    if (whole)
        cluster_map_places(map, places);
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        const struct map_node *node = &map->nodes[i];
        json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:b,s:b,s:b}", "name", node->name, "data",
                                 node->data, "replication", node->replication, "management",
                                 node->management, "rack", cluster_map_rack(map, node), "row",
                                 cluster_map_row(map, node),
                                 "incarnation", (json_int_t)node->incarnation, "up", node->up,
                                 "draining", node->draining, "removed", node->removed);
        whole &= json_array_append_new(nodes, json) == 0;
    }
    for (uint32_t i = 0; whole && i < map->targets_count; i++) {
        const struct map_target *target = &map->targets[i];
        json_t *json = json_pack("{s:I,s:s,s:I,s:s,s:b,s:b,s:I,s:I,s:I}", "id",
                                 (json_int_t)target->id, "node", map->nodes[target->node].name,
                                 "weight", (json_int_t)target->weight, "state",
                                 state_name(target->state), "up", target->up, "lost",
                                 target->lost, "serves", (json_int_t)places[i].serves, "learns",
                                 (json_int_t)places[i].learns, "leaves",
                                 (json_int_t)places[i].leaves);
        whole &= json_array_append_new(targets, json) == 0;
    }
    for (uint32_t i = 0; i < map->pools_count; i++)
        whole &= json_array_append_new(pools, pool_to_json(map, &map->pools[i])) == 0;
    json_t *json = json_pack("{s:s,s:I,s:I,s:o,s:o,s:o}", "cluster", cluster, "epoch",
                             (json_int_t)map->epoch, "partition_bits",
                             (json_int_t)map->partition_bits, "nodes", nodes, "targets", targets,
                             "pools", pools);
    free(places);
    return whole_or_none(json, whole);
}
