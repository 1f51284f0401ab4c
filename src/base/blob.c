/* SPDX-License-Identifier: Apache-2.0 */
#include "base/blob.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"

_Static_assert(SHA256_SIZE == BLOB_KEY_BYTES, "a derived key is a whole SHA-256");

#define ID_BYTES (4u + BLOB_KEY_BYTES)

int blob_version_compare(const struct blob_version *a, const struct blob_version *b)
{
    if (a->epoch != b->epoch)
        return a->epoch < b->epoch ? -1 : 1;
    if (a->incarnation != b->incarnation)
        return a->incarnation < b->incarnation ? -1 : 1;
    if (a->counter != b->counter)
        return a->counter < b->counter ? -1 : 1;
    return 0;
}

bool blob_version_is_none(const struct blob_version *version)
{
    return version->epoch == 0 && version->incarnation == 0 && version->counter == 0;
}

bool blob_id_equal(const struct blob_id *a, const struct blob_id *b)
{
    return a->pool == b->pool && memcmp(a->key.bytes, b->key.bytes, BLOB_KEY_BYTES) == 0;
}

/* Where memory holds the bytes in the order in which they are hashed, that is all there is to do.
 */
uint64_t blob_id_hash(const struct blob_id *id, uint64_t seed)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    _Static_assert(sizeof *id == ID_BYTES, "pool and key, and nothing between or after them");
    return hash64(id, ID_BYTES, seed);
#else
    uint8_t bytes[ID_BYTES];
    store_le32(bytes, id->pool);
    memcpy(bytes + 4, id->key.bytes, BLOB_KEY_BYTES);
    return hash64(bytes, sizeof bytes, seed);
#endif
}

uint32_t blob_partition(const struct blob_id *id, unsigned partition_bits)
{
    CHECK(partition_bits <= BLOB_PARTITION_BITS_MAX);
    if (partition_bits == 0)
        return 0;
    uint64_t hash;
    if (LIKELY((id->pool & BLOB_POOL_UPLOADS) == 0)) {
        hash = blob_id_hash(id, 0);
    } else {
        struct blob_id blob = *id;
        blob.pool &= ~BLOB_POOL_UPLOADS;
        hash = blob_id_hash(&blob, 0);
    }
    return (uint32_t)(hash >> (64 - partition_bits));
}

/* Each kind of derived key starts with its own word, so that none can pass for another kind. */
static struct blob_key derived_key(const char *word, const void *data, size_t length)
{
    uint8_t text[16 + BLOB_NAME_MAX];
    struct encoder out = encoder_init(text, sizeof text);
    encode_bytes(&out, word, strlen(word) + 1);
    encode_bytes(&out, data, length);
    CHECK(encoder_ok(&out));
    struct blob_key key;
    sha256(text, encoder_length(&out), key.bytes);
    return key;
}

struct blob_key blob_key_of_name(const void *name, size_t len)
{
    CHECK(len <= BLOB_NAME_MAX);
    return derived_key("name", name, len);
}

struct blob_key blob_key_of_stripe(const struct blob_key *head, uint64_t upload, uint32_t index)
{
    uint8_t data[BLOB_KEY_BYTES + 12];
    memcpy(data, head->bytes, BLOB_KEY_BYTES);
    store_le64(data + BLOB_KEY_BYTES, upload);
    store_le32(data + BLOB_KEY_BYTES + 8, index);
    return derived_key("stripe", data, sizeof data);
}

struct blob_key blob_key_of_upload(const struct blob_key *head, uint64_t upload)
{
    uint8_t data[BLOB_KEY_BYTES + 8];
    memcpy(data, head->bytes, BLOB_KEY_BYTES);
    store_le64(data + BLOB_KEY_BYTES, upload);
    return derived_key("upload", data, sizeof data);
}

void blob_id_encode(struct encoder *out, const struct blob_id *id)
{
    encode_u32(out, id->pool);
    encode_bytes(out, id->key.bytes, BLOB_KEY_BYTES);
}

void blob_id_decode(struct decoder *in, struct blob_id *id)
{
    id->pool = decode_u32(in);
    decode_bytes(in, id->key.bytes, BLOB_KEY_BYTES);
}

void blob_version_encode(struct encoder *out, const struct blob_version *version)
{
    encode_u64(out, version->epoch);
    encode_u32(out, version->incarnation);
    encode_u64(out, version->counter);
}

void blob_version_decode(struct decoder *in, struct blob_version *version)
{
    version->epoch = decode_u64(in);
    version->incarnation = decode_u32(in);
    version->counter = decode_u64(in);
}

void blob_desc_encode(struct encoder *out, const struct blob_desc *desc)
{
    CHECK(desc->name_len <= BLOB_NAME_MAX);
    blob_id_encode(out, &desc->id);
    blob_version_encode(out, &desc->version);
    encode_u8(out, (uint8_t)desc->kind);
    encode_u8(out, (uint8_t)desc->form);
    encode_u8(out, desc->position);
    encode_u8(out, desc->k);
    encode_u8(out, desc->m);
    encode_u16(out, desc->depends);
    encode_u32(out, desc->stripe_len);
    encode_u32(out, desc->stripe_crc);
    encode_u32(out, desc->shard_len);
    encode_u64(out, desc->blob_len);
    encode_u32(out, desc->stripe_size);
    encode_u32(out, desc->stripe_count);
    encode_u32(out, desc->stripe_index);
    encode_u64(out, desc->upload);
    encode_u64(out, desc->request.hi);
    encode_u64(out, desc->request.lo);
    encode_u64(out, desc->created_s);
    encode_u64(out, desc->expires_s);
    encode_blob16(out, desc->name, desc->name_len);
}

static bool desc_can_be(const struct blob_desc *desc)
{
    return desc->kind >= BLOB_HEAD && desc->kind <= BLOB_UPLOAD && desc->form >= BLOB_BYTES &&
           desc->form <= BLOB_TOMBSTONE && desc->position < BLOB_SET_MAX &&
           (unsigned)desc->k + desc->m <= BLOB_SET_MAX && desc->depends >> BLOB_SET_MAX == 0 &&
           (desc->form == BLOB_BYTES || desc->shard_len == 0) &&
           memchr(desc->name, 0, desc->name_len) == NULL;
}

void blob_desc_decode(struct decoder *in, struct blob_desc *desc)
{
    blob_id_decode(in, &desc->id);
    blob_version_decode(in, &desc->version);
    desc->kind = decode_u8(in);
    desc->form = decode_u8(in);
    desc->position = decode_u8(in);
    desc->k = decode_u8(in);
    desc->m = decode_u8(in);
    desc->depends = decode_u16(in);
    desc->stripe_len = decode_u32(in);
    desc->stripe_crc = decode_u32(in);
    desc->shard_len = decode_u32(in);
    desc->blob_len = decode_u64(in);
    desc->stripe_size = decode_u32(in);
    desc->stripe_count = decode_u32(in);
    desc->stripe_index = decode_u32(in);
    desc->upload = decode_u64(in);
    desc->request.hi = decode_u64(in);
    desc->request.lo = decode_u64(in);
    desc->created_s = decode_u64(in);
    desc->expires_s = decode_u64(in);
    size_t name_len = 0;
    const uint8_t *name = decode_blob16(in, BLOB_NAME_MAX, &name_len);
    desc->name_len = (uint16_t)name_len;
    if (name != NULL && name_len > 0)
        memcpy(desc->name, name, name_len);
    if (!in->failed && !desc_can_be(desc))
        in->failed = true;
}
