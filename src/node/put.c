/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's put and remove at the primary: lock, judge, pull, encode, replicate, answer (R7 to R12).
 * The payload is pulled once into a DMA buffer, in which the data shards lie as they are; parity
 * follows them, and every member is sent its slice of the same memory.
 */
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/hash.h"
#include "base/log.h"
#include "node/node_private.h"
#include "shoal/error.h"

void units_compute(const uint8_t *data, uint32_t len, uint32_t *units)
{
    for (uint32_t at = 0; at < len; at += ENGINE_UNIT_BYTES)
        *units++ = crc32c(0, data + at, MIN(len - at, ENGINE_UNIT_BYTES));
}

/* ---- what a put may be ---- */

static bool name_is_right(const struct wire_put *ask)
{
    if (ask->name_len == 0)
        return true;
    struct blob_key key = blob_key_of_name(ask->name, ask->name_len);
    return ask->kind == BLOB_HEAD && memchr(ask->name, 0, ask->name_len) == NULL &&
           memcmp(key.bytes, ask->id.key.bytes, sizeof key.bytes) == 0;
}

static bool stripe_is_right(const struct wire_put *ask)
{
    struct blob_key key = blob_key_of_stripe(&ask->head, ask->upload, ask->stripe_index);
    return ask->stripe_index >= 1 && ask->stripe_index < ask->stripe_count && ask->upload != 0 &&
           ask->condition == WIRE_IF_ANY && !ask->content &&
           memcmp(key.bytes, ask->id.key.bytes, sizeof key.bytes) == 0;
}

/* The stripes of a blob are full but for the last. */
static bool lengths_are_right(const struct wire_put *ask, const struct pool_view *pool)
{
    if (ask->stripe_count == 1)
        return ask->blob_len == ask->stripe_len && ask->stripe_len <= pool->stripe_size;
    uint64_t before = (uint64_t)ask->stripe_index * ask->stripe_size;
    if (ask->stripe_count == 0 || ask->stripe_size == 0 || ask->stripe_size > pool->stripe_size ||
        ask->blob_len <= before ||
        (ask->blob_len - 1) / ask->stripe_size + 1 != ask->stripe_count)
        return false;
    return ask->stripe_len == MIN(ask->blob_len - before, (uint64_t)ask->stripe_size);
}

static int put_check(const struct request *r, const struct wire_put *ask,
                     const struct pool_view *pool)
{
    bool kind = ask->kind == BLOB_HEAD
                    ? ask->stripe_index == 0 && (ask->upload != 0) == (ask->stripe_count > 1)
                    : ask->kind == BLOB_STRIPE && stripe_is_right(ask);
    if (!kind || ask->condition > WIRE_IF_VERSION || !name_is_right(ask) ||
        net_request_payload_len(r->net) != ask->stripe_len)
        return SHOAL_E_INVALID;
    if (ask->stripe_len > pool->stripe_size || ask->stripe_len > ENGINE_PAYLOAD_MAX)
        return SHOAL_E_TOO_LARGE;
    return lengths_are_right(ask, pool) ? 0 : SHOAL_E_INVALID;
}

/* ---- judging, under the lock ---- */

/* @version: what the answer says when the return is 1 (answered before) or EXISTS. */
struct verdict {
    struct blob_version version;
    bool replay;
};

static int recall(struct target *t, const struct request *r, const struct member *from,
                  const struct blob_id *id, uint64_t first_epoch, struct wire_recall_reply *reply)
{
    struct node *node = t->node;
    uint8_t header[512];
    struct wire_recall ask = {.id = *id, .first_epoch = first_epoch};
    struct wire_head head = node_head(node, WIRE_recall, from->target, r->head.request);
    struct member_call call = {
        .header = header,
        .header_room = sizeof header,
        .header_len = wire_recall_encode(header, sizeof header, &head, &ask),
        .deadline_ns = node_now(node) + node->config.call_ns,
    };
    int error = node_call(node, from, &call);
    return error != 0 ? error : wire_recall_reply_decode(&call.in, reply);
}

/* Whoever took writes since before the first try knows of it: nothing is committed without him. */
static int judge_by_others(struct target *t, const struct request *r, const struct blob_id *id,
                           uint64_t first_epoch, const struct engine_entry *committed,
                           struct verdict *out)
{
    struct members set;
    struct wire_recall_reply reply = {0};
    if (!node_members_of(t->node, id, &set))
        return SHOAL_E_NO_POOL;
    for (unsigned i = 0; i < set.width; i++) {
        if ((set.present >> i & 1) == 0 || set.at[i].target == t->id ||
            recall(t, r, &set.at[i], id, first_epoch, &reply) != 0 || !reply.certain)
            continue;
        out->replay = reply.known && blob_version_compare(&reply.version, &committed->version) <= 0;
        out->version = reply.version;
        return 0;
    }
    return SHOAL_E_TIMEOUT;
}

/*
 * R8 for a retry whose first try this process may not have seen: the committed piece says what it
 * can, then the other members. SHOAL_E_TIMEOUT: it cannot be known any more.
 */
static int judge_forgotten(struct target *t, const struct request *r, const struct blob_id *id,
                           uint64_t first_epoch, const struct engine_entry *committed,
                           struct verdict *out)
{
    if (blob_version_is_none(&committed->version) || committed->version.epoch < first_epoch)
        return 0;
    void *buffer = dma_get(t->node->config.arena, engine_read_room(0));
    struct blob_desc desc;
    if (buffer == NULL)
        return SHOAL_E_BUSY;
    int error = engine_describe(t->engine, id, &committed->version, buffer, &desc);
    dma_put(t->node->config.arena, buffer);
    if (error != 0)
        return SHOAL_E_TIMEOUT;
    if (desc.request.hi == r->head.request.hi && desc.request.lo == r->head.request.lo) {
        out->replay = true;
        out->version = committed->version;
        return 0;
    }
    return judge_by_others(t, r, id, first_epoch, committed, out);
}

static int judge_retry(struct target *t, const struct request *r, const struct blob_id *id,
                       bool retry, uint64_t first_epoch, const struct engine_entry *committed,
                       struct verdict *out)
{
    const struct window_entry *old = window_find(&t->window, &r->head.request, id);
    if (old != NULL && old->refusal != 0) {
        if (old->epoch == t->node->map->epoch)
            return old->refusal;
        /* Its tries of then are refused anyway (R1), and somebody else may have carried it out since. */
        old = NULL;
    }
    /* An aborted version is taken out of the window, so what is in it and not newer was committed. */
    if (old != NULL && blob_version_compare(&old->version, &committed->version) <= 0) {
        out->replay = true;
        out->version = old->version;
        return 0;
    }
    if (old != NULL && blob_version_is_none(&committed->version)) {
        /* Committed, deleted and collected meanwhile; or never anything: look no further. */
        out->replay = true;
        out->version = old->version;
        return 0;
    }
    if (old == NULL && retry &&
        window_is_uncertain(&t->window, first_epoch, node_now(t->node)))
        return judge_forgotten(t, r, id, first_epoch, committed, out);
    return 0;
}

/*
 * What is refused to a retry is refused to the earlier tries too: one may be on its way still, and nobody
 * waits for it any more.
 */
static int refused(struct target *t, const struct request *r, const struct blob_id *id, bool retry,
                   int error)
{
    bool for_good = error == SHOAL_E_NOT_FOUND || error == SHOAL_E_EXISTS || error == SHOAL_E_CONDITION ||
                    error == SHOAL_E_FULL || error == SHOAL_E_QUOTA || error == SHOAL_E_IO;
    if (retry && for_good)
        window_note_refusal(&t->window, &r->head.request, id, error, t->node->map->epoch,
                            node_now(t->node));
    return error;
}

static bool exists(const struct engine_entry *entry)
{
    return !blob_version_is_none(&entry->version) && entry->form != BLOB_TOMBSTONE;
}

static int judge_condition(uint8_t condition, const struct blob_version *expected,
                           const struct engine_entry *committed)
{
    struct blob_version none = {0};
    const struct blob_version *now = exists(committed) ? &committed->version : &none;
    if (condition == WIRE_IF_ABSENT && exists(committed))
        return SHOAL_E_EXISTS;
    if (condition == WIRE_IF_VERSION && blob_version_compare(now, expected) != 0)
        return SHOAL_E_CONDITION;
    return 0;
}

/* ---- the payload ---- */

struct payload {
    uint8_t *buffer; /* NULL for an empty stripe */
    struct ec_layout layout;
    uint32_t units[NODE_UNITS_MAX];
};

static int payload_get(struct node *node, const struct wire_put *ask, const struct pool_view *pool,
                       struct payload *p)
{
    int error = ec_layout_plan(&p->layout, pool->k, pool->m, ask->stripe_len, pool->copies_below);
    if (error != 0)
        return error;
    size_t room = ec_layout_is_coded(&p->layout)
                      ? (size_t)p->layout.holders * p->layout.shard_len
                      : round_up_u64(ask->stripe_len, DEV_BLOCK_BYTES);
    p->buffer = room == 0 ? NULL : dma_get(node->config.arena, room);
    return room > 0 && p->buffer == NULL ? SHOAL_E_BUSY : 0;
}

static void encode_coded(struct node *node, struct payload *p, struct replica_op *op)
{
    const struct ec_layout *layout = &p->layout;
    uint8_t *parity[EC_PARITY_MAX];
    uint32_t *crcs[EC_MEMBERS_MAX];
    uint32_t *units = p->units;
    for (unsigned i = 0; i < layout->holders; i++) {
        struct shard *shard = &op->shards[i];
        shard->data = p->buffer + (size_t)i * layout->shard_len;
        shard->len = ec_layout_member_len(layout, i);
        shard->units = crcs[i] = units;
        units += units_count(shard->len);
        if (i >= layout->k)
            parity[i - layout->k] = p->buffer + (size_t)i * layout->shard_len;
    }
    CHECK(units <= p->units + NODE_UNITS_MAX);
    ec_encode_stripe(node_code(node, layout->k, layout->m), layout, p->buffer, parity,
                     ENGINE_UNIT_BYTES, crcs);
}

/* Parity and all checksums in one pass; then the payload's own, from those of its units. */
static int payload_encode(struct node *node, struct payload *p, const struct wire_put *ask,
                          struct replica_op *op)
{
    const struct ec_layout *layout = &p->layout;
    uint32_t crc = 0;
    op->holders = (uint16_t)((1u << layout->holders) - 1);
    if (ec_layout_is_coded(layout)) {
        encode_coded(node, p, op);
        for (unsigned i = 0; i < layout->holders; i++) {
            struct shard *shard = &op->shards[i];
            shard->crc = crc32c_join(shard->units, ENGINE_UNIT_BYTES, shard->len);
            if (i < layout->k)
                crc = crc32c_combine(crc, shard->crc, shard->len);
        }
    } else {
        units_compute(p->buffer, ask->stripe_len, p->units);
        crc = crc32c_join(p->units, ENGINE_UNIT_BYTES, ask->stripe_len);
        for (unsigned i = 0; i < layout->holders; i++)
            op->shards[i] = (struct shard){p->buffer, ask->stripe_len, crc, p->units};
    }
    return crc == ask->stripe_crc ? 0 : SHOAL_E_CORRUPT;
}

static void put_desc(const struct request *r, const struct wire_put *ask,
                     const struct pool_view *pool, const struct ec_layout *layout,
                     struct blob_desc *desc)
{
    uint64_t now_s = reactor_wall_s(r->node->reactor);
    uint32_t ttl_s = ask->ttl_s != 0 ? ask->ttl_s : pool->ttl_s;
    *desc = (struct blob_desc){
        .id = ask->id,
        .kind = (enum blob_kind)ask->kind,
        .form = BLOB_BYTES,
        .k = layout->k,
        .m = layout->m,
        .stripe_len = ask->stripe_len,
        .stripe_crc = ask->stripe_crc,
        .blob_len = ask->blob_len,
        .stripe_size = ask->stripe_size,
        .stripe_count = ask->stripe_count,
        .stripe_index = ask->stripe_index,
        .upload = ask->upload,
        .request = r->head.request,
        .created_s = now_s,
        .expires_s = ttl_s != 0 ? now_s + ttl_s : 0,
        .name_len = ask->name_len,
    };
    memcpy(desc->name, ask->name, ask->name_len);
    if (ask->kind == BLOB_STRIPE) {
        /* So that whoever collects dead stripes knows whose they were (R34). */
        char hex[2 * BLOB_KEY_BYTES + 1];
        hex_encode(ask->head.bytes, BLOB_KEY_BYTES, hex);
        desc->name_len = 2 * BLOB_KEY_BYTES;
        memcpy(desc->name, hex, desc->name_len);
    }
}

/* ---- put ---- */

struct put {
    struct request *r;
    const struct wire_put *ask;
    struct pool_view pool;
    struct object *object;
    struct engine_entry committed;
    struct verdict verdict;
    bool existed;
    bool unlocked;
};

static int judge(struct put *put)
{
    struct request *r = put->r;
    struct target *t = r->target;
    const struct wire_put *ask = put->ask;
    int error = target_answer_check(t, &ask->id);
    if (error != 0)
        return error;
    put->committed = (struct engine_entry){0};
    (void)engine_find(t->engine, &ask->id, &put->committed, NULL);
    error = judge_retry(t, r, &ask->id, ask->retry, ask->first_epoch, &put->committed,
                        &put->verdict);
    if (error != 0 || put->verdict.replay)
        return error;
    if (ask->content && exists(&put->committed)) {
        put->existed = true;
        put->verdict.version = put->committed.version;
        if (ask->retry)
            window_note(&t->window, &r->head.request, &ask->id, &put->committed.version,
                        node_now(t->node));
        engine_touch(t->engine, &ask->id);
        return 0;
    }
    if (!put->pool.cache && target_over_quota(t, &put->pool, ask->stripe_len))
        return SHOAL_E_QUOTA;
    error = judge_condition(ask->condition, &ask->expected, &put->committed);
    if (error == 0 && put->pool.cache && put->pool.quota_bytes > 0)
        care_make_room(t, &put->pool, ask->stripe_len);
    return error;
}

static int pull_and_store(struct put *put, struct payload *p)
{
    struct request *r = put->r;
    struct node *node = r->node;
    struct target *t = r->target;
    const struct wire_put *ask = put->ask;
    struct replica_op op = {
        .target = t,
        .object = put->object,
        .form = BLOB_BYTES,
        .deadline_ns = r->started_ns + node->config.put_ns,
    };
    struct iovec iov = {p->buffer, ask->stripe_len};
    int error = 0;
    if (ask->stripe_len > 0)
        error = net_request_pull(r->net, &iov, 1, node_now(node) + node->config.call_ns);
    if (error == 0)
        error = payload_encode(node, p, ask, &op);
    if (error == 0)
        error = target_primary_check(t, &ask->id);
    if (error == 0 && ask->kind == BLOB_HEAD && ask->upload != 0)
        error = upload_check_open(t, &ask->id, ask->upload);
    if (error != 0)
        return error;
    put_desc(r, ask, &put->pool, &p->layout, &op.desc);
    op.base = put->committed.version;
    error = replicate(&op, &put->unlocked);
    if (error == 0)
        put->verdict.version = op.desc.version;
    return error;
}

static int store(struct put *put)
{
    struct node *node = put->r->node;
    struct payload payload;
    int error = payload_get(node, put->ask, &put->pool, &payload);
    if (error != 0)
        return error;
    error = pull_and_store(put, &payload);
    if (payload.buffer != NULL)
        dma_put(node->config.arena, payload.buffer);
    return error;
}

/* The client first; what a commit leaves to do is done while it already has its answer. */
static void put_answer(struct put *put, int error)
{
    if (put->verdict.replay)
        counter_add(put->r->node->puts_replayed, 1);
    if (error != 0) {
        reply_status(put->r, error);
        return;
    }
    struct wire_put_reply reply = {.version = put->verdict.version, .existed = put->existed};
    REPLY(put->r, put, &reply, NULL, 0);
}

void serve_put(struct request *r)
{
    REQUEST(r, put, ask);
    struct target *t = r->target;
    struct put put = {.r = r, .ask = &ask};
    int error = request_epoch_check(r);
    if (error == 0)
        error = request_pool_check(r, ask.id.pool, &put.pool);
    if (error == 0)
        error = put_check(r, &ask, &put.pool);
    if (error == 0)
        error = target_primary_check(t, &ask.id);
    if (error == 0)
        error = object_lock(t, &ask.id, r->started_ns + r->node->config.wait_ns, &put.object);
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    error = judge(&put);
    bool stored = false;
    if (error == 0 && !put.verdict.replay && !put.existed) {
        error = store(&put);
        stored = error == 0;
    }
    error = refused(t, r, &ask.id, ask.retry, error);
    put_answer(&put, error);
    if (stored && ask.kind == BLOB_HEAD && ask.upload != 0)
        (void)upload_close(t, &ask.id, ask.upload);
    if (!put.unlocked)
        object_unlock(put.object);
}

/* ---- remove ---- */

int replicate_tombstone(struct target *t, struct object *object, const struct engine_entry *old,
                        const struct blob_request_id *request, uint64_t deadline_ns,
                        struct blob_version *version, bool *unlocked)
{
    struct replica_op op = {
        .target = t,
        .object = object,
        .form = BLOB_TOMBSTONE,
        .base = old->version,
        .deadline_ns = deadline_ns,
        .desc = {.id = object->id,
                 .kind = old->kind != 0 ? old->kind : BLOB_HEAD,
                 .k = 1,
                 .stripe_count = 1,
                 .request = *request,
                 .created_s = reactor_wall_s(t->node->reactor)},
    };
    int error = replicate(&op, unlocked);
    if (error == 0)
        *version = op.desc.version;
    return error;
}

void serve_remove(struct request *r)
{
    REQUEST(r, remove, ask);
    struct target *t = r->target;
    struct pool_view pool;
    struct object *object;
    struct engine_entry committed = {0};
    struct verdict verdict = {0};
    bool unlocked = false;
    int error = request_epoch_check(r);
    if (error == 0)
        error = request_pool_check(r, ask.id.pool, &pool);
    if (error == 0)
        error = target_primary_check(t, &ask.id);
    if (error == 0)
        error = object_lock(t, &ask.id, r->started_ns + r->node->config.wait_ns, &object);
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    error = target_answer_check(t, &ask.id);
    if (error == 0) {
        (void)engine_find(t->engine, &ask.id, &committed, NULL);
        error = judge_retry(t, r, &ask.id, ask.retry, ask.first_epoch, &committed, &verdict);
    }
    if (error == 0 && !verdict.replay) {
        error = judge_condition(ask.condition, &ask.expected, &committed);
        /* A cache may have lost it here and not elsewhere: there a delete always leaves its mark. */
        if (error == 0 && !exists(&committed) && !pool.cache)
            error = SHOAL_E_NOT_FOUND;
        if (error == 0)
            error = replicate_tombstone(t, object, &committed, &r->head.request,
                                        r->started_ns + r->node->config.put_ns, &verdict.version,
                                        &unlocked);
        if (error == 0 && !exists(&committed))
            error = SHOAL_E_NOT_FOUND;
        else
            error = refused(t, r, &ask.id, ask.retry, error);
    }
    if (error != 0) {
        reply_status(r, error);
    } else {
        struct wire_remove_reply reply = {.version = verdict.version};
        REPLY(r, remove, &reply, NULL, 0);
    }
    if (!unlocked)
        object_unlock(object);
}
