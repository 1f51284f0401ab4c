/* SPDX-License-Identifier: Apache-2.0 */
/* Fixes: what balancing changed of a table, as a list that a map can carry. */
#include "place/place.h"
#include "shoal/error.h"

enum { POSITION_BITS = 4 };

static uint32_t fix_cell(unsigned width, uint32_t partition, unsigned position)
{
    return ((width << PLACE_BITS_MAX) | partition) << POSITION_BITS | position;
}

static uint16_t *fix_find(const struct place_table *table, const struct place_fix *fix)
{
    const unsigned position = fix->cell & ((1u << POSITION_BITS) - 1);
    const uint32_t partition = fix->cell >> POSITION_BITS & ((1u << PLACE_BITS_MAX) - 1);
    const unsigned width = fix->cell >> (POSITION_BITS + PLACE_BITS_MAX);

    if (width > PLACE_WIDTH_MAX || position >= width || table->rows[width] == NULL ||
        partition >> table->bits != 0)
        return NULL;
    return &table->rows[width][partition].target[position];
}

size_t place_fixes(const struct place_table *hashed, const struct place_table *table,
                   struct place_fix *fixes, size_t room)
{
    size_t count = 0;

    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++) {
        for (uint32_t p = 0; table->rows[width] != NULL && p < 1u << table->bits; p++) {
            const uint16_t *from = place_targets(hashed, width, p);
            const uint16_t *to = place_targets(table, width, p);
            for (unsigned i = 0; i < width; i++) {
                if (from[i] == to[i])
                    continue;
                if (count < room)
                    fixes[count] = (struct place_fix){fix_cell(width, p, i), to[i]};
                count++;
            }
        }
    }
    return count;
}

/* After the fixes of a row: nobody twice. */
static bool row_is_sound(const struct place_table *table, uint32_t cell)
{
    const uint32_t partition = cell >> POSITION_BITS & ((1u << PLACE_BITS_MAX) - 1);
    const unsigned width = cell >> (POSITION_BITS + PLACE_BITS_MAX);
    const uint16_t *set = place_targets(table, width, partition);

    for (unsigned i = 0; i < width; i++)
        for (unsigned j = 0; j < i; j++)
            if (set[i] == set[j] && set[i] != PLACE_NONE)
                return false;
    return true;
}

int place_table_fix(struct place_table *table, const struct place_target *targets, size_t count,
                    const struct place_fix *fixes, size_t fixes_count)
{
    for (size_t i = 0; i < fixes_count; i++) {
        const struct place_fix *fix = &fixes[i];
        uint16_t *at = fix_find(table, fix);
        if (at == NULL || (i > 0 && fix->cell <= fixes[i - 1].cell))
            return SHOAL_E_INVALID;
        if (fix->target != PLACE_NONE && (fix->target >= count || !targets[fix->target].placeable ||
                                          targets[fix->target].weight == 0))
            return SHOAL_E_INVALID;
        *at = fix->target;
    }
    for (size_t i = 0; i < fixes_count; i++)
        if (!row_is_sound(table, fixes[i].cell))
            return SHOAL_E_INVALID;
    return 0;
}
