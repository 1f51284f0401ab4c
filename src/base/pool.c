/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pool.h"

#include <stdlib.h>

#include "base/bitmap.h"
#include "base/check.h"
#include "base/sanitizer.h"

struct pool {
    const char *name;
    uint8_t *memory;
    size_t stride;
    uint32_t capacity;
    uint32_t free_count;
    uint32_t *free_list; /* a stack: the object put last is got first, warm in the cache */
    struct bitmap out;   /* objects that somebody owns */
};

static _Thread_local uint64_t fail_countdown;
static _Thread_local bool fail_fired;

struct pool *pool_create(const char *name, size_t size, uint32_t count, size_t alignment)
{
    if (alignment == 0)
        alignment = _Alignof(max_align_t);
    CHECK(size > 0 && is_power_of_two(alignment));
    struct pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->name = name;
    pool->stride = round_up_u64(size, alignment);
    pool->capacity = count;
    size_t bytes;
    if (__builtin_mul_overflow(pool->stride, MAX(count, 1u), &bytes))
        goto fail;
    pool->memory = aligned_alloc(alignment, bytes);
    pool->free_list = calloc(MAX(count, 1u), sizeof *pool->free_list);
    if (pool->memory == NULL || pool->free_list == NULL || bitmap_alloc(&pool->out, count) != 0)
        goto fail;
    for (uint32_t i = 0; i < count; i++)
        pool->free_list[i] = count - 1 - i;
    pool->free_count = count;
    sanitizer_poison(pool->memory, bytes);
    return pool;
fail:
    free(pool->memory);
    free(pool->free_list);
    free(pool);
    return NULL;
}

void pool_destroy(struct pool *pool)
{
    if (pool == NULL)
        return;
    CHECK_MSG(pool->free_count == pool->capacity, "%u of pool '%s' were never put back",
              pool_in_use(pool), pool->name);
    sanitizer_unpoison(pool->memory, pool->stride * MAX(pool->capacity, 1u));
    bitmap_free(&pool->out);
    free(pool->free_list);
    free(pool->memory);
    free(pool);
}

bool pool_fails_now(void)
{
    if (LIKELY(fail_countdown == 0) || --fail_countdown > 0)
        return false;
    fail_fired = true;
    return true;
}

void *pool_get(struct pool *pool)
{
    if (UNLIKELY(pool_fails_now()) || pool->free_count == 0)
        return NULL;
    uint32_t index = pool->free_list[--pool->free_count];
    bitmap_set(&pool->out, index);
    void *object = pool->memory + index * pool->stride;
    sanitizer_unpoison(object, pool->stride);
    return object;
}

void pool_put(struct pool *pool, void *object)
{
    CHECK_MSG(pool_owns(pool, object), "not an object of pool '%s'", pool->name);
    size_t index = (size_t)((uint8_t *)object - pool->memory) / pool->stride;
    CHECK_MSG(bitmap_test(&pool->out, index), "an object of pool '%s' was put back twice",
              pool->name);
    bitmap_clear(&pool->out, index);
    sanitizer_poison(object, pool->stride);
    pool->free_list[pool->free_count++] = (uint32_t)index;
}

uint32_t pool_in_use(const struct pool *pool)
{
    return pool->capacity - pool->free_count;
}

uint32_t pool_capacity(const struct pool *pool)
{
    return pool->capacity;
}

bool pool_owns(const struct pool *pool, const void *object)
{
    const uint8_t *at = object;
    return at >= pool->memory && at < pool->memory + pool->stride * pool->capacity &&
           (size_t)(at - pool->memory) % pool->stride == 0;
}

void pool_fail_after(uint64_t n)
{
    fail_countdown = n;
    fail_fired = false;
}

bool pool_fail_fired(void)
{
    return fail_fired;
}
