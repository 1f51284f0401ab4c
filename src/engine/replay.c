/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a checkpoint to the journal's end. Each record acts on what its space (prepared pieces, or a
 * range of the index) had not seen yet when the checkpoint took its picture of it.
 */
#include <stdlib.h>

#include "base/check.h"
#include "engine/internal.h"
#include "engine/record.h"
#include "shoal/error.h"

/* How far behind a bad block valid records are looked for. */
#define SCAN_BLOCKS_MAX 16384u

struct replay {
    struct engine *engine;
    struct recovery *recovery;
    uint64_t start, position, next_seq, generation;
    uint32_t chain;
    uint64_t window, window_blocks; /* what engine->chunk holds of the ring */
};

/* The block at @position and as many behind it as are in reach, in @available; NULL: unreadable. */
static const uint8_t *ring_view(struct replay *replay, uint64_t position, uint64_t need,
                                uint64_t *available)
{
    struct engine *engine = replay->engine;
    uint64_t ring = engine->layout.journal_blocks;
    bool inside =
        position >= replay->window && position + need <= replay->window + replay->window_blocks;
    if (!inside) {
        uint64_t blocks =
            MIN((uint64_t)(CHECKPOINT_CHUNK_BYTES / LAYOUT_BLOCK), ring - position % ring);
        uint64_t at = (engine->layout.journal_start + position % ring) * LAYOUT_BLOCK;
        replay->window_blocks = 0;
        if (blocks < need || dev_read(engine->dev, at, engine->chunk, blocks * LAYOUT_BLOCK) != 0)
            return NULL;
        replay->window = position;
        replay->window_blocks = blocks;
    }
    *available = replay->window + replay->window_blocks - position;
    return (const uint8_t *)engine->chunk + (position - replay->window) * LAYOUT_BLOCK;
}

/* A whole, undamaged group that was written for this very position. */
static const uint8_t *group_at(struct replay *replay, uint64_t position,
                               struct group_header *header, bool *unreadable)
{
    uint64_t available;
    const uint8_t *data = ring_view(replay, position, 1, &available);
    *unreadable = data == NULL;
    if (data == NULL || group_decode(data, replay->engine->sb.device, header) != 0 ||
        header->position != position)
        return NULL;
    if (available < header->blocks) {
        data = ring_view(replay, position, header->blocks, &available);
        if (data == NULL)
            return NULL;
    }
    return group_check(data, header) == 0 ? data : NULL;
}

static uint64_t range_seq(const struct checkpoint_ranges *ranges, const struct index_key *key)
{
    size_t low = 0, high = ranges->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        const struct index_key *start = &ranges->ranges[middle].start;
        bool above = start->partition != key->partition ? start->partition > key->partition
                                                        : start->hash > key->hash;
        if (above)
            high = middle;
        else
            low = middle;
    }
    return ranges->ranges[low].seq;
}

static int check_add(struct recovery *recovery, const struct record *record, uint64_t seq)
{
    if (record->place.block == 0)
        return 0;
    if (recovery->check_count == recovery->check_capacity) {
        size_t capacity = recovery->check_capacity == 0 ? 256 : recovery->check_capacity * 2;
        void *grown = realloc(recovery->checks, capacity * sizeof *recovery->checks);
        if (grown == NULL)
            return SHOAL_E_NO_MEMORY;
        recovery->checks = grown;
        recovery->check_capacity = capacity;
    }
    recovery->checks[recovery->check_count++] = (struct recovery_check){
        .id = record->id,
        .version = record->version,
        .seq = seq,
        .block = record->place.block,
        .header_crc = record->header_crc,
    };
    return 0;
}

/* What the barrier has passed need not be verified. */
static void checks_prune(struct recovery *recovery, uint64_t barrier)
{
    size_t kept = 0;
    for (size_t i = 0; i < recovery->check_count; i++)
        if (recovery->checks[i].seq > barrier)
            recovery->checks[kept++] = recovery->checks[i];
    recovery->check_count = kept;
}

struct partition_drop {
    struct replay *replay;
    uint64_t seq;
};

static bool drop_wanted(void *ctx, const struct index_item *item)
{
    const struct partition_drop *drop = ctx;
    struct index_key key = index_key_of(&drop->replay->engine->index, &item->id);
    return range_seq(&drop->replay->recovery->ranges, &key) < drop->seq;
}

static void apply_drop_partition(struct replay *replay, uint32_t partition, uint64_t seq)
{
    struct engine *engine = replay->engine;
    if (partition >= 1u << engine->sb.partition_bits) {
        replay->recovery->anomalies++;
        return;
    }
    struct partition_drop drop = {replay, seq};
    index_drop_partition(&engine->index, partition, drop_wanted, &drop);
    if (seq <= replay->recovery->ranges.prepared_seq)
        return;
    list_for_each(prepared_list(&engine->prepared, partition), struct prepared, in_partition, at)
        if (blob_partition(&at->id, engine->sb.partition_bits) == partition)
            state_forget_prepared(engine, at, seq);
}

static int apply_piece(struct replay *replay, const struct record *record, uint64_t seq,
                       bool to_prepared, bool to_committed)
{
    struct engine *engine = replay->engine;
    struct state_piece piece = state_piece_of_record(record);
    if (record->type == RECORD_PREPARE) {
        if (!to_prepared)
            return 0;
        int rc = state_prepare(engine, &piece, seq, NULL);
        return rc != 0 ? rc : check_add(replay->recovery, record, seq);
    }
    struct prepared *prepared = prepared_find(&engine->prepared, &record->id);
    if (to_prepared && prepared != NULL &&
        blob_version_compare(&prepared->version, &record->version) <= 0)
        state_forget_prepared(engine, prepared, seq);
    if (!to_committed)
        return 0;
    int rc = state_place(engine, &piece, engine->tick, seq);
    return rc != 0 ? rc : check_add(replay->recovery, record, seq);
}

static int apply_commit(struct replay *replay, const struct record *record, uint64_t seq,
                        bool to_prepared, bool to_committed)
{
    struct engine *engine = replay->engine;
    if (to_committed) {
        int rc = state_commit(engine, &record->id, &record->version, seq);
        if (rc == SHOAL_E_NOT_FOUND) {
            replay->recovery->anomalies++;
            rc = 0;
        }
        return rc;
    }
    struct prepared *prepared = prepared_find(&engine->prepared, &record->id);
    if (to_prepared && prepared != NULL &&
        blob_version_compare(&prepared->version, &record->version) == 0)
        state_forget_prepared(engine, prepared, seq);
    return 0;
}

static int apply(struct replay *replay, const struct record *record, uint64_t seq)
{
    struct engine *engine = replay->engine;
    const struct checkpoint_ranges *ranges = &replay->recovery->ranges;
    if (record->type == RECORD_CLEAN_SHUTDOWN || record->type == RECORD_BARRIER)
        return 0;
    if (record->type == RECORD_DROP_PARTITION) {
        apply_drop_partition(replay, record->partition, seq);
        return 0;
    }
    struct index_key key = index_key_of(&engine->index, &record->id);
    bool to_prepared = seq > ranges->prepared_seq;
    bool to_committed = seq > range_seq(ranges, &key);
    struct prepared *prepared = prepared_find(&engine->prepared, &record->id);
    struct index_slot *slot = index_find(&engine->index, &key, &record->id);
    bool prepared_is = to_prepared && prepared != NULL &&
                       blob_version_compare(&prepared->version, &record->version) == 0;
    bool committed_is = false;
    if (to_committed && slot != NULL) {
        struct blob_version version = index_slot_version(&engine->index, slot);
        committed_is = blob_version_compare(&version, &record->version) == 0;
    }
    switch (record->type) {
    case RECORD_PREPARE:
    case RECORD_REPAIR:
        return apply_piece(replay, record, seq, to_prepared, to_committed);
    case RECORD_COMMIT:
        return apply_commit(replay, record, seq, to_prepared, to_committed);
    case RECORD_ABORT:
        if (prepared_is)
            state_forget_prepared(engine, prepared, seq);
        return 0;
    case RECORD_DROP:
        if (committed_is)
            state_drop(engine, &record->id, seq);
        return 0;
    default:
        if (prepared_is) {
            prepared->hollow = true;
            prepared->torn |= record->type == RECORD_TORN;
        }
        if (committed_is)
            index_slot_set_hollow(slot, true);
        return 0;
    }
}

static int apply_group(struct replay *replay, const uint8_t *data,
                       const struct group_header *header)
{
    struct recovery *recovery = replay->recovery;
    struct decoder in = decoder_init(data + GROUP_HEADER_BYTES, header->bytes - GROUP_HEADER_BYTES);
    checks_prune(recovery, header->barrier);
    for (uint32_t i = 0; i < header->records; i++) {
        struct record record;
        record_decode(&in, &record);
        if (!decoder_ok(&in))
            return SHOAL_E_CORRUPT;
        int rc = apply(replay, &record, header->first_seq + i);
        if (rc != 0)
            return rc;
        recovery->clean = record.type == RECORD_CLEAN_SHUTDOWN;
        recovery->replayed++;
    }
    return 0;
}

/*
 * Is there a valid group of the last generation, or of a newer one, somewhere behind the place
 * where reading ended? With one write in flight at a time a crash cannot leave one; damage can.
 */
static bool valid_group_behind(struct replay *replay)
{
    uint64_t end = replay->start + replay->engine->layout.journal_blocks;
    end = MIN(end, replay->position + SCAN_BLOCKS_MAX);
    for (uint64_t at = replay->position; at < end; at++) {
        struct group_header header;
        bool unreadable;
        if (group_at(replay, at, &header, &unreadable) != NULL &&
            header.generation >= replay->generation && header.first_seq >= replay->next_seq)
            return true;
    }
    return false;
}

int replay_journal(struct engine *engine, const struct checkpoint_head *head,
                   struct recovery *recovery)
{
    struct replay replay = {
        .engine = engine,
        .recovery = recovery,
        .start = head->position,
        .position = head->position,
        .next_seq = head->first_seq,
        .generation = head->generation,
        .chain = head->chain,
    };
    bool unreadable = false;
    recovery->barrier = head->prepared_seq;
    while (replay.position - replay.start < engine->layout.journal_blocks) {
        struct group_header header;
        const uint8_t *data = group_at(&replay, replay.position, &header, &unreadable);
        if (data == NULL || header.first_seq != replay.next_seq || header.chain != replay.chain ||
            header.generation < replay.generation)
            break;
        int rc = apply_group(&replay, data, &header);
        if (rc != 0)
            return rc;
        replay.position += header.blocks;
        replay.next_seq += header.records;
        replay.chain = header.crc;
        replay.generation = header.generation;
        recovery->barrier = MAX(recovery->barrier, header.barrier);
    }
    recovery->generation = replay.generation;
    recovery->at = (struct journal_position){
        .head = replay.position, .next_seq = replay.next_seq, .chain = replay.chain};
    bool ended = recovery->clean && replay.generation == engine->sb.generation;
    if (!ended && !engine_broken(engine, ENGINE_RULE_DAMAGE))
        recovery->damaged = unreadable || valid_group_behind(&replay);
    recovery->damaged_position = replay.position;
    return 0;
}

uint64_t replay_max_generation(struct engine *engine)
{
    struct replay replay = {.engine = engine};
    uint64_t newest = 0;
    for (uint64_t at = 0; at < engine->layout.journal_blocks; at++) {
        struct group_header header;
        uint64_t available;
        const uint8_t *data = ring_view(&replay, at, 1, &available);
        if (data == NULL || group_decode(data, engine->sb.device, &header) != 0)
            continue;
        if (available < header.blocks)
            data = ring_view(&replay, at, header.blocks, &available);
        if (data != NULL && group_check(data, &header) == 0)
            newest = MAX(newest, header.generation);
    }
    return newest;
}
