/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request on the wire to its handler: who may, in which class of fibers, how many at once, and
 * what is counted. A request that has no fiber is told busy at once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

/*
 * Member handlers make no calls, so primaries never wait for each other in a circle; what must call
 * (repair) or takes a while is control.
 */
static const struct {
    request_handler *run;
    enum request_class class;
} handlers[NODE_TYPES] = {
    [WIRE_map_get] = {serve_map_get, CLASS_CONTROL},
    [WIRE_put] = {serve_put, CLASS_CLIENT},
    [WIRE_get] = {serve_get, CLASS_CLIENT},
    [WIRE_stat] = {serve_stat, CLASS_CLIENT},
    [WIRE_remove] = {serve_remove, CLASS_CLIENT},
    [WIRE_exists] = {serve_exists, CLASS_CLIENT},
    [WIRE_list] = {serve_list, CLASS_CLIENT},
    [WIRE_upload_open] = {serve_upload_open, CLASS_CLIENT},
    [WIRE_upload_touch] = {serve_upload_touch, CLASS_CLIENT},
    [WIRE_report] = {serve_report, CLASS_CONTROL},
    [WIRE_headway] = {serve_headway, CLASS_CONTROL},
    [WIRE_prepare] = {serve_prepare, CLASS_MEMBER},
    [WIRE_commit] = {serve_commit, CLASS_MEMBER},
    [WIRE_abort] = {serve_abort, CLASS_MEMBER},
    [WIRE_drop] = {serve_drop, CLASS_MEMBER},
    [WIRE_settle] = {serve_settle, CLASS_MEMBER},
    [WIRE_find] = {serve_find, CLASS_MEMBER},
    [WIRE_recall] = {serve_recall, CLASS_MEMBER},
    [WIRE_digest] = {serve_digest, CLASS_MEMBER},
    [WIRE_versions] = {serve_versions, CLASS_MEMBER},
    [WIRE_fetch] = {serve_fetch, CLASS_MEMBER},
    [WIRE_upload_stat] = {serve_upload_stat, CLASS_MEMBER},
    [WIRE_map_push] = {serve_map_push, CLASS_CONTROL},
    [WIRE_repair] = {serve_repair, CLASS_CONTROL},
    [WIRE_lease] = {serve_lease, CLASS_LEASE},
};

static int may_send(const struct net_identity *who, uint16_t type)
{
    switch (wire_type_sender(type)) {
    case WIRE_ANYONE:
        return who->role == NET_ROLE_JOIN ? SHOAL_E_DENIED : 0;
    case WIRE_CLIENT:
        return who->role == NET_ROLE_CLIENT || who->role == NET_ROLE_NODE ||
                       who->role == NET_ROLE_ADMIN
                   ? 0
                   : SHOAL_E_DENIED;
    case WIRE_NODE:
        if (type == WIRE_map_push && who->role == NET_ROLE_AUTHORITY)
            return 0;
        return who->role == NET_ROLE_NODE ? 0 : SHOAL_E_DENIED;
    case WIRE_ADMIN:
        break;
    }
    return SHOAL_E_DENIED;
}

static struct target *find_target(struct node *node, uint32_t id)
{
    for (unsigned i = 0; i < node->targets_count; i++)
        if (node->targets[i].id == id)
            return &node->targets[i];
    return NULL;
}

static void request_done(struct request *r)
{
    struct node *node = r->node;
    struct request_metrics *m = &node->request_metrics[r->head.type];
    counter_add(m->count, 1);
    if (r->result != 0)
        counter_add(m->errors, 1);
    histogram_record(m->seconds, node_now(node) - r->started_ns);
}

static bool needs_target(const struct request *r)
{
    return (r->class != CLASS_CONTROL && r->class != CLASS_LEASE) || r->head.type == WIRE_repair;
}

static void run_request(void *arg)
{
    struct request *r = arg;
    struct node *node = r->node;
    log_set_request(r->head.request.hi, r->head.request.lo);
    if (r->head.target != WIRE_NO_TARGET && r->target == NULL)
        reply_status(r, SHOAL_E_NOT_SERVING);
    else if (r->target == NULL && needs_target(r))
        reply_status(r, SHOAL_E_INVALID);
    else if (r->target != NULL && (!r->target->serving || node->stopping))
        reply_status(r, SHOAL_E_NOT_SERVING);
    else
        handlers[r->head.type].run(r);
    CHECK(r->net == NULL);
    request_done(r);
    node->callers[r->caller]--;
    pool_put(node->request_pool, r);
}

/* Clients share a bucket when their names collide; then they share its bound, no more. */
static uint16_t caller_bucket(const struct net_identity *who)
{
    uint64_t hash = hash64(who->name, strnlen(who->name, sizeof who->name), (uint64_t)who->role);
    return (uint16_t)(hash % NODE_CALLERS);
}

static unsigned caller_bound(const struct node *node, const struct net_identity *who)
{
    return who->role == NET_ROLE_CLIENT || who->role == NET_ROLE_ADMIN
               ? node->config.client_calls
               : 2 * node->config.peer_calls;
}

void node_request(void *ctx, struct net_request *net)
{
    struct node *node = ctx;
    size_t len;
    const void *header = net_request_header(net, &len);
    const struct net_identity *who = net_request_identity(net);
    struct decoder in = decoder_init(header, len);
    struct wire_head head;
    wire_head_decode(&in, &head);
    if (!decoder_ok(&in) || head.type >= NODE_TYPES || handlers[head.type].run == NULL) {
        net_refuse(net, decoder_ok(&in) ? SHOAL_E_VERSION : SHOAL_E_INVALID);
        return;
    }
    if (node->stopping) {
        net_refuse(net, SHOAL_E_SHUTDOWN);
        return;
    }
    if (may_send(who, head.type) != 0) {
        net_refuse(net, SHOAL_E_DENIED);
        return;
    }
    struct group_part *part = group_part_for(node, &head);
    if (part != node->part) {
        net_relay_request(node->relay, part->reactor, &part->service, net);
        return;
    }
    uint16_t caller = caller_bucket(who);
    /* Load is no reason to take a node for dead. */
    bool bounded = handlers[head.type].class != CLASS_LEASE;
    struct request *r = bounded && node->callers[caller] >= caller_bound(node, who)
                            ? NULL
                            : pool_get(node->request_pool);
    if (r == NULL) {
        net_refuse(net, SHOAL_E_BUSY);
        return;
    }
    *r = (struct request){
        .node = node,
        .net = net,
        .head = head,
        .in = in,
        .target = find_target(node, head.target),
        .class = handlers[head.type].class,
        .started_ns = node_now(node),
        .caller = caller,
    };
    node->callers[caller]++;
    if (r->class == CLASS_CLIENT || head.type == WIRE_prepare)
        pace_note_client(node);
    if (fiber_spawn(node->pools[r->class], run_request, r) != 0) {
        node->callers[caller]--;
        pool_put(node->request_pool, r);
        net_refuse(net, SHOAL_E_BUSY);
    }
}

struct wire_head reply_head(const struct request *r)
{
    struct wire_head head = r->head;
    head.status = 0;
    head.epoch = r->node->map == NULL ? 0 : r->node->map->epoch;
    return head;
}

void reply_encoded(struct request *r, const void *header, size_t len, const struct iovec *payload,
                   unsigned count)
{
    CHECK(len > 0 && r->net != NULL);
    struct net_request *net = r->net;
    r->net = NULL;
    net_reply(net, header, len, payload, count);
}

void reply_status(struct request *r, int error)
{
    uint8_t header[64];
    struct wire_head head = reply_head(r);
    head.status = (uint16_t)-error;
    r->result = error;
    reply_encoded(r, header, wire_status_encode(header, sizeof header, &head), NULL, 0);
}

int request_pool_check(const struct request *r, uint32_t id, struct pool_view *view)
{
    const struct net_identity *who = net_request_identity(r->net);
    const struct map_pool *pool = cluster_map_pool(r->node->map, id);
    if (pool == NULL)
        return SHOAL_E_NO_POOL;
    if ((id & BLOB_POOL_UPLOADS) != 0)
        return SHOAL_E_INVALID;
    if (who->role == NET_ROLE_CLIENT && !map_pool_admits(pool, who->name))
        return SHOAL_E_DENIED;
    return node_pool_view(r->node, id, view) ? 0 : SHOAL_E_NO_POOL;
}

int request_epoch_check(struct request *r)
{
    struct node *node = r->node;
    if (node->map == NULL)
        return SHOAL_E_NOT_SERVING;
    if (PLANTED(old_epoch))
        return r->target != NULL && !r->target->serving ? SHOAL_E_NOT_SERVING : 0;
    if (r->head.epoch > node->map->epoch) {
        node_want_epoch(node, r->head.epoch);
        uint64_t until = node_now(node) + node->config.wait_ns / 4;
        if (!node_wait_epoch(node, r->head.epoch, until))
            return SHOAL_E_NEWER_EPOCH;
    }
    if (r->target != NULL && !r->target->serving)
        return SHOAL_E_NOT_SERVING;
    return r->head.epoch < node->map->epoch ? SHOAL_E_STALE_EPOCH : 0;
}

bool request_is_from(const struct request *r, uint32_t target)
{
    const struct net_identity *who = net_request_identity(r->net);
    const struct map_target *t = cluster_map_target(r->node->map, target);
    return t != NULL && who->role == NET_ROLE_NODE &&
           strcmp(r->node->map->nodes[t->node].name, who->name) == 0;
}

bool request_is_from_primary(const struct request *r, const struct blob_id *id)
{
    struct members set;
    return node_members_of(r->node, id, &set) && set.primary >= 0 &&
           request_is_from(r, set.at[set.primary].target);
}

void serve_map_get(struct request *r)
{
    REQUEST(r, map_get, ask);
    const struct cluster_map *map = r->node->map;
    if (map == NULL || map->epoch <= ask.have_epoch) {
        struct wire_map_get_reply none = {.epoch = map == NULL ? 0 : map->epoch,
                                          .incarnation = r->node->incarnation};
        REPLY(r, map_get, &none, NULL, 0);
        return;
    }
    size_t room = cluster_map_encoded_size(map);
    void *bytes = malloc(room);
    if (bytes == NULL) {
        reply_status(r, SHOAL_E_NO_MEMORY);
        return;
    }
    struct wire_map_get_reply reply = {.epoch = map->epoch,
                                       .incarnation = r->node->incarnation};
    struct iovec payload = {bytes, cluster_map_encode(map, bytes, room)};
    REPLY(r, map_get, &reply, &payload, 1);
    free(bytes);
}

void serve_map_push(struct request *r)
{
    REQUEST(r, map_push, ask);
    struct node *node = r->node;
    size_t len = net_request_payload_len(r->net);
    struct cluster_map *map = NULL;
    int error = len > CLUSTER_MAP_ENCODED_MAX ? SHOAL_E_TOO_LARGE : 0;
    if (error == 0 && (node->map == NULL || ask.epoch > node->map->epoch)) {
        void *bytes = malloc(len + 1);
        struct iovec iov = {bytes, len};
        error = bytes == NULL ? SHOAL_E_NO_MEMORY
                              : net_request_pull(r->net, &iov, 1, node_now(node) + 5 * NODE_S);
        if (error == 0)
            error = cluster_map_decode(bytes, len, &map);
        free(bytes);
        if (error == 0)
            error = node_adopt(node, map);
    }
    if (error != 0) {
        reply_status(r, error);
        return;
    }
    struct wire_map_push_reply reply = {.epoch = node->map->epoch};
    REPLY(r, map_push, &reply, NULL, 0);
}
