/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tcp_tag.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/random.h"
#include "net/net.h"

/* RFC 4493, section 4, example 4: a message of just a frame's length. */
static const char key_hex[] = "2b7e151628aed2a6abf7158809cf4f3c";
static const char message_hex[] =
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
static const char tag_hex[] = "51f0bebf7e3b9d92fc49741779363cfe";

static struct tcp_tag *example(uint8_t message[TCP_FRAME_BYTES], uint8_t tag[TCP_TAG_BYTES])
{
    uint8_t key[TCP_TAG_KEY_BYTES];
    assert_int_equal(hex_decode(key_hex, strlen(key_hex), key, sizeof key), 0);
    assert_int_equal(hex_decode(message_hex, strlen(message_hex), message, TCP_FRAME_BYTES), 0);
    assert_int_equal(hex_decode(tag_hex, strlen(tag_hex), tag, TCP_TAG_BYTES), 0);
    struct tcp_tag *made = tcp_tag_create(key);
    assert_non_null(made);
    return made;
}

static void the_tag_is_the_one_of_the_standard_each_time(void **state)
{
    (void)state;
    uint8_t message[TCP_FRAME_BYTES], expected[TCP_TAG_BYTES], made[TCP_TAG_BYTES];
    struct tcp_tag *tag = example(message, expected);
    for (unsigned i = 0; i < 3; i++) {
        tcp_tag_make(tag, message, NULL, 0, made);
        assert_memory_equal(made, expected, sizeof made);
    }
    tcp_tag_destroy(tag);
}

static void every_bit_of_frame_header_and_tag_counts(void **state)
{
    (void)state;
    uint8_t frame[TCP_FRAME_BYTES], made[TCP_TAG_BYTES], header[40] = {3};
    struct tcp_tag *tag = example(frame, made);
    tcp_tag_make(tag, frame, header, sizeof header, made);
    assert_true(tcp_tag_right(tag, frame, header, sizeof header, made));
    assert_false(tcp_tag_right(tag, frame, header, sizeof header - 1, made));
    struct {
        uint8_t *at;
        size_t len;
    } parts[] = {{frame, sizeof frame}, {header, sizeof header}, {made, sizeof made}};
    for (unsigned part = 0; part < 3; part++) {
        for (size_t bit = 0; bit < parts[part].len * 8; bit++) {
            parts[part].at[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_false(tcp_tag_right(tag, frame, header, sizeof header, made));
            parts[part].at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    tcp_tag_destroy(tag);
}

static void openssl_cmac(const uint8_t *key, const uint8_t *frame, const uint8_t *header,
                         size_t header_len, uint8_t out[TCP_TAG_BYTES])
{
    char cipher[] = "AES-128-CBC";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
                                 OSSL_PARAM_construct_end()};
    size_t len = 0;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "CMAC", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    assert_int_equal(EVP_MAC_init(ctx, key, TCP_TAG_KEY_BYTES, params), 1);
    assert_int_equal(EVP_MAC_update(ctx, frame, TCP_FRAME_BYTES), 1);
    assert_int_equal(EVP_MAC_update(ctx, header, header_len), 1);
    assert_int_equal(EVP_MAC_final(ctx, out, &len, TCP_TAG_BYTES), 1);
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
}

/* With many keys, since a subkey is derived in one of two ways, and headers of every remainder. */
static void tags_are_those_of_openssl_for_every_length_of_header(void **state)
{
    (void)state;
    uint8_t key[TCP_TAG_KEY_BYTES], frame[TCP_FRAME_BYTES], expected[TCP_TAG_BYTES];
    uint8_t made[TCP_TAG_BYTES];
    static uint8_t header[NET_HEADER_MAX];
    struct prng prng;
    prng_seed(&prng, 1);
    for (unsigned round = 0; round < 16; round++) {
        for (size_t i = 0; i < sizeof header; i++) {
            uint8_t byte = (uint8_t)prng_next(&prng);
            header[i] = key[i % sizeof key] = frame[i % sizeof frame] = byte;
        }
        struct tcp_tag *tag = tcp_tag_create(key);
        assert_non_null(tag);
        for (size_t len = 0; len <= sizeof header; len += len < 64 ? 1 : sizeof header / 16 - 4) {
            openssl_cmac(key, frame, header, len, expected);
            tcp_tag_make(tag, frame, header, len, made);
            assert_memory_equal(made, expected, sizeof made);
        }
        tcp_tag_destroy(tag);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tag_is_the_one_of_the_standard_each_time),
        cmocka_unit_test(every_bit_of_frame_header_and_tag_counts),
        cmocka_unit_test(tags_are_those_of_openssl_for_every_length_of_header),
    };
    return cmocka_run_group_tests_name("tcp tag", tests, NULL, NULL);
}
