/* SPDX-License-Identifier: Apache-2.0 */
/* What happens at the edges: wrong arguments, limits, a stopped or closing engine, races. */
#include "base/log.h"
#include "base/metrics.h"
#include "engine/test_engine.h"

static int prepare_raw(struct test_device *t, struct blob_desc desc, struct iovec *parts,
                       unsigned count)
{
    return engine_prepare(t->engine, &desc, parts, count, NULL);
}

static void body_arguments(struct test_device *t)
{
    struct engine_format_config config = {.partition_bits = 25};
    assert_int_equal(engine_format(t->dev, t->arena, &config), SHOAL_E_INVALID);
    test_start(t, 2);
    struct iovec part = {t->payload, 100}, two[2] = {{t->payload, 100}, {t->payload, 100}};
    struct iovec odd = {t->payload + 1, 100};
    struct blob_desc good = test_desc(1, 1, 100), desc;
#define REFUSED(rc, iov, count, change)                                                            \
    do {                                                                                           \
        desc = good;                                                                               \
        change;                                                                                    \
        assert_int_equal(prepare_raw(t, desc, iov, count), rc);                                    \
    } while (0)
    REFUSED(SHOAL_E_TOO_LARGE, &part, 1, desc.shard_len = ENGINE_PAYLOAD_MAX + 1);
    REFUSED(SHOAL_E_INVALID, &part, 1, desc.shard_len = 101);
    REFUSED(SHOAL_E_INVALID, &part, 1, desc.version = (struct blob_version){0});
    REFUSED(SHOAL_E_INVALID, &part, 1, desc.version.counter = UINT64_C(1) << 48);
    REFUSED(SHOAL_E_INVALID, &part, 1, desc.kind = 0);
    REFUSED(SHOAL_E_INVALID, &part, 1, desc.kind = 4);
    REFUSED(SHOAL_E_INVALID, &part, 1, desc.form = 0);
    REFUSED(SHOAL_E_INVALID, &part, 1, desc.form = 4);
    REFUSED(SHOAL_E_INVALID, &part, 1, desc.form = BLOB_MARKER);
    REFUSED(SHOAL_E_INVALID, &part, 1, desc.name_len = BLOB_NAME_MAX + 1);
    REFUSED(SHOAL_E_INVALID, two, 2, desc.shard_len = 200);
    REFUSED(SHOAL_E_INVALID, &odd, 1, desc.shard_len = 100);
    REFUSED(SHOAL_E_INVALID, &part, DEV_MAX_IOV, desc.shard_len = 100);
#undef REFUSED
    assert_int_equal(engine_drop_partition(t->engine, 4), SHOAL_E_INVALID);
    uint64_t cursor = 5;
    struct engine_entry entries[2];
    assert_int_equal(engine_list(t->engine, 4, &cursor, entries, 2), 0);
    assert_int_equal(cursor, 0);
    struct engine_digest digest;
    engine_partition_digest(t->engine, 4, &digest);
    assert_int_equal(digest.committed, 0);
    engine_close(t->engine, false);
}

static void wrong_arguments_are_refused(void **state)
{
    (void)state;
    test_on(8 << 20, body_arguments);
}

static void body_scattered(struct test_device *t)
{
    struct metrics *metrics = metrics_create();
    t->config.metrics = metrics;
    test_start(t, 2);
    const uint32_t len = 12u << 20 | 5;
    test_fill(t->payload, 1, 1, len);
    struct iovec parts[7];
    uint32_t at = 0;
    for (unsigned i = 0; i < 7; i++) {
        uint32_t part = i == 6 ? len - at : (i + 1) * 5 * 4096;
        parts[i] = (struct iovec){t->payload + at, part};
        at += part;
    }
    struct blob_desc desc = test_desc(1, 1, len);
    desc.name_len = BLOB_NAME_MAX;
    memset(desc.name, 'x', BLOB_NAME_MAX);
    assert_int_equal(prepare_raw(t, desc, parts, 7), 0);
    assert_int_equal(test_commit(t, 1, 1), 0);
    for (unsigned round = 0; round < 2; round++) {
        test_verify(t, 1, 1, len);
        struct blob_desc found;
        assert_int_equal(engine_describe(t->engine, &desc.id, &desc.version, t->buffer, &found), 0);
        assert_int_equal(found.name_len, BLOB_NAME_MAX);
        assert_memory_equal(found.name, desc.name, BLOB_NAME_MAX);
        test_reopen(t, round == 1);
    }
    assert_int_equal(engine_abort(t->engine, &desc.id, &desc.version), 0);
    assert_int_equal(engine_drop(t->engine, &desc.id, &desc.version), 0);
    char *text;
    size_t length;
    assert_int_equal(metrics_render(metrics, &text, &length), 0);
    assert_non_null(strstr(text, "shoal_engine_prepares_total{target=\"42\"} 1"));
    free(text);
    engine_close(t->engine, false);
    metrics_destroy(metrics);
}

static void a_large_piece_in_many_parts_is_one_extent(void **state)
{
    (void)state;
    test_on(64 << 20, body_scattered);
}

static void body_limits(struct test_device *t)
{
    t->config.index_max_objects = 5;
    test_start(t, 2);
    for (uint64_t n = 0; n < 5; n++)
        test_put(t, n, 1, 10);
    assert_int_equal(test_prepare(t, 5, 1, 10), SHOAL_E_FULL);
    test_put(t, 4, 2, 10); /* what is there may be replaced */
    engine_close(t->engine, false);

    /* More different versions' epochs than there are numbers for. */
    t->config.index_max_objects = 0;
    test_open(t);
    int rc = 0;
    unsigned pairs = t->engine->index.intern.pair_count;
    for (uint64_t n = 0; n <= pairs && rc == 0; n++) {
        struct blob_desc desc = test_desc(100 + n, 1, 0);
        desc.form = BLOB_MARKER;
        desc.version.epoch = 10 + n;
        rc = prepare_raw(t, desc, NULL, 0);
        if (rc == 0)
            rc = engine_commit(t->engine, &desc.id, &desc.version);
    }
    assert_int_equal(rc, SHOAL_E_FULL);
    engine_close(t->engine, false);
}

static void a_full_index_is_reported_as_full(void **state)
{
    (void)state;
    test_on(16 << 20, body_limits);
}

static int repair(struct test_device *t, uint64_t n, uint32_t len)
{
    struct blob_desc desc = test_desc(n, 1, len);
    struct iovec payload = {t->payload, len};
    test_fill(t->payload, n, 1, len);
    return engine_repair(t->engine, &desc, &payload, 1, NULL);
}

static void body_reserve(struct test_device *t)
{
    /* Entries. */
    t->config.index_max_objects = 64;
    test_start(t, 2);
    uint64_t stored = 0, repaired = 0;
    for (; test_prepare(t, stored, 1, 10) == 0; stored++)
        assert_int_equal(test_commit(t, stored, 1), 0);
    assert_int_equal(stored, 62);
    assert_int_equal(repair(t, 62, 10), 0);
    assert_int_equal(repair(t, 63, 10), 0);
    assert_int_equal(repair(t, 64, 10), SHOAL_E_FULL);
    engine_close(t->engine, false);

    /* Space. */
    t->config.index_max_objects = 0;
    test_open(t);
    for (stored = 100; test_prepare(t, stored, 1, 4096) == 0; stored++)
        assert_int_equal(test_commit(t, stored, 1), 0);
    while (repair(t, 100000 + repaired, 4096) == 0)
        repaired++;
    assert_true(repaired >= (stored - 100) / 40);
    test_verify(t, 100000, 1, 4096);
    engine_close(t->engine, false);
}

static void what_a_full_engine_keeps_back_is_for_repairs(void **state)
{
    (void)state;
    test_on(16 << 20, body_reserve);
}

static void body_busy(struct test_device *t)
{
    test_start(t, 2);
    void *held[80];
    unsigned count = 0;
    while (count < 80 && (held[count] = dma_get(t->arena, 4096)) != NULL)
        count++;
    assert_int_equal(test_prepare(t, 1, 1, 10), SHOAL_E_BUSY);
    assert_int_equal(engine_clear_stale(t->engine), 0);
    while (count > 0)
        dma_put(t->arena, held[--count]);
    test_put(t, 1, 1, 10);
    uint32_t prepared = 0;
    while (test_prepare(t, 100 + prepared, 1, 0) == 0)
        prepared++;
    assert_int_equal(prepared, t->engine->prepared.max);
    assert_int_equal(test_prepare(t, 99, 1, 0), SHOAL_E_BUSY);
    assert_int_equal(test_commit(t, 100, 1), 0);
    assert_int_equal(test_prepare(t, 99, 1, 0), 0);
    test_reopen(t, false);
    assert_int_equal(engine_list_prepared(t->engine, NULL, 0), prepared);
    engine_close(t->engine, false);
}

static void what_exceeds_a_pool_is_told_busy(void **state)
{
    (void)state;
    test_on(8 << 20, body_busy);
}

/* Partitions that share a list of prepared pieces, and pieces without bytes. */
static void body_drop_partition(struct test_device *t)
{
    test_start(t, 8);
    const uint32_t partition = 3;
    uint64_t inside = 0, beside = 0;
    for (uint64_t n = 0; n < 20000; n++) {
        struct blob_id id = test_id(n);
        uint32_t at = blob_partition(&id, 8);
        if (at % 64 != partition)
            continue;
        struct blob_desc desc = test_desc(n, 1, n % 2 == 0 ? 10 : 0);
        desc.form = n % 2 == 0 ? BLOB_BYTES : BLOB_MARKER;
        assert_int_equal(test_prepare_desc(t, &desc, n, 1), 0);
        if (n % 3 == 0)
            assert_int_equal(test_commit(t, n, 1), 0);
        inside += at == partition;
        beside += at != partition;
    }
    assert_true(inside > 50 && beside > 150);
    struct engine_usage usage;
    engine_usage(t->engine, &usage);
    uint64_t used = usage.bytes_used;
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(engine_drop_partition(t->engine, partition), 0);
        test_reopen(t, round == 0);
        uint64_t left = 0;
        for (uint64_t n = 0; n < 20000; n++)
            left += test_committed(t, n, 1) || test_prepared(t, n, 1);
        assert_int_equal(left, beside);
    }
    engine_usage(t->engine, &usage);
    assert_true(usage.bytes_used < used);
    engine_close(t->engine, false);
}

static void a_dropped_partition_takes_nothing_else_along(void **state)
{
    (void)state;
    test_on(64 << 20, body_drop_partition);
}

static void body_stopped(struct test_device *t)
{
    test_start(t, 2);
    test_put(t, 1, 1, 5000);
    assert_int_equal(test_prepare(t, 2, 1, 10), 0);
    assert_int_equal(engine_sync(t->engine), 0);
    dev_sim_set_faults(t->dev, &(struct dev_sim_faults){.dead = true});
    assert_int_equal(test_prepare(t, 3, 1, 10), SHOAL_E_IO);
    assert_true(engine_stopped(t->engine));
    struct blob_id id = test_id(1), other = test_id(2);
    struct blob_version v = test_version(1);
    const uint8_t *data;
    assert_int_equal(test_read(t, 1, 1, 0, 10, &data), SHOAL_E_IO);
    assert_int_equal(test_prepare(t, 4, 1, 10), SHOAL_E_IO);
    assert_int_equal(engine_commit(t->engine, &other, &v), SHOAL_E_IO);
    assert_int_equal(engine_drop(t->engine, &id, &v), SHOAL_E_IO);
    assert_int_equal(engine_abort(t->engine, &other, &v), SHOAL_E_IO);
    assert_int_equal(engine_sync(t->engine), SHOAL_E_IO);
    assert_int_equal(engine_checkpoint(t->engine), SHOAL_E_IO);
    assert_int_equal(engine_drop_partition(t->engine, 0), SHOAL_E_IO);
    assert_int_equal(engine_clear_stale(t->engine), SHOAL_E_IO);
    assert_int_equal(engine_scrub_step(t->engine, 1, NULL, NULL), SHOAL_E_IO);
    engine_close(t->engine, false);
    dev_sim_set_faults(t->dev, &(struct dev_sim_faults){0});
    test_open(t);
    test_verify(t, 1, 1, 5000);
    engine_close(t->engine, false);
}

static void a_stopped_engine_answers_nothing_but_io(void **state)
{
    (void)state;
    test_on(8 << 20, body_stopped);
}

/* ---- races: a second fiber acts while the first one waits ---- */

static int prepare_result, repair_result;

static void prepare_fiber(void *arg)
{
    struct test_device *t = arg;
    struct blob_desc desc = test_desc(1, 1, 300000);
    struct iovec payload = {t->payload, 300000};
    prepare_result = engine_prepare(t->engine, &desc, &payload, 1, NULL);
}

static void repair_fiber(void *arg)
{
    struct test_device *t = arg;
    struct blob_desc desc = test_desc(2, 1, 300000);
    struct iovec payload = {t->payload, 300000};
    repair_result = engine_repair(t->engine, &desc, &payload, 1, NULL);
}

static void body_races(struct test_device *t)
{
    test_start(t, 2);
    dev_sim_set_latency(t->dev, 100000, 200000);
    struct blob_id one = test_id(1), two = test_id(2);
    struct blob_version v = test_version(1);
    prepare_result = repair_result = 1;
    assert_int_equal(fiber_spawn(t->fibers, prepare_fiber, t), 0);
    assert_int_equal(fiber_spawn(t->fibers, repair_fiber, t), 0);
    fiber_sleep(10000);
    /* Not durable yet: nobody may see it, and yet it is in the way of older ones. */
    assert_int_equal(engine_find(t->engine, &one, NULL, NULL), SHOAL_E_NOT_FOUND);
    assert_int_equal(engine_commit(t->engine, &one, &v), SHOAL_E_NOT_FOUND);
    assert_int_equal(test_prepare(t, 1, 1, 10), SHOAL_E_LOW_WATER);
    assert_int_equal(engine_drop(t->engine, &two, &v), 0);
    assert_int_equal(engine_abort(t->engine, &one, &v), 0);
    while (prepare_result == 1 || repair_result == 1)
        fiber_sleep(100000);
    assert_int_equal(prepare_result, SHOAL_E_CANCELLED);
    assert_int_equal(repair_result, SHOAL_E_CANCELLED);

    /* A repair of what is prepared here commits it; an older prepared piece goes. */
    assert_int_equal(test_prepare(t, 2, 1, 10), 0);
    struct blob_desc desc = test_desc(2, 3, 20);
    test_fill(t->payload, 2, 3, 20);
    struct iovec payload = {t->payload, 20};
    assert_int_equal(engine_repair(t->engine, &desc, &payload, 1, NULL), 0);
    assert_int_equal(engine_list_prepared(t->engine, NULL, 0), 0);
    desc = test_desc(2, 2, 20);
    assert_int_equal(engine_repair(t->engine, &desc, &payload, 1, NULL), SHOAL_E_LOW_WATER);
    test_verify(t, 2, 3, 20);
    test_reopen(t, true);
    test_verify(t, 2, 3, 20);
    engine_close(t->engine, false);
}

static void what_is_taken_back_while_it_is_written_is_cancelled(void **state)
{
    (void)state;
    test_on(8 << 20, body_races);
}

static void count_damaged(void *ctx, const struct engine_entry *entry)
{
    assert_true(entry->hollow);
    ++*(unsigned *)ctx;
}

static void body_bad_sectors(struct test_device *t)
{
    test_start(t, 2);
    for (uint64_t n = 0; n < 20; n++)
        test_put(t, n, n + 1, (uint32_t)n * 7000);
    dev_sim_set_faults(t->dev, &(struct dev_sim_faults){.read_error_ppm = 1000000});
    const uint8_t *data;
    assert_int_equal(test_read(t, 5, 6, 0, 100, &data), SHOAL_E_IO);
    assert_int_equal(test_read(t, 19, 20, 70000, 100, &data), SHOAL_E_IO);
    unsigned steps = 0;
    struct engine_scrub_progress progress;
    do {
        assert_true(engine_scrub_step(t->engine, 3, NULL, NULL) >= 0);
        engine_scrub_progress(t->engine, &progress);
    } while (progress.passes == 0 && ++steps < 50);
    assert_int_equal(progress.damaged, 20);
    dev_sim_set_faults(t->dev, &(struct dev_sim_faults){0});
    assert_int_equal(test_read(t, 5, 6, 0, 100, &data), SHOAL_E_HOLLOW);
    /* A pass over what is known to be damaged ends once, and at its end. */
    uint64_t passes = progress.passes;
    unsigned told = 0;
    while (engine_scrub_step(t->engine, 3, count_damaged, &told) > 0)
        ;
    engine_scrub_progress(t->engine, &progress);
    assert_int_equal(progress.passes, passes + 1);
    assert_int_equal(told, 20);
    engine_close(t->engine, false);
}

static void what_cannot_be_read_is_hollow_after_a_scrub(void **state)
{
    (void)state;
    test_on(8 << 20, body_bad_sectors);
}

/* ---- a large index: many chunks, and a sweep with much to decide ---- */

static void body_many(struct test_device *t)
{
    test_start(t, 6);
    for (uint64_t n = 0; n < 9000; n++)
        test_put(t, n, n + 1, 10);
    for (uint64_t n = 9000; n < 9060; n++)
        assert_int_equal(test_prepare(t, n, n + 1, 10), 0);
    assert_int_equal(engine_checkpoint(t->engine), 0);
    unsigned area = (unsigned)t->engine->checkpoint.newest;
    struct layout layout = t->engine->layout;
    test_reopen(t, true);
    assert_int_equal(t->report.objects, 9060);
    for (uint64_t n = 0; n < 9060; n += 101)
        test_verify(t, n, n + 1, 10);
    engine_close(t->engine, true);
    /* A chunk in the middle of the newest checkpoint decays: the older one serves. */
    dev_sim_store_flip_bit(t->store, (layout.checkpoint_start[area] + 70) * 4096 + 99, 4);
    test_open(t);
    assert_non_null(strstr(t->report.problem, "checkpoint"));
    bool known = t->report.objects == 9060 || t->report.stale;
    assert_true(known);
    engine_close(t->engine, true);
}

static void an_index_of_many_chunks_is_loaded_again(void **state)
{
    (void)state;
    test_on(64 << 20, body_many);
}

static void body_sweep(struct test_device *t)
{
    test_start(t, 2);
    for (uint64_t round = 0; round < 4; round++)
        for (uint64_t n = 0; n < 60; n++)
            test_put(t, n, round * 100 + n + 1, 100 + (uint32_t)(n * 731 + round * 97) % 30000);
    struct blob_id id = test_id(7);
    uint64_t block = index_find_id(&t->engine->index, &id)->block;
    struct layout layout = t->engine->layout;
    engine_close(t->engine, true);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned bit = 0; bit < 8; bit++)
            dev_sim_store_flip_bit(t->store, layout.checkpoint_start[i] * 4096 + 30, bit);
    dev_sim_store_flip_bit(t->store, block * 4096 + 300, 1);
    struct engine_fsck_result result;
    FILE *out = fopen("/dev/null", "w");
    dev_sim_set_faults(t->dev, &(struct dev_sim_faults){.read_error_ppm = 20000});
    int rc = engine_fsck(t->dev, t->arena, true, out, &result);
    dev_sim_set_faults(t->dev, &(struct dev_sim_faults){0});
    if (rc != 0 || result.fatal)
        assert_int_equal(engine_fsck(t->dev, t->arena, true, out, &result), 0);
    (void)fclose(out);
    test_open(t);
    assert_true(t->report.stale);
    unsigned newest = 0;
    for (uint64_t n = 0; n < 60; n++)
        newest += test_committed(t, n, 301 + n);
    assert_true(newest >= 40);
    engine_close(t->engine, false);
}

static void a_sweep_keeps_the_newest_whole_pieces(void **state)
{
    (void)state;
    test_on(16 << 20, body_sweep);
}

static void body_smaller(struct test_device *t)
{
    test_format(t, 2);
    struct dev_sim_store *small;
    uint8_t *copy = malloc(6 << 20);
    assert_int_equal(dev_sim_store_create(6 << 20, &small), 0);
    dev_sim_store_read(t->store, 0, copy, 6 << 20);
    dev_sim_store_write(small, 0, copy, 6 << 20);
    free(copy);
    struct dev *whole = t->dev;
    struct dev_sim_config sim = {.name = "small", .seed = 1};
    assert_int_equal(dev_sim_open(t->reactor, small, &sim, &t->dev), 0);
    assert_int_equal(test_try_open(t), SHOAL_E_INVALID);
    assert_non_null(strstr(t->report.problem, "8388608"));
    struct engine_fsck_result result;
    FILE *out = fopen("/dev/null", "w");
    assert_int_equal(engine_fsck(t->dev, t->arena, true, out, &result), SHOAL_E_INVALID);
    assert_int_equal(engine_inspect(t->dev, t->arena, out), SHOAL_E_INVALID);
    (void)fclose(out);
    dev_close(t->dev);
    dev_sim_store_destroy(small);
    t->dev = whole;
}

static void a_device_that_shrank_is_refused(void **state)
{
    (void)state;
    test_on(8 << 20, body_smaller);
}

static void body_no_memory(struct test_device *t)
{
    test_format(t, 2);
    void *held[8];
    unsigned count = 0;
    while (count < 8 && (held[count] = dma_get(t->arena, 262144)) != NULL)
        count++;
    assert_int_equal(test_try_open(t), SHOAL_E_NO_MEMORY);
    struct engine_fsck_result result;
    assert_int_equal(engine_fsck(t->dev, t->arena, false, stderr, &result), SHOAL_E_NO_MEMORY);
    while (count > 0)
        dma_put(t->arena, held[--count]);
    test_open(t);
    engine_close(t->engine, true);
}

static void an_arena_without_buffers_is_no_memory(void **state)
{
    (void)state;
    test_on(8 << 20, body_no_memory);
}

static int quiet(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_ERROR);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(a_large_piece_in_many_parts_is_one_extent),
        cmocka_unit_test(a_full_index_is_reported_as_full),
        cmocka_unit_test(what_a_full_engine_keeps_back_is_for_repairs),
        cmocka_unit_test(what_exceeds_a_pool_is_told_busy),
        cmocka_unit_test(a_dropped_partition_takes_nothing_else_along),
        cmocka_unit_test(a_stopped_engine_answers_nothing_but_io),
        cmocka_unit_test(what_is_taken_back_while_it_is_written_is_cancelled),
        cmocka_unit_test(what_cannot_be_read_is_hollow_after_a_scrub),
        cmocka_unit_test(an_index_of_many_chunks_is_loaded_again),
        cmocka_unit_test(a_sweep_keeps_the_newest_whole_pieces),
        cmocka_unit_test(a_device_that_shrank_is_refused),
        cmocka_unit_test(an_arena_without_buffers_is_no_memory),
    };
    return cmocka_run_group_tests_name("engine edge", tests, quiet, NULL);
}
