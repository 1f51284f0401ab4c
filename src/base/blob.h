/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every room calls a blob: its identity, its version, and the description that travels with
 * each of its pieces on the wire and lies before each of them on disk.
 *
 * A blob of at most one stripe is one *object*: (pool, key). A larger one is a head object under
 * the blob's key and one object a further stripe under keys derived from (key, upload, index), so
 * that placement, engine and protocol know objects only, never blobs.
 */
#ifndef SHOAL_BASE_BLOB_H
#define SHOAL_BASE_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/codec.h"

#define BLOB_KEY_BYTES 32u
#define BLOB_NAME_MAX 1024u
#define BLOB_SET_MAX 12u /* the largest k+m */

struct blob_key {
    uint8_t bytes[BLOB_KEY_BYTES];
};

struct blob_id {
    uint32_t pool;
    struct blob_key key;
};

/*
 * struct blob_version - Never used twice for the same object, totally ordered (epoch, then
 * incarnation, then counter). All zero means "none" and is below every real version.
 * @epoch: of the map under which the primary took it
 * @incarnation: of the primary's process, unique in the cluster
 * @counter: the primary's own, starts at 1 with each incarnation
 */
struct blob_version {
    uint64_t epoch;
    uint32_t incarnation;
    uint64_t counter;
};

struct blob_request_id {
    uint64_t hi, lo; /* chosen at random by the client; both 0: none */
};

/*
 * Set in the pool of a blob_id: the record of the uploads of the blob with the same key. It lives
 * in the blob's own partition, so that one primary guards both. No pool has it in its number.
 */
#define BLOB_POOL_UPLOADS 0x80000000u

enum blob_kind {
    BLOB_HEAD = 1,   /* a whole blob, or the first stripe of a larger one; listed */
    BLOB_STRIPE = 2, /* a further stripe */
    BLOB_UPLOAD = 3, /* the record that an upload is open or closed */
};

enum blob_form {
    BLOB_BYTES = 1,  /* this member holds payload: a shard or a copy (0 bytes for an empty blob) */
    BLOB_MARKER = 2, /* it holds none, and testifies that the version exists */
    BLOB_TOMBSTONE = 3, /* the blob was deleted at this version */
};

/*
 * struct blob_desc - Everything about one member's piece of one version of an object.
 * @position: this member's place in the target set, 0..width-1
 * @k, @m: the coding; a copy has k = 1 and m = the further copies that hold bytes
 * @depends: bit i set: the acknowledgement depends on position i having it durable
 * @stripe_len, @stripe_crc: the whole object's payload (before coding) and its CRC32C
 * @shard_len: payload bytes held by this member: a slice of the stripe, parity, or all of it
 * @blob_len, @stripe_size, @stripe_count, @upload: of the large blob this is the head or a stripe
 *   of; for a blob of one stripe blob_len == stripe_len, stripe_count == 1, upload == 0
 * @stripe_index: 0 for a head
 * @name: UTF-8 or any bytes but 0, of heads put by name; name_len 0 when put by raw or content key
 */
struct blob_desc {
    struct blob_id id;
    struct blob_version version;
    enum blob_kind kind;
    enum blob_form form;
    uint8_t position, k, m;
    uint16_t depends;
    uint32_t stripe_len, stripe_crc;
    uint32_t shard_len;
    uint64_t blob_len;
    uint32_t stripe_size, stripe_count, stripe_index;
    uint64_t upload;
    struct blob_request_id request;
    uint64_t created_s, expires_s; /* wall clock; expires_s 0: never */
    uint16_t name_len;
    char name[BLOB_NAME_MAX];
};

#define BLOB_DESC_ENCODED_MAX (192u + BLOB_NAME_MAX)

int blob_version_compare(const struct blob_version *a, const struct blob_version *b);
bool blob_version_is_none(const struct blob_version *version);
bool blob_id_equal(const struct blob_id *a, const struct blob_id *b);

/* XXH3 of pool (u32, little endian) and key. */
uint64_t blob_id_hash(const struct blob_id *id, uint64_t seed);

/*
 * blob_partition() - The partition of an object: the top @partition_bits of its hash with seed 0.
 * Part of the format: clients, nodes and engines must agree on it.
 */
#define BLOB_PARTITION_BITS_MAX 24u
uint32_t blob_partition(const struct blob_id *id, unsigned partition_bits);

/* The key of a blob put by name: SHA-256 of ("name", pool is not part of it, name). */
struct blob_key blob_key_of_name(const void *name, size_t len);

/* The key of stripe @index (>= 1) of upload @upload of the blob @head. */
struct blob_key blob_key_of_stripe(const struct blob_key *head, uint64_t upload, uint32_t index);

/* The key of the record of upload @upload of the blob @head. */
struct blob_key blob_key_of_upload(const struct blob_key *head, uint64_t upload);

/* One encoding for wire and disk: little endian, name last. Decoding refuses what cannot be. */
void blob_id_encode(struct encoder *out, const struct blob_id *id);
void blob_id_decode(struct decoder *in, struct blob_id *id);
void blob_version_encode(struct encoder *out, const struct blob_version *version);
void blob_version_decode(struct decoder *in, struct blob_version *version);
void blob_desc_encode(struct encoder *out, const struct blob_desc *desc);
void blob_desc_decode(struct decoder *in, struct blob_desc *desc);

#endif
