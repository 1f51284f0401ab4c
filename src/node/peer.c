/* SPDX-License-Identifier: Apache-2.0 */
/* Calls from this node to others. A connection belongs to one incarnation of the peer (R1). */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "node/node_private.h"
#include "shoal/error.h"

struct peer *node_peer(struct node *node, uint32_t index)
{
    if (node->map == NULL || index >= node->map->nodes_count || node->stopping)
        return NULL;
    const struct map_node *theirs = &node->map->nodes[index];
    struct peer *peer = node->peers[index];
    if (!theirs->up)
        return NULL;
    if (peer == NULL) {
        peer = calloc(1, sizeof *peer);
        if (peer == NULL)
            return NULL;
        peer->node = node;
        node->peers[index] = peer;
    }
    if (peer->net == NULL) {
        int error = net_peer_open(node->config.replication, theirs->replication, theirs->name,
                                  node->config.peer_calls, &peer->net);
        if (error != 0) {
            LOG_WARN("%s cannot be called at '%s': %s", theirs->name, theirs->replication,
                     shoal_error_text(error));
            return NULL;
        }
        memcpy(peer->name, theirs->name, sizeof peer->name);
        memcpy(peer->address, theirs->replication, sizeof peer->address);
        peer->incarnation = theirs->incarnation;
    }
    return peer;
}

/* Calls to what is no longer there end at once, instead of at their deadline. */
void node_peers_update(struct node *node)
{
    for (uint32_t i = 0; i < node->map->nodes_count; i++) {
        struct peer *peer = node->peers[i];
        if (peer == NULL || peer->net == NULL)
            continue;
        const struct map_node *theirs = &node->map->nodes[i];
        if (theirs->up && theirs->incarnation == peer->incarnation &&
            strcmp(theirs->replication, peer->address) == 0)
            continue;
        struct net_peer *old = peer->net;
        peer->net = NULL;
        net_peer_close(old);
    }
}

void node_peers_close(struct node *node)
{
    for (uint32_t i = 0; i < CLUSTER_NODES_MAX; i++) {
        struct peer *peer = node->peers[i];
        if (peer == NULL)
            continue;
        node->peers[i] = NULL;
        if (peer->net != NULL)
            net_peer_close(peer->net);
        free(peer);
    }
}

struct wire_head node_head(const struct node *node, uint16_t type, uint32_t target,
                           struct blob_request_id request)
{
    return (struct wire_head){
        .type = type, .epoch = node->map->epoch, .target = target, .request = request};
}

/* The peer is behind: give it the map, so that the next try works. */
static void push_map(struct node *node, struct peer *peer, uint64_t deadline_ns)
{
    size_t room = cluster_map_encoded_size(node->map);
    void *bytes = malloc(room);
    if (bytes == NULL)
        return;
    uint8_t header[256], reply[256];
    struct blob_request_id none = {0, 0};
    struct wire_head head = node_head(node, WIRE_map_push, WIRE_NO_TARGET, none);
    struct wire_map_push ask = {.epoch = node->map->epoch};
    struct iovec payload = {bytes, cluster_map_encode(node->map, bytes, room)};
    struct net_call call = {
        .header = header,
        .header_len = wire_map_push_encode(header, sizeof header, &head, &ask),
        .payload = &payload,
        .payload_count = 1,
        .deadline_ns = deadline_ns,
        .reply_header = reply,
        .reply_header_len = sizeof reply,
    };
    (void)net_call(peer->net, &call);
    free(bytes);
}

int node_call(struct node *node, const struct member *to, struct member_call *c)
{
    struct peer *peer = node_peer(node, to->node);
    if (peer == NULL || peer->incarnation != to->incarnation)
        return SHOAL_E_CONNECTION;
    CHECK(c->header_len > 0);
    struct net_call call = {
        .header = c->header,
        .header_len = c->header_len,
        .payload = c->payload,
        .payload_count = c->payload_count,
        .payload_sums = c->payload_sums,
        .reply_payload = &c->reply_payload,
        .reply_payload_count = c->reply_payload.iov_base != NULL,
        .deadline_ns = c->deadline_ns,
        .reply_header = c->header,
        .reply_header_len = c->header_room,
    };
    int error = net_call(peer->net, &call);
    if (error != 0)
        return error;
    struct wire_head head;
    c->in = decoder_init(c->header, call.reply_header_len);
    wire_head_decode(&c->in, &head);
    if (!decoder_ok(&c->in))
        return SHOAL_E_INVALID;
    c->reply_payload.iov_len = call.reply_payload_len;
    if (head.status == (uint16_t)-SHOAL_E_STALE_EPOCH || head.epoch > node->map->epoch)
        node_want_epoch(node, head.epoch);
    if (head.status == (uint16_t)-SHOAL_E_NEWER_EPOCH) {
        peer = node_peer(node, to->node);
        if (peer != NULL)
            push_map(node, peer, c->deadline_ns);
    }
    return -(int)head.status;
}

void node_run_call(struct node *node, void (*run)(void *arg), void *arg)
{
    if (fiber_spawn(node->calls, run, arg) != 0)
        run(arg);
}
