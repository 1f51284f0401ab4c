/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks whose checksum is right and whose content is not: written by a bug, or by somebody else. */
#include "base/log.h"
#include "engine/record.h"
#include "engine/test_engine.h"

#define DEVICE (8u << 20)
#define PIECES 30u
#define PARTITION_BITS 4u

static struct layout layout;
static unsigned newest; /* area of the newer checkpoint */
static uint8_t bytes[CHECKPOINT_CHUNK_BYTES];
static FILE *nowhere;

static void load(struct test_device *t, uint64_t at, size_t size)
{
    dev_sim_store_read(t->store, at * LAYOUT_BLOCK, bytes, size);
}

static void store(struct test_device *t, uint64_t at, size_t size)
{
    dev_sim_store_write(t->store, at * LAYOUT_BLOCK, bytes, size);
}

/* Two whole checkpoints, two prepared pieces, and some records behind. */
static void fill(struct test_device *t)
{
    struct engine_format_config config = {
        .target = 42, .partition_bits = PARTITION_BITS, .force = true};
    assert_int_equal(engine_format(t->dev, t->arena, &config), 0);
    test_open(t);
    for (uint64_t n = 0; n < PIECES; n++)
        test_put(t, n, n + 1, 5000);
    for (uint64_t n = PIECES; n < PIECES + 2; n++)
        assert_int_equal(test_prepare(t, n, n + 1, 5000), 0);
    assert_int_equal(engine_checkpoint(t->engine), 0);
    assert_int_equal(engine_checkpoint(t->engine), 0);
    newest = (unsigned)t->engine->checkpoint.newest;
    for (uint64_t n = PIECES + 2; n < PIECES + 5; n++)
        test_put(t, n, n + 1, 5000);
    layout = t->engine->layout;
    engine_close(t->engine, true);
}

static struct engine_fsck_result fsck(struct test_device *t, bool repair)
{
    struct engine_fsck_result result;
    assert_int_equal(engine_fsck(t->dev, t->arena, repair, nowhere, &result), 0);
    return result;
}

static void verify_all(struct test_device *t)
{
    for (uint64_t n = 0; n < PIECES + 5; n++)
        test_verify(t, n, n + 1, 5000);
    assert_true(test_prepared(t, PIECES, PIECES + 1));
    assert_true(test_prepared(t, PIECES + 1, PIECES + 2));
}

/* ---- checkpoints ---- */

/* Head, one chunk (0: prepared pieces, 1: committed ones) and its first two entries. */
struct forged {
    uint64_t at; /* of the chunk, in blocks */
    size_t used; /* bytes of the chunk */
    enum checkpoint_space space;
    struct checkpoint_head head;
    struct checkpoint_chunk chunk;
    struct checkpoint_entry one, two;
};

static struct forged forge_begin(struct test_device *t, unsigned number)
{
    struct forged f = {.at = layout.checkpoint_start[newest]};
    load(t, f.at, LAYOUT_BLOCK);
    uint64_t device = load_le64(bytes + 8);
    assert_int_equal(checkpoint_head_decode(bytes, device, &f.head), 0);
    f.at++;
    for (unsigned i = 0; i <= number; i++) {
        f.at += f.chunk.blocks;
        load(t, f.at, sizeof bytes);
        assert_int_equal(checkpoint_chunk_decode(bytes, &f.chunk), 0);
    }
    uint8_t *entries = bytes + CHECKPOINT_CHUNK_HEADER;
    size_t step = checkpoint_entry_bytes(f.chunk.space);
    assert_int_equal(checkpoint_entry_decode(entries, f.chunk.space, &f.one), 0);
    assert_int_equal(checkpoint_entry_decode(entries + step, f.chunk.space, &f.two), 0);
    f.space = f.chunk.space;
    f.used = CHECKPOINT_CHUNK_HEADER + f.chunk.entries * step;
    return f;
}

static void forge_end(struct test_device *t, struct forged *f)
{
    uint8_t *entries = bytes + CHECKPOINT_CHUNK_HEADER;
    checkpoint_entry_encode(entries, f->space, &f->one);
    checkpoint_entry_encode(entries + checkpoint_entry_bytes(f->space), f->space, &f->two);
    uint32_t blocks = f->chunk.blocks;
    checkpoint_chunk_seal(bytes, f->used, &f->chunk);
    if (f->chunk.blocks != blocks) /* believed before the checksum is */
        store_le32(bytes + 28, blocks);
    store(t, f->at, round_up_u64(f->used, LAYOUT_BLOCK));
    checkpoint_head_encode(bytes, &f->head);
    store(t, layout.checkpoint_start[newest], LAYOUT_BLOCK);
}

#define FORGE(t, number, change)                                                                   \
    do {                                                                                           \
        fill(t);                                                                                   \
        struct forged f = forge_begin(t, number);                                                  \
        change;                                                                                    \
        forge_end(t, &f);                                                                          \
    } while (0)

/* The older checkpoint does, and what follows from it is complete. */
#define OLDER_SERVES(t, number, change)                                                            \
    do {                                                                                           \
        FORGE(t, number, change);                                                                  \
        test_open(t);                                                                              \
        assert_false((t)->report.stale);                                                           \
        verify_all(t);                                                                             \
        engine_close((t)->engine, true);                                                           \
    } while (0)

static void body_checkpoint(struct test_device *t)
{
    OLDER_SERVES(t, 1, f.head.device++);
    OLDER_SERVES(t, 1, f.head.chunks = 0);
    OLDER_SERVES(t, 1, f.head.chunks++);
    OLDER_SERVES(t, 1, f.head.blocks = 0);
    OLDER_SERVES(t, 1, f.head.blocks++);
    OLDER_SERVES(t, 1, f.head.blocks = layout.checkpoint_blocks);
    OLDER_SERVES(t, 1, f.head.committed++);
    OLDER_SERVES(t, 1, f.head.prepared++);
    OLDER_SERVES(t, 1, f.chunk.device++);
    OLDER_SERVES(t, 1, f.chunk.id++);
    OLDER_SERVES(t, 1, f.chunk.number++);
    OLDER_SERVES(t, 1, f.chunk.blocks = 0);
    OLDER_SERVES(t, 1, f.chunk.blocks = 64);
    OLDER_SERVES(t, 1, f.chunk.blocks = 65);
    OLDER_SERVES(t, 1, f.chunk.entries = 1000000);
    OLDER_SERVES(t, 1, f.chunk.entries--);
    OLDER_SERVES(t, 1, f.chunk.space = 3);
    OLDER_SERVES(t, 1, f.chunk.start.partition++);
    OLDER_SERVES(t, 1, f.chunk.start.hash++);
    OLDER_SERVES(t, 1, f.chunk.end.partition--);
    OLDER_SERVES(t, 0, f.chunk.entries = 1);
    OLDER_SERVES(t, 0, f.chunk.id++);
}

static void a_checkpoint_that_does_not_add_up_is_made_good_by_the_older_one(void **state)
{
    (void)state;
    test_on(DEVICE, body_checkpoint);
}

static void body_entry(struct test_device *t)
{
    for (unsigned number = 0; number < 2; number++) {
        OLDER_SERVES(t, number, f.one.kind = 0);
        OLDER_SERVES(t, number, f.one.kind = BLOB_UPLOAD + 1);
        OLDER_SERVES(t, number, f.one.form = 0);
        OLDER_SERVES(t, number, f.one.form = BLOB_TOMBSTONE + 1);
        OLDER_SERVES(t, number, f.one.version = (struct blob_version){0});
        OLDER_SERVES(t, number, f.one.shard_len = ENGINE_PAYLOAD_MAX + 1);
        OLDER_SERVES(t, number, f.one.id = f.two.id);
    }
    OLDER_SERVES(t, 1, f.one.version.counter = UINT64_C(1) << 48);
}

static void so_is_one_with_entries_that_cannot_be(void **state)
{
    (void)state;
    test_on(DEVICE, body_entry);
}

/* Its bytes are not to be trusted, and nobody else's are harmed. */
#define ONE_IS_HOLLOW(t, number, change)                                                           \
    do {                                                                                           \
        struct blob_id id;                                                                         \
        FORGE(t, number, change; id = f.one.id);                                                   \
        assert_true(fsck(t, false).errors > 0);                                                    \
        test_open(t);                                                                              \
        assert_true((t)->report.stale);                                                            \
        assert_non_null(strstr((t)->report.problem, "overlap"));                                   \
        struct engine_entry committed, prepared;                                                   \
        assert_int_equal(engine_find((t)->engine, &id, &committed, &prepared), 0);                 \
        assert_true(number == 0 ? prepared.hollow : committed.hollow);                             \
        engine_close((t)->engine, true);                                                           \
    } while (0)

static void body_places(struct test_device *t)
{
    for (unsigned number = 0; number < 2; number++) {
        ONE_IS_HOLLOW(t, number, f.one.block = layout.blocks - 1);
        ONE_IS_HOLLOW(t, number, f.one.class_id = ALLOC_CLASSES);
        ONE_IS_HOLLOW(t, number, f.one.slab_log = 15);
        ONE_IS_HOLLOW(t, number, f.one.block++);
    }
}

static void a_piece_in_the_place_of_another_is_hollow(void **state)
{
    (void)state;
    test_on(DEVICE, body_places);
}

/* ---- the journal ---- */

/* The last group of the ring holds @record only. Return: where the device stands. */
static void forge_record(struct test_device *t, const struct record *record, int type)
{
    fill(t);
    struct group_header last = {0}, header;
    uint64_t last_at = 0, device;
    load(t, layout.checkpoint_start[newest], LAYOUT_BLOCK);
    device = load_le64(bytes + 8);
    for (uint64_t at = layout.journal_start; at < layout.journal_start + layout.journal_blocks;
         at++) {
        load(t, at, GROUP_BYTES_MAX);
        if (group_decode(bytes, device, &header) == 0 && group_check(bytes, &header) == 0 &&
            header.first_seq > last.first_seq) {
            last = header;
            last_at = at;
        }
    }
    assert_true(last_at != 0);
    load(t, last_at, GROUP_BYTES_MAX);
    size_t len = record_encode(bytes + GROUP_HEADER_BYTES, record);
    if (type != 0)
        bytes[GROUP_HEADER_BYTES] = (uint8_t)type;
    last.bytes = (uint32_t)(GROUP_HEADER_BYTES + len);
    last.records = 1;
    group_seal(bytes, &last);
    store(t, last_at, (size_t)last.blocks * LAYOUT_BLOCK);
}

static struct record record_of(enum record_type type, uint64_t n, uint64_t version)
{
    return (struct record){.type = type,
                           .id = test_id(n),
                           .version = test_version(version),
                           .kind = BLOB_HEAD,
                           .form = BLOB_MARKER};
}

static void body_harmless(struct test_device *t)
{
    const struct record records[] = {
        record_of(RECORD_COMMIT, 1000, 1),       record_of(RECORD_ABORT, 1000, 1),
        record_of(RECORD_DROP, 1000, 1),         record_of(RECORD_HOLLOW, 1000, 1),
        record_of(RECORD_ABORT, PIECES, 999),    record_of(RECORD_DROP, 5, 999),
        record_of(RECORD_HOLLOW, 5, 999),        record_of(RECORD_COMMIT, PIECES, 999),
        {.type = RECORD_DROP_PARTITION, .partition = 1u << PARTITION_BITS},
    };
    for (unsigned i = 0; i < ARRAY_LEN(records); i++) {
        forge_record(t, &records[i], 0);
        assert_int_equal(fsck(t, false).errors, 0);
        test_open(t);
        test_verify(t, 5, 6, 5000);
        assert_true(test_prepared(t, PIECES, PIECES + 1));
        engine_close(t->engine, true);
    }
}

static void a_record_with_nothing_to_act_on_changes_nothing(void **state)
{
    (void)state;
    test_on(DEVICE, body_harmless);
}

static void body_acting(struct test_device *t)
{
    struct engine_entry committed, prepared;
    struct blob_id five = test_id(5), pending = test_id(PIECES);
    struct record record = record_of(RECORD_HOLLOW, 5, 6);
    forge_record(t, &record, 0);
    test_open(t);
    assert_int_equal(engine_find(t->engine, &five, &committed, NULL), 0);
    assert_true(committed.hollow);
    engine_close(t->engine, true);

    record = record_of(RECORD_HOLLOW, PIECES, PIECES + 1);
    forge_record(t, &record, 0);
    test_open(t);
    assert_int_equal(engine_find(t->engine, &pending, NULL, &prepared), 0);
    assert_true(prepared.hollow && !prepared.torn);
    engine_close(t->engine, true);

    record = record_of(RECORD_TORN, PIECES, PIECES + 1);
    forge_record(t, &record, 0);
    test_open(t);
    assert_int_equal(engine_find(t->engine, &pending, NULL, &prepared), 0);
    assert_true(prepared.hollow && prepared.torn);
    engine_close(t->engine, true);

    /* Bytes that never arrived, at a place that is another's, or nowhere. */
    for (unsigned i = 0; i < 4; i++) {
        record = record_of(i % 2 == 0 ? RECORD_PREPARE : RECORD_REPAIR, 1000, 1000);
        record.form = BLOB_BYTES;
        record.shard_len = 5000;
        record.place.block = i < 2 ? layout.extent_start : layout.blocks + 7;
        forge_record(t, &record, 0);
        test_open(t);
        assert_int_equal(engine_find(t->engine, &record.id, &committed, &prepared), 0);
        assert_true(i % 2 == 0 ? prepared.hollow : committed.hollow);
        test_verify(t, 5, 6, 5000);
        engine_close(t->engine, true);
    }
}

static void a_record_acts_on_what_it_names_and_on_nothing_else(void **state)
{
    (void)state;
    test_on(DEVICE, body_acting);
}

static void body_unknown(struct test_device *t)
{
    struct record record = record_of(RECORD_COMMIT, 5, 6);
    static const uint8_t types[] = {200, RECORD_TORN + 1};
    for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
        forge_record(t, &record, types[i]);
        assert_int_equal(test_try_open(t), SHOAL_E_CORRUPT);
        assert_non_null(strstr(t->report.problem, "record"));
        assert_true(fsck(t, false).fatal);
        assert_false(fsck(t, true).fatal);
        test_open(t);
        assert_true(t->report.stale);
        test_verify(t, 5, 6, 5000);
        engine_close(t->engine, true);
    }
}

static void a_record_of_an_unknown_kind_stops_the_opening(void **state)
{
    (void)state;
    test_on(DEVICE, body_unknown);
}

/* ---- extents ---- */

static void smash_all_but_the_extents(struct test_device *t, bool superblocks)
{
    memset(bytes, 0xa5, sizeof bytes);
    store(t, layout.checkpoint_start[0], LAYOUT_BLOCK);
    store(t, layout.checkpoint_start[1], LAYOUT_BLOCK);
    for (unsigned i = 0; i < 2 && superblocks; i++)
        store(t, layout.superblocks[i], LAYOUT_BLOCK);
}

/* A piece whose header stands at @at, says @place, and is followed by its payload. */
static void plant(struct test_device *t, uint64_t at, const struct extent_place *place,
                  const struct extent_owner *owner, const struct blob_desc *desc, uint64_t version)
{
    uint32_t unit;
    memset(bytes, 0, sizeof bytes);
    test_fill(bytes + LAYOUT_BLOCK, 1, version, desc->shard_len);
    unit = crc32c(0, bytes + LAYOUT_BLOCK, desc->shard_len);
    extent_header_encode(bytes, LAYOUT_BLOCK, owner, place, desc, false, &unit);
    store(t, at, 4 * LAYOUT_BLOCK);
}

static void body_planted(struct test_device *t)
{
    fill(t);
    test_open(t);
    struct extent_owner owner = t->engine->owner, foreign = owner;
    foreign.device++;
    struct extent_place places[5];
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(alloc_take(&t->engine->alloc, 3, &places[i]), 0);
    engine_close(t->engine, true);

    /* Of one object, in one epoch: the later one is newer, whatever the versions count. */
    struct blob_desc desc = test_desc(500, 10, 5000);
    desc.created_s = 2000;
    plant(t, places[0].block, &places[0], &owner, &desc, 10);
    desc = test_desc(500, 11, 5000);
    desc.created_s = 1999;
    plant(t, places[1].block, &places[1], &owner, &desc, 11);
    /* Another's, a misdirected one, and one whose place is in the middle of others. */
    desc = test_desc(501, 12, 5000);
    plant(t, places[2].block, &places[2], &foreign, &desc, 12);
    desc = test_desc(502, 13, 5000);
    plant(t, places[3].block, &places[2], &owner, &desc, 13);
    struct extent_place odd = places[4];
    odd.class_id = ALLOC_CLASSES - 1;
    desc = test_desc(503, 14, 5000);
    plant(t, places[4].block, &odd, &owner, &desc, 14);

    smash_all_but_the_extents(t, true);
    assert_false(fsck(t, true).fatal);
    test_open(t);
    assert_true(t->report.stale);
    struct blob_id id = test_id(500), none;
    assert_int_equal(engine_find(t->engine, &id, NULL, NULL), 0);
    for (uint64_t n = 501; n < 504; n++) {
        none = test_id(n);
        assert_int_equal(engine_find(t->engine, &none, NULL, NULL), SHOAL_E_NOT_FOUND);
    }
    for (uint64_t n = 0; n < PIECES; n++)
        test_verify(t, n, n + 1, 5000);
    engine_close(t->engine, true);
}

static void a_sweep_takes_only_what_is_its_own_and_where_it_belongs(void **state)
{
    (void)state;
    test_on(DEVICE, body_planted);
}

static void body_nobody(struct test_device *t)
{
    /* Extents that say a number of partitions that cannot be. */
    fill(t);
    struct extent_owner owner = {.device = 77, .partition_bits = BLOB_PARTITION_BITS_MAX + 1};
    memset(bytes, 0, sizeof bytes);
    for (uint64_t at = 0; at < layout.blocks; at++)
        store(t, at, LAYOUT_BLOCK);
    struct extent_place place = {.block = layout.extent_start};
    struct blob_desc desc = test_desc(1, 1, 5000);
    plant(t, place.block, &place, &owner, &desc, 1);
    smash_all_but_the_extents(t, true);
    struct engine_fsck_result result;
    assert_int_equal(engine_fsck(t->dev, t->arena, true, nowhere, &result), SHOAL_E_FORMAT);
    assert_true(result.fatal);
}

static void a_device_whose_extents_name_nobody_is_not_rebuilt(void **state)
{
    (void)state;
    test_on(DEVICE, body_nobody);
}

#define UNITS_AT 44u /* of an extent's header: how many units */

/* The header, with four bytes at @at changed and the checksum right again. */
static int decode_extent(size_t at, uint32_t value)
{
    struct extent_owner owner = {.device = 1};
    struct extent_place place = {.block = 9};
    struct blob_desc desc = test_desc(1, 1, 100);
    struct extent_header header;
    uint32_t unit = 7, shared = at == UINT32_MAX;
    extent_header_encode(bytes, LAYOUT_BLOCK, &owner, &place, &desc, true, &unit);
    if (shared == 0)
        store_le32(bytes + at, value);
    uint32_t len = MIN(load_le32(bytes + 8), LAYOUT_BLOCK);
    store_le32(bytes + 4, len < 8 ? 0 : crc32c(0, bytes + 8, len - 8));
    return extent_header_decode(bytes, LAYOUT_BLOCK, &header);
}

static void an_extent_that_does_not_add_up_is_corrupt(void **state)
{
    (void)state;
    assert_int_equal(decode_extent(UINT32_MAX, 0), 0);
    assert_int_equal(decode_extent(0, 1), SHOAL_E_CORRUPT);                 /* not ours */
    assert_int_equal(decode_extent(8, 0), SHOAL_E_CORRUPT);                 /* too short */
    assert_int_equal(decode_extent(8, EXTENT_HEADER_FIXED), SHOAL_E_CORRUPT); /* no description */
    assert_int_equal(decode_extent(8, LAYOUT_BLOCK + 1), SHOAL_E_CORRUPT);  /* beyond the block */
    assert_int_equal(decode_extent(8, LAYOUT_BLOCK), SHOAL_E_CORRUPT);      /* with bytes behind */
    assert_int_equal(decode_extent(UNITS_AT, 0), SHOAL_E_CORRUPT);
    assert_int_equal(decode_extent(UNITS_AT, 2), SHOAL_E_CORRUPT);
    assert_int_equal(decode_extent(UNITS_AT, EXTENT_UNITS_MAX + 1), SHOAL_E_CORRUPT);
    struct extent_header header;
    assert_int_equal(extent_header_decode(bytes, 8, &header), SHOAL_E_CORRUPT);
}

/* ---- superblocks ---- */

#define BOTH_SUPERBLOCKS(t, change)                                                                \
    do {                                                                                           \
        fill(t);                                                                                   \
        for (unsigned i = 0; i < 2; i++) {                                                         \
            struct superblock sb;                                                                  \
            uint32_t version;                                                                      \
            load(t, layout.superblocks[i], LAYOUT_BLOCK);                                          \
            assert_int_equal(superblock_decode(bytes, &sb, &version), 0);                          \
            change;                                                                                \
            superblock_encode(bytes, &sb);                                                         \
            store(t, layout.superblocks[i], LAYOUT_BLOCK);                                         \
        }                                                                                          \
    } while (0)

static void body_superblocks(struct test_device *t)
{
    BOTH_SUPERBLOCKS(t, sb.partition_bits = BLOB_PARTITION_BITS_MAX + 1);
    assert_int_equal(test_try_open(t), SHOAL_E_CORRUPT);
    assert_int_equal(engine_inspect(t->dev, t->arena, nowhere), SHOAL_E_CORRUPT);
    BOTH_SUPERBLOCKS(t, sb.blocks = ENGINE_DEVICE_MIN / LAYOUT_BLOCK - 1);
    assert_int_equal(test_try_open(t), SHOAL_E_CORRUPT);
    assert_true(fsck(t, false).fatal);
    assert_false(fsck(t, true).fatal);
    test_open(t);
    test_verify(t, 5, 6, 5000);
    engine_close(t->engine, true);
    /* The second copy is another device's: the first one counts. */
    BOTH_SUPERBLOCKS(t, sb.device += i; sb.sequence += i);
    assert_int_equal(fsck(t, false).errors, 1);
    test_open(t);
    assert_false(t->report.stale);
    verify_all(t);
    engine_close(t->engine, true);
    /* A crash between the two: the newer one counts. */
    BOTH_SUPERBLOCKS(t, sb.sequence += i; sb.stale = i == 1);
    assert_int_equal(fsck(t, false).errors, 0);
    test_open(t);
    assert_true(t->report.stale);
    engine_close(t->engine, true);
    /* An older superblock beside a newer journal: an old image. */
    BOTH_SUPERBLOCKS(t, sb.generation = 0);
    assert_int_equal(fsck(t, false).errors, 1);
    test_open(t);
    assert_true(t->report.stale);
    engine_close(t->engine, true);
}

static void superblocks_that_disagree_are_decided_between(void **state)
{
    (void)state;
    test_on(DEVICE, body_superblocks);
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
        cmocka_unit_test(a_checkpoint_that_does_not_add_up_is_made_good_by_the_older_one),
        cmocka_unit_test(so_is_one_with_entries_that_cannot_be),
        cmocka_unit_test(a_piece_in_the_place_of_another_is_hollow),
        cmocka_unit_test(a_record_with_nothing_to_act_on_changes_nothing),
        cmocka_unit_test(a_record_acts_on_what_it_names_and_on_nothing_else),
        cmocka_unit_test(a_record_of_an_unknown_kind_stops_the_opening),
        cmocka_unit_test(a_sweep_takes_only_what_is_its_own_and_where_it_belongs),
        cmocka_unit_test(a_device_whose_extents_name_nobody_is_not_rebuilt),
        cmocka_unit_test(an_extent_that_does_not_add_up_is_corrupt),
        cmocka_unit_test(superblocks_that_disagree_are_decided_between),
    };
    return cmocka_run_group_tests_name("engine forged", tests, begin, end);
}
