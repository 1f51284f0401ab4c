/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/test_engine.h"

#define DEVICE (16u << 20)
#define PIECES 40u

static char *said;
static size_t said_size;

static struct engine_fsck_result fsck(struct test_device *t, bool repair, int expected)
{
    struct engine_fsck_result result;
    free(said);
    FILE *out = open_memstream(&said, &said_size);
    int rc = engine_fsck(t->dev, t->arena, repair, out, &result);
    (void)fclose(out);
    if (rc != expected)
        print_message("fsck: %s\n%s", shoal_error_name(rc), said);
    assert_int_equal(rc, expected);
    return result;
}

static uint32_t length_of(uint64_t n)
{
    return (uint32_t)(n * 5003 % 70000);
}

/* A closed device with PIECES committed pieces and a prepared one. */
static void fill(struct test_device *t)
{
    test_start(t, 6);
    for (uint64_t n = 0; n < PIECES; n++)
        test_put(t, n, n + 1, length_of(n));
    assert_int_equal(test_prepare(t, PIECES, PIECES + 1, 100), 0);
    engine_close(t->engine, false);
}

static void verify_all(struct test_device *t)
{
    for (uint64_t n = 0; n < PIECES; n++)
        test_verify(t, n, n + 1, length_of(n));
}

static void smash(struct test_device *t, uint64_t block)
{
    uint8_t noise[LAYOUT_BLOCK];
    memset(noise, 0xa5, sizeof noise);
    dev_sim_store_write(t->store, block * LAYOUT_BLOCK, noise, sizeof noise);
}

static struct layout layout_of(struct test_device *t)
{
    struct layout layout;
    assert_int_equal(layout_compute(t->dev->size_bytes, &layout), 0);
    return layout;
}

static void body_clean(struct test_device *t)
{
    fill(t);
    struct engine_fsck_result result = fsck(t, false, 0);
    assert_int_equal(result.errors, 0);
    assert_int_equal(result.objects, PIECES + 1);
    assert_false(result.fatal);
}

static void a_healthy_device_has_no_errors(void **state)
{
    (void)state;
    test_on(DEVICE, body_clean);
}

static void body_superblock(struct test_device *t)
{
    struct layout layout = layout_of(t);
    for (unsigned which = 0; which < 2; which++) {
        struct engine_format_config config = {.target = 1, .partition_bits = 6, .force = true};
        assert_int_equal(engine_format(t->dev, t->arena, &config), 0);
        smash(t, layout.superblocks[which]);
        struct engine_fsck_result result = fsck(t, false, 0);
        assert_int_equal(result.errors, 1);
        assert_false(result.fatal);
        result = fsck(t, true, 0);
        assert_int_equal(result.repaired, 1);
        assert_int_equal(fsck(t, false, 0).errors, 0);
        test_open(t);
        assert_false(t->report.stale);
        engine_close(t->engine, true);
    }
}

static void a_damaged_superblock_is_mended_from_its_twin(void **state)
{
    (void)state;
    test_on(DEVICE, body_superblock);
}

static void body_both_superblocks(struct test_device *t)
{
    fill(t);
    struct layout layout = layout_of(t);
    smash(t, layout.superblocks[0]);
    smash(t, layout.superblocks[1]);
    assert_int_equal(test_try_open(t), SHOAL_E_FORMAT);
    assert_true(fsck(t, false, SHOAL_E_FORMAT).fatal);
    struct engine_fsck_result result = fsck(t, true, 0);
    assert_false(result.fatal);
    assert_int_equal(fsck(t, false, 0).errors, 0);
    test_open(t);
    assert_true(t->report.stale);
    assert_int_equal(t->report.target, 42);
    verify_all(t);
    engine_close(t->engine, false);
}

static void a_device_without_superblocks_is_rebuilt_from_its_extents(void **state)
{
    (void)state;
    test_on(DEVICE, body_both_superblocks);
}

static void body_checkpoints(struct test_device *t)
{
    fill(t);
    struct layout layout = layout_of(t);
    for (unsigned i = 0; i < 2; i++)
        smash(t, layout.checkpoint_start[i]);
    assert_int_equal(test_try_open(t), SHOAL_E_CORRUPT);
    assert_true(fsck(t, false, 0).fatal);
    assert_false(fsck(t, true, 0).fatal);
    test_open(t);
    assert_true(t->report.stale);
    verify_all(t);
    /* Stale until somebody says otherwise. */
    test_reopen(t, false);
    assert_true(t->report.stale);
    assert_int_equal(engine_clear_stale(t->engine), 0);
    test_reopen(t, false);
    assert_false(t->report.stale);
    verify_all(t);
    engine_close(t->engine, false);
}

static void a_device_without_checkpoints_is_rebuilt_and_stale(void **state)
{
    (void)state;
    test_on(DEVICE, body_checkpoints);
}

static void body_one_checkpoint(struct test_device *t)
{
    test_start(t, 6);
    for (uint64_t n = 0; n < PIECES; n++) {
        test_put(t, n, n + 1, length_of(n));
        if (n % 10 == 5)
            assert_int_equal(engine_checkpoint(t->engine), 0);
    }
    unsigned newest = (unsigned)t->engine->checkpoint.newest;
    engine_close(t->engine, true);
    struct layout layout = layout_of(t);
    smash(t, layout.checkpoint_start[newest] + 1);
    assert_int_equal(fsck(t, false, 0).errors, 1);
    test_open(t);
    assert_false(t->report.stale);
    verify_all(t);
    assert_int_equal(engine_checkpoint(t->engine), 0);
    test_reopen(t, true);
    verify_all(t);
    engine_close(t->engine, true);
}

static void a_damaged_checkpoint_is_made_good_by_the_older_one(void **state)
{
    (void)state;
    test_on(DEVICE, body_one_checkpoint);
}

static void body_extent(struct test_device *t)
{
    fill(t);
    test_open(t);
    struct blob_id id = test_id(7);
    uint64_t block = index_find_id(&t->engine->index, &id)->block;
    engine_close(t->engine, false);
    dev_sim_store_flip_bit(t->store, (block + 1) * LAYOUT_BLOCK + 5, 2);
    struct engine_fsck_result result = fsck(t, false, 0);
    assert_int_equal(result.errors, 1);
    assert_non_null(strstr(said, "piece 7/@"));
    result = fsck(t, true, 0);
    assert_int_equal(result.errors, 1);
    assert_int_equal(fsck(t, false, 0).errors, 0);
    test_open(t);
    struct engine_entry entry;
    assert_int_equal(engine_find(t->engine, &id, &entry, NULL), 0);
    assert_true(entry.hollow);
    engine_close(t->engine, false);
}

static void a_damaged_extent_is_named_and_becomes_hollow(void **state)
{
    (void)state;
    test_on(DEVICE, body_extent);
}

static void body_journal(struct test_device *t)
{
    test_start(t, 6);
    for (uint64_t n = 0; n < 12; n++)
        test_put(t, n, n + 1, 100);
    engine_close(t->engine, true);
    struct layout layout = layout_of(t);
    smash(t, layout.journal_start + 6);
    assert_int_equal(fsck(t, false, 0).errors, 1);
    assert_non_null(strstr(said, "journal: damaged"));
    test_open(t);
    assert_true(t->report.stale);
    assert_true(strlen(t->report.problem) > 0);
    for (uint64_t n = 0; n < 5; n++)
        test_verify(t, n, n + 1, 100);
    engine_close(t->engine, false);
}

static void damage_inside_the_journal_makes_the_target_stale(void **state)
{
    (void)state;
    test_on(DEVICE, body_journal);
}

static void body_foreign(struct test_device *t)
{
    assert_int_equal(test_try_open(t), SHOAL_E_FORMAT);
    assert_true(strlen(t->report.problem) > 0);
    assert_true(fsck(t, true, SHOAL_E_FORMAT).fatal);
    test_format(t, 4);
    struct engine_format_config config = {.target = 1, .partition_bits = 4};
    assert_int_equal(engine_format(t->dev, t->arena, &config), SHOAL_E_EXISTS);
    /* A newer format: both copies carry a version that we do not know, under a good checksum. */
    struct layout layout = layout_of(t);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t block[LAYOUT_BLOCK];
        dev_sim_store_read(t->store, layout.superblocks[i] * LAYOUT_BLOCK, block, sizeof block);
        store_le32(block + 8, SUPERBLOCK_VERSION + 1);
        store_le32(block + LAYOUT_BLOCK - 4, crc32c(0, block, LAYOUT_BLOCK - 4));
        dev_sim_store_write(t->store, layout.superblocks[i] * LAYOUT_BLOCK, block, sizeof block);
    }
    assert_int_equal(test_try_open(t), SHOAL_E_FORMAT);
    assert_non_null(strstr(t->report.problem, "version 2"));
    assert_true(fsck(t, true, SHOAL_E_FORMAT).fatal);
    assert_int_equal(engine_format(t->dev, t->arena, &config), SHOAL_E_EXISTS);
}

static void a_foreign_or_newer_format_is_refused(void **state)
{
    (void)state;
    test_on(DEVICE, body_foreign);
}

static unsigned count_of(const char *what)
{
    unsigned count = 0;
    for (const char *at = said; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

static void inspect(struct test_device *t, int expected)
{
    free(said);
    FILE *out = open_memstream(&said, &said_size);
    int rc = engine_inspect(t->dev, t->arena, out);
    (void)fclose(out);
    assert_int_equal(rc, expected);
}

static void body_inspect(struct test_device *t)
{
    fill(t);
    inspect(t, 0);
    assert_non_null(strstr(said, "\"target\": 42"));
    assert_non_null(strstr(said, "\"committed\": 40"));
    assert_non_null(strstr(said, "\"prepared\": 1"));
}

static void body_inspect_much(struct test_device *t)
{
    test_start(t, 6);
    for (uint64_t n = 0; n < 1100; n++)
        test_put(t, n, n + 1, 10);
    struct blob_desc tombstone = test_desc(0, 2000, 0);
    tombstone.form = BLOB_TOMBSTONE;
    assert_int_equal(test_prepare_desc(t, &tombstone, 0, 2000), 0);
    for (uint64_t n = 2000; n < 2050; n++)
        assert_int_equal(test_prepare(t, n, n + 1, 10), 0);
    struct layout layout = layout_of(t);
    engine_close(t->engine, true);
    inspect(t, 0);
    assert_int_equal(count_of("\"key\":"), 1000);
    assert_int_equal(count_of("\"whole\": true"), 64);
    assert_non_null(strstr(said, "\"form\": \"tombstone\""));
    assert_non_null(strstr(said, "\"committed\": 1100"));
    assert_non_null(strstr(said, "\"stale\": false"));
    /* A group of which one bit is wrong, and no checkpoint. */
    dev_sim_store_flip_bit(t->store, (layout.journal_start + 2) * LAYOUT_BLOCK + 200, 1);
    smash(t, layout.checkpoint_start[0]);
    smash(t, layout.checkpoint_start[1]);
    inspect(t, SHOAL_E_CORRUPT);
    assert_int_equal(count_of("\"whole\": false"), 1);
    assert_int_equal(count_of("\"error\""), 2);
    assert_non_null(strstr(said, "neither checkpoint"));
    (void)fsck(t, true, 0);
    inspect(t, 0);
    assert_non_null(strstr(said, "\"stale\": true"));
}

static void inspecting_much_shows_the_first_of_it(void **state)
{
    (void)state;
    test_on(64 << 20, body_inspect_much);
}

/* A prepared piece, the copies of the superblock, and what is hollow already. */
static void body_findings(struct test_device *t)
{
    fill(t);
    test_open(t);
    struct blob_id id = test_id(PIECES);
    uint64_t block = prepared_find(&t->engine->prepared, &id)->place.block;
    engine_close(t->engine, false);
    dev_sim_store_flip_bit(t->store, block * LAYOUT_BLOCK + 20, 2);
    assert_int_equal(fsck(t, false, 0).errors, 1);
    assert_int_equal(fsck(t, true, 0).errors, 1);
    struct engine_fsck_result result = fsck(t, true, 0);
    assert_true(result.errors == 0 && result.repaired == 0);
    assert_non_null(strstr(said, "hollow"));

    struct layout layout = layout_of(t);
    uint8_t bytes[LAYOUT_BLOCK];
    struct superblock sb;
    uint32_t version;
    dev_sim_store_read(t->store, 0, bytes, sizeof bytes);
    assert_int_equal(superblock_decode(bytes, &sb, &version), 0);
    sb.sequence--;
    superblock_encode(bytes, &sb);
    dev_sim_store_write(t->store, layout.superblocks[1] * LAYOUT_BLOCK, bytes, sizeof bytes);
    assert_int_equal(fsck(t, false, 0).errors, 0);
    assert_non_null(strstr(said, "the copies differ"));
}

static void each_finding_is_said_once_and_repaired_once(void **state)
{
    (void)state;
    test_on(DEVICE, body_findings);
}

static void inspecting_tells_what_is_there(void **state)
{
    (void)state;
    test_on(DEVICE, body_inspect);
}

static int forget_output(void **state)
{
    (void)state;
    free(said);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_device_has_no_errors),
        cmocka_unit_test(a_damaged_superblock_is_mended_from_its_twin),
        cmocka_unit_test(a_device_without_superblocks_is_rebuilt_from_its_extents),
        cmocka_unit_test(a_device_without_checkpoints_is_rebuilt_and_stale),
        cmocka_unit_test(a_damaged_checkpoint_is_made_good_by_the_older_one),
        cmocka_unit_test(a_damaged_extent_is_named_and_becomes_hollow),
        cmocka_unit_test(damage_inside_the_journal_makes_the_target_stale),
        cmocka_unit_test(a_foreign_or_newer_format_is_refused),
        cmocka_unit_test(each_finding_is_said_once_and_repaired_once),
        cmocka_unit_test(inspecting_tells_what_is_there),
        cmocka_unit_test(inspecting_much_shows_the_first_of_it),
    };
    return cmocka_run_group_tests_name("engine fsck", tests, NULL, forget_output);
}
