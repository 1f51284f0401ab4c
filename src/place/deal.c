/* SPDX-License-Identifier: Apache-2.0 */
#include "place/deal.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"

enum {
    TABULATED_MAX = 7, /* up to this width all permutations are kept: 7! of 8 bytes */
    TABULATED_COUNT = 5040,
    TABULATED_STRIDE = 8,
};

/* Zones whose numbers differ by less than the width: dealt at most one to each position. */
struct run {
    uint64_t seed;
    uint32_t first;
    uint32_t count;
};

struct dealer {
    const struct tree *tree;
    uint8_t *places;   /* of each zone in its run: its number modulo the width */
    uint32_t *run_of;  /* each zone */
    struct run *runs;
    uint32_t run_count;
    uint32_t permutation_count; /* 0: not tabulated */
    uint8_t permutations[TABULATED_COUNT][TABULATED_STRIDE];
};

uint64_t deal_seed(uint32_t partition)
{
    return hash_mix64(partition + UINT64_C(0x6a09e667f3bcc909));
}

/* A permutation of 0 .. width-1, drawn from one hash: its digits to the bases 2, 3, ... width. */
static void permute(uint8_t *positions, unsigned width, uint64_t hash)
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

/* The n-th of all permutations is what permute() makes of a hash that is n / width! of the range. */
static void tabulate(struct dealer *dealer, unsigned width)
{
    uint32_t count = 1;

    for (unsigned i = 2; i <= width; i++)
        count *= i;
    for (uint32_t n = 0; n < count; n++)
        permute(dealer->permutations[n], width, UINT64_MAX / count * n + count);
    dealer->permutation_count = count;
}

struct dealer *dealer_create(const struct tree *tree)
{
    const unsigned width = tree->width;
    struct dealer *dealer = calloc(1, sizeof(*dealer));

    CHECK(width >= 1 && width <= PLACE_WIDTH_MAX);
    if (dealer == NULL)
        return NULL;
    dealer->tree = tree;
    dealer->places = calloc(tree->zones.count + 1, sizeof(*dealer->places));
    dealer->run_of = calloc(tree->zones.count + 1, sizeof(*dealer->run_of));
    dealer->runs = calloc(tree->zones.count + 1, sizeof(*dealer->runs));
    if (dealer->places == NULL || dealer->run_of == NULL || dealer->runs == NULL) {
        dealer_destroy(dealer);
        return NULL;
    }

    uint64_t last = UINT64_MAX;
    for (uint32_t i = 0; i < tree->zones.count; i++) {
        /* The upper half of a key tells a zone from a rack or a node that is one of its own. */
        const uint64_t key = tree->zones.items[i].key;
        const uint32_t number = (uint32_t)key;
        const uint64_t run = (key >> 32 << 32) | number / width;
        if (run != last) {
            last = run;
            dealer->runs[dealer->run_count++] = (struct run){hash_mix64(~run), i, 0};
        }
        dealer->runs[dealer->run_count - 1].count++;
        dealer->run_of[i] = dealer->run_count - 1;
        dealer->places[i] = (uint8_t)(number % width);
    }
    if (width <= TABULATED_MAX)
        tabulate(dealer, width);
    return dealer;
}

void dealer_destroy(struct dealer *dealer)
{
    if (dealer == NULL)
        return;
    free(dealer->places);
    free(dealer->run_of);
    free(dealer->runs);
    free(dealer);
}

/* Which position each place of a run gets; in @room where no table of permutations has it. */
static const uint8_t *deal_run(const struct dealer *dealer, const struct run *run, uint64_t seed,
                               uint8_t room[PLACE_WIDTH_MAX])
{
    const uint64_t hash = hash_mix64(seed ^ run->seed);

    if (dealer->permutation_count != 0) {
        const unsigned __int128 n = (unsigned __int128)hash * dealer->permutation_count;
        return dealer->permutations[(uint32_t)(n >> 64)];
    }
    permute(room, dealer->tree->width, hash);
    return room;
}

unsigned deal_position(const struct dealer *dealer, uint64_t seed, uint32_t zone)
{
    uint8_t room[PLACE_WIDTH_MAX];

    return deal_run(dealer, &dealer->runs[dealer->run_of[zone]], seed,
                    room)[dealer->places[zone]];
}

void deal_zones(const struct dealer *dealer, const struct score_table *scores, uint64_t seed,
                  int32_t winners[PLACE_WIDTH_MAX])
{
    const struct tree_level *zones = &dealer->tree->zones;
    uint64_t best[PLACE_WIDTH_MAX];
    uint8_t permuted[PLACE_WIDTH_MAX];

    for (unsigned i = 0; i < PLACE_WIDTH_MAX; i++) {
        winners[i] = -1;
        best[i] = UINT64_MAX;
    }
    for (uint32_t r = 0; r < dealer->run_count; r++) {
        const struct run *run = &dealer->runs[r];
        const uint8_t *positions = deal_run(dealer, run, seed, permuted);
        for (uint32_t i = run->first; i < run->first + run->count; i++) {
            const unsigned position = positions[dealer->places[i]];
            uint64_t cost;
            if (score_beats(scores, seed, &zones->candidates[i], best[position], &cost)) {
                best[position] = cost;
                winners[position] = (int32_t)i;
            }
        }
    }
}
