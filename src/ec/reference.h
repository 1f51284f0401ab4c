/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The code of ec.h in plain C, one byte at a time: what its tests compare against, and what a
 * reader who wants to know exactly what parity is can read. Shares nothing with code.c. Slow.
 */
#ifndef SHOAL_EC_REFERENCE_H
#define SHOAL_EC_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

/* ec_reference_encode() - As ec_encode(). */
void ec_reference_encode(unsigned k, unsigned m, size_t shard_len, const uint8_t *const data[],
                         uint8_t *const parity[]);

/* ec_reference_reconstruct() - As ec_reconstruct(), for a possible pattern of loss. */
void ec_reference_reconstruct(unsigned k, unsigned m, size_t shard_len, uint8_t *const shards[],
                              uint32_t present, uint32_t want);

#endif
