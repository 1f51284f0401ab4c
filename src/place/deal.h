/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which zone gets which position of a partition's set: the first two of the steps that draw.c
 * describes, for zones. This is where the time of building a large table goes: every zone, which mostly
 * is a node, draws once for every partition.
 */
#ifndef SHOAL_PLACE_DEAL_H
#define SHOAL_PLACE_DEAL_H

#include <stdint.h>

#include "place/tree.h"

struct dealer;

/* deal_seed() - What all the hashes of a partition start from. */
uint64_t deal_seed(uint32_t partition);

/*
 * dealer_create() - Prepare to deal the zones of a tree, which must outlive the dealer.
 *
 * Return: NULL when out of memory.
 */
struct dealer *dealer_create(const struct tree *tree);
void dealer_destroy(struct dealer *dealer);

/* deal_position() - The position that a zone is dealt to. */
unsigned deal_position(const struct dealer *dealer, uint64_t seed, uint32_t zone);

/*
 * deal_zones() - The winner at each position: an index into the tree's zones, or -1 where no zone was
 * dealt to the position. No zone wins two.
 */
void deal_zones(const struct dealer *dealer, const struct score_table *scores, uint64_t seed,
                  int32_t winners[PLACE_WIDTH_MAX]);

#endif
