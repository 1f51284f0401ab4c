/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: blobs far larger than memory, a few stripes at a time.
 *
 * A writer keeps the first stripe back, because the head is written last: with it the blob appears.
 * Further stripes go out while the next ones fill.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "client/client_private.h"

#define TOUCH_EVERY_NS UINT64_C(10000000000)
#define STREAM_DEADLINE_NS UINT64_C(30000000000) /* of each step, not of the whole */

struct writer_slot {
    struct task task;
    struct client_writer *writer;
    struct operation op;
    uint8_t *buffer; /* NULL: not acquired */
    uint32_t index, len;
    bool busy;
};

struct client_writer {
    struct client *client;
    struct operation op;
    char *pool;
    char name[BLOB_NAME_MAX];
    struct client_put_options options;
    uint64_t size_known, written;
    uint64_t upload;
    uint64_t touched_ns;
    uint8_t *head;
    uint32_t head_len;
    uint32_t next_index;
    struct writer_slot slots[CLIENT_STREAM_STRIPES];
    struct writer_slot *filling;
    struct fiber_group group;
    struct fiber_queue moved;
    int rc; /* the first failure; sticky */
};

/* ---- writing ---- */

static void writer_free(struct client_writer *writer)
{
    fiber_group_wait(&writer->group);
    for (unsigned i = 0; i < CLIENT_STREAM_STRIPES; i++)
        if (writer->slots[i].buffer != NULL)
            scratch_put(writer->client, writer->slots[i].buffer);
    if (writer->head != NULL)
        scratch_put(writer->client, writer->head);
    operation_end(&writer->op);
    free(writer->pool);
    free(writer);
}

int client_writer_open(struct client *client, const struct client_blob *blob, uint64_t size,
                       const struct client_put_options *options, struct client_writer **out)
{
    struct client_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL || (writer->pool = strdup(blob->pool)) == NULL) {
        free(writer);
        return SHOAL_E_NO_MEMORY;
    }
    int rc = operation_begin(&writer->op, client, blob);
    if (rc != 0) {
        free(writer->pool);
        free(writer);
        return rc;
    }
    writer->client = client;
    writer->op.pool_name = writer->pool;
    if (writer->op.name_len > 0)
        memcpy(writer->name, blob->name, writer->op.name_len);
    writer->op.name = writer->name;
    writer->size_known = size;
    writer->next_index = 1;
    if (options != NULL)
        writer->options = *options;
    fiber_group_init(&writer->group);
    fiber_queue_init(&writer->moved);
    writer->head = scratch_get(client, writer->op.deadline_ns);
    if (writer->head == NULL || writer->op.pool.stripe_size > client->scratch_bytes) {
        rc = writer->head == NULL ? SHOAL_E_BUSY : SHOAL_E_TOO_LARGE;
        writer_free(writer);
        return rc;
    }
    *out = writer;
    return 0;
}

static void step_begin(struct client_writer *writer, struct operation *op)
{
    operation_fork(op, &writer->op);
    op->deadline_ns = reactor_now_ns(writer->client->reactor) + STREAM_DEADLINE_NS;
}

static uint64_t known_size(const struct client_writer *writer)
{
    return writer->size_known == UINT64_MAX ? 0 : writer->size_known;
}

/*
 * What a stripe says of its blob. While the length is not known it is: at least to the end of this
 * stripe. Readers believe the head alone.
 */
static void stripe_describe(const struct client_writer *writer, const struct writer_slot *slot,
                            uint64_t *blob_len, uint32_t *count)
{
    uint64_t stripe = writer->op.pool.stripe_size;
    uint64_t end = slot->index * stripe + slot->len;
    *blob_len = MAX(known_size(writer), end);
    *count = (uint32_t)((*blob_len + stripe - 1) / stripe);
}

static void slot_run(struct task *task)
{
    struct writer_slot *slot = container_of(task, struct writer_slot, task);
    struct client_writer *writer = slot->writer;
    struct wire_put put;
    struct wire_put_reply reply;
    struct iovec iov = {slot->buffer, slot->len};
    uint64_t blob_len;
    uint32_t count;
    stripe_describe(writer, slot, &blob_len, &count);
    put_init(&slot->op, &put, BLOB_STRIPE, blob_len, count, slot->index, writer->upload);
    int rc = stripe_put(&slot->op, &put, &iov, 1, &reply);
    if (rc != 0 && writer->rc == 0)
        writer->rc = rc;
    slot->busy = false;
    fiber_queue_wake_all(&writer->moved);
}

static void slot_send(struct client_writer *writer)
{
    struct writer_slot *slot = writer->filling;
    writer->filling = NULL;
    slot->index = writer->next_index++;
    slot->busy = true;
    slot->task.run = slot_run;
    step_begin(writer, &slot->op);
    task_start(writer->client, &writer->group, &slot->task);
}

/* A slot with memory and nothing under way; waits for one if need be. */
static struct writer_slot *slot_take(struct client_writer *writer)
{
    for (;;) {
        bool any = false;
        for (unsigned i = 0; i < CLIENT_STREAM_STRIPES; i++) {
            struct writer_slot *slot = &writer->slots[i];
            slot->writer = writer;
            if (slot->busy) {
                any = true;
                continue;
            }
            if (slot->buffer == NULL)
                slot->buffer = scratch_try(writer->client);
            if (slot->buffer != NULL) {
                slot->len = 0;
                return slot;
            }
        }
        if (any) {
            fiber_queue_wait(&writer->moved);
            continue;
        }
        uint64_t limit = reactor_now_ns(writer->client->reactor) + STREAM_DEADLINE_NS;
        writer->slots[0].buffer = scratch_get(writer->client, limit);
        if (writer->slots[0].buffer == NULL)
            return NULL;
    }
}

static int keep_alive(struct client_writer *writer)
{
    uint64_t now = reactor_now_ns(writer->client->reactor);
    if (writer->upload == 0 || now - writer->touched_ns < TOUCH_EVERY_NS)
        return 0;
    writer->touched_ns = now;
    struct operation op;
    step_begin(writer, &op);
    return upload_touch(&op, writer->upload, false);
}

static int open_upload(struct client_writer *writer)
{
    struct operation op;
    step_begin(writer, &op);
    int rc = upload_open(&op, known_size(writer), &writer->upload);
    writer->touched_ns = reactor_now_ns(writer->client->reactor);
    return rc;
}

int client_writer_write(struct client_writer *writer, const void *data, size_t len)
{
    const uint8_t *at = data;
    uint32_t stripe = writer->op.pool.stripe_size;
    while (len > 0 && writer->rc == 0) {
        size_t here;
        if (writer->head_len < stripe) {
            here = MIN(len, (size_t)(stripe - writer->head_len));
            memcpy(writer->head + writer->head_len, at, here);
            writer->head_len += (uint32_t)here;
        } else {
            if (writer->upload == 0 && (writer->rc = open_upload(writer)) != 0)
                break;
            if (writer->filling == NULL && (writer->filling = slot_take(writer)) == NULL) {
                writer->rc = SHOAL_E_BUSY;
                break;
            }
            struct writer_slot *slot = writer->filling;
            here = MIN(len, (size_t)(stripe - slot->len));
            memcpy(slot->buffer + slot->len, at, here);
            slot->len += (uint32_t)here;
            if (slot->len == stripe)
                slot_send(writer);
        }
        at += here;
        len -= here;
        writer->written += here;
        if (writer->rc == 0)
            writer->rc = keep_alive(writer);
    }
    return writer->rc;
}

int client_writer_finish(struct client_writer *writer, struct client_put_result *result)
{
    if (writer->rc == 0 && writer->size_known != UINT64_MAX &&
        writer->size_known != writer->written)
        writer->rc = SHOAL_E_INVALID;
    if (writer->rc == 0 && writer->filling != NULL && writer->filling->len > 0)
        slot_send(writer);
    fiber_group_wait(&writer->group);
    int rc = writer->rc;
    if (rc != 0) {
        client_writer_abort(writer);
        return rc;
    }
    struct operation op;
    struct wire_put put;
    struct wire_put_reply reply = {0};
    struct iovec iov = {writer->head, writer->head_len};
    step_begin(writer, &op);
    put_init(&op, &put, BLOB_HEAD, writer->written, writer->next_index, 0, writer->upload);
    put.condition = (uint8_t)writer->options.condition;
    put.expected = writer->options.expected;
    put.content = writer->options.content;
    put.ttl_s = writer->options.ttl_s;
    rc = stripe_put(&op, &put, &iov, 1, &reply);
    if (rc != 0 && rc != SHOAL_E_TIMEOUT) {
        client_writer_abort(writer);
        return rc;
    }
    if (rc == 0 && result != NULL)
        *result = (struct client_put_result){reply.version, reply.existed};
    writer_free(writer);
    return rc;
}

void client_writer_abort(struct client_writer *writer)
{
    fiber_group_wait(&writer->group);
    if (writer->upload != 0) {
        struct operation op;
        step_begin(writer, &op);
        (void)upload_touch(&op, writer->upload, true);
    }
    writer_free(writer);
}

/* ---- reading ---- */

struct client_reader {
    struct client *client;
    struct operation op;
    char *pool;
    char name[BLOB_NAME_MAX];
    struct stripe_desc head;
    uint64_t at;
};

int client_reader_open(struct client *client, const struct client_blob *blob, uint64_t offset,
                       struct client_reader **out, struct client_info *info)
{
    struct client_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL || (reader->pool = strdup(blob->pool)) == NULL) {
        free(reader);
        return SHOAL_E_NO_MEMORY;
    }
    int rc = operation_begin(&reader->op, client, blob);
    if (rc != 0) {
        free(reader->pool);
        free(reader);
        return rc;
    }
    reader->client = client;
    reader->at = offset;
    reader->op.pool_name = reader->pool;
    if (reader->op.name_len > 0)
        memcpy(reader->name, blob->name, reader->op.name_len);
    reader->op.name = reader->name;
    rc = head_find(&reader->op, &reader->head);
    if (rc != 0) {
        client_reader_close(reader);
        return rc;
    }
    if (info != NULL)
        client_info_of(&reader->op, &reader->head, info);
    *out = reader;
    return 0;
}

int client_reader_read(struct client_reader *reader, void *buffer, size_t size, size_t *got)
{
    struct iovec iov = {buffer, size};
    struct operation op;
    *got = 0;
    operation_fork(&op, &reader->op);
    op.deadline_ns = reactor_now_ns(reader->client->reactor) + STREAM_DEADLINE_NS;
    int rc = blob_range_read(&op, &reader->head, reader->at, &iov, 1, got);
    reader->at += *got;
    return rc;
}

void client_reader_close(struct client_reader *reader)
{
    operation_end(&reader->op);
    free(reader->pool);
    free(reader);
}
