/* SPDX-License-Identifier: Apache-2.0 */
#include "place/deal.h"

#include "base/check.h"

uint64_t deal_seed(uint32_t partition)
{
    return hash_mix64(partition + UINT64_C(0x6a09e667f3bcc909));
}

/* A permutation of 0 .. width-1, drawn from one hash: its digits to the bases 2, 3, ... width. */
static void permute(uint8_t positions[PLACE_WIDTH_MAX], unsigned width, uint64_t hash)
{
    positions[0] = 0;
    for (unsigned i = 1; i < width; i++) {
        const unsigned __int128 product = (unsigned __int128)hash * (i + 1);
        const unsigned swap = (unsigned)(product >> 64);
        hash = (uint64_t)product;
        positions[i] = positions[swap];
        positions[swap] = (uint8_t)i;
    }
}

void deal_domains(const struct tree *tree, const struct score_table *scores, uint64_t seed,
                  int32_t winners[PLACE_WIDTH_MAX])
{
    const unsigned width = tree->width;
    uint64_t best[PLACE_WIDTH_MAX];
    uint8_t positions[PLACE_WIDTH_MAX] = {0};
    uint64_t dealt = UINT64_MAX;

    CHECK(width <= PLACE_WIDTH_MAX);
    for (unsigned i = 0; i < width; i++) {
        winners[i] = -1;
        best[i] = UINT64_MAX;
    }
    for (uint32_t i = 0; i < tree->domain_count; i++) {
        const struct tree_item *domain = &tree->domains[i];
        /* The upper half of a key tells a rack from a node that is a domain of its own. */
        const uint32_t number = (uint32_t)domain->key;
        const uint64_t run = (domain->key >> 32 << 32) | number / width;
        if (run != dealt) {
            dealt = run;
            permute(positions, width, score_draw(seed, hash_mix64(~run)));
        }
        if (tree_is_full(domain))
            continue;
        const unsigned position = positions[number % width];
        const uint64_t cost = score_cost(scores, score_draw(seed, domain->seed), domain->inverse);
        if (cost < best[position]) {
            best[position] = cost;
            winners[position] = (int32_t)i;
        }
    }
}
