/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one hash table: objects found by a key of fixed size that they contain.
 *
 * The table holds pointers; the objects stay the caller's. Memory is taken at creation and the
 * capacity is a bound: one object more is refused. The key must not change while its object is
 * inside, and is compared byte for byte, so a key that is a structure must have no padding. The
 * order of iteration depends on keys and seed alone, so it repeats in the simulator. Open
 * addressing, linear probing, no tombstones. One thread at a time.
 *
 *   struct table *peers = table_create(1024, offsetof(struct peer, id), sizeof(uint64_t), seed);
 */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct table;

/* @seed: secret where strangers choose the keys. Returns NULL when out of memory. */
struct table *table_create(uint32_t capacity, size_t key_offset, size_t key_size, uint64_t seed);
void table_destroy(struct table *table);

/* 0, SHOAL_E_EXISTS when an object with this key is inside, SHOAL_E_FULL at capacity. */
int table_insert(struct table *table, void *object) NODISCARD;

void *table_find(const struct table *table, const void *key); /* NULL: none */
void *table_remove(struct table *table, const void *key);     /* the object, or NULL */

/* The same for keys of eight bytes. */
void *table_find_u64(const struct table *table, uint64_t key);
void *table_remove_u64(struct table *table, uint64_t key);

uint32_t table_count(const struct table *table);
uint32_t table_capacity(const struct table *table);

/*
 * table_next() - Iterate: *cursor starts at 0; NULL ends. Inserting or removing moves objects:
 * after that, start again.
 */
void *table_next(const struct table *table, uint64_t *cursor);

#endif
