/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hashing gives the targets of a map. Maps that place the same targets share it; one that
 * places others draws again only what that touches.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "cluster/map_private.h"
#include "shoal/error.h"

#define TABLE_HEAD round_up_u64(sizeof(struct place_table), 64)

struct place_target *map_place_targets(const struct cluster_map *map)
{
    struct place_target *targets = calloc(map->targets_count + 1, sizeof *targets);
    if (targets == NULL)
        return NULL;
    for (uint32_t i = 0; i < map->targets_count; i++) {
        const struct map_target *target = &map->targets[i];
        const struct map_node *node = &map->nodes[target->node];
        targets[i] = (struct place_target){
            .id = target->id,
            .weight = target->weight,
            .node = target->node,
            .domain = node->rack,
            .zone = node->row,
            .placeable = target->state != TARGET_OUT && target->weight > 0 && !node->draining &&
                         !node->removed,
        };
    }
    return targets;
}

static uint32_t widths_of(const struct cluster_map *map)
{
    uint32_t widths = 0;
    for (uint32_t i = 0; i < map->pools_count; i++)
        widths |= 1u << map_pool_width(&map->pools[i]);
    return widths;
}

/* Table and rows are one piece of memory, so that freeing the table is freeing all. */
static struct place_table *table_alloc(unsigned bits, uint32_t widths)
{
    size_t rows = place_table_bytes(bits, widths);
    struct place_table *table = aligned_alloc(64, TABLE_HEAD + round_up_u64(rows, 64));
    if (table != NULL)
        *table = (struct place_table){.bits = bits};
    return table;
}

struct place_table *map_table_duplicate(const struct place_table *from)
{
    struct place_table *table = table_alloc(from->bits, from->widths);
    if (table == NULL)
        return NULL;
    *table = *from;
    struct place_row *rows = (struct place_row *)((char *)table + TABLE_HEAD);
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++) {
        if (from->rows[width] == NULL)
            continue;
        memcpy(rows, from->rows[width], sizeof *rows << from->bits);
        table->rows[width] = rows;
        rows += (size_t)1 << from->bits;
    }
    return table;
}

struct map_hashed *map_hashed_share(struct map_hashed *hashed)
{
    if (hashed != NULL)
        atomic_fetch_add(&hashed->sharers, 1);
    return hashed;
}

void map_hashed_free(struct map_hashed *hashed)
{
    if (hashed == NULL || atomic_fetch_sub(&hashed->sharers, 1) > 0)
        return;
    free(hashed->table);
    free(hashed->targets);
    free(hashed);
}

static bool targets_are_equal(const struct map_hashed *hashed, const struct place_target *targets,
                              uint32_t count)
{
    if (hashed->targets_count != count)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct place_target *a = &hashed->targets[i];
        const struct place_target *b = &targets[i];
        if (a->id != b->id || a->weight != b->weight || a->node != b->node ||
            a->domain != b->domain || a->zone != b->zone || a->placeable != b->placeable)
            return false;
    }
    return true;
}

/* @before: of the same shape, or NULL. */
static int draw(struct map_hashed *hashed, const struct map_hashed *before, unsigned bits,
                uint32_t widths)
{
    if (before != NULL) {
        hashed->table = map_table_duplicate(before->table);
        return hashed->table == NULL
                   ? SHOAL_E_NO_MEMORY
                   : place_table_update(hashed->table, before->targets, before->targets_count,
                                        hashed->targets, hashed->targets_count);
    }
    hashed->table = table_alloc(bits, widths);
    if (hashed->table == NULL)
        return SHOAL_E_NO_MEMORY;
    if (widths == 0)
        return 0;
    return place_table_build(hashed->table, (char *)hashed->table + TABLE_HEAD,
                             place_table_bytes(bits, widths), hashed->targets,
                             hashed->targets_count, bits, widths);
}

int map_hashed_create(const struct cluster_map *map, struct map_hashed *before,
                      struct map_hashed **out)
{
    uint32_t widths = widths_of(map);
    struct place_target *targets = map_place_targets(map);
    if (targets == NULL)
        return SHOAL_E_NO_MEMORY;
    if (before != NULL && (before->table->bits != map->partition_bits ||
                           before->table->widths != widths))
        before = NULL;
    if (before != NULL && targets_are_equal(before, targets, map->targets_count)) {
        free(targets);
        *out = map_hashed_share(before);
        return 0;
    }
    struct map_hashed *hashed = calloc(1, sizeof *hashed);
    if (hashed == NULL) {
        free(targets);
        return SHOAL_E_NO_MEMORY;
    }
    hashed->targets = targets;
    hashed->targets_count = map->targets_count;
    int error = draw(hashed, before, map->partition_bits, widths);
    if (error != 0)
        map_hashed_free(hashed);
    else
        *out = hashed;
    return error;
}
