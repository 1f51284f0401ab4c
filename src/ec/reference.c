/* SPDX-License-Identifier: Apache-2.0 */
#include "ec/reference.h"

#include <string.h>

#include "base/check.h"
#include "ec/ec.h"

/* Product in GF(2^8): multiply as polynomials, reduce by x^8+x^4+x^3+x^2+1 on the way. */
static uint8_t multiply(uint8_t a, uint8_t b)
{
    unsigned factor = a;
    unsigned product = 0;

    for (int bit = 0; bit < 8; bit++) {
        if ((b >> bit & 1) != 0)
            product ^= factor;
        factor <<= 1;
        if ((factor & 0x100) != 0)
            factor ^= 0x11d;
    }
    return (uint8_t)product;
}

static uint8_t reciprocal(uint8_t a)
{
    for (unsigned b = 1; b < 256; b++) {
        if (multiply(a, (uint8_t)b) == 1)
            return (uint8_t)b;
    }
    CHECK(a != 0);
    return 0;
}

/* What data shard `column` contributes to shard `row`, which is a data or a parity shard. */
static uint8_t coefficient(unsigned k, unsigned row, unsigned column)
{
    if (row < k)
        return row == column;
    return reciprocal((uint8_t)(row ^ column));
}

void ec_reference_encode(unsigned k, unsigned m, size_t shard_len, const uint8_t *const data[],
                         uint8_t *const parity[])
{
    for (unsigned i = 0; i < m; i++) {
        memset(parity[i], 0, shard_len);
        for (unsigned j = 0; j < k; j++) {
            const uint8_t factor = coefficient(k, k + i, j);
            for (size_t at = 0; at < shard_len; at++)
                parity[i][at] ^= multiply(factor, data[j][at]);
        }
    }
}

struct equations {
    uint8_t left[EC_DATA_MAX][EC_DATA_MAX];  /* what each source is made of */
    uint8_t right[EC_DATA_MAX][EC_DATA_MAX]; /* which sources that row now stands for */
};

/* Gauss-Jordan: turn `left` into the identity; `right` is then its inverse. */
static void solve(struct equations *e, unsigned k)
{
    for (unsigned pivot = 0; pivot < k; pivot++) {
        unsigned row = pivot;
        while (row < k && e->left[row][pivot] == 0)
            row++;
        CHECK(row < k);
        for (unsigned c = 0; c < k; c++) {
            const uint8_t left = e->left[row][c];
            const uint8_t right = e->right[row][c];
            e->left[row][c] = e->left[pivot][c];
            e->right[row][c] = e->right[pivot][c];
            e->left[pivot][c] = left;
            e->right[pivot][c] = right;
        }
        const uint8_t scale = reciprocal(e->left[pivot][pivot]);
        for (unsigned c = 0; c < k; c++) {
            e->left[pivot][c] = multiply(scale, e->left[pivot][c]);
            e->right[pivot][c] = multiply(scale, e->right[pivot][c]);
        }
        for (unsigned r = 0; r < k; r++) {
            const uint8_t factor = e->left[r][pivot];
            for (unsigned c = 0; r != pivot && c < k; c++) {
                e->left[r][c] ^= multiply(factor, e->left[pivot][c]);
                e->right[r][c] ^= multiply(factor, e->right[pivot][c]);
            }
        }
    }
}

void ec_reference_reconstruct(unsigned k, unsigned m, size_t shard_len, uint8_t *const shards[],
                              uint32_t present, uint32_t want)
{
    struct equations e = {0};
    const uint8_t *sources[EC_DATA_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < k + m && count < k; i++) {
        if ((present >> i & 1) == 0)
            continue;
        for (unsigned c = 0; c < k; c++)
            e.left[count][c] = coefficient(k, i, c);
        e.right[count][count] = 1;
        sources[count++] = shards[i];
    }
    CHECK(count == k);
    solve(&e, k);

    for (unsigned i = 0; i < k + m; i++) {
        uint8_t factors[EC_DATA_MAX] = {0};
        if ((want >> i & 1) == 0)
            continue;
        for (unsigned c = 0; c < k; c++) {
            for (unsigned s = 0; s < k; s++)
                factors[s] ^= multiply(coefficient(k, i, c), e.right[c][s]);
        }
        memset(shards[i], 0, shard_len);
        for (unsigned s = 0; s < k; s++) {
            for (size_t at = 0; at < shard_len; at++)
                shards[i][at] ^= multiply(factors[s], sources[s][at]);
        }
    }
}
