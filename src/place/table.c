/* SPDX-License-Identifier: Apache-2.0 */
/* Tables: blocks of rows, one for each width; drawn whole, or what a change touched of them. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "place/draw.h"
#include "place/place.h"
#include "shoal/error.h"

_Static_assert(sizeof(struct place_row) == 32, "a row shares no cache line with half of another");

static bool shape_is_valid(unsigned bits, uint32_t widths)
{
    return bits <= PLACE_BITS_MAX && widths != 0 && (widths & 1) == 0 &&
           widths >> (PLACE_WIDTH_MAX + 1) == 0;
}

size_t place_table_bytes(unsigned bits, uint32_t widths)
{
    return (size_t)__builtin_popcount(widths) * sizeof(struct place_row) << bits;
}

int place_table_init(struct place_table *table, void *memory, size_t memory_bytes, unsigned bits,
                     uint32_t widths)
{
    struct place_row *rows = memory;

    if (!shape_is_valid(bits, widths))
        return SHOAL_E_INVALID;
    CHECK(memory_bytes >= place_table_bytes(bits, widths));
    *table = (struct place_table){.bits = bits, .widths = widths};
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++) {
        if ((widths >> width & 1) == 0)
            continue;
        table->rows[width] = rows;
        rows += (size_t)1 << bits;
    }
    return 0;
}

int place_table_build(struct place_table *table, void *memory, size_t memory_bytes,
                      const struct place_target *targets, size_t count, unsigned bits,
                      uint32_t widths)
{
    int error = place_table_init(table, memory, memory_bytes, bits, widths);

    for (unsigned width = 1; width <= PLACE_WIDTH_MAX && error == 0; width++) {
        struct drawer drawer;
        if (table->rows[width] == NULL)
            continue;
        error = drawer_init(&drawer, targets, count, width);
        if (error != 0)
            break;
        for (uint32_t partition = 0; partition < 1u << bits; partition++)
            draw_row(&drawer, partition, &table->rows[width][partition], NULL);
        drawer_fini(&drawer);
    }
    return error;
}

/*
 * What differs between two lists of targets, for one width; in their trees it is marked.
 * @was: the zone that a target of the former list is in, by index of the list; UINT32_MAX: it is not
 *       placeable
 * @kept: likewise the target of the new tree, as draw_row() takes it
 * @same_zones: so that this may be used
 * @fresh: indexes of the new tree's zones that differ, or were not there
 */
struct change {
    struct drawer before, after;
    uint32_t *was, *kept;
    bool any, same_zones;
    uint32_t *fresh;
    uint32_t fresh_count;
};

static bool zones_are_same(const struct tree_level *a, const struct tree_level *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (a->items[i].key != b->items[i].key)
            return false;
    return true;
}

static void change_free(struct change *c)
{
    drawer_fini(&c->before);
    drawer_fini(&c->after);
    free(c->was);
    free(c->kept);
    free(c->fresh);
    free(c);
}

static uint32_t zone_of(const struct tree *tree, uint32_t target)
{
    const uint32_t node = tree->targets.items[target].parent;

    return tree->domains.items[tree->nodes.items[node].parent].parent;
}

static void note_changes(struct change *c, size_t before_count)
{
    const struct tree *old = &c->before.tree;
    const struct tree *new = &c->after.tree;

    memset(c->was, 0xff, (before_count + 1) * sizeof(*c->was));
    memset(c->kept, 0xff, (before_count + 1) * sizeof(*c->kept));
    for (uint32_t i = 0; i < old->targets.count; i++)
        c->was[old->targets.items[i].index] = zone_of(old, i);
    /* What is not marked was there before, at the same index. */
    for (uint32_t i = 0; i < new->targets.count; i++)
        if (!tree_item_changed(&new->nodes.items[new->targets.items[i].parent]))
            c->kept[new->targets.items[i].index] = i;
    for (uint32_t i = 0; i < new->zones.count; i++)
        if (new->zones.items[i].gained)
            c->fresh[c->fresh_count++] = i;
    c->same_zones = zones_are_same(&old->zones, &new->zones);
}

static struct change *change_create(const struct place_target *before, size_t before_count,
                                    const struct place_target *targets, size_t count,
                                    unsigned width, int *error)
{
    struct change *c = calloc(1, sizeof(*c));

    *error = SHOAL_E_NO_MEMORY;
    if (c == NULL)
        return NULL;
    *error = drawer_init(&c->before, before, before_count, width);
    if (*error == 0)
        *error = drawer_init(&c->after, targets, count, width);
    if (*error == 0) {
        c->was = malloc((before_count + 1) * sizeof(*c->was));
        c->kept = malloc((before_count + 1) * sizeof(*c->kept));
        c->fresh = calloc(c->after.tree.zones.count + 1, sizeof(*c->fresh));
        if (c->was == NULL || c->kept == NULL || c->fresh == NULL)
            *error = SHOAL_E_NO_MEMORY;
    }
    if (*error != 0) {
        change_free(c);
        return NULL;
    }
    c->any = tree_compare(&c->before.tree, &c->after.tree);
    note_changes(c, before_count);
    return c;
}

/*
 * Could the change touch this set? Nothing can but a zone that was in it and changed, or one that
 * wins the position to which it is dealt. A position that nobody was dealt to is open to all nodes.
 */
static bool row_is_touched(const struct change *c, uint32_t partition, const struct place_row *row)
{
    const struct drawer *d = &c->before;
    const uint64_t seed = deal_seed(partition);
    uint32_t holders[PLACE_WIDTH_MAX];

    if (d->tree.zones.count < d->tree.width)
        return true; /* not all positions are dealt */
    for (unsigned i = 0; i < d->tree.width; i++) {
        if (row->target[i] == PLACE_NONE)
            return true;
        holders[i] = c->was[row->target[i]];
        CHECK(holders[i] != UINT32_MAX);
        if (tree_item_changed(&d->tree.zones.items[holders[i]]) ||
            deal_position(d->dealer, seed, holders[i]) != i)
            return true;
    }
    for (uint32_t i = 0; i < c->fresh_count; i++) {
        const unsigned position = deal_position(c->after.dealer, seed, c->fresh[i]);
        uint64_t to_beat = UINT64_MAX;
        uint64_t cost;
        score_beats(&d->scores, seed, &d->tree.zones.candidates[holders[position]], UINT64_MAX,
                    &to_beat);
        /* Of two that draw the same the first in the tree wins: let the drawing tell. */
        if (score_beats(&c->after.scores, seed, &c->after.tree.zones.candidates[c->fresh[i]],
                        to_beat == UINT64_MAX ? to_beat : to_beat + 1, &cost))
            return true;
    }
    return false;
}

int place_table_update(struct place_table *table, const struct place_target *before,
                       size_t before_count, const struct place_target *targets, size_t count)
{
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++) {
        int error = 0;
        if (table->rows[width] == NULL)
            continue;
        struct change *c = change_create(before, before_count, targets, count, width, &error);
        if (c == NULL)
            return error;
        for (uint32_t p = 0; p < 1u << table->bits && c->any; p++) {
            struct place_row *row = &table->rows[width][p];
            if (row_is_touched(c, p, row))
                draw_row(&c->after, p, row, c->same_zones ? c->kept : NULL);
        }
        change_free(c);
    }
    return 0;
}
