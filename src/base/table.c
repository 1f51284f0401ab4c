/* SPDX-License-Identifier: Apache-2.0 */
#include "base/table.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "shoal/error.h"

struct slot {
    uint64_t hash; /* kept so that a probe rarely touches an object that is not the one */
    void *object;  /* NULL: free */
};

struct table {
    struct slot *slots;
    uint64_t mask;
    uint64_t seed;
    size_t key_offset;
    size_t key_size;
    uint32_t count;
    uint32_t capacity;
};

struct table *table_create(uint32_t capacity, size_t key_offset, size_t key_size, uint64_t seed)
{
    CHECK(key_size > 0);
    struct table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return NULL;
    /* At most two thirds full, so that probes stay short and a free slot ends each. */
    uint64_t slots = 8;
    while (slots * 2 < (uint64_t)capacity * 3)
        slots *= 2;
    table->slots = calloc(slots, sizeof *table->slots);
    if (table->slots == NULL) {
        free(table);
        return NULL;
    }
    table->mask = slots - 1;
    table->seed = seed;
    table->key_offset = key_offset;
    table->key_size = key_size;
    table->capacity = capacity;
    return table;
}

void table_destroy(struct table *table)
{
    if (table == NULL)
        return;
    free(table->slots);
    free(table);
}

static const void *key_of(const struct table *table, const void *object)
{
    return (const uint8_t *)object + table->key_offset;
}

/* The slot with the key, or the free slot where it would go. */
static uint64_t probe(const struct table *table, const void *key, uint64_t hash)
{
    uint64_t at = hash & table->mask;
    for (; table->slots[at].object != NULL; at = (at + 1) & table->mask) {
        const struct slot *slot = &table->slots[at];
        if (slot->hash == hash && memcmp(key_of(table, slot->object), key, table->key_size) == 0)
            break;
    }
    return at;
}

int table_insert(struct table *table, void *object)
{
    const void *key = key_of(table, object);
    uint64_t hash = hash64(key, table->key_size, table->seed);
    struct slot *slot = &table->slots[probe(table, key, hash)];
    if (slot->object != NULL)
        return SHOAL_E_EXISTS;
    if (table->count == table->capacity)
        return SHOAL_E_FULL;
    slot->hash = hash;
    slot->object = object;
    table->count++;
    return 0;
}

void *table_find(const struct table *table, const void *key)
{
    return table->slots[probe(table, key, hash64(key, table->key_size, table->seed))].object;
}

/* Closes the gap at @hole: what could not stand nearer to its home because of it moves up. */
static void close_gap(struct table *table, uint64_t hole)
{
    uint64_t at = hole;
    for (;;) {
        at = (at + 1) & table->mask;
        struct slot *slot = &table->slots[at];
        if (slot->object == NULL)
            break;
        uint64_t home = slot->hash & table->mask;
        if (((at - home) & table->mask) >= ((at - hole) & table->mask)) {
            table->slots[hole] = *slot;
            hole = at;
        }
    }
    table->slots[hole] = (struct slot){0};
}

void *table_remove(struct table *table, const void *key)
{
    uint64_t at = probe(table, key, hash64(key, table->key_size, table->seed));
    void *object = table->slots[at].object;
    if (object != NULL) {
        close_gap(table, at);
        table->count--;
    }
    return object;
}

void *table_find_u64(const struct table *table, uint64_t key)
{
    CHECK(table->key_size == sizeof key);
    return table_find(table, &key);
}

void *table_remove_u64(struct table *table, uint64_t key)
{
    CHECK(table->key_size == sizeof key);
    return table_remove(table, &key);
}

uint32_t table_count(const struct table *table)
{
    return table->count;
}

uint32_t table_capacity(const struct table *table)
{
    return table->capacity;
}

void *table_next(const struct table *table, uint64_t *cursor)
{
    while (*cursor <= table->mask) {
        void *object = table->slots[(*cursor)++].object;
        if (object != NULL)
            return object;
    }
    return NULL;
}
