/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "shoal/error.h"

#define SMALL_BYTES 700u
#define LARGE_BYTES (ENGINE_UNIT_BYTES + 3000u)
#define PAUSE_NS UINT64_C(12000000)

void life_create(struct life *life, uint64_t device_bytes, unsigned partition_bits, uint64_t seed)
{
    memset(life, 0, sizeof *life);
    fixture_create(&life->fixture, device_bytes, seed);
    life->partition_bits = partition_bits;
}

void life_destroy(struct life *life)
{
    dev_record_log_free(&life->log);
    fixture_destroy(&life->fixture);
}

static void format_fiber(void *arg)
{
    struct life *life = arg;

    fixture_format(&life->fixture, life->partition_bits);
}

void life_begin(struct life *life)
{
    memset(&life->past, 0, sizeof life->past);
    life->next_version = 1;
    life->wrong[0] = '\0';
    life->damaged = false;
    life->gone = false;
    fixture_run(&life->fixture, format_fiber, life);
}

/* ---- one step ---- */

/*
 * A mark gives the moment a place in the log. Marks count from 1; `returned` compares with the
 * number of marks in a prefix.
 */
static size_t mark(struct life *life)
{
    life->now.marks++;
    dev_record_mark(&life->log, life->now.marks);
    return life->now.marks;
}

static struct state current(const struct life *life, unsigned object)
{
    const struct history *history = &life->now.objects[object];
    return history->count > 0 ? history->events[history->count - 1].after : history->base;
}

static struct event *event_begin(struct life *life, unsigned object, bool waits)
{
    struct history *history = &life->now.objects[object];
    const struct state before = current(life, object);

    CHECK(history->count < LIFE_STEPS_MAX);
    struct event *event = &history->events[history->count++];
    *event = (struct event){.after = before, .waits = waits, .returned = SIZE_MAX};
    return event;
}

static void event_start(struct life *life, struct event *event)
{
    event->started = mark(life);
}

/* What was refused because there was no room for it has changed nothing. */
static void event_end(struct life *life, unsigned object, struct event *event, int error)
{
    struct history *history = &life->now.objects[object];

    event->returned = mark(life);
    if ((error == SHOAL_E_BUSY || error == SHOAL_E_FULL) &&
        event == &history->events[history->count - 1]) {
        history->count--;
        return;
    }
    event->failed = error != 0;
    life->failed |= error != 0;
}

static struct piece new_piece(struct life *life, const struct step *step)
{
    struct piece piece = {.version = life->next_version++, .form = BLOB_BYTES};

    if (step->kind == STEP_TOMBSTONE)
        piece.form = BLOB_TOMBSTONE;
    else if (step->kind == STEP_MARKER)
        piece.form = BLOB_MARKER;
    else
        piece.len = step->kind == STEP_PUT_LARGE ? LARGE_BYTES : SMALL_BYTES;
    return piece;
}

static void step_prepare(struct life *life, struct engine *engine, const struct step *step)
{
    struct piece piece = new_piece(life, step);
    struct event *event = event_begin(life, step->object, true);

    event->after.prepared = piece;
    event->stored = piece.version;
    event_start(life, event);
    event_end(life, step->object, event,
              fixture_prepare(&life->fixture, engine, step->object, &piece));
}

static void step_repair(struct life *life, struct engine *engine, const struct step *step)
{
    const struct state state = current(life, step->object);
    struct piece piece = state.committed;

    if (piece.version == 0)
        piece = new_piece(life, step);
    piece.hollow = false;
    struct event *event = event_begin(life, step->object, true);
    event->after.committed = piece;
    if (state.prepared.version <= piece.version)
        event->after.prepared = (struct piece){0};
    event->stored = piece.version;
    event_start(life, event);
    event_end(life, step->object, event,
              fixture_repair(&life->fixture, engine, step->object, &piece));
}

static void step_commit(struct life *life, struct engine *engine, unsigned object)
{
    const struct state state = current(life, object);
    const struct blob_id id = fixture_id(object);
    const struct blob_version version = fixture_version(state.prepared.version);

    if (state.prepared.version == 0)
        return;
    struct event *event = event_begin(life, object, false);
    event->after = (struct state){.committed = state.prepared};
    event_start(life, event);
    event_end(life, object, event, engine_commit(engine, &id, &version));
}

static void step_abort(struct life *life, struct engine *engine, unsigned object)
{
    const struct state state = current(life, object);
    const struct blob_id id = fixture_id(object);
    const struct blob_version version = fixture_version(state.prepared.version);

    if (state.prepared.version == 0)
        return;
    struct event *event = event_begin(life, object, true);
    event->after.prepared = (struct piece){0};
    event_start(life, event);
    event_end(life, object, event, engine_abort(engine, &id, &version));
}

static void step_drop(struct life *life, struct engine *engine, unsigned object)
{
    const struct state state = current(life, object);
    const struct blob_id id = fixture_id(object);
    const struct blob_version version = fixture_version(state.committed.version);

    if (state.committed.version == 0)
        return;
    struct event *event = event_begin(life, object, false);
    event->after.committed = (struct piece){0};
    event_start(life, event);
    event_end(life, object, event, engine_drop(engine, &id, &version));
}

static void step_drop_partition(struct life *life, struct engine *engine, unsigned object)
{
    const struct blob_id id = fixture_id(object);
    uint32_t partition = blob_partition(&id, life->partition_bits);
    struct event *events[LIFE_OBJECTS] = {NULL};
    size_t started = mark(life);

    for (unsigned i = 0; i < LIFE_OBJECTS; i++) {
        const struct blob_id other = fixture_id(i);
        if (blob_partition(&other, life->partition_bits) != partition)
            continue;
        events[i] = event_begin(life, i, true);
        events[i]->after = (struct state){0};
        events[i]->started = started;
    }
    int error = engine_drop_partition(engine, partition);
    size_t returned = mark(life);
    for (unsigned i = 0; i < LIFE_OBJECTS; i++) {
        if (events[i] == NULL)
            continue;
        events[i]->returned = returned;
        events[i]->failed = error != 0;
    }
    life->failed |= error != 0;
}

static void step_sync(struct life *life, struct engine *engine)
{
    size_t started = mark(life);

    if (engine_sync(engine) != 0)
        return;
    unsigned sync = life->now.syncs++;
    life->now.sync_started[sync] = started;
    life->now.sync_returned[sync] = mark(life);
}

/* After the first failure the workload ends: what failed may or may not be on the drive. */
static void step_run(struct life *life, struct engine *engine, const struct step *step)
{
    switch (step->kind) {
    case STEP_PUT_SMALL:
    case STEP_PUT_LARGE:
    case STEP_TOMBSTONE:
    case STEP_MARKER:
        return step_prepare(life, engine, step);
    case STEP_COMMIT:
        return step_commit(life, engine, step->object);
    case STEP_ABORT:
        return step_abort(life, engine, step->object);
    case STEP_DROP:
        return step_drop(life, engine, step->object);
    case STEP_REPAIR:
        return step_repair(life, engine, step);
    case STEP_DROP_PARTITION:
        return step_drop_partition(life, engine, step->object);
    case STEP_SYNC:
        return step_sync(life, engine);
    case STEP_CHECKPOINT:
        (void)engine_checkpoint(engine);
        return;
    case STEP_PAUSE:
        return fiber_sleep(PAUSE_NS);
    case STEP_KINDS:
        CHECK(false);
    }
}

/* ---- a life ---- */

struct lane {
    struct life *life;
    struct engine *engine;
    const struct step *steps;
    unsigned count;
    unsigned number;
    struct fiber_group *group;
};

static void lane_fiber(void *arg)
{
    struct lane *lane = arg;
    struct life *life = lane->life;

    for (unsigned i = 0; i < lane->count && !life->failed; i++) {
        if (lane->steps[i].lane != lane->number)
            continue;
        step_run(life, lane->engine, &lane->steps[i]);
        if (prng_chance(&life->fixture.prng, 1, 4))
            fiber_sleep(prng_below(&life->fixture.prng, 300000));
    }
    fiber_group_done(lane->group);
}

static void run_lanes(struct life *life, struct engine *engine, const struct step *steps,
                      unsigned count)
{
    struct lane lanes[LIFE_LANES];
    struct fiber_group group;

    fiber_group_init(&group);
    for (unsigned i = 0; i < LIFE_LANES; i++) {
        lanes[i] = (struct lane){life, engine, steps, count, i, &group};
        fiber_group_add(&group);
        CHECK(fiber_spawn(life->fixture.fibers, lane_fiber, &lanes[i]) == 0);
    }
    fiber_group_wait(&group);
}

struct engine *life_open(struct life *life, struct dev *dev, struct engine_report *report,
                         int *error)
{
    const struct engine_config config = {.break_rules = life->break_rules};
    struct engine *engine = NULL;

    memset(report, 0, sizeof *report);
    *error = engine_open(dev, life->fixture.arena, &config, &engine, report);
    if (engine == NULL) {
        life->gone = life->damaged && *error == SHOAL_E_CORRUPT;
        if (!life->gone)
            life_complain(life, "it does not open: %s %s", shoal_error_name(*error),
                          report->problem);
    } else if (report->stale && !life->damaged && !life->forgive_stale) {
        life_complain(life, "a crash alone made the target stale: %s", report->problem);
    }
    return engine;
}

struct run_args {
    struct life *life;
    const struct step *steps;
    unsigned count;
};

/* What was found after opening is what this life starts from. */
static bool adopt(struct life *life, struct engine *engine, bool stale)
{
    struct state found[LIFE_OBJECTS];

    if (!life_compare(life, engine, &life->past, stale, found))
        return false;
    for (unsigned i = 0; i < LIFE_OBJECTS; i++)
        life->now.objects[i].base = found[i];
    return true;
}

static void run_fiber(void *arg)
{
    struct run_args *args = arg;
    struct life *life = args->life;
    struct engine_report report;
    struct dev *drive = fixture_open_drive(&life->fixture, true);
    struct dev *dev;
    int error;

    CHECK(dev_record_open(drive, &life->log, &dev) == 0);
    struct engine *engine = life_open(life, dev, &report, &error);
    life->opened = life->log.entry_count;
    life->opened_stale = report.stale;
    if (engine != NULL) {
        if (adopt(life, engine, report.stale && !life->forgive_stale)) {
            dev_sim_fail_nth(drive, life->fail_nth, SHOAL_E_IO);
            run_lanes(life, engine, args->steps, args->count);
            dev_sim_fail_nth(drive, 0, 0);
        }
        mark(life);
        engine_close(engine, !prng_chance(&life->fixture.prng, 1, 4));
    }
    dev_close(dev);
}

bool life_run_again(struct life *life, const struct step *steps, unsigned count)
{
    struct run_args args = {life, steps, count};

    CHECK(count <= LIFE_STEPS_MAX);
    dev_record_log_free(&life->log);
    memset(&life->now, 0, sizeof life->now);
    life->failed = false;
    life->runs++;
    (void)life_note_image(life, 0);
    fixture_run(&life->fixture, run_fiber, &args);
    return life->wrong[0] == '\0' && !life->gone;
}

void life_snapshot(struct life *life)
{
    CHECK(dev_sim_store_snapshot(life->fixture.store) == 0);
    dev_record_log_free(&life->log);
    life_note_snapshot(life);
}

bool life_run(struct life *life, const struct step *steps, unsigned count)
{
    life_snapshot(life);
    return life_run_again(life, steps, count);
}

void life_end(struct life *life)
{
    if (life->opened < life->log.entry_count)
        life->past = life->now;
}

void life_settle(struct life *life)
{
    for (unsigned i = 0; i < LIFE_OBJECTS; i++) {
        const struct state state = current(life, i);
        memset(&life->past.objects[i], 0, sizeof life->past.objects[i]);
        life->past.objects[i].base = state;
    }
    life->past.syncs = 0;
    life->past.marks = 0;
}
