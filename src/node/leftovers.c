/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a member asks its primaries after, a little each second, for nobody tells it twice: pieces that stayed
 * prepared, because it crashed after it had heard of the commit; and tombstones that were collected while
 * it could not be reached, by a primary that died over it (R30a).
 */
#include <stdlib.h>

#include "base/macros.h"
#include "node/node_private.h"
#include "shoal/error.h"

#define ASKED_MAX 32u /* tombstones in one round */
#define PARTITIONS_MAX 256u

/* What the primary of an object has of it, under the map as it is now. */
static int ask_primary(struct target *t, const struct members *set, const struct engine_entry *entry,
                       struct wire_item_testimony *there)
{
    struct node *node = t->node;
    uint8_t header[1024];
    struct blob_request_id none = {0, 0};
    struct wire_find ask = {
        .objects_count = 1, .objects = {{entry->id, entry->version}}, .settled = true};
    struct wire_find_reply reply;
    const struct member *to = &set->at[set->primary];
    struct wire_head head = node_head(node, WIRE_find, to->target, none);
    struct member_call call = {
        .header = header,
        .header_room = sizeof header,
        .header_len = wire_find_encode(header, sizeof header, &head, &ask),
        .deadline_ns = node_now(node) + node->config.call_ns,
    };
    int error = node_call(node, to, &call);
    if (error == 0)
        error = wire_find_reply_decode(&call.in, &reply);
    if (error == 0 && (reply.found_count != 1 || node->map->epoch != set->epoch))
        error = SHOAL_E_STALE_EPOCH;
    if (error == 0)
        *there = reply.found[0];
    return error;
}

static bool is_anothers(const struct target *t, const struct engine_entry *entry, struct members *set)
{
    return node_members_of(t->node, &entry->id, set) && set->primary >= 0 &&
           set->at[set->primary].target != t->id;
}

/* Two rounds apart, so that what is under way is left alone. */
static void care_prepared(struct target *t)
{
    struct engine_entry *entries = malloc(NODE_BATCH * sizeof *entries);
    if (entries == NULL)
        return;
    unsigned count = MIN(engine_list_prepared(t->engine, entries, NODE_BATCH), NODE_BATCH);
    for (unsigned i = 0; i < count && t->serving; i++) {
        const struct engine_entry *e = &entries[i];
        struct members set;
        struct wire_item_testimony there;
        if (blob_version_compare(&e->version, &t->care_prepared_before) > 0 ||
            !is_anothers(t, e, &set) || ask_primary(t, &set, e, &there) != 0)
            continue;
        install_wait(t, &e->id);
        if (blob_version_compare(&there.committed, &e->version) == 0)
            (void)engine_commit(t->engine, &e->id, &e->version);
    }
    struct blob_version newest = {.epoch = 0};
    for (unsigned i = 0; i < count; i++)
        if (blob_version_compare(&entries[i].version, &newest) > 0)
            newest = entries[i].version;
    t->care_prepared_before = newest;
    free(entries);
}

/* Its primary would have collected it by now, or is not the one that began to. */
static bool is_forgotten(const struct target *t, const struct engine_entry *entry)
{
    uint64_t now = node_now(t->node);
    if (entry->prepared || entry->form != BLOB_TOMBSTONE)
        return false;
    for (unsigned i = 0; i < MIN(t->ages_next, NODE_AGES); i++)
        if (now - t->ages[i].at_ns >= t->node->config.tombstone_s * NODE_S &&
            entry->version.epoch < t->ages[i].next.epoch)
            return true;
    return false;
}

static void care_tombstone(struct target *t, const struct engine_entry *entry, const struct members *set)
{
    struct wire_item_testimony there;
    if (ask_primary(t, set, entry, &there) != 0 || !blob_version_is_none(&there.committed) ||
        !blob_version_is_none(&there.prepared))
        return;
    install_wait(t, &entry->id);
    if (t->node->map->epoch == set->epoch && engine_drop(t->engine, &entry->id, &entry->version) == 0)
        counter_add(t->node->tombstones_collected, 1);
}

/* Return: how many were asked after. */
static unsigned care_partition(struct target *t, uint32_t partition)
{
    struct engine_entry entries[ASKED_MAX];
    uint64_t cursor = 0;
    unsigned asked = 0;
    do {
        unsigned count = engine_list(t->engine, partition, &cursor, entries, ARRAY_LEN(entries));
        for (unsigned i = 0; i < count && t->serving; i++) {
            struct members set;
            if (!is_forgotten(t, &entries[i]) || !is_anothers(t, &entries[i], &set) ||
                set.learners != 0 || !set.writable)
                continue;
            care_tombstone(t, &entries[i], &set);
            asked++;
        }
    } while (cursor != 0 && t->serving);
    return asked;
}

static void care_tombstones(struct target *t)
{
    unsigned asked = 0;
    uint32_t partitions = 1u << t->node->map->partition_bits;
    for (uint32_t i = 0; i < MIN(partitions, PARTITIONS_MAX) && t->serving && asked < ASKED_MAX; i++)
        asked += care_partition(t, t->leftover_cursor++ % partitions);
}

void care_leftovers(struct target *t)
{
    care_prepared(t);
    if (t->serving)
        care_tombstones(t);
}
