/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/journal.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "core/reactor.h"
#include "engine/rules.h"
#include "shoal/error.h"

static void slot_start(struct journal *journal, struct journal_slot *slot);
static void slot_extents(struct journal_slot *slot);

static bool broken(const struct journal *journal, uint32_t rule)
{
    return journal->broken & rule;
}

int journal_init(struct journal *journal, struct dev *dev, struct dma_arena *arena,
                 const struct layout *layout, uint64_t device, uint64_t delay_ns, uint32_t rules)
{
    *journal = (struct journal){
        .dev = dev,
        .arena = arena,
        .start = layout->journal_start,
        .ring_blocks = layout->journal_blocks,
        .device = device,
        .delay_ns = delay_ns,
        .broken = rules,
    };
    list_init(&journal->ops);
    fiber_queue_init(&journal->room);
    fiber_queue_init(&journal->progress);
    journal->pending = malloc(JOURNAL_PENDING_BYTES);
    bool second = rules & (ENGINE_RULE_ONE_JOURNAL_WRITE | ENGINE_RULE_EARLIER_WRITES);
    for (unsigned i = 0; i < 2; i++) {
        struct journal_slot *slot = &journal->slots[i];
        slot->journal = journal;
        if (i == 0 || second)
            slot->buffer = dma_get(arena, GROUP_BYTES_MAX);
    }
    if (journal->pending == NULL || journal->slots[0].buffer == NULL) {
        journal_free(journal);
        return SHOAL_E_NO_MEMORY;
    }
    return 0;
}

void journal_begin(struct journal *journal, const struct journal_position *at, uint64_t generation)
{
    journal->generation = generation;
    journal->head = at->head;
    journal->tail = at->tail;
    journal->next_seq = at->next_seq;
    journal->chain = at->chain;
    journal->durable_seq = at->next_seq - 1;
}

void journal_free(struct journal *journal)
{
    timer_cancel(&journal->lazy);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(journal->slots[i].state == JOURNAL_IDLE);
        if (journal->slots[i].buffer != NULL)
            dma_put(journal->arena, journal->slots[i].buffer);
    }
    free(journal->pending);
    *journal = (struct journal){0};
}

/* Blocks that pending records may come to, in groups padded and cut at the end of the ring. */
static uint64_t blocks_for(size_t bytes)
{
    return bytes / (LAYOUT_BLOCK - GROUP_HEADER_BYTES - RECORD_BYTES_MAX) + 3;
}

bool journal_admits(const struct journal *journal, uint32_t reserve)
{
    size_t bytes = journal->pending_bytes + RECORD_BYTES_MAX;
    uint64_t used = journal->head - journal->tail;
    return bytes <= JOURNAL_PENDING_BYTES &&
           used + blocks_for(bytes) + reserve <= journal->ring_blocks;
}

uint64_t journal_barrier(const struct journal *journal)
{
    list_for_each((struct list *)(uintptr_t)&journal->ops, struct journal_op, node, op)
        if (op->has_extent && !op->extent_durable)
            return op->seq - 1;
    return journal->next_seq - 1;
}

static void kick(struct journal *journal)
{
    for (unsigned i = 0; i < 2; i++) {
        struct journal_slot *slot = &journal->slots[i];
        if (slot->buffer != NULL && slot->state == JOURNAL_IDLE && journal->pending_records > 0 &&
            !journal->stopped)
            slot_start(journal, slot);
    }
}

static void lazy_fired(struct timer *timer)
{
    struct journal *journal = container_of(timer, struct journal, lazy);
    journal->urgent = true;
    kick(journal);
}

uint64_t journal_append(struct journal *journal, const struct record *record, struct journal_op *op)
{
    CHECK(journal_admits(journal, 0));
    uint8_t *at = journal->pending + journal->pending_bytes;
    journal->pending_bytes += record_encode(at, record);
    journal->pending_records++;
    uint64_t seq = journal->next_seq++;
    if (op != NULL) {
        op->seq = seq;
        if (!op->has_extent)
            op->extent_done = op->extent_durable = true;
        list_push_back(&journal->ops, &op->node);
        journal->urgent = true;
    }
    if (journal->urgent || journal->pending_bytes > GROUP_BYTES_MAX / 2)
        kick(journal);
    else if (!timer_armed(&journal->lazy))
        timer_arm(journal->dev->reactor, &journal->lazy,
                  reactor_now_ns(journal->dev->reactor) + journal->delay_ns, lazy_fired);
    return seq;
}

/* As many whole pending records as the group may hold, moved behind what is in the buffer. */
static void slot_fill(struct journal *journal, struct journal_slot *slot, size_t limit)
{
    size_t taken = 0;
    uint32_t records = 0;
    while (records < journal->pending_records) {
        size_t length = journal->pending[taken + 1];
        if (slot->group.bytes + taken + length > limit)
            break;
        taken += length;
        records++;
    }
    CHECK(records > 0);
    memcpy(slot->buffer + slot->group.bytes, journal->pending, taken);
    memmove(journal->pending, journal->pending + taken, journal->pending_bytes - taken);
    journal->pending_bytes -= taken;
    journal->pending_records -= records;
    slot->group.bytes += (uint32_t)taken;
    slot->group.records += records;
    slot->last_seq = journal->next_seq - journal->pending_records - 1;
}

static void slot_written(struct dev_io *io, int result);

static void slot_start(struct journal *journal, struct journal_slot *slot)
{
    size_t length = journal->pending[1];
    size_t block_end = (size_t)slot->group.blocks * LAYOUT_BLOCK;
    bool rewrite = broken(journal, ENGINE_RULE_NO_REWRITE) && slot->group.blocks > 0 &&
                   slot->group.bytes + length <= block_end;
    size_t limit = block_end;
    if (!rewrite) {
        uint64_t to_end = journal->ring_blocks - journal->head % journal->ring_blocks;
        limit = MIN(to_end * LAYOUT_BLOCK, (uint64_t)GROUP_BYTES_MAX);
        slot->group = (struct group_header){
            .device = journal->device,
            .generation = journal->generation,
            .position = journal->head,
            .first_seq = journal->next_seq - journal->pending_records,
            .bytes = GROUP_HEADER_BYTES,
            .chain = journal->chain,
        };
    }
    slot_fill(journal, slot, limit);
    slot->group.barrier = MIN(journal_barrier(journal), slot->last_seq);
    group_seal(slot->buffer, &slot->group);
    journal->chain = slot->group.crc;
    journal->head = slot->group.position + slot->group.blocks;
    if (journal->pending_records == 0) {
        journal->urgent = false;
        timer_cancel(&journal->lazy);
    }
    slot->state = JOURNAL_WRITING;
    slot->io = (struct dev_io){
        .op = DEV_WRITE,
        .offset_bytes =
            (journal->start + slot->group.position % journal->ring_blocks) * LAYOUT_BLOCK,
        .iov = {{slot->buffer, (size_t)slot->group.blocks * LAYOUT_BLOCK}},
        .iov_count = 1,
        .done = slot_written,
    };
    dev_submit(journal->dev, &slot->io);
}

/* Is all that this op waits for done? */
static bool op_complete(const struct journal *journal, const struct journal_op *op)
{
    if (!op->extent_done)
        return false;
    if (op->result == 0 && !op->extent_durable)
        return false;
    return broken(journal, ENGINE_RULE_EARLIER_WRITES) ? op->journal_durable
                                                       : op->seq <= journal->durable_seq;
}

static void ops_complete(struct journal *journal)
{
    list_for_each(&journal->ops, struct journal_op, node, op) {
        if (op->signalled || !op_complete(journal, op))
            continue;
        op->signalled = true;
        if (op->result == 0)
            list_remove(&op->node);
        completion_signal(&op->done, op->result);
    }
}

static void progress(struct journal *journal)
{
    ops_complete(journal);
    fiber_queue_wake_all(&journal->room);
    fiber_queue_wake_all(&journal->progress);
    journal->progressed(journal->ctx);
}

void journal_stop(struct journal *journal)
{
    if (journal->stopped)
        return;
    journal->stopped = true;
    LOG_ERROR("%s: a journal write failed; the target stops, since what was acknowledged could no "
              "longer be kept",
              journal->dev->name);
    list_for_each(&journal->ops, struct journal_op, node, op) {
        if (op->signalled || !op->extent_done)
            continue;
        op->signalled = true;
        list_remove(&op->node);
        completion_signal(&op->done, SHOAL_E_IO);
    }
    /* A round that waits for extents has nothing under way itself, and will not go on. */
    for (unsigned i = 0; i < 2; i++)
        if (journal->slots[i].state == JOURNAL_EXTENTS)
            journal->slots[i].state = JOURNAL_IDLE;
    progress(journal);
}

static bool failed(struct journal *journal, struct journal_slot *slot, int result)
{
    if (result == 0 && !journal->stopped)
        return false;
    if (broken(journal, ENGINE_RULE_STOP))
        return false;
    slot->state = JOURNAL_IDLE;
    journal_stop(journal);
    fiber_queue_wake_all(&journal->progress);
    return true;
}

/* The round of this slot is over: its records are durable, and so are those before it, if they are.
 */
static void slot_durable(struct journal_slot *slot)
{
    struct journal *journal = slot->journal;
    slot->state = JOURNAL_IDLE;
    uint64_t durable = journal->next_seq - journal->pending_records - 1;
    for (unsigned i = 0; i < 2; i++)
        if (journal->slots[i].state != JOURNAL_IDLE)
            durable = MIN(durable, journal->slots[i].group.first_seq - 1);
    journal->durable_seq = MAX(journal->durable_seq, durable);
    journal->recorded_barrier = MAX(journal->recorded_barrier, slot->group.barrier);
    list_for_each(&journal->ops, struct journal_op, node, op)
        if (op->seq >= slot->group.first_seq && op->seq <= slot->last_seq)
            op->journal_durable = true;
    progress(journal);
    if (journal->urgent)
        kick(journal);
}

static void slot_flushed(struct dev_io *io, int result)
{
    struct journal_slot *slot = container_of(io, struct journal_slot, io);
    struct journal *journal = slot->journal;
    if (failed(journal, slot, result))
        return;
    uint8_t mark = (uint8_t)(1 + (slot - journal->slots));
    list_for_each(&journal->ops, struct journal_op, node, op)
        if (op->flush == mark)
            op->extent_durable = true;
    slot_durable(slot);
}

static bool extents_pending(const struct journal *journal, const struct journal_slot *slot)
{
    if (broken(journal, ENGINE_RULE_WAIT_EXTENT))
        return false;
    list_for_each((struct list *)(uintptr_t)&journal->ops, struct journal_op, node, op) {
        if (op->seq > slot->last_seq)
            break;
        if (!op->extent_done)
            return true;
    }
    return false;
}

/* One flush makes the group and every extent written before it durable. */
static void slot_extents(struct journal_slot *slot)
{
    struct journal *journal = slot->journal;
    if (!journal->dev->volatile_cache || broken(journal, ENGINE_RULE_FLUSH)) {
        slot_durable(slot);
        return;
    }
    slot->state = JOURNAL_EXTENTS;
    if (extents_pending(journal, slot))
        return;
    slot->state = JOURNAL_FLUSHING;
    uint8_t mark = (uint8_t)(1 + (slot - journal->slots));
    list_for_each(&journal->ops, struct journal_op, node, op)
        if (op->extent_done && op->result == 0 && op->flush == 0)
            op->flush = mark;
    slot->io = (struct dev_io){.op = DEV_FLUSH, .done = slot_flushed};
    dev_submit(journal->dev, &slot->io);
}

static void slot_written(struct dev_io *io, int result)
{
    struct journal_slot *slot = container_of(io, struct journal_slot, io);
    if (!failed(slot->journal, slot, result))
        slot_extents(slot);
}

void journal_extent_done(struct journal *journal, struct journal_op *op, int result)
{
    op->extent_done = true;
    op->result = result;
    if (result == 0 && (!journal->dev->volatile_cache ||
                        broken(journal, ENGINE_RULE_FLUSH | ENGINE_RULE_WAIT_EXTENT)))
        op->extent_durable = true;
    if (journal->stopped) {
        op->signalled = true;
        list_remove(&op->node);
        completion_signal(&op->done, SHOAL_E_IO);
        return;
    }
    /* Without a cache no flush follows that would tell those who wait for the barrier. */
    if (op->extent_durable)
        progress(journal);
    else
        ops_complete(journal);
    for (unsigned i = 0; i < 2; i++)
        if (journal->slots[i].state == JOURNAL_EXTENTS)
            slot_extents(&journal->slots[i]);
}

int journal_wait(struct journal *journal, struct journal_op *op)
{
    (void)journal;
    return (int)completion_wait(&op->done);
}

void journal_op_release(struct journal *journal, struct journal_op *op)
{
    list_remove(&op->node);
    fiber_queue_wake_all(&journal->progress);
}

int journal_sync(struct journal *journal)
{
    uint64_t seq = journal->next_seq - 1;
    while (!journal->stopped && journal->durable_seq < seq) {
        journal->urgent = true;
        kick(journal);
        if (journal->stopped || journal->durable_seq >= seq)
            break;
        fiber_queue_wait(&journal->progress);
    }
    return journal->stopped ? SHOAL_E_IO : 0;
}

int journal_wait_barrier(struct journal *journal, uint64_t seq)
{
    for (;;) {
        int rc = journal_sync(journal);
        if (rc != 0 || journal_barrier(journal) >= seq)
            return rc;
        fiber_queue_wait(&journal->progress);
    }
}

void journal_set_tail(struct journal *journal, uint64_t tail)
{
    CHECK(tail >= journal->tail && tail <= journal->head);
    journal->tail = tail;
    fiber_queue_wake_all(&journal->room);
}

void journal_quiesce(struct journal *journal)
{
    while (journal->slots[0].state != JOURNAL_IDLE || journal->slots[1].state != JOURNAL_IDLE)
        fiber_queue_wait(&journal->progress);
}
