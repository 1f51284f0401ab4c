/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/check.h"
#include "base/codec.h"
#include "base/planted.h"
#include "engine/internal.h"
#include "shoal/error.h"

bool read_header_matches(const struct engine *engine, const struct extent_header *header,
                         const struct blob_id *id, const struct read_target *target)
{
    return header->owner.device == engine->sb.device && header->place.block == target->block &&
           header->shared == target->shared && header->desc.shard_len == target->shard_len &&
           blob_id_equal(&header->desc.id, id) &&
           blob_version_compare(&header->desc.version, &target->version) == 0;
}

struct read_io {
    struct dev_io io;
    struct completion done;
};

static void read_done(struct dev_io *io, int result)
{
    completion_signal(&container_of(io, struct read_io, io)->done, result);
}

static void read_start(struct engine *engine, struct read_io *read, uint64_t block, void *buffer,
                       size_t bytes)
{
    *read = (struct read_io){.io = {.op = DEV_READ,
                                    .offset_bytes = block * LAYOUT_BLOCK,
                                    .iov = {{buffer, bytes}},
                                    .iov_count = 1,
                                    .done = read_done}};
    dev_submit(engine->dev, &read->io);
}

/*
 * The header, and the blocks of payload [@first, @first + @count), one behind the other in @buffer:
 * in one read where they are neighbours on the device.
 */
static int read_blocks(struct engine *engine, const struct read_target *target,
                       const struct extent_shape *shape, uint32_t first, uint32_t count,
                       uint8_t *buffer)
{
    size_t header_bytes = (size_t)shape->header_blocks * LAYOUT_BLOCK;
    size_t bytes = (size_t)count * LAYOUT_BLOCK;
    if (first == 0 || count == 0)
        return dev_read(engine->dev, target->block * LAYOUT_BLOCK, buffer, header_bytes + bytes);
    struct read_io header, payload;
    read_start(engine, &header, target->block, buffer, header_bytes);
    read_start(engine, &payload, target->block + shape->header_blocks + first,
               buffer + header_bytes, bytes);
    int header_rc = (int)completion_wait(&header.done);
    int payload_rc = (int)completion_wait(&payload.done);
    return header_rc != 0 ? header_rc : payload_rc;
}

/* Reads and checks; @data is where the byte at @offset lies. @units: see engine_read(). */
static int read_checked(struct engine *engine, const struct blob_id *id,
                        const struct read_target *target, uint32_t offset, uint32_t len,
                        uint8_t *buffer, const uint8_t **data, struct extent_header *header,
                        uint32_t *units_out)
{
    struct extent_shape shape = extent_shape_of(target->shard_len, target->shared);
    uint32_t first_unit = len == 0 ? 0 : offset / ENGINE_UNIT_BYTES;
    uint32_t end_unit = len == 0 ? 0 : (offset + len - 1) / ENGINE_UNIT_BYTES + 1;
    uint32_t first = first_unit * (ENGINE_UNIT_BYTES / LAYOUT_BLOCK);
    uint32_t end = MIN(end_unit * (ENGINE_UNIT_BYTES / LAYOUT_BLOCK),
                       (uint32_t)div_round_up_u64(target->shard_len, LAYOUT_BLOCK));
    uint32_t count = shape.shared || len == 0 ? 0 : end - first;
    int rc = read_blocks(engine, target, &shape, first, count, buffer);
    if (rc != 0)
        return rc;
    size_t header_bytes = (size_t)shape.header_blocks * LAYOUT_BLOCK;
    if (extent_header_decode(buffer, header_bytes, header) != 0 ||
        !read_header_matches(engine, header, id, target))
        return SHOAL_E_CORRUPT;
    const uint8_t *units = shape.shared ? buffer + header->header_bytes : buffer + header_bytes;
    for (uint32_t i = first_unit; i < end_unit && !PLANTED(trusted_checksum); i++)
        if (extent_unit_check(header, i, units + (size_t)(i - first_unit) * ENGINE_UNIT_BYTES) != 0)
            return SHOAL_E_CORRUPT;
    for (uint32_t i = first_unit; i < end_unit && units_out != NULL; i++)
        units_out[i - first_unit] = load_le32(header->units + (size_t)i * 4);
    *data = units + (offset - (size_t)first_unit * ENGINE_UNIT_BYTES);
    return 0;
}

int read_verify(struct engine *engine, const struct blob_id *id, const struct read_target *target,
                void *buffer, uint32_t *header_crc)
{
    const uint32_t step = CHECKPOINT_CHUNK_BYTES / 2;
    uint32_t offset = 0;
    do {
        uint32_t len = MIN(step, target->shard_len - offset);
        struct extent_header header;
        const uint8_t *data;
        int rc = read_checked(engine, id, target, offset, len, buffer, &data, &header, NULL);
        if (rc != 0)
            return rc;
        *header_crc = header.crc;
        offset += len;
    } while (offset < target->shard_len);
    return 0;
}

size_t engine_read_room(size_t len)
{
    return EXTENT_HEADER_MAX + round_up_u64(len, LAYOUT_BLOCK) + 2 * (size_t)ENGINE_UNIT_BYTES;
}

/* What is known without the device, of a piece that has no extent or of any. */
struct read_known {
    struct read_target target;
    enum blob_kind kind;
    enum blob_form form;
    uint16_t depends;
    struct blob_request_id request;
    uint32_t expires_s;
};

static int find_piece(struct engine *engine, const struct blob_id *id,
                      const struct blob_version *version, struct read_known *known)
{
    struct index_slot *slot = index_find_id(&engine->index, id);
    if (slot != NULL) {
        struct blob_version found = index_slot_version(&engine->index, slot);
        if (blob_version_compare(&found, version) == 0) {
            *known = (struct read_known){
                .target = {found, slot->block, slot->shard_len, slot->shared, slot->hollow},
                .kind = slot->kind,
                .form = slot->form,
            };
            return 0;
        }
    }
    const struct prepared *prepared = prepared_find(&engine->prepared, id);
    if (prepared == NULL || prepared->writing ||
        blob_version_compare(&prepared->version, version) != 0)
        return SHOAL_E_NOT_FOUND;
    *known = (struct read_known){
        .target = {prepared->version, prepared->place.block, prepared->shard_len, prepared->shared,
                   prepared->hollow},
        .kind = prepared->kind,
        .form = prepared->form,
        .depends = prepared->depends,
        .request = prepared->request,
        .expires_s = prepared->expires_s,
    };
    return 0;
}

/* A marker or a tombstone is in the index alone. */
static int describe_known(const struct blob_id *id, const struct read_known *known,
                          struct blob_desc *desc)
{
    if (desc != NULL)
        *desc = (struct blob_desc){.id = *id,
                                   .version = known->target.version,
                                   .kind = known->kind,
                                   .form = known->form,
                                   .depends = known->depends,
                                   .request = known->request,
                                   .expires_s = known->expires_s};
    return 0;
}

static int read_piece(struct engine *engine, const struct blob_id *id,
                      const struct blob_version *version, uint32_t offset, uint32_t len,
                      void *buffer, const uint8_t **data, struct blob_desc *desc, uint32_t *units)
{
    struct read_known known;
    int rc = find_piece(engine, id, version, &known);
    if (rc != 0)
        return rc;
    const struct read_target *target = &known.target;
    if (offset > target->shard_len || len > target->shard_len - offset)
        return SHOAL_E_INVALID;
    if (target->hollow || (target->block == 0 && target->shard_len > 0))
        return SHOAL_E_HOLLOW;
    *data = buffer;
    if (target->block == 0)
        return describe_known(id, &known, desc);
    struct extent_header header;
    rc = read_checked(engine, id, target, offset, len, buffer, data, &header, units);
    if (rc == 0 && desc != NULL)
        *desc = header.desc;
    if (rc != SHOAL_E_CORRUPT)
        return rc;
    /* It may have been dropped while we read, and its extent be another's by now. */
    struct read_known now;
    if (find_piece(engine, id, version, &now) != 0 || now.target.block != target->block)
        return SHOAL_E_NOT_FOUND;
    engine_mark_hollow(engine, id, version);
    return SHOAL_E_CORRUPT;
}

int engine_read(struct engine *engine, const struct blob_id *id, const struct blob_version *version,
                uint32_t offset, uint32_t len, void *buffer, const uint8_t **data,
                struct blob_desc *desc, uint32_t *units)
{
    int rc = engine_enter(engine);
    if (rc != 0)
        return rc;
    rc = read_piece(engine, id, version, offset, len, buffer, data, desc, units);
    if (engine->count.reads != NULL) {
        counter_add(engine->count.reads, 1);
        counter_add(engine->count.read_bytes, rc == 0 ? len : 0);
    }
    engine_leave(engine);
    return rc;
}

int engine_describe(struct engine *engine, const struct blob_id *id,
                    const struct blob_version *version, void *buffer, struct blob_desc *desc)
{
    const uint8_t *data;
    return engine_read(engine, id, version, 0, 0, buffer, &data, desc, NULL);
}
