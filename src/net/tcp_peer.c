/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/tcp.h"
#include "shoal/error.h"

#define MS UINT64_C(1000000)
#define RETRY_FIRST_NS (10 * MS)
#define RETRY_MOST_NS (2000 * MS)
#define SLOT_BITS 16u

static void slot_landed(struct tcp_landing *landing, int error);
static void cancel_sent(struct tcp_out *out);

int tcp_peer_open(struct net *base, const char *address, const char *name, unsigned max_calls,
                  struct net_peer **out)
{
    if (max_calls > TCP_SLOTS_MAX)
        return SHOAL_E_INVALID;
    struct tcp_peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return SHOAL_E_NO_MEMORY;
    peer->slots = calloc(max_calls, sizeof *peer->slots);
    int error = peer->slots == NULL ? SHOAL_E_NO_MEMORY : 0;
    if (error == 0)
        error = tcp_address_parse(address, &peer->address, &peer->address_len);
    if (error != 0) {
        free(peer->slots);
        free(peer);
        return error;
    }
    peer->base.net = base;
    peer->base.max_calls = max_calls;
    snprintf(peer->base.address, sizeof peer->base.address, "%s", address);
    if (name != NULL)
        snprintf(peer->base.name, sizeof peer->base.name, "%s", name);
    fiber_queue_init(&peer->idle);
    list_init(&peer->free);
    for (unsigned i = 0; i < max_calls; i++) {
        struct tcp_slot *slot = &peer->slots[i];
        slot->peer = peer;
        slot->landing.landed = slot_landed;
        list_node_init(&slot->out.node);
        list_push_back(&peer->free, &slot->node);
    }
    *out = &peer->base;
    return 0;
}

static void slot_end(struct tcp_slot *slot, int error)
{
    if (slot->call == NULL || slot->done.done)
        return;
    completion_signal(&slot->done, error);
}

static void end_all(struct tcp_peer *peer, int error)
{
    for (unsigned i = 0; i < peer->base.max_calls; i++)
        slot_end(&peer->slots[i], error);
}

void tcp_peer_close(struct net_peer *base)
{
    struct tcp_peer *peer = container_of(base, struct tcp_peer, base);
    base->closing = true;
    end_all(peer, SHOAL_E_CANCELLED);
    while (peer->calls > 0)
        fiber_queue_wait(&peer->idle);
    if (peer->conn != NULL)
        tcp_conn_close(peer->conn, SHOAL_E_CANCELLED);
    while (peer->conn != NULL)
        fiber_queue_wait(&peer->idle);
    free(peer->slots);
    free(peer);
}

/* ---- the connection comes and goes ---- */

void tcp_peer_opened(struct tcp_conn *conn)
{
    struct tcp_peer *peer = conn->peer;
    /* Calls may have been made before the server said how many it takes. */
    for (unsigned i = conn->max_calls; i < peer->base.max_calls; i++)
        slot_end(&peer->slots[i], SHOAL_E_BUSY);
}

void tcp_peer_closed(struct tcp_conn *conn)
{
    struct tcp_peer *peer = conn->peer;
    struct tcp_net *net = conn->net;
    uint64_t now = tcp_now(net);
    /* One that opened and brought no answer is as bad as one that could not be made. */
    if (conn->useful || conn->error == SHOAL_E_CANCELLED) {
        peer->failures = 0;
        peer->retry_ns = now;
    } else {
        /* Half of the pause is drawn, so that a restarted server is not met by all at once. */
        uint64_t pause = MIN(RETRY_FIRST_NS << MIN(peer->failures, 8u), RETRY_MOST_NS);
        peer->failures++;
        peer->retry_ns = now + pause / 2 + prng_below(reactor_prng(net->base.reactor), pause / 2);
    }
    peer->last_error = conn->error;
    peer->conn = NULL;
    conn->peer = NULL;
    end_all(peer, conn->error);
    fiber_queue_wake_all(&peer->idle);
}

static int connection_want(struct tcp_peer *peer)
{
    if (peer->conn != NULL)
        return peer->conn->state == CONN_CLOSING ? peer->conn->error : 0;
    if (peer->failures > 0 && tcp_now(tcp_net_of(peer->base.net)) < peer->retry_ns)
        return peer->last_error;
    return tcp_conn_connect(peer);
}

/* ---- calls ---- */

static struct tcp_slot *slot_get(struct tcp_peer *peer)
{
    struct list_node *node = list_first(&peer->free);
    if (node == NULL)
        return NULL;
    struct tcp_slot *slot = container_of(node, struct tcp_slot, node);
    unsigned index = (unsigned)(slot - peer->slots);
    /* The lowest are at the front: beyond what the server admits there is nothing to be had. */
    if (peer->conn->state == CONN_OPEN && index >= peer->conn->max_calls)
        return NULL;
    list_remove(node);
    slot->call_id = ++peer->generation << SLOT_BITS | index;
    slot->conn = peer->conn;
    tcp_conn_get(slot->conn);
    slot->answered = false;
    slot->done = (struct completion){0};
    slot->landing.active = false;
    return slot;
}

static void slot_put(struct tcp_slot *slot)
{
    struct tcp_peer *peer = slot->peer;
    slot->call = NULL;
    tcp_conn_put(slot->conn);
    slot->conn = NULL;
    list_push_front(&peer->free, &slot->node);
}

static void cancel_sent(struct tcp_out *out)
{
    slot_put(container_of(out, struct tcp_slot, out));
}

/* The fiber has what it wanted, or nothing. Its memory is its own again when this returns. */
static void slot_release(struct tcp_slot *slot)
{
    bool unsent = list_linked(&slot->out.node) && slot->out.type == TCP_CALL;
    slot->call = NULL;
    tcp_tx_withdraw(slot->conn, &slot->out);
    tcp_rx_abandon(slot->conn, &slot->landing);
    if (unsent || slot->answered || slot->conn->state != CONN_OPEN) {
        slot_put(slot);
        return;
    }
    slot->out = (struct tcp_out){.type = TCP_CANCEL, .call = slot->call_id, .sent = cancel_sent};
    list_node_init(&slot->out.node);
    tcp_tx_queue(slot->conn, &slot->out);
}

static void slot_start(struct tcp_slot *slot, struct net_call *call)
{
    slot->call = call;
    slot->out = (struct tcp_out){
        .type = TCP_CALL,
        .call = slot->call_id,
        .header = call->header,
        .header_len = (uint32_t)call->header_len,
        .total = (uint32_t)net_iov_bytes(call->payload, call->payload_count),
        .deadline_ns = call->deadline_ns,
        .room = (uint32_t)net_iov_bytes(call->reply_payload, call->reply_payload_count)};
    list_node_init(&slot->out.node);
    tcp_tx_queue(slot->conn, &slot->out);
}

int tcp_call(struct net_peer *base, struct net_call *call)
{
    struct tcp_peer *peer = container_of(base, struct tcp_peer, base);
    int error = connection_want(peer);
    if (error != 0)
        return error;
    struct tcp_slot *slot = slot_get(peer);
    if (slot == NULL)
        return SHOAL_E_BUSY;
    if (peer->calls++ == 0)
        peer->conn->heard_ns = tcp_now(peer->conn->net);
    tcp_conn_watch(peer->conn);
    slot_start(slot, call);
    int64_t result = 0;
    if (!completion_wait_until(&slot->done, call->deadline_ns, &result))
        result = SHOAL_E_TIMEOUT;
    slot_release(slot);
    if (--peer->calls == 0)
        fiber_queue_wake_all(&peer->idle);
    return (int)result;
}

void tcp_call_cancel(struct net_peer *base, struct net_call *call)
{
    struct tcp_peer *peer = container_of(base, struct tcp_peer, base);
    for (unsigned i = 0; i < base->max_calls; i++) {
        if (peer->slots[i].call == call)
            slot_end(&peer->slots[i], SHOAL_E_CANCELLED);
    }
}

/* ---- frames ---- */

static void slot_landed(struct tcp_landing *landing, int error)
{
    struct tcp_slot *slot = container_of(landing, struct tcp_slot, landing);
    slot->answered = true;
    if (slot->call == NULL || slot->done.done)
        return;
    slot->call->reply_payload_len = error == 0 ? landing->total : 0;
    slot->call->reply_payload_crc = landing->crc;
    slot_end(slot, error == 0 ? 0 : SHOAL_E_CONNECTION);
}

static void on_pull(struct tcp_slot *slot)
{
    struct net_call *call = slot->call;
    size_t bytes = net_iov_bytes(call->payload, call->payload_count);
    if (bytes == 0 || slot->out.type != TCP_CALL || list_linked(&slot->out.node))
        return; /* asked for twice, or for nothing */
    slot->out = (struct tcp_out){.type = TCP_DATA,
                                 .call = slot->call_id,
                                 .payload = net_iov_cursor(call->payload, call->payload_count),
                                 .sums = call->payload_sums,
                                 .payload_left = (uint32_t)bytes,
                                 .total = (uint32_t)bytes};
    list_node_init(&slot->out.node);
    tcp_tx_queue(slot->conn, &slot->out);
}

static void on_reply(struct tcp_slot *slot, const struct tcp_frame *frame, const uint8_t *header,
                     struct tcp_landing **landing)
{
    struct net_call *call = slot->call;
    size_t room = net_iov_bytes(call->reply_payload, call->reply_payload_count);
    if (frame->header_len > call->reply_header_len || frame->total > room) {
        slot->answered = true; /* what still comes of it goes to the sink */
        slot_end(slot, SHOAL_E_TOO_LARGE);
        return;
    }
    if (frame->header_len > 0)
        memcpy(call->reply_header, header, frame->header_len);
    call->reply_header_len = frame->header_len;
    slot->landing.active = true;
    slot->landing.to = net_iov_cursor(call->reply_payload, call->reply_payload_count);
    slot->landing.total = frame->total;
    slot->landing.received = 0;
    slot->landing.crc = 0;
    if (frame->total > 0) {
        *landing = &slot->landing;
        return;
    }
    slot->landing.active = false;
    slot_landed(&slot->landing, 0);
}

int tcp_peer_frame(struct tcp_conn *conn, const struct tcp_frame *frame, const uint8_t *header,
                   struct tcp_landing **landing)
{
    struct tcp_peer *peer = conn->peer;
    if (frame->type == TCP_CALL || frame->type == TCP_CANCEL)
        return SHOAL_E_INVALID;
    unsigned index = frame->call & ((1u << SLOT_BITS) - 1);
    if (index >= peer->base.max_calls)
        return SHOAL_E_INVALID;
    struct tcp_slot *slot = &peer->slots[index];
    conn->useful = true;
    /* An answer to a call that nobody waits for any more is nothing strange. */
    if (slot->call == NULL || slot->call_id != frame->call || slot->done.done)
        return 0;
    switch (frame->type) {
    case TCP_PULL:
        on_pull(slot);
        return 0;
    case TCP_REFUSE:
        slot->answered = true;
        slot_end(slot, -(int)frame->status);
        return 0;
    case TCP_REPLY:
        if (slot->landing.active)
            return SHOAL_E_INVALID;
        on_reply(slot, frame, header, landing);
        return 0;
    default:
        if (!slot->landing.active)
            return SHOAL_E_INVALID;
        *landing = &slot->landing;
        return 0;
    }
}
