/* SPDX-License-Identifier: Apache-2.0 */
#include "trial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "shoal/error.h"

struct trial *trial_create(uint64_t device_bytes, uint64_t seed, uint64_t versions_max)
{
    struct trial *trial = calloc(1, sizeof *trial);

    CHECK(trial != NULL);
    fixture_create(&trial->fixture, device_bytes, seed);
    trial->fixture.volatile_cache = seed % 2 == 0;
    trial->versions_max = versions_max;
    trial->written = calloc(versions_max + 1, sizeof *trial->written);
    CHECK(trial->written != NULL);
    return trial;
}

uint64_t trial_end(struct trial *trial)
{
    char wrong[sizeof trial->wrong];
    uint64_t operations = trial->operations;

    memcpy(wrong, trial->wrong, sizeof wrong);
    fixture_destroy(&trial->fixture);
    free(trial->written);
    free(trial);
    if (wrong[0] != '\0')
        fail_msg("%s", wrong);
    return operations;
}

void trial_complain(struct trial *trial, unsigned object, const char *what, int error)
{
    if (trial->wrong[0] == '\0')
        snprintf(trial->wrong, sizeof trial->wrong, "operation %" PRIu64 ", object %u: %s (%s)",
                 trial->operations, object, what, shoal_error_name(error));
}

/* In a strict trial an operation succeeds; in another it may be refused, and is counted. */
static bool accepted(struct trial *trial, unsigned object, const char *what, int error)
{
    if (error == 0)
        return true;
    trial->refused++;
    if (trial->strict && error != SHOAL_E_FULL)
        trial_complain(trial, object, what, error);
    return false;
}

/* ---- operations ---- */

static uint32_t random_len(struct prng *prng)
{
    uint64_t draw = prng_below(prng, 16);

    if (draw < 8)
        return (uint32_t)prng_below(prng, 64);
    if (draw < 13)
        return (uint32_t)prng_below(prng, DEV_BLOCK_BYTES * 2);
    return (uint32_t)prng_below(prng, draw < 15 ? ENGINE_UNIT_BYTES * 2 : 60000);
}

static struct piece new_piece(struct trial *trial, unsigned number)
{
    struct prng *prng = &trial->fixture.prng;
    struct piece piece = {.version = ++trial->versions, .form = BLOB_BYTES};

    CHECK(trial->versions <= trial->versions_max);
    if (prng_chance(prng, 1, 8))
        piece.form = prng_chance(prng, 1, 2) ? BLOB_MARKER : BLOB_TOMBSTONE;
    else
        piece.len = random_len(prng);
    trial->written[piece.version] =
        (struct written){(uint8_t)number, (uint8_t)piece.form, piece.len};
    return piece;
}

void trial_prepare(struct trial *trial, unsigned number)
{
    struct object *object = &trial->objects[number];

    if (trial->versions == trial->versions_max)
        return;
    struct piece piece = new_piece(trial, number);
    object->changes++;
    if (accepted(trial, number, "prepare",
                 fixture_prepare(&trial->fixture, trial->engine, number, &piece)))
        object->prepared = piece;
}

/* A journal that is full for a moment has room again after a sync. */
static int patiently(struct trial *trial, unsigned number, uint64_t version,
                     int (*change)(struct engine *, const struct blob_id *,
                                   const struct blob_version *))
{
    const struct blob_id id = fixture_id(number);
    const struct blob_version at = fixture_version(version);
    int error = change(trial->engine, &id, &at);

    for (unsigned tries = 0; error == SHOAL_E_BUSY && tries < 100; tries++) {
        (void)engine_sync(trial->engine);
        fiber_sleep(1000000);
        error = change(trial->engine, &id, &at);
    }
    return error;
}

void trial_commit(struct trial *trial, unsigned number)
{
    struct object *object = &trial->objects[number];

    if (object->prepared.version == 0)
        return;
    object->changes++;
    if (accepted(trial, number, "commit",
                 patiently(trial, number, object->prepared.version, engine_commit))) {
        object->committed = object->prepared;
        object->prepared = (struct piece){0};
    }
}

void trial_abort(struct trial *trial, unsigned number)
{
    struct object *object = &trial->objects[number];

    if (object->prepared.version == 0)
        return;
    object->changes++;
    if (accepted(trial, number, "abort",
                 patiently(trial, number, object->prepared.version, engine_abort)))
        object->prepared = (struct piece){0};
}

void trial_drop(struct trial *trial, unsigned number)
{
    struct object *object = &trial->objects[number];

    if (object->committed.version == 0)
        return;
    object->changes++;
    if (accepted(trial, number, "drop",
                 patiently(trial, number, object->committed.version, engine_drop)))
        object->committed = (struct piece){0};
}

void trial_repair(struct trial *trial, unsigned number)
{
    struct object *object = &trial->objects[number];
    struct piece piece = object->committed;

    if (piece.version == 0)
        return;
    piece.hollow = false;
    object->changes++;
    if (accepted(trial, number, "repair",
                 fixture_repair(&trial->fixture, trial->engine, number, &piece)))
        object->committed = piece;
}

void trial_read(struct trial *trial, unsigned number)
{
    const struct object *object = &trial->objects[number];
    struct prng *prng = &trial->fixture.prng;
    const struct piece piece = prng_chance(prng, 1, 4) ? object->prepared : object->committed;
    bool invented;

    if (piece.version == 0 || piece.form != BLOB_BYTES || piece.hollow)
        return;
    uint32_t offset = (uint32_t)prng_below(prng, piece.len + 1);
    uint32_t len = (uint32_t)prng_below(prng, piece.len - offset + 1);
    int error =
        fixture_read(&trial->fixture, trial->engine, number, &piece, offset, len, &invented);
    if (invented)
        trial_complain(trial, number, "bytes that were never written", 0);
    if (accepted(trial, number, "read", error))
        trial->judged_bytes += len;
}

/* What the engine says must have been written once. */
static bool ever_written(const struct trial *trial, unsigned number,
                         const struct engine_entry *entry)
{
    if (blob_version_is_none(&entry->version))
        return true;
    if (entry->version.counter > trial->versions)
        return false;
    const struct written *written = &trial->written[entry->version.counter];
    return written->object == number && written->form == entry->form &&
           written->len == entry->shard_len;
}

void trial_find(struct trial *trial, unsigned number)
{
    const struct object *object = &trial->objects[number];
    const struct blob_id id = fixture_id(number);
    struct engine_entry committed = {0}, prepared = {0};

    int error = engine_find(trial->engine, &id, &committed, &prepared);
    if (!ever_written(trial, number, &committed) || !ever_written(trial, number, &prepared))
        trial_complain(trial, number, "a version that was never written", error);
    bool any = object->committed.version != 0 || object->prepared.version != 0;
    if (trial->strict &&
        (error != (any ? 0 : SHOAL_E_NOT_FOUND) || !fixture_same(&object->committed, &committed) ||
         !fixture_same(&object->prepared, &prepared) ||
         committed.hollow != object->committed.hollow ||
         prepared.hollow != object->prepared.hollow))
        trial_complain(trial, number, "the index differs from the model", error);
}

void trial_check_objects(struct trial *trial)
{
    for (unsigned i = 0; i < TRIAL_OBJECTS; i++)
        trial_find(trial, i);
}

void trial_adopt(struct trial *trial)
{
    for (unsigned i = 0; i < TRIAL_OBJECTS; i++) {
        struct engine_entry committed = {0}, prepared = {0};
        const struct blob_id id = fixture_id(i);
        trial_find(trial, i);
        (void)engine_find(trial->engine, &id, &committed, &prepared);
        trial->objects[i].committed = (struct piece){committed.version.counter, committed.form,
                                                     committed.shard_len, committed.hollow};
        trial->objects[i].prepared = (struct piece){prepared.version.counter, prepared.form,
                                                    prepared.shard_len, prepared.hollow};
    }
}

/* ---- rounds ---- */

struct lane {
    struct trial *trial;
    unsigned number;
    struct fiber_group *group;
};

static void step(struct trial *trial, unsigned number)
{
    static void (*const operations[])(struct trial *, unsigned) = {
        trial_prepare, trial_prepare, trial_prepare, trial_prepare, trial_commit, trial_commit,
        trial_commit,  trial_commit,  trial_abort,   trial_drop,    trial_repair, trial_read,
        trial_read,    trial_read,    trial_read,    trial_find,    trial_find,   trial_find};

    trial->operations++;
    operations[prng_below(&trial->fixture.prng, ARRAY_LEN(operations))](trial, number);
}

static void lane_fiber(void *arg)
{
    struct lane *lane = arg;
    struct trial *trial = lane->trial;

    for (unsigned i = 0;
         i < trial->round_operations && trial->wrong[0] == '\0' && !engine_stopped(trial->engine);
         i++) {
        uint64_t mine = prng_below(&trial->fixture.prng, TRIAL_OBJECTS / TRIAL_LANES);
        step(trial, (unsigned)mine * TRIAL_LANES + lane->number);
    }
    fiber_group_done(lane->group);
}

static void walk_fiber(void *arg)
{
    struct lane *lane = arg;

    trial_walk(lane->trial);
    fiber_group_done(lane->group);
}

static void round_of_operations(struct trial *trial)
{
    struct lane lanes[TRIAL_LANES];
    struct fiber_group group;

    fiber_group_init(&group);
    for (unsigned i = 0; i < TRIAL_LANES; i++) {
        lanes[i] = (struct lane){trial, i, &group};
        fiber_group_add(&group);
        CHECK(fiber_spawn(trial->fixture.fibers, lane_fiber, &lanes[i]) == 0);
    }
    fiber_group_add(&group);
    CHECK(fiber_spawn(trial->fixture.fibers, walk_fiber, &lanes[0]) == 0);
    fiber_group_wait(&group);
}

int trial_open(struct trial *trial)
{
    const struct engine_config config = {0};

    trial->dev = fixture_open_drive(&trial->fixture, true);
    int error =
        engine_open(trial->dev, trial->fixture.arena, &config, &trial->engine, &trial->report);
    if (error == 0) {
        dev_sim_set_faults(trial->dev, &trial->faults);
    } else {
        dev_close(trial->dev);
        trial->dev = NULL;
    }
    return error;
}

void trial_close(struct trial *trial, bool fast)
{
    engine_close(trial->engine, fast);
    dev_close(trial->dev);
    trial->dev = NULL;
}

/* Everything was said to be durable, or in a trial with faults whatever it was: the power goes. */
static void lose_power(struct trial *trial)
{
    int error = engine_sync(trial->engine);

    accepted(trial, 0, "sync", error);
    dev_sim_crash(trial->dev, &trial->fixture.prng);
    trial_close(trial, true);
}

/* What opening cannot mend fsck does, as far as anything can. Return: false when nothing is left.
 */
static bool mend(struct trial *trial)
{
    struct engine_fsck_result result;
    struct dev *dev = fixture_open_drive(&trial->fixture, true);
    FILE *out = fopen("/dev/null", "w");

    CHECK(out != NULL);
    int error = engine_fsck(dev, trial->fixture.arena, true, out, &result);
    fclose(out);
    dev_close(dev);
    if (error != 0 || result.fatal)
        return false;
    error = trial_open(trial);
    if (error != 0)
        trial_complain(trial, 0, "does not open after fsck repaired it", error);
    return error == 0;
}

static bool reopen(struct trial *trial)
{
    struct prng *prng = &trial->fixture.prng;

    if (prng_chance(prng, 1, 4))
        lose_power(trial);
    else
        trial_close(trial, prng_chance(prng, 1, 2));
    int error = trial_open(trial);
    if (error == 0 && trial->strict && trial->report.stale)
        trial_complain(trial, 0, "memory was lost without a fault", 0);
    if (error == 0)
        return true;
    if (trial->strict || error != SHOAL_E_CORRUPT) {
        trial_complain(trial, 0, "the engine does not open again", error);
        return false;
    }
    return mend(trial);
}

static void unstick_fiber(void *arg)
{
    struct trial *trial = arg;

    for (; !trial->over; fiber_sleep(5000000))
        if (trial->dev != NULL)
            dev_sim_unstick(trial->dev);
}

static void rounds(struct trial *trial)
{
    struct prng *prng = &trial->fixture.prng;

    for (unsigned i = 0; i < trial->rounds && trial->wrong[0] == '\0'; i++) {
        round_of_operations(trial);
        trial_check_partitions(trial);
        if (prng_chance(prng, 1, 8))
            trial_drop_partition(trial);
        if (prng_chance(prng, 1, 4))
            trial_evict(trial);
        if (prng_chance(prng, 1, 8))
            trial_scrub(trial);
        if (!engine_stopped(trial->engine) && prng_chance(prng, 1, 2))
            continue;
        if (!reopen(trial))
            return;
        if (!trial->strict)
            trial_adopt(trial);
        trial_check_partitions(trial);
    }
    trial_close(trial, false);
}

static void run_fiber(void *arg)
{
    struct trial *trial = arg;

    fixture_format(&trial->fixture, TRIAL_PARTITION_BITS);
    int error = trial_open(trial);
    CHECK_MSG(error == 0, "open: %s", shoal_error_name(error));
    if (trial->faults.stuck_ppm > 0)
        CHECK(fiber_spawn(trial->fixture.fibers, unstick_fiber, trial) == 0);
    rounds(trial);
    trial->over = true;
}

void trial_run(struct trial *trial)
{
    fixture_run(&trial->fixture, run_fiber, trial);
}
