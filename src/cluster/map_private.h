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

/*
 * struct map_hashed - What hashing gives these targets. Never changes; freed by the last of those
 * who share it.
 */
struct map_hashed {
    struct place_target *targets;
    uint32_t targets_count;
    struct place_table *table;
    _Atomic uint32_t sharers; /* beyond the first */
};

/*
 * map_hashed_create() - For the targets of @map as they are now.
 * @before: of a map before, which is shared or made use of; or NULL
 * Return: 0, NO_MEMORY, or INVALID for targets that cannot be placed.
 */
int map_hashed_create(const struct cluster_map *map, struct map_hashed *before,
                      struct map_hashed **out);
struct map_hashed *map_hashed_share(struct map_hashed *hashed);
void map_hashed_free(struct map_hashed *hashed);
/* A table and its rows in one piece of memory; NULL: none. */
struct place_table *map_table_duplicate(const struct place_table *from);

/*
 * What placement gives, without holds, to a map that was changed and has the table of before: if that
 * is other than before, with the fixes that it needs now.
 */
int map_table_balance(struct cluster_map *map, struct place_table **out);
/* @to, which has none, gets a copy of @from's table and moves. */
int map_table_copy(struct cluster_map *to, const struct cluster_map *from);
/* The map's table and moves from what placement gives, which it takes, and the holds. */
int map_table_apply(struct cluster_map *map, struct place_table *placed);

/* Make the table of a map that was changed, and the holds that keep everything served (R36). */
int map_moves_publish(struct cluster_map *map);

#endif
