/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/check.h"
#include "engine/internal.h"
#include "shoal/error.h"

static void committed_entry(const struct index_item *item, struct engine_entry *entry)
{
    *entry = (struct engine_entry){
        .id = item->id,
        .version = item->version,
        .kind = item->kind,
        .form = item->form,
        .position = item->position,
        .hollow = item->hollow,
        .shard_len = item->shard_len,
    };
}

static void prepared_entry(const struct prepared *prepared, struct engine_entry *entry)
{
    *entry = (struct engine_entry){
        .id = prepared->id,
        .version = prepared->version,
        .kind = prepared->kind,
        .form = prepared->form,
        .position = prepared->position,
        .prepared = true,
        .hollow = prepared->hollow,
        .torn = prepared->torn,
        .shard_len = prepared->shard_len,
        .depends = prepared->depends,
        .request = prepared->request,
    };
}

int engine_find(struct engine *engine, const struct blob_id *id, struct engine_entry *committed,
                struct engine_entry *prepared)
{
    const struct index_slot *slot = index_find_id(&engine->index, id);
    const struct prepared *found = prepared_find(&engine->prepared, id);
    if (found != NULL && found->writing)
        found = NULL;
    if (committed != NULL)
        *committed = (struct engine_entry){0};
    if (prepared != NULL)
        *prepared = (struct engine_entry){0};
    if (slot != NULL && committed != NULL) {
        /* Not index_read(): a lookup should not hash the key again. */
        *committed = (struct engine_entry){
            .id = *id,
            .version = index_slot_version(&engine->index, slot),
            .kind = slot->kind,
            .form = slot->form,
            .position = slot->position,
            .hollow = slot->hollow,
            .shard_len = slot->shard_len,
        };
    }
    if (found != NULL && prepared != NULL)
        prepared_entry(found, prepared);
    return slot != NULL || found != NULL ? 0 : SHOAL_E_NOT_FOUND;
}

/* Time of use goes on by one for so many touches, that 16 bits may tell 64 full turns of a cache.
 */
static uint32_t touches_a_tick(const struct engine *engine)
{
    return (uint32_t)(engine->index.count / 1024) + 1;
}

void engine_touch(struct engine *engine, const struct blob_id *id)
{
    if (++engine->touches >= touches_a_tick(engine)) {
        engine->touches = 0;
        engine->tick++;
    }
    struct index_slot *slot = index_find_id(&engine->index, id);
    if (slot != NULL)
        index_slot_set_tick(slot, engine->tick);
}

/* ---- listing ---- */

struct listing {
    struct engine *engine;
    uint32_t partition;
    struct engine_entry *entries;
    unsigned count, max;
};

/* The prepared piece of the partition with the lowest hash in [@from, @last]. */
static const struct prepared *next_prepared(const struct listing *listing, uint64_t from,
                                            uint64_t last, uint64_t *hash)
{
    struct engine *engine = listing->engine;
    const struct prepared *best = NULL;
    list_for_each(prepared_list(&engine->prepared, listing->partition), struct prepared,
                  in_partition, prepared) {
        struct index_key key = index_key_of(&engine->index, &prepared->id);
        if (prepared->writing || key.partition != listing->partition || key.hash < from ||
            key.hash > last)
            continue;
        if (best == NULL || key.hash < *hash) {
            best = prepared;
            *hash = key.hash;
        }
    }
    return best;
}

/*
 * One table's part of the order, both spaces merged by hash.
 * Return: true when all of it was listed; else *resume is the hash to go on from.
 */
static bool list_range(struct listing *listing, const struct index_key *key, uint64_t last,
                       const struct index_item *items, const uint64_t *hashes, unsigned count,
                       uint64_t *resume)
{
    uint64_t from = key->hash, prepared_hash = 0;
    const struct prepared *prepared = next_prepared(listing, from, last, &prepared_hash);
    for (unsigned i = 0; i < count || prepared != NULL;) {
        bool first = prepared != NULL && (i == count || prepared_hash <= hashes[i]);
        uint64_t hash = first ? prepared_hash : hashes[i];
        unsigned need = first && i < count && prepared_hash == hashes[i] ? 2 : 1;
        if (listing->count + need > listing->max) {
            *resume = hash;
            return false;
        }
        if (first)
            prepared_entry(prepared, &listing->entries[listing->count++]);
        if (first && need == 1) {
            /* nothing committed under this hash */
        } else {
            committed_entry(&items[i++], &listing->entries[listing->count++]);
        }
        if (first) {
            if (prepared_hash == last)
                prepared = NULL;
            else
                prepared = next_prepared(listing, prepared_hash + 1, last, &prepared_hash);
        }
    }
    return true;
}

unsigned engine_list(struct engine *engine, uint32_t partition, uint64_t *cursor,
                     struct engine_entry *entries, unsigned max)
{
    CHECK(max >= 2);
    struct listing listing = {
        .engine = engine, .partition = partition, .entries = entries, .max = max};
    if (partition >= 1u << engine->sb.partition_bits) {
        *cursor = 0;
        return 0;
    }
    struct index_item items[INDEX_TABLE_MAX];
    uint64_t hashes[INDEX_TABLE_MAX];
    struct index_key key = {partition, *cursor}, next;
    while (key.partition == partition) {
        unsigned count = index_walk_table(&engine->index, &key, items, hashes, &next);
        uint64_t last = next.partition == partition ? next.hash - 1 : UINT64_MAX;
        if (!list_range(&listing, &key, last, items, hashes, count, cursor))
            return listing.count;
        key = next;
    }
    *cursor = 0;
    return listing.count;
}

void engine_partition_digest(struct engine *engine, uint32_t partition,
                             struct engine_digest *digest)
{
    *digest = (struct engine_digest){0};
    if (partition >= 1u << engine->sb.partition_bits)
        return;
    const struct index_partition *at = &engine->index.partitions[partition];
    digest->committed = at->committed;
    digest->hash = at->digest;
    list_for_each(prepared_list(&engine->prepared, partition), struct prepared, in_partition,
                  prepared)
        if (!prepared->writing &&
            blob_partition(&prepared->id, engine->sb.partition_bits) == partition)
            digest->prepared++;
}

unsigned engine_list_prepared(struct engine *engine, struct engine_entry *entries, unsigned max)
{
    unsigned count = 0;
    list_for_each(&engine->prepared.all, struct prepared, in_all, prepared) {
        if (prepared->writing)
            continue;
        if (count < max)
            prepared_entry(prepared, &entries[count]);
        count++;
    }
    return count;
}

/* ---- usage ---- */

void engine_usage(const struct engine *engine, struct engine_usage *usage)
{
    *usage = (struct engine_usage){
        .bytes_total = engine->alloc.blocks * LAYOUT_BLOCK,
        .bytes_used = engine->alloc.blocks_used * LAYOUT_BLOCK,
        .objects = engine->index.count + prepared_count(&engine->prepared),
        .objects_max = engine->objects_max,
    };
    for (uint32_t i = 0; i < engine->index.intern.pools_touched; i++)
        if (engine->index.intern.pools[i].users > 0)
            usage->heads += engine->index.intern.pools[i].heads;
}

void engine_pool_usage(const struct engine *engine, uint32_t pool, struct engine_usage *usage)
{
    engine_usage(engine, usage);
    const struct intern_pool *at = intern_pool_find(&engine->index.intern, pool);
    usage->bytes_used = at != NULL ? at->bytes : 0;
    usage->objects = at != NULL ? at->objects : 0;
    usage->heads = at != NULL ? at->heads : 0;
}

uint64_t engine_partition_heads(const struct engine *engine, uint32_t pool, uint32_t partition)
{
    const struct intern *intern = &engine->index.intern;
    const struct intern_pool *at = intern_pool_find(intern, pool);
    if (at == NULL || partition >= intern->partitions)
        return 0;
    return *intern_heads(intern, (uint32_t)(at - intern->pools), partition);
}
