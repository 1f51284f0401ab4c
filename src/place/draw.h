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

/* @tree: its items' `used` belongs to the set that is being put together, and is 0 between sets. */
struct drawer {
    struct tree tree;
    struct dealer *dealer;
    struct score_table scores;
};

/* Return: 0, or what place_table_build() refuses. */
int drawer_init(struct drawer *drawer, const struct place_target *targets, size_t count,
                unsigned width);
void drawer_fini(struct drawer *drawer);

void draw_row(struct drawer *drawer, uint32_t partition, struct place_row *row);

/* Names nobody. */
void row_clear(struct place_row *row);

#endif
