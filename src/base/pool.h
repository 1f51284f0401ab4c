/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of objects of one size, all memory taken at creation.
 *
 * The data path allocates from pools only; an empty pool is an answer (busy), not a failure. An
 * object's content is undefined when it is got. Under ASan a free object is poisoned. Putting back
 * what is not out stops the process. One thread at a time: a pool belongs to a reactor.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct pool;

/*
 * pool_create() - Takes memory for @count objects of @size bytes.
 * @name: borrowed, for messages.
 * @alignment: a power of two; 0 means that of malloc.
 * Returns NULL when out of memory.
 */
struct pool *pool_create(const char *name, size_t size, uint32_t count, size_t alignment);

/* Every object must be back: a leak stops the process. NULL is allowed. */
void pool_destroy(struct pool *pool);

void *pool_get(struct pool *pool) NODISCARD; /* NULL: exhausted */
void pool_put(struct pool *pool, void *object);

uint32_t pool_in_use(const struct pool *pool);
uint32_t pool_capacity(const struct pool *pool);
bool pool_owns(const struct pool *pool, const void *object);

/*
 * pool_fail_after() - Test hook: let the nth pool_get() of this thread from now on, over all pools,
 * give NULL, once; 0 disarms. To fail every allocation of an operation in turn: repeat with
 * n = 1, 2, 3... until pool_fail_fired() stays false.
 */
void pool_fail_after(uint64_t n);
bool pool_fail_fired(void);

/* For pools of another kind (fibers, DMA buffers): asked at each get, true for none to be given. */
bool pool_fails_now(void);

#endif
