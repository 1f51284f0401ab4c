/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every operation of the device fails once, in turn, in the life of a small engine; so does every
 * object that a pool gives out. What was acknowledged is there afterwards, and nothing hangs. So it is
 * with what is done while no engine runs.
 */
#include "base/log.h"
#include "engine/test_engine.h"

#define OBJECTS 6u

static struct outcome {
    bool prepared, committed, dropped;
} outcomes[OBJECTS];

static uint32_t length_of(uint64_t n)
{
    return (uint32_t)(n * 9001 + 10);
}

/* What can be done is done; what fails is left. */
static void use(struct test_device *t)
{
    for (uint64_t n = 0; n < OBJECTS; n++) {
        struct outcome *outcome = &outcomes[n];
        *outcome = (struct outcome){0};
        outcome->prepared = test_prepare(t, n, n + 1, length_of(n)) == 0;
        outcome->committed = outcome->prepared && test_commit(t, n, n + 1) == 0;
        if (n == 2)
            (void)engine_checkpoint(t->engine);
        if (n == 3) {
            struct engine_entry entry = {.id = test_id(1), .version = test_version(2)};
            outcomes[1].dropped =
                outcomes[1].committed && engine_drop(t->engine, &entry.id, &entry.version) == 0;
            struct blob_desc desc = test_desc(0, 1, length_of(0));
            test_fill(t->payload, 0, 1, length_of(0));
            struct iovec payload = {t->payload, length_of(0)};
            if (engine_repair(t->engine, &desc, &payload, 1, NULL) != 0)
                outcomes[0].committed = outcomes[0].prepared = false; /* it may be hollow */
        }
        const uint8_t *data;
        int rc = test_read(t, n, n + 1, 0, length_of(n), &data);
        test_fill(t->payload, n, n + 1, length_of(n));
        if (rc == 0)
            assert_memory_equal(data, t->payload, length_of(n));
    }
    (void)engine_sync(t->engine);
}

static void check(struct test_device *t)
{
    for (uint64_t n = 0; n < OBJECTS; n++) {
        bool there = test_committed(t, n, n + 1) || test_prepared(t, n, n + 1);
        if (outcomes[n].dropped)
            assert_true(n == 1);
        else if (outcomes[n].prepared)
            assert_true(there);
        if (outcomes[n].prepared && there)
            test_verify(t, n, n + 1, length_of(n));
    }
}

static uint64_t operations;

/* One life with a fault in it, then one without. @n counts from the opening. */
static void body_io(struct test_device *t)
{
    test_format(t, 3);
    for (uint64_t n = 0; n == 0 || n <= operations; n++) {
        struct engine_format_config config = {.target = 42, .partition_bits = 3, .force = true};
        assert_int_equal(engine_format(t->dev, t->arena, &config), 0);
        memset(outcomes, 0, sizeof outcomes);
        uint64_t before = dev_sim_operations(t->dev);
        dev_sim_fail_nth(t->dev, n, n % 3 == 1 ? SHOAL_E_FULL : SHOAL_E_IO);
        int rc = test_try_open(t);
        if (rc == 0) {
            use(t);
            engine_close(t->engine, false);
        }
        if (n == 0)
            operations = dev_sim_operations(t->dev) - before;
        dev_sim_fail_nth(t->dev, 0, 0);
        test_open(t);
        check(t);
        engine_close(t->engine, false);
        struct engine_fsck_result result;
        assert_int_equal(engine_fsck(t->dev, t->arena, false, stderr, &result), 0);
        assert_int_equal(result.errors, 0);
    }
    assert_true(operations > 30);
}

static void each_operation_of_the_device_may_fail_once(void **state)
{
    (void)state;
    test_on(4 << 20, body_io);
}

static void body_memory(struct test_device *t)
{
    bool fired = true;
    for (uint64_t n = 1; fired; n++) {
        struct engine_format_config config = {.target = 42, .partition_bits = 3, .force = true};
        assert_int_equal(engine_format(t->dev, t->arena, &config), 0);
        memset(outcomes, 0, sizeof outcomes);
        pool_fail_after(n);
        int rc = test_try_open(t);
        if (rc == 0) {
            use(t);
            engine_close(t->engine, false);
        }
        fired = pool_fail_fired();
        pool_fail_after(0);
        test_open(t);
        check(t);
        engine_close(t->engine, true);
    }
}

static void each_object_of_a_pool_may_be_missing_once(void **state)
{
    (void)state;
    test_on(4 << 20, body_memory);
}

/* ---- what is done while no engine runs ---- */

#define PIECES 8u

static FILE *nowhere;

static void smash(struct test_device *t, const uint64_t at[2])
{
    uint8_t noise[LAYOUT_BLOCK];
    memset(noise, 0xa5, sizeof noise);
    for (unsigned i = 0; i < 2; i++)
        dev_sim_store_write(t->store, at[i] * LAYOUT_BLOCK, noise, sizeof noise);
}

enum offline { CHECKS, REPAIRS, REBUILDS, REBUILDS_ALL, INSPECTS, FORMATS };

static int offline(struct test_device *t, enum offline what)
{
    struct engine_format_config config = {.target = 42, .partition_bits = 3, .force = true};
    struct engine_fsck_result result;
    if (what == FORMATS)
        return engine_format(t->dev, t->arena, &config);
    if (what == INSPECTS)
        return engine_inspect(t->dev, t->arena, nowhere);
    return engine_fsck(t->dev, t->arena, what != CHECKS, nowhere, &result);
}

/* Stored, and closed without a last checkpoint. */
static void fill(struct test_device *t, struct layout *layout)
{
    struct engine_format_config config = {.target = 42, .partition_bits = 3, .force = true};
    assert_int_equal(engine_format(t->dev, t->arena, &config), 0);
    test_open(t);
    for (uint64_t n = 0; n < PIECES; n++) {
        test_put(t, n, n + 1, length_of(n));
        if (n == PIECES / 2)
            assert_int_equal(engine_checkpoint(t->engine), 0);
    }
    assert_int_equal(test_prepare(t, PIECES, PIECES + 1, 100), 0);
    *layout = t->engine->layout;
    engine_close(t->engine, true);
}

/* What is still there is what was written. */
static void nothing_is_wrong(struct test_device *t)
{
    test_open(t);
    for (uint64_t n = 0; n < PIECES; n++) {
        const uint8_t *data;
        int rc = test_read(t, n, n + 1, 0, length_of(n), &data);
        test_fill(t->payload, n, n + 1, length_of(n));
        if (rc == 0)
            assert_memory_equal(data, t->payload, length_of(n));
        else
            assert_true(rc == SHOAL_E_HOLLOW || rc == SHOAL_E_NOT_FOUND);
    }
    engine_close(t->engine, true);
}

static void body_offline(struct test_device *t)
{
    for (enum offline what = CHECKS; what <= FORMATS; what++) {
        bool fired = true;
        uint64_t n = 0;
        while (fired) {
            struct layout layout;
            fill(t, &layout);
            if (what == REBUILDS || what == REBUILDS_ALL)
                smash(t, layout.checkpoint_start);
            if (what == REBUILDS_ALL)
                smash(t, layout.superblocks);
            uint64_t before = dev_sim_operations(t->dev);
            dev_sim_fail_nth(t->dev, ++n, SHOAL_E_IO);
            int rc = offline(t, what);
            fired = dev_sim_operations(t->dev) - before >= n;
            dev_sim_fail_nth(t->dev, 0, 0);
            if (!fired)
                assert_int_equal(rc, 0);
            assert_int_equal(offline(t, what == FORMATS ? FORMATS : REPAIRS), 0);
            nothing_is_wrong(t);
        }
        assert_true(n > 4);
    }
}

static void so_may_each_of_format_fsck_and_inspect(void **state)
{
    (void)state;
    test_on(4 << 20, body_offline);
}

static int begin(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_ERROR);
    nowhere = fopen("/dev/null", "w");
    return nowhere == NULL;
}

static int end(void **state)
{
    (void)state;
    return fclose(nowhere);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_of_the_device_may_fail_once),
        cmocka_unit_test(each_object_of_a_pool_may_be_missing_once),
        cmocka_unit_test(so_may_each_of_format_fsck_and_inspect),
    };
    return cmocka_run_group_tests_name("engine fault", tests, begin, end);
}
