/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The targets as a tree of failure domains, nodes and targets, with what each may hold.
 *
 * Made once for a table and a width. A *share* is how many shards of one set a domain, node or
 * target holds on average if the spread rules are kept and weights decide the rest: never more than
 * the rules' `most`, never less than their `least`, in proportion to weight between them. A *cap*
 * is the share times the number of partitions plus a little slack, and is what the bounded-load
 * rule holds the load to.
 */
#ifndef SHOAL_PLACE_TREE_H
#define SHOAL_PLACE_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "place/place.h"
#include "place/score.h"

struct tree_item {
    uint64_t key;    /* orders the items of a level; decides its hash */
    uint64_t weight; /* sum of its targets' */
    uint64_t share;  /* shards of a set, 32 bits of fraction */
    uint32_t parent; /* index in the level above */
    uint32_t first;  /* children in the level below */
    uint32_t count;
    uint32_t load; /* shards placed on it so far */
    uint32_t cap;
    uint8_t room;  /* targets below it, at most the width; then what the spread leaves of them */
    uint8_t least; /* shards of each set that the spread rules give it at least */
    uint8_t most;
    uint8_t used;   /* shards of the set that is being put together */
    uint16_t index; /* of a target: in the caller's list */
};

struct tree_level {
    uint32_t count;
    struct tree_item *items;
    struct score_candidate *candidates; /* the same items, as they take part in draws */
};

struct tree {
    unsigned width;
    struct tree_level domains;
    struct tree_level nodes;   /* by domain */
    struct tree_level targets; /* by node */
};

static inline bool tree_is_full(const struct tree_item *item)
{
    return item->load >= item->cap;
}

/*
 * tree_create() - Sort out the placeable targets and work out shares and caps.
 *
 * Return: 0, SHOAL_E_INVALID, SHOAL_E_TOO_LARGE or SHOAL_E_NO_MEMORY, as place_table_build().
 */
int tree_create(struct tree *tree, const struct place_target *targets, size_t count, unsigned width,
                unsigned bits);
void tree_destroy(struct tree *tree);

#endif
