/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DMA buffers: page-aligned memory that devices and network cards may read and write.
 *
 * One arena a reactor, on huge pages when the machine has any, carved at start into a bounded
 * number of buffers of a few sizes. The arena is registered with the reactor's io_uring where there
 * is one, so the kernel pins it once instead of at each transfer. A buffer has one owner, who
 * returns it; lending it downwards does not change that.
 */
#ifndef SHOAL_CORE_DMA_H
#define SHOAL_CORE_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reactor;
struct dma_arena;

struct dma_class {
    size_t size_bytes; /* a multiple of 4096 */
    unsigned count;
};

/* Return: 0, SHOAL_E_NO_MEMORY or SHOAL_E_INVALID. At most 8 classes. */
int dma_arena_create(struct reactor *reactor, const struct dma_class *classes, unsigned n_classes,
                     struct dma_arena **out);
void dma_arena_destroy(struct dma_arena *arena); /* every buffer must be back (CHECKed) */

/*
 * dma_get() - The smallest free buffer of at least @size_bytes; contents are undefined.
 * Return: NULL when there is none (the caller answers busy).
 */
void *dma_get(struct dma_arena *arena, size_t size_bytes);
void dma_put(struct dma_arena *arena, void *buffer);

/* The real size of a buffer got from the arena. */
size_t dma_size(const struct dma_arena *arena, const void *buffer);
size_t dma_bytes_free(const struct dma_arena *arena);
bool dma_on_huge_pages(const struct dma_arena *arena);

/*
 * dma_registered_index() - Index for io_uring's fixed-buffer operations when [@at, @at+@len) lies
 * inside a registered arena of @reactor, or -1.
 */
int dma_registered_index(struct reactor *reactor, const void *at, size_t len);

#endif
