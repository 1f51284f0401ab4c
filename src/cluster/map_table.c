/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of a map: what placement gives, corrected by the holds; and from both, who is to take
 * over what (R36, R37). A pure function of the map.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/macros.h"
#include "cluster/map_private.h"
#include "shoal/error.h"

/* The table of the map's fixes, without holds. */
static int table_fixed(struct cluster_map *map, struct place_table **out)
{
    const struct map_hashed *hashed = map->hashed;
    *out = map_table_duplicate(hashed->table);
    if (*out == NULL)
        return SHOAL_E_NO_MEMORY;
    int error = place_table_fix(*out, hashed->targets, hashed->targets_count, map->fixes,
                                map->fixes_count);
    if (error != 0)
        free(*out);
    return error;
}

/* The fixes that make of what hashing gives what is balanced, and hardly other than what serves. */
static int find_fixes(struct cluster_map *map, const struct place_table *hashed,
                      struct place_table *table)
{
    size_t count = place_fixes(hashed, table, NULL, 0);
    if (count > CLUSTER_FIXES_MAX)
        return SHOAL_E_TOO_LARGE;
    struct place_fix *fixes = malloc((count + 1) * sizeof *fixes);
    if (fixes == NULL)
        return SHOAL_E_NO_MEMORY;
    (void)place_fixes(hashed, table, fixes, count);
    free(map->fixes);
    map->fixes = fixes;
    map->fixes_count = (uint32_t)count;
    return 0;
}

int map_table_balance(struct cluster_map *map, struct place_table **out)
{
    struct map_hashed *hashed = NULL;
    int error = map_hashed_create(map, map->hashed, &hashed);
    if (error != 0)
        return error;
    const bool same = hashed == map->hashed;
    map_hashed_free(map->hashed);
    map->hashed = hashed;
    if (same)
        return table_fixed(map, out);
    struct place_table *table = map_table_duplicate(hashed->table);
    if (table == NULL)
        return SHOAL_E_NO_MEMORY;
    error = place_table_balance(table, hashed->table, map->table, hashed->targets,
                                hashed->targets_count);
    if (error == 0)
        error = find_fixes(map, hashed->table, table);
    if (error != 0)
        free(table);
    else
        *out = table;
    return error;
}

/* ---- moves ---- */

static struct map_moves *moves_alloc(unsigned bits, uint32_t widths)
{
    size_t head = round_up_u64(sizeof(struct map_moves), 64);
    size_t bytes = ((size_t)__builtin_popcount(widths) * sizeof(struct move_row)) << bits;
    struct map_moves *moves = malloc(head + bytes);
    if (moves == NULL)
        return NULL;
    memset(moves, 0, head);
    memset((char *)moves + head, 0xff, bytes); /* PLACE_NONE everywhere */
    struct move_row *rows = (struct move_row *)((char *)moves + head);
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++) {
        if ((widths >> width & 1) == 0)
            continue;
        moves->rows[width] = rows;
        for (uint32_t p = 0; p >> bits == 0; p++)
            rows[p].leaving = 0;
        rows += (size_t)1 << bits;
    }
    return moves;
}

int map_table_copy(struct cluster_map *to, const struct cluster_map *from)
{
    to->table = from->table == NULL ? NULL : map_table_duplicate(from->table);
    if (from->table != NULL && to->table == NULL)
        return SHOAL_E_NO_MEMORY;
    if (from->moves == NULL)
        return 0;
    uint32_t widths = 0;
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++)
        widths |= (uint32_t)(from->moves->rows[width] != NULL) << width;
    to->moves = moves_alloc(from->partition_bits, widths);
    if (to->moves == NULL)
        return SHOAL_E_NO_MEMORY;
    to->moves->arriving = from->moves->arriving;
    to->moves->leaving = from->moves->leaving;
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++)
        if (from->moves->rows[width] != NULL)
            memcpy(to->moves->rows[width], from->moves->rows[width],
                   sizeof(struct move_row) << from->partition_bits);
    return 0;
}

static bool has(const uint16_t *row, unsigned width, uint16_t target)
{
    for (unsigned i = 0; i < width; i++)
        if (row[i] == target)
            return true;
    return false;
}

/* What fails together: the node, the rack, or the row. */
enum within { SAME_NODE, SAME_RACK, SAME_ROW };
static bool are_alike(const struct cluster_map *map, uint16_t a, uint16_t b, enum within within)
{
    uint32_t x = map->targets[a].node, y = map->targets[b].node;
    const struct map_node *m = &map->nodes[x], *n = &map->nodes[y];
    return x == y || (within >= SAME_RACK && m->rack != 0 && m->rack == n->rack) ||
           (within >= SAME_ROW && m->row != 0 && m->row == n->row);
}

static bool is_wanting(const uint16_t *serving, const uint16_t *goal, unsigned width,
                       uint16_t placed)
{
    return placed != PLACE_NONE && !has(serving, width, placed) && !has(goal, width, placed);
}

/* One target of a node, rack or row takes over from another: so the row is at no time spread worse. */
static void take_from_alike(const struct cluster_map *map, const uint16_t *placed,
                            const uint16_t *serving, unsigned width, enum within within,
                            uint16_t *goal, bool *taken)
{
    for (unsigned i = 0; i < width; i++)
        for (unsigned j = 0; j < width && !taken[i] && serving[i] != PLACE_NONE; j++)
            if (is_wanting(serving, goal, width, placed[j]) &&
                are_alike(map, serving[i], placed[j], within)) {
                goal[i] = placed[j];
                taken[i] = true;
            }
}

/*
 * Who serves in the end (R37): a target that serves in this row and belongs there stays where it is, for
 * it can hold one piece of an object only; the others take over from one of their node, rack or row, else
 * their own position if that is to be given up, else one of what is left. A position that nobody is
 * left for stays as it is.
 */
static void row_goal(const struct cluster_map *map, const uint16_t *placed,
                     const uint16_t *serving, unsigned width, uint16_t *goal)
{
    bool taken[PLACE_WIDTH_MAX] = {false}; /* by a target that belongs there */
    for (unsigned i = 0; i < width; i++) {
        goal[i] = serving[i];
        taken[i] = serving[i] != PLACE_NONE && has(placed, width, serving[i]);
    }
    for (enum within within = SAME_NODE; within <= SAME_ROW; within++)
        take_from_alike(map, placed, serving, width, within, goal, taken);
    for (unsigned i = 0; i < width; i++)
        if (!taken[i] && is_wanting(serving, goal, width, placed[i])) {
            goal[i] = placed[i];
            taken[i] = true;
        }
    for (unsigned i = 0; i < width; i++) {
        if (!is_wanting(serving, goal, width, placed[i]))
            continue;
        int at = -1; /* first what nobody serves */
        for (unsigned j = 0; j < width; j++)
            if (!taken[j] && (at < 0 || (serving[j] == PLACE_NONE && serving[at] != PLACE_NONE)))
                at = (int)j;
        if (at < 0)
            return;
        goal[at] = placed[i];
        taken[at] = true;
    }
}

/* The holds of one row: [first, last). */
static int apply_row(struct cluster_map *map, struct map_hold *first, struct map_hold *last,
                     uint32_t widths)
{
    unsigned width = hold_width(first);
    uint32_t partition = hold_partition(first);
    struct place_row *row = &map->table->rows[width][partition];
    struct move_row move = {.leaving = 0};
    uint16_t placed[PLACE_WIDTH_MAX], goal[PLACE_WIDTH_MAX];
    memset(move.target, 0xff, sizeof move.target);
    memcpy(placed, row->target, sizeof placed);
    for (struct map_hold *hold = first; hold < last; hold++) {
        unsigned position = hold_position(hold);
        if (position >= width)
            return SHOAL_E_INVALID;
        hold->placed = placed[position];
        if (!hold_is_leaving(hold)) {
            row->target[position] = hold->target;
        } else {
            move.target[position] = hold->target;
            move.leaving |= (uint16_t)(1u << position);
        }
    }
    for (unsigned i = 0; i < width; i++)
        for (unsigned j = 0; j < i; j++)
            if (row->target[i] != PLACE_NONE && row->target[i] == row->target[j])
                return SHOAL_E_INVALID;
    row_goal(map, placed, row->target, width, goal);
    bool moves = move.leaving != 0;
    uint16_t leaving[PLACE_WIDTH_MAX];
    memcpy(leaving, move.target, sizeof leaving);
    for (unsigned i = 0; i < width; i++) {
        if (has(row->target, width, leaving[i]) && leaving[i] != PLACE_NONE)
            return SHOAL_E_INVALID;
        /* Who leaves somewhere in this row has to be gone before it can come again. */
        if ((move.leaving >> i & 1) != 0 || goal[i] == row->target[i] || goal[i] == PLACE_NONE ||
            has(leaving, width, goal[i]))
            continue;
        move.target[i] = goal[i];
        moves = true;
    }
    if (!moves)
        return 0;
    if (map->moves == NULL)
        map->moves = moves_alloc(map->partition_bits, widths);
    if (map->moves == NULL)
        return SHOAL_E_NO_MEMORY;
    map->moves->rows[width][partition] = move;
    for (unsigned i = 0; i < width; i++) {
        bool leaves = (move.leaving >> i & 1) != 0;
        map->moves->leaving += leaves;
        map->moves->arriving += !leaves && move.target[i] != PLACE_NONE;
    }
    return 0;
}

int map_table_apply(struct cluster_map *map, struct place_table *placed)
{
    free(map->table);
    free(map->moves);
    map->table = placed;
    map->moves = NULL;
    uint32_t widths = map->hashed->table->widths;
    for (uint32_t i = 0; i < map->holds_count;) {
        uint32_t end = i + 1;
        while (end < map->holds_count && map->holds[end].key >> 5 == map->holds[i].key >> 5)
            end++;
        unsigned width = hold_width(&map->holds[i]);
        bool known = width <= PLACE_WIDTH_MAX && (widths >> width & 1) != 0 &&
                     hold_partition(&map->holds[i]) >> map->partition_bits == 0;
        int error = known ? apply_row(map, &map->holds[i], &map->holds[end], widths)
                          : SHOAL_E_INVALID;
        if (error != 0)
            return error;
        i = end;
    }
    return 0;
}

int cluster_map_place(struct cluster_map *map, const struct cluster_map *before)
{
    struct map_hashed *hashed = NULL;
    struct place_table *placed = NULL;
    int error = map_hashed_create(map, before == NULL ? NULL : before->hashed, &hashed);
    if (error != 0)
        return error;
    map_hashed_free(map->hashed);
    map->hashed = hashed;
    error = table_fixed(map, &placed);
    return error != 0 ? error : map_table_apply(map, placed);
}
