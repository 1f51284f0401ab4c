/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "cluster/map_private.h"
#include "ec/ec.h"
#include "shoal/error.h"

struct cluster_map *cluster_map_create(void)
{
    struct cluster_map *map = calloc(1, sizeof *map);
    if (map == NULL)
        return NULL;
    map->next_incarnation = 1;
    map->next_pool = 1;
    map->out_ms = CLUSTER_OUT_MS;
    return map;
}

struct cluster_map *cluster_map_share(struct cluster_map *map)
{
    atomic_fetch_add(&map->sharers, 1);
    return map;
}

void cluster_map_free(struct cluster_map *map)
{
    if (map == NULL || atomic_fetch_sub(&map->sharers, 1) > 0)
        return;
    map_hashed_free(map->hashed);
    free(map->table);
    free(map->moves);
    free(map->nodes);
    free(map->targets);
    free(map->pools);
    free(map->fixes);
    free(map->holds);
    free(map->racks.list);
    free(map->rows.list);
    free(map);
}

/* One byte more than needed, so that an empty array is no NULL and no special case. */
static void *duplicate(const void *data, size_t count, size_t size)
{
    void *copy = malloc(count * size + 1);
    if (copy != NULL && count > 0)
        memcpy(copy, data, count * size);
    return copy;
}

struct cluster_map *cluster_map_copy(const struct cluster_map *map)
{
    struct cluster_map *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return NULL;
    *copy = *map;
    copy->sharers = 0;
    copy->hashed = map_hashed_share(map->hashed);
    copy->table = NULL;
    copy->moves = NULL;
    copy->nodes = duplicate(map->nodes, map->nodes_count, sizeof *map->nodes);
    copy->targets = duplicate(map->targets, map->targets_count, sizeof *map->targets);
    copy->pools = duplicate(map->pools, map->pools_count, sizeof *map->pools);
    copy->fixes = duplicate(map->fixes, map->fixes_count, sizeof *map->fixes);
    copy->holds = duplicate(map->holds, map->holds_count, sizeof *map->holds);
    copy->racks.list = duplicate(map->racks.list, map->racks.count, sizeof *map->racks.list);
    copy->rows.list = duplicate(map->rows.list, map->rows.count, sizeof *map->rows.list);
    if (copy->racks.list == NULL || copy->rows.list == NULL || copy->nodes == NULL || copy->targets == NULL || copy->pools == NULL ||
        copy->fixes == NULL || copy->holds == NULL || map_table_copy(copy, map) != 0) {
        cluster_map_free(copy);
        return NULL;
    }
    return copy;
}

const struct map_pool *cluster_map_pool(const struct cluster_map *map, uint32_t id)
{
    id &= ~BLOB_POOL_UPLOADS;
    for (uint32_t i = 0; i < map->pools_count; i++)
        if (map->pools[i].id == id)
            return &map->pools[i];
    return NULL;
}

const struct map_pool *cluster_map_pool_named(const struct cluster_map *map, const char *name)
{
    for (uint32_t i = 0; i < map->pools_count; i++)
        if (strcmp(map->pools[i].name, name) == 0)
            return &map->pools[i];
    return NULL;
}

const struct map_target *cluster_map_target(const struct cluster_map *map, uint32_t id)
{
    /* Targets are numbered from 0 as they are added, so the guess is nearly always right. */
    if (id < map->targets_count && map->targets[id].id == id)
        return &map->targets[id];
    for (uint32_t i = 0; i < map->targets_count; i++)
        if (map->targets[i].id == id)
            return &map->targets[i];
    return NULL;
}

const struct map_node *cluster_map_node_named(const struct cluster_map *map, const char *name)
{
    for (uint32_t i = 0; i < map->nodes_count; i++)
        if (strcmp(map->nodes[i].name, name) == 0)
            return &map->nodes[i];
    return NULL;
}

unsigned map_pool_width(const struct map_pool *pool)
{
    return (unsigned)pool->k + pool->m;
}

unsigned map_pool_quorum(const struct map_pool *pool)
{
    return pool->k;
}

bool map_pool_admits(const struct map_pool *pool, const char *user)
{
    for (unsigned i = 0; i < pool->users_count; i++)
        if (strcmp(pool->users[i], user) == 0)
            return true;
    return pool->users_count == 0;
}

uint32_t cluster_map_partition(const struct cluster_map *map, const struct blob_id *id)
{
    return blob_partition(id, map->partition_bits);
}

int map_pool_check(const struct cluster_map *map, const struct map_pool *pool, char *why)
{
    const size_t size = 256;
    why[0] = 0;
    if (pool->name[0] == 0 || strnlen(pool->name, CLUSTER_NAME_MAX) == CLUSTER_NAME_MAX ||
        strpbrk(pool->name, "/@ \t\n\"\\") != NULL)
        snprintf(why, size, "a pool's name has 1 to %u characters, without / @ \" \\ and blanks",
                 CLUSTER_NAME_MAX - 1);
    else if (ec_redundancy_check(pool->k, pool->m) != 0)
        snprintf(why, size, "%u+%u is no redundancy: k+m is at most %d, m at most %d for ec",
                 pool->k, pool->m, EC_MEMBERS_MAX, EC_PARITY_MAX);
    else if (pool->stripe_size < 4096 || pool->stripe_size > (16u << 20) ||
             pool->stripe_size % 4096 != 0)
        snprintf(why, size, "a stripe is a multiple of 4 KiB, from 4 KiB to 16 MiB");
    else if (pool->users_count > CLUSTER_POOL_USERS_MAX)
        snprintf(why, size, "at most %u users", CLUSTER_POOL_USERS_MAX);
    if (why[0] != 0)
        return SHOAL_E_INVALID;
    if (map == NULL)
        return 0;
    struct place_target *targets = map_place_targets(map);
    if (targets == NULL)
        return SHOAL_E_NO_MEMORY;
    struct place_verdict verdict;
    int error = place_check(&verdict, targets, map->targets_count, pool->k, pool->m);
    free(targets);
    if (error == 0 || error == SHOAL_E_NO_MEMORY)
        return error;
    snprintf(why, size, "%u+%u needs %u distinct targets, and the cluster has %u", pool->k, pool->m,
             map_pool_width(pool), verdict.targets);
    return SHOAL_E_INVALID;
}

enum map_survives cluster_map_pool_survives(const struct cluster_map *map,
                                            const struct map_pool *pool)
{
    struct place_target *targets = map_place_targets(map);
    struct place_verdict verdict = {0};
    int error = targets == NULL ? SHOAL_E_NO_MEMORY
                                : place_check(&verdict, targets, map->targets_count, pool->k,
                                              pool->m);
    free(targets);
    if (error != 0 || !verdict.survives_a_node)
        return SURVIVES_NOTHING;
    /* Where none is named, each node is a rack of its own, and each rack a row. */
    if (!verdict.survives_a_domain || verdict.domains == verdict.nodes)
        return SURVIVES_NODE;
    return !verdict.survives_a_zone || verdict.zones == verdict.domains ? SURVIVES_RACK
                                                                         : SURVIVES_ROW;
}

bool cluster_map_pool_unsafe(const struct cluster_map *map, const struct map_pool *pool)
{
    return cluster_map_pool_survives(map, pool) == SURVIVES_NOTHING;
}

static void set_states(struct target_set *set)
{
    set->primary = -1;
    set->clean = set->present = set->learners = set->fresh = 0;
    for (unsigned i = 0; i < set->width; i++) {
        const struct map_target *target = set->targets[i];
        uint16_t bit = (uint16_t)(1u << i);
        if (target == NULL)
            continue;
        bool alone = set->width == 1 && target->state == TARGET_LEARNER;
        if (target->state == TARGET_CLEAN || alone) {
            set->clean |= bit;
            if (target->up)
                set->present |= bit;
            if (target->up && target->fresh)
                set->fresh |= bit;
            if (set->primary < 0)
                set->primary = (int)i;
        } else if (target->state == TARGET_LEARNER && target->up) {
            set->learners |= bit;
        }
    }
}

static void set_moves(const struct cluster_map *map, uint32_t partition, struct target_set *set)
{
    set->moving = set->leaving = 0;
    memset(set->beside, 0, sizeof set->beside);
    if (map->moves == NULL || map->moves->rows[set->width] == NULL)
        return;
    const struct move_row *row = &map->moves->rows[set->width][partition];
    for (unsigned i = 0; i < set->width; i++) {
        if (row->target[i] == PLACE_NONE)
            continue;
        set->beside[i] = &map->targets[row->target[i]];
        if (set->beside[i]->up)
            set->moving |= (uint16_t)(1u << i);
    }
    set->leaving = set->moving & row->leaving;
    /* Who leaves and is up takes each write too, so none is acknowledged that it does not know of. */
    set->fresh |= set->present & row->leaving & (uint16_t)~set->leaving;
}

void cluster_map_partition_set(const struct cluster_map *map, const struct map_pool *pool,
                               uint32_t partition, struct target_set *set)
{
    unsigned width = map_pool_width(pool);
    CHECK(map->table != NULL && map->table->rows[width] != NULL);
    const uint16_t *indexes = place_targets(map->table, width, partition);
    set->width = width;
    for (unsigned i = 0; i < width; i++)
        set->targets[i] = indexes[i] == PLACE_NONE ? NULL : &map->targets[indexes[i]];
    set_states(set);
    set_moves(map, partition, set);
}

void cluster_map_set(const struct cluster_map *map, const struct map_pool *pool,
                     const struct blob_id *id, struct target_set *set)
{
    cluster_map_partition_set(map, pool, cluster_map_partition(map, id), set);
}

bool target_set_writable(const struct target_set *set, const struct map_pool *pool)
{
    return set->present == set->clean &&
           target_set_count(set->clean & (uint16_t)~set->fresh) >= map_pool_quorum(pool);
}

/* Counts partitions, each once, for which some pool's set is as @bad says. */
static uint64_t count_partitions(const struct cluster_map *map,
                                 bool (*bad)(const struct target_set *, const struct map_pool *))
{
    uint64_t count = 0;
    uint32_t partitions = 1u << map->partition_bits;
    for (uint32_t p = 0; p < partitions; p++) {
        for (uint32_t i = 0; i < map->pools_count; i++) {
            struct target_set set;
            cluster_map_partition_set(map, &map->pools[i], p, &set);
            if (bad(&set, &map->pools[i])) {
                count++;
                break;
            }
        }
    }
    return count;
}

static bool is_degraded(const struct target_set *set, const struct map_pool *pool)
{
    return target_set_count(set->present) < map_pool_width(pool);
}

static bool is_unwritable(const struct target_set *set, const struct map_pool *pool)
{
    return !target_set_writable(set, pool);
}

uint64_t cluster_map_degraded_partitions(const struct cluster_map *map)
{
    return count_partitions(map, is_degraded);
}

uint64_t cluster_map_unwritable_partitions(const struct cluster_map *map)
{
    return count_partitions(map, is_unwritable);
}
