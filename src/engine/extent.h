/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extents: a piece's description and payload, in one run of blocks.
 *
 * The header names the device, its own block, object and version, and carries the CRC32C of each
 * 16 KiB unit of the payload and its own; so a lost, stale or misdirected write is seen on read,
 * and a device that lost everything else can be rebuilt from its extents. A payload that fits
 * behind the header in one block shares it; else it starts at the next block after the header.
 */
#ifndef ENGINE_EXTENT_H
#define ENGINE_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/macros.h"
#include "engine/engine.h"
#include "engine/layout.h"

#define EXTENT_HEADER_FIXED 80u
#define EXTENT_UNITS_MAX (ENGINE_PAYLOAD_MAX / ENGINE_UNIT_BYTES)
#define EXTENT_HEADER_MAX 8192u

/* Of whom the extents of a device are; a sweep can rebuild the superblock from it. */
struct extent_owner {
    uint64_t device;
    uint8_t cluster[16];
    uint32_t target;
    uint32_t partition_bits;
};

struct extent_place {
    uint64_t block; /* from the start of the device; 0: none */
    uint8_t class_id, slab_log;
};

struct extent_shape {
    bool shared; /* payload behind the header in the same block */
    uint32_t header_blocks, blocks, units;
};

uint32_t extent_unit_count(uint32_t payload_len);

/* The shape of an extent known to be shared or not; of one to be written. */
struct extent_shape extent_shape_of(uint32_t payload_len, bool shared);
struct extent_shape extent_shape_for(const struct blob_desc *desc);

struct extent_header {
    struct extent_owner owner;
    struct extent_place place;
    bool shared;
    uint32_t header_bytes;
    uint32_t crc;
    const uint8_t *units; /* extent_unit_count() numbers, u32 little endian, inside the block */
    struct blob_desc desc;
};

/* Return: the header's CRC, which the journal record repeats. @block has @size zeroed or not. */
uint32_t extent_header_encode(void *block, size_t size, const struct extent_owner *owner,
                              const struct extent_place *place, const struct blob_desc *desc,
                              bool shared, const uint32_t *units);

/* Checks magic, CRC and sense, not whose it is. Return: 0 or SHOAL_E_CORRUPT. */
int extent_header_decode(const void *block, size_t size, struct extent_header *header) NODISCARD;

/* extent_unit_check() - Is this unit @index of the payload? Return: 0 or SHOAL_E_CORRUPT. */
int extent_unit_check(const struct extent_header *header, uint32_t index,
                      const void *data) NODISCARD;

/* Bytes of unit @index of a payload of this length. */
uint32_t extent_unit_length(uint32_t payload_len, uint32_t index);

#endif
