/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CRC is linear: crc(a followed by b) = crc(a) advanced by len(b) zero bytes, xor crc(b).
 * Advancing by zeros is a multiplication by x^(8 len) modulo the polynomial. Each bit of the length
 * picks a factor x^(8 * 2^i) that is computed once, so what remains is a few products of two
 * polynomials of degree 31.
 */
#include <pthread.h>

#include "base/crc32c.h"
#include "base/macros.h"

#define POLYNOMIAL UINT32_C(0x82f63b78)
#define ONE (UINT32_C(1) << 31) /* x^0 in reflected bit order */
#define LENGTH_BITS 64

static uint32_t factors[LENGTH_BITS]; /* factors[i] = x^(8 * 2^i) */
static pthread_once_t factors_once = PTHREAD_ONCE_INIT;

/* a * b modulo the polynomial; bit 31 is x^0. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (int bit = 31; bit >= 0; bit--) {
        product ^= b & (0U - ((a >> bit) & 1));
        b = (b >> 1) ^ (POLYNOMIAL & (0U - (b & 1)));
    }
    return product;
}

static void make_factors(void)
{
    uint32_t power = ONE >> 8; /* x^8: one zero byte */
    for (int i = 0; i < LENGTH_BITS; i++) {
        factors[i] = power;
        power = multiply(power, power);
    }
}

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b)
{
    pthread_once(&factors_once, make_factors);
    uint32_t shifted = crc_a;
    for (int i = 0; length_b != 0; i++, length_b >>= 1) {
        if ((length_b & 1) != 0)
            shifted = multiply(factors[i], shifted);
    }
    return shifted ^ crc_b;
}

uint32_t crc32c_join(const uint32_t *crcs, size_t unit, size_t length)
{
    uint32_t crc = 0;
    for (size_t at = 0; at < length; at += unit)
        crc = crc32c_combine(crc, *crcs++, MIN(length - at, unit));
    return crc;
}
