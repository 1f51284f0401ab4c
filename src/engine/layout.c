/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/layout.h"

#include "engine/checkpoint_format.h"
#include "engine/engine.h"
#include "shoal/error.h"

#define BLOCKS_MAX (UINT64_C(1) << 40)

#define JOURNAL_MIN (UINT64_C(256) << 10)
#define JOURNAL_STEADY (UINT64_C(64) << 20)

/* Up to this many blocks there may be one object a block, beyond it one for each 64 KiB. */
#define DENSE_BLOCKS (UINT64_C(1) << 24)

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static uint64_t power_of_two_below(uint64_t value)
{
    uint64_t power = 1;
    while (power * 2 <= value)
        power *= 2;
    return power;
}

int layout_compute(uint64_t size_bytes, struct layout *layout)
{
    uint64_t blocks = size_bytes / LAYOUT_BLOCK;
    if (size_bytes < ENGINE_DEVICE_MIN)
        return SHOAL_E_INVALID;
    if (blocks > BLOCKS_MAX)
        return SHOAL_E_TOO_LARGE;

    *layout = (struct layout){.blocks = blocks, .superblocks = {0, blocks - 1}};
    uint64_t journal_max = MAX(JOURNAL_STEADY, size_bytes / 4096);
    layout->journal_start = 1;
    layout->journal_blocks = clamp(size_bytes / 64, JOURNAL_MIN, journal_max) / LAYOUT_BLOCK;

    layout->objects_max =
        blocks <= DENSE_BLOCKS ? blocks : DENSE_BLOCKS + (blocks - DENSE_BLOCKS) / 16;
    layout->prepared_max = (uint32_t)clamp(layout->objects_max / 8, 64, 65536);
    layout->checkpoint_blocks = checkpoint_area_blocks(layout->objects_max, layout->prepared_max);
    layout->checkpoint_start[0] = layout->journal_start + layout->journal_blocks;
    layout->checkpoint_start[1] = layout->checkpoint_start[0] + layout->checkpoint_blocks;

    layout->extent_start = layout->checkpoint_start[1] + layout->checkpoint_blocks;
    uint64_t room = blocks - 1 - layout->extent_start;
    layout->segment_blocks = (uint32_t)power_of_two_below(clamp(room / 512, 16, 16384));
    layout->extent_blocks = round_down_u64(room, layout->segment_blocks);
    return 0;
}
