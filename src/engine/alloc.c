/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/alloc.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "shoal/error.h"

#define CLASS_FREE UINT8_MAX
#define SLAB_LOG_MAX 12u

/* A piece may take a slot of a larger class, up to this factor, before the device is called full.
 */
#define STRETCH 4u

static void classes_init(struct alloc *alloc)
{
    unsigned count = 0;
    alloc->class_blocks[count++] = 1;
    for (uint32_t base = 1; base <= ENGINE_PAYLOAD_MAX / LAYOUT_BLOCK; base *= 2) {
        for (uint32_t quarter = 4; quarter < 8; quarter++) {
            if (base * quarter % 4 != 0)
                continue;
            uint32_t payload = base * quarter / 4;
            if (payload > ENGINE_PAYLOAD_MAX / LAYOUT_BLOCK)
                break;
            CHECK(count < ALLOC_CLASSES);
            alloc->class_blocks[count++] = extent_shape_of(payload * LAYOUT_BLOCK, false).blocks;
        }
    }
    alloc->class_count = count;
}

int alloc_init(struct alloc *alloc, const struct layout *layout)
{
    *alloc = (struct alloc){
        .start = layout->extent_start,
        .blocks = layout->extent_blocks,
        .segment_blocks = layout->segment_blocks,
        .segment_count = (uint32_t)(layout->extent_blocks / layout->segment_blocks),
    };
    classes_init(alloc);
    for (unsigned i = 0; i < ALLOC_CLASSES; i++)
        alloc->partial[i] = ALLOC_NONE;
    alloc->segments = calloc(alloc->segment_count, sizeof *alloc->segments);
    int rc = alloc->segments == NULL ? SHOAL_E_NO_MEMORY : 0;
    if (rc == 0)
        rc = bitmap_alloc(&alloc->free, alloc->segment_count);
    if (rc == 0)
        rc = bitmap_alloc(&alloc->slots, alloc->blocks);
    if (rc != 0) {
        alloc_free(alloc);
        return rc;
    }
    for (uint32_t i = 0; i < alloc->segment_count; i++)
        alloc->segments[i].class_id = CLASS_FREE;
    bitmap_set_range(&alloc->free, 0, alloc->segment_count);
    return 0;
}

void alloc_free(struct alloc *alloc)
{
    free(alloc->segments);
    bitmap_free(&alloc->free);
    bitmap_free(&alloc->slots);
    *alloc = (struct alloc){0};
}

static uint32_t slab_slots(const struct alloc *alloc, unsigned class_id, unsigned slab_log)
{
    return (alloc->segment_blocks << slab_log) / alloc->class_blocks[class_id];
}

static uint64_t slab_bit(const struct alloc *alloc, uint32_t slab)
{
    return (uint64_t)slab * alloc->segment_blocks;
}

static void partial_push(struct alloc *alloc, uint32_t slab)
{
    struct alloc_segment *segment = &alloc->segments[slab];
    if (segment->listed)
        return;
    uint32_t *head = &alloc->partial[segment->class_id];
    segment->prev = ALLOC_NONE;
    segment->next = *head;
    if (*head != ALLOC_NONE)
        alloc->segments[*head].prev = slab;
    *head = slab;
    segment->listed = 1;
}

static void partial_remove(struct alloc *alloc, uint32_t slab)
{
    struct alloc_segment *segment = &alloc->segments[slab];
    if (!segment->listed)
        return;
    if (segment->next != ALLOC_NONE)
        alloc->segments[segment->next].prev = segment->prev;
    if (segment->prev != ALLOC_NONE)
        alloc->segments[segment->prev].next = segment->next;
    else
        alloc->partial[segment->class_id] = segment->next;
    segment->listed = 0;
}

static void slab_open(struct alloc *alloc, uint32_t slab, unsigned class_id, unsigned slab_log)
{
    for (uint32_t i = slab; i < slab + (1u << slab_log); i++) {
        alloc->segments[i] =
            (struct alloc_segment){.class_id = (uint8_t)class_id, .slab_log = (uint8_t)slab_log};
        bitmap_clear(&alloc->free, i);
    }
    partial_push(alloc, slab);
}

static void slab_close(struct alloc *alloc, uint32_t slab)
{
    partial_remove(alloc, slab);
    unsigned slab_log = alloc->segments[slab].slab_log;
    for (uint32_t i = slab; i < slab + (1u << slab_log); i++) {
        alloc->segments[i] = (struct alloc_segment){.class_id = CLASS_FREE};
        bitmap_set(&alloc->free, i);
    }
}

/* Single segments come from the low end and runs from the high end, so that runs stay whole. */
static uint32_t free_run(const struct alloc *alloc, unsigned slab_log)
{
    uint32_t run = 1u << slab_log;
    if (slab_log == 0) {
        uint64_t found = bitmap_find_set(&alloc->free, 0);
        return found == BITMAP_NONE ? ALLOC_NONE : (uint32_t)found;
    }
    for (uint32_t i = alloc->segment_count / run; i > 0; i--) {
        uint32_t slab = (i - 1) * run;
        if (bitmap_count_range(&alloc->free, slab, run) == run)
            return slab;
    }
    return ALLOC_NONE;
}

/* The best slab size wastes at most an eighth; where no such run is free, less will do. */
static int slab_for(struct alloc *alloc, unsigned class_id, uint32_t *slab)
{
    unsigned low = 0;
    while (low <= SLAB_LOG_MAX && slab_slots(alloc, class_id, low) == 0)
        low++;
    unsigned best = low;
    for (unsigned log = low; log <= SLAB_LOG_MAX; log++) {
        uint64_t total = (uint64_t)alloc->segment_blocks << log;
        uint64_t filled =
            (uint64_t)slab_slots(alloc, class_id, log) * alloc->class_blocks[class_id];
        best = log;
        if ((total - filled) * 8 <= total)
            break;
    }
    for (unsigned log = best + 1; log-- > low;) {
        if ((1u << log) > alloc->segment_count)
            continue;
        *slab = free_run(alloc, log);
        if (*slab != ALLOC_NONE) {
            slab_open(alloc, *slab, class_id, log);
            return 0;
        }
    }
    return SHOAL_E_FULL;
}

static void slot_take(struct alloc *alloc, uint32_t slab, struct extent_place *place)
{
    struct alloc_segment *segment = &alloc->segments[slab];
    uint32_t slots = slab_slots(alloc, segment->class_id, segment->slab_log);
    uint64_t base = slab_bit(alloc, slab);
    uint64_t bit = bitmap_find_clear(&alloc->slots, base + segment->hint);
    CHECK(bit != BITMAP_NONE && bit < base + slots);
    bitmap_set(&alloc->slots, bit);
    uint32_t slot = (uint32_t)(bit - base);
    uint32_t size = alloc->class_blocks[segment->class_id];
    segment->hint = slot + 1;
    segment->used++;
    alloc->blocks_used += size;
    if (segment->used == slots)
        partial_remove(alloc, slab);
    *place = (struct extent_place){
        .block = alloc->start + base + (uint64_t)slot * size,
        .class_id = segment->class_id,
        .slab_log = segment->slab_log,
    };
}

unsigned alloc_class_for(const struct alloc *alloc, uint32_t blocks)
{
    unsigned class_id = 0;
    while (class_id < alloc->class_count && alloc->class_blocks[class_id] < blocks)
        class_id++;
    return class_id;
}

int alloc_take(struct alloc *alloc, uint32_t blocks, struct extent_place *place)
{
    unsigned class_id = alloc_class_for(alloc, blocks);
    if (class_id == alloc->class_count)
        return SHOAL_E_TOO_LARGE;
    uint32_t slab = alloc->partial[class_id];
    int rc = slab != ALLOC_NONE ? 0 : slab_for(alloc, class_id, &slab);
    for (unsigned i = class_id + 1; rc != 0 && i < alloc->class_count && i - class_id < 16 &&
                                    alloc->class_blocks[i] <= blocks * STRETCH;
         i++) {
        slab = alloc->partial[i];
        if (slab != ALLOC_NONE)
            rc = 0;
    }
    if (rc == 0)
        slot_take(alloc, slab, place);
    return rc;
}

static uint32_t slab_of(const struct alloc *alloc, uint64_t block, uint32_t *slot)
{
    CHECK(block >= alloc->start && block - alloc->start < alloc->blocks);
    uint32_t segment = (uint32_t)((block - alloc->start) / alloc->segment_blocks);
    unsigned class_id = alloc->segments[segment].class_id;
    CHECK(class_id < alloc->class_count);
    uint32_t slab = segment & ~((1u << alloc->segments[segment].slab_log) - 1);
    uint64_t offset = block - alloc->start - slab_bit(alloc, slab);
    CHECK(offset % alloc->class_blocks[class_id] == 0);
    *slot = (uint32_t)(offset / alloc->class_blocks[class_id]);
    return slab;
}

void alloc_give(struct alloc *alloc, uint64_t block)
{
    uint32_t slot;
    uint32_t slab = slab_of(alloc, block, &slot);
    struct alloc_segment *segment = &alloc->segments[slab];
    uint64_t bit = slab_bit(alloc, slab) + slot;
    CHECK(bitmap_test(&alloc->slots, bit));
    bitmap_clear(&alloc->slots, bit);
    alloc->blocks_used -= alloc->class_blocks[segment->class_id];
    segment->hint = MIN(segment->hint, slot);
    if (--segment->used == 0)
        slab_close(alloc, slab);
    else
        partial_push(alloc, slab);
}

static bool mark_possible(const struct alloc *alloc, const struct extent_place *place,
                          uint32_t blocks)
{
    if (place->class_id >= alloc->class_count || place->slab_log > SLAB_LOG_MAX ||
        (1u << place->slab_log) > alloc->segment_count)
        return false;
    return place->block >= alloc->start && place->block - alloc->start < alloc->blocks &&
           blocks <= alloc->class_blocks[place->class_id];
}

int alloc_mark(struct alloc *alloc, const struct extent_place *place, uint32_t blocks)
{
    if (!mark_possible(alloc, place, blocks))
        return SHOAL_E_CORRUPT;
    uint32_t size = alloc->class_blocks[place->class_id];
    uint64_t offset = place->block - alloc->start;
    uint32_t run = 1u << place->slab_log;
    uint32_t slab = (uint32_t)(offset / alloc->segment_blocks) & ~(run - 1);
    uint64_t within = offset - slab_bit(alloc, slab);
    uint32_t slots = slab_slots(alloc, place->class_id, place->slab_log);
    if (slab + run > alloc->segment_count || within % size != 0 || within / size >= slots)
        return SHOAL_E_CORRUPT;
    struct alloc_segment *segment = &alloc->segments[slab];
    if (segment->class_id == CLASS_FREE) {
        if (bitmap_count_range(&alloc->free, slab, run) != run)
            return SHOAL_E_CORRUPT;
        slab_open(alloc, slab, place->class_id, place->slab_log);
    } else if (segment->class_id != place->class_id || segment->slab_log != place->slab_log) {
        return SHOAL_E_CORRUPT;
    }
    uint64_t bit = slab_bit(alloc, slab) + within / size;
    if (bitmap_test(&alloc->slots, bit))
        return SHOAL_E_CORRUPT;
    bitmap_set(&alloc->slots, bit);
    alloc->blocks_used += size;
    if (++segment->used == slots)
        partial_remove(alloc, slab);
    return 0;
}

struct extent_place alloc_place(const struct alloc *alloc, uint64_t block)
{
    uint32_t slot;
    uint32_t slab = slab_of(alloc, block, &slot);
    return (struct extent_place){.block = block,
                                 .class_id = alloc->segments[slab].class_id,
                                 .slab_log = alloc->segments[slab].slab_log};
}

uint32_t alloc_slot_blocks(const struct alloc *alloc, uint64_t block)
{
    return alloc->class_blocks[alloc_place(alloc, block).class_id];
}
