/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tcp_frame.h"

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "shoal/error.h"

#define CRC_AT 60u

void tcp_frame_encode(const struct tcp_frame *frame, uint8_t out[TCP_FRAME_BYTES])
{
    struct encoder at = encoder_init(out, TCP_FRAME_BYTES);
    encode_u32(&at, TCP_FRAME_MAGIC);
    encode_u8(&at, frame->version);
    encode_u8(&at, frame->type);
    encode_u16(&at, frame->status);
    encode_u64(&at, frame->sequence);
    encode_u64(&at, frame->call);
    encode_u32(&at, frame->header_len);
    encode_u32(&at, frame->payload_len);
    encode_u32(&at, frame->total);
    encode_u32(&at, frame->offset);
    encode_u32(&at, frame->deadline_us);
    encode_u32(&at, frame->room);
    encode_u32(&at, frame->payload_crc);
    encode_u32(&at, frame->header_crc);
    encode_u32(&at, 0);
    encode_u32(&at, crc32c(0, out, CRC_AT));
    CHECK(encoder_ok(&at) && encoder_left(&at) == 0);
}

static bool has_header(uint8_t type)
{
    return type == TCP_HELLO || type == TCP_CALL || type == TCP_REPLY;
}

static bool has_payload(uint8_t type)
{
    return type == TCP_DATA || type == TCP_REPLY;
}

/* What holds for every frame that a peer of ours sends; unused fields are 0. */
static bool frame_is_sane(const struct tcp_frame *frame)
{
    uint8_t type = frame->type;
    if (type < TCP_HELLO || type >= TCP_FRAME_TYPES)
        return false;
    if (frame->header_len > NET_HEADER_MAX || frame->payload_len > TCP_CHUNK_MAX ||
        frame->total > NET_PAYLOAD_MAX || frame->room > NET_PAYLOAD_MAX)
        return false;
    if (!has_header(type) && frame->header_len != 0)
        return false;
    if (type == TCP_CALL && frame->header_len == 0)
        return false;
    if ((frame->status != 0) != (type == TCP_REFUSE))
        return false;
    if (!has_payload(type))
        return frame->payload_len == 0 && frame->offset == 0 &&
               (frame->total == 0 || type == TCP_CALL);
    if (type == TCP_REPLY && frame->offset != 0)
        return false;
    if (frame->offset > frame->total || frame->payload_len > frame->total - frame->offset)
        return false;
    /* A piece of nothing would let a transfer go on for ever. */
    return frame->payload_len > 0 || (type == TCP_REPLY && frame->total == 0);
}

int tcp_frame_decode(const uint8_t in[TCP_FRAME_BYTES], struct tcp_frame *frame)
{
    struct decoder at = decoder_init(in, TCP_FRAME_BYTES);
    uint32_t magic = decode_u32(&at);
    frame->version = decode_u8(&at);
    frame->type = decode_u8(&at);
    frame->status = decode_u16(&at);
    frame->sequence = decode_u64(&at);
    frame->call = decode_u64(&at);
    frame->header_len = decode_u32(&at);
    frame->payload_len = decode_u32(&at);
    frame->total = decode_u32(&at);
    frame->offset = decode_u32(&at);
    frame->deadline_us = decode_u32(&at);
    frame->room = decode_u32(&at);
    frame->payload_crc = decode_u32(&at);
    frame->header_crc = decode_u32(&at);
    uint32_t reserved = decode_u32(&at);
    uint32_t crc = decode_u32(&at);
    if (magic != TCP_FRAME_MAGIC || crc != crc32c(0, in, CRC_AT))
        return SHOAL_E_CORRUPT;
    if (frame->version < TCP_VERSION_MIN || frame->version > TCP_VERSION_MAX)
        return SHOAL_E_VERSION;
    return reserved == 0 && frame_is_sane(frame) ? 0 : SHOAL_E_INVALID;
}

size_t tcp_hello_encode(const struct tcp_hello *hello, uint8_t *out, size_t room)
{
    struct encoder at = encoder_init(out, room);
    encode_u8(&at, hello->version_min);
    encode_u8(&at, hello->version_max);
    encode_bool(&at, hello->plain);
    encode_u16(&at, hello->max_calls);
    encode_string(&at, hello->cluster);
    CHECK(encoder_ok(&at));
    return encoder_length(&at);
}

/* Longer than we know is allowed: a newer peer may add to the end. */
int tcp_hello_decode(const uint8_t *in, size_t len, struct tcp_hello *hello)
{
    struct decoder at = decoder_init(in, len);
    hello->version_min = decode_u8(&at);
    hello->version_max = decode_u8(&at);
    hello->plain = decode_bool(&at);
    hello->max_calls = decode_u16(&at);
    decode_string(&at, hello->cluster, sizeof hello->cluster);
    if (!decoder_ok(&at) || hello->version_min > hello->version_max)
        return SHOAL_E_INVALID;
    return 0;
}
