/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps: how a node comes by newer ones, and what a new epoch does to what is under way (R1, R2, R6).
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

#define FETCH_ROOM (1u << 20)

/* ---- what the map says ---- */

bool node_pool_view(const struct node *node, uint32_t id, struct pool_view *view)
{
    const struct map_pool *pool = node->map == NULL ? NULL : cluster_map_pool(node->map, id);
    if (pool == NULL)
        return false;
    *view = (struct pool_view){
        .id = pool->id,
        .k = pool->k,
        .m = pool->m,
        .cache = pool->cache,
        .ttl_s = pool->ttl_s,
        .quota_bytes = pool->quota_bytes,
        .stripe_size = pool->stripe_size,
        .copies_below = pool->copies_below,
    };
    return true;
}

static struct member member_of(const struct cluster_map *map, const struct map_target *target)
{
    if (target == NULL)
        return (struct member){.target = WIRE_NO_TARGET, .node = UINT32_MAX};
    const struct map_node *node = &map->nodes[target->node];
    return (struct member){target->id, target->node, node->incarnation, target->up && node->up,
                           target->lost};
}

/*
 * R44: so many that of any others who could go on without this member, one has granted. Absent ones count,
 * for they may return before this member hears of it.
 */
static unsigned grants_needed(const struct map_pool *pool, const struct target_set *set)
{
    unsigned clean = target_set_count(set->clean), quorum = map_pool_quorum(pool);
    return clean > quorum ? clean - quorum : 0;
}

static void members_fill(const struct cluster_map *map, const struct map_pool *pool,
                         uint32_t partition, struct members *out)
{
    struct target_set set;
    cluster_map_partition_set(map, pool, partition, &set);
    *out = (struct members){
        .epoch = map->epoch,
        .width = set.width,
        .grants = grants_needed(pool, &set),
        .company = set.width == 1 && pool->cache,
        .primary = set.primary,
        .clean = set.clean,
        .present = set.present,
        .learners = set.learners | (uint32_t)set.moving << BLOB_SET_MAX,
        .leaving = (uint32_t)set.leaving << BLOB_SET_MAX,
        .writable = target_set_writable(&set, pool),
    };
    out->taking = out->clean | out->learners;
    for (unsigned i = 0; i < BLOB_SET_MAX; i++) {
        out->at[i] = member_of(map, i < set.width ? set.targets[i] : NULL);
        out->at[BLOB_SET_MAX + i] = member_of(map, i < set.width ? set.beside[i] : NULL);
    }
}

bool node_members(const struct node *node, uint32_t pool, uint32_t partition,
                  struct members *members)
{
    const struct map_pool *p = node->map == NULL ? NULL : cluster_map_pool(node->map, pool);
    if (p == NULL)
        return false;
    members_fill(node->map, p, partition, members);
    return true;
}

bool node_members_of(const struct node *node, const struct blob_id *id, struct members *members)
{
    return node->map != NULL && node_members(node, id->pool, node_partition(node, id), members);
}

int members_place(const struct members *members, uint32_t target)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (members->at[i].target == target)
            return (int)i;
    return -1;
}

bool target_is_primary(const struct target *t, const struct members *members)
{
    return members->primary >= 0 && members->at[members->primary].target == t->id && t->serving;
}

uint8_t *target_slot(const struct target *t, uint32_t pool, uint32_t partition)
{
    pool &= ~BLOB_POOL_UPLOADS;
    for (unsigned i = 0; i < t->slots_count; i++)
        if (t->slots[i].pool == pool)
            return &t->slots[i].flags[partition];
    return NULL;
}

int target_primary_check(const struct target *t, const struct blob_id *id)
{
    /* An engine that stopped may not have marked what was committed last: it would tell the version before. */
    if (!t->serving || t->node->stopping || engine_stopped(t->engine))
        return SHOAL_E_NOT_SERVING;
    const uint8_t *slot = target_slot(t, id->pool, node_partition(t->node, id));
    if (slot == NULL)
        return SHOAL_E_NO_POOL;
    if ((*slot & SLOT_MINE) == 0)
        return SHOAL_E_NOT_PRIMARY;
    return (*slot & SLOT_SETTLED) != 0 ? 0 : SHOAL_E_NOT_SERVING;
}

/* ---- adopting ---- */

static const uint8_t *old_flags(const struct slots *old, unsigned count, uint32_t pool)
{
    for (unsigned i = 0; i < count; i++)
        if (old[i].pool == pool)
            return old[i].flags;
    return NULL;
}

static bool same_primary(const struct members *a, const struct members *b)
{
    if (a->primary < 0 || b->primary < 0)
        return false;
    const struct member *was = &a->at[a->primary], *is = &b->at[b->primary];
    return was->target == is->target && was->incarnation == is->incarnation;
}

/* ---- who was left out and may not know it (R45) ---- */

/* Until when the node may answer readers as the life that it had in the map before; 0: it does not. */
static uint64_t unaware_until(const struct target *t, uint32_t index, uint32_t incarnation)
{
    const struct map_node *now = &t->node->map->nodes[index];
    /* A later life knows that the one before is over. */
    return now->up || now->incarnation > incarnation ? 0
                                                     : lease_granted_until(t->node, index);
}

static uint8_t held_flag(const struct target *t, const struct cluster_map *old,
                         const struct members *was)
{
    /* Also who was leaving: it may not have heard of that either. */
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        const struct member *member = &was->at[i];
        if ((was->taking >> i & 1) != 0 && old->nodes[member->node].incarnation != 0 &&
            unaware_until(t, member->node, member->incarnation) > reactor_clock_ns(t->node->reactor))
            return SLOT_HELD;
    }
    return 0;
}

/* @return: is every slot held? Who has missed an epoch does not know who was left out of which. */
static bool held_update(struct target *t, const struct cluster_map *old)
{
    const struct cluster_map *map = t->node->map;
    uint64_t now = reactor_clock_ns(t->node->reactor), until = 0;
    if (map->lease_ms == 0 || PLANTED(ignored_grant))
        return false;
    for (uint32_t i = 0; i < map->nodes_count; i++)
        if (map->nodes[i].incarnation != 0)
            until = MAX(until, unaware_until(t, i, map->nodes[i].incarnation));
    t->held_until_ns = MAX(t->held_until_ns, until);
    if (t->held_until_ns <= now)
        t->held_until_ns = 0;
    return until > now && (old == NULL || t->slots == NULL || old->epoch + 1 != map->epoch);
}

/* What is left of a slot's flags under the next map. */
static uint8_t slot_flags(const struct target *t, const struct cluster_map *old,
                          const struct map_pool *pool, uint32_t partition, uint8_t before)
{
    struct members now, was;
    uint8_t flags = 0;
    members_fill(t->node->map, pool, partition, &now);
    const struct map_pool *old_pool = old == NULL ? NULL : cluster_map_pool(old, pool->id);
    bool same = false;
    if (old_pool != NULL) {
        members_fill(old, old_pool, partition, &was);
        same = same_primary(&was, &now);
    }
    if (target_is_primary(t, &now)) {
        flags |= SLOT_MINE;
        /* R6: an epoch that was skipped could have had another primary. */
        if (same && t->node->map->epoch == old->epoch + 1)
            flags |= before & SLOT_SETTLED;
        if (PLANTED(skip_settling))
            flags |= SLOT_SETTLED;
    }
    int place = members_place(&now, t->id);
    if (place >= 0)
        flags |= SLOT_MEMBER;
    if (place >= (int)BLOB_SET_MAX && ((now.learners & ~now.leaving) >> place & 1) != 0)
        flags |= SLOT_MOVING;
    if (old_pool != NULL && t->held_until_ns != 0)
        flags |= held_flag(t, old, &was);
    /* R29a: what was learned is no proof under another epoch, so SLOT_LEARNED goes. */
    return flags | (before & SLOT_HELD);
}

/*
 * E_learn: from this epoch on every write of what it learns includes it. An epoch that was skipped
 * could have been without it; and a later E_learn than need be does no harm (R40).
 */
static void learner_update(struct target *t, const struct cluster_map *old, bool begins)
{
    uint64_t epoch = t->node->map->epoch;
    if (!t->serving || (t->state != TARGET_LEARNER && t->moving == 0))
        t->learner_since = 0;
    else if (t->learner_since == 0 || begins || old == NULL || old->epoch + 1 != epoch)
        t->learner_since = epoch;
}

static void slots_update(struct target *t, const struct cluster_map *old)
{
    const struct cluster_map *map = t->node->map;
    uint32_t partitions = 1u << map->partition_bits;
    struct slots *slots = calloc(map->pools_count + 1u, sizeof *slots);
    CHECK(slots != NULL);
    bool begins = false, gained = false;
    bool all_held = held_update(t, old);
    t->unsettled = t->moving = 0;
    for (uint32_t i = 0; i < map->pools_count; i++) {
        const uint8_t *before = old_flags(t->slots, t->slots_count, map->pools[i].id);
        slots[i].pool = map->pools[i].id;
        slots[i].flags = calloc(partitions, 1);
        CHECK(slots[i].flags != NULL);
        for (uint32_t p = 0; p < partitions; p++) {
            uint8_t flags = slot_flags(t, old, &map->pools[i], p, before == NULL ? 0 : before[p]);
            flags |= all_held ? SLOT_HELD : 0;
            flags &= t->held_until_ns == 0 ? (uint8_t)~SLOT_HELD : UINT8_MAX;
            slots[i].flags[p] = flags;
            t->unsettled += (flags & (SLOT_MINE | SLOT_SETTLED)) == SLOT_MINE;
            t->moving += (flags & SLOT_MOVING) != 0;
            begins |= (flags & SLOT_MOVING) != 0 &&
                      (before == NULL || (before[p] & SLOT_MOVING) == 0);
            gained |= (flags & (SLOT_MEMBER | SLOT_MOVING)) == SLOT_MEMBER &&
                      before != NULL && (before[p] & (SLOT_MEMBER | SLOT_MOVING)) != SLOT_MEMBER;
            t->foreign |= (flags & SLOT_MEMBER) == 0 &&
                          (before == NULL || (before[p] & SLOT_MEMBER) != 0);
        }
    }
    learner_update(t, old, begins);
    for (unsigned i = 0; i < t->slots_count; i++)
        free(t->slots[i].flags);
    free(t->slots);
    t->slots = slots;
    t->slots_count = map->pools_count;
    /* R8, likewise of a slot that moved here. */
    if (gained)
        t->window.since_epoch = map->epoch;
}

/* R26: who returns with this epoch may know what could not be decided without. */
static void unsettle_undecided(struct target *t)
{
    list_for_each(&t->versioned, struct object, node, object) {
        uint8_t *slot = target_slot(t, object->id.pool, node_partition(t->node, &object->id));
        if (!object->undecided || slot == NULL || (*slot & SLOT_SETTLED) == 0)
            continue;
        *slot &= (uint8_t)~SLOT_SETTLED;
        t->unsettled += (*slot & SLOT_MINE) != 0;
    }
}

static bool target_serves(const struct target *t)
{
    const struct node *node = t->node;
    const struct map_target *mine = cluster_map_target(node->map, t->id);
    return node->serving && mine != NULL && mine->up && mine->node == node->self && !t->failed &&
           !t->shared->slow && !node->stopping;
}

static void target_update(struct target *t, const struct cluster_map *old)
{
    struct node *node = t->node;
    const struct cluster_map *map = node->map;
    const struct map_target *mine = cluster_map_target(map, t->id);
    bool was_serving = t->serving, was_clean = t->state == TARGET_CLEAN;
    t->serving = target_serves(t);
    t->state = mine == NULL ? TARGET_OUT : mine->state;
    t->lost = mine != NULL && mine->lost;
    /* R8: what it noted before others went on without it may have been taken back since. */
    if (t->serving && !was_serving)
        window_clear(&t->window, map->epoch);
    /* And while it learned, requests were settled that it was never asked to prepare. */
    if (t->serving && t->state == TARGET_CLEAN && !was_clean)
        t->window.since_epoch = map->epoch;
    if (map->targets_count > t->low_water_count) {
        t->low_water = realloc(t->low_water, map->targets_count * sizeof *t->low_water);
        CHECK(t->low_water != NULL);
        memset(t->low_water + t->low_water_count, 0,
               (map->targets_count - t->low_water_count) * sizeof *t->low_water);
        t->low_water_count = map->targets_count;
    }
    slots_update(t, old);
    headway_epoch(t);
    unsettle_undecided(t);
    objects_slot_lost(t);
    upload_touches_lost(t);
    fiber_queue_wake_all(&t->settle_wake);
    fiber_queue_wake_all(&t->learn_wake);
}

/* Where this node stands in the map; another incarnation there means to enrol again. */
static void node_update(struct node *node)
{
    const struct cluster_map *map = node->map;
    const struct map_node *mine = cluster_map_node_named(map, node->config.name);
    node->serving = false;
    if (mine == NULL)
        return;
    node->self = (uint32_t)(mine - map->nodes);
    node->serving = node->incarnation != 0 && mine->up && mine->incarnation == node->incarnation;
    /* Taken for dead, this life is over: others may have gone on without it. */
    bool down = mine->incarnation == node->incarnation && !mine->up;
    if (node->incarnation != 0 && (mine->incarnation > node->incarnation || down)) {
        LOG_WARN("epoch %llu %s of %s: enrolling again", (unsigned long long)map->epoch,
                 down ? "ends the life" : "names another incarnation", node->config.name);
        node->incarnation = 0;
        leases_forget(node->group);
        fiber_queue_wake_all(&node->stop_wake);
    }
}

static int save_map(struct node *node, const struct cluster_map *map)
{
    if (node->config.store.save == NULL)
        return 0;
    size_t room = cluster_map_encoded_size(map);
    void *bytes = malloc(room);
    if (bytes == NULL)
        return SHOAL_E_NO_MEMORY;
    int error = node->config.store.save(node->config.store.ctx, bytes,
                                        cluster_map_encode(map, bytes, room));
    free(bytes);
    return error;
}

/* The map is in use from here on; nothing in this function blocks. */
static void use_map(struct node *node, struct cluster_map *map)
{
    struct cluster_map *old = node->map;
    node->map = map;
    node_update(node);
    for (unsigned i = 0; i < node->targets_count; i++)
        target_update(&node->targets[i], old);
    cluster_map_free(old);
    atomic_store(&node->part->epoch, map->epoch);
    if (node_leads(node))
        group_offer(node);
    fiber_queue_wake_all(&node->adopted);
    fiber_queue_wake_all(&node->lease_wake);
    LOG_INFO("epoch %llu%s", (unsigned long long)map->epoch, node->serving ? "" : ", not serving");
}

void node_refresh(struct node *node)
{
    node_update(node);
    for (unsigned i = 0; i < node->targets_count; i++)
        target_update(&node->targets[i], NULL);
    fiber_queue_wake_all(&node->lease_wake);
    if (node_leads(node))
        group_offer(node);
}

int node_adopt(struct node *node, struct cluster_map *map)
{
    int error = 0;
    fiber_mutex_lock(&node->adopting);
    if (node->map != NULL && memcmp(map->cluster, node->map->cluster, sizeof map->cluster) != 0) {
        LOG_ERROR("a map of another cluster was refused");
        error = SHOAL_E_INVALID;
    } else if (node->map != NULL && map->partition_bits != node->map->partition_bits) {
        /* What lies on the devices is in the partitions of the first map. */
        LOG_ERROR("a map with other partitions was refused");
        error = SHOAL_E_INVALID;
    } else if (node->map != NULL && map->epoch <= node->map->epoch) {
        cluster_map_free(map);
        fiber_mutex_unlock(&node->adopting);
        return 0;
    }
    if (error == 0 && map->table == NULL)
        error = cluster_map_place(map, node->map);
    if (error == 0 && node_leads(node))
        error = save_map(node, map);
    if (error == 0) {
        use_map(node, map);
        node_peers_update(node);
    } else {
        LOG_ERROR("epoch %llu could not be adopted: %s", (unsigned long long)map->epoch,
                  shoal_error_text(error));
        cluster_map_free(map);
    }
    fiber_mutex_unlock(&node->adopting);
    return error;
}

/* ---- fetching ---- */

void node_want_epoch(struct node *node, uint64_t epoch)
{
    if (!node_leads(node)) {
        if (node->map == NULL || epoch > node->map->epoch)
            group_want(node, epoch);
        return;
    }
    if (epoch > node->wanted_epoch)
        node->wanted_epoch = epoch;
    fiber_queue_wake_all(&node->map_wake);
}

bool node_wait_epoch(struct node *node, uint64_t epoch, uint64_t deadline_ns)
{
    while (node->map == NULL || node->map->epoch < epoch)
        if (node->stopping || !fiber_queue_wait_until(&node->adopted, deadline_ns))
            return node->map != NULL && node->map->epoch >= epoch;
    return true;
}

static int fetch_from_peer(struct node *node, uint32_t index, void *bytes, size_t *len)
{
    struct peer *peer = node_peer(node, index);
    if (peer == NULL || index == node->self)
        return SHOAL_E_CONNECTION;
    uint8_t header[256];
    struct blob_request_id none = {0, 0};
    struct wire_head head = node_head(node, WIRE_map_get, WIRE_NO_TARGET, none);
    struct wire_map_get ask = {.have_epoch = node->map->epoch};
    struct iovec room = {bytes, *len};
    struct net_call call = {
        .header = header,
        .header_len = wire_map_get_encode(header, sizeof header, &head, &ask),
        .reply_payload = &room,
        .reply_payload_count = 1,
        .deadline_ns = node_now(node) + NODE_S,
        .reply_header = header,
        .reply_header_len = sizeof header,
    };
    int error = net_call(peer->net, &call);
    *len = call.reply_payload_len;
    return error;
}

static int adopt_bytes(struct node *node, const void *bytes, size_t len)
{
    struct cluster_map *map = NULL;
    int error = len == 0 ? 0 : cluster_map_decode(bytes, len, &map);
    return map == NULL ? error : node_adopt(node, map);
}

/*
 * The authority first; when it does not answer, whoever of the nodes has the map.
 * Return: 0 when the authority has answered, and what it has is in use.
 */
static int fetch(struct node *node, size_t room)
{
    uint64_t have = node->map == NULL ? 0 : node->map->epoch;
    void *bytes = malloc(room);
    size_t len = 0;
    if (bytes == NULL)
        return SHOAL_E_NO_MEMORY;
    int error = node->config.authority.ops->fetch(node->config.authority.ctx, have, bytes, room,
                                                  &len);
    if (error == 0)
        error = adopt_bytes(node, bytes, len);
    uint32_t nodes = node->map == NULL ? 0 : node->map->nodes_count;
    /* What cannot be kept here is not to be had from others either. */
    bool kept = error != SHOAL_E_FULL && error != SHOAL_E_IO;
    for (uint32_t i = 1; kept && i < nodes && node->map->epoch < node->wanted_epoch; i++) {
        if (node->stopping)
            break;
        len = room;
        if (fetch_from_peer(node, (node->self + i) % nodes, bytes, &len) == 0)
            kept = adopt_bytes(node, bytes, len) == 0;
    }
    free(bytes);
    if (error == SHOAL_E_TOO_LARGE && room < CLUSTER_MAP_ENCODED_MAX)
        return fetch(node, CLUSTER_MAP_ENCODED_MAX);
    return error;
}

void node_keeper(void *arg)
{
    struct node *node = arg;
    while (!node->stopping) {
        uint64_t have = node->map == NULL ? 0 : node->map->epoch;
        if (node->wanted_epoch <= have) {
            fiber_queue_wait(&node->map_wake);
            continue;
        }
        uint64_t wanted = node->wanted_epoch;
        int error = fetch(node, FETCH_ROOM);
        have = node->map == NULL ? 0 : node->map->epoch;
        if (have >= node->wanted_epoch)
            continue;
        /*
         * Whoever spoke of that epoch made it up if the authority does not know it: without this,
         * one message of a client would have us fetch for ever.
         */
        if (error == 0 && wanted == node->wanted_epoch && have > 0)
            node->wanted_epoch = have;
        node_pause(node, NODE_RETRY_NS);
    }
    fiber_group_done(&node->running);
}

/* ---- enrolling, and being alive ---- */

static int enroll(struct node *node)
{
    struct wire_enroll ask = {.node_len = (uint16_t)strlen(node->config.name)};
    struct wire_enroll_reply reply;
    memcpy(ask.node, node->config.name, ask.node_len);
    ask.have_epoch = node->map == NULL ? 0 : node->map->epoch;
    ask.process = prng_next(reactor_prng(node->reactor));
    struct node_group *group = node->group;
    uint64_t back = 0; /* a bit for each of NODE_TARGETS_MAX */
    for (unsigned i = 0; i < group->targets_count; i++) {
        const struct group_target *t = &group->targets[i];
        bool is_back = t->back;
        if (t->failed || (t->slow && !is_back))
            continue;
        back |= (uint64_t)is_back << i;
        ask.targets[ask.targets_count++] = (struct wire_item_enroll_target){
            .target = t->id, .flags = t->stale ? WIRE_ENROLL_STALE : 0, .device = t->device};
    }
    int error = SHOAL_E_TIMEOUT;
    while (!node->stopping) {
        error = node->config.authority.ops->enroll(node->config.authority.ctx, &ask, &reply);
        if (error == 0)
            break;
        LOG_WARN("%s could not enrol: %s", node->config.name, shoal_error_text(error));
        node_pause(node, node->config.heartbeat_ns);
    }
    if (error != 0)
        return error;
    /* It says once that it lost memory: what it learns from here on it has. */
    for (unsigned i = 0; i < group->targets_count; i++) {
        group->targets[i].stale = false;
        if ((back >> i & 1) != 0)
            group->targets[i].back = group->targets[i].slow = false;
    }
    leases_forget(node->group);
    node->incarnation = reply.incarnation;
    node_want_epoch(node, reply.epoch);
    /* The map may be here already, adopted under the name of nobody. */
    if (node->map != NULL && node->map->epoch >= reply.epoch)
        node_refresh(node);
    return 0;
}

/*
 * R3b: all others would wait for a drive that is far too slow, so it counts as dead, until it has answered in
 * time for as long. Whether the authority has heard of it, and when others hear of that, is not known: the
 * target serves again only as one of another life.
 */
static void notice_slowness(struct target *t)
{
    struct node *node = t->node;
    uint64_t now = node_now(node), since = engine_waiting_since_ns(t->engine);
    bool slow = since != 0 && now - since > node->config.slow_ns;
    if (slow) {
        t->slow_ns = now;
        t->shared->back = false;
    }
    if (slow && !t->shared->slow) {
        LOG_WARN("target %u is taken for dead: its drive has not answered for %llu ms", t->id,
                 (unsigned long long)((now - since) / NODE_MS));
        t->shared->slow = true;
        t->serving = false;
    } else if (t->shared->slow && !t->shared->back && now - t->slow_ns > node->config.slow_ns) {
        LOG_INFO("target %u: its drive answers in time again", t->id);
        t->shared->back = true;
    }
}

/* A target that was taken for dead comes back as a node does: it has missed something. */
static bool somebody_is_back(const struct node *node)
{
    const struct map_node *mine = node->serving ? &node->map->nodes[node->self] : NULL;
    for (unsigned i = 0; mine != NULL && i < node->group->targets_count; i++) {
        const struct group_target *t = &node->group->targets[i];
        const struct map_target *target = cluster_map_target(node->map, t->id);
        if (!t->failed && (t->slow ? t->back : target != NULL && !target->up))
            return true;
    }
    return false;
}

static void enroll_anew(struct node *node)
{
    LOG_INFO("%s enrols again, with a target that was taken for dead", node->config.name);
    node->incarnation = 0;
    leases_forget(node->group);
    node_refresh(node);
}

static void notice_failures(struct node *node)
{
    for (unsigned i = 0; i < node->targets_count; i++) {
        struct target *t = &node->targets[i];
        if (!t->failed)
            notice_slowness(t);
        if (t->failed || !engine_stopped(t->engine))
            continue;
        LOG_ERROR("target %u has stopped: its device failed", t->id);
        t->failed = true;
        t->serving = false;
        t->shared->failed = true;
    }
}

static void beat(struct node *node)
{
    struct wire_heartbeat ask = {.node_len = (uint16_t)strlen(node->config.name)};
    struct wire_heartbeat_reply reply;
    memcpy(ask.node, node->config.name, ask.node_len);
    ask.incarnation = node->incarnation;
    ask.epoch = node->quiet_epoch = lease_quiet_epoch(node);
    for (unsigned i = 0; i < node->group->targets_count; i++) {
        const struct group_target *t = &node->group->targets[i];
        if (t->failed || t->slow)
            ask.failed[ask.failed_count++] = (struct wire_item_enroll_target){.target = t->id};
    }
    uint64_t asked_ns = reactor_clock_ns(node->reactor);
    uint64_t epoch = node->map == NULL ? 0 : node->map->epoch;
    int error = node->config.authority.ops->heartbeat(node->config.authority.ctx, &ask, &reply);
    if (error == 0)
        node_want_epoch(node, reply.epoch);
    /* Its map is no newer, and this node is up in it. */
    if (error == 0 && node->serving && reply.epoch <= epoch)
        lease_has_company(node, asked_ns);
}

/* The authority is told of each epoch that is adopted at once: moves wait for that (R39). */
static void beat_pause(struct node *node)
{
    if (!node->stopping)
        fiber_queue_wait_until(&node->adopted, node_now(node) + lease_beat_ns(node));
}

void node_heartbeat(void *arg)
{
    struct node *node = arg;
    while (!node->stopping) {
        notice_failures(node);
        if (node_leads(node) && somebody_is_back(node))
            enroll_anew(node);
        if (node_leads(node) && node->incarnation == 0)
            enroll(node);
        else if (node_leads(node))
            beat(node);
        if (!node_leads(node) || node->incarnation != 0)
            beat_pause(node);
    }
    fiber_group_done(&node->running);
}
