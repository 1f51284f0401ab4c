/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs of any length: which stripes they are, and reading them. */
#include <string.h>

#include "base/check.h"
#include "client/client_private.h"

#define CHANGED_ROUNDS 8

void client_info_of(const struct operation *op, const struct stripe_desc *desc,
                    struct client_info *info)
{
    *info = (struct client_info){
        .key = op->id.key, .version = desc->version, .size = desc->blob_len,
        .created_s = desc->created_s, .expires_s = desc->expires_s,
        .stripe_size = desc->stripe_size, .stripe_count = desc->stripe_count,
        .upload = desc->upload,
    };
}

uint32_t blob_stripe_len(const struct stripe_desc *head, uint32_t index)
{
    uint64_t start = (uint64_t)index * head->stripe_size;
    if (start >= head->blob_len)
        return 0;
    return (uint32_t)MIN((uint64_t)head->stripe_size, head->blob_len - start);
}

/* A head comes from the wire: what could not be is not believed. */
static bool head_plausible(const struct stripe_desc *head)
{
    if (head->stripe_count <= 1)
        return head->blob_len == head->stripe_len;
    return head->stripe_size > 0 && head->upload != 0 &&
           (head->blob_len + head->stripe_size - 1) / head->stripe_size == head->stripe_count;
}

/* ---- ranges over many stripes ---- */

struct range_part {
    struct task task;
    struct operation op;
    struct stripe_read read;
    struct iovec iov[CLIENT_IOV_MAX];
    int rc;
    bool busy;
};

static void range_part_run(struct task *task)
{
    struct range_part *part = container_of(task, struct range_part, task);
    part->rc = stripe_read(&part->op, &part->read);
    part->busy = false;
}

static int range_part_start(struct operation *op, const struct stripe_desc *head,
                            struct range_part *part, struct fiber_group *group, uint64_t at,
                            const struct iovec *iov, unsigned iov_count, size_t iov_offset,
                            size_t len)
{
    uint32_t index = (uint32_t)(at / head->stripe_size);
    operation_fork(&part->op, op);
    part->read = (struct stripe_read){
        .id = op->id,
        .guess_len = blob_stripe_len(head, index),
        .offset = (uint32_t)(at % head->stripe_size),
        .iov = part->iov,
    };
    if (index > 0) {
        part->read.id.key = blob_key_of_stripe(&op->id.key, head->upload, index);
    } else {
        part->read.want = head->version;
        part->read.layout_known = true;
        part->read.desc = *head;
    }
    int n = iov_slice(iov, iov_count, iov_offset, len, part->iov, CLIENT_IOV_MAX);
    if (n < 0)
        return SHOAL_E_INVALID;
    part->read.iov_count = (unsigned)n;
    part->busy = true;
    part->task.run = range_part_run;
    task_start(op->client, group, &part->task);
    return 0;
}

int blob_range_read(struct operation *op, const struct stripe_desc *head, uint64_t offset,
                    const struct iovec *iov, unsigned iov_count, size_t *bytes)
{
    struct range_part parts[CLIENT_STREAM_STRIPES];
    size_t room = iov_len(iov, iov_count);
    uint64_t left = offset < head->blob_len ? MIN((uint64_t)room, head->blob_len - offset) : 0;
    size_t done = 0;
    int rc = 0;
    if (!head_plausible(head))
        return SHOAL_E_CORRUPT;
    struct stripe_desc one = *head;
    if (one.stripe_count <= 1)
        one.stripe_size = MAX(one.stripe_len, 1u);
    /* Some stripes at a time; they end at about the same time, so a window that slides gains little. */
    while (left > 0 && rc == 0) {
        struct fiber_group group;
        unsigned started = 0;
        size_t expected[CLIENT_STREAM_STRIPES];
        fiber_group_init(&group);
        while (started < CLIENT_STREAM_STRIPES && left > 0 && rc == 0) {
            uint64_t at = offset + done;
            size_t len = (size_t)MIN(left, (uint64_t)(one.stripe_size - at % one.stripe_size));
            rc = range_part_start(op, &one, &parts[started], &group, at, iov, iov_count, done, len);
            if (rc != 0)
                break;
            expected[started++] = len;
            done += len;
            left -= len;
        }
        fiber_group_wait(&group);
        for (unsigned i = 0; i < started && rc == 0; i++) {
            rc = parts[i].rc;
            if (rc == 0 && parts[i].read.bytes != expected[i])
                rc = SHOAL_E_CHANGED;
            /* A stripe that is gone, not merely out of reach: the blob was replaced or removed. */
            if (rc == SHOAL_E_NOT_FOUND)
                rc = SHOAL_E_CHANGED;
        }
    }
    *bytes = rc == 0 ? done : 0;
    return rc;
}

/* ---- get ---- */

int head_find(struct operation *op, struct stripe_desc *head)
{
    uint8_t byte;
    struct iovec iov = {&byte, 1};
    struct stripe_read read = {
        .id = op->id, .guess_len = op->pool.stripe_size, .iov = &iov, .iov_count = 1};
    int rc = stripe_read(op, &read);
    if (rc == 0)
        *head = read.desc;
    return rc;
}

/* The first stripe straight away, in the hope that it has the length asked for. */
static int read_head(struct operation *op, uint64_t offset, const struct iovec *iov,
                     unsigned iov_count, struct stripe_read *read)
{
    size_t room = iov_len(iov, iov_count);
    uint64_t guess = MIN(offset + room, (uint64_t)op->pool.stripe_size);
    struct iovec first[CLIENT_IOV_MAX];
    size_t len = offset < guess ? (size_t)(guess - offset) : 0;
    int n = iov_slice(iov, iov_count, 0, len, first, CLIENT_IOV_MAX);
    if (n < 0)
        return SHOAL_E_INVALID;
    *read = (struct stripe_read){.id = op->id, .guess_len = (uint32_t)guess,
                                 .offset = (uint32_t)MIN(offset, guess), .iov = first,
                                 .iov_count = (unsigned)n};
    return stripe_read(op, read);
}

static int get_once(struct operation *op, uint64_t offset, const struct iovec *iov,
                    unsigned iov_count, struct client_info *info)
{
    struct stripe_read read;
    struct stripe_desc head;
    size_t bytes = 0;
    if (offset == 0) {
        int rc = read_head(op, offset, iov, iov_count, &read);
        if (rc != 0)
            return rc;
        head = read.desc;
        bytes = read.bytes;
    } else {
        int rc = head_find(op, &head);
        if (rc != 0)
            return rc;
    }
    client_info_of(op, &head, info);
    if (!head_plausible(&head))
        return SHOAL_E_CORRUPT;
    size_t room = iov_len(iov, iov_count);
    uint64_t wanted = offset < head.blob_len ? MIN((uint64_t)room, head.blob_len - offset) : 0;
    if (bytes < wanted) {
        struct iovec rest[CLIENT_IOV_MAX];
        size_t more;
        int n = iov_slice(iov, iov_count, bytes, (size_t)wanted - bytes, rest, CLIENT_IOV_MAX);
        if (n < 0)
            return SHOAL_E_INVALID;
        int rc = blob_range_read(op, &head, offset + bytes, rest, (unsigned)n, &more);
        if (rc != 0)
            return rc;
        bytes += more;
    }
    info->bytes = bytes;
    return 0;
}

static int verify_content(const struct iovec *iov, unsigned iov_count,
                          const struct client_info *info)
{
    struct client_hash *hash = client_hash_create();
    if (hash == NULL)
        return SHOAL_E_NO_MEMORY;
    client_hash_begin(hash);
    uint64_t left = info->bytes;
    for (unsigned i = 0; i < iov_count && left > 0; i++) {
        size_t here = (size_t)MIN((uint64_t)iov[i].iov_len, left);
        client_hash_update(hash, iov[i].iov_base, here);
        left -= here;
    }
    struct blob_key key;
    int rc = client_hash_finish(hash, &key);
    client_hash_destroy(hash);
    if (rc != 0)
        return rc;
    return memcmp(key.bytes, info->key.bytes, sizeof key.bytes) == 0 ? 0 : SHOAL_E_CORRUPT;
}

int client_get(struct client *client, const struct client_blob *blob, uint64_t offset,
               const struct iovec *iov, unsigned iov_count, bool verify, struct client_info *info)
{
    struct operation op;
    if (iov_count > CLIENT_IOV_MAX)
        return SHOAL_E_INVALID;
    int rc = operation_begin(&op, client, blob);
    if (rc != 0)
        return rc;
    for (unsigned round = 0; round < CHANGED_ROUNDS; round++) {
        rc = get_once(&op, offset, iov, iov_count, info);
        if (rc != SHOAL_E_CHANGED || !operation_again(&op, rc))
            break;
    }
    operation_end(&op);
    if (rc == 0 && verify && offset == 0 && info->bytes == info->size)
        rc = verify_content(iov, iov_count, info);
    return rc;
}

int client_stat(struct client *client, const struct client_blob *blob, struct client_info *info)
{
    struct operation op;
    struct stripe_desc desc;
    int rc = operation_begin(&op, client, blob);
    if (rc != 0)
        return rc;
    rc = head_find(&op, &desc);
    if (rc == 0)
        client_info_of(&op, &desc, info);
    operation_end(&op);
    return rc;
}

int client_remove(struct client *client, const struct client_blob *blob,
                  const struct client_put_options *options, struct blob_version *version)
{
    struct operation op;
    int rc = operation_begin(&op, client, blob);
    if (rc != 0)
        return rc;
    struct wire_remove question = {.id = op.id};
    struct wire_remove_reply answer;
    if (options != NULL) {
        question.condition = (uint8_t)options->condition;
        question.expected = options->expected;
    }
    struct exchange exchange = {.verb = &verb_remove, .message = &question, .reply = &answer,
                                .retry = &question.retry,
                                .first_epoch = &question.first_epoch};
    rc = ask_primary(&op, &op.id, &exchange);
    if (rc == 0 && version != NULL)
        *version = answer.version;
    operation_end(&op);
    return rc;
}
