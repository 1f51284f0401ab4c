/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/codec.h"

static void what_is_encoded_decodes_to_the_same(void **state)
{
    (void)state;
    uint8_t buffer[64];
    struct encoder out = encoder_init(buffer, sizeof buffer);
    encode_u8(&out, 0xab);
    encode_u16(&out, 0x1234);
    encode_u32(&out, 0xdeadbeef);
    encode_u64(&out, UINT64_C(0x0102030405060708));
    encode_bool(&out, true);
    encode_string(&out, "shoal");
    encode_zeros(&out, 3);
    encode_bytes(&out, "xyz", 3);
    assert_true(encoder_ok(&out));

    struct decoder in = decoder_init(buffer, encoder_length(&out));
    char text[6];
    uint8_t bytes[3];
    assert_int_equal(decode_u8(&in), 0xab);
    assert_int_equal(decode_u16(&in), 0x1234);
    assert_int_equal(decode_u32(&in), 0xdeadbeef);
    assert_int_equal(decode_u64(&in), UINT64_C(0x0102030405060708));
    assert_true(decode_bool(&in));
    decode_string(&in, text, sizeof text);
    assert_string_equal(text, "shoal");
    decode_skip(&in, 3);
    decode_bytes(&in, bytes, 3);
    assert_memory_equal(bytes, "xyz", 3);
    assert_true(decoder_done(&in));
}

static void numbers_lie_with_the_low_byte_first(void **state)
{
    (void)state;
    uint8_t buffer[14];
    struct encoder out = encoder_init(buffer, sizeof buffer);
    encode_u16(&out, 0x0201);
    encode_u32(&out, 0x04030201);
    encode_u64(&out, UINT64_C(0x0807060504030201));
    assert_memory_equal(buffer, "\1\2\1\2\3\4\1\2\3\4\5\6\7\10", 14);
}

static void an_encoder_that_is_full_fails_for_good_and_writes_no_further(void **state)
{
    (void)state;
    uint8_t buffer[8];
    memset(buffer, 0x55, sizeof buffer);
    struct encoder out = encoder_init(buffer, 5);
    encode_u32(&out, 1);
    encode_u16(&out, 0xffff);
    assert_false(encoder_ok(&out));
    encode_u8(&out, 0xff);
    assert_int_equal(encoder_length(&out), 4);
    assert_int_equal(encoder_left(&out), 0);
    assert_memory_equal(buffer + 4, "\x55\x55\x55\x55", 4);
}

static void a_decoder_that_ran_out_fails_for_good_and_gives_zeros(void **state)
{
    (void)state;
    const uint8_t data[5] = {1, 2, 3, 4, 5};
    uint8_t bytes[4] = {9, 9, 9, 9};
    struct decoder in = decoder_init(data, sizeof data);
    (void)decode_u32(&in);
    assert_int_equal(decode_u16(&in), 0);
    assert_false(decoder_ok(&in));
    assert_int_equal(decode_u8(&in), 0);
    decode_bytes(&in, bytes, sizeof bytes);
    assert_memory_equal(bytes, "\0\0\0\0", 4);
    assert_null(decode_view(&in, 0));
    assert_int_equal(decoder_left(&in), 0);
    assert_false(decoder_done(&in));
}

static void bytes_left_over_are_noticed(void **state)
{
    (void)state;
    const uint8_t data[2] = {1, 2};
    struct decoder in = decoder_init(data, sizeof data);
    (void)decode_u8(&in);
    assert_true(decoder_ok(&in));
    assert_false(decoder_done(&in));
}

static void a_bool_has_two_encodings_only(void **state)
{
    (void)state;
    const uint8_t data[1] = {2};
    struct decoder in = decoder_init(data, sizeof data);
    assert_false(decode_bool(&in));
    assert_false(decoder_ok(&in));
}

static void a_string_too_long_for_its_place_fails_and_leaves_it_empty(void **state)
{
    (void)state;
    uint8_t buffer[16];
    char text[5];
    struct encoder out = encoder_init(buffer, sizeof buffer);
    encode_string(&out, "shoal");
    struct decoder in = decoder_init(buffer, encoder_length(&out));
    decode_string(&in, text, sizeof text);
    assert_false(decoder_ok(&in));
    assert_string_equal(text, "");
}

static void a_string_with_a_zero_inside_is_refused(void **state)
{
    (void)state;
    uint8_t buffer[16];
    char text[8];
    struct encoder out = encoder_init(buffer, sizeof buffer);
    encode_blob16(&out, "a\0b", 3);
    struct decoder in = decoder_init(buffer, encoder_length(&out));
    decode_string(&in, text, sizeof text);
    assert_false(decoder_ok(&in));
    assert_string_equal(text, "");
}

static void a_length_beyond_the_end_is_refused(void **state)
{
    (void)state;
    const uint8_t data[4] = {200, 0, 1, 2};
    size_t size = 7;
    struct decoder in = decoder_init(data, sizeof data);
    assert_null(decode_blob16(&in, 1000, &size));
    assert_int_equal(size, 0);
    assert_false(decoder_ok(&in));
}

static void a_blob_larger_than_its_length_field_is_refused(void **state)
{
    (void)state;
    static uint8_t big[70000];
    static uint8_t buffer[80000];
    struct encoder out = encoder_init(buffer, sizeof buffer);
    encode_blob16(&out, big, sizeof big);
    assert_false(encoder_ok(&out));
}

static void each_cut_of_a_message_fails_cleanly(void **state)
{
    (void)state;
    uint8_t buffer[32];
    char text[8];
    struct encoder out = encoder_init(buffer, sizeof buffer);
    encode_u64(&out, 1);
    encode_string(&out, "abc");
    encode_u16(&out, 3);
    for (size_t length = 0; length < encoder_length(&out); length++) {
        struct decoder in = decoder_init(buffer, length);
        (void)decode_u64(&in);
        decode_string(&in, text, sizeof text);
        (void)decode_u16(&in);
        assert_false(decoder_ok(&in));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_encoded_decodes_to_the_same),
        cmocka_unit_test(numbers_lie_with_the_low_byte_first),
        cmocka_unit_test(an_encoder_that_is_full_fails_for_good_and_writes_no_further),
        cmocka_unit_test(a_decoder_that_ran_out_fails_for_good_and_gives_zeros),
        cmocka_unit_test(bytes_left_over_are_noticed),
        cmocka_unit_test(a_bool_has_two_encodings_only),
        cmocka_unit_test(a_string_too_long_for_its_place_fails_and_leaves_it_empty),
        cmocka_unit_test(a_string_with_a_zero_inside_is_refused),
        cmocka_unit_test(a_length_beyond_the_end_is_refused),
        cmocka_unit_test(a_blob_larger_than_its_length_field_is_refused),
        cmocka_unit_test(each_cut_of_a_message_fails_cleanly),
    };
    return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
