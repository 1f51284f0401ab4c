/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test_memory.h"
#include "engine/test_engine.h"

#define OBJECTS 40000u

static struct index index_;

static struct index_item item_of(uint64_t n, uint64_t version)
{
    return (struct index_item){
        .id = test_id(n),
        .version = test_version(version),
        .kind = BLOB_HEAD,
        .form = BLOB_BYTES,
        .shard_len = (uint32_t)(n % ENGINE_PAYLOAD_MAX),
        .block = (n << 5) + 1,
        .slab_log = (uint8_t)(n % 13),
        .stretch = (uint8_t)(n % 16),
        .tick = (uint16_t)n,
        .expires_s = n % 3 == 0 ? (uint32_t)n + 1 : 0,
    };
}

static void expect(uint64_t n, uint64_t version)
{
    struct blob_id id = test_id(n);
    struct index_slot *slot = index_find_id(&index_, &id);
    assert_non_null(slot);
    struct index_item found, wanted = item_of(n, version);
    index_read(&index_, slot, &found);
    assert_memory_equal(&found.id, &wanted.id, sizeof found.id);
    assert_int_equal(blob_version_compare(&found.version, &wanted.version), 0);
    assert_int_equal(found.block, wanted.block);
    assert_int_equal(found.shard_len, wanted.shard_len);
    assert_int_equal(found.slab_log, wanted.slab_log);
    assert_int_equal(found.stretch, wanted.stretch);
    assert_int_equal(found.tick, wanted.tick);
    assert_int_equal(found.expires_s, wanted.expires_s);
}

static void walk_is_complete_and_in_order(unsigned bits, uint64_t expected)
{
    struct index_item items[INDEX_TABLE_MAX];
    uint64_t hashes[INDEX_TABLE_MAX], seen = 0;
    struct index_key key = {0, 0}, next;
    for (; key.partition < 1u << bits; key = next) {
        unsigned count = index_walk_table(&index_, &key, items, hashes, &next);
        for (unsigned i = 0; i < count; i++) {
            assert_true(hashes[i] >= key.hash && (i == 0 || hashes[i] >= hashes[i - 1]));
            assert_true(next.partition > key.partition || hashes[i] < next.hash);
            assert_int_equal(blob_partition(&items[i].id, bits), key.partition);
        }
        seen += count;
        assert_true(next.partition > key.partition || next.hash > key.hash);
    }
    assert_int_equal(seen, expected);
}

static void the_index_keeps_what_is_put_in(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits <= 12; bits += 6) {
        assert_int_equal(index_init(&index_, bits, 77, OBJECTS + 10), 0);
        for (uint64_t n = 0; n < OBJECTS; n++) {
            struct index_item item = item_of(n, n + 1);
            assert_int_equal(index_insert(&index_, &item), 0);
        }
        for (uint64_t n = 0; n < OBJECTS; n += 7)
            expect(n, n + 1);
        walk_is_complete_and_in_order(bits, OBJECTS);
        for (uint64_t n = 0; n < OBJECTS; n += 2) {
            struct blob_id id = test_id(n);
            index_remove(&index_, &id);
        }
        for (uint64_t n = 1; n < OBJECTS; n += 2) {
            struct index_item item = item_of(n, n + 9);
            struct index_slot *slot = index_find_id(&index_, &item.id);
            assert_int_equal(index_replace(&index_, slot, &item), 0);
        }
        for (uint64_t n = 0; n < OBJECTS; n++) {
            struct blob_id id = test_id(n);
            if (n % 2 == 0)
                assert_null(index_find_id(&index_, &id));
            else if (n % 11 == 0)
                expect(n, n + 9);
        }
        walk_is_complete_and_in_order(bits, OBJECTS / 2);
        for (uint64_t n = 1; n < OBJECTS; n += 2) {
            struct blob_id id = test_id(n);
            index_remove(&index_, &id);
        }
        assert_int_equal(index_.count, 0);
        assert_int_equal(index_.dense.slabs_in_use, 0);
        assert_int_equal(index_.directory_bytes, 0);
        for (uint32_t p = 0; p < 1u << bits; p++)
            assert_int_equal(index_.partitions[p].digest, 0);
        index_free(&index_);
    }
}

static void the_digest_forgets_the_order(void **state)
{
    (void)state;
    uint64_t digests[2];
    for (unsigned way = 0; way < 2; way++) {
        assert_int_equal(index_init(&index_, 0, way, 1000), 0);
        for (uint64_t i = 0; i < 300; i++) {
            struct index_item item = item_of(way ? i : 299 - i, 5);
            item.form = way ? BLOB_BYTES : BLOB_MARKER;
            assert_int_equal(index_insert(&index_, &item), 0);
        }
        digests[way] = index_.partitions[0].digest;
        index_free(&index_);
    }
    assert_int_equal(digests[0], digests[1]);
    struct blob_id id = test_id(1);
    struct blob_version v = test_version(1), w = test_version(2);
    assert_int_not_equal(index_digest(&id, &v, BLOB_BYTES), index_digest(&id, &w, BLOB_BYTES));
    assert_int_not_equal(index_digest(&id, &v, BLOB_BYTES), index_digest(&id, &v, BLOB_TOMBSTONE));
}

static void a_full_index_says_so(void **state)
{
    (void)state;
    assert_int_equal(index_init(&index_, 4, 1, 100), 0);
    for (uint64_t n = 0; n < 100; n++) {
        struct index_item item = item_of(n, 1);
        assert_int_equal(index_insert(&index_, &item), 0);
    }
    struct index_item item = item_of(100, 1);
    assert_int_equal(index_insert(&index_, &item), SHOAL_E_FULL);
    index_free(&index_);
}

static void all_can_be_removed(uint64_t count)
{
    for (uint64_t n = 0; n < count; n++) {
        struct blob_id id = test_id(n);
        if (index_find_id(&index_, &id) != NULL)
            index_remove(&index_, &id);
    }
    assert_int_equal(index_.count, 0);
    assert_int_equal(index_.dense.slabs_in_use, 0);
    assert_int_equal(index_.directory_bytes, 0);
}

static void an_index_without_memory_for_a_directory_is_full_and_whole(void **state)
{
    (void)state;
    uint64_t stored = 0, refused = 0;
    assert_int_equal(index_init(&index_, 0, 7, 10000), 0);
    for (uint64_t n = 0; n < 5000; n++) {
        struct index_item item = item_of(n, n + 1);
        memory_fail_after(1);
        int rc = index_insert(&index_, &item);
        if (memory_fail_fired()) {
            assert_int_equal(rc, SHOAL_E_FULL);
            assert_null(index_find_id(&index_, &item.id));
            refused++;
            rc = index_insert(&index_, &item);
        }
        assert_int_equal(rc, 0);
        assert_int_equal(index_.count, ++stored);
    }
    assert_true(refused > 3);
    walk_is_complete_and_in_order(0, stored);
    for (uint64_t n = 0; n < 5000; n += 13)
        expect(n, n + 1);
    all_can_be_removed(5000);
    index_free(&index_);
}

/* Slabs are short at each moment in turn: what does not fit is refused, and all else stays. */
static void an_index_without_slabs_is_full_and_whole(void **state)
{
    (void)state;
    for (uint32_t slabs = 1; slabs < 12; slabs++) {
        uint64_t held = 0, refused = 0;
        assert_int_equal(index_init(&index_, 2, 7, 100000), 0);
        uint32_t all = index_.dense.slab_count;
        index_.dense.slab_count = slabs;
        for (uint64_t n = 0; n < 20000 && refused < 50; n++) {
            struct index_item item = item_of(n, n + 1);
            int rc = index_insert(&index_, &item);
            assert_true(rc == 0 || rc == SHOAL_E_FULL);
            refused += rc != 0;
            held += rc == 0;
            assert_int_equal(index_find_id(&index_, &item.id) != NULL, rc == 0);
        }
        assert_true(refused > 0);
        /* To keep an expiry the table of an entry grows. */
        for (uint64_t n = 0; n < 20000; n++) {
            struct index_item item = item_of(n, n + 2);
            struct index_slot *slot = index_find_id(&index_, &item.id);
            if (slot == NULL)
                continue;
            item.expires_s = 5;
            int rc = index_replace(&index_, slot, &item);
            assert_true(rc == 0 || rc == SHOAL_E_FULL);
            struct index_item found;
            index_read(&index_, index_find_id(&index_, &item.id), &found);
            assert_int_equal(found.version.counter, rc == 0 ? n + 2 : n + 1);
        }
        assert_int_equal(index_.count, held);
        walk_is_complete_and_in_order(2, held);
        all_can_be_removed(20000);
        index_.dense.slab_count = all;
        index_free(&index_);
    }
}

static void what_an_entry_cannot_hold_is_refused(void **state)
{
    (void)state;
    assert_int_equal(index_init(&index_, 0, 7, 10000), 0);
    struct index_item item = item_of(1, 1);
    assert_int_equal(index_insert(&index_, &item), 0);
    struct index_slot *slot = index_find_id(&index_, &item.id);
    item.version.counter = UINT64_C(1) << 48;
    assert_int_equal(index_replace(&index_, slot, &item), SHOAL_E_INVALID);
    struct index_item other = item_of(2, 1);
    other.version.counter = UINT64_C(1) << 48;
    assert_int_equal(index_insert(&index_, &other), SHOAL_E_INVALID);
    expect(1, 1);
    /* As many pools as there are numbers for; one that is empty makes place for another. */
    for (uint32_t n = 1; n < INTERN_POOLS; n++) {
        other = item_of(100 + n, 1);
        other.id.pool = 1000 + n;
        assert_int_equal(index_insert(&index_, &other), 0);
    }
    struct index_item more = item_of(3, 1);
    more.id.pool = 999;
    assert_int_equal(index_insert(&index_, &more), SHOAL_E_FULL);
    index_remove(&index_, &other.id);
    assert_int_equal(index_insert(&index_, &more), 0);
    index_free(&index_);
}

/* Real memory is checked at ten million by the benchmark; the shape of the growth is checked here.
 */
static void an_object_costs_at_most_64_bytes(void **state)
{
    (void)state;
    assert_int_equal(index_init(&index_, 10, 1, 1200000), 0);
    uint64_t fixed = index_bytes(&index_);
    for (uint64_t n = 0; n < 400000; n++) {
        struct index_item item = item_of(n * 3 + 1, 1);
        item.expires_s = 0;
        assert_int_equal(index_insert(&index_, &item), 0);
        if (n > 100000 && n % 20000 == 0)
            assert_true((index_bytes(&index_) - fixed) / n <= 64);
    }
    index_free(&index_);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_index_keeps_what_is_put_in),
        cmocka_unit_test(the_digest_forgets_the_order),
        cmocka_unit_test(a_full_index_says_so),
        cmocka_unit_test(an_index_without_memory_for_a_directory_is_full_and_whole),
        cmocka_unit_test(an_index_without_slabs_is_full_and_whole),
        cmocka_unit_test(what_an_entry_cannot_hold_is_refused),
        cmocka_unit_test(an_object_costs_at_most_64_bytes),
    };
    return cmocka_run_group_tests_name("engine index", tests, NULL, NULL);
}
