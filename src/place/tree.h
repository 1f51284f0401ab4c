/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The targets as a tree of zones, failure domains, nodes and targets, with what each may hold. Without zones
 * each domain is a zone of its own, of the same key, so that naming none changes nothing.
 *
 * Made once for a table and a width. A *share* is how many shards of one set a zone, domain, node or
 * target holds on average if the spread rules are kept and weights decide the rest: never more than
 * the rules' `most`, never less than their `least`, in proportion to weight between them.
 */
#ifndef SHOAL_PLACE_TREE_H
#define SHOAL_PLACE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "place/place.h"
#include "place/score.h"

enum {
    TREE_SHARE_BITS = 32,
    TREE_FULL = UINT16_MAX, /* rank of what has no target left */
};

struct tree_item {
    uint64_t key;    /* orders the items of a level; decides its hash */
    uint64_t weight; /* sum of its targets' */
    uint64_t share;  /* shards of a set, TREE_SHARE_BITS of fraction; see tree_share() */
    uint32_t parent; /* index in the level above */
    uint32_t first;  /* children in the level below */
    uint32_t count;
    uint8_t room;  /* targets below it, at most the width; then what the spread leaves of them */
    uint8_t least; /* shards of each set that the spread rules give it at least */
    uint8_t most;
    uint8_t used;   /* shards of the set that is being put together */
    bool lost, gained; /* something below it, or weight; see tree_compare() */
    uint16_t rank;  /* while a set is put together: who has least takes the next shard; see draw.c */
    uint16_t index; /* of a target: in the caller's list */
};

/* @some_least: the spread rules give some of its items a shard of each set at least */
struct tree_level {
    uint32_t count;
    bool some_least;
    struct tree_item *items;
    struct score_candidate *candidates; /* the same items, as they take part in draws */
};

struct tree {
    unsigned width;
    struct tree_item all; /* above the zones */
    struct tree_level zones;
    struct tree_level domains; /* by zone */
    struct tree_level nodes;   /* by domain */
    struct tree_level targets; /* by node */
};

/*
 * tree_create() - Sort out the placeable targets, and what the spread rules give them.
 *
 * Return: 0, SHOAL_E_INVALID, SHOAL_E_TOO_LARGE or SHOAL_E_NO_MEMORY, as place_table_build().
 */
int tree_create(struct tree *tree, const struct place_target *targets, size_t count,
                unsigned width);

/*
 * tree_compare() - Mark, in both trees, targets that lost or gained weight from one to the other, that
 * left or came; and all that has such a one below it. Return: whether there is any.
 */
bool tree_compare(struct tree *before, struct tree *after);

static inline bool tree_item_changed(const struct tree_item *item)
{
    return item->lost || item->gained;
}

/* tree_share() - Work out the shares, which hashing does without. */
void tree_share(struct tree *tree);
void tree_destroy(struct tree *tree);

#endif
