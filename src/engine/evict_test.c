/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/test_engine.h"

#define CAPACITY 10000u
#define KEYS 60000u
#define ACCESSES 100000u

/* Popular keys, keys that are popular for a while, and keys that come once. */
static uint64_t next_key(struct prng *prng, uint64_t step)
{
    uint64_t dice = prng_below(prng, 10);
    uint64_t x = prng_below(prng, 1000);
    if (dice < 5)
        return x * x * x / 1000 * 30000 / 1000000;
    if (dice < 9)
        return 30000 + (step / 8 + x * x / 100) % 29000;
    return UINT64_C(1) << 32 | step;
}

/* Exact LRU, as a list through an array. */
static struct lru {
    uint32_t prev, next;
    bool inside;
} lru[KEYS + ACCESSES + 1];

static void lru_unlink(uint32_t i)
{
    lru[lru[i].prev].next = lru[i].next;
    lru[lru[i].next].prev = lru[i].prev;
}

static void lru_push(uint32_t i)
{
    const uint32_t head = KEYS + ACCESSES;
    lru[i].next = lru[head].next;
    lru[i].prev = head;
    lru[lru[head].next].prev = i;
    lru[head].next = i;
}

static unsigned lru_hits(void)
{
    const uint32_t head = KEYS + ACCESSES;
    struct prng prng;
    unsigned hits = 0, count = 0;
    prng_seed(&prng, 3);
    memset(lru, 0, sizeof lru);
    lru[head].prev = lru[head].next = head;
    for (uint64_t step = 0; step < ACCESSES; step++) {
        uint64_t key = next_key(&prng, step);
        uint32_t i = key >> 32 ? KEYS + (uint32_t)step : (uint32_t)key;
        if (lru[i].inside) {
            hits++;
            lru_unlink(i);
        } else if (count == CAPACITY) {
            uint32_t last = lru[head].prev;
            lru_unlink(last);
            lru[last].inside = false;
        } else {
            count++;
        }
        lru[i].inside = true;
        lru_push(i);
    }
    return hits;
}

static struct state_piece piece_of(uint64_t key)
{
    return (struct state_piece){.id = test_id(key),
                                .version = test_version(key + 1),
                                .kind = BLOB_HEAD,
                                .form = BLOB_BYTES};
}

static void body_hit_ratio(struct test_device *t)
{
    test_start(t, 8);
    struct prng prng;
    unsigned hits = 0;
    prng_seed(&prng, 3);
    for (uint64_t step = 0; step < ACCESSES; step++) {
        struct state_piece piece = piece_of(next_key(&prng, step));
        if (index_find_id(&t->engine->index, &piece.id) != NULL) {
            hits++;
        } else {
            if (t->engine->index.count == CAPACITY) {
                struct engine_entry entry;
                assert_int_equal(engine_evict_pick(t->engine, TEST_POOL, &entry), 0);
                state_drop(t->engine, &entry.id, 0);
            }
            assert_int_equal(state_place(t->engine, &piece, t->engine->tick, 0), 0);
        }
        engine_touch(t->engine, &piece.id);
    }
    double ours = 100.0 * hits / ACCESSES, exact = 100.0 * lru_hits() / ACCESSES;
    print_message("hits: %.2f %%, exact LRU %.2f %%\n", ours, exact);
    assert_true(exact > 20 && exact < 90);
    assert_true(ours > exact - 1 && ours < exact + 1);
    engine_close(t->engine, true);
}

static void eviction_is_within_a_point_of_lru(void **state)
{
    (void)state;
    test_on(128 << 20, body_hit_ratio);
}

static void body_expired(struct test_device *t)
{
    test_start(t, 4);
    for (uint64_t n = 0; n < 500; n++) {
        struct blob_desc desc = test_desc(n, n + 1, 10);
        desc.expires_s = n % 100 == 7 ? 1699999999 : UINT32_MAX;
        assert_int_equal(test_prepare_desc(t, &desc, n, n + 1), 0);
        assert_int_equal(test_commit(t, n, n + 1), 0);
    }
    unsigned expired = 0;
    for (unsigned i = 0; i < 60; i++) {
        struct engine_entry entry;
        assert_int_equal(engine_evict_pick(t->engine, TEST_POOL, &entry), 0);
        for (uint64_t n = 7; n < 500; n += 100) {
            struct blob_id id = test_id(n);
            expired += blob_id_equal(&id, &entry.id);
        }
        assert_int_equal(engine_drop(t->engine, &entry.id, &entry.version), 0);
    }
    assert_int_equal(expired, 5);
    engine_close(t->engine, false);
}

static void what_has_expired_goes_first(void **state)
{
    (void)state;
    test_on(16 << 20, body_expired);
}

static void body_pools(struct test_device *t)
{
    test_start(t, 4);
    struct engine_entry entry;
    assert_int_equal(engine_evict_pick(t->engine, 99, &entry), SHOAL_E_NOT_FOUND);
    for (uint64_t n = 0; n < 1000; n++)
        test_put(t, n, n + 1, 10);
    struct blob_desc desc = test_desc(5000, 1, 10);
    desc.id.pool = 99;
    struct iovec payload = {t->payload, 10};
    assert_int_equal(engine_prepare(t->engine, &desc, &payload, 1, NULL), 0);
    assert_int_equal(engine_commit(t->engine, &desc.id, &desc.version), 0);
    assert_int_equal(engine_evict_pick(t->engine, 99, &entry), 0);
    assert_true(blob_id_equal(&entry.id, &desc.id));
    struct engine_usage usage;
    engine_pool_usage(t->engine, 99, &usage);
    assert_int_equal(usage.bytes_used, 4096);
    assert_int_equal(usage.heads, 1);
    assert_int_equal(engine_drop(t->engine, &entry.id, &entry.version), 0);
    assert_int_equal(engine_evict_pick(t->engine, 99, &entry), SHOAL_E_NOT_FOUND);
    engine_close(t->engine, false);
}

static void each_pool_is_evicted_for_itself(void **state)
{
    (void)state;
    test_on(16 << 20, body_pools);
}

/* Of a pool that is a speck in the index; of one that holds nothing to evict. */
static void body_rare(struct test_device *t)
{
    test_start(t, 4);
    struct engine_entry entry;
    for (uint64_t n = 0; n < 60000; n++) {
        struct state_piece piece = piece_of(n);
        piece.id.pool = 1;
        assert_int_equal(state_place(t->engine, &piece, t->engine->tick, 0), 0);
    }
    struct state_piece rare = piece_of(70000), tombstone = piece_of(70001);
    tombstone.form = BLOB_TOMBSTONE;
    tombstone.id.pool = 99;
    assert_int_equal(state_place(t->engine, &tombstone, t->engine->tick, 0), 0);
    assert_int_equal(engine_evict_pick(t->engine, 99, &entry), SHOAL_E_NOT_FOUND);
    for (uint64_t version = 1; version < 20; version++) {
        rare.version = test_version(version);
        assert_int_equal(state_place(t->engine, &rare, t->engine->tick, 0), 0);
        assert_int_equal(engine_evict_pick(t->engine, 1, &entry), 0);
        assert_int_equal(entry.id.pool, 1);
        assert_int_equal(engine_evict_pick(t->engine, TEST_POOL, &entry), 0);
        assert_true(blob_id_equal(&entry.id, &rare.id));
        assert_int_equal(blob_version_compare(&entry.version, &rare.version), 0);
    }
    engine_close(t->engine, true);
}

static void a_rare_pool_is_found_and_an_empty_one_is_not(void **state)
{
    (void)state;
    test_on(512 << 20, body_rare);
}

static void damaged_one(void *ctx, const struct engine_entry *entry)
{
    struct engine_entry *out = ctx;
    *out = *entry;
}

static void body_scrub(struct test_device *t)
{
    test_start(t, 4);
    for (uint64_t n = 0; n < 100; n++)
        test_put(t, n, n + 1, (uint32_t)n * 3000);
    struct blob_id id = test_id(50);
    uint64_t block = index_find_id(&t->engine->index, &id)->block;
    dev_sim_store_flip_bit(t->store, (block + 3) * 4096, 1);
    struct engine_entry found = {0};
    int64_t bytes, total = 0;
    unsigned steps = 0;
    struct engine_scrub_progress progress;
    do {
        bytes = engine_scrub_step(t->engine, 7, damaged_one, &found);
        assert_true(bytes >= 0);
        total += bytes;
        engine_scrub_progress(t->engine, &progress);
        assert_true(++steps < 100);
    } while (progress.passes == 0);
    assert_int_equal(progress.objects_checked, 100);
    assert_int_equal(progress.damaged, 1);
    assert_true(blob_id_equal(&found.id, &id));
    assert_true(found.hollow);
    assert_true(total > 100 * 99 / 2 * 3000);
    engine_close(t->engine, false);
}

static void scrubbing_finds_decay_and_nothing_else(void **state)
{
    (void)state;
    test_on(64 << 20, body_scrub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eviction_is_within_a_point_of_lru),
        cmocka_unit_test(what_has_expired_goes_first),
        cmocka_unit_test(each_pool_is_evicted_for_itself),
        cmocka_unit_test(a_rare_pool_is_found_and_an_empty_one_is_not),
        cmocka_unit_test(scrubbing_finds_decay_and_nothing_else),
    };
    return cmocka_run_group_tests_name("engine evict", tests, NULL, NULL);
}
