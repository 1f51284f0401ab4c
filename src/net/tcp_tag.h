/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keyed tag of a frame on a plain connection: AES-128-CMAC (RFC 4493) under a key of this
 * session and direction. The frame's sequence number is under the tag, so no frame can be played
 * again.
 */
#ifndef NET_TCP_TAG_H
#define NET_TCP_TAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/tcp_frame.h"

#define TCP_TAG_KEY_BYTES 16u

struct tcp_tag;

struct tcp_tag *tcp_tag_create(const uint8_t key[TCP_TAG_KEY_BYTES]); /* NULL: out of memory */
void tcp_tag_destroy(struct tcp_tag *tag);

/* Of the frame's bytes and the message header that follows it. */
void tcp_tag_make(struct tcp_tag *tag, const void *frame, const void *header, size_t header_len,
                  uint8_t out[TCP_TAG_BYTES]);
bool tcp_tag_right(struct tcp_tag *tag, const void *frame, const void *header, size_t header_len,
                   const uint8_t expected[TCP_TAG_BYTES]);

#endif
