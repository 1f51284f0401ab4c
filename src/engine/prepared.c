/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/prepared.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/list.h"
#include "shoal/error.h"

_Static_assert(sizeof(struct blob_id) == 36, "the id is a key without padding");

int prepared_init(struct prepared_set *set, uint32_t max, uint64_t seed)
{
    uint32_t lists = 64;
    while (lists < max / 4)
        lists *= 2;
    *set = (struct prepared_set){.max = max, .list_mask = lists - 1};
    list_init(&set->all);
    set->pool = pool_create("prepared", sizeof(struct prepared), max, 0);
    set->table = table_create(max, offsetof(struct prepared, id), sizeof(struct blob_id), seed);
    set->partitions = calloc(lists, sizeof *set->partitions);
    if (set->pool == NULL || set->table == NULL || set->partitions == NULL) {
        prepared_free(set);
        return SHOAL_E_NO_MEMORY;
    }
    for (uint32_t i = 0; i < lists; i++)
        list_init(&set->partitions[i]);
    return 0;
}

void prepared_free(struct prepared_set *set)
{
    if (set->table != NULL) {
        list_for_each(&set->all, struct prepared, in_all, prepared)
            prepared_remove(set, prepared);
        table_destroy(set->table);
    }
    pool_destroy(set->pool);
    free(set->partitions);
    *set = (struct prepared_set){0};
}

struct prepared *prepared_find(const struct prepared_set *set, const struct blob_id *id)
{
    return table_find(set->table, id);
}

struct list *prepared_list(const struct prepared_set *set, uint32_t partition)
{
    return &set->partitions[partition & set->list_mask];
}

struct prepared *prepared_add(struct prepared_set *set, const struct blob_id *id,
                              uint32_t partition)
{
    struct prepared *prepared = pool_get(set->pool);
    if (prepared == NULL)
        return NULL;
    memset(prepared, 0, sizeof *prepared);
    prepared->id = *id;
    CHECK(table_insert(set->table, prepared) == 0);
    list_push_back(prepared_list(set, partition), &prepared->in_partition);
    list_push_back(&set->all, &prepared->in_all);
    return prepared;
}

void prepared_remove(struct prepared_set *set, struct prepared *prepared)
{
    CHECK(table_remove(set->table, &prepared->id) == prepared);
    list_remove(&prepared->in_partition);
    list_remove(&prepared->in_all);
    pool_put(set->pool, prepared);
}

uint32_t prepared_count(const struct prepared_set *set)
{
    return table_count(set->table);
}
