/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/intern.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/check.h"
#include "shoal/error.h"

static size_t heads_bytes(const struct intern *intern)
{
    return (size_t)INTERN_POOLS * intern->partitions * sizeof *intern->heads;
}

int intern_init(struct intern *intern, uint32_t pair_count, uint32_t partitions, uint64_t seed)
{
    *intern = (struct intern){
        .pair_count = pair_count, .pair_free = INTERN_NONE, .pool_free = INTERN_NONE,
        .partitions = partitions};
    intern->pairs = calloc(pair_count, sizeof *intern->pairs);
    intern->pools = calloc(INTERN_POOLS, sizeof *intern->pools);
    intern->pair_table = table_create(pair_count, offsetof(struct intern_pair, key),
                                      sizeof(struct intern_pair_key), seed);
    intern->pool_table =
        table_create(INTERN_POOLS, offsetof(struct intern_pool, id), sizeof(uint32_t), seed);
    void *heads = mmap(NULL, heads_bytes(intern), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    intern->heads = heads == MAP_FAILED ? NULL : heads;
    if (intern->pairs == NULL || intern->pools == NULL || intern->pair_table == NULL ||
        intern->pool_table == NULL || intern->heads == NULL) {
        intern_free(intern);
        return SHOAL_E_NO_MEMORY;
    }
    return 0;
}

void intern_free(struct intern *intern)
{
    if (intern->pair_table != NULL)
        table_destroy(intern->pair_table);
    if (intern->pool_table != NULL)
        table_destroy(intern->pool_table);
    if (intern->heads != NULL)
        munmap(intern->heads, heads_bytes(intern));
    free(intern->pairs);
    free(intern->pools);
    *intern = (struct intern){0};
}

uint32_t intern_pair_take(struct intern *intern, const struct blob_version *version)
{
    struct intern_pair_key key = {version->epoch, version->incarnation};
    struct intern_pair *pair = table_find(intern->pair_table, &key);
    if (pair == NULL) {
        uint32_t index = intern->pair_free;
        if (index != INTERN_NONE)
            intern->pair_free = intern->pairs[index].next_free;
        else if (intern->pairs_touched < intern->pair_count)
            index = intern->pairs_touched++;
        else
            return INTERN_NONE;
        pair = &intern->pairs[index];
        *pair = (struct intern_pair){.key = key};
        CHECK(table_insert(intern->pair_table, pair) == 0);
    }
    pair->users++;
    return (uint32_t)(pair - intern->pairs);
}

void intern_pair_give(struct intern *intern, uint32_t index)
{
    struct intern_pair *pair = &intern->pairs[index];
    CHECK(pair->users > 0);
    if (--pair->users > 0)
        return;
    CHECK(table_remove(intern->pair_table, &pair->key) == pair);
    pair->next_free = intern->pair_free;
    intern->pair_free = index;
}

struct intern_pool *intern_pool_find(const struct intern *intern, uint32_t pool)
{
    return table_find(intern->pool_table, &pool);
}

uint32_t intern_pool_take(struct intern *intern, uint32_t id)
{
    struct intern_pool *pool = intern_pool_find(intern, id);
    if (pool == NULL) {
        uint32_t slot = intern->pool_free;
        if (slot != INTERN_NONE)
            intern->pool_free = intern->pools[slot].next_free;
        else if (intern->pools_touched < INTERN_POOLS)
            slot = intern->pools_touched++;
        else
            return INTERN_NONE;
        pool = &intern->pools[slot];
        *pool = (struct intern_pool){.id = id};
        CHECK(table_insert(intern->pool_table, pool) == 0);
    }
    pool->users++;
    return (uint32_t)(pool - intern->pools);
}

void intern_pool_give(struct intern *intern, uint32_t slot)
{
    struct intern_pool *pool = &intern->pools[slot];
    CHECK(pool->users > 0);
    if (--pool->users > 0)
        return;
    CHECK(table_remove(intern->pool_table, &pool->id) == pool);
    pool->next_free = intern->pool_free;
    intern->pool_free = slot;
}
