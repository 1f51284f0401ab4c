/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scrubber: reads every piece in the order of the index and finds what has decayed, before a
 * reader does. How fast is the caller's affair.
 */
#include "engine/internal.h"
#include "shoal/error.h"

/* The committed pieces with bytes, or that lost them, at the scrubber's place. Return: how many. */
static unsigned next_items(struct engine *engine, struct index_item *items, uint64_t *hashes,
                           struct index_key *next)
{
    unsigned count = index_walk_table(&engine->index, &engine->scrub_at, items, hashes, next);
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        if (items[i].block == 0 && !items[i].hollow)
            continue;
        items[kept] = items[i];
        hashes[kept++] = hashes[i];
    }
    return kept;
}

static bool unchanged(struct engine *engine, const struct index_item *item)
{
    const struct index_slot *slot = index_find_id(&engine->index, &item->id);
    if (slot == NULL || slot->block != item->block || slot->hollow)
        return false;
    struct blob_version version = index_slot_version(&engine->index, slot);
    return blob_version_compare(&version, &item->version) == 0;
}

/* Damage that is known is told again: whoever was to repair it may have given up, or died. */
static void tell_again(struct engine *engine, const struct index_item *item,
                       void (*damaged)(void *ctx, const struct engine_entry *entry), void *ctx)
{
    struct engine_entry entry;
    if (damaged != NULL && engine_find(engine, &item->id, &entry, NULL) == 0 && entry.hollow)
        damaged(ctx, &entry);
}

static int check(struct engine *engine, const struct index_item *item,
                 void (*damaged)(void *ctx, const struct engine_entry *entry), void *ctx)
{
    struct read_target target = {item->version, item->block, item->shard_len, item->shared, false};
    uint32_t header_crc;
    fiber_mutex_lock(&engine->scratch_lock);
    int rc = unchanged(engine, item)
                 ? read_verify(engine, &item->id, &target, engine->scratch, &header_crc)
                 : 0;
    fiber_mutex_unlock(&engine->scratch_lock);
    engine->scrub.objects_checked++;
    engine->scrub.pass_objects++;
    engine->scrub.bytes_checked += item->shard_len;
    if (rc == 0 || !unchanged(engine, item))
        return 0;
    if (rc != SHOAL_E_CORRUPT && rc != SHOAL_E_IO)
        return rc;
    engine->scrub.damaged++;
    engine_mark_hollow(engine, &item->id, &item->version);
    struct engine_entry entry;
    if (damaged != NULL && engine_find(engine, &item->id, &entry, NULL) == 0)
        damaged(ctx, &entry);
    return 0;
}

static int64_t step(struct engine *engine, unsigned max,
                    void (*damaged)(void *ctx, const struct engine_entry *entry), void *ctx)
{
    struct index_item items[INDEX_TABLE_MAX];
    uint64_t hashes[INDEX_TABLE_MAX];
    int64_t bytes = 0;
    unsigned checked = 0;
    while (checked < max) {
        if (engine->scrub_at.partition >= 1u << engine->sb.partition_bits) {
            /* The end is a step of its own: 0 bytes. */
            if (bytes > 0)
                return bytes;
            engine->scrub_at = (struct index_key){0, 0};
            engine->scrub.passes++;
            engine->scrub.pass_objects = 0;
            return 0;
        }
        struct index_key next;
        unsigned count = next_items(engine, items, hashes, &next);
        unsigned i = 0;
        for (; i < count && checked < max; i++, checked++) {
            if (items[i].hollow) {
                tell_again(engine, &items[i], damaged, ctx);
                bytes += LAYOUT_BLOCK; /* 0 would be the end of the pass */
                continue;
            }
            int rc = check(engine, &items[i], damaged, ctx);
            if (rc != 0)
                return rc;
            bytes +=
                (int64_t)extent_shape_of(items[i].shard_len, items[i].shared).blocks * LAYOUT_BLOCK;
        }
        if (i == count)
            engine->scrub_at = next;
        else
            engine->scrub_at.hash = hashes[i];
    }
    return bytes;
}

int64_t engine_scrub_step(struct engine *engine, unsigned max_objects,
                          void (*damaged)(void *ctx, const struct engine_entry *entry), void *ctx)
{
    int rc = engine_enter(engine);
    if (rc != 0)
        return rc;
    int64_t bytes = step(engine, max_objects, damaged, ctx);
    engine_leave(engine);
    return bytes;
}

void engine_scrub_progress(const struct engine *engine, struct engine_scrub_progress *progress)
{
    *progress = engine->scrub;
}
