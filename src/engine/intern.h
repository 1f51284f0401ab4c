/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small numbers for what many entries of the index have in common: the (epoch, incarnation) of
 * versions, and pools, with what each pool uses. Counted; a number without users is used again.
 */
#ifndef ENGINE_INTERN_H
#define ENGINE_INTERN_H

#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/macros.h"
#include "base/table.h"

#define INTERN_POOLS 512u
#define INTERN_NONE UINT32_MAX

struct intern_pair {
    struct intern_pair_key {
        uint64_t epoch, incarnation;
    } key;
    uint64_t users;
    uint32_t next_free;
};

struct intern_pool {
    uint32_t id, padding;
    uint64_t users;
    uint64_t bytes, objects, heads;
    uint32_t next_free;
};

struct intern {
    struct intern_pair *pairs;
    uint32_t pair_count, pairs_touched, pair_free;
    uint32_t partitions;
    uint32_t *heads; /* [INTERN_POOLS][partitions] of each pool's heads; touched where there are any */
    struct table *pair_table;
    struct intern_pool *pools;
    uint32_t pools_touched, pool_free;
    struct table *pool_table;
};

int intern_init(struct intern *intern, uint32_t pair_count, uint32_t partitions,
                uint64_t seed) NODISCARD;
void intern_free(struct intern *intern);

/* One user more. Return: the number, or INTERN_NONE when there are too many different ones. */
uint32_t intern_pair_take(struct intern *intern, const struct blob_version *version) NODISCARD;
void intern_pair_give(struct intern *intern, uint32_t pair);

uint32_t intern_pool_take(struct intern *intern, uint32_t pool) NODISCARD;
void intern_pool_give(struct intern *intern, uint32_t slot);

/* How many heads the pool with this number has in a partition. */
static inline uint32_t *intern_heads(const struct intern *intern, uint32_t slot, uint32_t partition)
{
    return &intern->heads[(size_t)slot * intern->partitions + partition];
}

/* NULL: nothing of this pool is here. */
struct intern_pool *intern_pool_find(const struct intern *intern, uint32_t pool);

#endif
