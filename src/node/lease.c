/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases between members (R43 to R47). Where deaths are known by silence alone, a node that was declared
 * dead may live, cut off from the others and not from clients. It must have ceased to answer readers by
 * itself before anything is written without it.
 *
 * Each node asks each other one, several times within a lease, for a grant: the promise to take no part in
 * any write that leaves the asking node out, for the length of a lease. Whoever asks counts from
 * before it asked, whoever grants from after, and the one counts a tenth less than the other, so that clocks
 * need not agree, and may run at rates that differ by that much. docs/decisions/leases.md.
 *
 * The leader of a node asks and grants for all its parts; what they share is atomic.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

#define ASKS_PER_LEASE 12u
#define ASK_FIBERS 64u

/* @net: of its own, so that no load of payload is between a node and its leases */
struct lease_ask {
    struct node *node;
    uint32_t index;
    bool under_way;
    uint32_t incarnation; /* of the other node, to which @net belongs */
    char address[CLUSTER_ADDRESS_MAX];
    struct net_peer *net;
};

static uint64_t lease_ns(const struct node *node)
{
    return node->map == NULL ? 0 : node->map->lease_ms * NODE_MS;
}

static uint64_t clock_ns(const struct node *node)
{
    return reactor_clock_ns(node->reactor);
}

uint64_t lease_beat_ns(const struct node *node)
{
    uint64_t lease = lease_ns(node);
    return lease == 0 ? node->config.heartbeat_ns
                      : MIN(lease / ASKS_PER_LEASE, node->config.heartbeat_ns);
}

static void lengthen(_Atomic uint64_t *to, uint64_t value)
{
    if (value > atomic_load(to)) /* the leader alone writes */
        atomic_store(to, value);
}

/* ---- what was granted to us ---- */

/*
 * Who is a set of one needs no grant, and nobody is asked when what it has is given up, as that of a cache is
 * when its target is out. So it ceases before it can be (R47).
 */
static bool has_had_company(const struct node *node, uint64_t now)
{
    uint64_t out_ns = node->map->out_ms * NODE_MS;
    return out_ns == 0 || now < atomic_load(&node->group->leases.company_ns) + out_ns / 4 * 3;
}

bool target_may_answer(const struct target *t, const struct members *set)
{
    const struct node *node = t->node;
    const struct leases *leases = &node->group->leases;
    unsigned granted = 0;
    if (lease_ns(node) == 0 || PLANTED(ignored_lease))
        return true;
    /* Not the time of this poll: the request may have come after it, and the process stood still between. */
    uint64_t now = clock_ns(node);
    if (atomic_load(&leases->incarnation) != node->incarnation)
        return false;
    if (set->company)
        return has_had_company(node, now);
    for (unsigned i = 0; i < set->width; i++) {
        const struct member *member = &set->at[i];
        if ((set->clean >> i & 1) == 0 || member->target == t->id)
            continue;
        granted += member->node == node->self ||
                   atomic_load(&leases->counts_until_ns[member->node]) > now;
    }
    return granted >= set->grants;
}

int target_answer_check(const struct target *t, const struct blob_id *id)
{
    struct members set;
    int error = target_primary_check(t, id);
    if (error != 0)
        return error;
    if (!node_members_of(t->node, id, &set))
        return SHOAL_E_NO_POOL;
    return target_may_answer(t, &set) ? 0 : SHOAL_E_NOT_SERVING;
}

void leases_forget(struct node_group *group)
{
    struct leases *leases = &group->leases;
    atomic_store(&leases->incarnation, 0);
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++)
        atomic_store(&leases->counts_until_ns[i], 0);
}

void lease_has_company(struct node *node, uint64_t asked_ns)
{
    lengthen(&node->group->leases.company_ns, asked_ns);
}

static void count_company(struct node *node, uint64_t asked_ns)
{
    const struct leases *leases = &node->group->leases;
    uint64_t now = clock_ns(node);
    unsigned nodes = 0, with_us = 1;
    for (uint32_t i = 0; i < node->map->nodes_count; i++) {
        nodes += !node->map->nodes[i].removed;
        with_us += i != node->self && atomic_load(&leases->counts_until_ns[i]) > now;
    }
    if (with_us > nodes / 2)
        lease_has_company(node, asked_ns);
}

/* ---- asking ---- */

static void close_net(struct lease_ask *ask)
{
    struct net_peer *net = ask->net;
    ask->net = NULL;
    if (net != NULL)
        net_peer_close(net);
}

static bool open_net(struct lease_ask *ask)
{
    struct node *node = ask->node;
    const struct map_node *theirs = &node->map->nodes[ask->index];
    if (ask->net != NULL && (ask->incarnation != theirs->incarnation ||
                             strcmp(ask->address, theirs->replication) != 0))
        close_net(ask); /* it blocks: the map may be another */
    theirs = &node->map->nodes[ask->index];
    if (ask->net != NULL || node->stopping)
        return ask->net != NULL;
    ask->incarnation = theirs->incarnation;
    memcpy(ask->address, theirs->replication, sizeof ask->address);
    return net_peer_open(node->config.replication, ask->address, theirs->name, 4, &ask->net) == 0;
}

static bool ask_for_lease(struct lease_ask *ask, uint32_t incarnation, uint64_t until_ns)
{
    struct node *node = ask->node;
    uint8_t header[128];
    struct blob_request_id none = {0, 0};
    struct wire_head head = node_head(node, WIRE_lease, WIRE_NO_TARGET, none);
    struct wire_lease question = {.node = node->self, .incarnation = incarnation};
    struct wire_lease_reply reply = {0};
    struct net_call call = {
        .header = header,
        .header_len = wire_lease_encode(header, sizeof header, &head, &question),
        .deadline_ns = until_ns,
        .reply_header = header,
        .reply_header_len = sizeof header,
    };
    if (net_call(ask->net, &call) != 0)
        return false;
    struct decoder in = decoder_init(header, call.reply_header_len);
    wire_head_decode(&in, &head);
    if (!decoder_ok(&in) || head.status != 0 || wire_lease_reply_decode(&in, &reply) != 0)
        return false;
    if (head.epoch > node->map->epoch)
        node_want_epoch(node, head.epoch);
    return reply.granted;
}

static void ask_fiber(void *arg)
{
    struct lease_ask *ask = arg;
    struct node *node = ask->node;
    struct leases *leases = &node->group->leases;
    uint32_t incarnation = node->incarnation;
    uint64_t lease = lease_ns(node);
    if (open_net(ask)) {
        uint64_t asked_ns = clock_ns(node);
        bool granted = ask_for_lease(ask, incarnation, node_now(node) + lease / 4);
        /* The life that asked may be over. */
        if (granted && !node->stopping && node->incarnation == incarnation && node->serving) {
            atomic_store(&leases->incarnation, incarnation);
            lengthen(&leases->counts_until_ns[ask->index], asked_ns + lease / 10 * 9);
            count_company(node, asked_ns);
        }
    }
    ask->under_way = false;
    fiber_group_done(&node->running);
}

static void ask_all(struct node *node)
{
    for (uint32_t i = 0; i < node->map->nodes_count; i++) {
        struct lease_ask *ask = &node->lease_asks[i];
        if (i == node->self || !node->map->nodes[i].up || ask->under_way)
            continue;
        ask->node = node;
        ask->index = i;
        ask->under_way = true;
        fiber_group_add(&node->running);
        /* There may be more nodes than fibers; each ends, also when nobody answers. */
        while (fiber_spawn(node->asks, ask_fiber, ask) != 0)
            if (!node_pause(node, NODE_MS)) {
                ask->under_way = false;
                fiber_group_done(&node->running);
                return;
            }
    }
}

void node_leaser(void *arg)
{
    struct node *node = arg;
    while (!node->stopping) {
        if (lease_ns(node) == 0 || !node->serving) {
            fiber_queue_wait(&node->lease_wake);
            continue;
        }
        /* A node that is alone in its map is a majority. */
        atomic_store(&node->group->leases.incarnation, node->incarnation);
        count_company(node, clock_ns(node));
        ask_all(node);
        fiber_queue_wait_until(&node->lease_wake, node_now(node) + lease_beat_ns(node));
    }
    for (uint32_t i = 0; i < CLUSTER_NODES_MAX; i++)
        close_net(&node->lease_asks[i]);
    fiber_group_done(&node->running);
}

int leases_create(struct node *node)
{
    if (!node_leads(node))
        return 0;
    node->lease_asks = calloc(CLUSTER_NODES_MAX, sizeof *node->lease_asks);
    if (node->lease_asks == NULL)
        return SHOAL_E_NO_MEMORY;
    node->group->leases.started_ns = clock_ns(node);
    atomic_store(&node->group->leases.company_ns, clock_ns(node));
    return fiber_pool_create(node->reactor, "leases", ASK_FIBERS, 0, &node->asks);
}

void leases_destroy(struct node *node)
{
    if (node->asks != NULL)
        fiber_pool_destroy(node->asks);
    free(node->lease_asks);
}

/* ---- granting ---- */

/* What a life before this one granted is not known any more: so it granted everything. */
uint64_t lease_granted_until(const struct node *node, uint32_t index)
{
    const struct leases *leases = &node->group->leases;
    uint64_t lease = lease_ns(node);
    return lease == 0 ? 0
                      : MAX(atomic_load(&leases->granted_until_ns[index]), leases->started_ns + lease);
}

uint64_t lease_quiet_epoch(const struct node *node)
{
    const struct cluster_map *map = node->map;
    uint64_t now = clock_ns(node), epoch = group_epoch(node->group);
    for (uint32_t i = 0; map != NULL && i < map->nodes_count; i++)
        if (!map->nodes[i].up && map->nodes[i].incarnation != 0 && lease_granted_until(node, i) > now)
            return MIN(node->quiet_epoch, epoch);
    return epoch;
}

bool slot_is_held(const struct target *t, uint32_t pool, uint32_t partition)
{
    const uint8_t *slot =
        partition >> t->node->map->partition_bits == 0 ? target_slot(t, pool, partition) : NULL;
    return slot != NULL && (*slot & SLOT_HELD) != 0 && clock_ns(t->node) < t->held_until_ns;
}

static bool is_up(const struct request *r, const struct wire_lease *ask)
{
    const struct net_identity *who = net_request_identity(r->net);
    const struct cluster_map *map = r->node->map;
    if (map == NULL || map->lease_ms == 0 || ask->node >= map->nodes_count)
        return false;
    const struct map_node *node = &map->nodes[ask->node];
    return node->up && node->incarnation == ask->incarnation && strcmp(node->name, who->name) == 0;
}

void serve_lease(struct request *r)
{
    REQUEST(r, lease, ask);
    struct node *node = r->node;
    struct leases *leases = &node->group->leases;
    /* Whoever has just enrolled is up in a map that is on its way. */
    if (node->map != NULL && r->head.epoch > node->map->epoch) {
        node_want_epoch(node, r->head.epoch);
        (void)node_wait_epoch(node, r->head.epoch, node_now(node) + lease_beat_ns(node));
    }
    struct wire_lease_reply reply = {.granted = is_up(r, &ask)};
    if (reply.granted) {
        uint64_t now = clock_ns(node);
        lengthen(&leases->asked_ns[ask.node], now);
        lengthen(&leases->granted_until_ns[ask.node], now + lease_ns(node));
    }
    REPLY(r, lease, &reply, NULL, 0);
}

uint64_t node_heard_ns(const struct node *node, uint32_t index)
{
    return index < CLUSTER_NODES_MAX ? atomic_load(&node->group->leases.asked_ns[index]) : 0;
}
