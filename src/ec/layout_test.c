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
#include "ec/ec.h"
#include "shoal/error.h"

static void a_redundancy_outside_the_bounds_is_refused(void **state)
{
    (void)state;

    for (unsigned k = 0; k < 300; k++) {
        for (unsigned m = 0; m < 300; m++) {
            const bool copies = k == 1 && m <= 11;
            const bool coded = k > 1 && m >= 1 && m <= 4 && k + m <= 12;
            const int expected = copies || coded ? 0 : SHOAL_E_INVALID;
            struct ec_layout layout;
            assert_int_equal(ec_redundancy_check(k, m), expected);
            assert_int_equal(ec_layout_init(&layout, k, m, 100000), expected);
            assert_int_equal(ec_layout_plan(&layout, k, m, 1, EC_COPIES_BELOW), expected);
        }
    }
    assert_int_equal(ec_redundancy_check(UINT32_MAX, 2), SHOAL_E_INVALID);
    assert_int_equal(ec_redundancy_check(1, UINT32_MAX), SHOAL_E_INVALID);
}

static void a_small_stripe_of_a_coded_pool_becomes_m_plus_one_copies(void **state)
{
    struct ec_layout layout;
    (void)state;

    assert_int_equal(ec_layout_plan(&layout, 4, 2, 65535, EC_COPIES_BELOW), 0);
    assert_false(ec_layout_is_coded(&layout));
    assert_int_equal(layout.holders, 3);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(ec_layout_member_len(&layout, i), i < 3 ? 65535 : 0);

    assert_int_equal(ec_layout_plan(&layout, 4, 2, 65536, EC_COPIES_BELOW), 0);
    assert_true(ec_layout_is_coded(&layout));
    assert_int_equal(layout.holders, 6);
    assert_int_equal(layout.shard_len, 16384);
}

static void a_replicated_pool_copies_at_any_length(void **state)
{
    struct ec_layout layout;
    (void)state;

    for (uint64_t len = 0; len < 1u << 24; len = len * 3 + 1) {
        assert_int_equal(ec_layout_plan(&layout, 1, 2, len, EC_COPIES_BELOW), 0);
        assert_false(ec_layout_is_coded(&layout));
        assert_int_equal(layout.holders, 3);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(ec_layout_member_len(&layout, i), len);
    }
}

static void an_empty_stripe_is_copied_even_without_a_threshold(void **state)
{
    struct ec_layout layout;
    struct ec_slice slices[EC_DATA_MAX];
    (void)state;

    assert_int_equal(ec_layout_plan(&layout, 4, 2, 0, 0), 0);
    assert_false(ec_layout_is_coded(&layout));
    assert_int_equal(ec_layout_range(&layout, 0, 0, slices), 0);
    assert_int_equal(ec_layout_range(&layout, 0, 1, slices), SHOAL_E_INVALID);
}

static void a_stripe_too_long_is_refused(void **state)
{
    struct ec_layout layout;
    (void)state;

    assert_int_equal(ec_layout_plan(&layout, 4, 2, EC_STRIPE_LEN_MAX, 0), 0);
    assert_int_equal(ec_layout_plan(&layout, 4, 2, EC_STRIPE_LEN_MAX + 1u, 0), SHOAL_E_TOO_LARGE);
    assert_int_equal(ec_layout_plan(&layout, 4, 2, UINT64_MAX, 0), SHOAL_E_TOO_LARGE);
}

static void the_header_of_a_piece_gives_the_planned_layout_back(void **state)
{
    (void)state;

    for (uint64_t len = 0; len < 1u << 23; len = len * 2 + 1) {
        struct ec_layout planned = {0};
        struct ec_layout read = {0};
        assert_int_equal(ec_layout_plan(&planned, 4, 2, len, EC_COPIES_BELOW), 0);
        assert_int_equal(ec_layout_init(&read, planned.k, planned.m, planned.stripe_len), 0);
        assert_memory_equal(&planned, &read, sizeof(read));
    }
}

static void slices_are_aligned_and_cover_the_stripe_once(void **state)
{
    (void)state;

    for (unsigned k = 1; k <= 11; k++) {
        for (uint64_t len = 1; len < 5u << 20; len += 1 + len / 7) {
            struct ec_layout layout;
            uint64_t sum = 0;
            assert_int_equal(ec_layout_plan(&layout, k, 1, len, 0), 0);
            if (k > 1)
                assert_int_equal(layout.shard_len % EC_SHARD_GRANULE, 0);
            for (unsigned i = 0; i < k; i++)
                sum += ec_layout_member_len(&layout, i);
            assert_int_equal(sum, len);
            assert_int_equal(ec_layout_member_len(&layout, k), ec_layout_member_len(&layout, 0));
        }
    }
}

static void any_range_is_put_together_from_its_slices(void **state)
{
    static const uint32_t lens[] = {1, 4096, 65537, 100000, 300001};
    (void)state;

    for (unsigned k = 1; k <= 10; k += 3) {
        for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
            struct ec_layout layout;
            assert_int_equal(ec_layout_plan(&layout, k, 2, lens[i], 0), 0);
            for (uint32_t offset = 0; offset <= lens[i]; offset += 1 + lens[i] / 23) {
                const uint32_t rest = lens[i] - offset;
                for (uint32_t len = 0; len <= rest; len += 1 + rest / 11) {
                    struct ec_slice s[EC_DATA_MAX];
                    const int count = ec_layout_range(&layout, offset, len, s);
                    uint32_t next = offset;
                    assert_true(count >= 0 && count <= (int)k);
                    for (int c = 0; c < count; c++) {
                        assert_int_equal(s[c].stripe_offset, next);
                        assert_int_equal(s[c].member * layout.shard_len + s[c].shard_offset, next);
                        assert_true(s[c].shard_offset + s[c].len <=
                                    ec_layout_member_len(&layout, s[c].member));
                        next += s[c].len;
                    }
                    assert_int_equal(next, offset + len);
                }
                struct ec_slice s[EC_DATA_MAX];
                assert_int_equal(ec_layout_range(&layout, offset, rest + 1, s), SHOAL_E_INVALID);
                assert_int_equal(ec_layout_range(&layout, offset, UINT64_MAX, s), SHOAL_E_INVALID);
            }
        }
    }
}

/* The whole way: plan, encode, lose m members, put the stripe together again. */
static void a_stripe_of_odd_length_survives_the_loss_of_m_members(void **state)
{
    enum { UNIT = 16384, UNITS_MAX = 8 };
    static const uint32_t lens[] = {65536, 65537, 70001, 100000, 262143};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct ec_layout layout;
        struct ec_code code;
        uint32_t crcs[10][UNITS_MAX];
        uint32_t *crc_at[10];
        assert_int_equal(ec_layout_plan(&layout, 8, 2, lens[i], EC_COPIES_BELOW), 0);
        assert_int_equal(ec_code_init(&code, 8, 2), 0);
        uint8_t *payload = malloc(lens[i]);
        uint8_t *shards[10] = {NULL};
        assert_non_null(payload);
        for (uint32_t b = 0; b < lens[i]; b++)
            payload[b] = (uint8_t)(b * 2654435761u >> 24);
        for (unsigned s = 0; s < 10; s++) {
            const size_t len = ec_layout_member_len(&layout, s);
            crc_at[s] = crcs[s];
            shards[s] = calloc(1, layout.shard_len);
            assert_non_null(shards[s]);
            if (s < 8)
                memcpy(shards[s], payload + (size_t)s * layout.shard_len, len);
        }
        ec_encode_stripe(&code, &layout, payload, &shards[8], UNIT, crc_at);
        assert_int_equal(crcs[9][0], crc32c(0, shards[9], layout.shard_len < UNIT
                                                              ? layout.shard_len : UNIT));
        memset(shards[0], 0xee, layout.shard_len);
        memset(shards[3], 0xee, layout.shard_len);
        assert_int_equal(ec_reconstruct(&code, layout.shard_len, shards, 0x3f6, 0x009), 0);
        assert_memory_equal(shards[0], payload, layout.shard_len);
        assert_memory_equal(shards[3], payload + 3 * (size_t)layout.shard_len,
                            ec_layout_member_len(&layout, 3));
        for (unsigned s = 0; s < 10; s++)
            free(shards[s]);
        free(payload);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_redundancy_outside_the_bounds_is_refused),
        cmocka_unit_test(a_small_stripe_of_a_coded_pool_becomes_m_plus_one_copies),
        cmocka_unit_test(a_replicated_pool_copies_at_any_length),
        cmocka_unit_test(an_empty_stripe_is_copied_even_without_a_threshold),
        cmocka_unit_test(a_stripe_too_long_is_refused),
        cmocka_unit_test(the_header_of_a_piece_gives_the_planned_layout_back),
        cmocka_unit_test(slices_are_aligned_and_cover_the_stripe_once),
        cmocka_unit_test(any_range_is_put_together_from_its_slices),
        cmocka_unit_test(a_stripe_of_odd_length_survives_the_loss_of_m_members),
    };
    return cmocka_run_group_tests_name("ec_layout", tests, NULL, NULL);
}
