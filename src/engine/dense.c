/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dense.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "shoal/error.h"

int dense_init(struct dense *dense, size_t region_bytes, size_t slab_bytes,
               const uint32_t block_bytes[DENSE_CLASSES], void (*moved)(void *ctx, void *block),
               void *ctx)
{
    *dense = (struct dense){
        .slab_bytes = slab_bytes, .moved = moved, .ctx = ctx, .free_slabs = DENSE_NONE};
    dense->slab_count = (uint32_t)div_round_up_u64(region_bytes, slab_bytes);
    dense->region_bytes = (size_t)dense->slab_count * slab_bytes;
    for (unsigned i = 0; i < DENSE_CLASSES; i++) {
        struct dense_class *class = &dense->classes[i];
        *class = (struct dense_class){.block_bytes = block_bytes[i], .last = DENSE_NONE};
        if (block_bytes[i] != 0)
            class->per_slab = (uint32_t)(slab_bytes / block_bytes[i]);
    }
    dense->slabs = calloc(dense->slab_count, sizeof *dense->slabs);
    dense->region = mmap(NULL, dense->region_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (dense->slabs == NULL || dense->region == MAP_FAILED) {
        dense_free(dense);
        return SHOAL_E_NO_MEMORY;
    }
    (void)madvise(dense->region, dense->region_bytes, MADV_HUGEPAGE);
    return 0;
}

void dense_free(struct dense *dense)
{
    if (dense->region != NULL && dense->region != MAP_FAILED)
        munmap(dense->region, dense->region_bytes);
    free(dense->slabs);
    *dense = (struct dense){0};
}

static void *block_at(struct dense *dense, uint32_t slab, uint32_t index)
{
    const struct dense_class *class = &dense->classes[dense->slabs[slab].class_id];
    return dense->region + slab * dense->slab_bytes + (size_t)index * class->block_bytes;
}

static uint32_t slab_take(struct dense *dense)
{
    uint32_t slab = dense->free_slabs;
    if (slab != DENSE_NONE) {
        dense->free_slabs = dense->slabs[slab].prev;
    } else {
        if (dense->slabs_touched == dense->slab_count)
            return DENSE_NONE;
        slab = dense->slabs_touched++;
    }
    dense->slabs_in_use++;
    return slab;
}

void *dense_take(struct dense *dense, unsigned class_id)
{
    struct dense_class *class = &dense->classes[class_id];
    CHECK(class->per_slab > 0);
    if (class->last == DENSE_NONE || dense->slabs[class->last].used == class->per_slab) {
        uint32_t slab = slab_take(dense);
        if (slab == DENSE_NONE)
            return NULL;
        dense->slabs[slab] =
            (struct dense_slab){.prev = class->last, .class_id = (uint8_t)class_id};
        class->last = slab;
    }
    return block_at(dense, class->last, dense->slabs[class->last].used++);
}

void dense_give(struct dense *dense, unsigned class_id, void *block)
{
    struct dense_class *class = &dense->classes[class_id];
    uint32_t slab = class->last;
    CHECK(slab != DENSE_NONE && dense->slabs[slab].used > 0);
    void *last = block_at(dense, slab, --dense->slabs[slab].used);
    if (last != block) {
        memcpy(block, last, class->block_bytes);
        dense->moved(dense->ctx, block);
    }
    if (dense->slabs[slab].used == 0) {
        class->last = dense->slabs[slab].prev;
        dense->slabs[slab].prev = dense->free_slabs;
        dense->free_slabs = slab;
        dense->slabs_in_use--;
    }
}

void *dense_sample(struct dense *dense, uint64_t random)
{
    if (dense->slabs_in_use == 0)
        return NULL;
    uint32_t slab = (uint32_t)(random % dense->slabs_touched);
    while (dense->slabs[slab].used == 0)
        slab = (slab + 1) % dense->slabs_touched;
    return block_at(dense, slab, (uint32_t)((random >> 32) % dense->slabs[slab].used));
}
