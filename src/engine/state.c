/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "base/planted.h"
#include "engine/internal.h"
#include "shoal/error.h"

/* While a journal is replayed space is not known yet: it is derived once, from what is left. */
void state_charge(struct engine *engine, uint32_t pool, uint64_t block, bool add)
{
    if (block == 0 || !engine->allocating)
        return;
    uint64_t bytes = (uint64_t)alloc_slot_blocks(&engine->alloc, block) * LAYOUT_BLOCK;
    struct intern_pool *at = intern_pool_find(&engine->index.intern, pool);
    CHECK(at != NULL);
    at->bytes += add ? bytes : -bytes;
}

void state_free_extent(struct engine *engine, uint32_t pool, uint64_t block, uint64_t seq)
{
    if (block == 0 || !engine->allocating)
        return;
    state_charge(engine, pool, block, false);
    if (engine_broken(engine, ENGINE_RULE_QUARANTINE) || PLANTED(reused_extent))
        alloc_give(&engine->alloc, block);
    else
        quarantine_add(&engine->quarantine, block, seq);
}

/* A prepared piece keeps its pool and its version's pair in use, so that commit cannot fail. */
static int prepared_intern(struct engine *engine, const struct state_piece *piece)
{
    struct intern *intern = &engine->index.intern;
    uint32_t pool = intern_pool_take(intern, piece->id.pool);
    if (pool == INTERN_NONE)
        return SHOAL_E_FULL;
    if (intern_pair_take(intern, &piece->version) == INTERN_NONE) {
        intern_pool_give(intern, pool);
        return SHOAL_E_FULL;
    }
    return 0;
}

static void prepared_unintern(struct engine *engine, const struct prepared *prepared)
{
    struct intern *intern = &engine->index.intern;
    struct intern_pool *pool = intern_pool_find(intern, prepared->id.pool);
    CHECK(pool != NULL);
    uint32_t pair = intern_pair_take(intern, &prepared->version);
    CHECK(pair != INTERN_NONE);
    intern_pair_give(intern, pair);
    intern_pair_give(intern, pair);
    intern_pool_give(intern, (uint32_t)(pool - intern->pools));
}

void state_forget_prepared(struct engine *engine, struct prepared *prepared, uint64_t seq)
{
    state_free_extent(engine, prepared->id.pool, prepared->place.block, seq);
    prepared_unintern(engine, prepared);
    prepared_remove(&engine->prepared, prepared);
}

struct state_piece state_piece_of_record(const struct record *record)
{
    return (struct state_piece){
        .id = record->id,
        .version = record->version,
        .kind = record->kind,
        .form = record->form,
        .position = record->position,
        .depends = record->depends,
        .shared = record->shared,
        .shard_len = record->shard_len,
        .place = record->place,
        .expires_s = record->expires_s,
        .request = record->request,
    };
}

void state_piece_of(const struct engine *engine, const struct index_item *item,
                    struct state_piece *piece)
{
    *piece = (struct state_piece){
        .id = item->id,
        .version = item->version,
        .kind = item->kind,
        .form = item->form,
        .position = item->position,
        .hollow = item->hollow,
        .shared = item->shared,
        .shard_len = item->shard_len,
        .expires_s = item->expires_s,
    };
    if (item->block != 0) {
        uint32_t blocks = extent_shape_of(item->shard_len, item->shared).blocks;
        unsigned class_id = alloc_class_for(&engine->alloc, blocks) + item->stretch;
        piece->place = (struct extent_place){item->block, (uint8_t)class_id, item->slab_log};
    }
}

uint32_t state_extent_blocks(const struct state_piece *piece)
{
    return extent_shape_of(piece->shard_len, piece->shared).blocks;
}

static void prepared_fill(struct prepared *prepared, const struct state_piece *piece)
{
    prepared->version = piece->version;
    prepared->kind = piece->kind;
    prepared->form = piece->form;
    prepared->position = piece->position;
    prepared->depends = piece->depends;
    prepared->hollow = piece->hollow;
    prepared->torn = piece->torn;
    prepared->shared = piece->shared;
    prepared->writing = false;
    prepared->write_id = 0;
    prepared->shard_len = piece->shard_len;
    prepared->place = piece->place;
    prepared->expires_s = piece->expires_s;
    prepared->request = piece->request;
}

int state_prepare(struct engine *engine, const struct state_piece *piece, uint64_t seq,
                  struct prepared **out)
{
    int rc = prepared_intern(engine, piece);
    if (rc != 0)
        return rc;
    struct prepared *prepared = prepared_find(&engine->prepared, &piece->id);
    if (prepared != NULL) {
        state_free_extent(engine, prepared->id.pool, prepared->place.block, seq);
        prepared_unintern(engine, prepared);
    } else {
        uint32_t partition = blob_partition(&piece->id, engine->sb.partition_bits);
        prepared = prepared_add(&engine->prepared, &piece->id, partition);
        if (prepared == NULL) {
            struct prepared undo = {.id = piece->id, .version = piece->version};
            prepared_unintern(engine, &undo);
            return SHOAL_E_BUSY;
        }
    }
    prepared_fill(prepared, piece);
    state_charge(engine, piece->id.pool, piece->place.block, true);
    if (out != NULL)
        *out = prepared;
    return 0;
}

int state_place(struct engine *engine, const struct state_piece *piece, uint16_t tick, uint64_t seq)
{
    struct index_item item = {
        .id = piece->id,
        .version = piece->version,
        .kind = piece->kind,
        .form = piece->form,
        .position = piece->position,
        .hollow = piece->hollow,
        .shared = piece->shared,
        .shard_len = piece->shard_len,
        .block = piece->place.block,
        .slab_log = piece->place.slab_log,
        .tick = tick,
        .expires_s = piece->expires_s,
    };
    if (piece->place.block != 0)
        item.stretch = (uint8_t)(piece->place.class_id -
                                 alloc_class_for(&engine->alloc, state_extent_blocks(piece)));
    struct index_slot *slot = index_find_id(&engine->index, &piece->id);
    if (slot == NULL) {
        int rc = index_insert(&engine->index, &item);
        if (rc == 0)
            state_charge(engine, piece->id.pool, piece->place.block, true);
        return rc;
    }
    uint64_t old_block = slot->block;
    int rc = index_replace(&engine->index, slot, &item);
    if (rc != 0)
        return rc;
    state_charge(engine, piece->id.pool, piece->place.block, true);
    state_free_extent(engine, piece->id.pool, old_block, seq);
    return 0;
}

int state_commit(struct engine *engine, const struct blob_id *id,
                 const struct blob_version *version, uint64_t seq)
{
    struct prepared *prepared = prepared_find(&engine->prepared, id);
    if (prepared == NULL || blob_version_compare(&prepared->version, version) != 0)
        return SHOAL_E_NOT_FOUND;
    struct state_piece piece = {
        .id = *id,
        .version = *version,
        .kind = prepared->kind,
        .form = prepared->form,
        .position = prepared->position,
        .hollow = prepared->hollow,
        .shared = prepared->shared,
        .shard_len = prepared->shard_len,
        .place = prepared->place,
        .expires_s = prepared->expires_s,
    };
    int rc = state_place(engine, &piece, engine->tick, seq);
    if (rc != 0)
        return rc;
    /* The extent is the committed piece's now. */
    state_charge(engine, id->pool, prepared->place.block, false);
    prepared->place.block = 0;
    state_forget_prepared(engine, prepared, seq);
    return 0;
}

void state_drop(struct engine *engine, const struct blob_id *id, uint64_t seq)
{
    struct index_slot *slot = index_find_id(&engine->index, id);
    CHECK(slot != NULL);
    state_free_extent(engine, id->pool, slot->block, seq);
    index_remove(&engine->index, id);
}
