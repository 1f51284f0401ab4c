/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/extent.h"

#include <string.h>

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "shoal/error.h"

#define MAGIC 0x54584853u /* "SHXT" */
#define FLAG_SHARED 1u
#define DESC_FIXED 137u

uint32_t extent_unit_count(uint32_t payload_len)
{
    return (uint32_t)div_round_up_u64(payload_len, ENGINE_UNIT_BYTES);
}

uint32_t extent_unit_length(uint32_t payload_len, uint32_t index)
{
    uint64_t start = (uint64_t)index * ENGINE_UNIT_BYTES;
    CHECK(start < payload_len);
    return (uint32_t)MIN((uint64_t)ENGINE_UNIT_BYTES, payload_len - start);
}

struct extent_shape extent_shape_of(uint32_t payload_len, bool shared)
{
    struct extent_shape shape = {.shared = shared, .units = extent_unit_count(payload_len)};
    /* Room for the longest name, so that the index need not know how long this one is. */
    uint32_t header = EXTENT_HEADER_FIXED + shape.units * 4 + BLOB_DESC_ENCODED_MAX;
    shape.header_blocks = shared ? 1 : (uint32_t)div_round_up_u64(header, LAYOUT_BLOCK);
    shape.blocks =
        shared ? 1 : shape.header_blocks + (uint32_t)div_round_up_u64(payload_len, LAYOUT_BLOCK);
    return shape;
}

static uint32_t header_bytes(const struct blob_desc *desc)
{
    return EXTENT_HEADER_FIXED + extent_unit_count(desc->shard_len) * 4 + DESC_FIXED +
           desc->name_len;
}

struct extent_shape extent_shape_for(const struct blob_desc *desc)
{
    bool shared =
        desc->shard_len <= LAYOUT_BLOCK && header_bytes(desc) + desc->shard_len <= LAYOUT_BLOCK;
    return extent_shape_of(desc->shard_len, shared);
}

uint32_t extent_header_encode(void *block, size_t size, const struct extent_owner *owner,
                              const struct extent_place *place, const struct blob_desc *desc,
                              bool shared, const uint32_t *units)
{
    uint32_t unit_count = extent_unit_count(desc->shard_len);
    uint32_t bytes = header_bytes(desc);
    CHECK(bytes <= size);
    struct encoder out = encoder_init(block, size);
    encode_u32(&out, MAGIC);
    encode_u32(&out, 0);
    encode_u32(&out, bytes);
    encode_u8(&out, shared ? FLAG_SHARED : 0);
    encode_u8(&out, place->class_id);
    encode_u8(&out, place->slab_log);
    encode_u8(&out, (uint8_t)owner->partition_bits);
    encode_u64(&out, owner->device);
    encode_bytes(&out, owner->cluster, sizeof owner->cluster);
    encode_u32(&out, owner->target);
    encode_u32(&out, unit_count);
    encode_u64(&out, place->block);
    encode_zeros(&out, EXTENT_HEADER_FIXED - encoder_length(&out));
    for (uint32_t i = 0; i < unit_count; i++)
        encode_u32(&out, units[i]);
    blob_desc_encode(&out, desc);
    CHECK(encoder_ok(&out) && encoder_length(&out) == bytes);
    uint32_t crc = crc32c(0, (uint8_t *)block + 8, bytes - 8);
    store_le32((uint8_t *)block + 4, crc);
    memset((uint8_t *)block + bytes, 0, size - bytes);
    return crc;
}

int extent_header_decode(const void *block, size_t size, struct extent_header *header)
{
    struct decoder in = decoder_init(block, size);
    uint32_t magic = decode_u32(&in);
    header->crc = decode_u32(&in);
    header->header_bytes = decode_u32(&in);
    if (!decoder_ok(&in) || magic != MAGIC || header->header_bytes < EXTENT_HEADER_FIXED ||
        header->header_bytes > size)
        return SHOAL_E_CORRUPT;
    if (header->crc != crc32c(0, (const uint8_t *)block + 8, header->header_bytes - 8))
        return SHOAL_E_CORRUPT;
    in = decoder_init((const uint8_t *)block + 12, header->header_bytes - 12);
    header->shared = decode_u8(&in) & FLAG_SHARED;
    header->place.class_id = decode_u8(&in);
    header->place.slab_log = decode_u8(&in);
    header->owner.partition_bits = decode_u8(&in);
    header->owner.device = decode_u64(&in);
    decode_bytes(&in, header->owner.cluster, sizeof header->owner.cluster);
    header->owner.target = decode_u32(&in);
    uint32_t unit_count = decode_u32(&in);
    header->place.block = decode_u64(&in);
    in.at = in.start + (EXTENT_HEADER_FIXED - 12);
    if (unit_count > EXTENT_UNITS_MAX)
        return SHOAL_E_CORRUPT;
    header->units = decode_view(&in, (size_t)unit_count * 4);
    blob_desc_decode(&in, &header->desc);
    if (!decoder_done(&in) || header->desc.shard_len > ENGINE_PAYLOAD_MAX ||
        extent_unit_count(header->desc.shard_len) != unit_count)
        return SHOAL_E_CORRUPT;
    if (header->shared && header->header_bytes + header->desc.shard_len > LAYOUT_BLOCK)
        return SHOAL_E_CORRUPT;
    return 0;
}

int extent_unit_check(const struct extent_header *header, uint32_t index, const void *data)
{
    uint32_t length = extent_unit_length(header->desc.shard_len, index);
    uint32_t expected = load_le32(header->units + (size_t)index * 4);
    return crc32c(0, data, length) == expected ? 0 : SHOAL_E_CORRUPT;
}
