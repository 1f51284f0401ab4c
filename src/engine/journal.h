/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The running journal: records come in, groups go out, one write at a time.
 *
 * A record is appended in memory and gets its sequence number at once. Records for which a fiber
 * waits start a group immediately when no write is under way; lazy ones wait up to the commit delay
 * for company. A round is: write the group, wait for the extents that its records name, flush (on a
 * device with a volatile cache); then all of it is durable, and the next round starts with whatever
 * has come meanwhile.
 *
 * The ring must never fill up with records that a checkpoint could free: what is appended has its
 * room in the ring reserved (journal_admits), so everything pending can always be written, and so a
 * checkpoint can always become durable and free the ring.
 */
#ifndef ENGINE_JOURNAL_H
#define ENGINE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/dma.h"
#include "core/fiber.h"
#include "core/timer.h"
#include "dev/dev.h"
#include "engine/layout.h"
#include "engine/record.h"

#define JOURNAL_PENDING_BYTES (512u << 10)

/* Room in the ring that operations which may wait leave to those which may not. */
#define JOURNAL_RESERVE_BLOCKS 4u
/* And what all of them leave to records that take back a write which failed. */
#define JOURNAL_UNDO_BLOCKS 2u

/* Something that becomes durable, and the fiber that waits for it. */
struct journal_op {
    uint64_t seq;
    bool has_extent;
    bool extent_done;    /* its write completed */
    bool extent_durable; /* and was flushed */
    uint8_t flush;       /* 1 + the slot whose flush will cover it */
    bool journal_durable;
    bool signalled;
    int result;
    struct completion done;
    struct list_node node;
};

enum journal_state { JOURNAL_IDLE, JOURNAL_WRITING, JOURNAL_EXTENTS, JOURNAL_FLUSHING };

struct journal;

struct journal_slot {
    struct dev_io io;
    struct journal *journal;
    enum journal_state state;
    uint8_t *buffer;
    struct group_header group;
    uint64_t last_seq;
};

struct journal {
    struct dev *dev;
    struct dma_arena *arena;
    uint64_t start, ring_blocks;
    uint64_t device, generation;
    uint64_t delay_ns;
    uint32_t broken;

    uint8_t *pending;
    size_t pending_bytes;
    uint32_t pending_records;
    uint64_t next_seq;
    uint64_t head, tail; /* positions: the next group; the oldest that must stay */
    uint32_t chain;
    uint64_t durable_seq;      /* all records up to it are durable */
    uint64_t recorded_barrier; /* the newest barrier in a durable group */

    struct journal_slot slots[2]; /* the second one only when the rule is broken */
    struct list ops;
    struct timer lazy;
    bool urgent, stopped;
    struct fiber_queue room;     /* the ring or the pending records got room */
    struct fiber_queue progress; /* something became durable, or all stopped */
    void (*progressed)(void *ctx);
    void *ctx;
};

/* Where a journal goes on: behind what recovery found. */
struct journal_position {
    uint64_t head, tail, next_seq;
    uint32_t chain;
};

int journal_init(struct journal *journal, struct dev *dev, struct dma_arena *arena,
                 const struct layout *layout, uint64_t device, uint64_t delay_ns,
                 uint32_t broken) NODISCARD;
void journal_begin(struct journal *journal, const struct journal_position *at, uint64_t generation);
void journal_free(struct journal *journal); /* nothing may be in flight (CHECKed) */

/* Would a record fit now? @reserve: blocks of the ring to leave free. */
bool journal_admits(const struct journal *journal, uint32_t reserve);

/*
 * journal_append() - It must be admitted. @op: zeroed but for has_extent, linked until it
 * completes; NULL for a lazy record. Return: the record's sequence number.
 */
uint64_t journal_append(struct journal *journal, const struct record *record,
                        struct journal_op *op);

/* The write of the op's extent completed. */
void journal_extent_done(struct journal *journal, struct journal_op *op, int result);

/* [fiber] Return: 0, the extent's error (then journal_op_release() it), SHOAL_E_IO. */
int journal_wait(struct journal *journal, struct journal_op *op) NODISCARD;

/* An op that failed holds the barrier until its undoing is durable. */
void journal_op_release(struct journal *journal, struct journal_op *op);

/* [fiber] All records appended so far are durable. */
int journal_sync(struct journal *journal) NODISCARD;

/* [fiber] All records up to @seq and their extents are durable. */
int journal_wait_barrier(struct journal *journal, uint64_t seq) NODISCARD;

/* The sequence number up to which all extents are durable, as far as is known now. */
uint64_t journal_barrier(const struct journal *journal);
void journal_set_tail(struct journal *journal, uint64_t tail);

/* Everything fails from now on. */
void journal_stop(struct journal *journal);

/* [fiber] Until no I/O is under way. */
void journal_quiesce(struct journal *journal);

#endif
