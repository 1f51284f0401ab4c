/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of an engine, for the files that make it up.
 *
 *   superblock, layout    whose device it is, and where everything lies
 *   journal, record       what makes changes durable
 *   checkpoint*, recovery what makes opening fast
 *   index, prepared       what is here (index: committed; prepared: not yet)
 *   alloc, quarantine     space
 *   state                 how each change acts on index, prepared and space: when it happens, and
 *                         when the journal is replayed
 *   write, read, list, evict, scrub, fsck, sweep, inspect   what engine.h offers
 */
#ifndef ENGINE_INTERNAL_H
#define ENGINE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bitmap.h"
#include "core/dma.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "dev/dev.h"
#include "engine/alloc.h"
#include "engine/checkpoint_format.h"
#include "engine/engine.h"
#include "engine/extent.h"
#include "engine/index.h"
#include "engine/journal.h"
#include "engine/layout.h"
#include "engine/prepared.h"
#include "engine/quarantine.h"
#include "engine/rules.h"
#include "engine/superblock.h"

#define EVICT_CANDIDATES 64u

struct evict_candidate {
    struct blob_id id;
    struct blob_version version;
    uint16_t tick;
    bool expired;
};

struct checkpoint_state {
    uint64_t id[2];       /* of each area; 0: not usable */
    uint64_t position[2]; /* where replay from it starts */
    uint64_t newest;      /* area */
    uint64_t next_id;
    bool wanted, running, closing;
    bool started;      /* the fiber that writes them exists */
    unsigned failures; /* in a row */
    int last_result;
    uint64_t completed; /* how many since opening */
    struct fiber_queue wake, done;
};

struct engine_counters {
    struct counter *prepares, *commits, *aborts, *drops, *reads, *read_bytes, *written_bytes;
    struct counter *checkpoints, *damaged;
    struct gauge *objects, *bytes_used;
};

struct engine {
    struct dev *dev;
    struct dma_arena *arena;
    struct engine_config config;
    struct layout layout;
    struct superblock sb;
    struct extent_owner owner;

    struct index index;
    struct prepared_set prepared;
    uint64_t objects_max;
    struct alloc alloc;
    bool allocating; /* space has been derived: frees and takes act on it */
    struct quarantine quarantine;
    struct journal journal;
    struct checkpoint_state checkpoint;
    struct fiber_pool *fibers;

    void *chunk;   /* a DMA buffer of CHECKPOINT_CHUNK_BYTES: recovery and checkpoints */
    void *scratch; /* another one: recovery reads ahead into it, later the scrubber reads */
    struct fiber_mutex scratch_lock;

    uint64_t write_id;
    struct list repairs; /* under way: see engine_repairing() */
    unsigned in_flight;  /* calls that a close waits for */
    struct fiber_queue idle;
    bool closing;

    uint16_t tick; /* time of use, in steps of so many touches */
    uint32_t touches;

    struct evict_candidate candidates[EVICT_CANDIDATES];
    unsigned candidate_count;

    struct index_key scrub_at;
    struct engine_scrub_progress scrub;
    struct engine_counters count;
};

/* ---- engine.c ---- */
static inline bool engine_broken(const struct engine *engine, uint32_t rule)
{
    return engine->config.break_rules & rule;
}

/* Memory, tables and superblock of an engine whose device was not read beyond its superblock. */
int engine_setup(struct dev *dev, struct dma_arena *arena, const struct engine_config *config,
                 const struct superblock *sb, struct engine **out) NODISCARD;
void engine_teardown(struct engine *engine);

/* [fiber] A new life of the journal, and its superblock, before anything is written to it. */
struct recovery;
int engine_begin(struct engine *engine, struct recovery *recovery) NODISCARD;

/* Every public call that touches the device stands between these two. */
int engine_enter(struct engine *engine) NODISCARD; /* 0, SHOAL_E_SHUTDOWN or SHOAL_E_IO */
void engine_leave(struct engine *engine);
void engine_progressed(void *engine);

/* ---- state.c: one change each; @seq of the record that says so ---- */

struct state_piece {
    struct blob_id id;
    struct blob_version version;
    enum blob_kind kind;
    enum blob_form form;
    uint8_t position;
    uint16_t depends;
    bool hollow, shared;
    bool torn; /* of a prepared one */
    uint32_t shard_len;
    struct extent_place place;
    uint32_t expires_s;
    struct blob_request_id request;
};

/* What the index holds, as a piece. */
void state_piece_of(const struct engine *engine, const struct index_item *item,
                    struct state_piece *piece);
/* What @record says was written. */
struct state_piece state_piece_of_record(const struct record *record);

/* Blocks of the extent of a piece that has one. */
uint32_t state_extent_blocks(const struct state_piece *piece);

/* SHOAL_E_FULL: too many. Replaces an older prepared piece. */
int state_prepare(struct engine *engine, const struct state_piece *piece, uint64_t seq,
                  struct prepared **out) NODISCARD;
/* Committed at once, in the place of whatever was committed. */
int state_place(struct engine *engine, const struct state_piece *piece, uint16_t tick,
                uint64_t seq) NODISCARD;
int state_commit(struct engine *engine, const struct blob_id *id,
                 const struct blob_version *version, uint64_t seq) NODISCARD;
void state_forget_prepared(struct engine *engine, struct prepared *prepared, uint64_t seq);
void state_drop(struct engine *engine, const struct blob_id *id, uint64_t seq);

void state_free_extent(struct engine *engine, uint32_t pool, uint64_t block, uint64_t seq);
void state_charge(struct engine *engine, uint32_t pool, uint64_t block, bool add);

/* ---- write.c ---- */

/* Is there room for a record and what it frees? @lazy: of one that cannot wait for it. */
bool engine_admits(const struct engine *engine, bool lazy);
uint64_t engine_append(struct engine *engine, const struct record *record, struct journal_op *op);
int engine_wait_room(
    struct engine *engine) NODISCARD; /* [fiber] until it admits one that can wait */

/*
 * Is a repair under way to the extent at @block? Its piece is hollow in the index until the repair
 * is durable, and must not be so in a checkpoint: that counts only when the repair is durable too.
 */
bool engine_repairing(const struct engine *engine, uint64_t block);

/* Remember durably, but lazily, that these bytes are damaged. */
void engine_mark_hollow(struct engine *engine, const struct blob_id *id,
                        const struct blob_version *version);

/* ---- checkpoint.c ---- */
void checkpoint_request(struct engine *engine);
int checkpoint_start(struct engine *engine) NODISCARD; /* the fiber */
void checkpoint_shut(struct engine *engine);           /* [fiber] and wait for its end */
int checkpoint_write(struct engine *engine) NODISCARD; /* [fiber] one, now */

/* ---- checkpoint_load.c ---- */
struct checkpoint_ranges {
    struct checkpoint_range {
        struct index_key start;
        uint64_t seq;
    } * ranges;
    size_t count, capacity;
    uint64_t prepared_seq;
};

int checkpoint_read_head(struct engine *engine, unsigned area,
                         struct checkpoint_head *head) NODISCARD;
/* Into the empty index; on failure the index must be emptied again. */
int checkpoint_load(struct engine *engine, unsigned area, const struct checkpoint_head *head,
                    struct checkpoint_ranges *ranges) NODISCARD;
void checkpoint_ranges_free(struct checkpoint_ranges *ranges);

/* ---- recovery.c ---- */
struct recovery {
    struct checkpoint_head heads[2];
    int head_results[2];
    int load_results[2];
    unsigned area; /* the checkpoint that was loaded */
    struct checkpoint_ranges ranges;
    struct journal_position at;
    uint64_t generation; /* of the last group */
    uint64_t barrier;
    uint64_t replayed, anomalies, overlaps;
    bool clean, damaged;
    uint64_t damaged_position;
    struct recovery_check {
        struct blob_id id;
        struct blob_version version;
        uint64_t seq, block;
        uint32_t header_crc;
        bool torn;
    } * checks;
    size_t check_count, check_capacity;
    uint64_t hollow;
    char *problem;
    size_t problem_size;
};

int recovery_run(struct engine *engine, struct recovery *recovery) NODISCARD;
void recovery_free(struct recovery *recovery);

/* Empties index and prepared pieces, for another attempt. */
int recovery_start_over(struct engine *engine) NODISCARD;

/* ---- replay.c ---- */
int replay_journal(struct engine *engine, const struct checkpoint_head *head,
                   struct recovery *recovery) NODISCARD;

/* [fiber] The newest generation in the ring, wherever it stands. */
uint64_t replay_max_generation(struct engine *engine);

/* ---- read.c ---- */
struct read_target {
    struct blob_version version;
    uint64_t block;
    uint32_t shard_len;
    bool shared, hollow;
};

/* Does this header describe that piece of ours, at that place? */
bool read_header_matches(const struct engine *engine, const struct extent_header *header,
                         const struct blob_id *id, const struct read_target *target);

/* [fiber] Reads and checks a whole extent through @buffer of CHECKPOINT_CHUNK_BYTES. */
int read_verify(struct engine *engine, const struct blob_id *id, const struct read_target *target,
                void *buffer, uint32_t *header_crc) NODISCARD;

/* ---- sweep.c: what is left when all but the extents is lost ---- */

/* [fiber] Whose extents are on this device? @buffer: CHECKPOINT_CHUNK_BYTES. NOT_FOUND: nobody's.
 */
int sweep_owner(struct dev *dev, void *buffer, struct extent_owner *owner) NODISCARD;

struct sweep_result {
    uint64_t found, kept, damaged, displaced;
};

/* [fiber] Fill the empty index of @engine with the newest whole piece of each object. */
int sweep_run(struct engine *engine, struct sweep_result *result) NODISCARD;

#endif
