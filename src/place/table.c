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
            draw_row(&drawer, partition, &table->rows[width][partition]);
        drawer_fini(&drawer);
    }
    return error;
}

/*
 * What differs between two lists of targets, for one width.
 * @was: the zone that a target of the former list is in, by index of the list; UINT32_MAX: it is not
 *       placeable
 * @gone: of the former tree's zones: differs, or is no more
 * @fresh: indexes of the new tree's zones that differ, or were not there
 */
struct change {
    struct drawer before, after;
    uint32_t *was;
    bool *gone;
    uint32_t *fresh;
    uint32_t fresh_count, gone_count;
};

static bool nodes_are_equal(const struct tree *a, const struct tree_item *x, const struct tree *b,
                            const struct tree_item *y)
{
    if (x->key != y->key || x->count != y->count)
        return false;
    for (uint32_t i = 0; i < x->count; i++) {
        const struct tree_item *t = &a->targets.items[x->first + i];
        const struct tree_item *u = &b->targets.items[y->first + i];
        if (t->key != u->key || t->weight != u->weight || t->index != u->index)
            return false;
    }
    return true;
}

static bool domains_are_equal(const struct tree *a, const struct tree_item *x, const struct tree *b,
                              const struct tree_item *y)
{
    if (x->key != y->key || x->count != y->count)
        return false;
    for (uint32_t i = 0; i < x->count; i++)
        if (!nodes_are_equal(a, &a->nodes.items[x->first + i], b, &b->nodes.items[y->first + i]))
            return false;
    return true;
}

static bool zones_are_equal(const struct tree *a, const struct tree_item *x, const struct tree *b,
                            const struct tree_item *y)
{
    if (x->count != y->count)
        return false;
    for (uint32_t i = 0; i < x->count; i++)
        if (!domains_are_equal(a, &a->domains.items[x->first + i], b,
                               &b->domains.items[y->first + i]))
            return false;
    return true;
}

/* Both lists of zones are in the order of their keys. */
static void compare_zones(struct change *c)
{
    const struct tree_level *old = &c->before.tree.zones;
    const struct tree_level *new = &c->after.tree.zones;
    uint32_t i = 0;
    uint32_t j = 0;

    while (i < old->count || j < new->count) {
        const bool ends = i == old->count || j == new->count;
        if (j == new->count || (!ends && old->items[i].key < new->items[j].key)) {
            c->gone[i++] = true;
            c->gone_count++;
        } else if (i == old->count || new->items[j].key < old->items[i].key) {
            c->fresh[c->fresh_count++] = j++;
        } else {
            if (!zones_are_equal(&c->before.tree, &old->items[i], &c->after.tree,
                                 &new->items[j])) {
                c->gone[i] = true;
                c->gone_count++;
                c->fresh[c->fresh_count++] = j;
            }
            i++;
            j++;
        }
    }
}

static void change_free(struct change *c)
{
    drawer_fini(&c->before);
    drawer_fini(&c->after);
    free(c->was);
    free(c->gone);
    free(c->fresh);
    free(c);
}

static uint32_t zone_of(const struct tree *tree, uint32_t target)
{
    const uint32_t node = tree->targets.items[target].parent;

    return tree->domains.items[tree->nodes.items[node].parent].parent;
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
        const struct tree *tree = &c->before.tree;
        c->was = malloc((before_count + 1) * sizeof(*c->was));
        c->gone = calloc(tree->zones.count + 1, sizeof(*c->gone));
        c->fresh = calloc(c->after.tree.zones.count + 1, sizeof(*c->fresh));
        if (c->was == NULL || c->gone == NULL || c->fresh == NULL) {
            *error = SHOAL_E_NO_MEMORY;
        } else {
            memset(c->was, 0xff, (before_count + 1) * sizeof(*c->was));
            for (uint32_t i = 0; i < tree->targets.count; i++)
                c->was[tree->targets.items[i].index] = zone_of(tree, i);
            compare_zones(c);
        }
    }
    if (*error != 0) {
        change_free(c);
        return NULL;
    }
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

    for (unsigned i = 0; i < d->tree.width; i++) {
        if (row->target[i] == PLACE_NONE)
            return true;
        holders[i] = c->was[row->target[i]];
        CHECK(holders[i] != UINT32_MAX);
        if (c->gone[holders[i]] || deal_position(d->dealer, seed, holders[i]) != i)
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
        for (uint32_t p = 0; p < 1u << table->bits && c->gone_count + c->fresh_count > 0; p++) {
            struct place_row *row = &table->rows[width][p];
            if (row_is_touched(c, p, row))
                draw_row(&c->after, p, row);
        }
        change_free(c);
    }
    return 0;
}
