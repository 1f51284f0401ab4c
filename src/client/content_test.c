/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/codec.h"
#include "base/hash.h"
#include "client/client_private.h"
#include "shoal/shoal.h"

#define PIECE ((size_t)CLIENT_CONTENT_PIECE)

static uint8_t *bytes(size_t len)
{
    uint8_t *data = malloc(len + 1);
    assert_non_null(data);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 131 >> 3);
    return data;
}

static void up_to_one_piece_the_key_is_the_sha256_of_the_bytes(void **state)
{
    (void)state;
    const size_t lens[] = {0, 1, 4096, PIECE};
    for (size_t i = 0; i < 4; i++) {
        uint8_t *data = bytes(lens[i]), want[SHA256_SIZE];
        struct shoal_key key;
        sha256(data, lens[i], want);
        shoal_key_of_content(data, lens[i], &key);
        assert_memory_equal(key.bytes, want, sizeof want);
        free(data);
    }
}

static void beyond_one_piece_the_key_is_that_of_the_documented_tree(void **state)
{
    (void)state;
    size_t len = 2 * PIECE + 5;
    uint8_t *data = bytes(len), want[SHA256_SIZE];
    uint8_t tree[12 + 8 + 3 * SHA256_SIZE];
    struct shoal_key key;
    memcpy(tree, "shoal-tree-1", 12);
    store_le64(tree + 12, len);
    for (size_t i = 0; i < 3; i++)
        sha256(data + i * PIECE, i < 2 ? PIECE : 5, tree + 20 + i * SHA256_SIZE);
    sha256(tree, sizeof tree, want);
    shoal_key_of_content(data, len, &key);
    assert_memory_equal(key.bytes, want, sizeof want);
    free(data);
}

static void the_key_does_not_depend_on_how_the_bytes_are_cut(void **state)
{
    (void)state;
    size_t len = PIECE + 12345;
    uint8_t *data = bytes(len);
    struct shoal_key whole;
    struct blob_key cut;
    shoal_key_of_content(data, len, &whole);
    struct client_hash *hash = client_hash_create();
    client_hash_begin(hash);
    for (size_t at = 0, step = 1; at < len; at += step, step = step * 3 + 1)
        client_hash_update(hash, data + at, step < len - at ? step : len - at);
    assert_int_equal(client_hash_finish(hash, &cut), 0);
    assert_memory_equal(cut.bytes, whole.bytes, sizeof cut.bytes);
    client_hash_destroy(hash);
    free(data);
}

static void a_slice_of_scattered_memory_is_what_lies_there(void **state)
{
    (void)state;
    uint8_t memory[100];
    struct iovec out[3], iov[] = {{memory, 10}, {memory + 10, 0}, {memory + 20, 30}, {memory + 60, 40}};
    assert_int_equal(iov_slice(iov, 4, 5, 40, out, 3), 3);
    assert_ptr_equal(out[0].iov_base, memory + 5);
    assert_int_equal(out[0].iov_len, 5);
    assert_ptr_equal(out[1].iov_base, memory + 20);
    assert_int_equal(out[1].iov_len, 30);
    assert_int_equal(out[2].iov_len, 5);
    assert_int_equal(iov_slice(iov, 4, 0, 80, out, 3), 3);
    assert_int_equal(iov_slice(iov, 4, 0, 81, out, 3), -1);
    assert_int_equal(iov_slice(iov, 4, 5, 40, out, 2), -1);
    assert_int_equal(iov_slice(iov, 4, 80, 0, out, 3), 0);
}

static void versions_are_printed_so_that_they_can_be_read_back(void **state)
{
    (void)state;
    struct shoal_version version = {.epoch = 12, .incarnation = 7, .counter = 1u << 30}, back;
    char text[64];
    shoal_version_print(&version, text, sizeof text);
    assert_int_equal(shoal_version_parse(text, &back), 0);
    assert_int_equal(shoal_version_compare(&version, &back), 0);
    assert_int_equal(shoal_version_parse("12.7", &back), SHOAL_E_INVALID);
    assert_int_equal(shoal_version_parse("12.7.9x", &back), SHOAL_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(up_to_one_piece_the_key_is_the_sha256_of_the_bytes),
        cmocka_unit_test(beyond_one_piece_the_key_is_that_of_the_documented_tree),
        cmocka_unit_test(the_key_does_not_depend_on_how_the_bytes_are_cut),
        cmocka_unit_test(a_slice_of_scattered_memory_is_what_lies_there),
        cmocka_unit_test(versions_are_printed_so_that_they_can_be_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
