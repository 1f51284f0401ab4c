/* SPDX-License-Identifier: Apache-2.0 */
/* Memory runs out at each allocation in turn: it is said so, and the device is as it was. */
#include "base/log.h"
#include "base/test_memory.h"
#include "engine/test_engine.h"

#define PIECES 30u

static FILE *out; /* where nobody looks */

static uint32_t length_of(uint64_t n)
{
    return (uint32_t)(n * 5003 % 20000);
}

/* Opened without a clean end: a checkpoint of some chunks, and records after it. */
static void fill(struct test_device *t)
{
    test_start(t, 4);
    for (uint64_t n = 0; n < PIECES; n++)
        test_put(t, n, n + 1, length_of(n));
    assert_int_equal(test_prepare(t, PIECES, PIECES + 1, 100), 0);
    assert_int_equal(engine_checkpoint(t->engine), 0);
    for (uint64_t n = 0; n < PIECES; n += 3)
        test_put(t, n, PIECES + n + 1, length_of(n));
    assert_int_equal(test_prepare(t, PIECES + 1, PIECES + 2, 100), 0);
    engine_close(t->engine, true);
}

static void verify(struct test_device *t)
{
    for (uint64_t n = 0; n < PIECES; n++)
        test_verify(t, n, n % 3 == 0 ? PIECES + n + 1 : n + 1, length_of(n));
}

static void smash(struct test_device *t, uint64_t block)
{
    uint8_t noise[LAYOUT_BLOCK];
    memset(noise, 0xa5, sizeof noise);
    dev_sim_store_write(t->store, block * LAYOUT_BLOCK, noise, sizeof noise);
}

static void smash_checkpoints(struct test_device *t)
{
    struct layout layout;
    assert_int_equal(layout_compute(t->dev->size_bytes, &layout), 0);
    smash(t, layout.checkpoint_start[0]);
    smash(t, layout.checkpoint_start[1]);
}

static void smash_superblocks(struct test_device *t)
{
    struct layout layout;
    assert_int_equal(layout_compute(t->dev->size_bytes, &layout), 0);
    smash(t, layout.superblocks[0]);
    smash(t, layout.superblocks[1]);
}

static int fsck(struct test_device *t)
{
    struct engine_fsck_result result;
    return engine_fsck(t->dev, t->arena, true, out, &result);
}

static int fsck_rebuilding(struct test_device *t)
{
    smash_checkpoints(t);
    return fsck(t);
}

static int fsck_rebuilding_all(struct test_device *t)
{
    smash_superblocks(t);
    return fsck_rebuilding(t);
}

static int inspect(struct test_device *t)
{
    return engine_inspect(t->dev, t->arena, out);
}

/* @call is NO_MEMORY for as long as an allocation of it fails, and then 0. */
static void each_allocation_fails(struct test_device *t, int (*call)(struct test_device *t),
                                  uint64_t at_least)
{
    uint64_t nth = 0;
    for (bool fired = true; fired;) {
        memory_fail_after(++nth);
        int rc = call(t);
        fired = memory_fail_fired();
        assert_int_equal(rc, fired ? SHOAL_E_NO_MEMORY : 0);
    }
    assert_true(nth > at_least);
}

static int open_and_close(struct test_device *t)
{
    int rc = test_try_open(t);
    if (rc == 0)
        engine_close(t->engine, true);
    return rc;
}

static void body_open(struct test_device *t)
{
    fill(t);
    each_allocation_fails(t, open_and_close, 20);
    test_open(t);
    assert_false(t->report.stale);
    verify(t);
    engine_close(t->engine, false);
}

static void body_fsck(struct test_device *t)
{
    fill(t);
    each_allocation_fails(t, fsck, 20);
    each_allocation_fails(t, inspect, 20);
    test_open(t);
    assert_false(t->report.stale);
    verify(t);
    engine_close(t->engine, true);
    each_allocation_fails(t, fsck_rebuilding, 30);
    each_allocation_fails(t, fsck_rebuilding_all, 30);
    test_open(t);
    assert_true(t->report.stale);
    verify(t);
    engine_close(t->engine, false);
}

static void body_running(struct test_device *t)
{
    test_start(t, 4);
    assert_int_equal(test_prepare(t, 1, 1, 100), 0);
    memory_fail_after(1);
    assert_int_equal(engine_checkpoint(t->engine), SHOAL_E_NO_MEMORY);
    assert_true(memory_fail_fired());
    assert_int_equal(engine_checkpoint(t->engine), 0);
    memory_fail_after(1);
    struct blob_id id = test_id(1);
    assert_int_equal(engine_drop_partition(t->engine, blob_partition(&id, 4)),
                     SHOAL_E_NO_MEMORY);
    assert_true(memory_fail_fired());
    assert_true(test_prepared(t, 1, 1));
    assert_int_equal(engine_drop_partition(t->engine, blob_partition(&id, 4)), 0);
    assert_false(test_prepared(t, 1, 1));
    engine_close(t->engine, true);
}

/* The simulated drive itself needs none for writes in one part when it has no cache. */
static void on_a_drive_without_cache(void (*body)(struct test_device *t))
{
    struct test_device *t = test_create(8 << 20);
    dev_close(t->dev);
    t->sim.volatile_cache = false;
    test_open_dev(t);
    test_run(t, body);
    test_destroy(t);
}

static void opening_without_memory_leaves_the_device_alone(void **state)
{
    (void)state;
    on_a_drive_without_cache(body_open);
}

static void so_do_checking_and_rebuilding(void **state)
{
    (void)state;
    on_a_drive_without_cache(body_fsck);
}

static void a_running_engine_goes_on_without_a_checkpoint_or_a_drop(void **state)
{
    (void)state;
    on_a_drive_without_cache(body_running);
}

static int quiet(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_ERROR);
    out = fopen("/dev/null", "w");
    return out == NULL;
}

static int forget_output(void **state)
{
    (void)state;
    return fclose(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_without_memory_leaves_the_device_alone),
        cmocka_unit_test(so_do_checking_and_rebuilding),
        cmocka_unit_test(a_running_engine_goes_on_without_a_checkpoint_or_a_drop),
    };
    return cmocka_run_group_tests_name("engine memory", tests, quiet, forget_output);
}
