/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking back what was prepared (R18, R19). It is done only when every member that takes writes says
 * so, durably; until then the object stays locked, in the background if need be.
 */
#include "base/check.h"
#include "base/log.h"
#include "node/node_private.h"
#include "shoal/error.h"

int abort_call(struct target *t, const struct member *to, const struct commit_entry *entries,
               unsigned count, uint64_t deadline_ns)
{
    struct node *node = t->node;
    uint8_t header[WIRE_MESSAGE_MAX];
    struct wire_abort ask = {.primary = t->id, .low_water = target_low_water(t)};
    struct blob_request_id none = {0, 0};
    CHECK(count <= NODE_BATCH);
    for (unsigned i = 0; i < count; i++)
        ask.objects[ask.objects_count++] =
            (struct wire_item_object){entries[i].id, entries[i].version};
    struct wire_head head = node_head(node, WIRE_abort, to->target, none);
    struct member_call call = {
        .header = header,
        .header_room = sizeof header,
        .header_len = wire_abort_encode(header, sizeof header, &head, &ask),
        .deadline_ns = deadline_ns,
    };
    return node_call(node, to, &call);
}

int abort_here(struct target *t, const struct blob_id *id, const struct blob_version *version)
{
    struct engine_entry committed = {0}, prepared = {0};
    int error = engine_abort(t->engine, id, version);
    if (error != 0)
        return error;
    (void)engine_find(t->engine, id, &committed, &prepared);
    window_forget(&t->window, id, &committed.version, &prepared.version, version);
    return 0;
}

/*
 * One try at everybody. A member that the last version did not reach may still have an earlier one of the
 * same operation, so all of them are named. Return: 0 when all have aborted under one epoch.
 */
static int abort_everywhere(struct object *object, uint64_t deadline_ns)
{
    struct target *t = object->target;
    struct node *node = t->node;
    struct members set;
    struct commit_entry entries[OBJECT_SUPERSEDED_MAX + 1];
    unsigned count = 0;
    if (!node_members_of(node, &object->id, &set) || !set.writable)
        return SHOAL_E_UNAVAILABLE;
    for (unsigned i = 0; i < object->superseded_count; i++)
        entries[count++] = (struct commit_entry){object->id, object->superseded[i]};
    entries[count++] = (struct commit_entry){object->id, object->version};
    int error = 0;
    for (unsigned i = 0; error == 0 && i < count; i++)
        error = abort_here(t, &object->id, &entries[i].version);
    for (unsigned i = 0; error == 0 && i < MEMBERS_MAX; i++)
        if ((set.taking >> i & 1) != 0 && set.at[i].target != t->id)
            error = abort_call(t, &set.at[i], entries, count, deadline_ns);
    if (error == 0 && (object->lost || node->map->epoch != set.epoch))
        error = SHOAL_E_STALE_EPOCH;
    return error;
}

void abort_later(struct object *object)
{
    CHECK(object->held && !list_linked(&object->orphan));
    list_push_back(&object->target->orphans, &object->orphan);
    fiber_queue_wake_one(&object->target->orphan_wake);
}

int abort_operation(struct object *object, uint64_t deadline_ns, bool *unlocked)
{
    struct node *node = object->target->node;
    while (!object->lost && !node->stopping) {
        if (abort_everywhere(object, deadline_ns) == 0)
            return 0;
        if (object->lost)
            break;
        if (node_now(node) >= deadline_ns) {
            abort_later(object);
            *unlocked = true;
            break;
        }
        node_pause(node, NODE_RETRY_NS);
    }
    return SHOAL_E_TIMEOUT;
}

/* Tries each once; what was lost is no longer ours. */
static void try_orphans(struct target *t)
{
    struct node *node = t->node;
    for (size_t left = list_count(&t->orphans); left > 0 && !list_empty(&t->orphans); left--) {
        struct object *object = list_entry(list_pop_front(&t->orphans), struct object, orphan);
        int error = 0;
        if (!object->lost && !node->stopping)
            error = abort_everywhere(object, node_now(node) + node->config.call_ns);
        if (object->lost || node->stopping || error == 0)
            object_unlock(object);
        else
            list_push_back(&t->orphans, &object->orphan);
    }
}

void node_orphans(void *arg)
{
    struct target *t = arg;
    struct node *node = t->node;
    while (!node->stopping) {
        if (list_empty(&t->orphans)) {
            fiber_queue_wait(&t->orphan_wake);
            continue;
        }
        try_orphans(t);
        if (!list_empty(&t->orphans))
            node_pause(node, 50 * NODE_MS);
    }
    try_orphans(t);
    fiber_group_done(&node->running);
}
