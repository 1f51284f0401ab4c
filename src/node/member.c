/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a member does for a primary. These handlers make no calls, so that primaries never wait for
 * each other in a circle, and each may be run twice: a caller that hears nothing sends again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "node/node_private.h"
#include "shoal/error.h"

/* ---- prepare ---- */

/* Am I to take this write, and is it the primary who sends it (R1)? */
static int prepare_check(struct request *r, const struct wire_prepare *ask)
{
    struct members set;
    int error = request_epoch_check(r);
    if (error != 0)
        return error;
    if (!node_members_of(r->node, &ask->desc.id, &set))
        return SHOAL_E_NO_POOL;
    int place = members_place(&set, r->target->id);
    if (place < 0 || (set.taking >> place & 1) == 0)
        return SHOAL_E_NOT_SERVING;
    if (object_is_held(r->target, &ask->desc.id))
        return SHOAL_E_BUSY; /* R45 */
    if (set.primary < 0 || set.at[set.primary].target != ask->primary ||
        !request_is_from(r, ask->primary))
        return SHOAL_E_DENIED;
    if (ask->desc.position != place_position((unsigned)place) || ask->desc.shard_len > ENGINE_PAYLOAD_MAX ||
        net_request_payload_len(r->net) != ask->desc.shard_len)
        return SHOAL_E_INVALID;
    return 0;
}

/* What is known of the object here. Return: 0: store it; 1: it is durable already; or a refusal. */
static int prepare_judge(struct target *t, const struct wire_prepare *ask)
{
    const struct blob_desc *desc = &ask->desc;
    const struct aborted *aborted = member_find_aborted(t, &desc->id);
    if (member_below_low_water(t, ask->primary, &desc->version) ||
        (aborted != NULL && blob_version_compare(&aborted->version, &desc->version) >= 0))
        return SHOAL_E_LOW_WATER;
    struct engine_entry committed = {0}, prepared = {0};
    (void)engine_find(t->engine, &desc->id, &committed, &prepared);
    if (blob_version_compare(&committed.version, &desc->version) >= 0)
        return 1;
    int order = blob_version_compare(&prepared.version, &desc->version);
    if (order == 0 && !prepared.hollow)
        return 1;
    return order > 0 ? SHOAL_E_LOW_WATER : 0;
}

/* R16: what was acknowledged and is only prepared here must not be replaced before it is committed. */
static int commit_base(struct target *t, const struct wire_prepare *ask)
{
    struct engine_entry prepared = {0};
    if (blob_version_is_none(&ask->base))
        return 0;
    (void)engine_find(t->engine, &ask->desc.id, NULL, &prepared);
    if (blob_version_compare(&prepared.version, &ask->base) != 0)
        return 0;
    return engine_commit(t->engine, &ask->desc.id, &ask->base);
}

static int pull_piece(struct request *r, const struct wire_prepare *ask, void *buffer,
                      uint32_t *units)
{
    uint32_t len = ask->desc.shard_len;
    struct iovec iov = {buffer, len};
    int error = net_request_pull(r->net, &iov, 1, node_now(r->node) + r->node->config.call_ns);
    if (error != 0)
        return error;
    units_compute(buffer, len, units);
    uint32_t crc = crc32c_join(units, ENGINE_UNIT_BYTES, len);
    return crc == ask->shard_crc ? 0 : SHOAL_E_CORRUPT;
}

static int store_piece(struct request *r, const struct wire_prepare *ask, void *buffer,
                       const uint32_t *units)
{
    struct target *t = r->target;
    struct iovec iov = {buffer, ask->desc.shard_len};
    struct storing storing;
    storing_begin(t, &storing, &ask->desc.id);
    int error = commit_base(t, ask);
    if (error == 0)
        error = engine_prepare(t->engine, &ask->desc, &iov, ask->desc.shard_len > 0, units);
    if (error == 0)
        window_note(&t->window, &ask->desc.request, &ask->desc.id, &ask->desc.version,
                    node_now(r->node));
    storing_end(t, &storing);
    return error != 0 && engine_stopped(t->engine) ? SHOAL_E_NOT_SERVING : error;
}

static int prepare(struct request *r, const struct wire_prepare *ask)
{
    struct target *t = r->target;
    uint32_t len = ask->desc.shard_len;
    uint32_t units[ENGINE_PAYLOAD_MAX / ENGINE_UNIT_BYTES];
    void *buffer = NULL;
    int error = 0;
    if (len > 0) {
        buffer = dma_get(r->node->config.arena, round_up_u64(len, DEV_BLOCK_BYTES));
        if (buffer == NULL)
            return SHOAL_E_BUSY;
        error = pull_piece(r, ask, buffer, units);
    }
    install_wait(t, &ask->desc.id);
    storing_wait_object(t, &ask->desc.id);
    /* Much may have happened while this fiber waited. */
    if (error == 0)
        error = request_epoch_check(r);
    if (error == 0)
        error = prepare_judge(t, ask);
    if (error == 0)
        error = store_piece(r, ask, buffer, units);
    if (buffer != NULL)
        dma_put(r->node->config.arena, buffer);
    return error;
}

void serve_prepare(struct request *r)
{
    REQUEST(r, prepare, ask);
    struct target *t = r->target;
    int error = prepare_check(r, &ask);
    if (error == 0) {
        member_low_water(t, ask.primary, &ask.low_water);
        storing_wait_object(t, &ask.desc.id);
        error = prepare_judge(t, &ask);
    }
    if (error == 0)
        error = prepare(r, &ask);
    if (error == SHOAL_E_LOW_WATER)
        counter_add(r->node->prepares_refused, 1);
    if (error < 0) {
        reply_status(r, error);
        return;
    }
    struct wire_prepare_reply reply = {};
    REPLY(r, prepare, &reply, NULL, 0);
}

/* ---- commit, abort, drop ---- */

static bool primary_is(const struct request *r, const struct blob_id *id, uint32_t primary)
{
    struct members set;
    return node_members_of(r->node, id, &set) && set.primary >= 0 &&
           set.at[set.primary].target == primary;
}

static int batch_check(struct request *r, uint32_t primary)
{
    int error = request_epoch_check(r);
    return error == 0 && !request_is_from(r, primary) ? SHOAL_E_DENIED : error;
}

void serve_commit(struct request *r)
{
    REQUEST(r, commit, ask);
    struct target *t = r->target;
    int error = batch_check(r, ask.primary);
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    member_low_water(t, ask.primary, &ask.low_water);
    for (unsigned i = 0; i < ask.objects_count; i++) {
        const struct wire_item_object *object = &ask.objects[i];
        struct engine_entry prepared = {0};
        if (!primary_is(r, &object->id, ask.primary))
            continue;
        install_wait(t, &object->id);
        (void)engine_find(t->engine, &object->id, NULL, &prepared);
        if (blob_version_compare(&prepared.version, &object->version) != 0)
            continue;
        (void)engine_commit(t->engine, &object->id, &object->version);
        if (prepared.hollow)
            install_later(t, &object->id, &object->version);
    }
    struct wire_commit_reply reply = {};
    REPLY(r, commit, &reply, NULL, 0);
}

static int abort_one(struct request *r, const struct wire_item_object *object, uint32_t primary)
{
    struct target *t = r->target;
    if (!primary_is(r, &object->id, primary))
        return SHOAL_E_DENIED;
    int error = member_note_aborted(t, &object->id, &object->version, primary);
    if (error != 0)
        return error;
    storing_wait_object(t, &object->id);
    install_wait(t, &object->id);
    error = request_epoch_check(r);
    if (error == 0)
        error = abort_here(t, &object->id, &object->version);
    return error;
}

void serve_abort(struct request *r)
{
    REQUEST(r, abort, ask);
    int error = batch_check(r, ask.primary);
    if (error == 0)
        member_low_water(r->target, ask.primary, &ask.low_water);
    for (unsigned i = 0; error == 0 && i < ask.objects_count; i++)
        error = abort_one(r, &ask.objects[i], ask.primary);
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    struct wire_abort_reply reply = {};
    REPLY(r, abort, &reply, NULL, 0);
}

void serve_drop(struct request *r)
{
    REQUEST(r, drop, ask);
    struct target *t = r->target;
    int error = batch_check(r, ask.primary);
    if (error == 0)
        member_low_water(t, ask.primary, &ask.low_water);
    for (unsigned i = 0; error == 0 && i < ask.objects_count; i++) {
        const struct wire_item_object *object = &ask.objects[i];
        if (!primary_is(r, &object->id, ask.primary))
            continue;
        install_wait(t, &object->id);
        error = request_epoch_check(r);
        if (error == 0)
            (void)engine_drop(t->engine, &object->id, &object->version);
    }
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    struct wire_drop_reply reply = {};
    REPLY(r, drop, &reply, NULL, 0);
}

/* ---- testimony ---- */

static void testify(struct target *t, const struct blob_id *id, struct wire_item_testimony *out)
{
    struct engine_entry committed = {0}, prepared = {0};
    (void)engine_find(t->engine, id, &committed, &prepared);
    *out = (struct wire_item_testimony){
        .committed = committed.version,
        .committed_form = (uint8_t)committed.form,
        .committed_flags = committed.hollow ? WIRE_ENTRY_HOLLOW : 0,
        .prepared = prepared.version,
        .prepared_form = (uint8_t)prepared.form,
        .prepared_flags = (uint8_t)((prepared.hollow ? WIRE_ENTRY_HOLLOW : 0) |
                                    (prepared.torn ? WIRE_ENTRY_TORN : 0)),
        .depends = prepared.depends,
    };
}

void serve_find(struct request *r)
{
    REQUEST(r, find, ask);
    struct target *t = r->target;
    struct wire_find_reply reply = {0};
    int error = request_epoch_check(r);
    for (unsigned i = 0; error == 0 && ask.settled && i < ask.objects_count; i++)
        error = target_primary_check(t, &ask.objects[i].id);
    for (unsigned i = 0; error == 0 && ask.sync && i < ask.objects_count; i++) {
        const struct wire_item_object *object = &ask.objects[i];
        struct engine_entry prepared = {0};
        install_wait(t, &object->id);
        error = request_epoch_check(r);
        if (error == 0 && !request_is_from_primary(r, &object->id))
            error = SHOAL_E_DENIED;
        if (error != 0)
            break;
        (void)engine_find(t->engine, &object->id, NULL, &prepared);
        if (!blob_version_is_none(&prepared.version) &&
            blob_version_compare(&prepared.version, &object->version) == 0)
            (void)engine_commit(t->engine, &object->id, &object->version);
    }
    if (error == 0 && ask.sync)
        error = engine_sync(t->engine);
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    for (unsigned i = 0; i < ask.objects_count; i++)
        testify(t, &ask.objects[i].id, &reply.found[reply.found_count++]);
    REPLY_LARGE(r, find, &reply);
}

/* Whether a primary that cannot know of a request can have it executed anew (R8). */
void serve_recall(struct request *r)
{
    REQUEST(r, recall, ask);
    struct wire_recall_reply reply = {0};
    int error = request_epoch_check(r);
    if (error == 0 && !request_is_from_primary(r, &ask.id))
        error = SHOAL_E_DENIED;
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    const struct window *window = &r->target->window;
    const struct window_entry *entry = window_find(window, &r->head.request, &ask.id);
    reply.known = entry != NULL && entry->refusal == 0;
    if (reply.known)
        reply.version = entry->version;
    reply.certain = reply.known ||
                    !window_is_uncertain(window, ask.first_epoch, node_now(r->node));
    REPLY(r, recall, &reply, NULL, 0);
}

/* ---- settling and catching up, the answering side ---- */

#define SETTLE_ENTRIES_MAX 8192u

static bool entry_is_asked(const struct request *r, const struct wire_settle *ask,
                           const struct engine_entry *entry)
{
    uint32_t partition = node_partition(r->node, &entry->id);
    return (entry->id.pool & ~BLOB_POOL_UPLOADS) == ask->pool && partition >= ask->first &&
           partition - ask->first < ask->partitions && primary_is(r, &entry->id, ask->primary);
}

static void entry_encode(struct encoder *out, const struct engine_entry *entry)
{
    struct wire_item_entry item = {
        .id = entry->id,
        .version = entry->version,
        .kind = (uint8_t)entry->kind,
        .form = (uint8_t)entry->form,
        .flags = (uint8_t)((entry->prepared ? WIRE_ENTRY_PREPARED : 0) |
                           (entry->hollow ? WIRE_ENTRY_HOLLOW : 0)),
        .depends = entry->depends,
        .shard_len = entry->shard_len,
    };
    wire_item_entry_encode(out, &item);
}

/* [first, first+partitions) of what is prepared; NULL when out of memory. */
static struct engine_entry *list_prepared(struct target *t, unsigned *count)
{
    unsigned room = 64;
    for (;;) {
        struct engine_entry *entries = malloc(room * sizeof *entries);
        if (entries == NULL)
            return NULL;
        *count = engine_list_prepared(t->engine, entries, room);
        if (*count <= room)
            return entries;
        room = *count + 64;
        free(entries);
    }
}

/* R45; the settling comes back to all of them. */
static bool any_is_held(const struct target *t, const struct wire_settle *ask)
{
    for (uint32_t i = 0; i < ask->partitions; i++)
        if (slot_is_held(t, ask->pool, ask->first + i))
            return true;
    return false;
}

void serve_settle(struct request *r)
{
    REQUEST(r, settle, ask);
    struct target *t = r->target;
    int error = request_epoch_check(r);
    if (error == 0 && !request_is_from(r, ask.primary))
        error = SHOAL_E_DENIED;
    if (error == 0 && (uint64_t)ask.first + ask.partitions > 1u << r->node->map->partition_bits)
        error = SHOAL_E_INVALID;
    if (error == 0) {
        storing_wait_older(t, r->node->map->epoch);
        error = request_epoch_check(r);
    }
    if (error == 0 && any_is_held(t, &ask))
        error = SHOAL_E_BUSY;
    unsigned count = 0;
    struct engine_entry *entries = error == 0 ? list_prepared(t, &count) : NULL;
    size_t room = (size_t)SETTLE_ENTRIES_MAX * 80;
    void *bytes = entries == NULL ? NULL : malloc(room);
    if (error == 0 && bytes == NULL)
        error = SHOAL_E_NO_MEMORY;
    if (error != 0) {
        free(entries);
        reply_status(r, error);
        return;
    }
    member_forget_aborted(t, ask.primary, ask.pool, ask.first, ask.partitions);
    struct wire_settle_reply reply = {0};
    struct encoder out = encoder_init(bytes, room);
    for (unsigned i = 0; i < count && !reply.more; i++) {
        if (!entry_is_asked(r, &ask, &entries[i]))
            continue;
        reply.more = reply.count == SETTLE_ENTRIES_MAX;
        if (!reply.more) {
            entry_encode(&out, &entries[i]);
            reply.count++;
        }
    }
    CHECK(encoder_ok(&out));
    free(entries);
    struct iovec payload = {bytes, encoder_length(&out)};
    REPLY(r, settle, &reply, &payload, payload.iov_len > 0);
    free(bytes);
}

/*
 * Does the learner that asks come back to its own position with all it had? Then it keeps its piece of
 * what is undecided, and may be the one whose testimony decides it (R26).
 */
static bool learner_remembers(const struct request *r, const struct members *set)
{
    for (unsigned i = 0; i < BLOB_SET_MAX; i++)
        if ((set->learners >> i & 1) != 0 && !set->at[i].lost && request_is_from(r, set->at[i].target))
            return true;
    return false;
}

/* Only to a learner of the slot, and only while nothing is under way that does not include it (R27). */
static int learner_check(struct request *r, uint32_t pool, uint32_t partition, uint64_t since)
{
    struct target *t = r->target;
    struct members set;
    int error = request_epoch_check(r);
    if (error != 0)
        return error;
    if (partition >> r->node->map->partition_bits != 0 || (pool & BLOB_POOL_UPLOADS) != 0)
        return SHOAL_E_INVALID;
    const uint8_t *slot = target_slot(t, pool, partition);
    if (slot == NULL || !node_members(r->node, pool, partition, &set))
        return SHOAL_E_NO_POOL;
    if ((*slot & SLOT_MINE) == 0)
        return SHOAL_E_NOT_PRIMARY;
    if ((*slot & SLOT_SETTLED) == 0)
        return SHOAL_E_NOT_SERVING;
    return objects_older_in_slot(t, pool, partition, since, learner_remembers(r, &set)) ? SHOAL_E_BUSY
                                                                                       : 0;
}

void serve_digest(struct request *r)
{
    REQUEST(r, digest, ask);
    struct wire_digest_reply reply;
    int error = learner_check(r, ask.pool, ask.partition, ask.since);
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    slot_digest(r->target, ask.pool, ask.partition, SLOT_ALL, &reply.objects, &reply.hash);
    REPLY(r, digest, &reply, NULL, 0);
}

#define VERSIONS_PAGE 512u

void serve_versions(struct request *r)
{
    REQUEST(r, versions, ask);
    int error = learner_check(r, ask.pool, ask.partition, ask.since);
    struct engine_entry *entries = NULL;
    void *bytes = NULL;
    size_t room = (size_t)VERSIONS_PAGE * 80;
    if (error == 0) {
        entries = malloc(VERSIONS_PAGE * sizeof *entries);
        bytes = malloc(room);
        if (entries == NULL || bytes == NULL)
            error = SHOAL_E_NO_MEMORY;
    }
    if (error != 0) {
        free(entries);
        free(bytes);
        reply_status(r, error);
        return;
    }
    struct wire_versions_reply reply = {.cursor = ask.cursor};
    struct encoder out = encoder_init(bytes, room);
    unsigned count = slot_list(r->target, ask.pool, ask.partition, &reply.cursor, entries,
                               VERSIONS_PAGE);
    for (unsigned i = 0; i < count; i++) {
        if (entries[i].prepared)
            continue;
        entry_encode(&out, &entries[i]);
        reply.count++;
    }
    CHECK(encoder_ok(&out));
    free(entries);
    struct iovec payload = {bytes, encoder_length(&out)};
    REPLY(r, versions, &reply, &payload, payload.iov_len > 0);
    free(bytes);
}

void serve_repair(struct request *r)
{
    REQUEST(r, repair, ask);
    int error = request_epoch_check(r);
    if (error == 0 && !request_is_from_primary(r, &ask.id))
        error = SHOAL_E_DENIED;
    if (error == 0)
        error = install_piece(r->target, &ask.id, &ask.version, NULL);
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    struct wire_repair_reply reply = {};
    REPLY(r, repair, &reply, NULL, 0);
}
