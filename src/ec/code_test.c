/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/macros.h"
#include "base/random.h"
#include "ec/ec.h"
#include "ec/reference.h"
#include "shoal/error.h"

/* Each shard is its own heap block of the exact length, so that the sanitizer sees any overrun. */
struct shards {
    unsigned count;
    size_t len;
    uint8_t *at[EC_MEMBERS_MAX];
};

static struct prng prng;

static struct shards shards_new(unsigned count, size_t len)
{
    struct shards shards = {.count = count, .len = len};

    for (unsigned i = 0; i < count; i++) {
        shards.at[i] = malloc(len);
        assert_non_null(shards.at[i]);
        prng_bytes(&prng, shards.at[i], len);
    }
    return shards;
}

static struct shards shards_copy(const struct shards *from)
{
    struct shards shards = shards_new(from->count, from->len);

    for (unsigned i = 0; i < from->count; i++)
        memcpy(shards.at[i], from->at[i], from->len);
    return shards;
}

static void shards_free(struct shards *shards)
{
    for (unsigned i = 0; i < shards->count; i++)
        free(shards->at[i]);
}

static void assert_shards_equal(const struct shards *a, const struct shards *b)
{
    for (unsigned i = 0; i < a->count; i++)
        assert_memory_equal(a->at[i], b->at[i], a->len);
}

static const uint8_t *const *data_of(const struct shards *shards)
{
    return (const uint8_t *const *)shards->at;
}

#define EACH_CODE(k, m)                                                                            \
    for (unsigned m = 1; m <= EC_PARITY_MAX; m++)                                                  \
        for (unsigned k = 1; k + m <= EC_MEMBERS_MAX; k++)

static void only_codes_within_the_bounds_are_prepared(void **state)
{
    struct ec_code code;
    (void)state;

    for (unsigned k = 0; k < 300; k++) {
        for (unsigned m = 0; m < 300; m++) {
            const bool good = k >= 1 && m >= 1 && m <= 4 && k + m <= 12;
            assert_int_equal(ec_code_init(&code, k, m), good ? 0 : SHOAL_E_INVALID);
        }
    }
    assert_int_equal(ec_code_init(&code, UINT32_MAX, 2), SHOAL_E_INVALID);
}

static void the_parity_of_known_bytes_never_changes(void **state)
{
    uint8_t data[6][1] = {{0x01}, {0x02}, {0x80}, {0xff}};
    struct ec_code code;
    (void)state;

    /* Worked out by a third hand: the sums over j of data[j] / (4 xor j) and data[j] / (5 xor j). */
    assert_int_equal(ec_code_init(&code, 4, 2), 0);
    ec_encode(&code, 1, (const uint8_t *const[]){data[0], data[1], data[2], data[3]},
              (uint8_t *const[]){data[4], data[5]});
    assert_int_equal(data[4][0], 0x28);
    assert_int_equal(data[5][0], 0xd2);
}

static void every_code_agrees_with_the_reference(void **state)
{
    static const size_t lens[] = {1, 2, 15, 16, 31, 63, 64, 65, 127, 200, 1000, 4096, 4099};
    (void)state;

    EACH_CODE(k, m)
    {
        struct ec_code code;
        assert_int_equal(ec_code_init(&code, k, m), 0);
        for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
            if (lens[i] > 1000 && !(k == 4 && m == 2) && !(k == 8 && m == 2))
                continue;
            struct shards ours = shards_new(k + m, lens[i]);
            struct shards theirs = shards_copy(&ours);
            ec_encode(&code, lens[i], data_of(&ours), &ours.at[k]);
            ec_reference_encode(k, m, lens[i], data_of(&theirs), &theirs.at[k]);
            assert_shards_equal(&ours, &theirs);
            shards_free(&ours);
            shards_free(&theirs);
        }
    }
}

/* Lose exactly `lost`, take back all of it, by both twins. */
static void lose_and_reconstruct(const struct ec_code *code, const struct shards *whole,
                                 uint32_t lost)
{
    const uint32_t all = (1u << whole->count) - 1;
    struct shards ours = shards_copy(whole);

    for (unsigned i = 0; i < whole->count; i++) {
        if ((lost >> i & 1) != 0)
            memset(ours.at[i], 0xaa, whole->len);
    }
    struct shards theirs = shards_copy(&ours);
    assert_int_equal(ec_reconstruct(code, whole->len, ours.at, all & ~lost, lost), 0);
    assert_shards_equal(&ours, whole);
    ec_reference_reconstruct(code->k, code->m, whole->len, theirs.at, all & ~lost, lost);
    assert_shards_equal(&theirs, whole);
    shards_free(&ours);
    shards_free(&theirs);
}

static void every_loss_of_every_code_is_reconstructed(void **state)
{
    (void)state;

    EACH_CODE(k, m)
    {
        struct ec_code code;
        assert_int_equal(ec_code_init(&code, k, m), 0);
        struct shards whole = shards_new(k + m, 67);
        ec_encode(&code, whole.len, data_of(&whole), &whole.at[k]);
        for (uint32_t lost = 0; lost < 1u << (k + m); lost++) {
            if (__builtin_popcount(lost) <= (int)m)
                lose_and_reconstruct(&code, &whole, lost);
        }
        shards_free(&whole);
    }
}

static void only_what_is_wanted_is_written(void **state)
{
    const uint32_t lost = 1u << 1 | 1u << 4;
    struct ec_code code;
    (void)state;

    assert_int_equal(ec_code_init(&code, 4, 2), 0);
    struct shards whole = shards_new(6, 100);
    ec_encode(&code, whole.len, data_of(&whole), &whole.at[4]);
    for (unsigned wanted = 1; wanted <= 4; wanted += 3) {
        uint8_t out[100];
        uint8_t *at[6] = {whole.at[0], NULL, whole.at[2], whole.at[3], NULL, whole.at[5]};
        at[wanted] = out;
        assert_int_equal(ec_reconstruct(&code, 100, at, 0x3f & ~lost, 1u << wanted), 0);
        assert_memory_equal(out, whole.at[wanted], 100);
    }
    shards_free(&whole);
}

static void more_than_m_losses_are_unavailable(void **state)
{
    struct ec_code code;
    uint8_t *none[6] = {NULL};
    (void)state;

    assert_int_equal(ec_code_init(&code, 4, 2), 0);
    for (uint32_t present = 0; present < 64; present++) {
        if (__builtin_popcount(present) < 4) {
            assert_int_equal(ec_reconstruct(&code, 1, none, present, 0x3f & ~present),
                             SHOAL_E_UNAVAILABLE);
        }
    }
}

static void a_bitmap_that_makes_no_sense_is_refused(void **state)
{
    struct ec_decoder decoder;
    struct ec_code code;
    (void)state;

    assert_int_equal(ec_code_init(&code, 4, 2), 0);
    assert_int_equal(ec_decoder_init(&decoder, &code, 0x7f, 0), SHOAL_E_INVALID);
    assert_int_equal(ec_decoder_init(&decoder, &code, 0x0f, 0x40), SHOAL_E_INVALID);
    assert_int_equal(ec_decoder_init(&decoder, &code, 0x1f, 0x10), SHOAL_E_INVALID);
    assert_int_equal(ec_decoder_init(&decoder, &code, 0x0f, 0), 0);
}

static void a_range_is_reconstructed_by_itself(void **state)
{
    struct ec_code code;
    (void)state;

    assert_int_equal(ec_code_init(&code, 8, 2), 0);
    struct shards whole = shards_new(10, 50000);
    ec_encode(&code, whole.len, data_of(&whole), &whole.at[8]);
    for (int i = 0; i < 50; i++) {
        const size_t offset = prng_below(&prng, whole.len);
        const size_t len = 1 + prng_below(&prng, whole.len - offset);
        uint8_t *out = malloc(len);
        uint8_t *at[10];
        assert_non_null(out);
        for (unsigned s = 0; s < 10; s++)
            at[s] = whole.at[s] + offset;
        at[5] = out;
        assert_int_equal(ec_reconstruct(&code, len, at, 0x3ff & ~(1u << 5), 1u << 5), 0);
        assert_memory_equal(out, whole.at[5] + offset, len);
        free(out);
    }
    shards_free(&whole);
}

static void a_missing_source_pointer_stands_for_zeros(void **state)
{
    const size_t len = 40000;
    struct ec_code code;
    (void)state;

    assert_int_equal(ec_code_init(&code, 4, 2), 0);
    struct shards whole = shards_new(6, len);
    memset(whole.at[3], 0, len);
    ec_encode(&code, len, data_of(&whole), &whole.at[4]);
    uint8_t *out = malloc(len);
    assert_non_null(out);
    uint8_t *at[6] = {whole.at[0], out, whole.at[2], NULL, whole.at[4], NULL};
    assert_int_equal(ec_reconstruct(&code, len, at, 0x1d, 0x02), 0);
    assert_memory_equal(out, whole.at[1], len);
    free(out);
    shards_free(&whole);
}

/* Lengths at random, among them empty shards; compared with padding them and encoding plainly. */
static void compare_fused(const struct ec_code *code, size_t shard_len, size_t unit_size)
{
    const unsigned k = code->k;
    const unsigned members = k + code->m;
    const size_t units = (shard_len + unit_size - 1) / unit_size;
    struct shards whole = shards_new(members, shard_len);
    struct shards fused = shards_new(members, shard_len);
    uint8_t *data[EC_DATA_MAX];
    size_t lens[EC_MEMBERS_MAX];
    uint32_t *crcs[EC_MEMBERS_MAX];

    for (unsigned i = 0; i < members; i++) {
        lens[i] = i >= k || prng_chance(&prng, 1, 3) ? shard_len : prng_below(&prng, shard_len + 1);
        crcs[i] = malloc((units + 1) * sizeof(uint32_t));
        assert_non_null(crcs[i]);
        memset(crcs[i], 0x5a, (units + 1) * sizeof(uint32_t));
        if (i < k) {
            memset(whole.at[i] + lens[i], 0, shard_len - lens[i]);
            data[i] = lens[i] == 0 ? NULL : malloc(lens[i]);
            if (lens[i] != 0)
                memcpy(data[i], whole.at[i], lens[i]);
        }
    }
    ec_encode(code, shard_len, data_of(&whole), &whole.at[k]);
    ec_encode_crc(code, shard_len, (const uint8_t *const *)data, lens, &fused.at[k], unit_size,
                  crcs);
    for (unsigned i = 0; i < members; i++) {
        size_t unit = 0;
        if (i >= k)
            assert_memory_equal(fused.at[i], whole.at[i], shard_len);
        for (size_t at = 0; at < lens[i]; at += unit_size, unit++) {
            const size_t len = lens[i] - at < unit_size ? lens[i] - at : unit_size;
            assert_int_equal(crcs[i][unit], crc32c(0, whole.at[i] + at, len));
        }
        assert_int_equal(crcs[i][unit], 0x5a5a5a5a);
        free(crcs[i]);
        if (i < k)
            free(data[i]);
    }
    shards_free(&whole);
    shards_free(&fused);
}

static void the_fused_pass_gives_the_same_parity_and_each_units_checksum(void **state)
{
    static const size_t units[] = {1, 100, 4096, 16384, 65536};
    (void)state;

    EACH_CODE(k, m)
    {
        struct ec_code code;
        assert_int_equal(ec_code_init(&code, k, m), 0);
        for (size_t i = 0; i < ARRAY_LEN(units); i++) {
            const size_t max = units[i] < 16 ? 300 : k == 4 && m == 2 ? 150000 : 20000;
            compare_fused(&code, 1 + prng_below(&prng, max), units[i]);
        }
    }
}

static void the_fused_pass_without_lengths_takes_whole_shards(void **state)
{
    struct ec_code code;
    uint32_t crcs[6][2];
    (void)state;

    assert_int_equal(ec_code_init(&code, 4, 2), 0);
    struct shards whole = shards_new(6, 20000);
    struct shards plain = shards_copy(&whole);
    ec_encode(&code, plain.len, data_of(&plain), &plain.at[4]);
    ec_encode_crc(&code, whole.len, data_of(&whole), NULL, &whole.at[4], 16384,
                  (uint32_t *const[]){crcs[0], crcs[1], crcs[2], crcs[3], crcs[4], crcs[5]});
    assert_shards_equal(&whole, &plain);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(crcs[i][0], crc32c(0, plain.at[i], 16384));
        assert_int_equal(crcs[i][1], crc32c(0, plain.at[i] + 16384, 20000 - 16384));
    }
    shards_free(&whole);
    shards_free(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_codes_within_the_bounds_are_prepared),
        cmocka_unit_test(the_parity_of_known_bytes_never_changes),
        cmocka_unit_test(every_code_agrees_with_the_reference),
        cmocka_unit_test(every_loss_of_every_code_is_reconstructed),
        cmocka_unit_test(only_what_is_wanted_is_written),
        cmocka_unit_test(more_than_m_losses_are_unavailable),
        cmocka_unit_test(a_bitmap_that_makes_no_sense_is_refused),
        cmocka_unit_test(a_range_is_reconstructed_by_itself),
        cmocka_unit_test(a_missing_source_pointer_stands_for_zeros),
        cmocka_unit_test(the_fused_pass_gives_the_same_parity_and_each_units_checksum),
        cmocka_unit_test(the_fused_pass_without_lengths_takes_whole_shards),
    };
    prng_seed(&prng, 1);
    return cmocka_run_group_tests_name("ec_code", tests, NULL, NULL);
}
