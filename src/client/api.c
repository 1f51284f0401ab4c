/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of the public API, each a fiber of the handle. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/value.h"
#include "client/handle.h"

_Static_assert(sizeof(struct shoal_key) == sizeof(struct blob_key), "keys are the same bytes");

int shoal_version_compare(const struct shoal_version *a, const struct shoal_version *b)
{
    if (a->epoch != b->epoch)
        return a->epoch < b->epoch ? -1 : 1;
    if (a->incarnation != b->incarnation)
        return a->incarnation < b->incarnation ? -1 : 1;
    return a->counter == b->counter ? 0 : a->counter < b->counter ? -1 : 1;
}

void shoal_version_print(const struct shoal_version *version, char *out, size_t size)
{
    snprintf(out, size, "%llu.%u.%llu", (unsigned long long)version->epoch, version->incarnation,
             (unsigned long long)version->counter);
}

int shoal_version_parse(const char *text, struct shoal_version *version)
{
    char part[3][24];
    uint64_t number[3];
    int end = 0;
    /* In pieces: sscanf() says nothing of a number that is too large. */
    if (sscanf(text, "%23[0-9].%23[0-9].%23[0-9]%n", part[0], part[1], part[2], &end) != 3 ||
        text[end] != 0 || value_parse_u64(part[0], &number[0]) != 0 ||
        value_parse_u64(part[1], &number[1]) != 0 || value_parse_u64(part[2], &number[2]) != 0 ||
        number[1] > UINT32_MAX)
        return shoal_fail(SHOAL_E_INVALID, "'%s' is no version, which look like 3.1.42", text);
    *version = (struct shoal_version){
        .epoch = number[0], .incarnation = (uint32_t)number[1], .counter = number[2]};
    return 0;
}

int shoal_key_of_name(const char *name, size_t len, struct shoal_key *key)
{
    if (len == 0 || len > SHOAL_NAME_MAX || memchr(name, 0, len) != NULL)
        return shoal_fail(SHOAL_E_INVALID, "a name has 1 to %d bytes, none of them 0",
                          SHOAL_NAME_MAX);
    struct blob_key derived = blob_key_of_name(name, len);
    memcpy(key->bytes, derived.bytes, sizeof key->bytes);
    return 0;
}

static struct shoal_version to_public(const struct blob_version *version)
{
    return (struct shoal_version){.epoch = version->epoch, .counter = version->counter,
                                  .incarnation = version->incarnation};
}

static struct blob_version to_blob(const struct shoal_version *version)
{
    return (struct blob_version){.epoch = version->epoch, .counter = version->counter,
                                 .incarnation = version->incarnation};
}

static int content_key(const struct iovec *iov, unsigned count, struct shoal_key *key)
{
    struct client_hash *hash = client_hash_create();
    struct blob_key made;
    if (hash == NULL)
        return SHOAL_E_NO_MEMORY;
    client_hash_begin(hash);
    for (unsigned i = 0; i < count; i++)
        client_hash_update(hash, iov[i].iov_base, iov[i].iov_len);
    int rc = client_hash_finish(hash, &made);
    client_hash_destroy(hash);
    if (rc == 0)
        memcpy(key->bytes, made.bytes, sizeof key->bytes);
    return rc;
}

void shoal_key_of_content(const void *data, size_t len, struct shoal_key *key)
{
    struct iovec iov = {(void *)data, len};
    memset(key, 0, sizeof *key);
    (void)content_key(&iov, 1, key);
}

/* ---- requests ---- */

static const char *op_name(enum shoal_op op)
{
    static const char *const names[] = {"?", "put", "get", "stat", "remove", "exists"};
    return (unsigned)op < ARRAY_LEN(names) ? names[op] : "?";
}

static void blob_of(const struct shoal *shoal, const struct shoal_request *request,
                    struct client_blob *blob)
{
    *blob = (struct client_blob){
        .pool = request->pool, .name = request->name,
        .name_len = request->name != NULL ? strlen(request->name) : 0,
        .deadline_ns = shoal_deadline_ns(shoal, request->timeout_ms),
    };
    memcpy(blob->key.bytes, request->key.bytes, sizeof blob->key.bytes);
}

static struct client_put_options options_of(const struct shoal_request *request)
{
    struct client_put_options options = {
        .content = (request->flags & SHOAL_CONTENT) != 0, .ttl_s = request->ttl_s,
        .expected = to_blob(&request->expected)};
    if (request->flags & SHOAL_IF_VERSION)
        options.condition = WIRE_IF_VERSION;
    else if (request->flags & SHOAL_IF_ABSENT)
        options.condition = WIRE_IF_ABSENT;
    return options;
}

static void take_info(struct shoal_request *request, const struct client_info *info)
{
    memcpy(request->key.bytes, info->key.bytes, sizeof request->key.bytes);
    request->size = info->size;
    request->created_s = info->created_s;
    request->expires_s = info->expires_s;
    request->version = to_public(&info->version);
    request->bytes = info->bytes;
}

static int run_put(struct client *client, const struct client_blob *blob,
                   struct shoal_request *request)
{
    struct client_put_options options = options_of(request);
    struct client_put_result result;
    int rc = client_put(client, blob, request->iov, request->iov_count, &options, &result);
    if (rc != 0)
        return rc;
    if (blob->name_len > 0) {
        struct blob_key key = blob_key_of_name(blob->name, blob->name_len);
        memcpy(request->key.bytes, key.bytes, sizeof request->key.bytes);
    }
    request->version = to_public(&result.version);
    request->existed = result.existed;
    request->size = request->bytes = iov_len(request->iov, request->iov_count);
    return 0;
}

static void request_fiber(void *arg)
{
    struct shoal_request *request = arg;
    struct shoal *shoal = ((struct handle_task *)(void *)request->private_)->shoal;
    struct client *client = shoal->client;
    struct client_blob blob;
    struct client_info info;
    struct client_put_options options = options_of(request);
    struct blob_version version;
    int rc = SHOAL_E_INVALID;
    blob_of(shoal, request, &blob);
    switch (request->op) {
    case SHOAL_OP_PUT:
        rc = run_put(client, &blob, request);
        break;
    case SHOAL_OP_GET:
        rc = client_get(client, &blob, request->offset, request->iov, request->iov_count,
                        (request->flags & SHOAL_CONTENT) != 0, &info);
        if (rc == 0)
            take_info(request, &info);
        break;
    case SHOAL_OP_STAT:
        rc = client_stat(client, &blob, &info);
        if (rc == 0)
            take_info(request, &info);
        break;
    case SHOAL_OP_REMOVE:
        rc = client_remove(client, &blob, &options, &version);
        if (rc == 0)
            request->version = to_public(&version);
        break;
    case SHOAL_OP_EXISTS:
        rc = client_exists(client, request->pool, (const struct blob_key *)request->keys,
                           request->keys_count, (request->flags & SHOAL_TOUCH) != 0,
                           blob.deadline_ns, request->present);
        break;
    }
    request->status = rc;
}

static int check_request(struct shoal_request *request)
{
    if (request->pool == NULL)
        return shoal_fail(SHOAL_E_INVALID, "%s: no pool is named", op_name(request->op));
    if (request->iov_count > SHOAL_IOV_MAX)
        return shoal_fail(SHOAL_E_INVALID, "%s: %u pieces of memory, at most %d are possible",
                          op_name(request->op), request->iov_count, SHOAL_IOV_MAX);
    if (request->name != NULL && (request->name[0] == 0 || strlen(request->name) > SHOAL_NAME_MAX))
        return shoal_fail(SHOAL_E_INVALID, "%s: a name has 1 to %d bytes", op_name(request->op),
                          SHOAL_NAME_MAX);
    if (request->op == SHOAL_OP_PUT && (request->flags & SHOAL_CONTENT) && request->name == NULL)
        return content_key(request->iov, request->iov_count, &request->key);
    return 0;
}

static struct handle_task *prepare(struct shoal_request *request, bool submitted)
{
    struct handle_task *task = (struct handle_task *)(void *)request->private_;
    *task = (struct handle_task){.run = request_fiber, .arg = request, .submitted = submitted};
    return task;
}

static int explain(const struct shoal_request *request)
{
    int rc = request->status;
    char key[2 * SHOAL_KEY_BYTES + 2] = "";
    const char *name = request->name;
    if (rc == 0)
        return 0;
    if (rc == SHOAL_E_NO_POOL)
        return shoal_fail(rc, "there is no pool '%s': 'shoal pool ls' shows those there are",
                          request->pool);
    if (name == NULL) {
        key[0] = '@';
        for (unsigned i = 0; i < SHOAL_KEY_BYTES; i++)
            snprintf(key + 1 + (size_t)2 * i, 3, "%02x", request->key.bytes[i]);
        name = key;
    }
    if (request->op == SHOAL_OP_EXISTS)
        return shoal_fail(rc, "exists in %s: %s", request->pool, shoal_error_text(rc));
    return shoal_fail(rc, "%s %s/%s: %s", op_name(request->op), request->pool, name,
                      shoal_error_text(rc));
}

int shoal_run(struct shoal *shoal, struct shoal_request *request)
{
    int rc = check_request(request);
    if (rc != 0)
        return request->status = rc;
    struct handle_task *task = prepare(request, false);
    handle_start(shoal, task);
    handle_wait(shoal, task);
    if (task->refused)
        request->status = SHOAL_E_BUSY;
    return explain(request);
}

int shoal_submit(struct shoal *shoal, struct shoal_request *request)
{
    int rc = check_request(request);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&shoal->lock);
    bool room = shoal->under_way < shoal->options.requests_max;
    shoal->under_way += room;
    pthread_mutex_unlock(&shoal->lock);
    if (!room)
        return shoal_fail(SHOAL_E_BUSY, "%u requests are under way: poll before submitting more",
                          shoal->options.requests_max);
    handle_start(shoal, prepare(request, true));
    return 0;
}

static unsigned take_ended(struct shoal *shoal, struct shoal_request **done, unsigned max)
{
    unsigned count = 0;
    pthread_mutex_lock(&shoal->lock);
    while (count < max) {
        struct list_node *node = list_pop_front(&shoal->ended);
        if (node == NULL)
            break;
        struct handle_task *task = list_entry(node, struct handle_task, node);
        struct shoal_request *request = task->arg;
        /* Its fiber lets go of it a moment after it appears here. */
        while (!atomic_load_explicit(&task->done, memory_order_acquire))
            continue;
        if (task->refused)
            request->status = SHOAL_E_BUSY;
        done[count++] = request;
        shoal->under_way--;
    }
    pthread_mutex_unlock(&shoal->lock);
    return count;
}

unsigned shoal_poll(struct shoal *shoal, struct shoal_request **done, unsigned max)
{
    handle_turn(shoal, false, 0);
    return take_ended(shoal, done, max);
}

unsigned shoal_wait(struct shoal *shoal, struct shoal_request **done, unsigned max, int timeout_ms)
{
    uint64_t limit = timeout_ms < 0 ? UINT64_MAX
                                    : handle_now_ns() + (uint64_t)timeout_ms * 1000000u;
    unsigned count = take_ended(shoal, done, max);
    while (count == 0) {
        handle_turn(shoal, true, limit);
        count = take_ended(shoal, done, max);
        if (handle_now_ns() >= limit)
            break;
    }
    return count;
}

/* ---- memory ---- */

/* TCP sends from and receives into any memory; what is registered is only remembered. */
int shoal_register(struct shoal *shoal, void *memory, size_t len)
{
    int rc = 0;
    if (memory == NULL || len == 0)
        return shoal_fail(SHOAL_E_INVALID, "no memory to register");
    pthread_mutex_lock(&shoal->lock);
    if (shoal->regions_count == HANDLE_REGIONS_MAX)
        rc = SHOAL_E_FULL;
    else
        shoal->regions[shoal->regions_count++] = (struct iovec){memory, len};
    pthread_mutex_unlock(&shoal->lock);
    return rc == 0 ? 0 : shoal_fail(rc, "%u regions are registered already", HANDLE_REGIONS_MAX);
}

int shoal_unregister(struct shoal *shoal, void *memory, size_t len)
{
    int rc = SHOAL_E_NOT_FOUND;
    pthread_mutex_lock(&shoal->lock);
    for (unsigned i = 0; i < shoal->regions_count && rc != 0; i++) {
        if (shoal->regions[i].iov_base == memory && shoal->regions[i].iov_len == len) {
            shoal->regions[i] = shoal->regions[--shoal->regions_count];
            rc = 0;
        }
    }
    pthread_mutex_unlock(&shoal->lock);
    return rc == 0 ? 0 : shoal_fail(rc, "this memory is not registered");
}

/* ---- the common cases ---- */

int shoal_put(struct shoal *shoal, const char *pool, const char *name, const void *data, size_t len)
{
    struct iovec iov = {(void *)data, len};
    struct shoal_request request = {
        .op = SHOAL_OP_PUT, .pool = pool, .name = name, .iov = &iov, .iov_count = 1};
    return shoal_run(shoal, &request);
}

int shoal_get(struct shoal *shoal, const char *pool, const char *name, void *buffer, size_t size,
              size_t *got)
{
    struct iovec iov = {buffer, size};
    struct shoal_request request = {
        .op = SHOAL_OP_GET, .pool = pool, .name = name, .iov = &iov, .iov_count = 1};
    int rc = shoal_run(shoal, &request);
    *got = rc == 0 ? (size_t)request.bytes : 0;
    if (rc == 0 && request.size > size) {
        *got = (size_t)request.size;
        return shoal_fail(SHOAL_E_TOO_LARGE, "get %s/%s: %llu bytes do not fit into %zu", pool, name,
                          (unsigned long long)request.size, size);
    }
    return rc;
}

int shoal_remove(struct shoal *shoal, const char *pool, const char *name)
{
    struct shoal_request request = {.op = SHOAL_OP_REMOVE, .pool = pool, .name = name};
    return shoal_run(shoal, &request);
}

/* ---- streams ---- */

struct shoal_writer {
    struct shoal *shoal;
    struct client_writer *writer;
};

struct shoal_reader {
    struct shoal *shoal;
    struct client_reader *reader;
};

struct stream_step {
    struct shoal *shoal;
    const struct shoal_request *like;
    struct client_writer *writer;
    struct client_reader *reader;
    struct client_put_result result;
    struct client_info info;
    uint64_t size;
    void *data;
    size_t len, got;
    int rc;
};

static int run_step(struct shoal *shoal, void (*run)(void *), struct stream_step *step,
                    const char *what)
{
    int rc = shoal_run_fiber(shoal, run, step);
    rc = rc == 0 ? step->rc : rc;
    return rc == 0 ? 0 : shoal_fail(rc, "%s: %s", what, shoal_error_text(rc));
}

static void writer_open_fiber(void *arg)
{
    struct stream_step *step = arg;
    struct client_blob blob;
    struct client_put_options options = options_of(step->like);
    blob_of(step->shoal, step->like, &blob);
    step->rc = client_writer_open(step->shoal->client, &blob, step->size, &options, &step->writer);
}

static void writer_write_fiber(void *arg)
{
    struct stream_step *step = arg;
    step->rc = client_writer_write(step->writer, step->data, step->len);
}

static void writer_finish_fiber(void *arg)
{
    struct stream_step *step = arg;
    step->rc = client_writer_finish(step->writer, &step->result);
}

static void writer_abort_fiber(void *arg)
{
    struct stream_step *step = arg;
    client_writer_abort(step->writer);
    step->rc = 0;
}

int shoal_writer_open(struct shoal *shoal, const struct shoal_request *like, uint64_t size,
                      struct shoal_writer **out)
{
    struct shoal_request checked = *like;
    checked.op = SHOAL_OP_PUT;
    checked.flags &= ~(uint32_t)SHOAL_CONTENT;
    int rc = check_request(&checked);
    if (rc != 0)
        return rc;
    struct shoal_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return shoal_fail(SHOAL_E_NO_MEMORY, "out of memory");
    struct stream_step step = {.shoal = shoal, .like = &checked, .size = size};
    rc = shoal_run_fiber(shoal, writer_open_fiber, &step);
    checked.status = rc == 0 ? step.rc : rc;
    if (checked.status != 0) {
        free(writer);
        return explain(&checked);
    }
    *writer = (struct shoal_writer){shoal, step.writer};
    *out = writer;
    return 0;
}

int shoal_writer_write(struct shoal_writer *writer, const void *data, size_t len)
{
    struct stream_step step = {.writer = writer->writer, .data = (void *)data, .len = len};
    return run_step(writer->shoal, writer_write_fiber, &step, "write to the blob");
}

int shoal_writer_finish(struct shoal_writer *writer, struct shoal_request *result)
{
    struct stream_step step = {.writer = writer->writer};
    int rc = run_step(writer->shoal, writer_finish_fiber, &step, "finish the blob");
    if (rc == 0 && result != NULL) {
        result->version = to_public(&step.result.version);
        result->existed = step.result.existed;
    }
    free(writer);
    return rc;
}

void shoal_writer_abort(struct shoal_writer *writer)
{
    struct stream_step step = {.writer = writer->writer};
    (void)run_step(writer->shoal, writer_abort_fiber, &step, "give the blob up");
    free(writer);
}

static void reader_open_fiber(void *arg)
{
    struct stream_step *step = arg;
    struct client_blob blob;
    blob_of(step->shoal, step->like, &blob);
    step->rc = client_reader_open(step->shoal->client, &blob, step->like->offset, &step->reader,
                                  &step->info);
}

static void reader_read_fiber(void *arg)
{
    struct stream_step *step = arg;
    step->rc = client_reader_read(step->reader, step->data, step->len, &step->got);
}

static void reader_close_fiber(void *arg)
{
    struct stream_step *step = arg;
    client_reader_close(step->reader);
    step->rc = 0;
}

int shoal_reader_open(struct shoal *shoal, const struct shoal_request *like,
                      struct shoal_reader **out, struct shoal_request *info)
{
    struct shoal_request checked = *like;
    checked.op = SHOAL_OP_GET;
    int rc = check_request(&checked);
    if (rc != 0)
        return rc;
    struct shoal_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return shoal_fail(SHOAL_E_NO_MEMORY, "out of memory");
    struct stream_step step = {.shoal = shoal, .like = &checked};
    rc = shoal_run_fiber(shoal, reader_open_fiber, &step);
    checked.status = rc == 0 ? step.rc : rc;
    if (checked.status != 0) {
        free(reader);
        return explain(&checked);
    }
    if (info != NULL)
        take_info(info, &step.info);
    *reader = (struct shoal_reader){shoal, step.reader};
    *out = reader;
    return 0;
}

int shoal_reader_read(struct shoal_reader *reader, void *buffer, size_t size, size_t *got)
{
    struct stream_step step = {.reader = reader->reader, .data = buffer, .len = size};
    int rc = run_step(reader->shoal, reader_read_fiber, &step, "read the blob");
    *got = step.got;
    return rc;
}

void shoal_reader_close(struct shoal_reader *reader)
{
    struct stream_step step = {.reader = reader->reader};
    (void)run_step(reader->shoal, reader_close_fiber, &step, "close the reader");
    free(reader);
}

/* ---- listing ---- */

struct list_step {
    struct shoal *shoal;
    struct client_listing listing;
    bool (*each)(void *ctx, const struct shoal_listed *blob);
    void *ctx;
    int rc;
};

static bool list_each(void *ctx, const struct wire_item_listed *item)
{
    struct list_step *step = ctx;
    char name[SHOAL_NAME_MAX + 1];
    struct shoal_listed listed = {.version = to_public(&item->version), .size = item->blob_len,
                                  .created_s = item->created_s, .name = name,
                                  .name_len = item->name_len};
    memcpy(listed.key.bytes, item->key.bytes, sizeof listed.key.bytes);
    memcpy(name, item->name, item->name_len);
    name[item->name_len] = 0;
    return step->each(step->ctx, &listed);
}

static void list_fiber(void *arg)
{
    struct list_step *step = arg;
    step->listing.deadline_ns = shoal_deadline_ns(step->shoal, 0);
    step->rc = client_list(step->shoal->client, &step->listing);
}

int shoal_list(struct shoal *shoal, const char *pool, const char *prefix,
               bool (*each)(void *ctx, const struct shoal_listed *blob), void *ctx)
{
    struct list_step step = {.shoal = shoal, .each = each, .ctx = ctx,
                             .listing = {.pool = pool, .prefix = prefix != NULL ? prefix : "",
                                         .each = list_each}};
    step.listing.prefix_len = strlen(step.listing.prefix);
    step.listing.ctx = &step;
    int rc = shoal_run_fiber(shoal, list_fiber, &step);
    rc = rc == 0 ? step.rc : rc;
    if (rc == SHOAL_E_NO_POOL)
        return shoal_fail(rc, "there is no pool '%s': 'shoal pool ls' shows those there are", pool);
    return rc == 0 ? 0 : shoal_fail(rc, "list %s: %s", pool, shoal_error_text(rc));
}
