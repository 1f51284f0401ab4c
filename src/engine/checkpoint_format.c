/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/checkpoint_format.h"

#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "engine/layout.h"
#include "shoal/error.h"

#define HEAD_MAGIC 0x48434853u  /* "SHCH" */
#define CHUNK_MAGIC 0x4b434853u /* "SHCK" */

#define FLAG_HOLLOW 1u
#define FLAG_SHARED 2u
#define FLAG_TORN 4u

/* A chunk ends before an index table that no longer fits, so a part of it may stay empty. */
#define CHUNK_PAYLOAD (CHECKPOINT_CHUNK_BYTES - 8192u)

uint64_t checkpoint_area_blocks(uint64_t objects_max, uint64_t prepared_max)
{
    uint64_t bytes =
        objects_max * CHECKPOINT_COMMITTED_BYTES + prepared_max * CHECKPOINT_PREPARED_BYTES;
    uint64_t chunk_blocks = CHECKPOINT_CHUNK_BYTES / LAYOUT_BLOCK;
    uint64_t full = bytes / CHUNK_PAYLOAD;
    uint64_t rest = div_round_up_u64(bytes % CHUNK_PAYLOAD, LAYOUT_BLOCK);
    return 1 + full * chunk_blocks + rest + 6;
}

void checkpoint_head_encode(void *block, const struct checkpoint_head *head)
{
    memset(block, 0, LAYOUT_BLOCK);
    struct encoder out = encoder_init(block, LAYOUT_BLOCK);
    encode_u32(&out, HEAD_MAGIC);
    encode_u32(&out, 0);
    encode_u64(&out, head->device);
    encode_u64(&out, head->id);
    encode_u64(&out, head->generation);
    encode_u64(&out, head->position);
    encode_u64(&out, head->first_seq);
    encode_u64(&out, head->prepared_seq);
    encode_u32(&out, head->chain);
    encode_u32(&out, head->chunks);
    encode_u64(&out, head->blocks);
    encode_u64(&out, head->committed);
    encode_u64(&out, head->prepared);
    encode_u16(&out, head->tick);
    store_le32((uint8_t *)block + 4, crc32c(0, (uint8_t *)block + 8, LAYOUT_BLOCK - 8));
}

int checkpoint_head_decode(const void *block, uint64_t device, struct checkpoint_head *head)
{
    struct decoder in = decoder_init(block, LAYOUT_BLOCK);
    uint32_t magic = decode_u32(&in);
    uint32_t crc = decode_u32(&in);
    if (magic != HEAD_MAGIC)
        return SHOAL_E_NOT_FOUND;
    if (crc != crc32c(0, (const uint8_t *)block + 8, LAYOUT_BLOCK - 8))
        return SHOAL_E_CORRUPT;
    head->device = decode_u64(&in);
    head->id = decode_u64(&in);
    head->generation = decode_u64(&in);
    head->position = decode_u64(&in);
    head->first_seq = decode_u64(&in);
    head->prepared_seq = decode_u64(&in);
    head->chain = decode_u32(&in);
    head->chunks = decode_u32(&in);
    head->blocks = decode_u64(&in);
    head->committed = decode_u64(&in);
    head->prepared = decode_u64(&in);
    head->tick = decode_u16(&in);
    return head->device == device ? 0 : SHOAL_E_NOT_FOUND;
}

void checkpoint_chunk_seal(void *data, size_t used, struct checkpoint_chunk *chunk)
{
    size_t padded = round_up_u64(used, LAYOUT_BLOCK);
    CHECK(used >= CHECKPOINT_CHUNK_HEADER && padded <= CHECKPOINT_CHUNK_BYTES);
    memset((uint8_t *)data + used, 0, padded - used);
    chunk->blocks = (uint32_t)(padded / LAYOUT_BLOCK);
    struct encoder out = encoder_init(data, CHECKPOINT_CHUNK_HEADER);
    encode_u32(&out, CHUNK_MAGIC);
    encode_u32(&out, 0);
    encode_u64(&out, chunk->device);
    encode_u64(&out, chunk->id);
    encode_u32(&out, chunk->number);
    encode_u32(&out, chunk->blocks);
    encode_u32(&out, chunk->entries);
    encode_u32(&out, chunk->space);
    encode_u64(&out, chunk->seq);
    encode_u32(&out, chunk->start.partition);
    encode_u32(&out, chunk->end.partition);
    encode_u64(&out, chunk->start.hash);
    encode_u64(&out, chunk->end.hash);
    encode_zeros(&out, encoder_left(&out));
    store_le32((uint8_t *)data + 4, crc32c(0, (uint8_t *)data + 8, padded - 8));
}

int checkpoint_chunk_decode(const void *data, struct checkpoint_chunk *chunk)
{
    struct decoder in = decoder_init(data, CHECKPOINT_CHUNK_HEADER);
    uint32_t magic = decode_u32(&in);
    decode_skip(&in, 4);
    chunk->device = decode_u64(&in);
    chunk->id = decode_u64(&in);
    chunk->number = decode_u32(&in);
    chunk->blocks = decode_u32(&in);
    chunk->entries = decode_u32(&in);
    chunk->space = decode_u32(&in);
    chunk->seq = decode_u64(&in);
    chunk->start.partition = decode_u32(&in);
    chunk->end.partition = decode_u32(&in);
    chunk->start.hash = decode_u64(&in);
    chunk->end.hash = decode_u64(&in);
    if (magic != CHUNK_MAGIC || chunk->blocks == 0 ||
        chunk->blocks > CHECKPOINT_CHUNK_BYTES / LAYOUT_BLOCK)
        return SHOAL_E_CORRUPT;
    if (chunk->space != CHECKPOINT_PREPARED && chunk->space != CHECKPOINT_COMMITTED)
        return SHOAL_E_CORRUPT;
    uint64_t bytes =
        CHECKPOINT_CHUNK_HEADER + (uint64_t)chunk->entries * checkpoint_entry_bytes(chunk->space);
    return bytes <= (uint64_t)chunk->blocks * LAYOUT_BLOCK ? 0 : SHOAL_E_CORRUPT;
}

int checkpoint_chunk_check(const void *data, const struct checkpoint_chunk *chunk)
{
    uint32_t crc = load_le32((const uint8_t *)data + 4);
    size_t bytes = (size_t)chunk->blocks * LAYOUT_BLOCK;
    return crc == crc32c(0, (const uint8_t *)data + 8, bytes - 8) ? 0 : SHOAL_E_CORRUPT;
}

size_t checkpoint_entry_bytes(enum checkpoint_space space)
{
    return space == CHECKPOINT_PREPARED ? CHECKPOINT_PREPARED_BYTES : CHECKPOINT_COMMITTED_BYTES;
}

void checkpoint_entry_encode(uint8_t *at, enum checkpoint_space space,
                             const struct checkpoint_entry *entry)
{
    struct encoder out = encoder_init(at, checkpoint_entry_bytes(space));
    blob_id_encode(&out, &entry->id);
    blob_version_encode(&out, &entry->version);
    encode_u8(&out, entry->kind);
    encode_u8(&out, entry->form);
    encode_u8(&out,
              (uint8_t)((entry->hollow ? FLAG_HOLLOW : 0) | (entry->shared ? FLAG_SHARED : 0) |
                        (entry->torn ? FLAG_TORN : 0)));
    encode_u8(&out, entry->class_id);
    encode_u8(&out, entry->slab_log);
    encode_u8(&out, entry->position);
    encode_u16(&out, space == CHECKPOINT_COMMITTED ? entry->tick : entry->depends);
    encode_u32(&out, entry->shard_len);
    encode_u64(&out, entry->block);
    encode_u32(&out, entry->expires_s);
    if (space == CHECKPOINT_PREPARED) {
        encode_u64(&out, entry->request.hi);
        encode_u64(&out, entry->request.lo);
    }
    encode_zeros(&out, encoder_left(&out));
    CHECK(encoder_ok(&out));
}

int checkpoint_entry_decode(const uint8_t *at, enum checkpoint_space space,
                            struct checkpoint_entry *entry)
{
    struct decoder in = decoder_init(at, checkpoint_entry_bytes(space));
    *entry = (struct checkpoint_entry){0};
    blob_id_decode(&in, &entry->id);
    blob_version_decode(&in, &entry->version);
    entry->kind = decode_u8(&in);
    entry->form = decode_u8(&in);
    uint8_t flags = decode_u8(&in);
    entry->hollow = flags & FLAG_HOLLOW;
    entry->shared = flags & FLAG_SHARED;
    entry->torn = space == CHECKPOINT_PREPARED && (flags & FLAG_TORN) != 0;
    entry->class_id = decode_u8(&in);
    entry->slab_log = decode_u8(&in);
    entry->position = decode_u8(&in);
    uint16_t tick_or_depends = decode_u16(&in);
    entry->tick = space == CHECKPOINT_COMMITTED ? tick_or_depends : 0;
    entry->depends = space == CHECKPOINT_PREPARED ? tick_or_depends : 0;
    entry->shard_len = decode_u32(&in);
    entry->block = decode_u64(&in);
    entry->expires_s = decode_u32(&in);
    if (space == CHECKPOINT_PREPARED) {
        entry->request.hi = decode_u64(&in);
        entry->request.lo = decode_u64(&in);
    }
    bool sane = entry->kind >= BLOB_HEAD && entry->kind <= BLOB_UPLOAD &&
                entry->form >= BLOB_BYTES && entry->form <= BLOB_TOMBSTONE &&
                entry->position < BLOB_SET_MAX && !blob_version_is_none(&entry->version);
    return decoder_ok(&in) && sane ? 0 : SHOAL_E_CORRUPT;
}
