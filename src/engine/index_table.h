/* SPDX-License-Identifier: Apache-2.0 */
/* How the index lies in memory: for index.c, which changes it, and index_walk.c, which walks it. */
#ifndef ENGINE_INDEX_TABLE_H
#define ENGINE_INDEX_TABLE_H

#include <string.h>

#include "base/codec.h"
#include "engine/index.h"

#define INDEX_STEP 2u /* slots by which a table grows */

/*
 * A table in memory: this header, a byte of hash for each slot rounded up to whole words, the
 * slots, and, when an entry in it ever expires, the times at which they do.
 */
struct index_table {
    uint32_t partition;
    uint8_t count, capacity;
    uint8_t depth;
    uint8_t expiring;
    uint8_t tags[];
};

static inline size_t tag_bytes(unsigned capacity)
{
    return round_up_u64(capacity, 8);
}

static inline size_t table_bytes(unsigned capacity, bool expiring)
{
    size_t bytes = sizeof(struct index_table) + tag_bytes(capacity) +
                   capacity * (sizeof(struct index_slot) + (expiring ? sizeof(uint32_t) : 0));
    return round_up_u64(bytes, 8);
}

static inline unsigned table_class(unsigned capacity, bool expiring)
{
    return capacity / INDEX_STEP - 1 + (expiring ? DENSE_CLASSES / 2 : 0);
}

static inline struct index_slot *table_slots(const struct index_table *table)
{
    return (struct index_slot *)((uint8_t *)(uintptr_t)table->tags + tag_bytes(table->capacity));
}

static inline uint8_t *table_expiry(const struct index_table *table, unsigned i)
{
    return (uint8_t *)(table_slots(table) + table->capacity) + i * sizeof(uint32_t);
}

static inline struct index_table **directory_of(const struct index_partition *partition)
{
    return partition->depth <= INDEX_INLINE_DEPTH
               ? (struct index_table **)(uintptr_t)partition->tables
               : partition->directory;
}

static inline uint64_t directory_place(const struct index_partition *partition, uint64_t hash)
{
    return partition->depth == 0 ? 0 : hash >> (64 - partition->depth);
}

static inline struct index_table *table_at(const struct index *index, const struct index_key *key)
{
    const struct index_partition *partition = &index->partitions[key->partition];
    return directory_of(partition)[directory_place(partition, key->hash)];
}

static inline struct blob_id slot_id(const struct index *index, const struct index_slot *slot)
{
    struct blob_id id = {.pool = index->intern.pools[slot->pool].id};
    memcpy(id.key.bytes, slot->key, BLOB_KEY_BYTES);
    return id;
}

static inline uint64_t slot_hash(const struct index *index, const struct index_slot *slot)
{
    struct blob_id id = slot_id(index, slot);
    return blob_id_hash(&id, index->secret);
}

static inline void slot_read(const struct index *index, const struct index_table *table, unsigned i,
                             struct index_item *item)
{
    const struct index_slot *slot = &table_slots(table)[i];
    *item = (struct index_item){
        .id = slot_id(index, slot),
        .version = index_slot_version(index, slot),
        .kind = slot->kind,
        .form = slot->form,
        .position = slot->position,
        .hollow = slot->hollow,
        .shared = slot->shared,
        .shard_len = slot->shard_len,
        .block = slot->block,
        .slab_log = slot->slab_log,
        .stretch = slot->stretch,
        .tick = slot->tick,
        .expires_s = table->expiring ? load_le32(table_expiry(table, i)) : 0,
    };
}

#endif
