/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "wire/wire.h"

/*
 * Each message is filled at random within its bounds, encoded, decoded, encoded again: the bytes
 * must be the same. That covers every field of every message without a test for each.
 */
static struct prng prng;

static void fill_bytes(void *out, size_t len)
{
    prng_bytes(&prng, out, len);
}

static struct blob_version any_version(void)
{
    return (struct blob_version){prng_next(&prng), (uint32_t)prng_next(&prng), prng_next(&prng)};
}

static struct blob_id any_id(void)
{
    struct blob_id id = {.pool = (uint32_t)prng_next(&prng)};
    fill_bytes(id.key.bytes, sizeof id.key.bytes);
    return id;
}

static struct blob_desc any_desc(void)
{
    struct blob_desc desc = {
        .id = any_id(),
        .version = any_version(),
        .kind = BLOB_HEAD,
        .form = BLOB_BYTES,
        .position = (uint8_t)prng_below(&prng, BLOB_SET_MAX),
        .k = 4,
        .m = 2,
        .depends = (uint16_t)prng_below(&prng, 1u << BLOB_SET_MAX),
        .stripe_len = (uint32_t)prng_next(&prng),
        .stripe_crc = (uint32_t)prng_next(&prng),
        .shard_len = (uint32_t)prng_next(&prng),
        .blob_len = prng_next(&prng),
        .stripe_size = (uint32_t)prng_next(&prng),
        .stripe_count = (uint32_t)prng_next(&prng),
        .stripe_index = (uint32_t)prng_next(&prng),
        .upload = prng_next(&prng),
        .request = {prng_next(&prng), prng_next(&prng)},
        .created_s = prng_next(&prng),
        .expires_s = prng_next(&prng),
        .name_len = (uint16_t)prng_below(&prng, BLOB_NAME_MAX + 1),
    };
    memset(desc.name, 'n', desc.name_len);
    return desc;
}

#define R_u8(name) m->name = (uint8_t)prng_next(&prng);
#define R_u16(name) m->name = (uint16_t)prng_next(&prng);
#define R_u32(name) m->name = (uint32_t)prng_next(&prng);
#define R_u64(name) m->name = prng_next(&prng);
#define R_flag(name) m->name = prng_chance(&prng, 1, 2);
#define R_version(name) m->name = any_version();
#define R_id(name) m->name = any_id();
#define R_key(name) m->name = any_id().key;
#define R_request(name) m->name = (struct blob_request_id){prng_next(&prng), prng_next(&prng)};
#define R_desc(name) m->name = any_desc();
#define R_uuid(name) fill_bytes(m->name.bytes, sizeof m->name.bytes);

#define F(kind, name) R_##kind(name)
#define T(name, max)                                                                               \
    m->name##_len = (uint16_t)prng_below(&prng, (max) + 1);                                        \
    fill_bytes(m->name, m->name##_len);
#define A(item, name, max)                                                                         \
    m->name##_count = (uint16_t)(prng_chance(&prng, 1, 8) ? (max) : prng_below(&prng, (max) + 1)); \
    for (unsigned i = 0; i < m->name##_count; i++)                                                 \
        fill_item_##item(&m->name[i]);
#define ITEM(type, fields)                                                                         \
    static void fill_item_##type(struct wire_item_##type *m)                                       \
    {                                                                                              \
        fields                                                                                     \
    }
#include "wire/messages.def"
#undef ITEM
#define CALL(type, number, sender, fields, reply_fields)                                           \
    static void fill_##type(struct wire_##type *m)                                                 \
    {                                                                                              \
        (void)m;                                                                                   \
        fields                                                                                     \
    }                                                                                              \
    static void fill_##type##_reply(struct wire_##type##_reply *m)                                 \
    {                                                                                              \
        (void)m;                                                                                   \
        reply_fields                                                                               \
    }
#include "wire/messages.def"
#undef CALL
#undef F
#undef T
#undef A

/*
 * Lets the @nth text or array of a message carry one, or one more than it may. Return: its bound; 0
 * when the message has no such field.
 */
#define F(kind, name)
#define T(name, max)                                                                               \
    if (nth-- == 0) {                                                                              \
        m->name##_len = (uint16_t)(one ? 1 : (max) + 1);                                           \
        return (max);                                                                              \
    }
#define A(item, name, max)                                                                         \
    if (nth-- == 0) {                                                                              \
        m->name##_count = (uint16_t)(one ? 1 : (max) + 1);                                         \
        return (max);                                                                              \
    }
#define CALL(type, number, sender, fields, reply_fields)                                           \
    static unsigned bound_##type(struct wire_##type *m, unsigned nth, bool one)                    \
    {                                                                                              \
        (void)m, (void)nth, (void)one;                                                             \
        fields                                                                                     \
        return 0;                                                                                  \
    }                                                                                              \
    static unsigned bound_##type##_reply(struct wire_##type##_reply *m, unsigned nth, bool one)    \
    {                                                                                              \
        (void)m, (void)nth, (void)one;                                                             \
        reply_fields                                                                               \
        return 0;                                                                                  \
    }
#include "wire/messages.def"
#undef CALL
#undef F
#undef T
#undef A

static struct wire_head any_head(uint16_t type)
{
    return (struct wire_head){.type = type,
                              .epoch = prng_next(&prng),
                              .target = (uint32_t)prng_next(&prng),
                              .request = {prng_next(&prng), prng_next(&prng)}};
}

static uint8_t first[WIRE_MESSAGE_MAX], second[WIRE_MESSAGE_MAX];

#define ROUND_TRIP(message, number)                                                                   \
    do {                                                                                           \
        static struct wire_##message in, out;                                                         \
        struct wire_head head = any_head(number), back;                                            \
        fill_##message(&in);                                                                          \
        size_t len = wire_##message##_encode(first, sizeof first, &head, &in);                        \
        assert_true(len > 0);                                                                      \
        struct decoder decoder = decoder_init(first, len);                                         \
        wire_head_decode(&decoder, &back);                                                         \
        assert_int_equal(back.type, number);                                                       \
        assert_int_equal(wire_##message##_decode(&decoder, &out), 0);                                 \
        assert_int_equal(wire_##message##_encode(second, sizeof second, &back, &out), len);           \
        assert_memory_equal(first, second, len);                                                   \
        size_t cut = prng_below(&prng, len);                                                       \
        decoder = decoder_init(first, cut);                                                        \
        wire_head_decode(&decoder, &back);                                                         \
        assert_int_equal(wire_##message##_decode(&decoder, &out), SHOAL_E_INVALID);                   \
        if (len < sizeof first) {                                                                  \
            decoder = decoder_init(first, len + 1);                                                \
            wire_head_decode(&decoder, &back);                                                     \
            assert_int_equal(wire_##message##_decode(&decoder, &out), SHOAL_E_INVALID);               \
        }                                                                                          \
        assert_int_equal(wire_##message##_encode(second, len - 1, &head, &in), 0);                    \
    } while (0)

static void every_message_survives_the_way(void **state)
{
    (void)state;
    prng_seed(&prng, 1);
    for (int i = 0; i < 200; i++) {
#define CALL(type, number, sender, fields, reply_fields)                                           \
    ROUND_TRIP(type, number);                                                                      \
    ROUND_TRIP(type##_reply, number);
#include "wire/messages.def"
#undef CALL
    }
}

/* Items that travel in payloads only. */
static void entries_survive_the_way(void **state)
{
    (void)state;
    prng_seed(&prng, 4);
    for (int i = 0; i < 200; i++) {
        struct wire_item_entry entry, entry_back;
        static struct wire_item_listed listed, listed_back;
        fill_item_entry(&entry);
        fill_item_listed(&listed);
        struct encoder out = encoder_init(first, sizeof first);
        wire_item_entry_encode(&out, &entry);
        wire_item_listed_encode(&out, &listed);
        struct decoder in = decoder_init(first, encoder_length(&out));
        wire_item_entry_decode(&in, &entry_back);
        wire_item_listed_decode(&in, &listed_back);
        assert_true(decoder_done(&in));
        assert_true(blob_id_equal(&entry.id, &entry_back.id));
        assert_int_equal(entry.depends, entry_back.depends);
        assert_int_equal(listed.name_len, listed_back.name_len);
        assert_memory_equal(listed.name, listed_back.name, listed.name_len);
    }
}

#define CUTS(message, number)                                                                      \
    do {                                                                                           \
        static struct wire_##message in, out;                                                      \
        struct wire_head head = any_head(number), back;                                            \
        fill_##message(&in);                                                                       \
        size_t len = wire_##message##_encode(first, sizeof first, &head, &in);                     \
        for (size_t cut = 0; cut < len; cut++) {                                                   \
            struct decoder decoder = decoder_init(first, cut);                                     \
            wire_head_decode(&decoder, &back);                                                     \
            assert_int_equal(wire_##message##_decode(&decoder, &out), SHOAL_E_INVALID);            \
            assert_int_equal(wire_##message##_encode(second, cut, &head, &in), 0);                 \
        }                                                                                          \
    } while (0)

static void a_message_cut_anywhere_is_refused(void **state)
{
    (void)state;
    prng_seed(&prng, 5);
#define CALL(type, number, sender, fields, reply_fields)                                           \
    CUTS(type, number);                                                                            \
    CUTS(type##_reply, number);
#include "wire/messages.def"
#undef CALL
}

/* Where two messages differ first: at the count that is 0 in one and 1 in the other. */
static size_t first_difference(size_t len)
{
    size_t at = 0;
    while (at < len && first[at] == second[at])
        at++;
    assert_true(at < len);
    return at;
}

#define BOUNDS(message, number)                                                                    \
    do {                                                                                           \
        static struct wire_##message in, out;                                                      \
        struct wire_head head = {.type = number};                                                  \
        for (unsigned nth = 0, max;; nth++) {                                                      \
            memset(&in, 0, sizeof in);                                                             \
            memset(first, 0, sizeof first);                                                        \
            size_t len = wire_##message##_encode(first, sizeof first, &head, &in);                 \
            max = bound_##message(&in, nth, true);                                                 \
            if (max == 0)                                                                          \
                break;                                                                             \
            assert_true(wire_##message##_encode(second, sizeof second, &head, &in) > len);         \
            struct decoder decoder = decoder_init(first, len);                                     \
            wire_head_decode(&decoder, &head);                                                     \
            assert_int_equal(wire_##message##_decode(&decoder, &out), 0);                          \
            store_le16(first + first_difference(len), (uint16_t)(max + 1));                        \
            decoder = decoder_init(first, sizeof first);                                           \
            wire_head_decode(&decoder, &head);                                                     \
            assert_int_equal(wire_##message##_decode(&decoder, &out), SHOAL_E_INVALID);            \
            assert_false(decoder_ok(&decoder)); /* and not for the bytes after it */               \
            bound_##message(&in, nth, false);                                                      \
            assert_int_equal(wire_##message##_encode(second, sizeof second, &head, &in), 0);       \
            bounded++;                                                                             \
        }                                                                                          \
    } while (0)

static void no_text_or_array_goes_beyond_its_bound(void **state)
{
    (void)state;
    unsigned bounded = 0;
#define CALL(type, number, sender, fields, reply_fields)                                           \
    BOUNDS(type, number);                                                                          \
    BOUNDS(type##_reply, number);
#include "wire/messages.def"
#undef CALL
    assert_true(bounded >= 16);
}

static void a_status_needs_room_for_a_head(void **state)
{
    (void)state;
    struct wire_head head = any_head(WIRE_put), back;
    size_t len = wire_status_encode(first, sizeof first, &head);
    struct decoder in = decoder_init(first, len);
    wire_head_decode(&in, &back);
    assert_true(len > 0 && decoder_done(&in));
    assert_int_equal(back.type, WIRE_put);
    assert_int_equal(wire_status_encode(first, len - 1, &head), 0);
}

static void the_largest_of_each_message_fits_a_header(void **state)
{
    (void)state;
    prng_seed(&prng, 2);
    static struct wire_find find;
    fill_find(&find);
    find.objects_count = 96;
    struct wire_head head = any_head(WIRE_find);
    assert_true(wire_find_encode(first, sizeof first, &head, &find) > 0);
    static struct wire_exists exists;
    fill_exists(&exists);
    exists.keys_count = 192;
    assert_true(wire_exists_encode(first, sizeof first, &head, &exists) > 0);
}

static void numbers_have_names_and_senders(void **state)
{
    (void)state;
#define CALL(name, number, sender, fields, reply_fields)                                           \
    assert_string_equal(wire_type_name(number), #name);                                            \
    assert_int_equal(wire_type_sender(number), WIRE_##sender);
#include "wire/messages.def"
#undef CALL
    assert_null(wire_type_name(9999));
    assert_int_equal(wire_type_sender(9999), WIRE_ADMIN);
}

static void noise_never_decodes_beyond_its_end(void **state)
{
    (void)state;
    prng_seed(&prng, 3);
    for (int i = 0; i < 20000; i++) {
        size_t len = prng_below(&prng, 200);
        fill_bytes(first, len);
        struct decoder in = decoder_init(first, len);
        struct wire_head head;
        wire_head_decode(&in, &head);
        static struct wire_put put;
        static struct wire_find find;
        struct decoder again = in;
        (void)wire_put_decode(&in, &put);
        (void)wire_find_decode(&again, &find);
        assert_true(find.objects_count <= 96 && put.name_len <= 1024);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_survives_the_way),
        cmocka_unit_test(entries_survive_the_way),
        cmocka_unit_test(the_largest_of_each_message_fits_a_header),
        cmocka_unit_test(a_message_cut_anywhere_is_refused),
        cmocka_unit_test(no_text_or_array_goes_beyond_its_bound),
        cmocka_unit_test(a_status_needs_room_for_a_head),
        cmocka_unit_test(numbers_have_names_and_senders),
        cmocka_unit_test(noise_never_decodes_beyond_its_end),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
