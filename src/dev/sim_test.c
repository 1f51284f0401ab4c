/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "base/metrics.h"
#include "base/random.h"
#include "core/test_reactor.h"
#include "dev/dev.h"
#include "shoal/error.h"

#define BLOCK DEV_BLOCK_BYTES
#define BLOCKS 64u

static struct test_clock test_clock;
static struct reactor *reactor;
static struct fiber_pool *pool;
static struct dev_sim_store *store;
static struct dev *dev;
static struct prng prng;
static _Alignas(4096) uint8_t memory[4 * BLOCK];
static _Alignas(4096) uint8_t other[4 * BLOCK];

static int setup(void **state)
{
    (void)state;
    reactor = test_reactor_virtual(&test_clock, 1);
    prng_seed(&prng, 5);
    assert_int_equal(fiber_pool_create(reactor, "test", 4, 0, &pool), 0);
    assert_int_equal(dev_sim_store_create(BLOCKS * BLOCK, &store), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dev_sim_store_destroy(store);
    fiber_pool_destroy(pool);
    reactor_destroy(reactor);
    return 0;
}

static void open_sim(struct dev_sim_config config)
{
    config.seed = 3;
    assert_int_equal(dev_sim_open(reactor, store, &config, &dev), 0);
}

static void in_fiber(void (*run)(void *arg))
{
    assert_int_equal(fiber_spawn(pool, run, NULL), 0);
    test_run_idle(reactor, &test_clock);
    assert_int_equal(fiber_pool_in_use(pool), 0);
}

static void write_blocks(uint64_t block, unsigned count, uint8_t value)
{
    memset(memory, value, count * BLOCK);
    assert_int_equal(dev_write(dev, block * BLOCK, memory, count * BLOCK), 0);
}

/* How many sectors of 512 bytes hold the value, in the store itself. */
static unsigned sectors_holding(uint64_t block, unsigned count, uint8_t value)
{
    unsigned holding = 0;
    for (unsigned sector = 0; sector < count * 8; sector++) {
        uint8_t bytes[512];
        uint8_t wanted[512];
        memset(wanted, value, sizeof(wanted));
        dev_sim_store_read(store, block * BLOCK + sector * 512, bytes, sizeof(bytes));
        holding += memcmp(bytes, wanted, sizeof(bytes)) == 0;
    }
    return holding;
}

/* ---- without faults ---- */

static void write_then_read(void *arg)
{
    (void)arg;
    write_blocks(3, 2, 0xaa);
    memset(memory, 0x11, BLOCK);
    memset(other, 0x22, BLOCK);
    struct iovec iov[2] = {{memory, BLOCK}, {other, BLOCK}};
    assert_int_equal(dev_writev(dev, 10 * BLOCK, iov, 2), 0);
    assert_int_equal(dev_read(dev, 3 * BLOCK, memory, 2 * BLOCK), 0);
    assert_int_equal(memory[0], 0xaa);
    assert_int_equal(memory[2 * BLOCK - 1], 0xaa);
    assert_int_equal(dev_read(dev, 10 * BLOCK, memory, 2 * BLOCK), 0);
    assert_int_equal(memory[BLOCK - 1], 0x11);
    assert_int_equal(memory[BLOCK], 0x22);
    assert_int_equal(dev_flush(dev), 0);
}

static void what_was_written_is_read(void **state)
{
    (void)state;
    for (unsigned slow = 0; slow < 2; slow++) {
        open_sim((struct dev_sim_config){.latency_min_ns = slow * 100,
                                         .latency_max_ns = slow * 200});
        uint64_t start_ns = test_clock.now_ns;
        in_fiber(write_then_read);
        if (slow)
            assert_in_range(test_clock.now_ns - start_ns, 5 * 100, 5 * 200);
        else
            assert_int_equal(test_clock.now_ns, start_ns);
        dev_close(dev);
    }
}

static void refuse_bad_ranges(void *arg)
{
    (void)arg;
    assert_int_equal(dev_read(dev, BLOCKS * BLOCK, memory, BLOCK), SHOAL_E_INVALID);
    assert_int_equal(dev_read(dev, (BLOCKS - 1) * BLOCK, memory, 2 * BLOCK), SHOAL_E_INVALID);
    assert_int_equal(dev_read(dev, UINT64_MAX - BLOCK + 1, memory, BLOCK), SHOAL_E_INVALID);
    assert_int_equal(dev_read(dev, 512, memory, BLOCK), SHOAL_E_INVALID);
    assert_int_equal(dev_read(dev, 0, memory, 512), SHOAL_E_INVALID);
    assert_int_equal(dev_read(dev, 0, memory + 512, BLOCK), SHOAL_E_INVALID);
    assert_int_equal(dev_read(dev, 0, memory, 0), SHOAL_E_INVALID);
    struct iovec iov[DEV_MAX_IOV + 1] = {{0}};
    assert_int_equal(dev_writev(dev, 0, iov, DEV_MAX_IOV + 1), SHOAL_E_INVALID);
    dev->read_only = true;
    assert_int_equal(dev_write(dev, 0, memory, BLOCK), SHOAL_E_INVALID);
    assert_int_equal(dev_read(dev, 0, memory, BLOCK), 0);
}

static void a_range_outside_or_misaligned_is_refused(void **state)
{
    (void)state;
    open_sim((struct dev_sim_config){0});
    in_fiber(refuse_bad_ranges);
    dev_close(dev);
}

static void a_store_is_open_once(void **state)
{
    (void)state;
    struct dev *second;
    open_sim((struct dev_sim_config){0});
    assert_int_equal(dev_sim_open(reactor, store, &(struct dev_sim_config){0}, &second),
                     SHOAL_E_BUSY);
    dev_close(dev);
}

static void metrics_count_operations(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    char *text;
    size_t length;
    open_sim((struct dev_sim_config){.latency_min_ns = 5000, .latency_max_ns = 5000});
    dev_register_metrics(dev, metrics, "target=\"7\"");
    in_fiber(write_then_read);
    assert_int_equal(metrics_render(metrics, &text, &length), 0);
    assert_non_null(strstr(text, "shoal_dev_operation_seconds_count{op=\"read\",target=\"7\"} 2"));
    assert_non_null(
        strstr(text, "shoal_dev_transferred_bytes_total{op=\"write\",target=\"7\"} 16384"));
    assert_non_null(strstr(text, "shoal_dev_errors_total{target=\"7\"} 0"));
    free(text);
    dev_close(dev);
    metrics_destroy(metrics);
}

/* ---- losing power ---- */

static void write_flush_write(void *arg)
{
    (void)arg;
    write_blocks(0, 1, 1);
    assert_int_equal(dev_flush(dev), 0);
    write_blocks(1, 1, 2);
    write_blocks(2, 1, 3);
    assert_int_equal(dev_sim_store_unsynced(store), 2);
}

static void write_after_the_end(void *arg)
{
    (void)arg;
    assert_int_equal(dev_write(dev, 5 * BLOCK, memory, BLOCK), SHOAL_E_SHUTDOWN);
    assert_int_equal(dev_flush(dev), SHOAL_E_SHUTDOWN);
    assert_int_equal(dev_read(dev, 0, memory, BLOCK), SHOAL_E_SHUTDOWN);
}

static void a_crash_keeps_what_was_flushed_and_any_part_of_the_rest(void **state)
{
    (void)state;
    unsigned kept[2] = {0};
    unsigned lost[2] = {0};
    unsigned torn = 0;
    unsigned later_without_earlier = 0;

    assert_int_equal(dev_sim_store_snapshot(store), 0);
    for (unsigned round = 0; round < 300; round++) {
        open_sim((struct dev_sim_config){.volatile_cache = true});
        in_fiber(write_flush_write);
        dev_sim_crash(dev, &prng);
        in_fiber(write_after_the_end);
        dev_close(dev);
        assert_int_equal(sectors_holding(0, 1, 1), 8);
        assert_int_equal(sectors_holding(5, 1, 0), 8);
        unsigned sectors[2] = {sectors_holding(1, 1, 2), sectors_holding(2, 1, 3)};
        for (unsigned i = 0; i < 2; i++) {
            kept[i] += sectors[i] == 8;
            lost[i] += sectors[i] == 0;
            torn += sectors[i] != 8 && sectors[i] != 0;
        }
        later_without_earlier += sectors[0] == 0 && sectors[1] == 8;
        dev_sim_store_restore(store);
        assert_int_equal(sectors_holding(0, BLOCKS, 0), BLOCKS * 8);
    }
    for (unsigned i = 0; i < 2; i++)
        assert_true(kept[i] > 50 && lost[i] > 50);
    assert_true(torn > 20 && later_without_earlier > 5);
}

static void a_kill_keeps_what_was_completed(void **state)
{
    (void)state;
    open_sim((struct dev_sim_config){.volatile_cache = true});
    in_fiber(write_flush_write);
    dev_sim_kill(dev, &prng);
    in_fiber(write_after_the_end);
    dev_close(dev);
    assert_int_equal(sectors_holding(1, 1, 2), 8);
    assert_int_equal(sectors_holding(2, 1, 3), 8);
    assert_int_equal(dev_sim_store_unsynced(store), 2);
    dev_sim_store_lose_power(store, &prng);
    assert_int_equal(dev_sim_store_unsynced(store), 0);
    assert_int_equal(sectors_holding(0, 1, 1), 8);
}

static void write_until_shutdown(void *arg)
{
    (void)arg;
    memset(memory, 9, sizeof(memory));
    assert_int_equal(dev_write(dev, 0, memory, sizeof(memory)), SHOAL_E_SHUTDOWN);
}

static void a_write_under_way_at_a_crash_may_be_torn(void **state)
{
    (void)state;
    unsigned outcomes[3] = {0};
    assert_int_equal(dev_sim_store_snapshot(store), 0);
    for (unsigned round = 0; round < 100; round++) {
        open_sim((struct dev_sim_config){.latency_min_ns = 1000, .latency_max_ns = 1000});
        assert_int_equal(fiber_spawn(pool, write_until_shutdown, NULL), 0);
        reactor_poll_once(reactor);
        dev_sim_crash(dev, &prng);
        test_run_idle(reactor, &test_clock);
        dev_close(dev);
        unsigned sectors = sectors_holding(0, 4, 9);
        outcomes[sectors == 0 ? 0 : sectors == 32 ? 1 : 2]++;
        dev_sim_store_restore(store);
    }
    assert_true(outcomes[0] > 10 && outcomes[1] > 10 && outcomes[2] > 10);
}

/* The write completes while the flush is under way, so the flush says nothing of it. */
static void flush_beside_a_write(void *arg)
{
    (void)arg;
    assert_int_equal(dev_flush(dev), 0);
}

static void write_one(void *arg)
{
    (void)arg;
    write_blocks(0, 1, 1);
}

static void a_flush_covers_only_what_completed_before_it(void **state)
{
    (void)state;
    open_sim((struct dev_sim_config){
        .volatile_cache = true, .latency_min_ns = 1000, .latency_max_ns = 1000});
    assert_int_equal(fiber_spawn(pool, write_one, NULL), 0);
    assert_int_equal(fiber_spawn(pool, flush_beside_a_write, NULL), 0);
    test_run_idle(reactor, &test_clock);
    assert_int_equal(dev_sim_store_unsynced(store), 1);
    in_fiber(flush_beside_a_write);
    assert_int_equal(dev_sim_store_unsynced(store), 0);
    dev_close(dev);
}

/* ---- faults ---- */

static void write_at_7(void *arg)
{
    (void)arg;
    write_blocks(7, 4, 0x77);
}

static void a_lost_write_is_acknowledged_and_absent(void **state)
{
    (void)state;
    open_sim((struct dev_sim_config){.faults.lost_ppm = 1000000});
    in_fiber(write_at_7);
    assert_int_equal(sectors_holding(7, 4, 0), 32);
    dev_close(dev);
}

static void a_misdirected_write_arrives_elsewhere(void **state)
{
    (void)state;
    open_sim((struct dev_sim_config){.faults.misdirected_ppm = 1000000});
    in_fiber(write_at_7);
    assert_true(sectors_holding(7, 4, 0x77) < 32);
    assert_int_equal(sectors_holding(0, BLOCKS, 0x77), 32);
    dev_close(dev);
}

static void a_torn_write_is_acknowledged_and_partial(void **state)
{
    (void)state;
    unsigned partial = 0;
    open_sim((struct dev_sim_config){.faults.torn_ppm = 1000000, .sector_bytes = 4096});
    for (unsigned round = 0; round < 30; round++) {
        in_fiber(write_at_7);
        unsigned sectors = sectors_holding(7, 4, 0x77);
        assert_int_equal(sectors % 8, 0); /* whole blocks only */
        partial += sectors < 32;
        memset(other, 0, sizeof(other));
        dev_sim_store_write(store, 7 * BLOCK, other, 4 * BLOCK);
    }
    dev_close(dev);
    assert_true(partial > 0);
}

static unsigned bits_set(const uint8_t *bytes, size_t len)
{
    unsigned bits = 0;
    for (size_t i = 0; i < len; i++)
        bits += (unsigned)__builtin_popcount(bytes[i]);
    return bits;
}

static void read_with_rot(void *arg)
{
    (void)arg;
    struct dev_sim_faults none = {0};
    memset(memory, 0xff, sizeof(memory));
    assert_int_equal(dev_read(dev, 0, memory, 4 * BLOCK), 0);
    assert_int_equal(bits_set(memory, 4 * BLOCK), 1);
    dev_sim_set_faults(dev, &none);
    assert_int_equal(dev_read(dev, 0, memory, 4 * BLOCK), 0);
}

static void rot_on_the_way_is_gone_the_next_time(void **state)
{
    (void)state;
    open_sim((struct dev_sim_config){.faults.rot_read_ppm = 1000000});
    in_fiber(read_with_rot);
    assert_int_equal(bits_set(memory, 4 * BLOCK), 0);
    dev_close(dev);
}

static void rot_at_rest_stays(void **state)
{
    (void)state;
    open_sim((struct dev_sim_config){.faults.rot_rest_ppm = 1000000});
    in_fiber(read_with_rot);
    assert_int_equal(bits_set(memory, 4 * BLOCK), 1);
    dev_close(dev);
}

static void see_errors(void *arg)
{
    (void)arg;
    assert_int_equal(dev_read(dev, 0, memory, BLOCK), SHOAL_E_IO);
    assert_int_equal(dev_write(dev, 0, memory, BLOCK), SHOAL_E_FULL);
    assert_int_equal(dev_flush(dev), SHOAL_E_IO);
    dev_sim_set_faults(dev, &(struct dev_sim_faults){.dead = true});
    assert_int_equal(dev_write(dev, 0, memory, BLOCK), SHOAL_E_IO);
    dev_sim_set_faults(dev, &(struct dev_sim_faults){0});
    assert_int_equal(dev_write(dev, 0, memory, BLOCK), 0);
}

static void errors_strike_as_often_as_asked(void **state)
{
    (void)state;
    open_sim((struct dev_sim_config){.faults = {.read_error_ppm = 1000000,
                                                .full_ppm = 1000000,
                                                .flush_error_ppm = 1000000}});
    in_fiber(see_errors);
    dev_close(dev);
}

static void fail_the_second(void *arg)
{
    (void)arg;
    uint64_t before = dev_sim_operations(dev);
    dev_sim_fail_nth(dev, 2, SHOAL_E_IO);
    assert_int_equal(dev_read(dev, 0, memory, BLOCK), 0);
    assert_int_equal(dev_write(dev, 0, memory, BLOCK), SHOAL_E_IO);
    assert_int_equal(dev_write(dev, 0, memory, BLOCK), 0);
    assert_int_equal(dev_sim_operations(dev) - before, 3);
}

static void the_nth_operation_fails(void **state)
{
    (void)state;
    open_sim((struct dev_sim_config){0});
    in_fiber(fail_the_second);
    in_fiber(fail_the_second);
    dev_close(dev);
}

static void read_stuck(void *arg)
{
    (void)arg;
    assert_int_equal(dev_read(dev, 0, memory, BLOCK), 0);
}

static void a_stuck_operation_waits_until_it_is_freed(void **state)
{
    (void)state;
    open_sim((struct dev_sim_config){.faults.stuck_ppm = 1000000});
    assert_int_equal(fiber_spawn(pool, read_stuck, NULL), 0);
    test_run_idle(reactor, &test_clock);
    assert_int_equal(fiber_pool_in_use(pool), 1);
    dev_sim_unstick(dev);
    test_run_idle(reactor, &test_clock);
    assert_int_equal(fiber_pool_in_use(pool), 0);
    dev_close(dev);
}

static void one_seed_gives_one_history(void **state)
{
    (void)state;
    uint8_t first[BLOCK];
    uint8_t second[BLOCK];
    assert_int_equal(dev_sim_store_snapshot(store), 0);
    for (unsigned round = 0; round < 2; round++) {
        prng_seed(&prng, 77);
        open_sim((struct dev_sim_config){.volatile_cache = true,
                                         .latency_min_ns = 10,
                                         .latency_max_ns = 1000});
        in_fiber(write_flush_write);
        dev_sim_crash(dev, &prng);
        dev_close(dev);
        dev_sim_store_read(store, BLOCK, round == 0 ? first : second, BLOCK);
        dev_sim_store_restore(store);
    }
    assert_memory_equal(first, second, BLOCK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_is_read),
        TEST(a_range_outside_or_misaligned_is_refused),
        TEST(a_store_is_open_once),
        TEST(metrics_count_operations),
        TEST(a_crash_keeps_what_was_flushed_and_any_part_of_the_rest),
        TEST(a_kill_keeps_what_was_completed),
        TEST(a_write_under_way_at_a_crash_may_be_torn),
        TEST(a_flush_covers_only_what_completed_before_it),
        TEST(a_lost_write_is_acknowledged_and_absent),
        TEST(a_misdirected_write_arrives_elsewhere),
        TEST(a_torn_write_is_acknowledged_and_partial),
        TEST(rot_on_the_way_is_gone_the_next_time),
        TEST(rot_at_rest_stays),
        TEST(errors_strike_as_often_as_asked),
        TEST(the_nth_operation_fails),
        TEST(a_stuck_operation_waits_until_it_is_freed),
        TEST(one_seed_gives_one_history),
    };
    return cmocka_run_group_tests_name("dev_sim", tests, NULL, NULL);
}
