/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/record.h"

#include <string.h>

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "engine/layout.h"
#include "shoal/error.h"

#define MAGIC 0x4c4a4853u /* "SHJL" */
#define FLAG_SHARED 1u
#define POSITION_SHIFT 4u /* in the same byte */

static bool has_piece(enum record_type type)
{
    return type == RECORD_PREPARE || type == RECORD_REPAIR;
}

static bool has_id(enum record_type type)
{
    return has_piece(type) || type == RECORD_COMMIT || type == RECORD_ABORT ||
           type == RECORD_DROP || type == RECORD_HOLLOW || type == RECORD_TORN;
}

size_t record_encode(uint8_t *bytes, const struct record *record)
{
    struct encoder out = encoder_init(bytes, RECORD_BYTES_MAX);
    encode_u8(&out, (uint8_t)record->type);
    encode_u8(&out, 0); /* the length, when it is known */
    if (has_id(record->type)) {
        blob_id_encode(&out, &record->id);
        blob_version_encode(&out, &record->version);
    }
    if (record->type == RECORD_DROP_PARTITION)
        encode_u32(&out, record->partition);
    if (has_piece(record->type)) {
        encode_u8(&out, record->kind);
        encode_u8(&out, record->form);
        encode_u8(&out, (uint8_t)((record->shared ? FLAG_SHARED : 0) |
                                  record->position << POSITION_SHIFT));
        encode_u8(&out, record->place.class_id);
        encode_u8(&out, record->place.slab_log);
        encode_u16(&out, record->depends);
        encode_u32(&out, record->shard_len);
        encode_u64(&out, record->place.block);
        encode_u32(&out, record->header_crc);
        encode_u32(&out, record->expires_s);
        encode_u64(&out, record->request.hi);
        encode_u64(&out, record->request.lo);
    }
    CHECK(encoder_ok(&out));
    bytes[1] = (uint8_t)encoder_length(&out);
    return encoder_length(&out);
}

void record_decode(struct decoder *outer, struct record *record)
{
    *record = (struct record){0};
    const uint8_t *start = outer->at;
    record->type = decode_u8(outer);
    size_t length = decode_u8(outer);
    if (length < 2 || !decoder_ok(outer)) {
        outer->failed = true;
        return;
    }
    decode_skip(outer, length - 2);
    if (!decoder_ok(outer))
        return;
    struct decoder in = decoder_init(start + 2, length - 2);
    if (has_id(record->type)) {
        blob_id_decode(&in, &record->id);
        blob_version_decode(&in, &record->version);
    }
    if (record->type == RECORD_DROP_PARTITION)
        record->partition = decode_u32(&in);
    bool sane = record->type >= RECORD_PREPARE && record->type <= RECORD_TORN;
    if (has_piece(record->type)) {
        record->kind = decode_u8(&in);
        record->form = decode_u8(&in);
        uint8_t flags = decode_u8(&in);
        record->shared = flags & FLAG_SHARED;
        record->position = flags >> POSITION_SHIFT;
        record->place.class_id = decode_u8(&in);
        record->place.slab_log = decode_u8(&in);
        record->depends = decode_u16(&in);
        record->shard_len = decode_u32(&in);
        record->place.block = decode_u64(&in);
        record->header_crc = decode_u32(&in);
        record->expires_s = decode_u32(&in);
        record->request.hi = decode_u64(&in);
        record->request.lo = decode_u64(&in);
        sane = sane && record->kind >= BLOB_HEAD && record->kind <= BLOB_UPLOAD &&
               record->form >= BLOB_BYTES && record->form <= BLOB_TOMBSTONE &&
               record->position < BLOB_SET_MAX &&
               record->shard_len <= ENGINE_PAYLOAD_MAX;
    }
    if (!decoder_done(&in) || !sane)
        outer->failed = true;
}

void group_seal(void *data, struct group_header *header)
{
    size_t padded = round_up_u64(header->bytes, LAYOUT_BLOCK);
    CHECK(header->bytes >= GROUP_HEADER_BYTES && padded <= GROUP_BYTES_MAX);
    memset((uint8_t *)data + header->bytes, 0, padded - header->bytes);
    header->blocks = (uint32_t)(padded / LAYOUT_BLOCK);
    struct encoder out = encoder_init(data, GROUP_HEADER_BYTES);
    encode_u32(&out, MAGIC);
    encode_u32(&out, 0);
    encode_u64(&out, header->device);
    encode_u64(&out, header->generation);
    encode_u64(&out, header->position);
    encode_u64(&out, header->first_seq);
    encode_u64(&out, header->barrier);
    encode_u32(&out, header->records);
    encode_u32(&out, header->blocks);
    encode_u32(&out, header->bytes);
    encode_u32(&out, header->chain);
    encode_zeros(&out, encoder_left(&out));
    header->crc = crc32c(0, (uint8_t *)data + 8, padded - 8);
    store_le32((uint8_t *)data + 4, header->crc);
}

int group_decode(const void *block, uint64_t device, struct group_header *header)
{
    struct decoder in = decoder_init(block, GROUP_HEADER_BYTES);
    uint32_t magic = decode_u32(&in);
    header->crc = decode_u32(&in);
    header->device = decode_u64(&in);
    header->generation = decode_u64(&in);
    header->position = decode_u64(&in);
    header->first_seq = decode_u64(&in);
    header->barrier = decode_u64(&in);
    header->records = decode_u32(&in);
    header->blocks = decode_u32(&in);
    header->bytes = decode_u32(&in);
    header->chain = decode_u32(&in);
    if (magic != MAGIC || header->device != device)
        return SHOAL_E_CORRUPT;
    if (header->bytes < GROUP_HEADER_BYTES || header->bytes > GROUP_BYTES_MAX ||
        header->blocks != div_round_up_u64(header->bytes, LAYOUT_BLOCK))
        return SHOAL_E_CORRUPT;
    return 0;
}

int group_check(const void *data, const struct group_header *header)
{
    size_t padded = (size_t)header->blocks * LAYOUT_BLOCK;
    return header->crc == crc32c(0, (const uint8_t *)data + 8, padded - 8) ? 0 : SHOAL_E_CORRUPT;
}
