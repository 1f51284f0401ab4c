/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uploads of large blobs (R31 to R34). The open uploads of a blob are listed in one record: an object
 * with the blob's key in the pool's upload space, so in the blob's own slot. It is read and written
 * under the lock of the head, which is why a head can never name an upload that is being closed.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

#define UPLOADS_MAX 64u /* open for one blob at once */

struct uploads {
    unsigned count;
    uint64_t numbers[UPLOADS_MAX];
    struct engine_entry entry; /* the record as it is */
};

bool upload_is_record(const struct blob_id *id)
{
    return (id->pool & BLOB_POOL_UPLOADS) != 0;
}

static struct blob_id record_of(const struct blob_id *head)
{
    struct blob_id id = *head;
    id.pool |= BLOB_POOL_UPLOADS;
    return id;
}

static int record_read(struct target *t, const struct blob_id *head, struct uploads *out)
{
    struct node *node = t->node;
    struct blob_id id = record_of(head);
    *out = (struct uploads){0};
    (void)engine_find(t->engine, &id, &out->entry, NULL);
    if (blob_version_is_none(&out->entry.version) || out->entry.form == BLOB_TOMBSTONE)
        return 0;
    uint32_t len = out->entry.shard_len;
    if (len > sizeof out->numbers)
        return SHOAL_E_CORRUPT;
    void *buffer = dma_get(node->config.arena, engine_read_room(len));
    const uint8_t *data;
    if (buffer == NULL)
        return SHOAL_E_BUSY;
    int error = engine_read(t->engine, &id, &out->entry.version, 0, len, buffer, &data, NULL, NULL);
    for (uint32_t at = 0; error == 0 && at + 8 <= len; at += 8)
        out->numbers[out->count++] = load_le64(data + at);
    dma_put(node->config.arena, buffer);
    if (error == SHOAL_E_HOLLOW || error == SHOAL_E_CORRUPT) {
        install_later(t, &id, &out->entry.version);
        error = SHOAL_E_BUSY;
    }
    return error;
}

static void record_desc(struct target *t, const struct blob_id *id, unsigned width, uint32_t len,
                        uint32_t crc, struct replica_op *op)
{
    op->desc = (struct blob_desc){
        .id = *id,
        .kind = BLOB_UPLOAD,
        .k = 1,
        .m = (uint8_t)(width - 1),
        .stripe_len = len,
        .stripe_crc = crc,
        .blob_len = len,
        .stripe_count = 1,
        .created_s = reactor_wall_s(t->node->reactor),
    };
}

/* Every member holds the whole record: it is small, and any of them may be primary next. */
static int record_put(struct target *t, struct object *object, const struct blob_id *id,
                      const struct uploads *uploads, bool *unlocked)
{
    struct node *node = t->node;
    struct pool_view pool;
    uint32_t len = uploads->count * 8, unit;
    if (!node_pool_view(node, id->pool, &pool))
        return SHOAL_E_NO_POOL;
    uint8_t *buffer = dma_get(node->config.arena, DEV_BLOCK_BYTES);
    if (buffer == NULL)
        return SHOAL_E_BUSY;
    for (unsigned i = 0; i < uploads->count; i++)
        store_le64(buffer + (size_t)8 * i, uploads->numbers[i]);
    units_compute(buffer, len, &unit);
    unsigned width = (unsigned)pool.k + pool.m;
    struct replica_op op = {
        .target = t,
        .object = object,
        .form = BLOB_BYTES,
        .base = uploads->entry.version,
        .holders = (uint16_t)((1u << width) - 1),
        .deadline_ns = node_now(node) + node->config.put_ns,
    };
    record_desc(t, id, width, len, unit, &op);
    for (unsigned i = 0; i < width; i++)
        op.shards[i] = (struct shard){buffer, len, unit, &unit};
    int error = replicate(&op, unlocked);
    dma_put(node->config.arena, buffer);
    return error;
}

static int record_write(struct target *t, const struct blob_id *head,
                        const struct uploads *uploads)
{
    struct blob_id id = record_of(head);
    struct blob_request_id none = {0, 0};
    struct blob_version version;
    struct object *object;
    bool unlocked = false;
    uint64_t deadline = node_now(t->node) + t->node->config.put_ns;
    int error = object_lock(t, &id, deadline, &object);
    if (error != 0)
        return error;
    error = uploads->count > 0 ? record_put(t, object, &id, uploads, &unlocked)
                               : replicate_tombstone(t, object, &uploads->entry, &none, deadline,
                                                     &version, &unlocked);
    if (!unlocked)
        object_unlock(object);
    return error;
}

static int find_upload(const struct uploads *uploads, uint64_t upload)
{
    for (unsigned i = 0; i < uploads->count; i++)
        if (uploads->numbers[i] == upload)
            return (int)i;
    return -1;
}

int upload_check_open(struct target *t, const struct blob_id *head, uint64_t upload)
{
    struct uploads uploads;
    int error = record_read(t, head, &uploads);
    if (error != 0)
        return error;
    return find_upload(&uploads, upload) >= 0 ? 0 : SHOAL_E_CONDITION;
}

/* ---- when each was heard of last, in this primary's memory (R33) ---- */

struct upload_touch {
    struct list_node node;
    struct blob_id head;
    uint64_t upload;
    uint64_t at_ns;
};

#define TOUCHES_MAX 4096u

static struct upload_touch *touch_find(struct target *t, const struct blob_id *head,
                                       uint64_t upload)
{
    list_for_each(&t->touches, struct upload_touch, node, touch)
        if (touch->upload == upload && blob_id_equal(&touch->head, head))
            return touch;
    return NULL;
}

/* Not to be kept across a blocking call: an epoch may take the slot, and its touches, away. */
static struct upload_touch *touch_of(struct target *t, const struct blob_id *head, uint64_t upload)
{
    struct upload_touch *known = touch_find(t, head, upload);
    if (known != NULL)
        return known;
    if (t->touches_count == TOUCHES_MAX)
        return NULL;
    struct upload_touch *touch = malloc(sizeof *touch);
    if (touch == NULL)
        return NULL;
    *touch = (struct upload_touch){
        .head = *head, .upload = upload, .at_ns = node_now(t->node)};
    list_push_back(&t->touches, &touch->node);
    t->touches_count++;
    return touch;
}

static void touch_free(struct target *t, struct upload_touch *touch)
{
    list_remove(&touch->node);
    t->touches_count--;
    free(touch);
}

void upload_touches_lost(struct target *t)
{
    list_for_each(&t->touches, struct upload_touch, node, touch)
        if (target_primary_check(t, &touch->head) != 0)
            touch_free(t, touch);
}

void upload_touches_free(struct target *t)
{
    list_for_each(&t->touches, struct upload_touch, node, touch)
        touch_free(t, touch);
}

int upload_close(struct target *t, const struct blob_id *head, uint64_t upload)
{
    struct uploads uploads;
    int error = record_read(t, head, &uploads);
    int at = error == 0 ? find_upload(&uploads, upload) : -1;
    if (at < 0)
        return error;
    uploads.numbers[at] = uploads.numbers[--uploads.count];
    error = record_write(t, head, &uploads);
    struct upload_touch *touch = error == 0 ? touch_of(t, head, upload) : NULL;
    if (touch != NULL)
        touch_free(t, touch);
    return error;
}

/* Closes what nobody touched for long. [fiber] The head must not be locked by the caller. */
void upload_expire(struct target *t, const struct blob_id *record)
{
    struct node *node = t->node;
    struct blob_id head = *record;
    struct uploads uploads;
    head.pool &= ~BLOB_POOL_UPLOADS;
    struct object *object = object_try_lock(t, &head);
    if (object == NULL)
        return;
    int error = target_primary_check(t, &head);
    if (error == 0)
        error = record_read(t, &head, &uploads);
    unsigned before = error == 0 ? uploads.count : 0;
    for (unsigned i = 0; error == 0 && i < uploads.count;) {
        struct upload_touch *touch = touch_of(t, &head, uploads.numbers[i]);
        if (touch == NULL || node_now(node) - touch->at_ns < node->config.upload_s * NODE_S) {
            i++;
            continue;
        }
        LOG_INFO("an upload that nobody goes on with is closed");
        touch_free(t, touch);
        uploads.numbers[i] = uploads.numbers[--uploads.count];
    }
    if (error == 0 && uploads.count < before)
        (void)record_write(t, &head, &uploads);
    object_unlock(object);
}

/* ---- handlers ---- */

static int head_lock(struct request *r, const struct blob_id *head, struct object **object)
{
    struct pool_view pool;
    int error = request_epoch_check(r);
    if (error == 0)
        error = request_pool_check(r, head->pool, &pool);
    if (error == 0)
        error = target_primary_check(r->target, head);
    if (error == 0)
        error = object_lock(r->target, head, r->started_ns + r->node->config.wait_ns, object);
    return error;
}

static int upload_open(struct target *t, const struct blob_id *head, uint64_t *upload)
{
    struct uploads uploads;
    int error = target_primary_check(t, head);
    if (error == 0)
        error = record_read(t, head, &uploads);
    if (error == 0 && uploads.count == UPLOADS_MAX)
        error = SHOAL_E_BUSY;
    if (error != 0)
        return error;
    do
        *upload = prng_next(reactor_prng(t->node->reactor));
    while (*upload == 0 || find_upload(&uploads, *upload) >= 0);
    uploads.numbers[uploads.count++] = *upload;
    struct upload_touch *touch = touch_of(t, head, *upload);
    if (touch == NULL)
        return SHOAL_E_BUSY;
    error = record_write(t, head, &uploads);
    touch = error != 0 ? touch_find(t, head, *upload) : NULL;
    if (touch != NULL)
        touch_free(t, touch);
    return error;
}

void serve_upload_open(struct request *r)
{
    REQUEST(r, upload_open, ask);
    struct object *object;
    struct wire_upload_open_reply reply = {0};
    int error = head_lock(r, &ask.head, &object);
    if (error == 0) {
        error = upload_open(r->target, &ask.head, &reply.upload);
        object_unlock(object);
    }
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    REPLY(r, upload_open, &reply, NULL, 0);
}

void serve_upload_touch(struct request *r)
{
    REQUEST(r, upload_touch, ask);
    struct target *t = r->target;
    struct object *object;
    int error = head_lock(r, &ask.head, &object);
    if (error == 0) {
        error = target_primary_check(t, &ask.head);
        if (error == 0)
            error = upload_check_open(t, &ask.head, ask.upload);
        if (error == 0 && ask.close) {
            error = upload_close(t, &ask.head, ask.upload);
        } else if (error == 0) {
            struct upload_touch *touch = touch_of(t, &ask.head, ask.upload);
            if (touch != NULL)
                touch->at_ns = node_now(r->node);
        }
        object_unlock(object);
    }
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    struct wire_upload_touch_reply reply = {};
    REPLY(r, upload_touch, &reply, NULL, 0);
}

/*
 * Live while the record lists it or the committed head names it: a head is committed before its
 * record goes, so there is no moment between. While something is under way it is taken as live.
 */
int upload_is_live(struct target *t, const struct blob_id *head, uint64_t upload, bool *live)
{
    struct uploads uploads;
    struct engine_entry committed = {0};
    struct blob_desc desc;
    int error = target_answer_check(t, head);
    *live = true;
    if (error != 0 || table_find(t->objects, head) != NULL)
        return error;
    error = record_read(t, head, &uploads);
    if (error != 0 || (find_upload(&uploads, upload) >= 0 && !PLANTED(collected_upload)))
        return error;
    (void)engine_find(t->engine, head, &committed, NULL);
    if (blob_version_is_none(&committed.version) || committed.form == BLOB_TOMBSTONE) {
        *live = false;
        return 0;
    }
    void *buffer = dma_get(t->node->config.arena, engine_read_room(0));
    if (buffer == NULL)
        return SHOAL_E_BUSY;
    error = engine_describe(t->engine, head, &committed.version, buffer, &desc);
    dma_put(t->node->config.arena, buffer);
    if (error == 0)
        *live = desc.upload == upload || table_find(t->objects, head) != NULL;
    return error;
}

void serve_upload_stat(struct request *r)
{
    REQUEST(r, upload_stat, ask);
    struct wire_upload_stat_reply reply = {.live = true};
    int error = request_epoch_check(r);
    if (error == 0)
        error = upload_is_live(r->target, &ask.head, ask.upload, &reply.live);
    /* Said only of a slot that was ours all the while. */
    if (error == 0)
        error = target_primary_check(r->target, &ask.head);
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    REPLY(r, upload_stat, &reply, NULL, 0);
}
