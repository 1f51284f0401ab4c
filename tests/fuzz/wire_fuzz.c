/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the protocol, requests and replies: any bytes are decoded or refused; what is decoded
 * encodes to the same bytes. The type in the head chooses the layout, as in a node.
 */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t again[WIRE_MESSAGE_MAX];

#define BOTH_WAYS(message)                                                                         \
    do {                                                                                           \
        static struct wire_##message decoded;                                                      \
        struct decoder in = body;                                                                  \
        if (wire_##message##_decode(&in, &decoded) == 0) {                                         \
            size_t len = wire_##message##_encode(again, sizeof again, &head, &decoded);            \
            CHECK(len == size && memcmp(again, data, size) == 0);                                  \
        }                                                                                          \
    } while (0)

static void message(const uint8_t *data, size_t size)
{
    struct wire_head head;
    struct decoder body = decoder_init(data, size);
    wire_head_decode(&body, &head);
    if (!decoder_ok(&body) || size > WIRE_MESSAGE_MAX)
        return;
    switch (head.type) {
#define CALL(name, number, sender, fields, reply_fields)                                           \
    case number:                                                                                   \
        BOTH_WAYS(name);                                                                           \
        BOTH_WAYS(name##_reply);                                                                   \
        break;
#include "wire/messages.def"
#undef CALL
    default:
        CHECK(wire_type_name(head.type) == NULL);
    }
}

/* Items that fill payloads, one after the other. */
static void items(const uint8_t *data, size_t size)
{
    struct decoder in = decoder_init(data, size);
    while (decoder_ok(&in) && decoder_left(&in) > 0) {
        struct wire_item_entry entry;
        wire_item_entry_decode(&in, &entry);
    }
    in = decoder_init(data, size);
    while (decoder_ok(&in) && decoder_left(&in) > 0) {
        static struct wire_item_listed listed;
        wire_item_listed_decode(&in, &listed);
        CHECK(listed.name_len <= sizeof listed.name);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    message(data, size);
    items(data, size);
    return 0;
}
