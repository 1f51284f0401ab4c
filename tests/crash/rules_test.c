/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each rule of crash safety is switched off in turn, and the crash tests must notice. A rule that
 * random chains of lives meet often enough is looked for there; one that takes a special occasion
 * has its own scene, which must go well with the rule, and badly without.
 */
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
#include "chain.h"
#include "engine/rules.h"

#define SEED 7000000u
#define CHAINS_MAX 3000u

static void expect_noticed(const struct chain *chain)
{
    char wrong[600] = "";
    unsigned number = chain_run(SEED, CHAINS_MAX, chain, wrong, sizeof wrong);

    if (number == CHAINS_MAX)
        fail_msg("rule %#x switched off was not noticed in %u chains", chain->break_rules, number);
    printf("noticed in chain %u: %s\n", number, wrong);
}

#define RULE_TEST(name, rule, ...)                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        expect_noticed(&(struct chain){.break_rules = rule, __VA_ARGS__});                         \
    }

RULE_TEST(two_journal_writes_in_flight_are_noticed, ENGINE_RULE_ONE_JOURNAL_WRITE, .lives = 8)
RULE_TEST(a_rewritten_block_of_acknowledged_records_is_noticed, ENGINE_RULE_NO_REWRITE, .lives = 8)
RULE_TEST(not_waiting_for_the_extent_is_noticed, ENGINE_RULE_WAIT_EXTENT, .lives = 8)
RULE_TEST(a_missing_flush_is_noticed, ENGINE_RULE_FLUSH, .lives = 8)
RULE_TEST(a_replay_that_does_not_verify_is_noticed, ENGINE_RULE_VERIFY, .lives = 8)
RULE_TEST(a_freed_extent_used_before_the_barrier_is_noticed, ENGINE_RULE_QUARANTINE, .lives = 8)
RULE_TEST(a_hollow_record_that_is_dropped_is_noticed, ENGINE_RULE_HOLLOW, .lives = 4,
          .damage = true)
RULE_TEST(damage_taken_for_the_end_is_noticed, ENGINE_RULE_DAMAGE, .lives = 4, .damage = true)
RULE_TEST(a_checkpoint_ahead_of_the_journal_is_noticed, ENGINE_RULE_CHECKPOINT_DURABLE, .lives = 8)
/* Two chunks of committed pieces take more than 65,536 partitions. */
RULE_TEST(a_checkpoint_without_sequences_is_noticed, ENGINE_RULE_CHECKPOINT_SEQUENCE, .lives = 8,
          .partition_bits = 17)
RULE_TEST(a_ring_that_forgets_too_early_is_noticed, ENGINE_RULE_RING_RETENTION, .lives = 12,
          .damage_checkpoint = true)
RULE_TEST(not_waiting_for_earlier_journal_writes_is_noticed, ENGINE_RULE_EARLIER_WRITES, .lives = 8,
          .forgive_stale = true)
RULE_TEST(superblocks_written_together_are_noticed, ENGINE_RULE_SUPERBLOCK_TURNS, .lives = 8)
RULE_TEST(going_on_after_a_failed_journal_write_is_noticed, ENGINE_RULE_STOP, .lives = 6,
          .faults = true)

/* ---- scenes ---- */

struct scene {
    struct fixture fixture;
    struct dev *dev;
    struct engine *engine;
    struct engine_report report;
    uint32_t break_rules;
};

static void scene_open(struct scene *scene)
{
    const struct engine_config config = {.break_rules = scene->break_rules};

    scene->dev = fixture_open_drive(&scene->fixture, false);
    CHECK(engine_open(scene->dev, scene->fixture.arena, &config, &scene->engine, &scene->report) ==
          0);
}

/* All that was said to be durable stays, and nothing is said any more. */
static void scene_lose_power(struct scene *scene)
{
    dev_sim_crash(scene->dev, &scene->fixture.prng);
    engine_close(scene->engine, true);
    dev_close(scene->dev);
}

/* Damage inside the journal costs what lies behind it, which the next life must not find again. */
static void damage_twice_fiber(void *arg)
{
    struct scene *scene = arg;

    fixture_format(&scene->fixture, 2);
    scene_open(scene);
    for (unsigned i = 0; i < 8; i++) {
        const struct piece piece = {.version = i + 1, .form = BLOB_BYTES, .len = 700};
        CHECK(fixture_prepare(&scene->fixture, scene->engine, i, &piece) == 0);
    }
    scene_lose_power(scene);
    /* Each of them made a group of one block; the ring lies behind the superblock. */
    dev_sim_store_flip_bit(scene->fixture.store, 3 * DEV_BLOCK_BYTES + 100, 1);
    scene_open(scene);
    CHECK(scene->report.stale);
    CHECK(engine_clear_stale(scene->engine) == 0);
    scene_lose_power(scene);
    scene_open(scene);
    engine_close(scene->engine, true);
    dev_close(scene->dev);
}

static bool told_again(uint32_t break_rules)
{
    struct scene scene = {.break_rules = break_rules};

    fixture_create(&scene.fixture, CHAIN_DEVICE_BYTES, SEED);
    fixture_run(&scene.fixture, damage_twice_fiber, &scene);
    fixture_destroy(&scene.fixture);
    return scene.report.stale;
}

static void damage_that_was_told_is_not_told_again(void **state)
{
    (void)state;
    assert_false(told_again(0));
    assert_true(told_again(ENGINE_RULE_GENERATION));
}

static void discard(void *arg, enum log_level level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_journal_writes_in_flight_are_noticed),
        cmocka_unit_test(a_rewritten_block_of_acknowledged_records_is_noticed),
        cmocka_unit_test(not_waiting_for_the_extent_is_noticed),
        cmocka_unit_test(a_missing_flush_is_noticed),
        cmocka_unit_test(a_replay_that_does_not_verify_is_noticed),
        cmocka_unit_test(a_freed_extent_used_before_the_barrier_is_noticed),
        cmocka_unit_test(a_hollow_record_that_is_dropped_is_noticed),
        cmocka_unit_test(damage_taken_for_the_end_is_noticed),
        cmocka_unit_test(a_checkpoint_ahead_of_the_journal_is_noticed),
        cmocka_unit_test(a_checkpoint_without_sequences_is_noticed),
        cmocka_unit_test(a_ring_that_forgets_too_early_is_noticed),
        cmocka_unit_test(not_waiting_for_earlier_journal_writes_is_noticed),
        cmocka_unit_test(damage_that_was_told_is_not_told_again),
        cmocka_unit_test(superblocks_written_together_are_noticed),
        cmocka_unit_test(going_on_after_a_failed_journal_write_is_noticed),
    };

    log_set_sink(discard, NULL); /* thousands of recoveries would be told */
    cmocka_set_test_filter(getenv("CASE"));
    return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
