/* SPDX-License-Identifier: Apache-2.0 */
#include "core/dma.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/sanitizer.h"
#include "core/reactor_private.h"
#include "core/uring_private.h"
#include "shoal/error.h"

#define CLASSES_MAX 8u
#define PAGE_BYTES 4096u
#define HUGE_BYTES (2u << 20)

struct dma_pool {
    size_t size_bytes;
    unsigned count;
    unsigned free_count;
    char *start;
    uint32_t *free; /* a stack of indices: the warmest buffer goes out first */
    bool *lent;     /* by index, so that a buffer returned twice is caught */
};

struct dma_arena {
    struct reactor *reactor;
    char *start;
    size_t len;
    bool huge;
    unsigned n_pools;
    struct dma_pool pools[CLASSES_MAX]; /* by rising size */
    unsigned n_regions;
    int regions[URING_REGIONS_MAX];
};

/* ---- memory ---- */

static int map_arena(struct dma_arena *arena, size_t bytes)
{
    const int protection = PROT_READ | PROT_WRITE;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;

    arena->len = round_up_u64(bytes, HUGE_BYTES);
    arena->start = mmap(NULL, arena->len, protection, flags | MAP_HUGETLB | MAP_POPULATE, -1, 0);
    arena->huge = arena->start != MAP_FAILED;
    if (arena->huge)
        return 0;

    /* Transparent huge pages, then, where the kernel has any to give: aligned so that it can. */
    char *at = mmap(NULL, arena->len + HUGE_BYTES, protection, flags, -1, 0);
    if (at == MAP_FAILED)
        return SHOAL_E_NO_MEMORY;
    char *aligned = (char *)round_up_u64((uintptr_t)at, HUGE_BYTES);
    if (aligned != at)
        munmap(at, (size_t)(aligned - at));
    munmap(aligned + arena->len, (size_t)(at + HUGE_BYTES - aligned));
    madvise(aligned, arena->len, MADV_HUGEPAGE);
    arena->start = aligned;
    return 0;
}

/* In pieces of whole buffers, as the kernel bounds one registration. */
static void register_pool(struct dma_arena *arena, const struct dma_pool *pool)
{
    struct uring *uring = arena->reactor->uring;
    size_t per_region = MAX(URING_REGION_BYTES_MAX / pool->size_bytes, UINT64_C(1));

    for (size_t at = 0; at < pool->count; at += per_region) {
        size_t n = MIN(per_region, pool->count - at);
        int region = arena->n_regions == URING_REGIONS_MAX
                         ? -1
                         : uring_register_region(uring, pool->start + at * pool->size_bytes,
                                                 n * pool->size_bytes);
        if (region < 0) {
            LOG_INFO("%s: DMA buffers of %zu bytes are not registered with io_uring; ulimit -l "
                     "(locked memory) may be too low. It works, a little slower",
                     arena->reactor->name, pool->size_bytes);
            return;
        }
        arena->regions[arena->n_regions++] = region;
    }
}

static int pool_init(struct dma_pool *pool, const struct dma_class *class, char *start)
{
    *pool = (struct dma_pool){
        .size_bytes = class->size_bytes,
        .count = class->count,
        .free_count = class->count,
        .start = start,
        .free = malloc(class->count * sizeof(*pool->free)),
        .lent = calloc(class->count, sizeof(*pool->lent)),
    };
    if (pool->free == NULL || pool->lent == NULL)
        return SHOAL_E_NO_MEMORY;
    for (unsigned i = 0; i < pool->count; i++)
        pool->free[i] = pool->count - 1 - i;
    return 0;
}

static void arena_free(struct dma_arena *arena)
{
    for (unsigned i = 0; i < arena->n_regions; i++)
        uring_unregister_region(arena->reactor->uring, arena->regions[i]);
    for (unsigned i = 0; i < arena->n_pools; i++) {
        free(arena->pools[i].free);
        free(arena->pools[i].lent);
    }
    if (arena->start != NULL) {
        sanitizer_unpoison(arena->start, arena->len);
        munmap(arena->start, arena->len);
    }
    free(arena);
}

static int by_size(const void *a, const void *b)
{
    size_t left = ((const struct dma_class *)a)->size_bytes;
    size_t right = ((const struct dma_class *)b)->size_bytes;
    return (left > right) - (left < right);
}

static bool classes_valid(const struct dma_class *classes, unsigned n_classes, size_t *bytes)
{
    *bytes = 0;
    if (n_classes == 0 || n_classes > CLASSES_MAX)
        return false;
    for (unsigned i = 0; i < n_classes; i++) {
        size_t class_bytes;
        if (classes[i].size_bytes == 0 || classes[i].size_bytes % PAGE_BYTES != 0 ||
            classes[i].count == 0 ||
            __builtin_mul_overflow(classes[i].size_bytes, classes[i].count, &class_bytes) ||
            __builtin_add_overflow(*bytes, class_bytes, bytes))
            return false;
    }
    return *bytes < SIZE_MAX / 2;
}

int dma_arena_create(struct reactor *reactor, const struct dma_class *classes, unsigned n_classes,
                     struct dma_arena **out)
{
    size_t bytes;
    if (!classes_valid(classes, n_classes, &bytes))
        return SHOAL_E_INVALID;

    struct dma_class sorted[CLASSES_MAX];
    memcpy(sorted, classes, n_classes * sizeof(*classes));
    qsort(sorted, n_classes, sizeof(*sorted), by_size);

    struct dma_arena *arena = calloc(1, sizeof(*arena));
    if (arena == NULL)
        return SHOAL_E_NO_MEMORY;
    arena->reactor = reactor;
    int error = map_arena(arena, bytes);
    if (error != 0) {
        arena->start = NULL;
        arena_free(arena);
        return error;
    }

    /* A child's copy-on-write must not take pages away from the device. */
    madvise(arena->start, arena->len, MADV_DONTFORK);
    char *at = arena->start;
    for (unsigned i = 0; i < n_classes; i++) {
        arena->n_pools = i + 1;
        error = pool_init(&arena->pools[i], &sorted[i], at);
        if (error != 0) {
            arena_free(arena);
            return error;
        }
        if (reactor->uring != NULL)
            register_pool(arena, &arena->pools[i]);
        at += sorted[i].size_bytes * sorted[i].count;
    }
    sanitizer_poison(arena->start, arena->len);
    *out = arena;
    return 0;
}

void dma_arena_destroy(struct dma_arena *arena)
{
    if (arena == NULL)
        return;
    for (unsigned i = 0; i < arena->n_pools; i++)
        CHECK_MSG(arena->pools[i].free_count == arena->pools[i].count,
                  "%u DMA buffers of %zu bytes are still lent",
                  arena->pools[i].count - arena->pools[i].free_count, arena->pools[i].size_bytes);
    arena_free(arena);
}

/* ---- buffers ---- */

void *dma_get(struct dma_arena *arena, size_t size_bytes)
{
    if (UNLIKELY(pool_fails_now()))
        return NULL;
    for (unsigned i = 0; i < arena->n_pools; i++) {
        struct dma_pool *pool = &arena->pools[i];
        if (pool->size_bytes < size_bytes || pool->free_count == 0)
            continue;
        uint32_t index = pool->free[--pool->free_count];
        pool->lent[index] = true;
        char *buffer = pool->start + index * pool->size_bytes;
        sanitizer_unpoison(buffer, pool->size_bytes);
        return buffer;
    }
    return NULL;
}

static const struct dma_pool *pool_of(const struct dma_arena *arena, const void *buffer)
{
    for (unsigned i = 0; i < arena->n_pools; i++) {
        const struct dma_pool *pool = &arena->pools[i];
        const char *at = buffer;
        if (at >= pool->start && at < pool->start + pool->size_bytes * pool->count) {
            CHECK((size_t)(at - pool->start) % pool->size_bytes == 0);
            return pool;
        }
    }
    CHECK_MSG(false, "%p is no DMA buffer of this arena", buffer);
    return NULL;
}

void dma_put(struct dma_arena *arena, void *buffer)
{
    struct dma_pool *pool = (struct dma_pool *)pool_of(arena, buffer);
    uint32_t index = (uint32_t)((size_t)((char *)buffer - pool->start) / pool->size_bytes);

    CHECK_MSG(pool->lent[index], "DMA buffer %p is returned twice", buffer);
    pool->lent[index] = false;
    pool->free[pool->free_count++] = index;
    sanitizer_poison(buffer, pool->size_bytes);
}

size_t dma_size(const struct dma_arena *arena, const void *buffer)
{
    return pool_of(arena, buffer)->size_bytes;
}

size_t dma_bytes_free(const struct dma_arena *arena)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < arena->n_pools; i++)
        bytes += arena->pools[i].free_count * arena->pools[i].size_bytes;
    return bytes;
}

bool dma_on_huge_pages(const struct dma_arena *arena)
{
    return arena->huge;
}

int dma_registered_index(struct reactor *reactor, const void *at, size_t len)
{
    const struct uring *uring = reactor->uring;
    uintptr_t start = (uintptr_t)at;

    if (uring == NULL)
        return -1;
    for (unsigned i = 0; i < uring->regions_end; i++)
        if (start >= uring->regions[i].start && start + len <= uring->regions[i].end)
            return (int)i;
    return -1;
}
