/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling the members what is committed, in company, within some ten milliseconds (R13). A hint: what
 * does not arrive costs readers a question to the primary, no more. So a full queue drops.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "node/node_private.h"
#include "shoal/error.h"

#define QUEUE_ROOM 4096u

static struct commit_queue *queue_to(struct target *t, uint32_t member)
{
    list_for_each(&t->commits, struct commit_queue, node, queue)
        if (queue->to == member)
            return queue;
    struct commit_queue *queue = calloc(1, sizeof *queue);
    struct commit_entry *entries = malloc(QUEUE_ROOM * sizeof *entries);
    if (queue == NULL || entries == NULL) {
        free(queue);
        free(entries);
        return NULL;
    }
    queue->target = t;
    queue->to = member;
    queue->entries = entries;
    queue->room = QUEUE_ROOM;
    list_push_back(&t->commits, &queue->node);
    return queue;
}

void commit_queues_free(struct target *t)
{
    list_for_each(&t->commits, struct commit_queue, node, queue) {
        free(queue->entries);
        free(queue);
    }
    list_init(&t->commits);
}

bool commit_queues_empty(const struct target *t)
{
    list_for_each(&t->commits, struct commit_queue, node, queue)
        if (queue->count > 0)
            return false;
    return true;
}

void commit_queue_add(struct target *t, const struct members *set, const struct blob_id *id,
                      const struct blob_version *version)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if ((set->taking >> i & 1) == 0 || set->at[i].target == t->id)
            continue;
        struct commit_queue *queue = queue_to(t, set->at[i].target);
        if (queue == NULL || queue->count == queue->room)
            continue;
        uint32_t at = (queue->first + queue->count++) % queue->room;
        queue->entries[at] = (struct commit_entry){*id, *version};
    }
    fiber_queue_wake_one(&t->commit_wake);
}

/* Where a target is now; false when it takes no writes. */
static bool member_now(const struct node *node, uint32_t target, struct member *out)
{
    const struct map_target *t = cluster_map_target(node->map, target);
    if (t == NULL || t->state < TARGET_LEARNER)
        return false;
    const struct map_node *n = &node->map->nodes[t->node];
    *out = (struct member){t->id, t->node, n->incarnation, t->up && n->up, t->lost};
    return true;
}

static int send_batch(struct target *t, struct commit_queue *queue, const struct member *to,
                      unsigned count)
{
    struct node *node = t->node;
    uint8_t header[WIRE_MESSAGE_MAX];
    struct wire_commit ask = {.primary = t->id, .low_water = target_low_water(t)};
    struct blob_request_id none = {0, 0};
    for (unsigned i = 0; i < count; i++) {
        const struct commit_entry *entry = &queue->entries[(queue->first + i) % queue->room];
        ask.objects[ask.objects_count++] = (struct wire_item_object){entry->id, entry->version};
    }
    struct wire_head head = node_head(node, WIRE_commit, to->target, none);
    struct member_call call = {
        .header = header,
        .header_room = sizeof header,
        .header_len = wire_commit_encode(header, sizeof header, &head, &ask),
        .deadline_ns = node_now(node) + node->config.call_ns,
    };
    return node_call(node, to, &call);
}

static void flush_queue(void *arg)
{
    struct commit_queue *queue = arg;
    struct target *t = queue->target;
    struct member to;
    while (queue->count > 0 && t->serving) {
        unsigned count = MIN(queue->count, NODE_BATCH);
        if (!member_now(t->node, queue->to, &to)) {
            queue->count = 0; /* it comes back as a learner */
            break;
        }
        if (!to.up || send_batch(t, queue, &to, count) != 0)
            break; /* the next turn tries again */
        queue->first = (queue->first + count) % queue->room;
        queue->count -= count;
    }
    queue->sending = false;
    fiber_group_done(&t->node->running);
}

/* Queues live as long as the target, so a flush that hangs at one member delays no other. */
static void flush_all(struct target *t)
{
    struct node *node = t->node;
    list_for_each(&t->commits, struct commit_queue, node, queue) {
        if (queue->count == 0 || queue->sending || !t->serving)
            continue;
        queue->sending = true;
        fiber_group_add(&node->running);
        if (fiber_spawn(node->calls, flush_queue, queue) != 0) {
            queue->sending = false;
            fiber_group_done(&node->running);
        }
    }
}

void node_committer(void *arg)
{
    struct target *t = arg;
    struct node *node = t->node;
    while (!node->stopping) {
        if (commit_queues_empty(t)) {
            fiber_queue_wait(&t->commit_wake);
            continue;
        }
        if (node_pause(node, node->config.commit_batch_ns))
            flush_all(t);
    }
    fiber_group_done(&node->running);
}
