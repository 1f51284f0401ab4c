/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "engine/internal.h"
#include "engine/record.h"
#include "shoal/error.h"

/* How often space is waited for that is only kept back until a barrier passes. */
#define SPACE_TRIES 4u

/* An object needs no more than two frees at once: its own extent and that of what it replaces. */
#define QUARANTINE_SPARE 4u

bool engine_admits(const struct engine *engine, bool lazy)
{
    return journal_admits(&engine->journal, lazy ? JOURNAL_UNDO_BLOCKS : JOURNAL_RESERVE_BLOCKS) &&
           quarantine_room(&engine->quarantine) > (lazy ? 1 : QUARANTINE_SPARE);
}

uint64_t engine_append(struct engine *engine, const struct record *record, struct journal_op *op)
{
    struct journal *journal = &engine->journal;
    uint64_t seq = journal_append(journal, record, op);
    const struct checkpoint_state *state = &engine->checkpoint;
    uint64_t since = journal->head - state->position[state->newest];
    /* Two checkpoints and what comes while a third is written share the ring. */
    uint64_t limit = engine_broken(engine, ENGINE_RULE_RING_RETENTION)
                         ? journal->ring_blocks * 3 / 4
                         : journal->ring_blocks / 4;
    if (since > limit && !state->running && !state->wanted)
        checkpoint_request(engine);
    return seq;
}

/* For a record that cannot wait. A ring may be full from before the last crash, so this asks too. */
static bool admits_now(struct engine *engine)
{
    bool admits = engine_admits(engine, true);
    if (!admits && !engine->checkpoint.running)
        checkpoint_request(engine);
    return admits;
}

int engine_wait_room(struct engine *engine)
{
    while (!engine->journal.stopped && !engine_admits(engine, false)) {
        if (!engine->checkpoint.running)
            checkpoint_request(engine);
        fiber_queue_wait(&engine->journal.room);
    }
    return engine->journal.stopped ? SHOAL_E_IO : 0;
}

/* [fiber] One record, durable on return. */
static int append_and_wait(struct engine *engine, const struct record *record)
{
    struct journal_op op = {0};
    engine_append(engine, record, &op);
    return journal_wait(&engine->journal, &op);
}

/* A round of the journal with nothing but a barrier, which lets go of freed extents. */
static int push_barrier(struct engine *engine)
{
    int rc = engine_wait_room(engine);
    return rc != 0 ? rc : append_and_wait(engine, &(struct record){.type = RECORD_BARRIER});
}

/* ---- one piece to be written ---- */

struct write {
    struct engine *engine;
    const struct blob_desc *desc;
    const struct iovec *payload;
    unsigned payload_count;
    const uint32_t *units;
    enum record_type type;

    struct extent_shape shape;
    struct extent_place place;
    uint8_t *header;
    struct record record;
    struct dev_io io;
    struct journal_op op;
    uint64_t write_id;
    struct list_node node; /* of a repair: in engine->repairs */
};

static int write_check(const struct write *write)
{
    const struct blob_desc *desc = write->desc;
    if (desc->shard_len > ENGINE_PAYLOAD_MAX)
        return SHOAL_E_TOO_LARGE;
    if (blob_version_is_none(&desc->version) || desc->version.counter >> 48 != 0 ||
        desc->kind < BLOB_HEAD || desc->kind > BLOB_UPLOAD || desc->form < BLOB_BYTES ||
        desc->form > BLOB_TOMBSTONE || desc->name_len > BLOB_NAME_MAX ||
        (desc->form != BLOB_BYTES && desc->shard_len != 0))
        return SHOAL_E_INVALID;
    if (write->payload_count > DEV_MAX_IOV - 1)
        return SHOAL_E_INVALID;
    size_t bytes = 0;
    for (unsigned i = 0; i < write->payload_count; i++) {
        const struct iovec *part = &write->payload[i];
        if (i + 1 < write->payload_count && part->iov_len % LAYOUT_BLOCK != 0)
            return SHOAL_E_INVALID;
        if ((uintptr_t)part->iov_base % LAYOUT_BLOCK != 0)
            return SHOAL_E_INVALID;
        bytes += part->iov_len;
    }
    return desc->form == BLOB_BYTES && bytes != desc->shard_len ? SHOAL_E_INVALID : 0;
}

/*
 * A part of the entries and of the space is for repairs alone. What a member catches up with was
 * admitted by others while it was away, and they were about as full: so it finds room.
 */
#define REPAIR_SHARE 32u

static bool has_entry(const struct write *write)
{
    const struct engine *engine = write->engine;
    uint64_t kept = write->type == RECORD_REPAIR ? 0 : engine->objects_max / REPAIR_SHARE;
    return engine->index.count + prepared_count(&engine->prepared) < engine->objects_max - kept;
}

static bool has_space(const struct write *write)
{
    const struct alloc *alloc = &write->engine->alloc;
    uint64_t kept = write->type == RECORD_REPAIR ? 0 : alloc->blocks / REPAIR_SHARE;
    return alloc->blocks_used + write->shape.blocks <= alloc->blocks - kept;
}

/* May this version come now, and is there an entry for it? */
static int write_admissible(const struct write *write)
{
    struct engine *engine = write->engine;
    const struct blob_desc *desc = write->desc;
    const struct prepared *prepared = prepared_find(&engine->prepared, &desc->id);
    const struct index_slot *slot = index_find_id(&engine->index, &desc->id);
    bool repair = write->type == RECORD_REPAIR;
    if (slot != NULL) {
        struct blob_version version = index_slot_version(&engine->index, slot);
        int order = blob_version_compare(&version, &desc->version);
        if (order > 0 || (order == 0 && !repair))
            return SHOAL_E_LOW_WATER;
    }
    if (prepared != NULL && !repair &&
        blob_version_compare(&prepared->version, &desc->version) >= 0)
        return SHOAL_E_LOW_WATER;
    if (prepared == NULL && slot == NULL && !has_entry(write))
        return SHOAL_E_FULL;
    if (prepared == NULL && !repair && prepared_count(&engine->prepared) == engine->prepared.max)
        return SHOAL_E_BUSY;
    return 0;
}

/* Room in journal, index and extents, all at once: nothing may block after this. */
static int write_reserve(struct write *write)
{
    struct engine *engine = write->engine;
    for (unsigned tries = 0;; tries++) {
        int rc = engine_wait_room(engine);
        if (rc == 0)
            rc = write_admissible(write);
        if (rc != 0 || write->desc->form != BLOB_BYTES)
            return rc;
        rc = has_space(write) ? alloc_take(&engine->alloc, write->shape.blocks, &write->place)
                              : SHOAL_E_FULL;
        if (rc != SHOAL_E_FULL || engine->quarantine.count == 0 || tries == SPACE_TRIES)
            return rc;
        rc = push_barrier(engine);
        if (rc != 0)
            return rc;
    }
}

static void payload_units(const struct write *write, uint32_t *units)
{
    uint32_t at = 0, unit = 0;
    for (unsigned i = 0; i < write->payload_count; i++) {
        const uint8_t *data = write->payload[i].iov_base;
        size_t left = write->payload[i].iov_len;
        while (left > 0) {
            uint32_t in_unit = at % ENGINE_UNIT_BYTES;
            size_t part = MIN(left, (size_t)(ENGINE_UNIT_BYTES - in_unit));
            unit = crc32c(in_unit == 0 ? 0 : unit, data, part);
            units[at / ENGINE_UNIT_BYTES] = unit;
            at += (uint32_t)part;
            data += part;
            left -= part;
        }
    }
}

/* Header, or header and payload, in a DMA buffer of ours; the rest of the payload is the caller's.
 */
static int write_header(struct write *write)
{
    struct engine *engine = write->engine;
    uint32_t computed[EXTENT_UNITS_MAX];
    const uint32_t *units = write->units;
    size_t size = (size_t)write->shape.header_blocks * LAYOUT_BLOCK;
    write->header = dma_get(engine->arena, size);
    if (write->header == NULL)
        return SHOAL_E_BUSY;
    if (units == NULL) {
        payload_units(write, computed);
        units = computed;
    }
    write->record.header_crc =
        extent_header_encode(write->header, size, &engine->owner, &write->place, write->desc,
                             write->shape.shared, units);
    write->io.iov[write->io.iov_count++] = (struct iovec){write->header, size};
    if (write->shape.shared) {
        uint32_t header_bytes = load_le32(write->header + 8);
        uint8_t *to = write->header + header_bytes;
        for (unsigned i = 0; i < write->payload_count; i++) {
            memcpy(to, write->payload[i].iov_base, write->payload[i].iov_len);
            to += write->payload[i].iov_len;
        }
        return 0;
    }
    for (unsigned i = 0; i < write->payload_count; i++) {
        struct iovec part = write->payload[i];
        part.iov_len = round_up_u64(part.iov_len, LAYOUT_BLOCK);
        if (part.iov_len > 0)
            write->io.iov[write->io.iov_count++] = part;
    }
    return 0;
}

static void write_record(struct write *write)
{
    const struct blob_desc *desc = write->desc;
    uint32_t header_crc = write->record.header_crc;
    write->record = (struct record){
        .type = write->type,
        .id = desc->id,
        .version = desc->version,
        .kind = (uint8_t)desc->kind,
        .form = (uint8_t)desc->form,
        .position = desc->position,
        .shared = write->shape.shared && desc->form == BLOB_BYTES,
        .depends = desc->depends,
        .shard_len = desc->shard_len,
        .place = write->place,
        .header_crc = header_crc,
        .expires_s = (uint32_t)MIN(desc->expires_s, (uint64_t)UINT32_MAX),
        .request = desc->request,
    };
}

/* The change in memory, as replay will make it when it meets the record. */
static int write_state(struct write *write)
{
    struct engine *engine = write->engine;
    const struct record *record = &write->record;
    uint64_t seq = engine->journal.next_seq;
    struct state_piece piece = state_piece_of_record(record);
    write->write_id = ++engine->write_id;
    if (write->type == RECORD_PREPARE) {
        struct prepared *prepared;
        int rc = state_prepare(engine, &piece, seq, &prepared);
        if (rc != 0)
            return rc;
        prepared->writing = true;
        prepared->write_id = write->write_id;
        return 0;
    }
    /* Until the bytes are durable there is a piece, and nothing to read. */
    piece.hollow = piece.place.block != 0;
    int rc = state_place(engine, &piece, engine->tick, seq);
    struct prepared *prepared = prepared_find(&engine->prepared, &record->id);
    if (rc == 0 && prepared != NULL &&
        blob_version_compare(&prepared->version, &record->version) <= 0)
        state_forget_prepared(engine, prepared, seq);
    return rc;
}

bool engine_repairing(const struct engine *engine, uint64_t block)
{
    list_for_each((struct list *)(uintptr_t)&engine->repairs, struct write, node, write)
        if (block != 0 && write->place.block == block)
            return true;
    return false;
}

static void write_done(struct dev_io *io, int result)
{
    struct write *write = container_of(io, struct write, io);
    journal_extent_done(&write->engine->journal, &write->op, result);
}

/* What this write put into memory, if nothing has replaced it since. */
static struct prepared *my_prepared(const struct write *write)
{
    struct prepared *prepared = prepared_find(&write->engine->prepared, &write->desc->id);
    return prepared != NULL && prepared->write_id == write->write_id ? prepared : NULL;
}

static struct index_slot *my_slot(const struct write *write)
{
    struct engine *engine = write->engine;
    struct index_slot *slot = index_find_id(&engine->index, &write->desc->id);
    if (slot == NULL || slot->block != write->place.block)
        return NULL;
    struct blob_version version = index_slot_version(&engine->index, slot);
    return blob_version_compare(&version, &write->desc->version) == 0 ? slot : NULL;
}

/*
 * Nobody waits for room here: only a checkpoint makes room, and that waits for the barrier, which waits
 * for this undo. A device that fails writes when the last of the ring is used up stops the target.
 */
static int undo_room(struct engine *engine)
{
    if (!journal_admits(&engine->journal, 0) || quarantine_room(&engine->quarantine) == 0)
        journal_stop(&engine->journal);
    return engine->journal.stopped ? SHOAL_E_IO : 0;
}

/*
 * The extent could not be written, but its record is in the journal: a later record takes it back.
 * The barrier waits for that one, so that replay goes on to doubt the first.
 */
static int write_undo(struct write *write)
{
    struct engine *engine = write->engine;
    int rc = undo_room(engine);
    if (rc == 0) {
        struct record record = {.type =
                                    write->type == RECORD_PREPARE ? RECORD_ABORT : RECORD_HOLLOW,
                                .id = write->desc->id,
                                .version = write->desc->version};
        struct prepared *prepared = my_prepared(write);
        if (write->type == RECORD_PREPARE && prepared != NULL)
            state_forget_prepared(engine, prepared, engine->journal.next_seq);
        rc = append_and_wait(engine, &record);
    }
    journal_op_release(&engine->journal, &write->op);
    return rc;
}

static int write_finish(struct write *write, int rc)
{
    struct engine *engine = write->engine;
    if (rc != 0) {
        LOG_WARN("%s: writing an extent failed: %s", engine->dev->name, shoal_error_text(rc));
        (void)write_undo(write);
        return engine->journal.stopped ? SHOAL_E_IO : rc;
    }
    if (write->type == RECORD_PREPARE) {
        struct prepared *prepared = my_prepared(write);
        if (prepared == NULL)
            return SHOAL_E_CANCELLED;
        prepared->writing = false;
        return 0;
    }
    struct index_slot *slot = my_slot(write);
    if (slot == NULL)
        return SHOAL_E_CANCELLED;
    index_slot_set_hollow(slot, false);
    return 0;
}

static int write_run(struct write *write)
{
    struct engine *engine = write->engine;
    int rc = write_reserve(write);
    if (rc != 0)
        return rc;
    bool bytes = write->desc->form == BLOB_BYTES;
    if (bytes)
        rc = write_header(write);
    write_record(write);
    if (rc == 0)
        rc = write_state(write);
    if (rc != 0) {
        if (bytes)
            alloc_give(&engine->alloc, write->place.block);
        return rc;
    }
    write->op.has_extent = bytes;
    if (write->type == RECORD_REPAIR)
        list_push_back(&engine->repairs, &write->node);
    if (bytes) {
        write->io.op = DEV_WRITE;
        write->io.offset_bytes = write->place.block * LAYOUT_BLOCK;
        write->io.done = write_done;
        engine_append(engine, &write->record, &write->op);
        dev_submit(engine->dev, &write->io);
    } else {
        engine_append(engine, &write->record, &write->op);
    }
    rc = journal_wait(&engine->journal, &write->op);
    if (write->type == RECORD_REPAIR)
        list_remove(&write->node);
    return write_finish(write, rc);
}

static int write_piece(struct engine *engine, const struct blob_desc *desc,
                       const struct iovec *payload, unsigned payload_count, const uint32_t *units,
                       enum record_type type)
{
    struct write write = {
        .engine = engine,
        .desc = desc,
        .payload = payload,
        .payload_count = payload_count,
        .units = units,
        .type = type,
        .shape = extent_shape_for(desc),
    };
    int rc = write_check(&write);
    if (rc == 0)
        rc = engine_enter(engine);
    if (rc != 0)
        return rc;
    rc = write_run(&write);
    if (write.header != NULL)
        dma_put(engine->arena, write.header);
    if (engine->count.prepares != NULL) {
        counter_add(engine->count.prepares, 1);
        counter_add(engine->count.written_bytes, rc == 0 ? desc->shard_len : 0);
    }
    engine_leave(engine);
    return rc;
}

int engine_prepare(struct engine *engine, const struct blob_desc *desc, const struct iovec *payload,
                   unsigned payload_count, const uint32_t *units)
{
    return write_piece(engine, desc, payload, payload_count, units, RECORD_PREPARE);
}

int engine_repair(struct engine *engine, const struct blob_desc *desc, const struct iovec *payload,
                  unsigned payload_count, const uint32_t *units)
{
    return write_piece(engine, desc, payload, payload_count, units, RECORD_REPAIR);
}

/* ---- changes without payload ---- */

static struct record record_of(enum record_type type, const struct blob_id *id,
                               const struct blob_version *version)
{
    return (struct record){.type = type, .id = *id, .version = *version};
}

static bool committed_is(const struct engine *engine, const struct blob_id *id,
                         const struct blob_version *version)
{
    const struct index_slot *slot = index_find_id(&engine->index, id);
    if (slot == NULL)
        return false;
    struct blob_version found = index_slot_version(&engine->index, slot);
    return blob_version_compare(&found, version) == 0;
}

int engine_commit(struct engine *engine, const struct blob_id *id,
                  const struct blob_version *version)
{
    if (engine->journal.stopped)
        return SHOAL_E_IO;
    const struct prepared *prepared = prepared_find(&engine->prepared, id);
    if (prepared == NULL || prepared->writing ||
        blob_version_compare(&prepared->version, version) != 0)
        return committed_is(engine, id, version) ? 0 : SHOAL_E_NOT_FOUND;
    if (!admits_now(engine))
        return SHOAL_E_BUSY;
    int rc = state_commit(engine, id, version, engine->journal.next_seq);
    if (rc != 0)
        return rc;
    struct record record = record_of(RECORD_COMMIT, id, version);
    engine_append(engine, &record, NULL);
    engine_touch(engine, id);
    if (engine->count.commits != NULL)
        counter_add(engine->count.commits, 1);
    return 0;
}

int engine_abort(struct engine *engine, const struct blob_id *id,
                 const struct blob_version *version)
{
    int rc = engine_enter(engine);
    if (rc != 0)
        return rc;
    rc = engine_wait_room(engine);
    struct prepared *prepared = prepared_find(&engine->prepared, id);
    if (rc == 0 && prepared != NULL && blob_version_compare(&prepared->version, version) == 0) {
        state_forget_prepared(engine, prepared, engine->journal.next_seq);
        struct record record = record_of(RECORD_ABORT, id, version);
        rc = append_and_wait(engine, &record);
        if (engine->count.aborts != NULL)
            counter_add(engine->count.aborts, 1);
    } else if (rc == 0) {
        /* Somebody else's abort of it may be on its way to the device. */
        rc = journal_sync(&engine->journal);
    }
    engine_leave(engine);
    return rc;
}

int engine_drop(struct engine *engine, const struct blob_id *id, const struct blob_version *version)
{
    if (engine->journal.stopped)
        return SHOAL_E_IO;
    if (!committed_is(engine, id, version))
        return SHOAL_E_NOT_FOUND;
    if (!admits_now(engine))
        return SHOAL_E_BUSY;
    state_drop(engine, id, engine->journal.next_seq);
    struct record record = record_of(RECORD_DROP, id, version);
    engine_append(engine, &record, NULL);
    if (engine->count.drops != NULL)
        counter_add(engine->count.drops, 1);
    return 0;
}

int engine_sync(struct engine *engine)
{
    int rc = engine_enter(engine);
    if (rc != 0)
        return rc;
    rc = journal_sync(&engine->journal);
    engine_leave(engine);
    return rc;
}

void engine_mark_hollow(struct engine *engine, const struct blob_id *id,
                        const struct blob_version *version)
{
    struct index_slot *slot = index_find_id(&engine->index, id);
    struct prepared *prepared = prepared_find(&engine->prepared, id);
    if (committed_is(engine, id, version))
        index_slot_set_hollow(slot, true);
    else if (prepared != NULL && blob_version_compare(&prepared->version, version) == 0)
        prepared->hollow = true;
    if (engine->count.damaged != NULL)
        counter_add(engine->count.damaged, 1);
    /* Without room it is found again, by the next reader. */
    struct record record = record_of(RECORD_HOLLOW, id, version);
    if (!engine->journal.stopped && admits_now(engine))
        engine_append(engine, &record, NULL);
}
