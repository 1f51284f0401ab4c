/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bitmap.h"

#include <stdlib.h>

#include "base/check.h"
#include "shoal/error.h"

int bitmap_alloc(struct bitmap *bitmap, uint64_t bits)
{
    bitmap->bits = bits;
    bitmap->words = calloc(MAX(bitmap_words(bits), UINT64_C(1)), sizeof(uint64_t));
    return bitmap->words != NULL ? 0 : SHOAL_E_NO_MEMORY;
}

void bitmap_free(struct bitmap *bitmap)
{
    free(bitmap->words);
    *bitmap = (struct bitmap){0};
}

bool bitmap_test(const struct bitmap *bitmap, uint64_t bit)
{
    CHECK(bit < bitmap->bits);
    return (bitmap->words[bit / 64] >> (bit % 64) & 1) != 0;
}

void bitmap_set(struct bitmap *bitmap, uint64_t bit)
{
    CHECK(bit < bitmap->bits);
    bitmap->words[bit / 64] |= UINT64_C(1) << (bit % 64);
}

void bitmap_clear(struct bitmap *bitmap, uint64_t bit)
{
    CHECK(bit < bitmap->bits);
    bitmap->words[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
}

static void check_range(const struct bitmap *bitmap, uint64_t first, uint64_t count)
{
    CHECK(first <= bitmap->bits && count <= bitmap->bits - first);
}

/* The part of the word of @bit that lies in [bit, end), as a mask. */
static uint64_t mask_from(uint64_t bit, uint64_t end)
{
    uint64_t low = bit % 64;
    uint64_t length = MIN(64 - low, end - bit);
    return (length == 64 ? UINT64_MAX : (UINT64_C(1) << length) - 1) << low;
}

static uint64_t next_word(uint64_t bit)
{
    return (bit / 64 + 1) * 64;
}

void bitmap_set_range(struct bitmap *bitmap, uint64_t first, uint64_t count)
{
    check_range(bitmap, first, count);
    uint64_t end = first + count;
    for (uint64_t bit = first; bit < end; bit = next_word(bit))
        bitmap->words[bit / 64] |= mask_from(bit, end);
}

void bitmap_clear_range(struct bitmap *bitmap, uint64_t first, uint64_t count)
{
    check_range(bitmap, first, count);
    uint64_t end = first + count;
    for (uint64_t bit = first; bit < end; bit = next_word(bit))
        bitmap->words[bit / 64] &= ~mask_from(bit, end);
}

uint64_t bitmap_count_range(const struct bitmap *bitmap, uint64_t first, uint64_t count)
{
    check_range(bitmap, first, count);
    uint64_t end = first + count;
    uint64_t sum = 0;
    for (uint64_t bit = first; bit < end; bit = next_word(bit))
        sum += (uint64_t)__builtin_popcountll(bitmap->words[bit / 64] & mask_from(bit, end));
    return sum;
}

uint64_t bitmap_count(const struct bitmap *bitmap)
{
    return bitmap_count_range(bitmap, 0, bitmap->bits);
}

/* @flip: 0 searches set bits, all ones searches clear ones. */
static uint64_t find(const struct bitmap *bitmap, uint64_t from, uint64_t flip)
{
    for (uint64_t bit = from; bit < bitmap->bits; bit = next_word(bit)) {
        uint64_t word = (bitmap->words[bit / 64] ^ flip) & mask_from(bit, bitmap->bits);
        if (word != 0)
            return bit / 64 * 64 + (uint64_t)__builtin_ctzll(word);
    }
    return BITMAP_NONE;
}

uint64_t bitmap_find_set(const struct bitmap *bitmap, uint64_t from)
{
    return find(bitmap, from, 0);
}

uint64_t bitmap_find_clear(const struct bitmap *bitmap, uint64_t from)
{
    return find(bitmap, from, UINT64_MAX);
}

uint64_t bitmap_find_clear_run(const struct bitmap *bitmap, uint64_t from, uint64_t count)
{
    CHECK(count > 0);
    for (;;) {
        uint64_t start = bitmap_find_clear(bitmap, from);
        if (start == BITMAP_NONE || bitmap->bits - start < count)
            return BITMAP_NONE;
        uint64_t end = bitmap_find_set(bitmap, start);
        if (end == BITMAP_NONE || end - start >= count)
            return start;
        from = end;
    }
}
