/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target set that hashing gives a partition. It depends on the targets and on the partition
 * alone, not on other partitions, so that after a change only the sets that it touches are drawn
 * again.
 */
#ifndef SHOAL_PLACE_DRAW_H
#define SHOAL_PLACE_DRAW_H

#include <stdbool.h>
#include <stdint.h>

#include "place/deal.h"
#include "place/place.h"
#include "place/score.h"
#include "place/tree.h"

/* @tree: its items' `used` and `rank` belong to the set that is being put together, and are 0 between sets. */
struct drawer {
    struct tree tree;
    struct dealer *dealer;
    struct score_table scores;
};

/* Return: 0, or what place_table_build() refuses. */
int drawer_init(struct drawer *drawer, const struct place_target *targets, size_t count,
                unsigned width);
void drawer_fini(struct drawer *drawer);

/*
 * draw_row() - Draw the set of a partition.
 * @kept: NULL, or what lets a set be drawn again with few draws, as only those to whom something
 *        changed (tree_compare()) can take a place from who had it: @row is then the set for a tree
 *        of the same zones, if not of the same nodes; and this says, by index in that tree's list,
 *        which target of the drawer's tree that is, UINT32_MAX where its node changed.
 */
void draw_row(struct drawer *drawer, uint32_t partition, struct place_row *row,
              const uint32_t *kept);

/* Names nobody. */
void row_clear(struct place_row *row);

#endif
