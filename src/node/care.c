/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a primary does by itself, a little each second: collecting tombstones (R30) and the stripes of
 * dead uploads (R34), closing abandoned uploads (R33), evicting from caches; leftovers.c has what a
 * member does. And the scrubber.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

#define CARE_PARTITIONS 256u /* looked through in one round */
#define CARE_ENTRIES 64u
#define EVICT_ROUND 64u
#define EVICT_AT_PUT 4u
#define NEARLY_FULL_PERCENT 90u

/* ---- tombstones ---- */

/* Or has had it: whoever collected it before, and died over it, had checked this (R30a). */
static bool has_tombstone(const struct wire_item_testimony *there, const struct blob_version *version)
{
    bool nothing = blob_version_is_none(&there->committed) && blob_version_is_none(&there->prepared);
    return nothing || blob_version_compare(&there->committed, version) == 0;
}

/* Every member that takes writes has it committed and durable (TOMB_CHECK). */
static int everybody_has(struct target *t, const struct members *set, const struct blob_id *id,
                         const struct blob_version *version)
{
    struct node *node = t->node;
    uint8_t header[1024];
    struct blob_request_id none = {0, 0};
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if ((set->taking >> i & 1) == 0 || set->at[i].target == t->id)
            continue;
        struct wire_find ask = {.sync = true, .objects_count = 1, .objects = {{*id, *version}}};
        struct wire_find_reply reply;
        struct wire_head head = node_head(node, WIRE_find, set->at[i].target, none);
        struct member_call call = {
            .header = header,
            .header_room = sizeof header,
            .header_len = wire_find_encode(header, sizeof header, &head, &ask),
            .deadline_ns = node_now(node) + node->config.call_ns,
        };
        int error = node_call(node, &set->at[i], &call);
        if (error == 0)
            error = wire_find_reply_decode(&call.in, &reply);
        if (error != 0)
            return error;
        if (reply.found_count != 1 || !has_tombstone(&reply.found[0], version))
            return SHOAL_E_CHANGED;
    }
    return engine_sync(t->engine);
}

static int drop_everywhere(struct target *t, const struct members *set, const struct blob_id *id,
                           const struct blob_version *version, const struct blob_version *low)
{
    struct node *node = t->node;
    uint8_t header[1024];
    struct blob_request_id none = {0, 0};
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if ((set->taking >> i & 1) == 0 || set->at[i].target == t->id)
            continue;
        struct wire_drop ask = {.primary = t->id,
                                .low_water = *low,
                                .objects_count = 1,
                                .objects = {{*id, *version}}};
        struct wire_head head = node_head(node, WIRE_drop, set->at[i].target, none);
        struct member_call call = {
            .header = header,
            .header_room = sizeof header,
            .header_len = wire_drop_encode(header, sizeof header, &head, &ask),
            .deadline_ns = node_now(node) + node->config.call_ns,
        };
        int error = node->map->epoch != set->epoch ? SHOAL_E_STALE_EPOCH
                                                   : node_call(node, &set->at[i], &call);
        if (error != 0)
            return error;
    }
    return node->map->epoch != set->epoch ? SHOAL_E_STALE_EPOCH
                                          : engine_drop(t->engine, id, version);
}

/* Under the object's lock, so nothing of it is under way here. */
static int collect_tombstone(struct target *t, const struct blob_id *id,
                             const struct blob_version *version)
{
    struct members set;
    struct blob_version low = target_low_water(t);
    int error = target_primary_check(t, id);
    if (error != 0)
        return error;
    if (!node_members_of(t->node, id, &set) || !set.writable ||
        (set.learners != 0 && !PLANTED(early_collection)))
        return SHOAL_E_UNAVAILABLE;
    if (PLANTED(early_collection))
        return drop_everywhere(t, &set, id, version, &low);
    /* A delayed prepare of something older must find itself refused (R14). */
    if (blob_version_compare(&low, version) <= 0)
        return SHOAL_E_BUSY;
    error = everybody_has(t, &set, id, version);
    if (error == 0 && t->node->map->epoch == set.epoch)
        error = drop_everywhere(t, &set, id, version, &low);
    if (error == 0)
        counter_add(t->node->tombstones_collected, 1);
    return error;
}

/*
 * How old a tombstone is nobody wrote down; but what this primary would have given as its next version
 * some time ago is above every version taken before then.
 */
static void age_note(struct target *t)
{
    uint64_t now = node_now(t->node);
    uint64_t step = t->node->config.tombstone_s * NODE_S / (NODE_AGES - 1) + 1;
    struct version_age *last = &t->ages[t->ages_next % NODE_AGES];
    if (t->ages_next > 0 && now - t->ages[(t->ages_next - 1) % NODE_AGES].at_ns < step)
        return;
    *last = (struct version_age){
        .at_ns = now,
        .next = {t->node->map->epoch, t->node->incarnation, t->counter + 1},
    };
    t->ages_next++;
}

static bool is_old_enough(const struct target *t, const struct blob_version *version)
{
    uint64_t now = node_now(t->node);
    for (unsigned i = 0; i < MIN(t->ages_next, NODE_AGES); i++)
        if (now - t->ages[i].at_ns >= t->node->config.tombstone_s * NODE_S &&
            blob_version_compare(version, &t->ages[i].next) < 0)
            return true;
    return false;
}

static void care_tombstone(struct target *t, const struct engine_entry *entry)
{
    if (!is_old_enough(t, &entry->version) && !PLANTED(early_collection))
        return;
    struct object *object = object_try_lock(t, &entry->id);
    if (object == NULL)
        return;
    struct engine_entry now = {0};
    (void)engine_find(t->engine, &entry->id, &now, NULL);
    if (blob_version_compare(&now.version, &entry->version) == 0)
        (void)collect_tombstone(t, &entry->id, &entry->version);
    object_unlock(object);
}

/* ---- removing for the node's own reasons: eviction, dead stripes ---- */

/* In a set of one it is a drop; else a tombstone, which is collected at once when it can be. */
static int remove_own(struct target *t, const struct engine_entry *entry, bool collect)
{
    struct object *object = object_try_lock(t, &entry->id);
    struct engine_entry now = {0};
    struct blob_request_id none = {0, 0};
    struct blob_version version;
    struct members set;
    bool unlocked = false;
    if (object == NULL)
        return SHOAL_E_BUSY;
    int error = target_primary_check(t, &entry->id);
    (void)engine_find(t->engine, &entry->id, &now, NULL);
    if (error == 0 && blob_version_compare(&now.version, &entry->version) != 0)
        error = SHOAL_E_CHANGED;
    if (error == 0 && !node_members_of(t->node, &entry->id, &set))
        error = SHOAL_E_NO_POOL;
    if (error == 0 && set.width == 1) {
        error = engine_drop(t->engine, &entry->id, &entry->version);
    } else if (error == 0) {
        error = replicate_tombstone(t, object, &now, &none,
                                    node_now(t->node) + t->node->config.put_ns, &version,
                                    &unlocked);
        if (error == 0 && collect)
            (void)collect_tombstone(t, &entry->id, &version);
    }
    if (!unlocked)
        object_unlock(object);
    return error;
}

/* ---- stripes ---- */

static int ask_live(struct target *t, const struct blob_id *head, uint64_t upload, bool *live)
{
    struct node *node = t->node;
    struct members set;
    *live = true;
    if (!node_members_of(node, head, &set) || set.primary < 0)
        return SHOAL_E_UNAVAILABLE;
    const struct member *to = &set.at[set.primary];
    for (unsigned i = 0; i < node->targets_count; i++)
        if (node->targets[i].id == to->target)
            return upload_is_live(&node->targets[i], head, upload, live);
    uint8_t header[512];
    struct blob_request_id none = {0, 0};
    struct wire_upload_stat ask = {.head = *head, .upload = upload};
    struct wire_upload_stat_reply reply;
    struct wire_head wire = node_head(node, WIRE_upload_stat, to->target, none);
    struct member_call call = {
        .header = header,
        .header_room = sizeof header,
        .header_len = wire_upload_stat_encode(header, sizeof header, &wire, &ask),
        .deadline_ns = node_now(node) + node->config.call_ns,
    };
    int error = node_call(node, to, &call);
    if (error == 0)
        error = wire_upload_stat_reply_decode(&call.in, &reply);
    if (error == 0)
        *live = reply.live;
    return error;
}

static void care_stripe(struct target *t, const struct engine_entry *entry)
{
    struct blob_desc desc;
    struct blob_id head = {.pool = entry->id.pool};
    bool live;
    if (describe_object(t, entry, &desc) != 0 ||
        hex_decode(desc.name, desc.name_len, head.key.bytes, BLOB_KEY_BYTES) != 0)
        return;
    if (ask_live(t, &head, desc.upload, &live) != 0 || live)
        return;
    if (remove_own(t, entry, false) == 0)
        counter_add(t->node->stripes_collected, 1);
}

/* ---- the round through our slots ---- */

static void care_entry(struct target *t, const struct engine_entry *entry, unsigned *stripes)
{
    if (entry->prepared || target_primary_check(t, &entry->id) != 0)
        return;
    if (entry->form == BLOB_TOMBSTONE) {
        care_tombstone(t, entry);
    } else if (entry->kind == BLOB_UPLOAD) {
        upload_expire(t, &entry->id);
    } else if (entry->kind == BLOB_STRIPE && *stripes > 0) {
        (*stripes)--;
        care_stripe(t, entry);
    }
}

static void care_partition(struct target *t, uint32_t partition, unsigned *stripes)
{
    struct engine_entry *entries = malloc(CARE_ENTRIES * sizeof *entries);
    uint64_t cursor = 0;
    if (entries == NULL)
        return;
    do {
        unsigned count = engine_list(t->engine, partition, &cursor, entries, CARE_ENTRIES);
        for (unsigned i = 0; i < count && t->serving; i++)
            care_entry(t, &entries[i], stripes);
        fiber_yield();
    } while (cursor != 0 && t->serving);
    free(entries);
}

static bool has_mine(const struct target *t, uint32_t partition)
{
    for (unsigned i = 0; i < t->slots_count; i++)
        if ((t->slots[i].flags[partition] & (SLOT_MINE | SLOT_SETTLED)) ==
            (SLOT_MINE | SLOT_SETTLED))
            return true;
    return false;
}

static void care_slots(struct target *t)
{
    unsigned stripes = 64;
    uint32_t partitions = 1u << t->node->map->partition_bits;
    for (uint32_t i = 0; i < MIN(partitions, CARE_PARTITIONS) && t->serving; i++) {
        uint32_t partition = (uint32_t)(t->care_cursor++ % partitions);
        if (has_mine(t, partition))
            care_partition(t, partition, &stripes);
    }
}

/* ---- eviction ---- */

/* This target's part of the pool's quota, in bytes stored. */
static uint64_t quota_share(const struct target *t, const struct pool_view *pool)
{
    const struct cluster_map *map = t->node->map;
    const struct map_target *mine = cluster_map_target(map, t->id);
    uint64_t weights = 0;
    for (uint32_t i = 0; i < map->targets_count; i++)
        if (map->targets[i].state != TARGET_OUT)
            weights += map->targets[i].weight;
    if (mine == NULL || weights == 0)
        return UINT64_MAX;
    double raw = (double)pool->quota_bytes * (pool->k + pool->m) / pool->k;
    return (uint64_t)(raw * mine->weight / (double)weights);
}

bool target_over_quota(struct target *t, const struct pool_view *pool, uint64_t more)
{
    struct engine_usage usage;
    if (pool->quota_bytes == 0)
        return false;
    engine_pool_usage(t->engine, pool->id, &usage);
    return usage.bytes_used + more > quota_share(t, pool);
}

static bool must_evict(struct target *t, const struct pool_view *pool)
{
    struct engine_usage usage;
    engine_usage(t->engine, &usage);
    if (usage.bytes_used >= usage.bytes_total / 100 * NEARLY_FULL_PERCENT ||
        usage.objects >= usage.objects_max / 100 * NEARLY_FULL_PERCENT)
        return true;
    return target_over_quota(t, pool, 0);
}

static void care_cache(struct target *t, uint32_t id)
{
    struct pool_view pool;
    struct engine_entry entry;
    unsigned misses = 0;
    for (unsigned i = 0; i < EVICT_ROUND && misses < 8; i++) {
        if (!t->serving || !node_pool_view(t->node, id, &pool) || !pool.cache ||
            !must_evict(t, &pool) || engine_evict_pick(t->engine, id, &entry) != 0)
            return;
        /* Others are primary of some of what lies here; they evict by their own measure. */
        if (target_primary_check(t, &entry.id) != 0 || remove_own(t, &entry, true) != 0)
            misses++;
        else
            counter_add(t->node->evicted, 1);
    }
}

/*
 * A put into a cache that is at its quota drops what was used least recently first, so that the quota
 * holds at each moment and not a round of care later. @more: bytes that the put will take here. Bounded: what a put
 * may not make room for, the next round does.
 */
void care_make_room(struct target *t, const struct pool_view *pool, uint64_t more)
{
    struct engine_entry entry;
    for (unsigned i = 0; i < EVICT_AT_PUT; i++) {
        if (!target_over_quota(t, pool, more) ||
            engine_evict_pick(t->engine, pool->id, &entry) != 0 ||
            target_primary_check(t, &entry.id) != 0 || remove_own(t, &entry, true) != 0)
            return;
        counter_add(t->node->evicted, 1);
    }
}

static void care_caches(struct target *t)
{
    uint32_t pools[CLUSTER_POOLS_MAX];
    unsigned count = t->slots_count;
    for (unsigned i = 0; i < count; i++)
        pools[i] = t->slots[i].pool;
    for (unsigned i = 0; i < count; i++)
        care_cache(t, pools[i]);
}

void node_carer(void *arg)
{
    struct target *t = arg;
    struct node *node = t->node;
    while (node_pause(node, node->config.care_ns)) {
        if (t->serving)
            age_note(t);
        if (t->serving)
            care_caches(t);
        if (t->serving)
            care_slots(t);
        if (t->serving)
            care_leftovers(t);
    }
    fiber_group_done(&node->running);
}

/* ---- scrubbing ---- */

static void scrub_damaged(void *ctx, const struct engine_entry *entry)
{
    struct target *t = ctx;
    counter_add(t->node->damaged_found, 1);
    if (!entry->prepared)
        install_later(t, &entry->id, &entry->version);
}

void node_scrubber(void *arg)
{
    struct target *t = arg;
    struct node *node = t->node;
    uint64_t pause = node->config.scrub_pause_ns;
    while (node_pause(node, pause)) {
        int64_t bytes = t->failed ? 0 : engine_scrub_step(t->engine, 8, scrub_damaged, t);
        if (bytes == 0 && !t->failed)
            t->scrub_ended_s = reactor_wall_s(node->reactor);
        pause = bytes <= 0 ? node->config.scrub_pause_ns
                           : (uint64_t)bytes * NODE_S / node->config.scrub_bytes_per_s + NODE_MS;
    }
    fiber_group_done(&node->running);
}
