/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may change in a map. Each function alters a copy that nobody uses yet; map_change_publish()
 * judges the absent targets (R4) and makes the next epoch of it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/planted.h"
#include "cluster/map_private.h"
#include "shoal/error.h"

static struct map_node *find_node(struct cluster_map *map, const char *name)
{
    for (uint32_t i = 0; i < map->nodes_count; i++)
        if (!map->nodes[i].removed && strcmp(map->nodes[i].name, name) == 0)
            return &map->nodes[i];
    return NULL;
}

static struct map_target *find_target(struct cluster_map *map, uint32_t id)
{
    for (uint32_t i = 0; i < map->targets_count; i++)
        if (map->targets[i].id == id)
            return &map->targets[i];
    return NULL;
}

static struct map_pool *find_pool(struct cluster_map *map, const char *name)
{
    for (uint32_t i = 0; i < map->pools_count; i++)
        if (strcmp(map->pools[i].name, name) == 0)
            return &map->pools[i];
    return NULL;
}

static bool text_fits(const char *text, size_t size)
{
    return strnlen(text, size) < size;
}

int map_change_node_add(struct cluster_map *map, const struct map_node *node)
{
    if (node->name[0] == 0 || !text_fits(node->name, sizeof node->name) ||
        !text_fits(node->data, sizeof node->data) ||
        !text_fits(node->replication, sizeof node->replication) ||
        !text_fits(node->management, sizeof node->management))
        return SHOAL_E_INVALID;
    if (find_node(map, node->name) != NULL)
        return SHOAL_E_EXISTS;
    struct map_node *added = (struct map_node *)(uintptr_t)cluster_map_node_named(map, node->name);
    if (added == NULL) {
        if (map->nodes_count == CLUSTER_NODES_MAX)
            return SHOAL_E_TOO_LARGE;
        struct map_node *nodes = realloc(map->nodes, (map->nodes_count + 1u) * sizeof *nodes);
        if (nodes == NULL)
            return SHOAL_E_NO_MEMORY;
        map->nodes = nodes;
        added = &nodes[map->nodes_count++];
    } /* else it was removed, and comes again */
    *added = *node;
    added->up = added->draining = added->removed = false;
    added->incarnation = 0;
    return 0;
}

int map_change_node_addresses(struct cluster_map *map, const struct map_node *node)
{
    struct map_node *mine = find_node(map, node->name);
    if (mine == NULL)
        return SHOAL_E_NOT_FOUND;
    if (!text_fits(node->data, sizeof node->data) ||
        !text_fits(node->replication, sizeof node->replication) ||
        !text_fits(node->management, sizeof node->management))
        return SHOAL_E_INVALID;
    memcpy(mine->data, node->data, sizeof mine->data);
    memcpy(mine->replication, node->replication, sizeof mine->replication);
    memcpy(mine->management, node->management, sizeof mine->management);
    return 0;
}

/*
 * New targets begin clean: they serve nothing yet, so nothing was ever written without them. What they
 * are to have they learn first (R36).
 */
int map_change_target_add(struct cluster_map *map, uint32_t id, const char *node, uint32_t weight)
{
    struct map_node *owner = find_node(map, node);
    if (owner == NULL)
        return SHOAL_E_NOT_FOUND;
    if (weight == 0)
        return SHOAL_E_INVALID;
    if (map->targets_count > 0 && id <= map->targets[map->targets_count - 1].id)
        return SHOAL_E_EXISTS;
    if (map->targets_count == CLUSTER_TARGETS_MAX || id == WIRE_NO_TARGET)
        return SHOAL_E_TOO_LARGE;
    struct map_target *targets = realloc(map->targets, (map->targets_count + 1u) * sizeof *targets);
    if (targets == NULL)
        return SHOAL_E_NO_MEMORY;
    map->targets = targets;
    targets[map->targets_count++] = (struct map_target){
        .id = id,
        .node = (uint32_t)(owner - map->nodes),
        .weight = weight,
        .state = TARGET_CLEAN,
    };
    return 0;
}

/* A device that is not the one that the map knows has nothing of what that one held. */
static void target_return(struct map_target *target, const struct wire_item_enroll_target *as,
                          bool first)
{
    bool another =
        target->device != 0 && as->device != target->device && !PLANTED(trusted_device);
    bool lost = another || (!first && (as->flags & WIRE_ENROLL_STALE) != 0);
    target->up = true;
    target->device = as->device;
    target->lost |= lost;
    if (target->state == TARGET_DOWN || lost)
        target->state = TARGET_LEARNER;
    else if (target->state == TARGET_OUT)
        target->state = TARGET_CLEAN; /* of what it serves, which is nothing that changed (R42) */
}

/*
 * A clean target that was merely absent is clean at once: R5 let nothing be written without it. A stale
 * one that never was in an epoch (the first start of a cluster) has lost nothing.
 */
int map_change_node_up(struct cluster_map *map, const char *name, uint64_t process,
                       uint32_t *incarnation, const struct wire_item_enroll_target *targets,
                       unsigned count)
{
    struct map_node *node = find_node(map, name);
    if (node == NULL)
        return SHOAL_E_NOT_FOUND;
    for (unsigned i = 0; i < count; i++) {
        const struct map_target *target = find_target(map, targets[i].target);
        if (target == NULL || &map->nodes[target->node] != node)
            return SHOAL_E_INVALID;
    }
    if (node->up && node->process == process && process != 0) {
        *incarnation = node->incarnation; /* the same enrolment, heard twice */
        return SHOAL_E_EXISTS;
    }
    bool first = node->incarnation == 0;
    node->up = true;
    node->process = process;
    node->incarnation = map->next_incarnation++;
    *incarnation = node->incarnation;
    for (uint32_t i = 0; i < map->targets_count; i++)
        if (&map->nodes[map->targets[i].node] == node)
            map->targets[i].up = false;
    for (unsigned i = 0; i < count; i++) {
        struct map_target *target = find_target(map, targets[i].target);
        target_return(target, &targets[i], first);
    }
    return 0;
}

int map_change_node_down(struct cluster_map *map, const char *name)
{
    struct map_node *node = find_node(map, name);
    if (node == NULL)
        return SHOAL_E_NOT_FOUND;
    node->up = false;
    for (uint32_t i = 0; i < map->targets_count; i++)
        if (&map->nodes[map->targets[i].node] == node)
            map->targets[i].up = false;
    return 0;
}

int map_change_target_failed(struct cluster_map *map, uint32_t id, uint32_t incarnation)
{
    struct map_target *target = find_target(map, id);
    if (target == NULL)
        return SHOAL_E_NOT_FOUND;
    if (map->nodes[target->node].incarnation != incarnation)
        return SHOAL_E_STALE_EPOCH;
    target->up = false;
    return 0;
}

/*
 * Every write since the target became learner waited for it, so one full comparison is enough; but
 * only with primaries of this very epoch (R29a): a later one may have settled what it never got.
 */
int map_change_target_clean(struct cluster_map *map, uint32_t id, uint32_t incarnation,
                            uint64_t caught_up_epoch)
{
    struct map_target *target = find_target(map, id);
    if (target == NULL)
        return SHOAL_E_NOT_FOUND;
    if (map->nodes[target->node].incarnation != incarnation || !target->up ||
        caught_up_epoch != map->epoch)
        return SHOAL_E_STALE_EPOCH;
    if (target->state == TARGET_CLEAN)
        return SHOAL_E_EXISTS;
    if (target->state != TARGET_LEARNER)
        return SHOAL_E_INVALID;
    target->state = TARGET_CLEAN;
    target->fresh = map->lease_ms != 0;
    return 0;
}

/* Its device is another one, empty: what it held is to come from the others. */
int map_change_target_replaced(struct cluster_map *map, uint32_t id)
{
    struct map_target *target = find_target(map, id);
    if (target == NULL)
        return SHOAL_E_NOT_FOUND;
    target->device = 0;
    if (target->state == TARGET_OUT)
        return 0; /* nobody expects anything of it */
    target->lost = true;
    target->state = target->up ? TARGET_LEARNER : TARGET_DOWN;
    return 0;
}

int map_change_target_accept(struct cluster_map *map, uint32_t id)
{
    struct map_target *target = find_target(map, id);
    if (target == NULL)
        return SHOAL_E_NOT_FOUND;
    target->lost = false;
    return 0;
}

int map_change_pool_create(struct cluster_map *map, const struct map_pool *pool)
{
    char why[256];
    if (find_pool(map, pool->name) != NULL)
        return SHOAL_E_EXISTS;
    int error = map_pool_check(map, pool, why);
    if (error != 0)
        return error;
    if (map->pools_count == CLUSTER_POOLS_MAX)
        return SHOAL_E_TOO_LARGE;
    struct map_pool *pools = realloc(map->pools, (map->pools_count + 1u) * sizeof *pools);
    if (pools == NULL)
        return SHOAL_E_NO_MEMORY;
    map->pools = pools;
    struct map_pool *added = &pools[map->pools_count++];
    *added = *pool;
    added->id = map->next_pool++;
    return 0;
}

int map_change_pool_remove(struct cluster_map *map, const char *name)
{
    struct map_pool *pool = find_pool(map, name);
    if (pool == NULL)
        return SHOAL_E_NO_POOL;
    size_t after = (size_t)(&map->pools[map->pools_count] - (pool + 1));
    memmove(pool, pool + 1, after * sizeof *pool);
    map->pools_count--;
    return 0;
}

/* Redundancy stays: what is stored would have to move. */
int map_change_pool_set(struct cluster_map *map, const struct map_pool *pool)
{
    struct map_pool *mine = find_pool(map, pool->name);
    char why[256];
    if (mine == NULL)
        return SHOAL_E_NO_POOL;
    if (mine->k != pool->k || mine->m != pool->m || mine->erasure != pool->erasure)
        return SHOAL_E_UNSUPPORTED;
    int error = map_pool_check(map, pool, why);
    if (error != 0)
        return error;
    uint32_t id = mine->id;
    *mine = *pool;
    mine->id = id;
    return 0;
}

/* Marks the absent clean targets of one set that the set cannot do without. */
static void mark_needed(const struct cluster_map *map, const struct map_pool *pool,
                        const struct target_set *set, bool *needed)
{
    if (set->width <= 1 || set->clean == set->present)
        return;
    if (target_set_count(set->present & (uint16_t)~set->fresh) >= map_pool_quorum(pool))
        return;
    for (unsigned i = 0; i < set->width; i++)
        if ((set->clean & ~set->present) >> i & 1)
            needed[set->targets[i] - map->targets] = true;
}

/*
 * R4: an absent clean target becomes down unless some set would keep too few; then it stays clean
 * and its slots wait. So every set always has enough clean members, in whatever order nodes die. Who is
 * absent may be alive and answer readers; so only those count of whom it knows (R46).
 */
static int judge_absent(struct cluster_map *map)
{
    bool *needed = calloc(map->targets_count + 1u, sizeof *needed);
    if (needed == NULL)
        return SHOAL_E_NO_MEMORY;
    uint32_t partitions = 1u << map->partition_bits;
    for (uint32_t i = 0; i < map->pools_count; i++)
        for (uint32_t p = 0; p < partitions; p++) {
            struct target_set set;
            cluster_map_partition_set(map, &map->pools[i], p, &set);
            mark_needed(map, &map->pools[i], &set, needed);
        }
    for (uint32_t i = 0; i < map->targets_count; i++) {
        struct map_target *target = &map->targets[i];
        if (target->up)
            continue;
        if (target->state == TARGET_LEARNER ||
            (target->state == TARGET_CLEAN && map->pools_count > 0 && !needed[i] &&
             map->nodes[target->node].incarnation != 0))
            target->state = TARGET_DOWN;
    }
    for (uint32_t i = 0; i < map->targets_count; i++)
        map->targets[i].fresh &= map->targets[i].state == TARGET_CLEAN;
    free(needed);
    return 0;
}

int map_change_publish(struct cluster_map *map)
{
    int error = map_moves_publish(map);
    if (error == 0)
        error = judge_absent(map);
    if (error == 0)
        map->epoch++;
    return error;
}
