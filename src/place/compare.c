/* SPDX-License-Identifier: Apache-2.0 */
/* What differs between two trees: both are walked at once, level by level, in the order of keys. */
#include "place/tree.h"

enum { LOST = 1, GAINED = 2 };

static void note_change(struct tree_item *item, unsigned change)
{
    item->lost = (change & LOST) != 0;
    item->gained = (change & GAINED) != 0;
}

/* @old, @new: the levels below, down to the targets; NULL after these. */
static unsigned compare_children(struct tree_level *const old[], const struct tree_item *a,
                                 struct tree_level *const new[], const struct tree_item *b);

/* NULL for one that the other tree does not have. */
static unsigned compare_items(struct tree_level *const old[], struct tree_item *a,
                              struct tree_level *const new[], struct tree_item *b)
{
    static const struct tree_item nobody;
    const struct tree_item *x = a == NULL ? &nobody : a;
    const struct tree_item *y = b == NULL ? &nobody : b;
    unsigned change = (x->weight > y->weight ? LOST : 0) | (x->weight < y->weight ? GAINED : 0);

    if (old[0] != NULL && new[0] != NULL)
        change |= compare_children(old, x, new, y);
    else if (x->index != y->index)
        change = LOST | GAINED;
    if (a != NULL)
        note_change(a, change);
    if (b != NULL)
        note_change(b, change);
    return change;
}

static unsigned compare_children(struct tree_level *const old[], const struct tree_item *a,
                                 struct tree_level *const new[], const struct tree_item *b)
{
    const struct tree_item *a_end = &old[0]->items[a->first + a->count];
    const struct tree_item *b_end = &new[0]->items[b->first + b->count];
    struct tree_item *x = &old[0]->items[a->first];
    struct tree_item *y = &new[0]->items[b->first];
    unsigned change = 0;

    while (x < a_end || y < b_end) {
        const bool gone = y == b_end || (x < a_end && x->key < y->key);
        const bool fresh = x == a_end || (y < b_end && y->key < x->key);
        change |= compare_items(old + 1, fresh ? NULL : x, new + 1, gone ? NULL : y);
        x += !fresh;
        y += !gone;
    }
    return change;
}

bool tree_compare(struct tree *before, struct tree *after)
{
    struct tree_level *const old[] = {&before->zones, &before->domains, &before->nodes,
                                      &before->targets, NULL};
    struct tree_level *const new[] = {&after->zones, &after->domains, &after->nodes,
                                      &after->targets, NULL};

    return compare_items(old, &before->all, new, &after->all) != 0;
}
