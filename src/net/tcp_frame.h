/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: what a TCP connection carries. Layout and meaning are in docs/formats/wire-frames.md.
 *
 * A frame is 64 bytes, a tag of 16 bytes on a plain connection, a message header, and a piece of
 * payload. This file is pure: bytes to struct and back, with every length bounded; who may send
 * what, and when, is the connection's business.
 */
#ifndef NET_TCP_FRAME_H
#define NET_TCP_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "net/net.h"

#define TCP_FRAME_MAGIC UINT32_C(0x464c4853) /* "SHLF" */
#define TCP_FRAME_BYTES 64u
#define TCP_TAG_BYTES 16u
#define TCP_VERSION_MIN 1u
#define TCP_VERSION_MAX 1u
#define TCP_VERSION_HELLO 1u /* until both have agreed, for ever */
/* The most payload in one frame: what one large transfer may hold up all others by. */
#define TCP_CHUNK_MAX (1u << 20)

enum tcp_frame_type {
    TCP_HELLO = 1, /* both ways, first: what either side speaks and wants */
    TCP_CALL,      /* client: a request's header; @total bytes of payload are offered */
    TCP_PULL,      /* server: send the payload now */
    TCP_DATA,      /* both: a further piece of payload */
    TCP_REPLY,     /* server: the reply's header and the first piece of its @total bytes */
    TCP_REFUSE,    /* server: no reply but @status; call 0: of the whole connection */
    TCP_CANCEL,    /* client: nobody waits for this call any more */
    TCP_PING,
    TCP_PONG,
    TCP_FRAME_TYPES
};

struct tcp_frame {
    uint8_t version;
    uint8_t type;
    uint16_t status;      /* REFUSE: the error, made positive */
    uint64_t sequence;    /* counts the frames of one direction, from 0 */
    uint64_t call;        /* chosen by the client: the low 16 bits are its slot */
    uint32_t header_len;  /* of the message header that follows */
    uint32_t payload_len; /* of the piece of payload that follows that */
    uint32_t total;       /* CALL: offered; REPLY, DATA: of the whole payload */
    uint32_t offset;      /* DATA: of this piece in the payload */
    uint32_t deadline_us; /* CALL: how long the caller will still wait */
    uint32_t room;        /* CALL: bytes of payload that the reply may carry */
    uint32_t payload_crc; /* CRC32C of this piece */
    uint32_t header_crc;  /* CRC32C of the message header */
};

void tcp_frame_encode(const struct tcp_frame *frame, uint8_t out[TCP_FRAME_BYTES]);

/*
 * tcp_frame_decode() - Return: 0; SHOAL_E_VERSION for a version that this build does not speak;
 * SHOAL_E_CORRUPT for a wrong magic or checksum; SHOAL_E_INVALID for what no peer of ours sends.
 */
int tcp_frame_decode(const uint8_t in[TCP_FRAME_BYTES], struct tcp_frame *frame) NODISCARD;

/* The body of a HELLO, carried as its message header. */
struct tcp_hello {
    uint8_t version_min, version_max; /* in the answer both are the version chosen */
    bool plain;                       /* asked for; in the answer: chosen */
    uint16_t max_calls;               /* that the sender of the answer admits on a connection */
    char cluster[40];
};

size_t tcp_hello_encode(const struct tcp_hello *hello, uint8_t *out, size_t room);
int tcp_hello_decode(const uint8_t *in, size_t len, struct tcp_hello *hello) NODISCARD;

#endif
