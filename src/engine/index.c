/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/index.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/codec.h"
#include "base/hash.h"
#include "engine/index_table.h"
#include "shoal/error.h"

#define DEPTH_MAX 26u
#define COUNTER_MAX ((UINT64_C(1) << 48) - 1)
#define BLOCK_MAX ((UINT64_C(1) << 40) - 1)
#define PAIRS_MAX (1u << 20)

_Static_assert(sizeof(struct index_slot) == 54, "the index has a budget of 64 bytes an object");

static void directory_free(struct index *index, struct index_partition *partition)
{
    if (partition->depth <= INDEX_INLINE_DEPTH)
        return;
    index->directory_bytes -= ((size_t)1 << partition->depth) * sizeof *partition->directory;
    free(partition->directory);
}

/* All places of the directory that lead, or are to lead, to a table of this depth. */
static void directory_point(struct index *index, const struct index_key *key, unsigned depth,
                            struct index_table *table)
{
    struct index_partition *partition = &index->partitions[key->partition];
    CHECK(depth <= partition->depth);
    uint64_t places = UINT64_C(1) << (partition->depth - depth);
    uint64_t first = directory_place(partition, key->hash) & ~(places - 1);
    for (uint64_t i = 0; i < places; i++)
        directory_of(partition)[first + i] = table;
}

/* A table was moved to fill a hole: its place in the directory follows from any of its entries. */
static void table_moved(void *ctx, void *block)
{
    struct index *index = ctx;
    struct index_table *table = block;
    CHECK(table->count > 0);
    struct index_key key = {table->partition, slot_hash(index, &table_slots(table)[0])};
    directory_point(index, &key, table->depth, table);
}

static size_t partitions_bytes(const struct index *index)
{
    return round_up_u64(sizeof(struct index_partition) << index->partition_bits, 4096);
}

int index_init(struct index *index, unsigned partition_bits, uint64_t secret, uint64_t max)
{
    *index = (struct index){.secret = secret, .partition_bits = partition_bits, .max = max};
    uint32_t block_bytes[DENSE_CLASSES];
    for (unsigned i = 0; i < DENSE_CLASSES; i++) {
        unsigned capacity = (i % (DENSE_CLASSES / 2) + 1) * INDEX_STEP;
        block_bytes[i] = (uint32_t)table_bytes(capacity, i >= DENSE_CLASSES / 2);
    }
    /* Even tables of two entries each fit; what is not touched costs address space only. */
    size_t slab_bytes = max < 4000000 ? 65536 : 262144;
    size_t region = max * table_bytes(2, true) + (DENSE_CLASSES + 1) * slab_bytes;
    void *partitions = mmap(NULL, partitions_bytes(index), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int rc = partitions == MAP_FAILED ? SHOAL_E_NO_MEMORY : 0;
    if (rc == 0) {
        index->partitions = partitions;
        (void)madvise(partitions, partitions_bytes(index), MADV_HUGEPAGE);
    }
    if (rc == 0)
        rc = dense_init(&index->dense, region, slab_bytes, block_bytes, table_moved, index);
    if (rc == 0) {
        uint64_t pairs = max / 64;
        pairs = pairs < 1024 ? 1024 : pairs > PAIRS_MAX ? PAIRS_MAX : pairs;
        rc = intern_init(&index->intern, (uint32_t)pairs, 1u << partition_bits, secret);
    }
    if (rc != 0) {
        index_free(index);
        return rc;
    }
    return 0;
}

void index_free(struct index *index)
{
    if (index->partitions != NULL)
        for (size_t i = 0; i < (size_t)1 << index->partition_bits; i++)
            directory_free(index, &index->partitions[i]);
    if (index->partitions != NULL)
        munmap(index->partitions, partitions_bytes(index));
    dense_free(&index->dense);
    intern_free(&index->intern);
    *index = (struct index){0};
}

struct index_key index_key_of(const struct index *index, const struct blob_id *id)
{
    return (struct index_key){blob_partition(id, index->partition_bits),
                              blob_id_hash(id, index->secret)};
}

/* Which of the eight bytes of @word are zero: the top bit of each, false ones only above a true. */
static uint64_t zero_bytes(uint64_t word)
{
    return (word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080);
}

static struct index_slot *table_find_slot(const struct index *index,
                                          const struct index_table *table, uint64_t hash,
                                          const struct blob_id *id)
{
    /* The tags of a large table reach into a second cache line; fetch both at once. */
    __builtin_prefetch((const uint8_t *)table + 64);
    uint64_t pattern = (hash & 0xff) * UINT64_C(0x0101010101010101);
    struct index_slot *slots = table_slots(table);
    for (unsigned base = 0; base < table->count; base += 8) {
        uint64_t match = zero_bytes(load_le64(table->tags + base) ^ pattern);
        for (; match != 0; match &= match - 1) {
            unsigned i = base + (unsigned)__builtin_ctzll(match) / 8;
            if (i >= table->count)
                break;
            struct index_slot *slot = &slots[i];
            if (memcmp(slot->key, id->key.bytes, BLOB_KEY_BYTES) == 0 &&
                index->intern.pools[slot->pool].id == id->pool)
                return slot;
        }
    }
    return NULL;
}

struct index_slot *index_find(const struct index *index, const struct index_key *key,
                              const struct blob_id *id)
{
    const struct index_table *table = table_at(index, key);
    return table == NULL ? NULL : table_find_slot(index, table, key->hash, id);
}

struct index_slot *index_find_id(const struct index *index, const struct blob_id *id)
{
    struct index_key key = index_key_of(index, id);
    return index_find(index, &key, id);
}

struct blob_version index_slot_version(const struct index *index, const struct index_slot *slot)
{
    const struct intern_pair *pair = &index->intern.pairs[slot->pair];
    return (struct blob_version){.epoch = pair->key.epoch,
                                 .incarnation = (uint32_t)pair->key.incarnation,
                                 .counter = slot->counter};
}

void index_read(const struct index *index, const struct index_slot *slot, struct index_item *item)
{
    struct blob_id id = slot_id(index, slot);
    struct index_key key = index_key_of(index, &id);
    const struct index_table *table = table_at(index, &key);
    slot_read(index, table, (unsigned)(slot - table_slots(table)), item);
}

/* Another array of slots for the same entries. NULL: no memory, and nothing changed. */
static struct index_table *table_resize(struct index *index, const struct index_key *key,
                                        struct index_table *old, unsigned capacity, bool expiring)
{
    struct index_table *table = dense_take(&index->dense, table_class(capacity, expiring));
    if (table == NULL)
        return NULL;
    *table = (struct index_table){.partition = key->partition,
                                  .capacity = (uint8_t)capacity,
                                  .depth = index->partitions[key->partition].depth,
                                  .expiring = expiring};
    memset(table->tags, 0, tag_bytes(capacity));
    if (expiring)
        memset(table_expiry(table, 0), 0, capacity * sizeof(uint32_t));
    if (old != NULL) {
        CHECK(old->count <= capacity);
        table->count = old->count;
        table->depth = old->depth;
        memcpy(table->tags, old->tags, old->count);
        memcpy(table_slots(table), table_slots(old), old->count * sizeof(struct index_slot));
        if (old->expiring)
            memcpy(table_expiry(table, 0), table_expiry(old, 0), old->count * sizeof(uint32_t));
        unsigned old_class = table_class(old->capacity, old->expiring);
        directory_point(index, key, table->depth, table);
        dense_give(&index->dense, old_class, old);
    } else {
        directory_point(index, key, table->depth, table);
    }
    return table_at(index, key);
}

static void table_append(struct index_table *table, uint8_t tag, const struct index_slot *slot,
                         uint32_t expires_s)
{
    CHECK(table->count < table->capacity);
    table->tags[table->count] = tag;
    table_slots(table)[table->count] = *slot;
    if (table->expiring)
        store_le32(table_expiry(table, table->count), expires_s);
    table->count++;
}

static int directory_double(struct index *index, struct index_partition *partition)
{
    if (partition->depth == DEPTH_MAX)
        return SHOAL_E_FULL;
    size_t places = (size_t)1 << partition->depth;
    struct index_table *small[1u << INDEX_INLINE_DEPTH];
    bool outside = partition->depth >= INDEX_INLINE_DEPTH;
    struct index_table **directory = outside ? malloc(2 * places * sizeof *directory) : small;
    if (directory == NULL)
        return SHOAL_E_FULL;
    for (size_t i = 0; i < places; i++) {
        directory[2 * i] = directory_of(partition)[i];
        directory[2 * i + 1] = directory_of(partition)[i];
    }
    directory_free(index, partition);
    partition->depth++;
    if (outside) {
        partition->directory = directory;
        index->directory_bytes += 2 * places * sizeof *directory;
    } else {
        memcpy(partition->tables, small, 2 * places * sizeof *directory);
    }
    return 0;
}

/* A half that would be empty is no table at all: dense could not find the owner of one. */
static int table_half(struct index *index, const struct index_table *old, unsigned count,
                      struct index_table **half)
{
    *half = NULL;
    if (count == 0)
        return 0;
    unsigned capacity = (unsigned)round_up_u64(count, INDEX_STEP);
    struct index_table *table = dense_take(&index->dense, table_class(capacity, old->expiring));
    if (table == NULL)
        return SHOAL_E_FULL;
    *table = (struct index_table){.partition = old->partition,
                                  .capacity = (uint8_t)capacity,
                                  .depth = (uint8_t)(old->depth + 1),
                                  .expiring = old->expiring};
    memset(table->tags, 0, tag_bytes(capacity));
    *half = table;
    return 0;
}

/* A full table into two of half its hashes each. */
static int table_split(struct index *index, const struct index_key *key)
{
    struct index_partition *partition = &index->partitions[key->partition];
    struct index_table *old = table_at(index, key);
    int rc = old->depth == partition->depth ? directory_double(index, partition) : 0;
    if (rc != 0)
        return rc;
    uint64_t bit = UINT64_C(1) << (63 - old->depth);
    uint64_t hashes[INDEX_TABLE_MAX];
    unsigned upper = 0;
    for (unsigned i = 0; i < old->count; i++) {
        hashes[i] = slot_hash(index, &table_slots(old)[i]);
        upper += (hashes[i] & bit) != 0;
    }
    struct index_table *half[2];
    rc = table_half(index, old, old->count - upper, &half[0]);
    if (rc == 0)
        rc = table_half(index, old, upper, &half[1]);
    if (rc != 0) {
        if (half[0] != NULL)
            dense_give(&index->dense, table_class(half[0]->capacity, old->expiring), half[0]);
        return rc;
    }
    for (unsigned i = 0; i < old->count; i++)
        table_append(half[(hashes[i] & bit) != 0], old->tags[i], &table_slots(old)[i],
                     old->expiring ? load_le32(table_expiry(old, i)) : 0);
    for (unsigned side = 0; side < 2; side++) {
        struct index_key at = {key->partition, side ? key->hash | bit : key->hash & ~bit};
        directory_point(index, &at, old->depth + 1u, half[side]);
    }
    dense_give(&index->dense, table_class(old->capacity, old->expiring), old);
    return 0;
}

/* A table with a free slot that can hold this expiry. Return: NULL when the index is full. */
static struct index_table *table_with_room(struct index *index, const struct index_key *key,
                                           bool expiring)
{
    for (;;) {
        struct index_table *table = table_at(index, key);
        if (table == NULL)
            return table_resize(index, key, NULL, INDEX_STEP, expiring);
        bool wide = expiring || table->expiring;
        if (table->count < table->capacity && wide == table->expiring)
            return table;
        if (table->count < INDEX_TABLE_MAX)
            return table_resize(index, key, table,
                                (unsigned)round_up_u64(table->count + 1u, INDEX_STEP), wide);
        if (table_split(index, key) != 0)
            return NULL;
    }
}

uint64_t index_digest(const struct blob_id *id, const struct blob_version *version,
                      enum blob_form form)
{
    uint8_t bytes[64];
    struct encoder out = encoder_init(bytes, sizeof bytes);
    blob_id_encode(&out, id);
    blob_version_encode(&out, version);
    encode_u8(&out, form == BLOB_TOMBSTONE ? BLOB_TOMBSTONE : BLOB_BYTES);
    return hash64(bytes, encoder_length(&out), 0);
}

/* Count, digest and the pool's figures follow each entry that comes (+1) or goes (-1). */
static void account(struct index *index, uint32_t partition, uint32_t pool_slot,
                    const struct index_item *item, bool comes)
{
    struct index_partition *at = &index->partitions[partition];
    struct intern_pool *pool = &index->intern.pools[pool_slot];
    uint64_t one = comes ? 1 : UINT64_MAX;
    at->committed += one;
    at->digest += one * index_digest(&item->id, &item->version, item->form);
    index->count += one;
    pool->objects += one;
    if (item->kind == BLOB_HEAD && item->form != BLOB_TOMBSTONE) {
        pool->heads += one;
        *intern_heads(&index->intern, pool_slot, partition) += (uint32_t)one;
    }
}

static int slot_fill(struct index *index, struct index_slot *slot, const struct index_item *item)
{
    if (item->version.counter > COUNTER_MAX)
        return SHOAL_E_INVALID;
    uint32_t pool = intern_pool_take(&index->intern, item->id.pool);
    if (pool == INTERN_NONE)
        return SHOAL_E_FULL;
    uint32_t pair = intern_pair_take(&index->intern, &item->version);
    if (pair == INTERN_NONE) {
        intern_pool_give(&index->intern, pool);
        return SHOAL_E_FULL;
    }
    *slot = (struct index_slot){
        .counter = item->version.counter & COUNTER_MAX,
        .tick = item->tick,
        .block = item->block & BLOCK_MAX,
        .pair = pair & (PAIRS_MAX - 1),
        .slab_log = item->slab_log & 15u,
        .stretch = item->stretch & 15u,
        .shard_len = item->shard_len & 0x1ffffff,
        .kind = item->kind & 3u,
        .form = item->form & 3u,
        .position = item->position & 15u,
        .hollow = item->hollow,
        .shared = item->shared,
        .pool = pool & (INTERN_POOLS - 1),
    };
    memcpy(slot->key, item->id.key.bytes, BLOB_KEY_BYTES);
    return 0;
}

static void slot_empty(struct index *index, const struct index_slot *slot)
{
    intern_pair_give(&index->intern, slot->pair);
    intern_pool_give(&index->intern, slot->pool);
}

int index_insert(struct index *index, const struct index_item *item)
{
    if (index->count >= index->max)
        return SHOAL_E_FULL;
    struct index_key key = index_key_of(index, &item->id);
    struct index_slot slot;
    int rc = slot_fill(index, &slot, item);
    if (rc != 0)
        return rc;
    struct index_table *table = table_with_room(index, &key, item->expires_s != 0);
    if (table == NULL) {
        slot_empty(index, &slot);
        return SHOAL_E_FULL;
    }
    table_append(table, (uint8_t)key.hash, &slot, item->expires_s);
    account(index, key.partition, slot.pool, item, true);
    return 0;
}

int index_replace(struct index *index, struct index_slot *slot, const struct index_item *item)
{
    struct index_slot fresh;
    int rc = slot_fill(index, &fresh, item);
    if (rc != 0)
        return rc;
    struct index_item old;
    index_read(index, slot, &old);
    struct index_key key = index_key_of(index, &item->id);
    struct index_table *table = table_at(index, &key);
    unsigned i = (unsigned)(slot - table_slots(table));
    if (item->expires_s != 0 && !table->expiring) {
        table = table_resize(index, &key, table, table->capacity, true);
        if (table == NULL) {
            slot_empty(index, &fresh);
            return SHOAL_E_FULL;
        }
    }
    slot = &table_slots(table)[i];
    account(index, key.partition, slot->pool, &old, false);
    slot_empty(index, slot);
    *slot = fresh;
    if (table->expiring)
        store_le32(table_expiry(table, i), item->expires_s);
    account(index, key.partition, slot->pool, item, true);
    return 0;
}

static void partition_reset(struct index *index, struct index_partition *partition)
{
    directory_free(index, partition);
    *partition = (struct index_partition){.digest = partition->digest};
}

static void table_remove_slot(struct index *index, const struct index_key *key,
                              struct index_table *table, unsigned i)
{
    unsigned last = table->count - 1u;
    table->tags[i] = table->tags[last];
    table_slots(table)[i] = table_slots(table)[last];
    if (table->expiring)
        store_le32(table_expiry(table, i), load_le32(table_expiry(table, last)));
    table->count--;
    if (table->count == 0) {
        directory_point(index, key, table->depth, NULL);
        dense_give(&index->dense, table_class(table->capacity, table->expiring), table);
        if (index->partitions[key->partition].committed == 0)
            partition_reset(index, &index->partitions[key->partition]);
    } else if (table->capacity >= table->count + 3 * INDEX_STEP) {
        /* Shrinking waits a little, so that one object coming and going moves nothing. */
        (void)table_resize(index, key, table, (unsigned)round_up_u64(table->count, INDEX_STEP),
                           table->expiring);
    }
}

void index_remove(struct index *index, const struct blob_id *id)
{
    struct index_key key = index_key_of(index, id);
    struct index_slot *slot = index_find(index, &key, id);
    CHECK(slot != NULL);
    struct index_item item;
    index_read(index, slot, &item);
    account(index, key.partition, slot->pool, &item, false);
    slot_empty(index, slot);
    struct index_table *table = table_at(index, &key);
    table_remove_slot(index, &key, table, (unsigned)(slot - table_slots(table)));
}

void index_drop_partition(struct index *index, uint32_t partition,
                          bool (*wanted)(void *ctx, const struct index_item *item), void *ctx)
{
    struct index_item items[INDEX_TABLE_MAX];
    struct index_key key = {partition, 0}, next;
    while (key.partition == partition) {
        unsigned count = index_walk_table(index, &key, items, NULL, &next);
        for (unsigned i = 0; i < count; i++)
            if (wanted(ctx, &items[i]))
                index_remove(index, &items[i].id);
        key = next;
    }
}

uint64_t index_bytes(const struct index *index)
{
    const struct intern *intern = &index->intern;
    return index->dense.slabs_touched * (uint64_t)index->dense.slab_bytes +
           index->dense.slab_count * sizeof *index->dense.slabs + index->directory_bytes +
           partitions_bytes(index) +
           intern->pair_count * (sizeof(struct intern_pair) + 2 * sizeof(void *)) +
           INTERN_POOLS * (sizeof(struct intern_pool) + 2 * sizeof(void *)) +
           intern->pools_touched * (uint64_t)intern->partitions * sizeof(uint32_t);
}
