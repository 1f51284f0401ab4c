/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/test_reactor.h"
#include "dev/dev.h"
#include "shoal/error.h"

#define BLOCK DEV_BLOCK_BYTES

static struct test_clock test_clock;
static struct reactor *reactor;
static struct fiber_pool *pool;
static struct dev_sim_store *store;
static struct dev *inner;
static struct dev *dev;
static struct dev_record_log record;
static struct dev_record_split split;
static _Alignas(4096) uint8_t memory[2 * BLOCK];

static int setup(void **state)
{
    (void)state;
    reactor = test_reactor_virtual(&test_clock, 1);
    assert_int_equal(fiber_pool_create(reactor, "test", 4, 0, &pool), 0);
    assert_int_equal(dev_sim_store_create(16 * BLOCK, &store), 0);
    assert_int_equal(dev_sim_store_snapshot(store), 0);
    assert_int_equal(dev_sim_open(reactor, store,
                                  &(struct dev_sim_config){.volatile_cache = true, .seed = 1},
                                  &inner),
                     0);
    assert_int_equal(dev_record_open(inner, &record, &dev), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dev_record_split_free(&split);
    dev_record_log_free(&record);
    dev_sim_store_destroy(store);
    fiber_pool_destroy(pool);
    reactor_destroy(reactor);
    return 0;
}

static void workload(void *arg)
{
    (void)arg;
    memset(memory, 1, sizeof(memory));
    assert_int_equal(dev_write(dev, 0, memory, BLOCK), 0); /* write 0 */
    assert_int_equal(dev_flush(dev), 0);
    dev_record_mark(&record, 42);
    memset(memory, 2, sizeof(memory));
    assert_int_equal(dev_write(dev, 0, memory, 2 * BLOCK), 0); /* write 1 */
    dev_sim_fail_nth(inner, 1, SHOAL_E_IO);
    assert_int_equal(dev_write(dev, 5 * BLOCK, memory, BLOCK), SHOAL_E_IO); /* write 2 */
    assert_int_equal(dev_flush(dev), 0);
    assert_int_equal(dev_read(dev, 0, memory, BLOCK), 0);
}

static void run_workload(void)
{
    assert_int_equal(fiber_spawn(pool, workload, NULL), 0);
    test_run_idle(reactor, &test_clock);
    dev_close(dev);
}

static void assert_block(uint64_t block, size_t from, size_t to, uint8_t value)
{
    uint8_t bytes[BLOCK];
    dev_sim_store_read(store, block * BLOCK, bytes, BLOCK);
    for (size_t i = from; i < to; i++)
        assert_int_equal(bytes[i], value);
}

static void the_log_keeps_the_order_of_events(void **state)
{
    (void)state;
    static const struct dev_record_entry expected[] = {
        {DEV_RECORD_WRITE_SUBMITTED, 0, 0}, {DEV_RECORD_WRITE_COMPLETED, 0, 0},
        {DEV_RECORD_FLUSH_SUBMITTED, 0, 0}, {DEV_RECORD_FLUSH_COMPLETED, 0, 0},
        {DEV_RECORD_MARK, 0, 42},           {DEV_RECORD_WRITE_SUBMITTED, 0, 1},
        {DEV_RECORD_WRITE_COMPLETED, 0, 1}, {DEV_RECORD_WRITE_SUBMITTED, 0, 2},
        {DEV_RECORD_WRITE_COMPLETED, SHOAL_E_IO, 2},
        {DEV_RECORD_FLUSH_SUBMITTED, 0, 1}, {DEV_RECORD_FLUSH_COMPLETED, 0, 1},
    };
    run_workload();
    assert_int_equal(record.entry_count, sizeof(expected) / sizeof(expected[0]));
    for (size_t i = 0; i < record.entry_count; i++) {
        assert_int_equal(record.entries[i].kind, expected[i].kind);
        assert_int_equal(record.entries[i].id, expected[i].id);
        assert_int_equal(record.entries[i].result, expected[i].result);
    }
    assert_int_equal(record.write_count, 3);
    assert_int_equal(record.writes[1].len, 2 * BLOCK);
    assert_int_equal(record.writes[1].bytes[0], 2);
}

static void a_write_is_durable_when_a_flush_after_it_ended(void **state)
{
    (void)state;
    run_workload();
    /* After so many entries: how many writes are durable, how many in doubt. */
    static const size_t durable[] = {0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2};
    static const size_t in_doubt[] = {0, 1, 1, 1, 0, 0, 1, 1, 2, 2, 2, 1};
    for (size_t prefix = 0; prefix <= record.entry_count; prefix++) {
        dev_record_split(&record, prefix, true, &split);
        assert_int_equal(split.durable_count, durable[prefix]);
        assert_int_equal(split.in_doubt_count, in_doubt[prefix]);
    }
    assert_int_equal(split.in_doubt[0], 2); /* it failed: any part may be there, for ever */

    dev_record_split(&record, 7, false, &split); /* without a cache, complete is durable */
    assert_int_equal(split.durable_count, 2);
    dev_record_split(&record, 6, false, &split);
    assert_int_equal(split.durable_count, 1);
    assert_int_equal(split.in_doubt_count, 1);
}

static void an_image_holds_what_was_chosen(void **state)
{
    (void)state;
    run_workload();
    dev_record_split(&record, 9, true, &split);
    assert_int_equal(split.in_doubt_count, 2);

    struct dev_record_fate fates[2] = {{512, BLOCK + 512}, {0, 0}};
    dev_sim_store_restore(store);
    dev_record_apply(&record, &split, fates, store);
    assert_block(0, 0, 512, 1);
    assert_block(0, 512, BLOCK, 2);
    assert_block(1, 0, 512, 2);
    assert_block(1, 512, BLOCK, 0);
    assert_block(5, 0, BLOCK, 0);

    fates[0] = (struct dev_record_fate){0, 0};
    fates[1] = (struct dev_record_fate){0, BLOCK};
    dev_sim_store_restore(store);
    dev_record_apply(&record, &split, fates, store);
    assert_block(0, 0, BLOCK, 1);
    assert_block(1, 0, BLOCK, 0);
    assert_block(5, 0, BLOCK, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_log_keeps_the_order_of_events),
        TEST(a_write_is_durable_when_a_flush_after_it_ended),
        TEST(an_image_holds_what_was_chosen),
    };
    return cmocka_run_group_tests_name("dev_record", tests, NULL, NULL);
}
