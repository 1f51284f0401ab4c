/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands in the journal: groups of records, each group a whole number of blocks.
 *
 * A group's header says where in the endless journal it lies (position, in blocks; the ring holds
 * the last of them), of which generation it is, the sequence number of its first record, the
 * barrier, and the CRC of the group before it. Its own CRC covers all its blocks.
 */
#ifndef ENGINE_RECORD_H
#define ENGINE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/macros.h"
#include "engine/extent.h"

#define GROUP_HEADER_BYTES 72u
#define GROUP_BYTES_MAX (64u << 10)
#define RECORD_BYTES_MAX 128u

struct group_header {
    uint64_t device, generation, position;
    uint64_t first_seq;
    uint64_t barrier; /* the extents of all records up to this one are durable */
    uint32_t records, blocks, bytes;
    uint32_t chain; /* CRC of the group before */
    uint32_t crc;
};

enum record_type {
    RECORD_PREPARE = 1,
    RECORD_REPAIR = 2, /* as PREPARE, and committed at once */
    RECORD_COMMIT = 3,
    RECORD_ABORT = 4,
    RECORD_DROP = 5,
    RECORD_DROP_PARTITION = 6,
    RECORD_HOLLOW = 7,
    RECORD_CLEAN_SHUTDOWN = 8,
    RECORD_BARRIER = 9, /* nothing but a group to carry a barrier */
    RECORD_TORN = 10,   /* as HOLLOW, of a prepared piece that was never durable */
};

struct record {
    enum record_type type;
    struct blob_id id;
    struct blob_version version;
    uint32_t partition; /* of DROP_PARTITION */
    /* The rest of PREPARE and REPAIR. */
    uint8_t kind, form, position;
    bool shared;
    uint16_t depends;
    uint32_t shard_len;
    struct extent_place place;
    uint32_t header_crc;
    uint32_t expires_s;
    struct blob_request_id request;
};

/* Return: the record's length in @out, which has RECORD_BYTES_MAX bytes. */
size_t record_encode(uint8_t *out, const struct record *record);
void record_decode(struct decoder *in, struct record *record);

/* Header, padding and CRC around records that lie behind GROUP_HEADER_BYTES already. */
void group_seal(void *data, struct group_header *header);

/* What the header says; `blocks` is within bounds. Return: 0 or SHOAL_E_CORRUPT. */
int group_decode(const void *block, uint64_t device, struct group_header *header) NODISCARD;
int group_check(const void *data, const struct group_header *header) NODISCARD;

#endif
