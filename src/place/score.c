/* SPDX-License-Identifier: Apache-2.0 */
#include "place/score.h"

/* log2 of x in [1, 2), given with 31 bits of fraction: square, and see whether it passes 2. */
static uint32_t log2_fraction(uint64_t x)
{
    uint32_t result = 0;

    for (int bit = 0; bit < SCORE_FRACTION_BITS; bit++) {
        x = x * x >> 31;
        result <<= 1;
        if (x >= UINT64_C(1) << 32) {
            x >>= 1;
            result |= 1;
        }
    }
    return result;
}

void score_table_init(struct score_table *table)
{
    for (uint64_t i = 0; i < SCORE_TABLE_SIZE - 1; i++)
        table->log2[i] = log2_fraction((UINT64_C(1) << 31) + (i << (31 - SCORE_TABLE_BITS)));
    table->log2[SCORE_TABLE_SIZE - 1] = 1u << SCORE_FRACTION_BITS;
}
