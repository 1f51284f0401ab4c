/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ec: how a stripe becomes the parts that the members of its target set hold, and how lost parts
 * come back.
 *
 * Two halves. The *code* is Reed-Solomon over GF(2^8) with a Cauchy matrix: k data shards, m parity
 * shards, any k of the k+m give the others. ISA-L does the arithmetic; reference.c says the same in
 * plain C and is what the tests compare against. The *layout* is the stripe planner: from a pool's
 * redundancy and a stripe's length it says who holds which bytes. Both are pure functions: nothing
 * is allocated, nothing is kept between calls, and a prepared struct may be read by any number of
 * threads.
 *
 *     struct ec_layout layout;
 *     ec_layout_plan(&layout, pool->k, pool->m, stripe_len, pool->copies_below);
 *     if (ec_layout_is_coded(&layout))
 *         ec_encode_stripe(&code, &layout, payload, parity, 16384, crcs);
 *
 * The coefficient of data shard j in parity shard i is 1 / ((k + i) xor j) in GF(2^8) with the
 * polynomial x^8+x^4+x^3+x^2+1. That is part of the disk format: it never changes.
 */
#ifndef SHOAL_EC_EC_H
#define SHOAL_EC_EC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EC_MEMBERS_MAX = 12, /* k + m, copies as well as coded */
    EC_PARITY_MAX = 4,   /* m of a coded pool */
    EC_DATA_MAX = EC_MEMBERS_MAX - 1,
    EC_COEFFICIENTS_MAX = 8 * EC_PARITY_MAX, /* the largest k * m within both bounds is 8 * 4 */
    EC_TABLES_SIZE = 32 * EC_COEFFICIENTS_MAX,
    EC_SHARD_GRANULE = 4096,     /* slices begin at multiples of it, so they suit DMA and O_DIRECT */
    EC_COPIES_BELOW = 64 * 1024, /* stripes shorter than this are copied, not coded */
    EC_STRIPE_LEN_MAX = 1 << 30,
};

/* ---- The code ---- */

/* A prepared code. Plain data: copy it, share it, keep one for each (k, m) in use. */
struct ec_code {
    uint8_t k;
    uint8_t m;
    uint8_t rows[EC_COEFFICIENTS_MAX]; /* m rows of k coefficients */
    uint8_t tables[EC_TABLES_SIZE];    /* the same, as ISA-L multiplies by them */
};

/*
 * ec_code_init() - Prepare the code for k data and m parity shards.
 *
 * Return: 0, or SHOAL_E_INVALID unless 1 <= k, 1 <= m <= 4 and k + m <= 12.
 */
int ec_code_init(struct ec_code *code, unsigned k, unsigned m);

/*
 * ec_encode() - Compute the m parity shards of k data shards.
 * @shard_len: bytes of every shard, 1 to EC_STRIPE_LEN_MAX.
 * @data: k shards, read only. Shards need no alignment.
 * @parity: m shards, overwritten.
 */
void ec_encode(const struct ec_code *code, size_t shard_len, const uint8_t *const data[],
               uint8_t *const parity[]);

/*
 * ec_encode_crc() - Parity, and the CRC32C of each unit of all k+m shards, in one pass over memory.
 * @shard_len: bytes of each parity shard; no data shard is longer.
 * @data_len: bytes of each data shard, or NULL when all have shard_len. A shorter shard counts as
 *            followed by zeros; they are not read, so they need not be there, and data[i] may be
 *            NULL where data_len[i] is 0.
 * @unit_size: bytes of a unit; the last unit of a shard may be shorter.
 * @crcs: for each of the k+m shards an array of one CRC32C for each unit of its own length, so
 *        ceil(data_len[i] / unit_size) or ceil(shard_len / unit_size) entries.
 *
 * Data is encoded a few KiB at a time, with the checksums right after, while it is in the cache.
 */
void ec_encode_crc(const struct ec_code *code, size_t shard_len, const uint8_t *const data[],
                   const size_t data_len[], uint8_t *const parity[], size_t unit_size,
                   uint32_t *const crcs[]);

/* Prepared for one pattern of loss. Plain data; worth keeping while the pattern lasts. */
struct ec_decoder {
    uint8_t k;
    uint8_t wanted_count;
    uint8_t sources[EC_DATA_MAX];  /* the shards that are read, k of them */
    uint8_t wanted[EC_PARITY_MAX]; /* the shards that are written */
    uint8_t tables[EC_TABLES_SIZE];
};

/*
 * ec_decoder_init() - Prepare to compute some shards from k others.
 * @present: bitmap of the shards at hand; bit i is shard i, data first, then parity.
 * @want: bitmap of the shards to compute, data or parity or both.
 *
 * The k lowest present shards become decoder->sources: a reader fetches those and no more.
 *
 * Return: 0; SHOAL_E_UNAVAILABLE when fewer than k are present; SHOAL_E_INVALID when a bit lies
 * beyond k+m or a wanted shard is present.
 */
int ec_decoder_init(struct ec_decoder *decoder, const struct ec_code *code, uint32_t present,
                    uint32_t want);

/*
 * ec_decode() - Compute the wanted shards.
 * @len: bytes to compute, 1 to EC_STRIPE_LEN_MAX.
 * @shards: k+m pointers. Those of decoder->sources are read, and a NULL among them stands for a
 *          shard of zeros; those of decoder->wanted are written; the others are not looked at.
 *
 * Byte i of a shard depends on byte i of the sources only. So any range can be computed by itself,
 * by passing pointers to the same offset of each shard.
 */
void ec_decode(const struct ec_decoder *decoder, size_t len, uint8_t *const shards[]);

/*
 * ec_reconstruct() - ec_decoder_init() and ec_decode() in one, for a pattern that is not kept.
 */
int ec_reconstruct(const struct ec_code *code, size_t shard_len, uint8_t *const shards[],
                   uint32_t present, uint32_t want);

/* ---- The layout ---- */

/*
 * Redundancy is two numbers everywhere: any m of k+m members may be lost. k = 1 means copies, the
 * first and m more, so `copies 3` is 1+2 (and `ec 1+2` would be the same thing); k > 1 is coded.
 *
 * ec_redundancy_check() - Whether two numbers, from a person or from a map, are a redundancy.
 *
 * Return: 0, or SHOAL_E_INVALID: k + m <= 12; coded also 1 <= m <= 4.
 */
int ec_redundancy_check(unsigned k, unsigned m);

/*
 * One stripe's layout. It follows from (k, m, stripe_len), which is what the header of each piece
 * records; the set of a small stripe in a coded pool is wider than its layout.
 *
 * Coded: data shard i holds bytes [i * shard_len, (i+1) * shard_len) of the stripe, so the last
 * slices may be short or empty. For the parity they count as padded with zeros, which nobody stores
 * or sends.
 * Copies: members 0 to m of the set hold the whole stripe. The members after them, if the set is
 * wider, hold a marker: they know version and layout and can testify that the stripe exists, but
 * have no bytes.
 */
struct ec_layout {
    uint8_t k;          /* 1: copies */
    uint8_t m;
    uint8_t holders;    /* k + m: members 0 .. holders-1 of the set hold bytes */
    uint32_t shard_len; /* bytes of a full slice, a multiple of EC_SHARD_GRANULE; of a copy */
    uint32_t stripe_len;
};

static inline bool ec_layout_is_coded(const struct ec_layout *layout)
{
    return layout->k > 1;
}

/*
 * ec_layout_init() - The layout with these numbers, as read back from a header.
 *
 * Return: 0; SHOAL_E_INVALID for a redundancy that is none; SHOAL_E_TOO_LARGE for a stripe beyond
 * EC_STRIPE_LEN_MAX.
 */
int ec_layout_init(struct ec_layout *layout, unsigned k, unsigned m, uint64_t stripe_len);

/*
 * ec_layout_plan() - Choose the layout of a new stripe in a pool of redundancy k+m.
 * @copies_below: stripes shorter than this become m+1 copies also in a coded pool (EC_COPIES_BELOW
 *                unless the pool says otherwise), because a small read is then one request to one
 *                member, and splitting 16 KiB six ways helps nobody. Empty stripes always do.
 *
 * Return: as ec_layout_init().
 */
int ec_layout_plan(struct ec_layout *layout, unsigned k, unsigned m, uint64_t stripe_len,
                   uint64_t copies_below);

/*
 * ec_layout_member_len() - Bytes that a member of the set holds of the stripe; 0 for a marker.
 *
 * Data shards: the true length of the slice, which may be 0. Parity: that of the longest slice.
 */
uint32_t ec_layout_member_len(const struct ec_layout *layout, unsigned member);

/* A piece of a range of the stripe that lies within one shard. */
struct ec_slice {
    uint32_t member;        /* the data shard; 0 for copies, where any holder will do */
    uint32_t shard_offset;  /* where it begins in that shard */
    uint32_t stripe_offset; /* where it begins in the stripe */
    uint32_t len;
};

/*
 * ec_layout_range() - Which slices of which data shards make up a range of the stripe.
 * @slices: room for EC_DATA_MAX; filled in the order of the stripe.
 *
 * Return: the number of slices, 0 for an empty range; SHOAL_E_INVALID for a range that reaches
 * beyond the stripe.
 */
int ec_layout_range(const struct ec_layout *layout, uint64_t offset, uint64_t len,
                    struct ec_slice slices[EC_DATA_MAX]);

/*
 * ec_encode_stripe() - ec_encode_crc() of a stripe that lies in one piece.
 * @layout: a coded layout with the code's k and m.
 * @payload: stripe_len bytes; nothing beyond them is read.
 * @parity: m buffers of ec_layout_member_len(layout, k) bytes.
 * @crcs: as for ec_encode_crc(), by ec_layout_member_len() of each member.
 */
void ec_encode_stripe(const struct ec_code *code, const struct ec_layout *layout,
                      const uint8_t *payload, uint8_t *const parity[], size_t unit_size,
                      uint32_t *const crcs[]);

#endif
