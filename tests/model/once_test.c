/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that can fail fails once, in turn; and a device gets full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/pool.h"
#include "shoal/error.h"
#include "trial.h"

#define SEED 8015u
#define SCRIPT_OBJECTS 6u
#define VERSIONS 5000u

enum what { THE_DRIVE, AN_ALLOCATION };

/* A fixed workload that touches every path; an error anywhere is accepted, wrong bytes are not. */
static void script(struct trial *trial)
{
    for (unsigned i = 0; i < SCRIPT_OBJECTS; i++) {
        trial_prepare(trial, i);
        trial_commit(trial, i);
        trial_read(trial, i);
    }
    (void)engine_checkpoint(trial->engine);
    trial_prepare(trial, 0);
    trial_abort(trial, 0);
    trial_drop(trial, 1);
    trial_repair(trial, 3);
    trial_prepare(trial, 2);
    (void)engine_drop_partition(trial->engine, 1);
    (void)engine_sync(trial->engine);
    while (engine_scrub_step(trial->engine, 2, NULL, NULL) > 0)
        ;
    for (unsigned i = 0; i < SCRIPT_OBJECTS; i++)
        trial_read(trial, i);
}

/*
 * struct once - @nth: what fails; 0: nothing
 * @opening: while the engine opens, rather than while it runs the script
 * @fired: something did fail
 */
struct once {
    struct trial *trial;
    enum what what;
    bool opening;
    uint64_t nth;
    bool fired;
};

static void arm(struct once *once, struct dev *dev)
{
    if (once->what == AN_ALLOCATION)
        pool_fail_after(once->nth);
    else
        dev_sim_fail_nth(dev, once->nth, SHOAL_E_IO);
}

static void disarm(struct once *once, struct dev *dev, uint64_t operations_before)
{
    if (once->what == AN_ALLOCATION) {
        once->fired = pool_fail_fired();
        pool_fail_after(0);
    } else {
        once->fired = dev_sim_operations(dev) - operations_before >= once->nth;
        dev_sim_fail_nth(dev, 0, 0);
    }
}

static void read_all(struct trial *trial)
{
    trial_adopt(trial);
    for (unsigned i = 0; i < SCRIPT_OBJECTS; i++)
        trial_read(trial, i);
}

static void running_fiber(void *arg)
{
    struct once *once = arg;
    struct trial *trial = once->trial;

    fixture_format(&trial->fixture, TRIAL_PARTITION_BITS);
    CHECK(trial_open(trial) == 0);
    uint64_t before = dev_sim_operations(trial->dev);
    arm(once, trial->dev);
    script(trial);
    disarm(once, trial->dev, before);
    trial_close(trial, true);
    /* After any single failure the engine opens again and holds true bytes. */
    int error = trial_open(trial);
    if (error != 0) {
        trial_complain(trial, 0, "does not open after one failure", error);
        return;
    }
    if (trial->report.stale)
        trial_complain(trial, 0, "one failure made the target stale", 0);
    read_all(trial);
    trial_close(trial, true);
}

/* Return: did it open? */
static bool open_with_failure(struct once *once)
{
    struct trial *trial = once->trial;
    const struct engine_config config = {0};

    trial->dev = fixture_open_drive(&trial->fixture, true);
    uint64_t before = dev_sim_operations(trial->dev);
    arm(once, trial->dev);
    int error =
        engine_open(trial->dev, trial->fixture.arena, &config, &trial->engine, &trial->report);
    disarm(once, trial->dev, before);
    if (error == 0)
        return true;
    dev_close(trial->dev);
    return false;
}

/* A failed opening changes nothing; one that went on without what it could not read says so. */
static void opening_fiber(void *arg)
{
    struct once *once = arg;
    struct trial *trial = once->trial;

    fixture_format(&trial->fixture, TRIAL_PARTITION_BITS);
    CHECK(trial_open(trial) == 0);
    script(trial);
    trial_adopt(trial);
    trial_close(trial, true);
    bool stale = false;
    if (open_with_failure(once)) {
        stale = trial->report.stale;
        trial_close(trial, true);
    }
    int error = trial_open(trial);
    if (error != 0) {
        trial_complain(trial, 0, "does not open after an opening that failed", error);
        return;
    }
    stale |= trial->report.stale;
    trial->strict = !stale;
    if (once->what == AN_ALLOCATION && stale)
        trial_complain(trial, 0, "a failed allocation made the target stale", 0);
    trial_check_objects(trial);
    trial->strict = false;
    read_all(trial);
    trial_close(trial, true);
}

/* Return: false when there is no such @nth. */
static bool run_once(enum what what, bool opening, uint64_t nth, bool volatile_cache)
{
    struct trial *trial = trial_create(ENGINE_DEVICE_MIN, SEED, VERSIONS);
    struct once once = {.trial = trial, .what = what, .opening = opening, .nth = nth};

    trial->fixture.volatile_cache = volatile_cache;
    fixture_run(&trial->fixture, opening ? opening_fiber : running_fiber, &once);
    if (trial->wrong[0] != '\0')
        printf("number %" PRIu64 ", %s cache\n", nth, volatile_cache ? "volatile" : "no");
    trial_end(trial);
    return once.fired;
}

static void each_once(enum what what, bool opening, uint64_t at_least)
{
    for (unsigned cache = 0; cache < 2; cache++) {
        uint64_t nth = 1;
        while (run_once(what, opening, nth, cache))
            nth++;
        printf("%" PRIu64 " failed in turn\n", nth - 1);
        assert_true(nth > at_least);
    }
}

static void each_operation_of_the_drive_fails_once(void **state)
{
    (void)state;
    each_once(THE_DRIVE, false, 30);
}

static void each_allocation_from_a_pool_fails_once(void **state)
{
    (void)state;
    each_once(AN_ALLOCATION, false, 20);
}

static void each_operation_of_the_drive_fails_once_while_opening(void **state)
{
    (void)state;
    each_once(THE_DRIVE, true, 8);
}

static void each_allocation_fails_once_while_opening(void **state)
{
    (void)state;
    each_once(AN_ALLOCATION, true, 4);
}

/* ---- full ---- */

#define FULL_BYTES 50000u

static void full_fiber(void *arg)
{
    struct trial *trial = arg;
    unsigned stored = 0;
    int error = 0;

    fixture_format(&trial->fixture, TRIAL_PARTITION_BITS);
    CHECK(trial_open(trial) == 0);
    for (; stored < VERSIONS && error == 0; stored++) {
        const struct piece piece = {.version = stored + 1, .form = BLOB_BYTES, .len = FULL_BYTES};
        const struct blob_id id = fixture_id(stored);
        const struct blob_version version = fixture_version(piece.version);
        error = fixture_prepare(&trial->fixture, trial->engine, stored, &piece);
        if (error == 0)
            error = engine_commit(trial->engine, &id, &version);
    }
    stored--;
    if (error != SHOAL_E_FULL)
        trial_complain(trial, stored, "a full device says", error);
    /* Full must not stop what makes room, nor recovery. */
    trial_close(trial, true);
    CHECK(trial_open(trial) == 0);
    for (unsigned i = 0; i < stored; i += 2) {
        const struct blob_id id = fixture_id(i);
        const struct blob_version version = fixture_version(i + 1);
        error = engine_drop(trial->engine, &id, &version);
        if (error != 0)
            trial_complain(trial, i, "drop on a full device", error);
    }
    error = engine_sync(trial->engine);
    if (error != 0)
        trial_complain(trial, 0, "sync on a full device", error);
    const struct piece again = {.version = VERSIONS + 1, .form = BLOB_BYTES, .len = FULL_BYTES};
    error = fixture_prepare(&trial->fixture, trial->engine, 0, &again);
    if (error != 0)
        trial_complain(trial, 0, "prepare after room was made", error);
    for (unsigned i = 1; i < stored; i += 2) {
        const struct piece piece = {.version = i + 1, .form = BLOB_BYTES, .len = FULL_BYTES};
        bool invented;
        error = fixture_read(&trial->fixture, trial->engine, i, &piece, 0, piece.len, &invented);
        if (error != 0 || invented)
            trial_complain(trial, i, "read on a device that was full", error);
    }
    trial_close(trial, false);
}

static void a_full_device_says_so_and_makes_room(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {ENGINE_DEVICE_MIN, 16u << 20, 64u << 20};

    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        struct trial *trial = trial_create(sizes[i], SEED, VERSIONS);
        fixture_run(&trial->fixture, full_fiber, trial);
        trial_end(trial);
    }
}

static void discard(void *arg, enum log_level level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_of_the_drive_fails_once),
        cmocka_unit_test(each_allocation_from_a_pool_fails_once),
        cmocka_unit_test(each_operation_of_the_drive_fails_once_while_opening),
        cmocka_unit_test(each_allocation_fails_once_while_opening),
        cmocka_unit_test(a_full_device_says_so_and_makes_room),
    };

    log_set_sink(discard, NULL); /* every injected fault is told */
    cmocka_set_test_filter(getenv("CASE"));
    return cmocka_run_group_tests_name("once", tests, NULL, NULL);
}
