/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which failure domain gets which position of a partition's set: the first two of the steps that
 * table.c describes, for domains.
 */
#ifndef SHOAL_PLACE_DEAL_H
#define SHOAL_PLACE_DEAL_H

#include <stdint.h>

#include "place/score.h"
#include "place/tree.h"

/* What all the hashes of a partition start from. */
uint64_t deal_seed(uint32_t partition);

/*
 * deal_domains() - The winner at each position: an index into tree->domains, or -1 where no domain
 * that has room was dealt to the position. No domain wins two.
 */
void deal_domains(const struct tree *tree, const struct score_table *scores, uint64_t seed,
                  int32_t winners[PLACE_WIDTH_MAX]);

#endif
