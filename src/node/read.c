/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading: what a clean member answers by itself (R20), and what only the primary can say (R22).
 */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

/* ---- get and fetch ---- */

struct piece {
    struct blob_desc desc;
    void *buffer; /* DMA memory, or NULL */
    struct iovec payload;
    bool summed; /* the payload is whole units, of which these are the sums */
    uint32_t units[ENGINE_PAYLOAD_MAX / ENGINE_UNIT_BYTES];
};

_Static_assert(ENGINE_UNIT_BYTES == NET_SUM_BYTES, "what the engine has checked need not be again");

static void piece_free(struct node *node, struct piece *piece)
{
    if (piece->buffer != NULL)
        dma_put(node->config.arena, piece->buffer);
    piece->buffer = NULL;
}

/* Reads [offset, offset+len) of our piece, fewer at its end. */
static int piece_read(struct target *t, const struct engine_entry *entry, uint32_t offset,
                      uint32_t len, struct piece *piece)
{
    struct node *node = t->node;
    const uint8_t *data = NULL;
    if (entry->form != BLOB_BYTES || offset >= entry->shard_len)
        len = 0;
    else
        len = MIN(len, entry->shard_len - offset);
    if (len > ENGINE_PAYLOAD_MAX)
        return SHOAL_E_TOO_LARGE;
    piece->buffer = dma_get(node->config.arena, engine_read_room(len));
    if (piece->buffer == NULL)
        return SHOAL_E_BUSY;
    int error = len == 0 ? engine_describe(t->engine, &entry->id, &entry->version, piece->buffer,
                                           &piece->desc)
                         : engine_read(t->engine, &entry->id, &entry->version, offset, len,
                                       piece->buffer, &data, &piece->desc, piece->units);
    if (error == SHOAL_E_CORRUPT || error == SHOAL_E_HOLLOW) {
        counter_add(node->damaged_found, error == SHOAL_E_CORRUPT);
        if (!entry->prepared)
            install_later(t, &entry->id, &entry->version);
        error = SHOAL_E_HOLLOW;
    }
    if (error != 0) {
        piece_free(node, piece);
        return error;
    }
    piece->payload = (struct iovec){(void *)(uintptr_t)data, len};
    piece->summed = offset % ENGINE_UNIT_BYTES == 0 &&
                    (len % ENGINE_UNIT_BYTES == 0 || offset + len == entry->shard_len);
    return 0;
}

static bool version_equal(const struct blob_version *a, const struct blob_version *b)
{
    return blob_version_compare(a, b) == 0;
}

/* The piece at just this version, whether its commit was heard of or not (R22). */
static int find_version(struct target *t, const struct blob_id *id,
                        const struct blob_version *want, struct engine_entry *out)
{
    struct engine_entry committed = {0}, prepared = {0};
    (void)engine_find(t->engine, id, &committed, &prepared);
    if (version_equal(&committed.version, want))
        *out = committed;
    else if (version_equal(&prepared.version, want))
        *out = prepared;
    else
        return SHOAL_E_CHANGED;
    return out->hollow ? SHOAL_E_HOLLOW : 0;
}

/* What this member may say on its own. */
static int find_committed(struct target *t, const struct blob_id *id, struct engine_entry *out)
{
    struct engine_entry committed = {0}, prepared = {0};
    struct members set;
    /* R44; from here to what is found nothing blocks. */
    if (!node_members_of(t->node, id, &set) || !target_may_answer(t, &set))
        return SHOAL_E_NOT_SERVING;
    (void)engine_find(t->engine, id, &committed, &prepared);
    if ((!blob_version_is_none(&prepared.version) && !PLANTED(older_beside_prepared)) ||
        member_find_aborted(t, id) != NULL)
        return SHOAL_E_PREPARED;
    *out = committed;
    if (blob_version_is_none(&committed.version) || committed.form == BLOB_TOMBSTONE)
        return SHOAL_E_NOT_FOUND;
    return committed.hollow ? SHOAL_E_HOLLOW : 0;
}

/* A clean member, or the only one there is (R4); @alone: that lost what it had. */
static int reader_check(struct request *r, const struct blob_id *id, bool *alone)
{
    struct members set;
    int error = request_epoch_check(r);
    if (error != 0)
        return error;
    if (!node_members_of(r->node, id, &set))
        return SHOAL_E_NO_POOL;
    int place = members_place(&set, r->target->id);
    uint32_t readable = PLANTED(answering_learner) ? set.taking : set.clean;
    if (place < 0 || (readable >> place & 1) == 0)
        return SHOAL_E_NOT_SERVING;
    *alone = set.width == 1 && r->target->lost;
    return 0;
}

static bool is_expired(const struct node *node, const struct blob_desc *desc)
{
    return desc->expires_s != 0 && desc->expires_s <= reactor_wall_s(node->reactor);
}

void serve_get(struct request *r)
{
    REQUEST(r, get, ask);
    struct target *t = r->target;
    struct engine_entry entry = {0};
    struct pool_view pool;
    struct piece piece;
    piece.buffer = NULL;
    bool alone = false;
    int error = reader_check(r, &ask.id, &alone);
    if (error == 0)
        error = request_pool_check(r, ask.id.pool, &pool);
    for (int tries = 0; error == 0 && tries < 3; tries++) {
        error = blob_version_is_none(&ask.want) ? find_committed(t, &ask.id, &entry)
                                                : find_version(t, &ask.id, &ask.want, &entry);
        if (error == 0)
            error = piece_read(t, &entry, ask.offset, ask.len, &piece);
        if (error != SHOAL_E_NOT_FOUND || blob_version_is_none(&entry.version) ||
            entry.form == BLOB_TOMBSTONE)
            break;
        error = tries < 2 ? 0 : SHOAL_E_CHANGED; /* it was replaced between index and device */
    }
    if (error == SHOAL_E_HOLLOW && !entry.prepared && entry.hollow)
        install_later(t, &entry.id, &entry.version);
    if (error == 0 && (is_expired(r->node, &piece.desc) || piece.desc.form == BLOB_TOMBSTONE))
        error = SHOAL_E_NOT_FOUND;
    if (error == SHOAL_E_NOT_FOUND && alone && !pool.cache)
        error = SHOAL_E_UNAVAILABLE;
    if (error != 0) {
        piece_free(r->node, &piece);
        reply_status(r, error);
        return;
    }
    engine_touch(t->engine, &ask.id);
    struct wire_get_reply reply = {.desc = piece.desc};
    net_request_sums(r->net, piece.summed ? piece.units : NULL);
    REPLY(r, get, &reply, &piece.payload, piece.payload.iov_len > 0);
    piece_free(r->node, &piece);
}

void serve_fetch(struct request *r)
{
    REQUEST(r, fetch, ask);
    struct engine_entry entry;
    struct piece piece;
    piece.buffer = NULL;
    int error = pace_admit_fetch(r->node, MIN(ask.len, ENGINE_PAYLOAD_MAX));
    if (error == 0)
        error = request_epoch_check(r);
    if (error == 0)
        error = find_version(r->target, &ask.id, &ask.version, &entry);
    if (error == 0)
        error = piece_read(r->target, &entry, ask.offset, ask.len, &piece);
    if (error != 0) {
        reply_status(r, error == SHOAL_E_NOT_FOUND ? SHOAL_E_CHANGED : error);
        return;
    }
    struct wire_fetch_reply reply = {.desc = piece.desc};
    net_request_sums(r->net, piece.summed ? piece.units : NULL);
    REPLY(r, fetch, &reply, &piece.payload, piece.payload.iov_len > 0);
    piece_free(r->node, &piece);
}

/* ---- the primary ---- */

static int describe_here(struct target *t, const struct engine_entry *entry,
                         struct blob_desc *desc)
{
    void *buffer = dma_get(t->node->config.arena, engine_read_room(0));
    if (buffer == NULL)
        return SHOAL_E_BUSY;
    int error = engine_describe(t->engine, &entry->id, &entry->version, buffer, desc);
    dma_put(t->node->config.arena, buffer);
    return error;
}

static int describe_there(struct target *t, const struct member *to,
                          const struct engine_entry *entry, struct blob_desc *desc)
{
    struct node *node = t->node;
    uint8_t header[2048];
    struct wire_fetch ask = {.id = entry->id, .version = entry->version};
    struct wire_fetch_reply reply;
    struct blob_request_id none = {0, 0};
    struct wire_head head = node_head(node, WIRE_fetch, to->target, none);
    struct member_call call = {
        .header = header,
        .header_room = sizeof header,
        .header_len = wire_fetch_encode(header, sizeof header, &head, &ask),
        .deadline_ns = node_now(node) + node->config.call_ns,
    };
    int error = node_call(node, to, &call);
    if (error == 0)
        error = wire_fetch_reply_decode(&call.in, &reply);
    if (error == 0)
        *desc = reply.desc;
    return error;
}

int describe_object(struct target *t, const struct engine_entry *entry, struct blob_desc *desc)
{
    struct members set;
    int error = entry->hollow ? SHOAL_E_HOLLOW : describe_here(t, entry, desc);
    /* A marker knows its version and nothing of the stripe. */
    bool marker = error == 0 && desc->form == BLOB_MARKER;
    if (!marker && error != SHOAL_E_HOLLOW && error != SHOAL_E_CORRUPT)
        return error;
    if (!marker)
        install_later(t, &entry->id, &entry->version);
    if (!node_members_of(t->node, &entry->id, &set))
        return SHOAL_E_NO_POOL;
    for (unsigned i = 0; i < set.width; i++)
        if ((set.present >> i & 1) != 0 && set.at[i].target != t->id &&
            describe_there(t, &set.at[i], entry, desc) == 0 && desc->form != BLOB_MARKER)
            return 0;
    return SHOAL_E_UNAVAILABLE;
}

static bool is_alone(const struct target *t, const struct blob_id *id)
{
    struct members set;
    return t->lost && node_members_of(t->node, id, &set) && set.width == 1;
}

void serve_stat(struct request *r)
{
    REQUEST(r, stat, ask);
    struct target *t = r->target;
    struct pool_view pool = {0};
    struct engine_entry committed = {0};
    struct wire_stat_reply reply;
    int error = request_epoch_check(r);
    if (error == 0)
        error = request_pool_check(r, ask.id.pool, &pool);
    if (error == 0)
        error = target_primary_check(t, &ask.id);
    if (error == 0)
        error = object_wait_decided(t, &ask.id, r->started_ns + r->node->config.wait_ns);
    for (int tries = 0; error == 0 && tries < 3; tries++) {
        /* Waiting may have cost us the slot. */
        error = target_answer_check(t, &ask.id);
        if (error != 0)
            break;
        committed = (struct engine_entry){0};
        (void)engine_find(t->engine, &ask.id, &committed, NULL);
        if (blob_version_is_none(&committed.version) || committed.form == BLOB_TOMBSTONE) {
            error = SHOAL_E_NOT_FOUND;
            break;
        }
        error = describe_object(t, &committed, &reply.desc);
        if (error != SHOAL_E_NOT_FOUND && error != SHOAL_E_CHANGED)
            break;
        error = tries < 2 ? 0 : SHOAL_E_BUSY; /* replaced while it was read */
    }
    if (error == 0 && is_expired(r->node, &reply.desc))
        error = SHOAL_E_NOT_FOUND;
    if (error == SHOAL_E_NOT_FOUND && !pool.cache && is_alone(t, &ask.id))
        error = SHOAL_E_UNAVAILABLE;
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    REPLY(r, stat, &reply, NULL, 0);
}

void serve_exists(struct request *r)
{
    REQUEST(r, exists, ask);
    struct target *t = r->target;
    struct pool_view pool;
    struct wire_exists_reply reply = {.present_len = (uint16_t)((ask.keys_count + 7) / 8)};
    uint64_t deadline = r->started_ns + r->node->config.wait_ns;
    int error = request_epoch_check(r);
    if (error == 0)
        error = request_pool_check(r, ask.pool, &pool);
    memset(reply.present, 0, sizeof reply.present);
    for (unsigned i = 0; error == 0 && i < ask.keys_count; i++) {
        struct blob_id id = {.pool = ask.pool, .key = ask.keys[i].key};
        struct engine_entry committed = {0};
        error = target_primary_check(t, &id);
        if (error == 0)
            error = object_wait_decided(t, &id, deadline);
        if (error == 0)
            error = target_answer_check(t, &id);
        if (error != 0)
            break;
        (void)engine_find(t->engine, &id, &committed, NULL);
        if (!blob_version_is_none(&committed.version) && committed.form != BLOB_TOMBSTONE) {
            reply.present[i / 8] = (char)(reply.present[i / 8] | 1 << i % 8);
            if (ask.touch)
                engine_touch(t->engine, &id);
        } else if (!pool.cache && is_alone(t, &id)) {
            error = SHOAL_E_UNAVAILABLE;
        }
    }
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    REPLY(r, exists, &reply, NULL, 0);
}

/* ---- list ---- */

#define LIST_PAGE 40u
#define LIST_BYTES 65536u /* LIST_PAGE of the largest items fit */

static bool is_listed(const struct engine_entry *entry, uint32_t pool)
{
    return !entry->prepared && entry->id.pool == pool && entry->kind == BLOB_HEAD &&
           entry->form != BLOB_TOMBSTONE;
}

static int list_page(struct request *r, const struct wire_list *ask, struct wire_list_reply *reply,
                     struct encoder *out)
{
    struct target *t = r->target;
    struct engine_entry entries[LIST_PAGE];
    unsigned count = slot_list(t, ask->pool, ask->partition, &reply->cursor, entries, LIST_PAGE);
    for (unsigned i = 0; i < count; i++) {
        struct blob_desc desc;
        if (!is_listed(&entries[i], ask->pool))
            continue;
        int error = describe_object(t, &entries[i], &desc);
        if (error == SHOAL_E_NOT_FOUND || error == SHOAL_E_CHANGED)
            continue; /* replaced or deleted meanwhile */
        if (error != 0)
            return error;
        if (desc.name_len < ask->prefix_len || is_expired(r->node, &desc) ||
            memcmp(desc.name, ask->prefix, ask->prefix_len) != 0)
            continue;
        struct wire_item_listed item = {
            .key = desc.id.key,
            .version = desc.version,
            .blob_len = desc.blob_len,
            .created_s = desc.created_s,
            .name_len = desc.name_len,
        };
        memcpy(item.name, desc.name, desc.name_len);
        wire_item_listed_encode(out, &item);
        reply->count++;
    }
    return 0;
}

static int list_check(struct request *r, const struct wire_list *ask)
{
    const struct node *node = r->node;
    int error = request_epoch_check(r);
    if (error != 0)
        return error;
    const uint8_t *slot = ask->partition >> node->map->partition_bits != 0
                              ? NULL
                              : target_slot(r->target, ask->pool, ask->partition);
    struct members set;
    if (slot == NULL)
        return SHOAL_E_INVALID;
    if ((*slot & SLOT_MINE) == 0)
        return SHOAL_E_NOT_PRIMARY;
    return (*slot & SLOT_SETTLED) != 0 && node_members(node, ask->pool, ask->partition, &set) &&
                   target_may_answer(r->target, &set)
               ? 0
               : SHOAL_E_NOT_SERVING;
}

void serve_list(struct request *r)
{
    REQUEST(r, list, ask);
    struct node *node = r->node;
    struct pool_view pool;
    struct wire_list_reply reply = {.cursor = ask.cursor};
    int error = list_check(r, &ask);
    if (error == 0)
        error = request_pool_check(r, ask.pool, &pool);
    void *buffer = error == 0 ? dma_get(node->config.arena, LIST_BYTES) : NULL;
    if (error == 0 && buffer == NULL)
        error = SHOAL_E_BUSY;
    struct encoder out = encoder_init(buffer, buffer == NULL ? 0 : LIST_BYTES);
    /* Pages without a match cost no round trip, within reason. */
    for (int pages = 0; error == 0 && pages < 16; pages++) {
        error = list_page(r, &ask, &reply, &out);
        /* Describing what was found may have cost us the slot, or the lease. */
        if (error == 0)
            error = list_check(r, &ask);
        if (reply.cursor == 0 || reply.count > 0)
            break;
    }
    if (error != 0) {
        reply_status(r, error);
    } else {
        CHECK(encoder_ok(&out));
        struct iovec payload = {buffer, encoder_length(&out)};
        REPLY(r, list, &reply, &payload, payload.iov_len > 0);
    }
    if (buffer != NULL)
        dma_put(node->config.arena, buffer);
}
