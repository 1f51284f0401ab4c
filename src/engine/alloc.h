/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space: the extent area in segments, taken in slabs for size classes on demand.
 *
 * A slab is 2^n segments, aligned to its own size, divided into slots of one class; the classes are
 * those of payloads (steps of a quarter of a power of two) plus the header, so that payloads of
 * powers of two waste nothing. A slab whose last slot is freed gives its segments back. There is
 * no compaction. Nothing of this is stored: an extent names its class and slab size, and bitmaps
 * are derived from the index on opening.
 */
#ifndef ENGINE_ALLOC_H
#define ENGINE_ALLOC_H

#include <stdint.h>

#include "base/bitmap.h"
#include "base/macros.h"
#include "engine/extent.h"
#include "engine/layout.h"

#define ALLOC_CLASSES 64u
#define ALLOC_NONE UINT32_MAX

struct alloc_segment {
    uint32_t used; /* slots, in the first segment of a slab */
    uint32_t hint; /* no slot below is free */
    uint32_t next, prev;
    uint8_t class_id; /* UINT8_MAX: free */
    uint8_t slab_log;
    uint8_t listed;
};

struct alloc {
    uint64_t start, blocks;
    uint32_t segment_blocks, segment_count;
    struct alloc_segment *segments;
    struct bitmap free;  /* a bit a segment */
    struct bitmap slots; /* a bit a block; a slab uses the first of its own */
    uint32_t partial[ALLOC_CLASSES];
    unsigned class_count;
    uint32_t class_blocks[ALLOC_CLASSES];
    uint64_t blocks_used; /* by slots taken */
};

int alloc_init(struct alloc *alloc, const struct layout *layout) NODISCARD;
void alloc_free(struct alloc *alloc);

/* The class of the smallest slots that hold this many blocks; class_count: there is none. */
unsigned alloc_class_for(const struct alloc *alloc, uint32_t blocks);

/* alloc_take() - A slot of at least @blocks. Return: 0 or SHOAL_E_FULL. */
int alloc_take(struct alloc *alloc, uint32_t blocks, struct extent_place *place) NODISCARD;

/* alloc_give() - The slot that starts at @block is free. */
void alloc_give(struct alloc *alloc, uint64_t block);

/*
 * alloc_mark() - On opening: this extent, of @blocks, exists.
 * Return: 0, or SHOAL_E_CORRUPT when it cannot be there or overlaps another.
 */
int alloc_mark(struct alloc *alloc, const struct extent_place *place, uint32_t blocks) NODISCARD;

/* Class and slab of the slot at @block, which is taken. */
struct extent_place alloc_place(const struct alloc *alloc, uint64_t block);

/* Blocks of the slot at @block, which is taken. */
uint32_t alloc_slot_blocks(const struct alloc *alloc, uint64_t block);

#endif
