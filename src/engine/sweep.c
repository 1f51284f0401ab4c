/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last resort: rebuild the index from the extents themselves.
 *
 * A sweep cannot tell a committed piece from one that was only prepared, nor a living one from one
 * that was dropped and not written over yet. It keeps the newest whole piece of each object, as
 * committed, and the target is stale: what the clean members do not list is dropped later.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/internal.h"
#include "shoal/error.h"

struct candidate {
    struct state_piece piece;
    uint64_t created_s;
};

struct sweep {
    struct engine *engine;
    struct candidate *candidates;
    size_t count, capacity;
    struct sweep_result *result;
};

/* @each is called for every block that starts with a header of its own place. */
static int scan(struct dev *dev, uint64_t first, uint64_t end, void *buffer,
                int (*each)(void *ctx, const struct extent_header *header), void *ctx)
{
    const uint64_t window = CHECKPOINT_CHUNK_BYTES / LAYOUT_BLOCK;
    bool single = false;
    for (uint64_t at = first; at < end;) {
        uint64_t blocks = single ? 1 : MIN(window, end - at);
        single = false;
        int rc = dev_read(dev, at * LAYOUT_BLOCK, buffer, blocks * LAYOUT_BLOCK);
        if (rc == SHOAL_E_IO && blocks > 1) {
            single = true; /* one block of these is bad: up to it, one after the other */
            continue;
        }
        for (uint64_t i = 0; i < blocks && rc == 0; i++) {
            const uint8_t *block = (const uint8_t *)buffer + i * LAYOUT_BLOCK;
            size_t size = MIN((uint64_t)EXTENT_HEADER_MAX, (blocks - i) * LAYOUT_BLOCK);
            struct extent_header header;
            if (extent_header_decode(block, size, &header) == 0 && header.place.block == at + i)
                rc = each(ctx, &header);
        }
        if (rc != 0 && rc != SHOAL_E_IO)
            return rc;
        /* The header of a very large piece may cross the window's end: begin the next one early. */
        at += blocks == 1 || at + blocks == end ? blocks : blocks - 1;
    }
    return 0;
}

struct vote {
    struct extent_owner owner;
    uint64_t lead;
};

static int count_vote(void *ctx, const struct extent_header *header)
{
    struct vote *vote = ctx;
    if (vote->lead == 0)
        vote->owner = header->owner;
    vote->lead += vote->owner.device == header->owner.device ? 1 : UINT64_MAX;
    return 0;
}

int sweep_owner(struct dev *dev, void *buffer, struct extent_owner *owner)
{
    struct vote vote = {0};
    int rc = scan(dev, 1, dev->size_bytes / LAYOUT_BLOCK, buffer, count_vote, &vote);
    if (rc != 0)
        return rc;
    *owner = vote.owner;
    return vote.lead > 0 && vote.owner.partition_bits <= BLOB_PARTITION_BITS_MAX
               ? 0
               : SHOAL_E_NOT_FOUND;
}

static int collect(void *ctx, const struct extent_header *header)
{
    struct sweep *sweep = ctx;
    if (header->owner.device != sweep->engine->sb.device)
        return 0;
    if (sweep->count == sweep->capacity) {
        size_t capacity = sweep->capacity == 0 ? 1024 : sweep->capacity * 2;
        void *grown = realloc(sweep->candidates, capacity * sizeof *sweep->candidates);
        if (grown == NULL)
            return SHOAL_E_NO_MEMORY;
        sweep->candidates = grown;
        sweep->capacity = capacity;
    }
    const struct blob_desc *desc = &header->desc;
    struct candidate *candidate = &sweep->candidates[sweep->count];
    *candidate = (struct candidate){.created_s = desc->created_s};
    candidate->piece = (struct state_piece){
        .id = desc->id,
        .version = desc->version,
        .kind = desc->kind,
        .form = desc->form,
        .position = desc->position,
        .depends = desc->depends,
        .shared = header->shared,
        .shard_len = desc->shard_len,
        .place = header->place,
        .expires_s = (uint32_t)MIN(desc->expires_s, (uint64_t)UINT32_MAX),
        .request = desc->request,
    };
    /* The scan's windows overlap by a block. */
    if (sweep->count > 0 && candidate->piece.place.block == candidate[-1].piece.place.block)
        return 0;
    sweep->count++;
    return 0;
}

/* Newest first: of two whose places conflict the older one was freed long ago. */
static int newest_first(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    int order = blob_version_compare(&y->piece.version, &x->piece.version);
    if (x->piece.version.epoch == y->piece.version.epoch && x->created_s != y->created_s)
        order = x->created_s < y->created_s ? 1 : -1;
    if (order == 0)
        order = x->piece.place.block < y->piece.place.block ? -1 : 1;
    return order;
}

static int keep(struct sweep *sweep, const struct candidate *candidate)
{
    struct engine *engine = sweep->engine;
    const struct state_piece *piece = &candidate->piece;
    struct index_slot *slot = index_find_id(&engine->index, &piece->id);
    if (slot != NULL) {
        struct blob_version version = index_slot_version(&engine->index, slot);
        if (blob_version_compare(&version, &piece->version) >= 0)
            return 0;
    }
    struct read_target target = {piece->version, piece->place.block, piece->shard_len,
                                 piece->shared, false};
    uint32_t crc;
    int rc = read_verify(engine, &piece->id, &target, engine->chunk, &crc);
    if (rc == SHOAL_E_CORRUPT || rc == SHOAL_E_IO) {
        sweep->result->damaged++;
        return 0;
    }
    if (rc != 0)
        return rc;
    if (alloc_mark(&engine->alloc, &piece->place, state_extent_blocks(piece)) != 0) {
        sweep->result->displaced++;
        return 0;
    }
    rc = state_place(engine, piece, 0, 0);
    if (rc != 0)
        alloc_give(&engine->alloc, piece->place.block);
    else
        sweep->result->kept++;
    return rc;
}

int sweep_run(struct engine *engine, struct sweep_result *result)
{
    *result = (struct sweep_result){0};
    struct sweep sweep = {.engine = engine, .result = result};
    const struct layout *layout = &engine->layout;
    engine->allocating = true;
    int rc = scan(engine->dev, layout->extent_start, layout->extent_start + layout->extent_blocks,
                  engine->scratch, collect, &sweep);
    if (rc == 0 && sweep.count > 0)
        qsort(sweep.candidates, sweep.count, sizeof *sweep.candidates, newest_first);
    result->found = sweep.count;
    for (size_t i = 0; i < sweep.count && rc == 0; i++)
        rc = keep(&sweep, &sweep.candidates[i]);
    free(sweep.candidates);
    return rc;
}
