/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/internal.h"
#include "shoal/error.h"

struct loader {
    struct engine *engine;
    const struct checkpoint_head *head;
    struct checkpoint_ranges *ranges;
    uint64_t offset, end; /* bytes on the device: the next chunk, behind the last */
    struct checkpoint_place expected;
    uint64_t committed, prepared;
};

int checkpoint_read_head(struct engine *engine, unsigned area, struct checkpoint_head *head)
{
    uint64_t at = engine->layout.checkpoint_start[area] * LAYOUT_BLOCK;
    int rc = dev_read(engine->dev, at, engine->chunk, LAYOUT_BLOCK);
    if (rc == 0)
        rc = checkpoint_head_decode(engine->chunk, engine->sb.device, head);
    if (rc == 0 && 1 + head->blocks > engine->layout.checkpoint_blocks)
        rc = SHOAL_E_CORRUPT;
    return rc;
}

void checkpoint_ranges_free(struct checkpoint_ranges *ranges)
{
    free(ranges->ranges);
    *ranges = (struct checkpoint_ranges){0};
}

static int ranges_add(struct checkpoint_ranges *ranges, const struct checkpoint_chunk *chunk)
{
    if (ranges->count == ranges->capacity) {
        size_t capacity = ranges->capacity == 0 ? 64 : ranges->capacity * 2;
        void *grown = realloc(ranges->ranges, capacity * sizeof *ranges->ranges);
        if (grown == NULL)
            return SHOAL_E_NO_MEMORY;
        ranges->ranges = grown;
        ranges->capacity = capacity;
    }
    ranges->ranges[ranges->count++] = (struct checkpoint_range){
        .start = {chunk->start.partition, chunk->start.hash}, .seq = chunk->seq};
    return 0;
}

static int load_entry(struct loader *loader, const struct checkpoint_entry *entry,
                      enum checkpoint_space space)
{
    struct engine *engine = loader->engine;
    struct state_piece piece = {
        .id = entry->id,
        .version = entry->version,
        .kind = entry->kind,
        .form = entry->form,
        .position = entry->position,
        .depends = entry->depends,
        .hollow = entry->hollow,
        .torn = entry->torn,
        .shared = entry->shared,
        .shard_len = entry->shard_len,
        .place = {entry->block, entry->class_id, entry->slab_log},
        .expires_s = entry->expires_s,
        .request = entry->request,
    };
    if (entry->shard_len > ENGINE_PAYLOAD_MAX)
        return SHOAL_E_CORRUPT;
    if (space == CHECKPOINT_PREPARED)
        return prepared_find(&engine->prepared, &piece.id) != NULL
                   ? SHOAL_E_CORRUPT
                   : state_prepare(engine, &piece, 0, NULL);
    return state_place(engine, &piece, entry->tick, 0);
}

static int load_chunk(struct loader *loader, const void *data, const struct checkpoint_chunk *chunk)
{
    if (chunk->device != loader->head->device || chunk->id != loader->head->id)
        return SHOAL_E_CORRUPT;
    int rc = checkpoint_chunk_check(data, chunk);
    if (rc != 0)
        return rc;
    if (chunk->space == CHECKPOINT_COMMITTED) {
        if (chunk->start.partition != loader->expected.partition ||
            chunk->start.hash != loader->expected.hash)
            return SHOAL_E_CORRUPT;
        loader->expected = chunk->end;
        loader->committed += chunk->entries;
        rc = ranges_add(loader->ranges, chunk);
    } else {
        loader->prepared += chunk->entries;
    }
    const uint8_t *at = (const uint8_t *)data + CHECKPOINT_CHUNK_HEADER;
    for (uint32_t i = 0; i < chunk->entries && rc == 0; i++) {
        struct checkpoint_entry entry;
        rc = checkpoint_entry_decode(at, chunk->space, &entry);
        at += checkpoint_entry_bytes(chunk->space);
        if (rc == 0)
            rc = load_entry(loader, &entry, chunk->space);
    }
    return rc;
}

struct ahead {
    struct dev_io io;
    struct completion done;
};

static void ahead_done(struct dev_io *io, int result)
{
    completion_signal(&container_of(io, struct ahead, io)->done, result);
}

static void ahead_start(struct loader *loader, struct ahead *ahead, void *buffer)
{
    size_t bytes = MIN((uint64_t)CHECKPOINT_CHUNK_BYTES, loader->end - loader->offset);
    *ahead = (struct ahead){.io = {.op = DEV_READ,
                                   .offset_bytes = loader->offset,
                                   .iov = {{buffer, bytes}},
                                   .iov_count = 1,
                                   .done = ahead_done}};
    dev_submit(loader->engine->dev, &ahead->io);
}

/* The next chunk is read while this one goes into the index. */
static int load_chunks(struct loader *loader)
{
    struct engine *engine = loader->engine;
    void *buffers[2] = {engine->chunk, engine->scratch};
    struct ahead ahead;
    int rc = 0;
    ahead_start(loader, &ahead, buffers[0]);
    for (uint32_t i = 0; i < loader->head->chunks && rc == 0; i++) {
        void *data = buffers[i % 2];
        rc = (int)completion_wait(&ahead.done);
        struct checkpoint_chunk chunk = {0};
        if (rc == 0)
            rc = checkpoint_chunk_decode(data, &chunk);
        if (rc == 0 && chunk.number != i)
            rc = SHOAL_E_CORRUPT;
        uint64_t bytes = (uint64_t)chunk.blocks * LAYOUT_BLOCK;
        if (rc == 0 && bytes > loader->end - loader->offset)
            rc = SHOAL_E_CORRUPT;
        if (rc != 0)
            return rc;
        loader->offset += bytes;
        bool more = i + 1 < loader->head->chunks;
        if (more && loader->offset == loader->end)
            return SHOAL_E_CORRUPT;
        if (more)
            ahead_start(loader, &ahead, buffers[(i + 1) % 2]);
        rc = load_chunk(loader, data, &chunk);
        if (rc != 0 && more)
            (void)completion_wait(&ahead.done);
    }
    return rc;
}

int checkpoint_load(struct engine *engine, unsigned area, const struct checkpoint_head *head,
                    struct checkpoint_ranges *ranges)
{
    uint64_t start = (engine->layout.checkpoint_start[area] + 1) * LAYOUT_BLOCK;
    struct loader loader = {
        .engine = engine,
        .head = head,
        .ranges = ranges,
        .offset = start,
        .end = start + head->blocks * LAYOUT_BLOCK,
    };
    ranges->prepared_seq = head->prepared_seq;
    if (head->chunks == 0 || head->blocks == 0)
        return SHOAL_E_CORRUPT;
    int rc = load_chunks(&loader);
    if (rc != 0)
        return rc;
    bool whole = loader.expected.partition == 1u << engine->sb.partition_bits &&
                 loader.committed == head->committed && loader.prepared == head->prepared &&
                 loader.offset == loader.end;
    if (!whole || engine->index.count != head->committed)
        return SHOAL_E_CORRUPT;
    if (engine_broken(engine, ENGINE_RULE_CHECKPOINT_SEQUENCE)) {
        ranges->prepared_seq = ranges->ranges[ranges->count - 1].seq;
        for (size_t i = 0; i < ranges->count; i++)
            ranges->ranges[i].seq = ranges->prepared_seq;
    }
    engine->tick = head->tick;
    return 0;
}
