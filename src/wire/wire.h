/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages that clients, nodes and the authority exchange: their layout, with bounded encoding
 * and decoding. No I/O here.
 *
 * messages.def lists them. For each call NAME there are struct wire_NAME (request) and
 * struct wire_NAME_reply, with wire_NAME_encode(), wire_NAME_decode() and so on; for each item
 * struct wire_item_NAME. A message on the wire is a struct wire_head and then the fields, little
 * endian, in order, nothing between them. Decoding refuses what is too long, too short, or carries
 * bytes too many.
 */
#ifndef SHOAL_WIRE_WIRE_H
#define SHOAL_WIRE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/codec.h"
#include "shoal/error.h"

#define WIRE_VERSION 1u
#define WIRE_MESSAGE_MAX 8192u /* header of a call with all its fields */

/* Who may send a call, decided by the certificate of the connection. */
enum wire_sender { WIRE_ANYONE, WIRE_CLIENT, WIRE_NODE, WIRE_ADMIN };

enum wire_condition { WIRE_IF_ANY, WIRE_IF_ABSENT, WIRE_IF_VERSION };

enum wire_entry_flags { WIRE_ENTRY_PREPARED = 1, WIRE_ENTRY_HOLLOW = 2, WIRE_ENTRY_TORN = 4 };

/* The device came back stale: what it holds does not count as evidence. */
enum wire_enroll_flags { WIRE_ENROLL_STALE = 1 };

#define WIRE_NO_TARGET UINT32_MAX

/*
 * struct wire_head - Before the fields of every request and reply.
 * @type: the call's number
 * @status: of a reply: 0 or a SHOAL_E_* made positive; the fields of a failed reply are absent
 * @epoch: of the sender's map
 * @target: the target addressed, or WIRE_NO_TARGET for the node itself
 * @request: chosen by the first sender, kept in everything done on its behalf, shown in logs
 */
struct wire_head {
    uint16_t type;
    uint16_t status;
    uint64_t epoch;
    uint32_t target;
    struct blob_request_id request;
};

void wire_head_encode(struct encoder *out, const struct wire_head *head);
void wire_head_decode(struct decoder *in, struct wire_head *head);

struct wire_uuid {
    uint8_t bytes[16];
};

/* ---- made from messages.def ---- */

#define WIRE_TYPE_u8 uint8_t
#define WIRE_TYPE_u16 uint16_t
#define WIRE_TYPE_u32 uint32_t
#define WIRE_TYPE_u64 uint64_t
#define WIRE_TYPE_flag bool
#define WIRE_TYPE_version struct blob_version
#define WIRE_TYPE_id struct blob_id
#define WIRE_TYPE_key struct blob_key
#define WIRE_TYPE_request struct blob_request_id
#define WIRE_TYPE_desc struct blob_desc
#define WIRE_TYPE_uuid struct wire_uuid

#define F(kind, name) WIRE_TYPE_##kind name;
#define T(name, max)                                                                               \
    uint16_t name##_len;                                                                           \
    char name[max];
#define A(item, name, max)                                                                         \
    uint16_t name##_count;                                                                         \
    struct wire_item_##item name[max];

#define ITEM(name, fields)                                                                         \
    struct wire_item_##name {                                                                      \
        fields                                                                                     \
    };                                                                                             \
    void wire_item_##name##_encode(struct encoder *out, const struct wire_item_##name *item);      \
    void wire_item_##name##_decode(struct decoder *in, struct wire_item_##name *item);
#include "wire/messages.def"
#undef ITEM

enum wire_type {
#define CALL(name, number, sender, fields, reply_fields) WIRE_##name = number,
#include "wire/messages.def"
#undef CALL
};

/*
 * The whole of a message, head included. Encoding returns the length, or 0 when it does not fit.
 * Decoding reads the fields after a head that wire_head_decode() took from the same decoder, and
 * returns 0 or SHOAL_E_INVALID.
 */
#define CALL(name, number, sender, fields, reply_fields)                                           \
    struct wire_##name {                                                                           \
        fields                                                                                     \
    };                                                                                             \
    struct wire_##name##_reply {                                                                   \
        reply_fields                                                                               \
    };                                                                                             \
    size_t wire_##name##_encode(void *buffer, size_t size, const struct wire_head *head,           \
                                const struct wire_##name *message);                                \
    int wire_##name##_decode(struct decoder *in, struct wire_##name *message);                     \
    size_t wire_##name##_reply_encode(void *buffer, size_t size, const struct wire_head *head,     \
                                      const struct wire_##name##_reply *message);                  \
    int wire_##name##_reply_decode(struct decoder *in, struct wire_##name##_reply *message);
#include "wire/messages.def"
#undef CALL
#undef F
#undef T
#undef A

/* A reply that carries only a status. */
size_t wire_status_encode(void *buffer, size_t size, const struct wire_head *head);

/* For logs, metrics and access checks; NULL / WIRE_ADMIN for a number that is no call. */
const char *wire_type_name(uint16_t type);
enum wire_sender wire_type_sender(uint16_t type);

#endif
