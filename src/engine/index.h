/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of committed pieces: in memory, at most 64 bytes each, all included.
 *
 * Each partition has its own small tables of up to 64 entries, found by the top bits of a hash
 * keyed with the target's secret (extendible hashing): a table that is full is split in two, which
 * moves some 3 KB and stalls nobody. Entries lie dense in arrays that grow by two; a byte of the
 * hash for each is searched first. Within a partition there is an order, by hash, that neither
 * growth nor splitting changes: listing and checkpointing walk along it.
 *
 * A partition's count and digest are kept up to date with each change.
 */
#ifndef ENGINE_INDEX_H
#define ENGINE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/macros.h"
#include "engine/dense.h"
#include "engine/intern.h"

#define INDEX_TABLE_MAX 64u

/* What the index knows of a committed piece. */
struct index_item {
    struct blob_id id;
    struct blob_version version;
    enum blob_kind kind;
    enum blob_form form;
    uint8_t position;
    bool hollow, shared;
    uint32_t shard_len;
    uint64_t block;   /* 0: no extent */
    uint8_t slab_log; /* of the extent's slab, */
    uint8_t stretch;  /* whose class is so many above the smallest that would do */
    uint16_t tick;    /* of last use */
    uint32_t expires_s;
};

/* As it lies in memory; only index.c and index_slot_* look inside. */
struct __attribute__((packed)) index_slot {
    uint8_t key[BLOB_KEY_BYTES];
    uint64_t counter : 48;
    uint64_t tick : 16;
    uint64_t block : 40;
    uint64_t pair : 20;
    uint64_t slab_log : 4;
    uint64_t shard_len : 25;
    uint64_t kind : 2;
    uint64_t form : 2;
    uint64_t hollow : 1;
    uint64_t shared : 1;
    uint64_t position : 4;
    uint64_t pool : 9;
    uint64_t stretch : 4;
};

struct index_table;

#define INDEX_INLINE_DEPTH 2u

/* A cache line: a lookup in a partition of up to four tables needs no other on its way. */
struct __attribute__((aligned(64))) index_partition {
    union {
        struct index_table *tables[1u << INDEX_INLINE_DEPTH]; /* up to that depth; NULL: empty */
        struct index_table **directory;                       /* 2^depth pointers beyond it */
    };
    uint64_t committed;
    uint64_t digest;
    uint8_t depth;
};

struct index {
    uint64_t secret;
    unsigned partition_bits;
    uint64_t count, max;
    uint64_t directory_bytes;
    struct index_partition *partitions;
    struct dense dense;
    struct intern intern;
};

/* Where in a partition's order: entries of a hash at or above. */
struct index_key {
    uint32_t partition;
    uint64_t hash;
};

int index_init(struct index *index, unsigned partition_bits, uint64_t secret,
               uint64_t max) NODISCARD;
void index_free(struct index *index);

struct index_key index_key_of(const struct index *index, const struct blob_id *id);

/* NULL: not there. The pointer holds until the next insertion or removal. */
struct index_slot *index_find(const struct index *index, const struct index_key *key,
                              const struct blob_id *id);
struct index_slot *index_find_id(const struct index *index, const struct blob_id *id);

/* index_insert() - It must not be there. Return: 0 or SHOAL_E_FULL. */
int index_insert(struct index *index, const struct index_item *item) NODISCARD;

/* index_replace() - Put another version in the place of @slot. Return: 0 or SHOAL_E_FULL. */
int index_replace(struct index *index, struct index_slot *slot,
                  const struct index_item *item) NODISCARD;
void index_remove(struct index *index, const struct blob_id *id);

/* Every entry of a partition that @wanted agrees to. */
void index_drop_partition(struct index *index, uint32_t partition,
                          bool (*wanted)(void *ctx, const struct index_item *item), void *ctx);

void index_read(const struct index *index, const struct index_slot *slot, struct index_item *item);
struct blob_version index_slot_version(const struct index *index, const struct index_slot *slot);
static inline void index_slot_set_tick(struct index_slot *slot, uint16_t tick)
{
    slot->tick = tick;
}
static inline void index_slot_set_hollow(struct index_slot *slot, bool hollow)
{
    slot->hollow = hollow;
}

/*
 * index_walk_table() - The entries of the table at @key, in order, from key->hash on.
 * @items: room for INDEX_TABLE_MAX; @hashes likewise, or NULL
 * @next: where the next table begins; {partitions, 0} after the last one
 * Return: how many.
 */
unsigned index_walk_table(const struct index *index, const struct index_key *key,
                          struct index_item *items, uint64_t *hashes, struct index_key *next);

/* The entries of a random table. Return: how many, 0 when the index is empty. */
unsigned index_sample(struct index *index, uint64_t random, struct index_item *items);

/* The same on every member that has the same: tombstones differ from the rest, bytes and markers
 * do not. */
uint64_t index_digest(const struct blob_id *id, const struct blob_version *version,
                      enum blob_form form);

/* All memory that the index uses. */
uint64_t index_bytes(const struct index *index);

#endif
