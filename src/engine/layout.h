/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where everything lies on a device: a pure function of its size, so that a device which lost both
 * superblocks can still be read. Changing it is a new format version. Units are 4 KiB blocks.
 *
 *   | superblock | journal ring | checkpoint 0 | checkpoint 1 | extents ... | superblock |
 */
#ifndef ENGINE_LAYOUT_H
#define ENGINE_LAYOUT_H

#include <stdint.h>

#include "base/macros.h"
#include "dev/dev.h"

#define LAYOUT_BLOCK DEV_BLOCK_BYTES

struct layout {
    uint64_t blocks;
    uint64_t superblocks[2];
    uint64_t journal_start, journal_blocks;
    uint64_t checkpoint_start[2], checkpoint_blocks;
    uint64_t extent_start, extent_blocks; /* whole segments */
    uint32_t segment_blocks;              /* a power of two */
    uint32_t prepared_max;
    uint64_t objects_max; /* committed and prepared together */
};

/* Return: 0, SHOAL_E_INVALID (too small), SHOAL_E_TOO_LARGE. */
int layout_compute(uint64_t size_bytes, struct layout *layout) NODISCARD;

#endif
