/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/hash.h"
#include "shoal/error.h"

static void expect_hex(const uint8_t *bytes, size_t length, const char *hex)
{
    char text[129];
    hex_encode(bytes, length, text);
    assert_string_equal(text, hex);
}

static void the_fast_hashes_are_those_of_the_format(void **state)
{
    (void)state;
    /* Placement stands on these values: if this fails, every stored blob would be elsewhere. */
    assert_int_equal(hash64("", 0, 0), UINT64_C(0x2d06800538d394c2));
    assert_int_equal(hash64("shoal", 5, 1), hash64("shoal", 5, 1));
    assert_int_not_equal(hash64("shoal", 5, 1), hash64("shoal", 5, 2));
    struct hash128 empty = hash128("", 0, 0);
    assert_int_equal(empty.lo, UINT64_C(0x6001c324468d497f));
    assert_int_equal(empty.hi, UINT64_C(0x99aa06d3014798d8));
}

static void mixing_tells_neighbours_apart(void **state)
{
    (void)state;
    int differ = 0;
    for (uint64_t i = 0; i < 1000; i++)
        differ += __builtin_popcountll(hash_mix64(i) ^ hash_mix64(i + 1));
    assert_in_range(differ / 1000, 28, 36);
}

static void sha256_gives_the_values_of_the_standard(void **state)
{
    (void)state;
    uint8_t out[SHA256_SIZE];
    sha256("abc", 3, out);
    expect_hex(out, sizeof out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256("", 0, out);
    expect_hex(out, sizeof out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void sha256_in_pieces_is_that_of_the_whole_and_can_begin_again(void **state)
{
    (void)state;
    uint8_t whole[SHA256_SIZE];
    uint8_t pieces[SHA256_SIZE];
    sha256("abcdefghij", 10, whole);
    struct sha256 *sha = sha256_create();
    for (int round = 0; round < 3; round++) {
        sha256_begin(sha);
        sha256_update(sha, "abc", 3);
        sha256_update(sha, "", 0);
        sha256_update(sha, "defghij", 7);
        sha256_finish(sha, pieces);
        assert_memory_equal(whole, pieces, sizeof whole);
    }
    sha256_destroy(sha);
}

static void hmac_gives_the_values_of_rfc_4231(void **state)
{
    (void)state;
    uint8_t out[SHA256_SIZE];
    struct hmac *hmac = hmac_create("Jefe", 4);
    for (int round = 0; round < 2; round++) {
        hmac_begin(hmac);
        hmac_update(hmac, "what do ya want ", 16);
        hmac_update(hmac, "for nothing?", 12);
        hmac_finish(hmac, out);
        expect_hex(out, sizeof out,
                   "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
    hmac_destroy(hmac);
}

static void an_empty_key_is_a_key(void **state)
{
    (void)state;
    uint8_t out[SHA256_SIZE];
    struct hmac *hmac = hmac_create(NULL, 0);
    assert_non_null(hmac);
    hmac_begin(hmac);
    hmac_finish(hmac, out);
    expect_hex(out, sizeof out, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
    hmac_destroy(hmac);
}

static void secrets_compare_by_content(void **state)
{
    (void)state;
    assert_true(hash_equal_secret("abc", "abc", 3));
    assert_false(hash_equal_secret("abc", "abd", 3));
}

static void hex_goes_both_ways_and_refuses_the_rest(void **state)
{
    (void)state;
    uint8_t bytes[2];
    char text[5];
    assert_int_equal(hex_decode("0aFf", 4, bytes, 2), 0);
    hex_encode(bytes, 2, text);
    assert_string_equal(text, "0aff");
    assert_int_equal(hex_decode("0aF", 3, bytes, 2), SHOAL_E_INVALID);
    assert_int_equal(hex_decode("0aFg", 4, bytes, 2), SHOAL_E_INVALID);
    assert_int_equal(hex_decode("0aff00", 6, bytes, 2), SHOAL_E_INVALID);
    assert_int_equal(hex_decode(" 0af", 4, bytes, 2), SHOAL_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fast_hashes_are_those_of_the_format),
        cmocka_unit_test(mixing_tells_neighbours_apart),
        cmocka_unit_test(sha256_gives_the_values_of_the_standard),
        cmocka_unit_test(sha256_in_pieces_is_that_of_the_whole_and_can_begin_again),
        cmocka_unit_test(hmac_gives_the_values_of_rfc_4231),
        cmocka_unit_test(an_empty_key_is_a_key),
        cmocka_unit_test(secrets_compare_by_content),
        cmocka_unit_test(hex_goes_both_ways_and_refuses_the_rest),
    };
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
