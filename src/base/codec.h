/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded little-endian encoding, for the wire and for the disk alike.
 *
 * Failure is sticky: the first item that does not fit sets `failed`, nothing more is written or
 * read, numbers decode as 0 and pointers as NULL. So a parser reads straight down and asks once,
 * with decoder_ok() or decoder_done(), before it believes any of it.
 *
 *   struct decoder in = decoder_init(data, length);
 *   header.kind = decode_u8(&in);
 *   header.length = decode_u64(&in);
 *   if (!decoder_ok(&in))
 *       return SHOAL_E_INVALID;
 */
#ifndef BASE_CODEC_H
#define BASE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct encoder {
    uint8_t *start;
    uint8_t *at;
    uint8_t *end;
    bool failed;
};

struct decoder {
    const uint8_t *start;
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static inline struct encoder encoder_init(void *buffer, size_t size)
{
    uint8_t *start = buffer;
    return (struct encoder){start, start, start + size, false};
}

static inline bool encoder_ok(const struct encoder *out)
{
    return !out->failed;
}

static inline size_t encoder_length(const struct encoder *out)
{
    return (size_t)(out->at - out->start);
}

static inline size_t encoder_left(const struct encoder *out)
{
    return out->failed ? 0 : (size_t)(out->end - out->at);
}

/* Room for @size bytes to be filled by the caller, or NULL. */
static inline uint8_t *encode_reserve(struct encoder *out, size_t size)
{
    if (out->failed || (size_t)(out->end - out->at) < size) {
        out->failed = true;
        return NULL;
    }
    uint8_t *at = out->at;
    out->at += size;
    return at;
}

static inline void encode_bytes(struct encoder *out, const void *data, size_t size)
{
    uint8_t *at = encode_reserve(out, size);
    if (at != NULL && size > 0)
        memcpy(at, data, size);
}

static inline void encode_zeros(struct encoder *out, size_t size)
{
    uint8_t *at = encode_reserve(out, size);
    if (at != NULL && size > 0)
        memset(at, 0, size);
}

static inline void store_le16(uint8_t *at, uint16_t value)
{
    value = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap16(value) : value;
    memcpy(at, &value, sizeof value);
}

static inline void store_le32(uint8_t *at, uint32_t value)
{
    value = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap32(value) : value;
    memcpy(at, &value, sizeof value);
}

static inline void store_le64(uint8_t *at, uint64_t value)
{
    value = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(value) : value;
    memcpy(at, &value, sizeof value);
}

static inline uint16_t load_le16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap16(value) : value;
}

static inline uint32_t load_le32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap32(value) : value;
}

static inline uint64_t load_le64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(value) : value;
}

static inline void encode_u8(struct encoder *out, uint8_t value)
{
    uint8_t *at = encode_reserve(out, sizeof value);
    if (at != NULL)
        *at = value;
}

static inline void encode_u16(struct encoder *out, uint16_t value)
{
    uint8_t *at = encode_reserve(out, sizeof value);
    if (at != NULL)
        store_le16(at, value);
}

static inline void encode_u32(struct encoder *out, uint32_t value)
{
    uint8_t *at = encode_reserve(out, sizeof value);
    if (at != NULL)
        store_le32(at, value);
}

static inline void encode_u64(struct encoder *out, uint64_t value)
{
    uint8_t *at = encode_reserve(out, sizeof value);
    if (at != NULL)
        store_le64(at, value);
}

static inline void encode_bool(struct encoder *out, bool value)
{
    encode_u8(out, value ? 1 : 0);
}

/* A u16 length, then the bytes, without a terminator. */
static inline void encode_blob16(struct encoder *out, const void *data, size_t size)
{
    if (size > UINT16_MAX) {
        out->failed = true;
        return;
    }
    encode_u16(out, (uint16_t)size);
    encode_bytes(out, data, size);
}

static inline void encode_string(struct encoder *out, const char *text)
{
    encode_blob16(out, text, strlen(text));
}

static inline struct decoder decoder_init(const void *data, size_t size)
{
    const uint8_t *start = data;
    return (struct decoder){start, start, start + size, false};
}

static inline bool decoder_ok(const struct decoder *in)
{
    return !in->failed;
}

static inline size_t decoder_left(const struct decoder *in)
{
    return in->failed ? 0 : (size_t)(in->end - in->at);
}

/* Nothing failed and nothing is left over. */
static inline bool decoder_done(const struct decoder *in)
{
    return !in->failed && in->at == in->end;
}

/* The next @size bytes in place, borrowed from the buffer, or NULL. */
static inline const uint8_t *decode_view(struct decoder *in, size_t size)
{
    if (in->failed || (size_t)(in->end - in->at) < size) {
        in->failed = true;
        return NULL;
    }
    const uint8_t *at = in->at;
    in->at += size;
    return at;
}

/* On failure @out is zeroed, so that nothing undefined is ever read. */
static inline void decode_bytes(struct decoder *in, void *out, size_t size)
{
    const uint8_t *at = decode_view(in, size);
    if (size == 0)
        return;
    if (at != NULL)
        memcpy(out, at, size);
    else
        memset(out, 0, size);
}

static inline void decode_skip(struct decoder *in, size_t size)
{
    (void)decode_view(in, size);
}

static inline uint8_t decode_u8(struct decoder *in)
{
    const uint8_t *at = decode_view(in, 1);
    return at != NULL ? *at : 0;
}

static inline uint16_t decode_u16(struct decoder *in)
{
    const uint8_t *at = decode_view(in, sizeof(uint16_t));
    return at != NULL ? load_le16(at) : 0;
}

static inline uint32_t decode_u32(struct decoder *in)
{
    const uint8_t *at = decode_view(in, sizeof(uint32_t));
    return at != NULL ? load_le32(at) : 0;
}

static inline uint64_t decode_u64(struct decoder *in)
{
    const uint8_t *at = decode_view(in, sizeof(uint64_t));
    return at != NULL ? load_le64(at) : 0;
}

/* Anything but 0 and 1 fails: one meaning, one encoding. */
static inline bool decode_bool(struct decoder *in)
{
    uint8_t value = decode_u8(in);
    if (value > 1)
        in->failed = true;
    return value == 1;
}

/* The counterpart of encode_blob16(); longer than @max fails. *size is 0 on failure. */
static inline const uint8_t *decode_blob16(struct decoder *in, size_t max, size_t *size)
{
    size_t length = decode_u16(in);
    if (length > max)
        in->failed = true;
    const uint8_t *at = decode_view(in, length);
    *size = at != NULL ? length : 0;
    return at;
}

/*
 * Into @out, zero-terminated. Fails when it does not fit with its terminator, or contains a zero
 * byte, which would make two names of one.
 */
static inline void decode_string(struct decoder *in, char *out, size_t out_size)
{
    size_t size = 0;
    out[0] = '\0';
    const uint8_t *at = decode_blob16(in, out_size - 1, &size);
    if (at == NULL)
        return;
    if (size > 0 && memchr(at, 0, size) != NULL) {
        in->failed = true;
        return;
    }
    memcpy(out, at, size);
    out[size] = '\0';
}

#endif
