/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for the index: blocks of a few sizes, each size without holes.
 *
 * Address space is reserved once, for as many objects as may come, and touched as it is needed. It
 * is cut into slabs; a slab holds blocks of one class. Freeing a block moves the class's last block
 * into the hole and tells the owner, so every slab but the last of its class is full, and growing
 * tables leave no fragments behind.
 */
#ifndef ENGINE_DENSE_H
#define ENGINE_DENSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define DENSE_CLASSES 64u
#define DENSE_NONE UINT32_MAX

struct dense_slab {
    uint32_t used; /* blocks */
    uint32_t prev; /* of the class, or of the free ones */
    uint8_t class_id;
};

struct dense_class {
    uint32_t block_bytes, per_slab;
    uint32_t last; /* slab, or DENSE_NONE */
};

struct dense {
    uint8_t *region;
    size_t region_bytes, slab_bytes;
    uint32_t slab_count, slabs_touched, free_slabs;
    uint64_t slabs_in_use;
    struct dense_slab *slabs;
    struct dense_class classes[DENSE_CLASSES];
    void (*moved)(void *ctx, void *block); /* it lies at @block now */
    void *ctx;
};

/* @block_bytes: of each class, 0 where there is none. */
int dense_init(struct dense *dense, size_t region_bytes, size_t slab_bytes,
               const uint32_t block_bytes[DENSE_CLASSES], void (*moved)(void *ctx, void *block),
               void *ctx) NODISCARD;
void dense_free(struct dense *dense);

void *dense_take(struct dense *dense, unsigned class_id) NODISCARD; /* NULL: the region is full */
void dense_give(struct dense *dense, unsigned class_id, void *block);

/* A block chosen by @random, each slab as likely as any other; NULL when there is none. */
void *dense_sample(struct dense *dense, uint64_t random);

#endif
