/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/wire.h"

static void request_encode(struct encoder *out, const struct blob_request_id *request)
{
    encode_u64(out, request->hi);
    encode_u64(out, request->lo);
}

static void request_decode(struct decoder *in, struct blob_request_id *request)
{
    request->hi = decode_u64(in);
    request->lo = decode_u64(in);
}

static void key_encode(struct encoder *out, const struct blob_key *key)
{
    encode_bytes(out, key->bytes, sizeof key->bytes);
}

static void key_decode(struct decoder *in, struct blob_key *key)
{
    decode_bytes(in, key->bytes, sizeof key->bytes);
}

void wire_head_encode(struct encoder *out, const struct wire_head *head)
{
    encode_u16(out, head->type);
    encode_u16(out, head->status);
    encode_u64(out, head->epoch);
    encode_u32(out, head->target);
    request_encode(out, &head->request);
}

void wire_head_decode(struct decoder *in, struct wire_head *head)
{
    head->type = decode_u16(in);
    head->status = decode_u16(in);
    head->epoch = decode_u64(in);
    head->target = decode_u32(in);
    request_decode(in, &head->request);
}

static void text_decode(struct decoder *in, uint16_t *len, char *text, size_t max)
{
    *len = decode_u16(in);
    if (*len > max) {
        in->failed = true;
        *len = 0;
    }
    decode_bytes(in, text, *len);
}

/* Encoding, kind by kind; `m` is the message. */
#define E_u8(name) encode_u8(out, m->name);
#define E_u16(name) encode_u16(out, m->name);
#define E_u32(name) encode_u32(out, m->name);
#define E_u64(name) encode_u64(out, m->name);
#define E_flag(name) encode_bool(out, m->name);
#define E_version(name) blob_version_encode(out, &m->name);
#define E_id(name) blob_id_encode(out, &m->name);
#define E_key(name) key_encode(out, &m->name);
#define E_request(name) request_encode(out, &m->name);
#define E_desc(name) blob_desc_encode(out, &m->name);
#define E_uuid(name) encode_bytes(out, m->name.bytes, sizeof m->name.bytes);

#define D_u8(name) m->name = decode_u8(in);
#define D_u16(name) m->name = decode_u16(in);
#define D_u32(name) m->name = decode_u32(in);
#define D_u64(name) m->name = decode_u64(in);
#define D_flag(name) m->name = decode_bool(in);
#define D_version(name) blob_version_decode(in, &m->name);
#define D_id(name) blob_id_decode(in, &m->name);
#define D_key(name) key_decode(in, &m->name);
#define D_request(name) request_decode(in, &m->name);
#define D_desc(name) blob_desc_decode(in, &m->name);
#define D_uuid(name) decode_bytes(in, m->name.bytes, sizeof m->name.bytes);

#define F(kind, name) E_##kind(name)
#define T(name, max)                                                                               \
    out->failed |= m->name##_len > (max);                                                          \
    encode_blob16(out, m->name, m->name##_len);
#define A(item, name, max)                                                                         \
    out->failed |= m->name##_count > (max);                                                        \
    encode_u16(out, m->name##_count);                                                              \
    for (unsigned i = 0; i < m->name##_count && !out->failed; i++)                                 \
        wire_item_##item##_encode(out, &m->name[i]);

#define ITEM(type, fields)                                                                         \
    void wire_item_##type##_encode(struct encoder *out, const struct wire_item_##type *m)          \
    {                                                                                              \
        fields                                                                                     \
    }
#include "wire/messages.def"
#undef ITEM

#define CALL(type, number, sender, fields, reply_fields)                                           \
    static void type##_fields_encode(struct encoder *out, const struct wire_##type *m)             \
    {                                                                                              \
        (void)out, (void)m;                                                                        \
        fields                                                                                     \
    }                                                                                              \
    static void type##_reply_fields_encode(struct encoder *out, const struct wire_##type##_reply *m) \
    {                                                                                              \
        (void)out, (void)m;                                                                        \
        reply_fields                                                                               \
    }
#include "wire/messages.def"
#undef CALL
#undef F
#undef T
#undef A

#define F(kind, name) D_##kind(name)
#define T(name, max) text_decode(in, &m->name##_len, m->name, max);
#define A(item, name, max)                                                                         \
    m->name##_count = decode_u16(in);                                                              \
    if (m->name##_count > (max)) {                                                                 \
        in->failed = true;                                                                         \
        m->name##_count = 0;                                                                       \
    }                                                                                              \
    for (unsigned i = 0; i < m->name##_count; i++)                                                 \
        wire_item_##item##_decode(in, &m->name[i]);

#define ITEM(type, fields)                                                                         \
    void wire_item_##type##_decode(struct decoder *in, struct wire_item_##type *m)                 \
    {                                                                                              \
        fields                                                                                     \
    }
#include "wire/messages.def"
#undef ITEM

#define CALL(type, number, sender, fields, reply_fields)                                           \
    static void type##_fields_decode(struct decoder *in, struct wire_##type *m)                    \
    {                                                                                              \
        (void)in, (void)m;                                                                         \
        fields                                                                                     \
    }                                                                                              \
    static void type##_reply_fields_decode(struct decoder *in, struct wire_##type##_reply *m)      \
    {                                                                                              \
        (void)in, (void)m;                                                                         \
        reply_fields                                                                               \
    }
#include "wire/messages.def"
#undef CALL
#undef F
#undef T
#undef A

static size_t finish(const struct encoder *out)
{
    return encoder_ok(out) ? encoder_length(out) : 0;
}

#define CALL(type, number, sender, fields, reply_fields)                                           \
    size_t wire_##type##_encode(void *buffer, size_t size, const struct wire_head *head,           \
                                const struct wire_##type *message)                                 \
    {                                                                                              \
        struct encoder out = encoder_init(buffer, size);                                           \
        wire_head_encode(&out, head);                                                              \
        type##_fields_encode(&out, message);                                                       \
        return finish(&out);                                                                       \
    }                                                                                              \
    int wire_##type##_decode(struct decoder *in, struct wire_##type *message)                      \
    {                                                                                              \
        type##_fields_decode(in, message);                                                         \
        return decoder_done(in) ? 0 : SHOAL_E_INVALID;                                             \
    }                                                                                              \
    size_t wire_##type##_reply_encode(void *buffer, size_t size, const struct wire_head *head,     \
                                      const struct wire_##type##_reply *message)                   \
    {                                                                                              \
        struct encoder out = encoder_init(buffer, size);                                           \
        wire_head_encode(&out, head);                                                              \
        type##_reply_fields_encode(&out, message);                                                 \
        return finish(&out);                                                                       \
    }                                                                                              \
    int wire_##type##_reply_decode(struct decoder *in, struct wire_##type##_reply *message)        \
    {                                                                                              \
        type##_reply_fields_decode(in, message);                                                   \
        return decoder_done(in) ? 0 : SHOAL_E_INVALID;                                             \
    }
#include "wire/messages.def"
#undef CALL

size_t wire_status_encode(void *buffer, size_t size, const struct wire_head *head)
{
    struct encoder out = encoder_init(buffer, size);
    wire_head_encode(&out, head);
    return finish(&out);
}

const char *wire_type_name(uint16_t type)
{
    switch (type) {
#define CALL(name, number, sender, fields, reply_fields)                                           \
    case number:                                                                                   \
        return #name;
#include "wire/messages.def"
#undef CALL
    default:
        return NULL;
    }
}

enum wire_sender wire_type_sender(uint16_t type)
{
    switch (type) {
#define CALL(name, number, sender, fields, reply_fields)                                           \
    case number:                                                                                   \
        return WIRE_##sender;
#include "wire/messages.def"
#undef CALL
    default:
        return WIRE_ADMIN;
    }
}
