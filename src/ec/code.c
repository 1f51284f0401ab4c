/* SPDX-License-Identifier: Apache-2.0 */
#include <isa-l/erasure_code.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/macros.h"
#include "ec/ec.h"
#include "shoal/error.h"

/*
 * What is encoded before it is checksummed: small enough that six of them (4+2), and even twelve,
 * stay in a second-level cache; large enough that the calls do not show.
 */
enum { CHUNK_SIZE = 16384 };

/* Stands for what a short shard does not have. */
static const uint8_t zeros[CHUNK_SIZE];

/* ISA-L's prototypes lack const; it does not write to tables or sources. */
static void multiply(size_t len, unsigned k, unsigned rows, const uint8_t *tables,
                     const uint8_t *const sources[], uint8_t *const outputs[])
{
    ec_encode_data((int)len, (int)k, (int)rows, (uint8_t *)(uintptr_t)tables,
                   (uint8_t **)(uintptr_t)sources, (uint8_t **)(uintptr_t)outputs);
}

int ec_code_init(struct ec_code *code, unsigned k, unsigned m)
{
    if (k < 1 || m < 1 || m > EC_PARITY_MAX || k > EC_MEMBERS_MAX - m)
        return SHOAL_E_INVALID;

    memset(code, 0, sizeof(*code));
    code->k = (uint8_t)k;
    code->m = (uint8_t)m;
    for (unsigned i = 0; i < m; i++) {
        for (unsigned j = 0; j < k; j++)
            code->rows[i * k + j] = gf_inv((uint8_t)((k + i) ^ j));
    }
    ec_init_tables((int)k, (int)m, code->rows, code->tables);
    return 0;
}

void ec_encode(const struct ec_code *code, size_t shard_len, const uint8_t *const data[],
               uint8_t *const parity[])
{
    CHECK(shard_len >= 1 && shard_len <= EC_STRIPE_LEN_MAX);
    multiply(shard_len, code->k, code->m, code->tables, data, parity);
}

/* From `offset`, how far all shards go on as they are: no unit and no short shard ends before. */
static size_t chunk_len(const struct ec_code *code, size_t offset, size_t shard_len,
                        const size_t data_len[], size_t unit_size)
{
    size_t len = MIN((size_t)CHUNK_SIZE, shard_len - offset);

    len = MIN(len, unit_size - offset % unit_size);
    for (unsigned i = 0; data_len != NULL && i < code->k; i++) {
        if (data_len[i] > offset)
            len = MIN(len, data_len[i] - offset);
    }
    return len;
}

void ec_encode_crc(const struct ec_code *code, size_t shard_len, const uint8_t *const data[],
                   const size_t data_len[], uint8_t *const parity[], size_t unit_size,
                   uint32_t *const crcs[])
{
    const unsigned k = code->k;
    const unsigned members = k + code->m;
    size_t len;

    CHECK(shard_len >= 1 && shard_len <= EC_STRIPE_LEN_MAX);
    CHECK(unit_size >= 1);
    for (unsigned i = 0; data_len != NULL && i < k; i++)
        CHECK(data_len[i] <= shard_len);

    for (size_t offset = 0; offset < shard_len; offset += len) {
        const uint8_t *chunk[EC_MEMBERS_MAX];
        uint8_t *outputs[EC_PARITY_MAX];
        bool padding[EC_MEMBERS_MAX] = {false};

        len = chunk_len(code, offset, shard_len, data_len, unit_size);
        for (unsigned i = 0; i < k; i++) {
            padding[i] = data_len != NULL && data_len[i] <= offset;
            chunk[i] = padding[i] ? zeros : data[i] + offset;
        }
        for (unsigned i = 0; i < code->m; i++) {
            outputs[i] = parity[i] + offset;
            chunk[k + i] = outputs[i];
        }
        multiply(len, k, code->m, code->tables, chunk, outputs);
        for (unsigned i = 0; i < members; i++) {
            if (padding[i])
                continue;
            uint32_t *crc = &crcs[i][offset / unit_size];
            *crc = crc32c(offset % unit_size == 0 ? 0 : *crc, chunk[i], len);
        }
    }
}

/* The k x k matrix that takes the data shards to the sources, inverted. */
static void invert_sources(const struct ec_code *code, const uint8_t sources[],
                           uint8_t inverse[EC_DATA_MAX * EC_DATA_MAX])
{
    const size_t k = code->k;
    uint8_t matrix[EC_DATA_MAX * EC_DATA_MAX] = {0};

    for (unsigned i = 0; i < k; i++) {
        if (sources[i] < k)
            matrix[i * k + sources[i]] = 1;
        else
            memcpy(&matrix[i * k], &code->rows[(sources[i] - k) * k], k);
    }
    int singular = gf_invert_matrix(matrix, inverse, (int)k);
    CHECK(singular == 0); /* every square part of a Cauchy matrix has an inverse */
}

int ec_decoder_init(struct ec_decoder *decoder, const struct ec_code *code, uint32_t present,
                    uint32_t want)
{
    const size_t k = code->k;
    const uint32_t all = (1U << (k + code->m)) - 1;
    uint8_t inverse[EC_DATA_MAX * EC_DATA_MAX];
    uint8_t rows[EC_COEFFICIENTS_MAX] = {0};

    if (((present | want) & ~all) != 0 || (present & want) != 0)
        return SHOAL_E_INVALID;
    if (__builtin_popcount(present) < (int)k)
        return SHOAL_E_UNAVAILABLE;

    memset(decoder, 0, sizeof(*decoder));
    decoder->k = (uint8_t)k;
    for (unsigned i = 0, count = 0; count < k; i++) {
        if ((present >> i & 1) != 0)
            decoder->sources[count++] = (uint8_t)i;
    }
    for (unsigned i = 0; i < k + code->m; i++) {
        if ((want >> i & 1) != 0)
            decoder->wanted[decoder->wanted_count++] = (uint8_t)i;
    }
    if (decoder->wanted_count == 0)
        return 0;

    invert_sources(code, decoder->sources, inverse);
    for (unsigned w = 0; w < decoder->wanted_count; w++) {
        const unsigned shard = decoder->wanted[w];
        if (shard < k) {
            memcpy(&rows[w * k], &inverse[shard * k], k);
            continue;
        }
        const uint8_t *parity_row = &code->rows[(shard - k) * k];
        for (unsigned s = 0; s < k; s++) {
            for (unsigned j = 0; j < k; j++)
                rows[w * k + s] ^= gf_mul(parity_row[j], inverse[j * k + s]);
        }
    }
    ec_init_tables((int)k, decoder->wanted_count, rows, decoder->tables);
    return 0;
}

void ec_decode(const struct ec_decoder *decoder, size_t len, uint8_t *const shards[])
{
    bool sparse = false;
    size_t done;

    CHECK(len >= 1 && len <= EC_STRIPE_LEN_MAX);
    if (decoder->wanted_count == 0)
        return;
    for (unsigned i = 0; i < decoder->k; i++)
        sparse |= shards[decoder->sources[i]] == NULL;

    /* The block of zeros is one chunk long; without need of it the length is no concern. */
    for (size_t offset = 0; offset < len; offset += done) {
        const uint8_t *sources[EC_DATA_MAX];
        uint8_t *outputs[EC_PARITY_MAX];

        done = sparse ? MIN((size_t)CHUNK_SIZE, len - offset) : len;
        for (unsigned i = 0; i < decoder->k; i++) {
            const uint8_t *shard = shards[decoder->sources[i]];
            sources[i] = shard == NULL ? zeros : shard + offset;
        }
        for (unsigned i = 0; i < decoder->wanted_count; i++)
            outputs[i] = shards[decoder->wanted[i]] + offset;
        multiply(done, decoder->k, decoder->wanted_count, decoder->tables, sources, outputs);
    }
}

int ec_reconstruct(const struct ec_code *code, size_t shard_len, uint8_t *const shards[],
                   uint32_t present, uint32_t want)
{
    struct ec_decoder decoder;
    int error = ec_decoder_init(&decoder, code, present, want);

    if (error != 0)
        return error;
    ec_decode(&decoder, shard_len, shards);
    return 0;
}
