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

#include <stdint.h>

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

/* What score_cost() multiplies by: a division once instead of at each draw. weight > 0. */
static inline uint64_t score_inverse_weight(uint64_t weight)
{
    return (UINT64_C(1) << 63) / weight;
}

static inline uint64_t score_cost(const struct score_table *table, uint64_t hash, uint64_t inverse)
{
    return (uint64_t)((unsigned __int128)score_negative_log2(table, hash) * inverse >> 32);
}

/* The hash of one draw. Seeds are well mixed already; so is the result. */
static inline uint64_t score_draw(uint64_t seed_a, uint64_t seed_b)
{
    return hash_mix64(seed_a ^ seed_b);
}

#endif
