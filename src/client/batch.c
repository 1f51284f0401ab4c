/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about many blobs at once: exists, list, and what nodes report; and the administrator's. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "client/client_private.h"

#define EXISTS_BATCH 192u
#define EXISTS_PARALLEL 4u
#define LIST_PARALLEL 8u
#define ADMIN_ANSWER_MAX (1u << 20)

/* ---- exists ---- */

/* Keys of one primary, by their place in the caller's arrays. */
struct exists_part {
    struct task task;
    struct operation op;
    const struct blob_key *keys;
    uint8_t *present;
    bool touch;
    uint32_t index[EXISTS_BATCH];
    unsigned count;
    int rc;
};

static void exists_part_run(struct task *task)
{
    struct exists_part *part = container_of(task, struct exists_part, task);
    struct wire_exists question;
    struct wire_exists_reply answer;
    question.pool = part->op.id.pool;
    question.touch = part->touch;
    question.keys_count = (uint16_t)part->count;
    for (unsigned i = 0; i < part->count; i++)
        question.keys[i].key = part->keys[part->index[i]];
    struct blob_id first = {part->op.id.pool, part->keys[part->index[0]]};
    struct exchange exchange = {.verb = &verb_exists, .message = &question, .reply = &answer};
    /* One attempt: if the primary changed, the batch has to be grouped anew. */
    struct view *view = view_hold(part->op.client);
    const struct map_pool *pool = cluster_map_pool(view->map, first.pool);
    struct target_set set;
    if (pool == NULL) {
        part->rc = SHOAL_E_NO_POOL;
    } else {
        cluster_map_set(view->map, pool, &first, &set);
        part->rc = set.primary < 0 ? SHOAL_E_UNAVAILABLE
                                   : exchange_with_target(&part->op, view,
                                                          set.targets[set.primary], &exchange);
    }
    view_release(part->op.client, view);
    if (part->rc == 0 && answer.present_len * 8u < part->count)
        part->rc = SHOAL_E_VERSION;
    for (unsigned i = 0; i < part->count && part->rc == 0; i++)
        part->present[part->index[i]] = (uint8_t)answer.present[i / 8] >> (i % 8) & 1;
}

/* @present holds 2 for keys that are not answered yet. */
static int exists_round(struct operation *op, const struct blob_key *keys, size_t count, bool touch,
                        uint8_t *present, struct exists_part *parts)
{
    struct view *view = view_hold(op->client);
    const struct map_pool *pool = cluster_map_pool(view->map, op->id.pool);
    if (pool == NULL) {
        view_release(op->client, view);
        return SHOAL_E_NO_POOL;
    }
    const struct map_target *primaries[EXISTS_PARALLEL];
    unsigned used = 0;
    for (size_t i = 0; i < count; i++) {
        if (present[i] != 2)
            continue;
        struct blob_id id = {op->id.pool, keys[i]};
        struct target_set set;
        cluster_map_set(view->map, pool, &id, &set);
        const struct map_target *primary = set.primary >= 0 ? set.targets[set.primary] : NULL;
        unsigned at = 0;
        while (at < used && (primaries[at] != primary || parts[at].count == EXISTS_BATCH))
            at++;
        if (at == EXISTS_PARALLEL)
            continue;
        if (at == used) {
            primaries[used] = primary;
            operation_fork(&parts[used].op, op);
            parts[used].keys = keys;
            parts[used].present = present;
            parts[used].touch = touch;
            parts[used++].count = 0;
        }
        parts[at].index[parts[at].count++] = (uint32_t)i;
    }
    view_release(op->client, view);
    struct fiber_group group;
    fiber_group_init(&group);
    for (unsigned i = 0; i < used; i++) {
        parts[i].task.run = exists_part_run;
        task_start(op->client, &group, &parts[i].task);
    }
    fiber_group_wait(&group);
    int rc = 0;
    for (unsigned i = 0; i < used; i++)
        if (parts[i].rc != 0)
            rc = parts[i].rc;
    return used == 0 ? 1 : rc;
}

int client_exists(struct client *client, const char *pool, const struct blob_key *keys,
                  size_t count, bool touch, uint64_t deadline_ns, uint8_t *present)
{
    struct client_blob blob = {.pool = pool, .deadline_ns = deadline_ns};
    struct operation op;
    int rc = operation_begin(&op, client, &blob);
    if (rc != 0)
        return rc;
    struct exists_part *parts = calloc(EXISTS_PARALLEL, sizeof *parts);
    if (parts == NULL) {
        operation_end(&op);
        return SHOAL_E_NO_MEMORY;
    }
    memset(present, 2, count);
    do {
        rc = exists_round(&op, keys, count, touch, present, parts);
    } while (rc == 0 || (rc < 0 && operation_again(&op, rc)));
    free(parts);
    rc = rc < 0 ? operation_error(&op, rc) : 0;
    operation_end(&op);
    return rc;
}

/* ---- list ---- */

struct list_walk {
    struct operation *op;
    const struct client_listing *listing;
    uint32_t next, end; /* partitions */
    bool stopped;
    int rc;
};

struct list_part {
    struct task task;
    struct operation op;
    struct list_walk *walk;
    uint8_t *page;
    size_t page_bytes;
};

static int list_page(struct list_walk *walk, const uint8_t *page, size_t len, uint32_t count)
{
    struct decoder in = decoder_init(page, len);
    struct wire_item_listed item;
    for (uint32_t i = 0; i < count && !walk->stopped; i++) {
        wire_item_listed_decode(&in, &item);
        if (!decoder_ok(&in))
            return SHOAL_E_VERSION;
        if (!walk->listing->each(walk->listing->ctx, &item))
            walk->stopped = true;
    }
    return 0;
}

/* One page of a partition from its primary. */
static int list_ask(struct list_part *part, uint32_t partition, uint64_t *cursor)
{
    struct list_walk *walk = part->walk;
    struct wire_list question = {.pool = part->op.id.pool, .partition = partition,
                                 .cursor = *cursor,
                                 .prefix_len = (uint16_t)walk->listing->prefix_len};
    memcpy(question.prefix, walk->listing->prefix, walk->listing->prefix_len);
    struct wire_list_reply answer;
    struct iovec into = {part->page, part->page_bytes};
    struct exchange exchange = {.verb = &verb_list, .message = &question, .reply = &answer,
                                .into = &into, .into_count = 1};
    struct view *view = view_hold(part->op.client);
    const struct map_pool *pool = cluster_map_pool(view->map, part->op.id.pool);
    struct target_set set;
    int rc = SHOAL_E_NO_POOL;
    if (pool != NULL) {
        cluster_map_partition_set(view->map, pool, partition, &set);
        rc = set.primary < 0 ? SHOAL_E_UNAVAILABLE
                             : exchange_with_target(&part->op, view, set.targets[set.primary],
                                                    &exchange);
    }
    view_release(part->op.client, view);
    if (rc == 0)
        rc = list_page(walk, part->page, exchange.got, answer.count);
    if (rc == 0)
        *cursor = answer.cursor;
    return rc;
}

static void list_part_run(struct task *task)
{
    struct list_part *part = container_of(task, struct list_part, task);
    struct list_walk *walk = part->walk;
    while (walk->next < walk->end && !walk->stopped && walk->rc == 0) {
        uint32_t partition = walk->next++;
        uint64_t cursor = 0;
        do {
            int rc;
            operation_fork(&part->op, walk->op);
            while ((rc = list_ask(part, partition, &cursor)) != 0)
                if (!operation_again(&part->op, rc))
                    break;
            if (rc != 0)
                walk->rc = operation_error(&part->op, rc);
        } while (cursor != 0 && !walk->stopped && walk->rc == 0);
    }
}

int client_list(struct client *client, const struct client_listing *listing)
{
    struct client_blob blob = {.pool = listing->pool, .deadline_ns = listing->deadline_ns};
    struct operation op;
    struct list_part parts[LIST_PARALLEL];
    if (listing->prefix_len > BLOB_NAME_MAX)
        return SHOAL_E_TOO_LARGE;
    int rc = operation_begin(&op, client, &blob);
    if (rc != 0)
        return rc;
    uint8_t *scratch = scratch_get(client, op.deadline_ns);
    if (scratch == NULL) {
        operation_end(&op);
        return SHOAL_E_BUSY;
    }
    struct list_walk walk = {.op = &op, .listing = listing,
                             .end = 1u << client_map(client)->partition_bits};
    struct fiber_group group;
    fiber_group_init(&group);
    for (unsigned i = 0; i < LIST_PARALLEL; i++) {
        parts[i].walk = &walk;
        parts[i].page_bytes = client->scratch_bytes / LIST_PARALLEL;
        parts[i].page = scratch + i * parts[i].page_bytes;
        parts[i].task.run = list_part_run;
        task_start(client, &group, &parts[i].task);
    }
    fiber_group_wait(&group);
    scratch_put(client, scratch);
    operation_end(&op);
    return walk.rc;
}

/* ---- administration ---- */

/* @exchange: a verb that any node answers for itself. */
static int ask_node(struct client *client, uint32_t node, uint64_t deadline_ns,
                    struct exchange *exchange)
{
    struct operation op = {.client = client, .deadline_ns = deadline_ns};
    struct view *view = view_hold(client);
    if (view == NULL)
        return SHOAL_E_CONNECTION;
    int rc = node < view->map->nodes_count ? exchange_with_node(&op, view, node, exchange)
                                           : SHOAL_E_INVALID;
    view_release(client, view);
    return rc;
}

int client_report(struct client *client, uint32_t node, uint64_t deadline_ns,
                  struct wire_report_reply *reply)
{
    struct wire_report question = {0};
    struct exchange exchange = {.verb = &verb_report, .message = &question, .reply = reply};
    return ask_node(client, node, deadline_ns, &exchange);
}

int client_headway(struct client *client, uint32_t node, uint64_t deadline_ns,
                   struct wire_headway_reply *reply)
{
    struct wire_headway question = {0};
    struct exchange exchange = {.verb = &verb_headway, .message = &question, .reply = reply};
    return ask_node(client, node, deadline_ns, &exchange);
}

int client_admin(struct client *client, const char *address, const char *wish,
                 uint64_t deadline_ns, char **answer)
{
    size_t len = strlen(wish);
    struct wire_admin *question = calloc(1, sizeof *question);
    char *text = calloc(1, ADMIN_ANSWER_MAX + 1);
    if (question == NULL || text == NULL || len > sizeof question->wish) {
        free(question);
        free(text);
        return question == NULL || text == NULL ? SHOAL_E_NO_MEMORY : SHOAL_E_TOO_LARGE;
    }
    memcpy(question->wish, wish, len);
    question->wish_len = (uint16_t)len;
    struct wire_admin_reply reply;
    struct iovec into = {text, ADMIN_ANSWER_MAX};
    struct exchange exchange = {.verb = &verb_admin, .message = question, .reply = &reply,
                                .into = &into, .into_count = 1, .deadline_ns = deadline_ns};
    int rc = exchange_with_address(client, address, NULL, &exchange);
    free(question);
    if (rc != 0) {
        free(text);
        return rc;
    }
    text[exchange.got] = 0;
    *answer = text;
    return 0;
}
