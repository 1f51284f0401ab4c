/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bitmap over memory of the caller or its own. Bits beyond the length in the last word stay
 * clear. Searches skip whole words. One thread at a time.
 */
#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define BITMAP_NONE UINT64_MAX

struct bitmap {
    uint64_t *words;
    uint64_t bits;
};

static inline uint64_t bitmap_words(uint64_t bits)
{
    return bits / 64 + (bits % 64 != 0);
}

/* All clear. 0 or SHOAL_E_NO_MEMORY; bitmap_free() gives the memory back. */
int bitmap_alloc(struct bitmap *bitmap, uint64_t bits) NODISCARD;
void bitmap_free(struct bitmap *bitmap);

bool bitmap_test(const struct bitmap *bitmap, uint64_t bit);
void bitmap_set(struct bitmap *bitmap, uint64_t bit);
void bitmap_clear(struct bitmap *bitmap, uint64_t bit);

/* [first, first + count) must lie inside. */
void bitmap_set_range(struct bitmap *bitmap, uint64_t first, uint64_t count);
void bitmap_clear_range(struct bitmap *bitmap, uint64_t first, uint64_t count);
uint64_t bitmap_count_range(const struct bitmap *bitmap, uint64_t first, uint64_t count);
uint64_t bitmap_count(const struct bitmap *bitmap);

/* The first at or after @from, or BITMAP_NONE. */
uint64_t bitmap_find_set(const struct bitmap *bitmap, uint64_t from);
uint64_t bitmap_find_clear(const struct bitmap *bitmap, uint64_t from);

/* The start of the first @count clear bits in a row at or after @from, or BITMAP_NONE. */
uint64_t bitmap_find_clear_run(const struct bitmap *bitmap, uint64_t from, uint64_t count);

#endif
