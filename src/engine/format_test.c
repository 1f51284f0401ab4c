/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine writes decodes to what was meant, and one wrong bit anywhere is refused. */
#include "engine/record.h"
#include "engine/test_engine.h"

static void devices_of_any_size_are_laid_out_soundly(void **state)
{
    (void)state;
    struct layout layout;
    assert_int_equal(layout_compute(ENGINE_DEVICE_MIN - 1, &layout), SHOAL_E_INVALID);
    assert_int_equal(layout_compute(UINT64_MAX, &layout), SHOAL_E_TOO_LARGE);
    for (uint64_t size = ENGINE_DEVICE_MIN; size < UINT64_C(1) << 50; size += size / 3 + 4097) {
        assert_int_equal(layout_compute(size, &layout), 0);
        assert_true(layout.journal_start == 1 && layout.journal_blocks >= 64);
        assert_true(layout.checkpoint_start[0] == 1 + layout.journal_blocks);
        assert_true(layout.checkpoint_start[1] ==
                    layout.checkpoint_start[0] + layout.checkpoint_blocks);
        assert_true(layout.extent_start == layout.checkpoint_start[1] + layout.checkpoint_blocks);
        assert_true(layout.extent_start + layout.extent_blocks < layout.blocks);
        assert_true(layout.extent_blocks % layout.segment_blocks == 0);
        /* Most of a device is for what people store. */
        assert_true(layout.extent_blocks * 100 >= layout.blocks * 80);
        uint64_t entries = layout.objects_max * CHECKPOINT_COMMITTED_BYTES;
        assert_true(layout.checkpoint_blocks * LAYOUT_BLOCK > entries);
    }
}

/* Whatever bit is turned, @decode must not take the @size bytes at @data for good. */
static void refuses_each_wrong_bit(uint8_t *data, size_t size, size_t step, int (*decode)(void))
{
    assert_int_equal(decode(), 0);
    for (size_t bit = 0; bit < size * 8; bit += step) {
        data[bit / 8] = (uint8_t)(data[bit / 8] ^ (1u << bit % 8));
        assert_int_not_equal(decode(), 0);
        data[bit / 8] = (uint8_t)(data[bit / 8] ^ (1u << bit % 8));
    }
    assert_int_equal(decode(), 0);
}

static uint8_t block[CHECKPOINT_CHUNK_BYTES];

static int decode_superblock(void)
{
    struct superblock sb;
    uint32_t version;
    return superblock_decode(block, &sb, &version);
}

static void a_superblock_is_refused_for_one_wrong_bit(void **state)
{
    (void)state;
    struct superblock sb = {.sequence = 9,
                            .cluster = {7},
                            .target = 3,
                            .partition_bits = 16,
                            .device = 5,
                            .secret = 6,
                            .generation = 2,
                            .blocks = 5000,
                            .stale = true};
    superblock_encode(block, &sb);
    refuses_each_wrong_bit(block, LAYOUT_BLOCK, 1, decode_superblock);
    struct superblock back;
    uint32_t version;
    assert_int_equal(superblock_decode(block, &back, &version), 0);
    assert_memory_equal(&sb.cluster, &back.cluster, sizeof sb.cluster);
    assert_true(back.sequence == 9 && back.target == 3 && back.partition_bits == 16 &&
                back.device == 5 && back.secret == 6 && back.generation == 2 &&
                back.blocks == 5000 && back.stale);
}

static int decode_group(void)
{
    struct group_header header;
    int rc = group_decode(block, 77, &header);
    return rc != 0 ? rc : group_check(block, &header);
}

static struct record sample_record(enum record_type type)
{
    struct record record = {.type = type};
    bool piece = type == RECORD_PREPARE || type == RECORD_REPAIR;
    if (piece || (type >= RECORD_COMMIT && type <= RECORD_DROP) || type == RECORD_HOLLOW) {
        record.id = test_id(type);
        record.version = test_version(type);
    }
    if (type == RECORD_DROP_PARTITION)
        record.partition = 99;
    if (piece) {
        record.kind = BLOB_STRIPE;
        record.form = BLOB_BYTES;
        record.shared = true;
        record.depends = 0x555;
        record.shard_len = 123;
        record.place = (struct extent_place){12345678901, 3, 4};
        record.header_crc = 0xdeadbeef;
        record.expires_s = 17;
        record.request = (struct blob_request_id){1, 2};
    }
    return record;
}

static void every_record_survives_and_a_group_is_refused_for_one_wrong_bit(void **state)
{
    (void)state;
    struct group_header header = {.device = 77,
                                  .generation = 3,
                                  .position = 99,
                                  .first_seq = 1000,
                                  .barrier = 998,
                                  .chain = 4,
                                  .bytes = GROUP_HEADER_BYTES};
    for (unsigned type = RECORD_PREPARE; type <= RECORD_TORN; type++) {
        struct record record = sample_record(type);
        header.bytes += (uint32_t)record_encode(block + header.bytes, &record);
        header.records++;
    }
    group_seal(block, &header);
    assert_int_equal(header.blocks, 1);
    refuses_each_wrong_bit(block, LAYOUT_BLOCK, 7, decode_group);
    struct group_header back;
    assert_int_equal(group_decode(block, 78, &back), SHOAL_E_CORRUPT);
    assert_int_equal(group_decode(block, 77, &back), 0);
    assert_true(back.generation == 3 && back.position == 99 && back.first_seq == 1000 &&
                back.barrier == 998 && back.chain == 4 && back.records == header.records);
    struct decoder in = decoder_init(block + GROUP_HEADER_BYTES, back.bytes - GROUP_HEADER_BYTES);
    for (unsigned type = RECORD_PREPARE; type <= RECORD_TORN; type++) {
        struct record wanted = sample_record(type), found;
        record_decode(&in, &found);
        assert_true(decoder_ok(&in));
        assert_int_equal(found.type, wanted.type);
        assert_memory_equal(&found.id, &wanted.id, sizeof found.id);
        assert_int_equal(blob_version_compare(&found.version, &wanted.version), 0);
        assert_int_equal(found.partition, wanted.partition);
        assert_int_equal(found.place.block, wanted.place.block);
        assert_int_equal(found.place.slab_log, wanted.place.slab_log);
        assert_int_equal(found.header_crc, wanted.header_crc);
        assert_int_equal(found.request.lo, wanted.request.lo);
        assert_int_equal(found.depends, wanted.depends);
    }
    assert_true(decoder_done(&in));
}

static void a_record_that_cannot_be_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[RECORD_BYTES_MAX];
    struct record record = sample_record(RECORD_PREPARE), back;
    size_t length = record_encode(bytes, &record);
    const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{0, 0},  {0, 10}, {1, 0},  {1, 1},  {1, 5},    {1, 200},
                 {58, 0}, {58, 4}, {59, 0}, {59, 9}, {68, 0xff}};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        uint8_t saved = bytes[wrong[i].at];
        bytes[wrong[i].at] = wrong[i].value;
        struct decoder in = decoder_init(bytes, length);
        record_decode(&in, &back);
        assert_false(decoder_done(&in));
        bytes[wrong[i].at] = saved;
    }
}

static int decode_extent(void)
{
    static struct extent_header header;
    return extent_header_decode(block, EXTENT_HEADER_MAX, &header);
}

static void an_extent_is_refused_for_one_wrong_bit(void **state)
{
    (void)state;
    static struct extent_header back;
    static uint8_t payload[40000];
    const struct extent_owner owner = {
        .device = 7, .cluster = {1}, .target = 2, .partition_bits = 16};
    const struct extent_place place = {600, 5, 1};
    struct blob_desc desc = test_desc(1, 1, sizeof payload);
    uint32_t units[3];
    test_fill(payload, 1, 1, sizeof payload);
    for (uint32_t i = 0; i < 3; i++)
        units[i] =
            crc32c(0, payload + i * ENGINE_UNIT_BYTES, extent_unit_length(sizeof payload, i));
    uint32_t crc =
        extent_header_encode(block, EXTENT_HEADER_MAX, &owner, &place, &desc, false, units);
    refuses_each_wrong_bit(block, load_le32(block + 8), 1, decode_extent);
    assert_int_equal(extent_header_decode(block, EXTENT_HEADER_MAX, &back), 0);
    assert_int_equal(back.crc, crc);
    assert_memory_equal(&back.owner, &owner, sizeof owner);
    assert_true(blob_id_equal(&back.desc.id, &desc.id));
    for (uint32_t i = 0; i < 3; i++) {
        uint8_t *unit = payload + i * ENGINE_UNIT_BYTES;
        assert_int_equal(extent_unit_check(&back, i, unit), 0);
        unit[extent_unit_length(sizeof payload, i) - 1] ^= 1;
        assert_int_equal(extent_unit_check(&back, i, unit), SHOAL_E_CORRUPT);
    }
}

static struct checkpoint_chunk chunk;

static int decode_chunk(void)
{
    struct checkpoint_chunk found;
    int rc = checkpoint_chunk_decode(block, &found);
    return rc != 0 ? rc : checkpoint_chunk_check(block, &found);
}

static int decode_head(void)
{
    struct checkpoint_head head;
    return checkpoint_head_decode(block, 7, &head);
}

static void a_checkpoint_is_refused_for_one_wrong_bit(void **state)
{
    (void)state;
    struct checkpoint_head head = {.device = 7, .id = 8, .chunks = 2, .blocks = 70};
    checkpoint_head_encode(block, &head);
    refuses_each_wrong_bit(block, LAYOUT_BLOCK, 5, decode_head);

    const struct checkpoint_entry entries[] = {
        {.id = test_id(1),
         .version = test_version(1),
         .kind = BLOB_HEAD,
         .form = BLOB_BYTES,
         .hollow = true,
         .class_id = 3,
         .slab_log = 2,
         .shard_len = 99,
         .block = 1234,
         .expires_s = 5,
         .tick = 6},
        {.id = test_id(2),
         .version = test_version(2),
         .kind = BLOB_UPLOAD,
         .form = BLOB_MARKER,
         .torn = true,
         .shared = true,
         .depends = 7,
         .request = {1, 2}},
    };
    for (unsigned space = CHECKPOINT_PREPARED; space <= CHECKPOINT_COMMITTED; space++) {
        const struct checkpoint_entry *entry = &entries[space == CHECKPOINT_PREPARED];
        struct checkpoint_entry back;
        uint8_t *at = block + CHECKPOINT_CHUNK_HEADER;
        checkpoint_entry_encode(at, space, entry);
        assert_int_equal(checkpoint_entry_decode(at, space, &back), 0);
        assert_true(blob_id_equal(&back.id, &entry->id));
        assert_true(back.hollow == entry->hollow && back.torn == entry->torn &&
                    back.shared == entry->shared &&
                    back.block == entry->block && back.tick == entry->tick &&
                    back.depends == entry->depends && back.request.lo == entry->request.lo &&
                    back.expires_s == entry->expires_s && back.slab_log == entry->slab_log);
        chunk = (struct checkpoint_chunk){.device = 7, .id = 8, .entries = 1, .space = space};
        checkpoint_chunk_seal(block, CHECKPOINT_CHUNK_HEADER + checkpoint_entry_bytes(space),
                              &chunk);
        refuses_each_wrong_bit(block, LAYOUT_BLOCK, 5, decode_chunk);
        /* One entry more than there is room for. */
        chunk.entries = 1 + (LAYOUT_BLOCK - CHECKPOINT_CHUNK_HEADER) / 80;
        checkpoint_chunk_seal(block, LAYOUT_BLOCK, &chunk);
        assert_int_not_equal(decode_chunk(), 0);
    }
    struct checkpoint_entry bad = entries[0], back;
    bad.kind = 9;
    checkpoint_entry_encode(block, CHECKPOINT_COMMITTED, &bad);
    assert_int_equal(checkpoint_entry_decode(block, CHECKPOINT_COMMITTED, &back), SHOAL_E_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_of_any_size_are_laid_out_soundly),
        cmocka_unit_test(a_superblock_is_refused_for_one_wrong_bit),
        cmocka_unit_test(every_record_survives_and_a_group_is_refused_for_one_wrong_bit),
        cmocka_unit_test(a_record_that_cannot_be_is_refused),
        cmocka_unit_test(an_extent_is_refused_for_one_wrong_bit),
        cmocka_unit_test(a_checkpoint_is_refused_for_one_wrong_bit),
    };
    return cmocka_run_group_tests_name("engine format", tests, NULL, NULL);
}
