/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encoding of checkpoints: a head block, then chunks of up to 256 KiB one after another.
 *
 * A chunk holds entries of one space, all as they were at the chunk's sequence number: either
 * prepared pieces (all of the target), or committed ones of the range [start, end) of (partition,
 * keyed hash). Together the committed chunks cover every partition, empty ones too, so that replay
 * knows for any record from where to continue.
 */
#ifndef ENGINE_CHECKPOINT_FORMAT_H
#define ENGINE_CHECKPOINT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/macros.h"

#define CHECKPOINT_CHUNK_BYTES (256u << 10)
#define CHECKPOINT_CHUNK_HEADER 80u
#define CHECKPOINT_COMMITTED_BYTES 80u
#define CHECKPOINT_PREPARED_BYTES 104u

struct checkpoint_place {
    uint32_t partition;
    uint64_t hash;
};

struct checkpoint_head {
    uint64_t device;
    uint64_t id;         /* grows by one with each checkpoint */
    uint64_t generation; /* in which it was written */
    /* Where replay starts: the first group that may hold what is not in here. */
    uint64_t position, first_seq, prepared_seq;
    uint32_t chain;
    uint32_t chunks;
    uint64_t blocks; /* of all chunks together */
    uint64_t committed, prepared;
    uint16_t tick;
};

enum checkpoint_space { CHECKPOINT_PREPARED = 1, CHECKPOINT_COMMITTED = 2 };

struct checkpoint_chunk {
    uint64_t device, id;
    uint32_t number;
    uint32_t blocks;
    uint32_t entries;
    enum checkpoint_space space;
    uint64_t seq;
    struct checkpoint_place start, end;
};

/* One entry of either space; the second line is of committed ones, the third of prepared ones. */
struct checkpoint_entry {
    struct blob_id id;
    struct blob_version version;
    uint8_t kind, form, position;
    bool hollow, torn, shared;
    uint8_t class_id, slab_log;
    uint32_t shard_len;
    uint64_t block;
    uint32_t expires_s;
    uint16_t tick;
    uint16_t depends;
    struct blob_request_id request;
};

uint64_t checkpoint_area_blocks(uint64_t objects_max, uint64_t prepared_max);

void checkpoint_head_encode(void *block, const struct checkpoint_head *head);
int checkpoint_head_decode(const void *block, uint64_t device,
                           struct checkpoint_head *head) NODISCARD;

/* The header, padding and checksum of a chunk whose entries are in place already. */
void checkpoint_chunk_seal(void *data, size_t used, struct checkpoint_chunk *chunk);

/* What the header says, of which only `blocks` may be believed before checkpoint_chunk_check(). */
int checkpoint_chunk_decode(const void *data, struct checkpoint_chunk *chunk) NODISCARD;
int checkpoint_chunk_check(const void *data, const struct checkpoint_chunk *chunk) NODISCARD;

void checkpoint_entry_encode(uint8_t *at, enum checkpoint_space space,
                             const struct checkpoint_entry *entry);
int checkpoint_entry_decode(const uint8_t *at, enum checkpoint_space space,
                            struct checkpoint_entry *entry) NODISCARD;
size_t checkpoint_entry_bytes(enum checkpoint_space space);

#endif
