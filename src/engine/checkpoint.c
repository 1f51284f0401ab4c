/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "engine/internal.h"
#include "shoal/error.h"

/* Tables walked without a pause; an empty partition costs some nanoseconds. */
#define WALK_MAX 65536u

/* After so many failures in a row the ring is about to fill: better to stop than to hang. */
#define FAILURES_MAX 8u
#define RETRY_NS UINT64_C(50000000)

struct writer {
    struct engine *engine;
    unsigned area;
    struct checkpoint_head head;
    struct checkpoint_chunk chunk;
    size_t used;
};

static uint64_t area_offset(const struct engine *engine, unsigned area)
{
    return engine->layout.checkpoint_start[area] * LAYOUT_BLOCK;
}

static void chunk_begin(struct writer *writer, enum checkpoint_space space, uint64_t seq)
{
    writer->chunk = (struct checkpoint_chunk){
        .device = writer->head.device,
        .id = writer->head.id,
        .number = writer->head.chunks,
        .space = space,
        .seq = seq,
    };
    writer->used = CHECKPOINT_CHUNK_HEADER;
}

static void chunk_add(struct writer *writer, const struct checkpoint_entry *entry)
{
    uint8_t *at = (uint8_t *)writer->engine->chunk + writer->used;
    checkpoint_entry_encode(at, writer->chunk.space, entry);
    writer->used += checkpoint_entry_bytes(writer->chunk.space);
    writer->chunk.entries++;
}

static int chunk_write(struct writer *writer)
{
    struct engine *engine = writer->engine;
    checkpoint_chunk_seal(engine->chunk, writer->used, &writer->chunk);
    if (1 + writer->head.blocks + writer->chunk.blocks > engine->layout.checkpoint_blocks)
        return SHOAL_E_TOO_LARGE;
    uint64_t at = area_offset(engine, writer->area) + (1 + writer->head.blocks) * LAYOUT_BLOCK;
    writer->head.blocks += writer->chunk.blocks;
    writer->head.chunks++;
    return dev_write(engine->dev, at, engine->chunk, (size_t)writer->chunk.blocks * LAYOUT_BLOCK);
}

static void prepared_entry(const struct prepared *prepared, struct checkpoint_entry *entry)
{
    *entry = (struct checkpoint_entry){
        .id = prepared->id,
        .version = prepared->version,
        .kind = (uint8_t)prepared->kind,
        .form = (uint8_t)prepared->form,
        .position = prepared->position,
        .hollow = prepared->hollow,
        .torn = prepared->torn,
        .shared = prepared->shared,
        .class_id = prepared->place.class_id,
        .slab_log = prepared->place.slab_log,
        .shard_len = prepared->shard_len,
        .block = prepared->place.block,
        .expires_s = prepared->expires_s,
        .depends = prepared->depends,
        .request = prepared->request,
    };
}

/* All prepared pieces as they are now, though writing them takes several chunks. */
static int write_prepared(struct writer *writer)
{
    struct engine *engine = writer->engine;
    size_t count = prepared_count(&engine->prepared), i = 0;
    if (count == 0)
        return 0;
    struct checkpoint_entry *entries = malloc(count * sizeof *entries);
    if (entries == NULL)
        return SHOAL_E_NO_MEMORY;
    list_for_each(&engine->prepared.all, struct prepared, in_all, prepared)
        prepared_entry(prepared, &entries[i++]);
    int rc = 0;
    for (i = 0; i < count && rc == 0;) {
        chunk_begin(writer, CHECKPOINT_PREPARED, writer->head.prepared_seq);
        while (i < count && writer->used + CHECKPOINT_PREPARED_BYTES <= CHECKPOINT_CHUNK_BYTES)
            chunk_add(writer, &entries[i++]);
        rc = chunk_write(writer);
    }
    writer->head.prepared = count;
    free(entries);
    return rc;
}

static void add_table(struct writer *writer, const struct index_item *items, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct state_piece piece;
        state_piece_of(writer->engine, &items[i], &piece);
        struct checkpoint_entry entry = {
            .id = piece.id,
            .version = piece.version,
            .kind = (uint8_t)piece.kind,
            .form = (uint8_t)piece.form,
            .position = piece.position,
            .hollow = piece.hollow && !engine_repairing(writer->engine, piece.place.block),
            .shared = piece.shared,
            .class_id = piece.place.class_id,
            .slab_log = piece.place.slab_log,
            .shard_len = piece.shard_len,
            .block = piece.place.block,
            .expires_s = piece.expires_s,
            .tick = items[i].tick,
        };
        chunk_add(writer, &entry);
    }
    writer->head.committed += count;
}

/* Chunk after chunk along the order of the index, while it goes on changing. */
static int write_committed(struct writer *writer)
{
    struct engine *engine = writer->engine;
    uint32_t partitions = 1u << engine->sb.partition_bits;
    struct index_key key = {0, 0}, next;
    struct index_item items[INDEX_TABLE_MAX];
    int rc = 0;
    while (key.partition < partitions && rc == 0 && !engine->journal.stopped) {
        chunk_begin(writer, CHECKPOINT_COMMITTED, engine->journal.next_seq - 1);
        writer->chunk.start = (struct checkpoint_place){key.partition, key.hash};
        for (unsigned walked = 0; key.partition < partitions && walked < WALK_MAX; walked++) {
            if (writer->used + (size_t)INDEX_TABLE_MAX * CHECKPOINT_COMMITTED_BYTES >
                CHECKPOINT_CHUNK_BYTES)
                break;
            add_table(writer, items, index_walk_table(&engine->index, &key, items, NULL, &next));
            key = next;
        }
        writer->chunk.end = (struct checkpoint_place){key.partition, key.hash};
        rc = chunk_write(writer);
    }
    return rc;
}

/* What the head names must be there before the head is. */
static int write_head(struct writer *writer, uint64_t last_seq)
{
    struct engine *engine = writer->engine;
    int rc = engine->journal.stopped ? SHOAL_E_IO : 0;
    if (rc == 0 && !engine_broken(engine, ENGINE_RULE_CHECKPOINT_DURABLE)) {
        rc = journal_wait_barrier(&engine->journal, last_seq);
        if (rc == 0)
            rc = dev_flush(engine->dev);
        if (rc != 0)
            journal_stop(&engine->journal);
    }
    if (rc == 0) {
        checkpoint_head_encode(engine->chunk, &writer->head);
        rc = dev_write(engine->dev, area_offset(engine, writer->area), engine->chunk, LAYOUT_BLOCK);
    }
    if (rc == 0) {
        rc = dev_flush(engine->dev);
        if (rc != 0)
            journal_stop(&engine->journal);
    }
    return rc;
}

int checkpoint_write(struct engine *engine)
{
    struct checkpoint_state *state = &engine->checkpoint;
    struct journal *journal = &engine->journal;
    unsigned newest = (unsigned)state->newest;
    struct writer writer = {
        .engine = engine,
        .area = 1 - newest,
        .head =
            {
                .device = engine->sb.device,
                .id = state->next_id++,
                .generation = engine->sb.generation,
                .position = journal->head,
                .first_seq = journal->next_seq - journal->pending_records,
                .prepared_seq = journal->next_seq - 1,
                .chain = journal->chain,
                .tick = engine->tick,
            },
    };
    state->id[writer.area] = 0;
    int rc = write_prepared(&writer);
    if (rc == 0)
        rc = write_committed(&writer);
    if (rc == 0)
        rc = write_head(&writer, writer.chunk.seq);
    if (rc != 0)
        return rc;
    state->id[writer.area] = writer.head.id;
    state->position[writer.area] = writer.head.position;
    state->newest = writer.area;
    state->completed++;
    if (engine->count.checkpoints != NULL)
        counter_add(engine->count.checkpoints, 1);
    /* The other one may have to do if this one is damaged. */
    journal_set_tail(journal, engine_broken(engine, ENGINE_RULE_RING_RETENTION)
                                  ? journal->head
                                  : MAX(journal->tail, state->position[newest]));
    return 0;
}

static void checkpoint_loop(void *arg)
{
    struct engine *engine = arg;
    struct checkpoint_state *state = &engine->checkpoint;
    while (!state->closing) {
        if (!state->wanted || engine->journal.stopped) {
            fiber_queue_wait(&state->wake);
            continue;
        }
        state->wanted = false;
        state->running = true;
        int rc = checkpoint_write(engine);
        state->running = false;
        state->last_result = rc;
        state->failures = rc == 0 ? 0 : state->failures + 1;
        fiber_queue_wake_all(&state->done);
        if (rc == 0 || state->closing || engine->journal.stopped)
            continue;
        LOG_WARN("%s: writing a checkpoint failed: %s; trying again", engine->dev->name,
                 shoal_error_text(rc));
        if (state->failures >= FAILURES_MAX)
            journal_stop(&engine->journal);
        state->wanted = true;
        (void)fiber_queue_wait_until(&state->wake, reactor_now_ns(engine->dev->reactor) + RETRY_NS);
    }
    state->started = false;
    fiber_queue_wake_all(&state->done);
}

int checkpoint_start(struct engine *engine)
{
    fiber_queue_init(&engine->checkpoint.wake);
    fiber_queue_init(&engine->checkpoint.done);
    int rc = fiber_pool_create(engine->dev->reactor, "checkpoint", 1, 0, &engine->fibers);
    if (rc == 0)
        rc = fiber_spawn(engine->fibers, checkpoint_loop, engine);
    engine->checkpoint.started = rc == 0;
    return rc;
}

void checkpoint_shut(struct engine *engine)
{
    struct checkpoint_state *state = &engine->checkpoint;
    state->closing = true;
    fiber_queue_wake_all(&state->wake);
    while (state->started)
        fiber_queue_wait(&state->done);
    if (engine->fibers == NULL)
        return;
    while (fiber_pool_in_use(engine->fibers) > 0)
        fiber_yield();
    fiber_pool_destroy(engine->fibers);
    engine->fibers = NULL;
}

void checkpoint_request(struct engine *engine)
{
    engine->checkpoint.wanted = true;
    fiber_queue_wake_all(&engine->checkpoint.wake);
}

int engine_checkpoint(struct engine *engine)
{
    int rc = engine_enter(engine);
    if (rc != 0)
        return rc;
    struct checkpoint_state *state = &engine->checkpoint;
    uint64_t target = state->completed + (state->running ? 2 : 1);
    unsigned failures = state->failures;
    checkpoint_request(engine);
    while (state->completed < target && state->failures <= failures && state->started &&
           !engine->journal.stopped) {
        failures = MIN(failures, state->failures);
        fiber_queue_wait(&state->done);
    }
    if (state->completed < target)
        rc = engine->journal.stopped   ? SHOAL_E_IO
             : state->last_result != 0 ? state->last_result
                                       : SHOAL_E_SHUTDOWN;
    engine_leave(engine);
    return rc;
}
