/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/crc32c.h"
#include "base/macros.h"
#include "base/random.h"

static uint8_t data[70000];

static void fill(uint64_t seed)
{
    struct prng prng;
    prng_seed(&prng, seed);
    prng_bytes(&prng, data, sizeof data);
}

static void the_standard_values_come_out(void **state)
{
    (void)state;
    static const uint8_t zeros[32];
    uint8_t ones[32];
    memset(ones, 0xff, sizeof ones);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    /* RFC 3720, appendix B.4 */
    assert_int_equal(crc32c(0, zeros, sizeof zeros), 0x8a9136aa);
    assert_int_equal(crc32c(0, ones, sizeof ones), 0x62a8ab43);
    assert_int_equal(crc32c(0, "", 0), 0);
}

static void each_length_and_alignment_agrees_with_the_definition(void **state)
{
    (void)state;
    fill(1);
    for (size_t length = 0; length < 600; length++) {
        size_t offset = length % 17;
        assert_int_equal(crc32c(0, data + offset, length),
                         crc32c_portable(0, data + offset, length));
    }
    for (size_t length = 4095; length < 65536; length += 7919)
        assert_int_equal(crc32c(5, data, length), crc32c_portable(5, data, length));
}

static void pieces_chain_to_the_whole(void **state)
{
    (void)state;
    fill(2);
    uint32_t whole = crc32c(0, data, 5000);
    for (size_t cut = 0; cut <= 5000; cut += 37)
        assert_int_equal(crc32c(crc32c(0, data, cut), data + cut, 5000 - cut), whole);
}

static void sums_made_apart_combine_to_the_whole(void **state)
{
    (void)state;
    fill(3);
    struct prng prng;
    prng_seed(&prng, 3);
    for (int i = 0; i < 300; i++) {
        size_t a = (size_t)prng_below(&prng, 30000);
        size_t b = (size_t)prng_below(&prng, 1 + (30000U >> prng_below(&prng, 16)));
        assert_int_equal(crc32c_combine(crc32c(0, data, a), crc32c(0, data + a, b), b),
                         crc32c(0, data, a + b));
    }
}

static void sums_of_units_join_to_the_sum_of_all(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 99, 100, 101, 1000, 1001};
    fill(7);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        uint32_t units[11];
        for (size_t at = 0; at < lengths[i]; at += 100)
            units[at / 100] = crc32c(0, data + at, MIN(lengths[i] - at, (size_t)100));
        assert_int_equal(crc32c_join(units, 100, lengths[i]), crc32c(0, data, lengths[i]));
    }
}

static void combining_long_lengths_is_associative(void **state)
{
    (void)state;
    /* Too long to be summed: a zero run of 2^40 bytes put together in two ways. */
    uint32_t crc = crc32c(0, "abc", 3);
    uint64_t half = UINT64_C(1) << 39;
    uint32_t in_two = crc32c_combine(crc32c_combine(crc, 0, half), 0, half);
    assert_int_equal(crc32c_combine(crc, 0, half * 2), in_two);
}

static void one_flipped_bit_changes_the_sum(void **state)
{
    (void)state;
    fill(4);
    uint32_t whole = crc32c(0, data, 4096);
    for (size_t bit = 0; bit < 4096 * 8; bit += 41) {
        data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        assert_int_not_equal(crc32c(0, data, 4096), whole);
        data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standard_values_come_out),
        cmocka_unit_test(each_length_and_alignment_agrees_with_the_definition),
        cmocka_unit_test(pieces_chain_to_the_whole),
        cmocka_unit_test(sums_made_apart_combine_to_the_whole),
        cmocka_unit_test(sums_of_units_join_to_the_sum_of_all),
        cmocka_unit_test(combining_long_lengths_is_associative),
        cmocka_unit_test(one_flipped_bit_changes_the_sum),
    };
    return cmocka_run_group_tests_name("crc32c", tests, NULL, NULL);
}
