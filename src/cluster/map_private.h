/* SPDX-License-Identifier: Apache-2.0 */
/* Between map.c, map_table.c, map_moves.c and map_change.c. */
#ifndef SHOAL_CLUSTER_MAP_PRIVATE_H
#define SHOAL_CLUSTER_MAP_PRIVATE_H

#include "cluster/cluster.h"

/*
 * A hold's key: the width above, then the partition, the position, and whether the hold's target is
 * leaving; so the holds of one row lie together.
 */
static inline uint32_t hold_key(unsigned width, uint32_t partition, unsigned position, bool leaving)
{
    return map_row_key(width, partition << 5) | position << 1 | leaving;
}

static inline unsigned hold_width(const struct map_hold *hold)
{
    return hold->key >> 27;
}

static inline uint32_t hold_partition(const struct map_hold *hold)
{
    return hold->key >> 5 & ((1u << PLACE_BITS_MAX) - 1);
}

static inline unsigned hold_position(const struct map_hold *hold)
{
    return hold->key >> 1 & 0xf;
}

static inline bool hold_is_leaving(const struct map_hold *hold)
{
    return (hold->key & 1) != 0;
}

/* The targets as placement sees them; NULL: no memory. */
struct place_target *map_place_targets(const struct cluster_map *map);

/* A table with the rows that placement gives by the map's fixes, without holds. @before may be NULL. */
int map_table_placed(const struct cluster_map *map, const struct cluster_map *before,
                     struct place_table **out, uint64_t *placed_from);
/* The same, of a map that was changed and has the table of before: with the fixes that it needs now. */
int map_table_balance(struct cluster_map *map, struct place_table **out, uint64_t *placed_from);
/* @to, which has none, gets a copy of @from's table and moves. */
int map_table_copy(struct cluster_map *to, const struct cluster_map *from);
/* The map's table and moves from what placement gives, which it takes, and the holds. */
int map_table_apply(struct cluster_map *map, struct place_table *placed, uint64_t placed_from);

/* Make the table of a map that was changed, and the holds that keep everything served (R36). */
int map_moves_publish(struct cluster_map *map);

#endif
