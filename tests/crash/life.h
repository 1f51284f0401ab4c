/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crash tests of the engine: a *life* is an engine opened on a simulated drive, a workload run on
 * it with every write recorded, those of opening too, and a crash at any moment. What the crash
 * could have left on the drive is built as an *image*, opened, and compared with a model.
 *
 * The model keeps for each object the sequence of its events (prepare, commit, abort, drop) in the
 * order in which they were given to the engine. A crash may cut that sequence anywhere between the
 * last event that is known to be durable and the last one that was started. An event is known to be
 * durable when its operation returned, if it is one that waits (prepare, abort, sync), or when a
 * waiting operation that was started after it returned. Whatever the engine says after recovery
 * must be the state after one of these cuts, with the very bytes that were put.
 */
#ifndef SHOAL_TESTS_CRASH_LIFE_H
#define SHOAL_TESTS_CRASH_LIFE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../engine/fixture.h"

#define LIFE_OBJECTS 6u
#define LIFE_LANES 3u
#define LIFE_STEPS_MAX 64u
#define LIFE_BLOCKS_MAX 2048u /* of the drive */

/* What a step of a workload does; to which object is in struct step. */
enum step_kind {
    STEP_PUT_SMALL, /* prepare: shares a block with its description */
    STEP_PUT_LARGE, /* prepare: several units */
    STEP_TOMBSTONE, /* prepare */
    STEP_MARKER,    /* prepare */
    STEP_COMMIT,    /* lazy; of what is prepared, else nothing */
    STEP_ABORT,
    STEP_DROP,           /* lazy; of what is committed, else nothing */
    STEP_REPAIR,         /* of what is committed, or of something new */
    STEP_DROP_PARTITION, /* with all that is in it; only alone in its life's lane 0 */
    STEP_SYNC,
    STEP_CHECKPOINT,
    STEP_PAUSE, /* long enough for what is lazy */
    STEP_KINDS
};

/*
 * @lane: steps of different lanes run side by side, those of one lane in order; an object belongs
 *        to one lane within a life
 */
struct step {
    enum step_kind kind;
    unsigned object;
    unsigned lane;
};

struct state {
    struct piece committed;
    struct piece prepared;
};

/*
 * struct event - One change of one object's state.
 * @after: the state once it took effect
 * @stored: the version whose bytes it wrote; 0: none
 * @started, @returned: positions in the order of the life's marks; SIZE_MAX: not yet
 * @waits: durable when it returned
 * @failed: the engine refused it; then it may have happened, or not, or have been undone
 */
struct event {
    struct state after;
    uint64_t stored;
    size_t started;
    size_t returned;
    bool waits;
    bool failed;
};

struct history {
    struct state base; /* known for sure when the life began */
    struct event events[LIFE_STEPS_MAX];
    unsigned count;
};

/* What is known of the objects at a moment of a life: all that happened before @marks marks. */
struct story {
    struct history objects[LIFE_OBJECTS];
    size_t sync_started[LIFE_STEPS_MAX]; /* waiting operations without an object */
    size_t sync_returned[LIFE_STEPS_MAX];
    unsigned syncs;
    size_t marks;
};

struct life {
    struct fixture fixture;
    struct dev_record_log log;
    struct story past; /* of the life before, as it was when that one crashed */
    struct story now;
    size_t opened; /* entries of the log that opening made; up to there the past counts */
    uint64_t next_version;
    unsigned partition_bits;
    uint32_t break_rules;
    uint64_t fail_nth;  /* the nth operation on the drive after opening fails; 0: none does */
    bool failed;        /* an operation of this life was refused, and the workload ended there */
    bool damaged;       /* the drive was damaged beyond what a crash does */
    bool forgive_stale; /* a stale target is judged by what it holds, as if it were not */
    bool opened_stale;
    bool gone; /* damaged beyond opening, and it said so */
    uint64_t runs;
    uint64_t snapshot_hash; /* of the drive at the start of the run */
    uint64_t block_hashes[LIFE_BLOCKS_MAX];
    uint64_t images; /* built, opened and compared */
    char wrong[512]; /* the first violation; "" while there is none */
};

void life_create(struct life *life, uint64_t device_bytes, unsigned partition_bits, uint64_t seed);
void life_destroy(struct life *life);

/* Format the drive and forget all history. */
void life_begin(struct life *life);

/* Keep what is on the drive for life_run_again(), as life_run() does. */
void life_snapshot(struct life *life);

/*
 * life_run() - Open what is on the drive, compare it with the past, run the steps; all of it is
 * recorded. The drive's state at the start is kept as a snapshot.
 * Return: false when opening found something wrong, see life->wrong, or when the life is gone.
 */
bool life_run(struct life *life, const struct step *steps, unsigned count);

/* As life_run(), but on a drive that holds the last snapshot. */
bool life_run_again(struct life *life, const struct step *steps, unsigned count);

/* life_crash() - Leave one random image of the last run on the drive. */
void life_crash(struct life *life);

/* As life_crash(), but nothing is lost: the engine was closed, and all that it said is durable. */
void life_end(struct life *life);

/* Make what is known now the certain past, for a workload that starts from here again and again. */
void life_settle(struct life *life);

/*
 * life_check() - Open what is on the drive as the image of a crash after @prefix entries of the
 * log, let fsck judge it, and compare.
 * Return: false when something is wrong; life->wrong says what.
 */
bool life_check(struct life *life, size_t prefix);

/*
 * life_check_images() - Check every image of the last run: each prefix of the log that ends a
 * distinguishable moment; all subsets of up to six writes in doubt, tears of each at 512 bytes and
 * at 4 KiB, a sample where more are in doubt.
 */
bool life_check_images(struct life *life);

/* How many different images, by their content, were opened by all lives of this process. */
uint64_t life_different_images(void);

/* ---- between the parts of it ---- */

void life_note_snapshot(struct life *life);

/* Note that the image that is on the drive is opened. Return: false when this was done before at
 * the same moment of the same life, so that another look could not tell anything new. */
bool life_note_image(struct life *life, size_t prefix);

struct engine *life_open(struct life *life, struct dev *dev, struct engine_report *report,
                         int *error);
size_t life_marks_in(const struct life *life, size_t prefix);

/* [fiber] Does the engine hold what @story allows? What it holds goes to @found, if not NULL. */
bool life_compare(struct life *life, struct engine *engine, const struct story *story, bool stale,
                  struct state *found);
void life_complain(struct life *life, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
