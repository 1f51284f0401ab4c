/* SPDX-License-Identifier: Apache-2.0 */
#include "base/blob.h"
#include "base/check.h"
#include "base/macros.h"
#include "ec/ec.h"
#include "shoal/error.h"

_Static_assert(EC_MEMBERS_MAX == BLOB_SET_MAX, "a stripe has as many pieces as a set has members");

int ec_redundancy_check(unsigned k, unsigned m)
{
    if (k < 1 || m > EC_MEMBERS_MAX || k > EC_MEMBERS_MAX - m)
        return SHOAL_E_INVALID;
    if (k > 1 && (m < 1 || m > EC_PARITY_MAX))
        return SHOAL_E_INVALID;
    return 0;
}

int ec_layout_init(struct ec_layout *layout, unsigned k, unsigned m, uint64_t stripe_len)
{
    if (ec_redundancy_check(k, m) != 0)
        return SHOAL_E_INVALID;
    if (stripe_len > EC_STRIPE_LEN_MAX)
        return SHOAL_E_TOO_LARGE;

    *layout = (struct ec_layout){
        .k = (uint8_t)k,
        .m = (uint8_t)m,
        .holders = (uint8_t)(k + m),
        .shard_len = (uint32_t)stripe_len,
        .stripe_len = (uint32_t)stripe_len,
    };
    if (ec_layout_is_coded(layout)) {
        const uint64_t slice = div_round_up_u64(stripe_len, k);
        layout->shard_len = (uint32_t)round_up_u64(slice, EC_SHARD_GRANULE);
    }
    return 0;
}

int ec_layout_plan(struct ec_layout *layout, unsigned k, unsigned m, uint64_t stripe_len,
                   uint64_t copies_below)
{
    const bool small = stripe_len == 0 || stripe_len < copies_below;

    if (ec_redundancy_check(k, m) != 0)
        return SHOAL_E_INVALID;
    return ec_layout_init(layout, small ? 1 : k, m, stripe_len);
}

uint32_t ec_layout_member_len(const struct ec_layout *layout, unsigned member)
{
    if (member >= layout->holders)
        return 0;

    /* A further copy, or parity, is as long as the first slice. */
    const unsigned slice = member < layout->k ? member : 0;
    const uint64_t begin = (uint64_t)slice * layout->shard_len;
    if (begin >= layout->stripe_len)
        return 0;
    const uint32_t rest = layout->stripe_len - (uint32_t)begin;
    return MIN(rest, layout->shard_len);
}

int ec_layout_range(const struct ec_layout *layout, uint64_t offset, uint64_t len,
                    struct ec_slice slices[EC_DATA_MAX])
{
    int count = 0;

    if (offset > layout->stripe_len || len > layout->stripe_len - offset)
        return SHOAL_E_INVALID;
    for (uint64_t end = offset + len; offset < end; count++) {
        /* For copies shard_len is the stripe's length, so the range is one slice of member 0. */
        const uint32_t at = (uint32_t)offset;
        const uint32_t member = at / layout->shard_len;
        const uint32_t shard_offset = at % layout->shard_len;
        const uint32_t in_shard = layout->shard_len - shard_offset;
        const uint32_t rest = (uint32_t)(end - offset);

        CHECK(member < layout->k);
        slices[count] = (struct ec_slice){
            .member = member,
            .shard_offset = shard_offset,
            .stripe_offset = at,
            .len = MIN(rest, in_shard),
        };
        offset += slices[count].len;
    }
    return count;
}

void ec_encode_stripe(const struct ec_code *code, const struct ec_layout *layout,
                      const uint8_t *payload, uint8_t *const parity[], size_t unit_size,
                      uint32_t *const crcs[])
{
    const uint8_t *data[EC_DATA_MAX];
    size_t data_len[EC_DATA_MAX];

    CHECK(ec_layout_is_coded(layout) && layout->stripe_len > 0);
    CHECK(layout->k == code->k && layout->m == code->m);
    for (unsigned i = 0; i < code->k; i++) {
        data_len[i] = ec_layout_member_len(layout, i);
        data[i] = data_len[i] == 0 ? NULL : payload + (size_t)i * layout->shard_len;
    }
    ec_encode_crc(code, ec_layout_member_len(layout, code->k), data, data_len, parity, unit_size,
                  crcs);
}
