/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC32C (Castagnoli), the checksum of everything on disk and on the wire.
 *
 * crc32c(0, data, n) is the standard value (of "123456789": 0xe3069283). It chains:
 * crc32c(crc32c(0, a), b) is that of a followed by b. Where a and b were summed apart,
 * crc32c_combine() gives the same without the data. Thread safe.
 */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t seed, const void *data, size_t length);

/* The CRC of a followed by b, from the CRC of each and the length of b; 25 ns a set bit of it. */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b);

/* The CRC of @length bytes from that of each @unit of them; the last may be shorter. */
uint32_t crc32c_join(const uint32_t *crcs, size_t unit, size_t length);

/* Bit by bit, from the definition: the oracle of the tests. */
uint32_t crc32c_portable(uint32_t seed, const void *data, size_t length);

#endif
