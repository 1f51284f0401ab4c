/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weighted rendezvous hashing in integers.
 *
 * Each candidate draws an exponentially distributed *cost* with its weight as the rate, -ln(u)/w,
 * where u comes from the hash of partition and candidate. The lowest cost wins, with a probability
 * in proportion to weight; and since a candidate's cost depends on nothing but itself, one that
 * comes takes from each of the others only what it wins, and one that goes leaves the rest alone.
 *
 * Logarithms are to base 2, in fixed point, from a table that is itself made with integers, so no
 * compiler or processor can round differently. Floating point would move data between releases.
 */
#ifndef SHOAL_PLACE_SCORE_H
#define SHOAL_PLACE_SCORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/hash.h"

enum {
    SCORE_FRACTION_BITS = 26,
    SCORE_TABLE_BITS = 12,
    SCORE_TABLE_SIZE = (1 << SCORE_TABLE_BITS) + 1,
};

/* log2(1 + i/4096) with SCORE_FRACTION_BITS of fraction. */
struct score_table {
    uint32_t log2[SCORE_TABLE_SIZE];
};

void score_table_init(struct score_table *table);

/* -log2(hash / 2^64), in [0, 64], with SCORE_FRACTION_BITS of fraction. */
static inline uint64_t score_negative_log2(const struct score_table *table, uint64_t hash)
{
    const int zeros = __builtin_clzll(hash | 1);
    const uint64_t mantissa = (hash | 1) << zeros << 1; /* without its leading one */
    const uint64_t index = mantissa >> (64 - SCORE_TABLE_BITS);
    const uint64_t between = mantissa << SCORE_TABLE_BITS >> 48;
    const uint64_t low = table->log2[index];
    const uint64_t high = table->log2[index + 1];
    const uint64_t fraction = low + ((high - low) * between >> 16);

    return ((uint64_t)(zeros + 1) << SCORE_FRACTION_BITS) - fraction;
}

/*
 * Someone who takes part in draws. Apart from all else that is known of it, so that thousands of
 * them fit in the cache.
 */
struct score_candidate {
    uint64_t seed;    /* well mixed */
    uint64_t inverse; /* of the weight: a division once instead of at each draw */
};

static inline uint64_t score_inverse_weight(uint64_t weight)
{
    CHECK(weight > 0);
    return (UINT64_C(1) << 63) / weight;
}

static inline uint64_t score_scale(uint64_t logarithm, uint64_t inverse)
{
    return (uint64_t)((unsigned __int128)logarithm * inverse >> 32);
}

/*
 * score_beats() - Draw for a candidate, and see whether its cost is below @best.
 * @seed: of the draw, well mixed.
 * @cost: written if so.
 *
 * Most candidates fail on the first look: -log2(u) is never less than 1 - u, and what
 * score_negative_log2() cuts off only adds to it.
 */
static inline bool score_beats(const struct score_table *table, uint64_t seed,
                               const struct score_candidate *candidate, uint64_t best,
                               uint64_t *cost)
{
    const uint64_t hash = hash_mix64(seed ^ candidate->seed);
    const uint64_t least = ~hash >> (64 - SCORE_FRACTION_BITS);

    if (score_scale(least, candidate->inverse) >= best)
        return false;
    const uint64_t drawn = score_scale(score_negative_log2(table, hash), candidate->inverse);
    if (drawn >= best)
        return false;
    *cost = drawn;
    return true;
}

#endif
