/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include <isa-l/crc.h>

#include "base/macros.h"

/* The Castagnoli polynomial, bit-reversed as the CRC uses it. */
#define POLYNOMIAL UINT32_C(0x82f63b78)

/* ISA-L takes the length as an int. */
#define PIECE_MAX (UINT32_C(1) << 30)

uint32_t crc32c(uint32_t seed, const void *data, size_t length)
{
    const unsigned char *at = data;
    uint32_t crc = ~seed;
    while (length > 0) {
        size_t piece = MIN(length, (size_t)PIECE_MAX);
        /* crc32_iscsi() only reads; its prototype lacks the const. */
        crc = crc32_iscsi((unsigned char *)(uintptr_t)at, (int)piece, crc);
        at += piece;
        length -= piece;
    }
    return ~crc;
}

uint32_t crc32c_portable(uint32_t seed, const void *data, size_t length)
{
    const uint8_t *at = data;
    uint32_t crc = ~seed;
    for (size_t i = 0; i < length; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? POLYNOMIAL : 0);
    }
    return ~crc;
}
