/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/test_engine.h"

#define DEVICE (64u << 20)
static const uint32_t lengths[] = {0,     1,     100,   3000,  3800,   3900,    4096,   4097,
                                   16384, 16385, 65536, 99999, 262144, 1048576, 1048577};

static void body_stores_and_reads(struct test_device *t)
{
    test_start(t, 8);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        test_put(t, i, 1, lengths[i]);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        test_verify(t, i, 1, lengths[i]);
    engine_close(t->engine, false);
}

static void what_is_stored_reads_back(void **state)
{
    (void)state;
    test_on(DEVICE, body_stores_and_reads);
}

static void body_survives_reopening(struct test_device *t)
{
    test_start(t, 8);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        test_put(t, i, 1, lengths[i]);
    assert_int_equal(test_prepare(t, 100, 1, 5000), 0);
    for (unsigned round = 0; round < 3; round++) {
        test_reopen(t, round == 1);
        assert_true(t->report.clean_shutdown);
        assert_false(t->report.stale);
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
            test_verify(t, i, 1, lengths[i]);
        assert_true(test_prepared(t, 100, 1));
        test_verify(t, 100, 1, 5000);
    }
    assert_int_equal(test_commit(t, 100, 1), 0);
    engine_close(t->engine, false);
}

static void what_is_stored_survives_closing_and_opening(void **state)
{
    (void)state;
    test_on(DEVICE, body_survives_reopening);
}

static void body_survives_power_loss(struct test_device *t)
{
    test_start(t, 8);
    for (uint64_t round = 1; round < 30; round++) {
        for (uint64_t n = 0; n < 8; n++)
            test_put(t, n, round * 10, 1000 * (uint32_t)n + 1);
        assert_int_equal(engine_sync(t->engine), 0);
        assert_int_equal(test_prepare(t, 3, round * 10 + 1, 4000), 0);
        test_crash(t, round % 2);
        test_open(t);
        assert_false(t->report.stale);
        assert_true(test_prepared(t, 3, round * 10 + 1));
        for (uint64_t n = 0; n < 8; n++)
            test_verify(t, n, round * 10, 1000 * (uint32_t)n + 1);
        test_verify(t, 3, round * 10 + 1, 4000);
    }
    engine_close(t->engine, false);
}

static void what_is_durable_survives_a_loss_of_power(void **state)
{
    (void)state;
    test_on(8 << 20, body_survives_power_loss);
}

static void body_ranges(struct test_device *t)
{
    test_start(t, 4);
    uint32_t len = 300001;
    test_put(t, 1, 1, len);
    test_put(t, 2, 1, 3000);
    for (unsigned i = 0; i < 300; i++) {
        bool small = i % 3 == 0;
        uint32_t total = small ? 3000 : len;
        uint32_t offset = (uint32_t)prng_below(reactor_prng(t->reactor), total + 1);
        uint32_t part = (uint32_t)prng_below(reactor_prng(t->reactor), total - offset + 1);
        const uint8_t *data;
        assert_int_equal(test_read(t, small ? 2 : 1, 1, offset, part, &data), 0);
        assert_true(data + part <= t->buffer + engine_read_room(part));
        test_fill(t->payload, small ? 2 : 1, 1, total);
        assert_memory_equal(data, t->payload + offset, part);
    }
    const uint8_t *data;
    assert_int_equal(test_read(t, 1, 1, len, 1, &data), SHOAL_E_INVALID);
    assert_int_equal(test_read(t, 1, 1, UINT32_MAX, 2, &data), SHOAL_E_INVALID);
    assert_int_equal(test_read(t, 1, 2, 0, 1, &data), SHOAL_E_NOT_FOUND);
    assert_int_equal(test_read(t, 9, 1, 0, 1, &data), SHOAL_E_NOT_FOUND);
    engine_close(t->engine, false);
}

static void any_range_can_be_read_within_the_room_promised(void **state)
{
    (void)state;
    test_on(DEVICE, body_ranges);
}

static void body_versions(struct test_device *t)
{
    test_start(t, 4);
    test_put(t, 1, 10, 5000);
    assert_int_equal(test_prepare(t, 1, 10, 100), SHOAL_E_LOW_WATER);
    assert_int_equal(test_prepare(t, 1, 9, 100), SHOAL_E_LOW_WATER);
    assert_int_equal(test_prepare(t, 1, 12, 100), 0);
    assert_int_equal(test_prepare(t, 1, 11, 100), SHOAL_E_LOW_WATER);
    assert_int_equal(test_prepare(t, 1, 12, 100), SHOAL_E_LOW_WATER);
    assert_int_equal(test_prepare(t, 1, 13, 200), 0);
    assert_false(test_prepared(t, 1, 12));
    test_verify(t, 1, 13, 200);
    test_verify(t, 1, 10, 5000);
    assert_int_equal(test_commit(t, 1, 12), SHOAL_E_NOT_FOUND);
    assert_int_equal(test_commit(t, 1, 13), 0);
    assert_int_equal(test_commit(t, 1, 13), 0);
    test_verify(t, 1, 13, 200);
    const uint8_t *data;
    assert_int_equal(test_read(t, 1, 10, 0, 1, &data), SHOAL_E_NOT_FOUND);
    engine_close(t->engine, false);
}

static void versions_only_go_up(void **state)
{
    (void)state;
    test_on(DEVICE, body_versions);
}

static void body_abort(struct test_device *t)
{
    test_start(t, 4);
    struct blob_id id = test_id(1);
    struct blob_version one = test_version(1), two = test_version(2);
    assert_int_equal(test_prepare(t, 1, 1, 9000), 0);
    assert_int_equal(engine_abort(t->engine, &id, &two), 0);
    assert_true(test_prepared(t, 1, 1));
    assert_int_equal(engine_abort(t->engine, &id, &one), 0);
    assert_int_equal(engine_abort(t->engine, &id, &one), 0);
    assert_int_equal(engine_find(t->engine, &id, NULL, NULL), SHOAL_E_NOT_FOUND);
    test_crash(t, true);
    test_open(t);
    assert_int_equal(engine_find(t->engine, &id, NULL, NULL), SHOAL_E_NOT_FOUND);
    engine_close(t->engine, false);
}

static void an_aborted_version_stays_gone(void **state)
{
    (void)state;
    test_on(DEVICE, body_abort);
}

static void body_drop(struct test_device *t)
{
    test_start(t, 4);
    struct blob_id id = test_id(1);
    struct blob_version one = test_version(1), two = test_version(2);
    test_put(t, 1, 1, 9000);
    assert_int_equal(engine_drop(t->engine, &id, &two), SHOAL_E_NOT_FOUND);
    assert_int_equal(engine_drop(t->engine, &id, &one), 0);
    assert_int_equal(engine_find(t->engine, &id, NULL, NULL), SHOAL_E_NOT_FOUND);
    assert_int_equal(engine_sync(t->engine), 0);
    test_crash(t, true);
    test_open(t);
    assert_int_equal(engine_find(t->engine, &id, NULL, NULL), SHOAL_E_NOT_FOUND);
    struct engine_usage usage;
    engine_usage(t->engine, &usage);
    assert_int_equal(usage.bytes_used, 0);
    assert_int_equal(usage.objects, 0);
    engine_close(t->engine, false);
}

static void a_dropped_version_stays_gone(void **state)
{
    (void)state;
    test_on(DEVICE, body_drop);
}

static void body_without_bytes(struct test_device *t)
{
    test_start(t, 4);
    struct blob_desc marker = test_desc(1, 1, 0), tombstone = test_desc(2, 2, 0);
    marker.form = BLOB_MARKER;
    tombstone.form = BLOB_TOMBSTONE;
    test_put(t, 2, 1, 4000);
    assert_int_equal(test_prepare_desc(t, &marker, 1, 1), 0);
    assert_int_equal(test_prepare_desc(t, &tombstone, 2, 2), 0);
    assert_int_equal(test_commit(t, 1, 1), 0);
    assert_int_equal(test_commit(t, 2, 2), 0);
    for (unsigned round = 0; round < 2; round++) {
        struct engine_entry entry;
        struct blob_desc desc;
        assert_int_equal(engine_find(t->engine, &marker.id, &entry, NULL), 0);
        assert_int_equal(entry.form, BLOB_MARKER);
        assert_int_equal(engine_find(t->engine, &tombstone.id, &entry, NULL), 0);
        assert_int_equal(entry.form, BLOB_TOMBSTONE);
        assert_int_equal(engine_describe(t->engine, &marker.id, &marker.version, t->buffer, &desc),
                         0);
        assert_int_equal(desc.form, BLOB_MARKER);
        struct engine_usage usage;
        engine_pool_usage(t->engine, TEST_POOL, &usage);
        assert_int_equal(usage.bytes_used, 0);
        assert_int_equal(usage.heads, 1);
        uint32_t partition = blob_partition(&marker.id, t->engine->sb.partition_bits);
        assert_int_equal(engine_partition_heads(t->engine, TEST_POOL, partition), 1);
        assert_int_equal(engine_partition_heads(t->engine, TEST_POOL + 1, partition), 0);
        test_reopen(t, round == 0);
    }
    engine_close(t->engine, false);
}

static void markers_and_tombstones_take_no_extent(void **state)
{
    (void)state;
    test_on(DEVICE, body_without_bytes);
}

static void body_many_checkpoints(struct test_device *t)
{
    test_start(t, 6);
    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t n = i % 37;
        test_put(t, n, i + 1, 100 + (uint32_t)(i * 7919 % 9000));
    }
    assert_true(t->engine->checkpoint.completed > 3);
    test_crash(t, true);
    test_open(t);
    assert_false(t->report.stale);
    for (uint64_t i = 2000 - 37; i < 2000; i++) {
        /* The last commits may be lost, for nobody waited for them: the piece is prepared then. */
        uint64_t n = i % 37;
        assert_true(test_committed(t, n, i + 1) || test_prepared(t, n, i + 1));
        test_verify(t, n, i + 1, 100 + (uint32_t)(i * 7919 % 9000));
    }
    engine_close(t->engine, false);
}

static void the_ring_goes_round_many_times(void **state)
{
    (void)state;
    test_on(4 << 20, body_many_checkpoints);
}

static void body_full(struct test_device *t)
{
    test_start(t, 4);
    uint64_t stored = 0;
    int rc;
    while ((rc = test_prepare(t, stored, 1, 60000)) == 0)
        assert_int_equal(test_commit(t, stored++, 1), 0);
    assert_int_equal(rc, SHOAL_E_FULL);
    assert_true(stored > 20);
    struct engine_usage usage;
    engine_usage(t->engine, &usage);
    assert_true(usage.bytes_used * 10 > usage.bytes_total * 6);
    /* Deleting works on a full device, and makes room again. */
    for (uint64_t n = 0; n < stored; n++) {
        struct blob_desc tombstone = test_desc(n, 2, 0);
        tombstone.form = BLOB_TOMBSTONE;
        assert_int_equal(test_prepare_desc(t, &tombstone, n, 2), 0);
        assert_int_equal(test_commit(t, n, 2), 0);
    }
    test_crash(t, true);
    test_open(t);
    for (uint64_t n = 0; n < stored; n++) {
        (void)test_commit(t, n, 2);
        assert_int_equal(test_prepare(t, n, 3, 60000), 0);
        assert_int_equal(test_commit(t, n, 3), 0);
    }
    engine_close(t->engine, false);
}

static void a_full_device_says_so_and_can_be_emptied(void **state)
{
    (void)state;
    test_on(4 << 20, body_full);
}

static void body_partition(struct test_device *t)
{
    test_start(t, 2);
    struct engine_digest before[4];
    for (uint64_t n = 0; n < 500; n++)
        test_put(t, n, n + 1, 50);
    assert_int_equal(test_prepare(t, 1000, 2000, 50), 0);
    for (uint32_t p = 0; p < 4; p++)
        engine_partition_digest(t->engine, p, &before[p]);
    uint64_t total =
        before[0].committed + before[1].committed + before[2].committed + before[3].committed;
    assert_int_equal(total, 500);
    assert_int_equal(engine_drop_partition(t->engine, 2), 0);
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t p = 0; p < 4; p++) {
            struct engine_digest digest;
            engine_partition_digest(t->engine, p, &digest);
            assert_int_equal(digest.committed, p == 2 ? 0 : before[p].committed);
            assert_int_equal(digest.hash, p == 2 ? 0 : before[p].hash);
            assert_int_equal(digest.prepared, p == 2 ? 0 : before[p].prepared);
        }
        struct engine_usage usage;
        engine_usage(t->engine, &usage);
        uint64_t pieces = total - before[2].committed + (before[2].prepared == 0);
        assert_int_equal(usage.bytes_used, pieces * 4096);
        if (round == 0) {
            test_crash(t, true);
            test_open(t);
        } else {
            test_reopen(t, false);
        }
    }
    engine_close(t->engine, false);
}

static void a_partition_can_be_dropped_whole(void **state)
{
    (void)state;
    test_on(16 << 20, body_partition);
}

static void body_listing(struct test_device *t)
{
    test_start(t, 1);
    for (uint64_t n = 0; n < 400; n++)
        test_put(t, n, 1, 10);
    for (uint64_t n = 300; n < 500; n++)
        assert_int_equal(test_prepare(t, n, 2, 10), 0);
    unsigned committed = 0, prepared = 0, step = 0;
    for (uint32_t p = 0; p < 2; p++) {
        uint64_t cursor = 0;
        do {
            struct engine_entry entries[7];
            unsigned count = engine_list(t->engine, p, &cursor, entries, 2 + step++ % 6);
            for (unsigned i = 0; i < count; i++) {
                prepared += entries[i].prepared;
                committed += !entries[i].prepared;
            }
            /* New ones come while the walk is under way, and tables grow and split. */
            if (step < 300)
                test_put(t, 1000 + step, 1, 10);
        } while (cursor != 0);
    }
    assert_true(committed >= 400);
    assert_int_equal(prepared, 200);
    struct engine_entry all[300];
    assert_int_equal(engine_list_prepared(t->engine, all, 300), 200);
    engine_close(t->engine, false);
}

static void listing_sees_each_entry_that_stays_once(void **state)
{
    (void)state;
    test_on(32 << 20, body_listing);
}

static void body_repair(struct test_device *t)
{
    test_start(t, 4);
    test_put(t, 1, 1, 200000);
    struct blob_id id = test_id(1);
    uint64_t block = index_find_id(&t->engine->index, &id)->block;
    dev_sim_store_flip_bit(t->store, (block + 20) * 4096 + 77, 3);
    const uint8_t *data;
    assert_int_equal(test_read(t, 1, 1, 0, 200000, &data), SHOAL_E_CORRUPT);
    assert_int_equal(test_read(t, 1, 1, 0, 200000, &data), SHOAL_E_HOLLOW);
    struct engine_entry entry;
    test_reopen(t, true);
    assert_int_equal(engine_find(t->engine, &id, &entry, NULL), 0);
    assert_true(entry.hollow);
    struct blob_desc desc = test_desc(1, 1, 200000);
    test_fill(t->payload, 1, 1, 200000);
    struct iovec payload = {t->payload, 200000};
    assert_int_equal(engine_repair(t->engine, &desc, &payload, 1, NULL), 0);
    test_verify(t, 1, 1, 200000);
    struct blob_desc other = test_desc(2, 5, 100);
    test_fill(t->payload, 2, 5, 100);
    payload.iov_len = 100;
    assert_int_equal(engine_repair(t->engine, &other, &payload, 1, NULL), 0);
    test_crash(t, true);
    test_open(t);
    test_verify(t, 1, 1, 200000);
    test_verify(t, 2, 5, 100);
    engine_close(t->engine, false);
}

static void damage_is_remembered_and_repaired(void **state)
{
    (void)state;
    test_on(DEVICE, body_repair);
}

static void find_prepared(struct test_device *t, uint64_t n, bool torn)
{
    struct blob_id id = test_id(n);
    struct engine_entry prepared;
    assert_int_equal(engine_find(t->engine, &id, NULL, &prepared), 0);
    assert_true(prepared.prepared && prepared.hollow);
    assert_int_equal(prepared.torn, torn);
}

/*
 * Damage in the place of the bytes: what no barrier has passed may never have been there, and what one
 * has passed was. Either is remembered, in the journal and in a checkpoint.
 */
static void body_torn(struct test_device *t)
{
    struct blob_id passed = test_id(1), last = test_id(2);
    test_start(t, 4);
    assert_int_equal(test_prepare(t, 1, 1, 20000), 0);
    assert_int_equal(test_prepare(t, 2, 1, 20000), 0);
    dev_sim_store_flip_bit(t->store, (prepared_find(&t->engine->prepared, &passed)->place.block + 2) * 4096, 3);
    dev_sim_store_flip_bit(t->store, (prepared_find(&t->engine->prepared, &last)->place.block + 2) * 4096, 3);
    test_crash(t, true);
    for (unsigned life = 0; life < 4; life++) {
        const uint8_t *data;
        test_open(t);
        if (life == 0)
            assert_int_equal(test_read(t, 1, 1, 0, 20000, &data), SHOAL_E_CORRUPT);
        find_prepared(t, 1, false);
        find_prepared(t, 2, true);
        if (life == 2)
            assert_int_equal(engine_checkpoint(t->engine), 0);
        assert_int_equal(engine_sync(t->engine), 0);
        test_crash(t, life % 2 == 0);
    }
}

static void a_piece_that_never_was_is_told_from_one_that_was_damaged(void **state)
{
    (void)state;
    test_on(DEVICE, body_torn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stored_reads_back),
        cmocka_unit_test(what_is_stored_survives_closing_and_opening),
        cmocka_unit_test(what_is_durable_survives_a_loss_of_power),
        cmocka_unit_test(any_range_can_be_read_within_the_room_promised),
        cmocka_unit_test(versions_only_go_up),
        cmocka_unit_test(an_aborted_version_stays_gone),
        cmocka_unit_test(a_dropped_version_stays_gone),
        cmocka_unit_test(markers_and_tombstones_take_no_extent),
        cmocka_unit_test(the_ring_goes_round_many_times),
        cmocka_unit_test(a_full_device_says_so_and_can_be_emptied),
        cmocka_unit_test(a_partition_can_be_dropped_whole),
        cmocka_unit_test(listing_sees_each_entry_that_stays_once),
        cmocka_unit_test(damage_is_remembered_and_repaired),
        cmocka_unit_test(a_piece_that_never_was_is_told_from_one_that_was_damaged),
    };
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
