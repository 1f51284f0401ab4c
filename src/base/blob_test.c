/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/blob.h"
#include "base/hash.h"
#include "base/macros.h"

static struct blob_desc sample(void)
{
    struct blob_desc desc = {
        .id = {.pool = 7},
        .version = {.epoch = 3, .incarnation = 9, .counter = UINT64_C(1) << 40},
        .kind = BLOB_HEAD,
        .form = BLOB_BYTES,
        .position = 2,
        .k = 4,
        .m = 2,
        .depends = 0x3f,
        .stripe_len = 4000,
        .stripe_crc = 0xdeadbeef,
        .shard_len = 1000,
        .blob_len = 9000,
        .stripe_size = 4000,
        .stripe_count = 3,
        .upload = 77,
        .request = {1, 2},
        .created_s = 1000,
        .expires_s = 2000,
        .name_len = 5,
    };
    memset(desc.id.key.bytes, 0xab, BLOB_KEY_BYTES);
    memcpy(desc.name, "a/b/c", 5);
    return desc;
}

static void versions_are_ordered_by_epoch_then_incarnation_then_counter(void **state)
{
    (void)state;
    const struct blob_version order[] = {{0, 0, 0}, {0, 0, 1}, {1, 0, 0}, {1, 0, 9},
                                         {1, 2, 0}, {1, 2, 3}, {2, 0, 0}};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        for (size_t j = 0; j < ARRAY_LEN(order); j++) {
            int sign = i < j ? -1 : i > j;
            assert_int_equal(blob_version_compare(&order[i], &order[j]), sign);
        }
        assert_int_equal(blob_version_is_none(&order[i]), i == 0);
    }
}

static void keys_of_different_kinds_never_meet(void **state)
{
    (void)state;
    struct blob_key head = blob_key_of_name("x", 1);
    struct blob_key keys[] = {
        head,
        blob_key_of_name("y", 1),
        blob_key_of_name("", 0),
        blob_key_of_stripe(&head, 5, 1),
        blob_key_of_stripe(&head, 5, 2),
        blob_key_of_stripe(&head, 6, 1),
        blob_key_of_upload(&head, 5),
        blob_key_of_upload(&head, 6),
    };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(&keys[i], &keys[j], sizeof keys[i]);
    struct blob_key expected;
    sha256("name\0x", 6, expected.bytes);
    assert_memory_equal(&head, &expected, sizeof head);
}

static void a_partition_is_the_top_of_the_hash(void **state)
{
    (void)state;
    struct blob_desc desc = sample();
    assert_int_equal(blob_partition(&desc.id, 0), 0);
    uint32_t wide = blob_partition(&desc.id, 24);
    for (unsigned bits = 1; bits < 24; bits++)
        assert_int_equal(blob_partition(&desc.id, bits), wide >> (24 - bits));
    struct blob_id other = desc.id;
    other.pool++;
    assert_int_not_equal(blob_partition(&other, 24), wide);
}

static void a_description_survives_encoding(void **state)
{
    (void)state;
    uint8_t bytes[BLOB_DESC_ENCODED_MAX];
    struct blob_desc desc = sample(), back = {0};
    desc.name_len = BLOB_NAME_MAX;
    memset(desc.name, 'n', BLOB_NAME_MAX);
    struct encoder out = encoder_init(bytes, sizeof bytes);
    blob_desc_encode(&out, &desc);
    assert_true(encoder_ok(&out));
    struct decoder in = decoder_init(bytes, encoder_length(&out));
    blob_desc_decode(&in, &back);
    assert_true(decoder_done(&in));
    assert_memory_equal(&desc, &back, sizeof desc);
}

static void a_description_cut_short_anywhere_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[BLOB_DESC_ENCODED_MAX];
    struct blob_desc desc = sample(), back;
    struct encoder out = encoder_init(bytes, sizeof bytes);
    blob_desc_encode(&out, &desc);
    for (size_t length = 0; length < encoder_length(&out); length++) {
        struct decoder in = decoder_init(bytes, length);
        blob_desc_decode(&in, &back);
        assert_false(decoder_ok(&in));
    }
}

static bool refused(struct blob_desc desc)
{
    uint8_t bytes[BLOB_DESC_ENCODED_MAX];
    struct blob_desc back;
    struct encoder out = encoder_init(bytes, sizeof bytes);
    blob_desc_encode(&out, &desc);
    struct decoder in = decoder_init(bytes, encoder_length(&out));
    blob_desc_decode(&in, &back);
    return !decoder_ok(&in);
}

static void a_description_that_cannot_be_is_refused(void **state)
{
    (void)state;
    struct blob_desc desc = sample();
    assert_false(refused(desc));
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        desc = sample();                                                                           \
        change;                                                                                    \
        assert_true(refused(desc));                                                                \
    } while (0)
    REFUSED(desc.kind = 0);
    REFUSED(desc.kind = 4);
    REFUSED(desc.form = 0);
    REFUSED(desc.form = 4);
    REFUSED(desc.position = 12);
    REFUSED(desc.k = 11);
    REFUSED(desc.depends = 0x1000);
    REFUSED(desc.form = BLOB_MARKER);
    REFUSED(desc.name[1] = 0);
#undef REFUSED
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_are_ordered_by_epoch_then_incarnation_then_counter),
        cmocka_unit_test(keys_of_different_kinds_never_meet),
        cmocka_unit_test(a_partition_is_the_top_of_the_hash),
        cmocka_unit_test(a_description_survives_encoding),
        cmocka_unit_test(a_description_cut_short_anywhere_is_refused),
        cmocka_unit_test(a_description_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests_name("blob", tests, NULL, NULL);
}
