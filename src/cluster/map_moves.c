/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves: what a changed map asks of the targets (R36), and the steps by which a position changes hands
 * (R38, R39).
 *
 * A change of nodes, weights or states changes what placement gives, never who serves. Publishing
 * compares the two and writes down the difference as holds; from these everybody knows which targets
 * are to learn which positions. A hold goes when its position has moved. Another change in between
 * gives another difference: there is nothing to be undone.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "cluster/map_private.h"
#include "shoal/error.h"

/* ---- publishing ---- */

struct holds {
    struct map_hold *list;
    uint32_t count, room;
};

static int add_hold(struct holds *holds, uint32_t key, uint16_t target)
{
    if (holds->count == CLUSTER_HOLDS_MAX)
        return SHOAL_E_TOO_LARGE;
    if (holds->count == holds->room) {
        uint32_t room = holds->room == 0 ? 64 : 2 * holds->room;
        struct map_hold *list = realloc(holds->list, room * sizeof *list);
        if (list == NULL)
            return SHOAL_E_NO_MEMORY;
        holds->list = list;
        holds->room = room;
    }
    holds->list[holds->count++] = (struct map_hold){key, target, PLACE_NONE};
    return 0;
}

/*
 * Who is dead has left: it answers nobody (R3). With leases it may be alive, and the mark stays
 * until that does no harm (R46).
 */
static bool is_leaving(const struct cluster_map *map, uint16_t target)
{
    return map->lease_ms != 0 || (target != PLACE_NONE && map->targets[target].up);
}

static int hold_row(const struct cluster_map *map, unsigned width, uint32_t partition,
                    const struct place_row *placed, struct holds *holds)
{
    const struct place_row *old = &map->table->rows[width][partition];
    const struct move_row *move = map->moves == NULL || map->moves->rows[width] == NULL
                                      ? NULL
                                      : &map->moves->rows[width][partition];
    int error = 0;
    for (unsigned i = 0; i < width && error == 0; i++) {
        /* Nobody to learn from, and nothing that may not be lost: whoever is placed there begins. */
        if (width == 1 && old->target[i] == PLACE_NONE)
            continue;
        if (old->target[i] != placed->target[i])
            error = add_hold(holds, hold_key(width, partition, i, false), old->target[i]);
        if (error == 0 && move != NULL && (move->leaving >> i & 1) != 0 &&
            is_leaving(map, move->target[i]))
            error = add_hold(holds, hold_key(width, partition, i, true), move->target[i]);
    }
    return error;
}

int map_moves_publish(struct cluster_map *map)
{
    struct place_table *placed;
    struct holds holds = {0};
    /* The copy has the table of the map that it is a copy of; a first map has none. */
    CHECK(map->table != NULL || map->holds_count == 0);
    int error = map_table_balance(map, &placed);
    if (error != 0)
        return error;
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX && error == 0; width++) {
        /* A width that no pool had yet: nothing is stored in it. */
        if (placed->rows[width] == NULL || map->table == NULL || map->table->rows[width] == NULL)
            continue;
        for (uint32_t p = 0; p >> map->partition_bits == 0 && error == 0; p++)
            error = hold_row(map, width, p, &placed->rows[width][p], &holds);
    }
    if (error != 0) {
        free(placed);
        free(holds.list);
        return error;
    }
    free(map->holds);
    map->holds = holds.list;
    map->holds_count = holds.count;
    return map_table_apply(map, placed);
}

/* ---- steps ---- */

static struct map_node *find_node(struct cluster_map *map, const char *name)
{
    for (uint32_t i = 0; i < map->nodes_count; i++)
        if (!map->nodes[i].removed && strcmp(map->nodes[i].name, name) == 0)
            return &map->nodes[i];
    return NULL;
}

static bool row_exists(const struct cluster_map *map, unsigned width, uint32_t partition)
{
    return width >= 1 && width <= PLACE_WIDTH_MAX && partition >> map->partition_bits == 0 &&
           map->moves != NULL && map->moves->rows[width] != NULL;
}

/*
 * R38: a switch leaves so many members of whom everybody knows that they may go on without the others. In a
 * set of one there is nobody else.
 */
static bool may_switch(const struct cluster_map *map, const struct place_row *row,
                       const struct move_row *move, unsigned width, unsigned position)
{
    unsigned known = 0, quorum = 0;
    for (uint32_t i = 0; i < map->pools_count; i++)
        if (map_pool_width(&map->pools[i]) == width && map->pools[i].m > 0)
            quorum = MAX(quorum, map_pool_quorum(&map->pools[i]));
    for (unsigned i = 0; i < width; i++) {
        const struct map_target *target =
            row->target[i] == PLACE_NONE ? NULL : &map->targets[row->target[i]];
        known += i != position && target != NULL && target->state == TARGET_CLEAN &&
                 !target->fresh && (move->leaving >> i & 1) == 0;
    }
    return map->lease_ms == 0 || known >= quorum;
}

/* Return: did the target take a position over? */
static bool switch_row(struct cluster_map *map, uint16_t target, unsigned width, uint32_t partition)
{
    if (!row_exists(map, width, partition))
        return false;
    struct place_row *row = &map->table->rows[width][partition];
    struct move_row *move = &map->moves->rows[width][partition];
    for (unsigned i = 0; i < width; i++) {
        if (move->target[i] != target || (move->leaving >> i & 1) != 0)
            continue;
        if (!may_switch(map, row, move, width, i))
            return false;
        uint16_t old = row->target[i];
        row->target[i] = target;
        move->target[i] = PLACE_NONE;
        if (map->lease_ms != 0 || (old != PLACE_NONE && map->targets[old].up)) {
            move->target[i] = old;
            move->leaving |= (uint16_t)(1u << i);
        }
        return true;
    }
    return false;
}

int map_change_rows_moved(struct cluster_map *map, uint32_t id, uint32_t incarnation,
                          uint64_t epoch, const uint32_t *rows, unsigned count)
{
    const struct map_target *target = cluster_map_target(map, id);
    bool moved = false;
    if (target == NULL)
        return SHOAL_E_NOT_FOUND;
    /* A target that is itself catching up would be no clean member of the row. */
    if (map->nodes[target->node].incarnation != incarnation || !target->up ||
        target->state != TARGET_CLEAN || epoch != map->epoch)
        return SHOAL_E_STALE_EPOCH;
    for (unsigned i = 0; i < count; i++)
        moved |= switch_row(map, (uint16_t)(target - map->targets), rows[i] >> 27,
                            rows[i] & ((1u << 27) - 1));
    return moved ? 0 : SHOAL_E_EXISTS;
}

/*
 * The authority asks for this when all who are up, or clean, are at this epoch. Who left a position and is
 * neither has no leases any more; but a set of one needed none, and may not know that it left (R46).
 */
static bool may_be_unaware(const struct cluster_map *map, const struct map_hold *hold)
{
    const struct map_target *leaver =
        hold->target == PLACE_NONE ? NULL : &map->targets[hold->target];
    return map->lease_ms != 0 && hold_width(hold) == 1 && leaver != NULL && !leaver->up &&
           !leaver->lost;
}

/* Of what stood in the map that everybody knows, not of what this batch of changes has switched. */
static bool confirm_hold(struct cluster_map *map, const struct map_hold *hold)
{
    unsigned position = hold_position(hold);
    if (!hold_is_leaving(hold) || may_be_unaware(map, hold) ||
        !row_exists(map, hold_width(hold), hold_partition(hold)))
        return false;
    struct move_row *move = &map->moves->rows[hold_width(hold)][hold_partition(hold)];
    if (move->target[position] != hold->target || (move->leaving >> position & 1) == 0)
        return false;
    move->target[position] = PLACE_NONE;
    move->leaving &= (uint16_t)~(1u << position);
    return true;
}

int map_change_confirm(struct cluster_map *map, uint64_t epoch)
{
    bool confirmed = false;
    if (epoch != map->epoch)
        return SHOAL_E_STALE_EPOCH;
    for (uint32_t i = 0; i < map->targets_count; i++) {
        confirmed |= map->targets[i].fresh;
        map->targets[i].fresh = false;
    }
    for (uint32_t i = 0; i < map->holds_count; i++)
        confirmed |= confirm_hold(map, &map->holds[i]);
    return confirmed ? 0 : SHOAL_E_EXISTS;
}

bool cluster_map_unconfirmed(const struct cluster_map *map)
{
    for (uint32_t i = 0; i < map->targets_count; i++)
        if (map->targets[i].fresh)
            return true;
    for (uint32_t i = 0; i < map->holds_count; i++)
        if (hold_is_leaving(&map->holds[i]) && !may_be_unaware(map, &map->holds[i]))
            return true;
    return false;
}

/* ---- what administrators, and time, change ---- */

/* Could every pool be placed, and no worse than before? */
static int check_pools(const struct cluster_map *map, bool as_well, const struct place_target *old)
{
    struct place_target *targets = map_place_targets(map);
    int error = targets == NULL ? SHOAL_E_NO_MEMORY : 0;
    for (uint32_t i = 0; i < map->pools_count && error == 0; i++) {
        const struct map_pool *pool = &map->pools[i];
        struct place_verdict now, before;
        error = place_check(&now, targets, map->targets_count, pool->k, pool->m);
        if (error == 0 && as_well)
            error = place_check(&before, old, map->targets_count, pool->k, pool->m);
        if (error != 0)
            error = error == SHOAL_E_NO_MEMORY ? error : SHOAL_E_CONDITION;
        else if (as_well && (now.most_on_a_node > before.most_on_a_node ||
                             now.most_in_a_domain > before.most_in_a_domain ||
                             now.most_in_a_zone > before.most_in_a_zone))
            error = SHOAL_E_CONDITION;
    }
    free(targets);
    return error;
}

int map_change_node_drain(struct cluster_map *map, const char *name, bool drain)
{
    struct map_node *node = find_node(map, name);
    if (node == NULL)
        return SHOAL_E_NOT_FOUND;
    if (node->draining == drain)
        return SHOAL_E_EXISTS;
    node->draining = drain;
    int error = check_pools(map, false, NULL);
    if (error != 0)
        node->draining = !drain;
    return error;
}

void cluster_map_places(const struct cluster_map *map, struct target_places *places)
{
    memset(places, 0, map->targets_count * sizeof *places);
    for (unsigned width = 1; map->table != NULL && width <= PLACE_WIDTH_MAX; width++) {
        if (map->table->rows[width] == NULL)
            continue;
        const struct move_row *moves = map->moves == NULL ? NULL : map->moves->rows[width];
        for (uint32_t p = 0; p >> map->partition_bits == 0; p++)
            for (unsigned i = 0; i < width; i++) {
                uint16_t serving = map->table->rows[width][p].target[i];
                uint16_t beside = moves == NULL ? PLACE_NONE : moves[p].target[i];
                if (serving != PLACE_NONE)
                    places[serving].serves++;
                if (beside != PLACE_NONE && (moves[p].leaving >> i & 1) != 0)
                    places[beside].leaves++;
                else if (beside != PLACE_NONE)
                    places[beside].learns++;
            }
    }
}

/* Only what holds nothing that anybody needs. */
/* What a set of one held is nowhere else; only a cache goes on without it. */
static bool one_may_be_lost(const struct cluster_map *map)
{
    for (uint32_t i = 0; i < map->pools_count; i++)
        if (map_pool_width(&map->pools[i]) == 1 && !map->pools[i].cache)
            return false;
    return true;
}

/*
 * It serves nothing from now on, also if it comes back before this change is published: writes go on
 * without it. A set of one stays with it, for nobody else has what is in it, unless that may be lost.
 */
static void serve_nothing(struct cluster_map *map, uint16_t target, bool alone)
{
    unsigned least = alone && one_may_be_lost(map) ? 1 : 2;
    for (unsigned width = least; map->table != NULL && width <= PLACE_WIDTH_MAX; width++)
        for (uint32_t p = 0; map->table->rows[width] != NULL && p >> map->partition_bits == 0; p++)
            for (unsigned i = 0; i < width; i++)
                if (map->table->rows[width][p].target[i] == target)
                    map->table->rows[width][p].target[i] = PLACE_NONE;
}

int map_change_node_remove(struct cluster_map *map, const char *name)
{
    struct map_node *node = find_node(map, name);
    if (node == NULL)
        return SHOAL_E_NOT_FOUND;
    struct target_places *places = calloc(map->targets_count + 1u, sizeof *places);
    if (places == NULL)
        return SHOAL_E_NO_MEMORY;
    cluster_map_places(map, places);
    /* Whoever removes a dead node says that it is dead: what is left with it is a cache's sets of one (R47). */
    bool needed = false, may_be_lost = !node->up && one_may_be_lost(map);
    for (uint32_t i = 0; i < map->targets_count; i++)
        needed |= &map->nodes[map->targets[i].node] == node &&
                  !(may_be_lost && map->targets[i].state == TARGET_OUT) &&
                  (places[i].serves > 0 || places[i].leaves > 0);
    free(places);
    bool draining = node->draining;
    node->draining = true;
    int error = needed ? SHOAL_E_CONDITION : check_pools(map, false, NULL);
    node->draining = draining;
    if (error != 0)
        return error;
    node->removed = true;
    node->up = false;
    for (uint32_t i = 0; i < map->targets_count; i++)
        if (&map->nodes[map->targets[i].node] == node) {
            serve_nothing(map, (uint16_t)i, true);
            map->targets[i].up = false;
            map->targets[i].state = TARGET_OUT;
            map->targets[i].device = 0; /* it may come again with another */
        }
    return 0;
}

int map_change_target_weight(struct cluster_map *map, uint32_t id, uint32_t weight)
{
    struct map_target *target = (struct map_target *)(uintptr_t)cluster_map_target(map, id);
    if (target == NULL)
        return SHOAL_E_NOT_FOUND;
    uint32_t old = target->weight;
    target->weight = weight;
    int error = check_pools(map, false, NULL);
    if (error != 0)
        target->weight = old;
    return error;
}

int map_change_node_weight(struct cluster_map *map, const char *name, uint32_t weight)
{
    const struct map_node *node = find_node(map, name);
    if (node == NULL)
        return SHOAL_E_NOT_FOUND;
    if (weight == 0)
        return SHOAL_E_INVALID;
    for (uint32_t i = 0; i < map->targets_count; i++)
        if (&map->nodes[map->targets[i].node] == node)
            map->targets[i].weight = weight;
    return 0;
}

static uint64_t domain_of(const struct cluster_map *map, uint32_t node)
{
    uint32_t rack = map->nodes[node].rack;
    return rack != 0 ? rack : (uint64_t)1 << 32 | node;
}

bool cluster_map_keeps_ones(const struct cluster_map *map, const struct map_target *target)
{
    bool any = map->table != NULL && one_may_be_lost(map);
    const struct place_row *rows = any ? map->table->rows[1] : NULL;
    for (uint32_t p = 0; rows != NULL && p >> map->partition_bits == 0; p++)
        if (rows[p].target[0] == (uint16_t)(target - map->targets))
            return true;
    return false;
}

int map_change_target_out(struct cluster_map *map, uint32_t id, bool alone)
{
    struct map_target *target = (struct map_target *)(uintptr_t)cluster_map_target(map, id);
    if (target == NULL)
        return SHOAL_E_NOT_FOUND;
    if (!target->up && target->state == TARGET_OUT && alone && cluster_map_keeps_ones(map, target)) {
        serve_nothing(map, (uint16_t)(target - map->targets), true);
        return 0;
    }
    if (target->state != TARGET_DOWN || target->up)
        return SHOAL_E_INVALID;
    for (uint32_t i = 0; i < map->targets_count; i++)
        if (map->targets[i].state == TARGET_OUT && !map->nodes[map->targets[i].node].removed &&
            domain_of(map, map->targets[i].node) != domain_of(map, target->node))
            return SHOAL_E_CONDITION;
    struct place_target *before = map_place_targets(map);
    if (before == NULL)
        return SHOAL_E_NO_MEMORY;
    target->state = TARGET_OUT;
    int error = check_pools(map, true, before);
    if (error != 0)
        target->state = TARGET_DOWN;
    else
        serve_nothing(map, (uint16_t)(target - map->targets), alone);
    free(before);
    return error;
}
