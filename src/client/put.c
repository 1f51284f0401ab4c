/* SPDX-License-Identifier: Apache-2.0 */
/* Putting a blob that lies in memory: one stripe in one message, or an upload of many. */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "client/client_private.h"

#define TOUCH_EVERY_NS UINT64_C(10000000000)

void put_init(const struct operation *op, struct wire_put *put, enum blob_kind kind,
              uint64_t blob_len, uint32_t stripe_count, uint32_t index, uint64_t upload)
{
    memset(put, 0, offsetof(struct wire_put, name));
    put->id = op->id;
    put->kind = (uint8_t)kind;
    put->blob_len = blob_len;
    put->stripe_size = op->pool.stripe_size;
    put->stripe_count = stripe_count;
    put->stripe_index = index;
    put->upload = upload;
    put->head = op->id.key;
    if (kind == BLOB_STRIPE)
        put->id.key = blob_key_of_stripe(&op->id.key, upload, index);
    if (kind == BLOB_HEAD) {
        put->name_len = op->name_len;
        if (op->name_len > 0)
            memcpy(put->name, op->name, op->name_len);
    }
}

int stripe_put(struct operation *op, struct wire_put *put, const struct iovec *iov,
               unsigned iov_count, struct wire_put_reply *reply)
{
    put->stripe_len = (uint32_t)iov_len(iov, iov_count);
    put->stripe_crc = iov_crc32c(iov, iov_count);
    struct exchange exchange = {.verb = &verb_put, .message = put, .reply = reply,
                                .payload = iov, .payload_count = iov_count,
                                .retry = &put->retry, .first_epoch = &put->first_epoch};
    return ask_primary(op, &put->id, &exchange);
}

int upload_open(struct operation *op, uint64_t blob_len, uint64_t *upload)
{
    struct wire_upload_open question = {.head = op->id, .blob_len = blob_len};
    struct wire_upload_open_reply answer;
    struct operation part;
    operation_fork(&part, op);
    struct exchange exchange = {.verb = &verb_upload_open, .message = &question, .reply = &answer};
    int rc = ask_primary(&part, &op->id, &exchange);
    if (rc == 0)
        *upload = answer.upload;
    return rc;
}

int upload_touch(struct operation *op, uint64_t upload, bool close)
{
    struct wire_upload_touch question = {.head = op->id, .upload = upload, .close = close};
    struct wire_upload_touch_reply answer;
    struct operation part;
    operation_fork(&part, op);
    struct exchange exchange = {.verb = &verb_upload_touch, .message = &question, .reply = &answer};
    return ask_primary(&part, &op->id, &exchange);
}

/* ---- many stripes ---- */

struct put_part {
    struct task task;
    struct operation op;
    uint32_t index;
    const struct iovec *iov;
    unsigned iov_count;
    size_t offset, len;
    uint64_t blob_len, upload;
    uint32_t stripe_count;
    int rc;
};

static void put_part_run(struct task *task)
{
    struct put_part *part = container_of(task, struct put_part, task);
    struct wire_put put;
    struct wire_put_reply reply;
    struct iovec iov[CLIENT_IOV_MAX];
    int n = iov_slice(part->iov, part->iov_count, part->offset, part->len, iov, CLIENT_IOV_MAX);
    CHECK(n >= 0);
    put_init(&part->op, &put, BLOB_STRIPE, part->blob_len, part->stripe_count, part->index,
             part->upload);
    part->rc = stripe_put(&part->op, &put, iov, (unsigned)n, &reply);
}

static int put_stripes(struct operation *op, uint64_t upload, uint32_t count,
                       const struct iovec *iov, unsigned iov_count, uint64_t blob_len)
{
    struct put_part parts[CLIENT_STREAM_STRIPES];
    uint64_t touched = reactor_now_ns(op->client->reactor);
    int rc = 0;
    for (uint32_t index = 1; index < count && rc == 0;) {
        struct fiber_group group;
        unsigned started = 0;
        fiber_group_init(&group);
        for (; started < CLIENT_STREAM_STRIPES && index < count; started++, index++) {
            struct put_part *part = &parts[started];
            size_t offset = (size_t)index * op->pool.stripe_size;
            operation_fork(&part->op, op);
            part->index = index;
            part->iov = iov;
            part->iov_count = iov_count;
            part->offset = offset;
            part->len = MIN((size_t)op->pool.stripe_size, (size_t)blob_len - offset);
            part->blob_len = blob_len;
            part->upload = upload;
            part->stripe_count = count;
            part->task.run = put_part_run;
            task_start(op->client, &group, &part->task);
        }
        fiber_group_wait(&group);
        for (unsigned i = 0; i < started && rc == 0; i++)
            rc = parts[i].rc;
        uint64_t now = reactor_now_ns(op->client->reactor);
        if (rc == 0 && now - touched >= TOUCH_EVERY_NS) {
            rc = upload_touch(op, upload, false);
            touched = now;
        }
    }
    return rc;
}

static void apply_options(struct wire_put *put, const struct client_put_options *options)
{
    if (options == NULL)
        return;
    put->condition = (uint8_t)options->condition;
    put->expected = options->expected;
    put->content = options->content;
    put->ttl_s = options->ttl_s;
}

/* A hit costs one question; a miss is worth it, because what follows is at least two stripes. */
static int content_hit(struct operation *op, struct client_put_result *result)
{
    struct stripe_desc desc;
    int rc = stripe_stat(op, &op->id, &desc);
    if (rc == 0) {
        result->version = desc.version;
        result->existed = true;
        return 1;
    }
    return rc == SHOAL_E_NOT_FOUND ? 0 : rc;
}

static int put_large(struct operation *op, const struct iovec *iov, unsigned iov_count,
                     uint64_t blob_len, const struct client_put_options *options,
                     struct wire_put_reply *reply)
{
    uint32_t stripe_size = op->pool.stripe_size;
    uint64_t count = (blob_len + stripe_size - 1) / stripe_size;
    uint64_t upload = 0;
    if (count > UINT32_MAX)
        return SHOAL_E_TOO_LARGE;
    int rc = upload_open(op, blob_len, &upload);
    if (rc != 0)
        return rc;
    rc = put_stripes(op, upload, (uint32_t)count, iov, iov_count, blob_len);
    if (rc == 0) {
        struct wire_put put;
        struct iovec head[CLIENT_IOV_MAX];
        int n = iov_slice(iov, iov_count, 0, stripe_size, head, CLIENT_IOV_MAX);
        CHECK(n >= 0);
        put_init(op, &put, BLOB_HEAD, blob_len, (uint32_t)count, 0, upload);
        apply_options(&put, options);
        rc = stripe_put(op, &put, head, (unsigned)n, reply);
    }
    /* An outcome that is not known must not be closed upon; the primary closes what is left idle. */
    if (rc != 0 && rc != SHOAL_E_TIMEOUT)
        (void)upload_touch(op, upload, true);
    return rc;
}

int client_put(struct client *client, const struct client_blob *blob, const struct iovec *iov,
               unsigned iov_count, const struct client_put_options *options,
               struct client_put_result *result)
{
    struct operation op;
    struct wire_put_reply reply = {0};
    struct client_put_result ignored;
    if (iov_count > CLIENT_IOV_MAX)
        return SHOAL_E_INVALID;
    if (result == NULL)
        result = &ignored;
    int rc = operation_begin(&op, client, blob);
    if (rc != 0)
        return rc;
    uint64_t len = iov_len(iov, iov_count);
    if (len <= op.pool.stripe_size) {
        struct wire_put put;
        put_init(&op, &put, BLOB_HEAD, len, 1, 0, 0);
        apply_options(&put, options);
        rc = stripe_put(&op, &put, iov, iov_count, &reply);
    } else {
        rc = options != NULL && options->content ? content_hit(&op, result) : 0;
        if (rc == 1) {
            operation_end(&op);
            return 0;
        }
        if (rc == 0)
            rc = put_large(&op, iov, iov_count, len, options, &reply);
    }
    operation_end(&op);
    result->version = reply.version;
    result->existed = reply.existed;
    return rc;
}
