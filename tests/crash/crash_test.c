/* SPDX-License-Identifier: Apache-2.0 */
/* Images of crashes: short workloads exhaustively, long ones sampled over many lives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "chain.h"

#define SEED 20251122u
#define IMAGES_WANTED 20000u

static bool is_long(void)
{
    return getenv("SHOAL_TEST_LONG") != NULL;
}

/* ---- short workloads ---- */

/* Objects 0 and 1 are in lanes of their own when the workload is run side by side. */
static const struct step alphabet[] = {
    {STEP_PUT_SMALL, 0, 0}, {STEP_PUT_LARGE, 1, 1},  {STEP_TOMBSTONE, 1, 1}, {STEP_COMMIT, 0, 0},
    {STEP_COMMIT, 1, 1},    {STEP_ABORT, 0, 0},      {STEP_DROP, 1, 1},      {STEP_MARKER, 2, 0},
    {STEP_REPAIR, 1, 1},    {STEP_CHECKPOINT, 0, 0},
};

/* Before each short workload: one object is committed, one prepared over a committed one. */
static const struct step prelude[] = {
    {STEP_PUT_LARGE, 1, 0}, {STEP_COMMIT, 1, 0},    {STEP_PUT_SMALL, 0, 0},
    {STEP_COMMIT, 0, 0},    {STEP_PUT_LARGE, 0, 0}, {STEP_SYNC, 0, 0},
};

static void check_workload(struct life *life, const struct step *steps, unsigned count)
{
    char text[128] = "";

    if (life_run_again(life, steps, count) && life_check_images(life))
        return;
    for (unsigned i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), " %d(%u)%s", steps[i].kind,
                 steps[i].object, steps[i].lane > 0 ? "&" : "");
    fail_msg("workload%s: %s", text, life->wrong);
}

/* All workloads of @count operations, one after the other or side by side; one in @stride of them.
 */
static void check_short(struct life *life, unsigned count, bool beside, unsigned stride)
{
    const unsigned letters = ARRAY_LEN(alphabet);
    const uint64_t next_version = life->next_version;
    const struct story past = life->past;
    unsigned total = 1;

    for (unsigned i = 0; i < count; i++)
        total *= letters;
    for (unsigned number = 0; number < total; number += stride) {
        struct step steps[3];
        unsigned rest = number;
        for (unsigned i = 0; i < count; i++, rest /= letters) {
            steps[i] = alphabet[rest % letters];
            steps[i].lane = beside ? steps[i].lane : 0;
        }
        life->past = past;
        life->next_version = next_version;
        check_workload(life, steps, count);
        dev_sim_store_restore(life->fixture.store);
    }
}

static void short_workloads(bool volatile_cache, unsigned stride)
{
    struct life *life = calloc(1, sizeof *life);

    assert_non_null(life);
    life_create(life, CHAIN_DEVICE_BYTES, 2, SEED);
    life->fixture.volatile_cache = volatile_cache;
    life_begin(life);
    assert_true(life_run(life, prelude, ARRAY_LEN(prelude)));
    life_settle(life);
    life_snapshot(life);
    check_short(life, 1, false, 1);
    check_short(life, 2, false, 1);
    check_short(life, 2, true, 1);
    check_short(life, 3, false, is_long() ? 1 : stride);
    check_short(life, 3, true, is_long() ? 1 : stride);
    printf("%" PRIu64 " images\n", life->images);
    life_destroy(life);
    free(life);
}

static void every_crash_in_workloads_of_up_to_three_operations_recovers(void **state)
{
    (void)state;
    short_workloads(true, 1);
}

static void so_it_does_on_a_drive_without_a_volatile_cache(void **state)
{
    (void)state;
    short_workloads(false, 1);
}

/* ---- many lives ---- */

static void expect_no_violation(uint64_t seed, unsigned chains, const struct chain *chain)
{
    char wrong[600] = "";

    chains *= is_long() ? 20 : 1;
    if (chain_run(seed, chains, chain, wrong, sizeof wrong) < chains)
        fail_msg("%s", wrong);
}

static void chains_of_crashes_lose_nothing(void **state)
{
    (void)state;
    expect_no_violation(SEED, 400, &(struct chain){.lives = 8, .images = 32, .partition_bits = 2});
}

/* So many partitions that a checkpoint is written in several chunks, while pieces change. */
static void chains_of_crashes_lose_nothing_from_checkpoints_in_parts(void **state)
{
    (void)state;
    expect_no_violation(SEED + 300000, 60, &(struct chain){.lives = 8, .partition_bits = 17});
}

static void a_damaged_checkpoint_loses_nothing(void **state)
{
    (void)state;
    expect_no_violation(SEED + 400000, 150,
                        &(struct chain){.lives = 12, .damage_checkpoint = true});
}

static void a_failing_drive_loses_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    expect_no_violation(SEED + 100000, 400,
                        &(struct chain){.lives = 6, .faults = true, .partition_bits = 2});
}

static void damage_is_repaired_or_told_and_never_wrong_data(void **state)
{
    (void)state;
    expect_no_violation(SEED + 200000, 600,
                        &(struct chain){.lives = 4, .damage = true, .partition_bits = 2});
}

static void at_least_20000_different_images_were_opened(void **state)
{
    (void)state;
    printf("%" PRIu64 " different images of drives were opened and compared\n",
           life_different_images());
    assert_true(life_different_images() >= IMAGES_WANTED);
}

static void discard(void *arg, enum log_level level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_crash_in_workloads_of_up_to_three_operations_recovers),
        cmocka_unit_test(so_it_does_on_a_drive_without_a_volatile_cache),
        cmocka_unit_test(chains_of_crashes_lose_nothing),
        cmocka_unit_test(chains_of_crashes_lose_nothing_from_checkpoints_in_parts),
        cmocka_unit_test(a_damaged_checkpoint_loses_nothing),
        cmocka_unit_test(a_failing_drive_loses_nothing_that_was_acknowledged),
        cmocka_unit_test(damage_is_repaired_or_told_and_never_wrong_data),
        cmocka_unit_test(at_least_20000_different_images_were_opened),
    };

    log_set_sink(discard, NULL); /* thousands of recoveries would be told */
    cmocka_set_test_filter(getenv("CASE"));
    return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
