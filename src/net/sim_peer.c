/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "net/sim.h"
#include "shoal/error.h"

static struct sim_net *net_of(const struct sim_peer *peer)
{
    return container_of(peer->base.net, struct sim_net, base);
}

int sim_peer_open(struct net *base, const char *address, const char *name, unsigned max_calls,
                  struct net_peer **out)
{
    struct sim_net *net = container_of(base, struct sim_net, base);
    struct sim_peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return SHOAL_E_NO_MEMORY;
    peer->base.net = base;
    snprintf(peer->base.address, sizeof peer->base.address, "%s", address);
    if (name != NULL)
        snprintf(peer->base.name, sizeof peer->base.name, "%s", name);
    peer->base.max_calls = max_calls;
    fiber_queue_init(&peer->idle);
    list_push_back(&net->peers, &peer->node);
    *out = &peer->base;
    return 0;
}

void sim_call_end(struct sim_exchange *exchange, int error)
{
    CHECK(exchange->call != NULL);
    exchange->call = NULL;
    completion_signal(&exchange->called, error);
}

static void cancel_at_server(struct sim_exchange *exchange)
{
    if (exchange->server != NULL)
        sim_send(exchange->caller, exchange->server, exchange, SIM_CANCEL, 0, NULL, 0, NULL, 0);
}

/* Each call of @peer, on its reactor or from outside of every reactor. */
static void peer_end_all(struct sim_peer *peer, int error)
{
    list_for_each(&net_of(peer)->world->exchanges, struct sim_exchange, node, exchange) {
        if (exchange->peer != peer || exchange->call == NULL)
            continue;
        sim_call_end(exchange, error);
        cancel_at_server(exchange);
    }
}

void sim_peer_close(struct net_peer *base)
{
    struct sim_peer *peer = container_of(base, struct sim_peer, base);
    base->closing = true;
    peer_end_all(peer, SHOAL_E_CANCELLED);
    while (peer->outstanding > 0)
        fiber_queue_wait(&peer->idle);
    list_remove(&peer->node);
    free(peer);
}

/* A connection that breaks is noticed at both ends, each in its own time. */
void sim_peer_break(struct sim_peer *peer)
{
    list_for_each(&net_of(peer)->world->exchanges, struct sim_exchange, node, exchange) {
        if (exchange->peer != peer || exchange->call == NULL || exchange->server == NULL)
            continue;
        sim_send_broken(exchange->server->host, exchange->caller, exchange);
        sim_send_broken(exchange->caller->host, exchange->server, exchange);
    }
}

struct sim_listener *sim_listener_find(struct sim_net *net, const char *address)
{
    list_for_each(&net->listeners, struct sim_listener, node, listener) {
        if (!listener->base.closing && strcmp(listener->base.address, address) == 0)
            return listener;
    }
    return NULL;
}

static struct sim_net *server_find(struct net_sim_world *world, const char *address)
{
    list_for_each(&world->nets, struct sim_net, node, net) {
        if (!net->dead && sim_listener_find(net, address) != NULL)
            return net;
    }
    return NULL;
}

/* Nobody listens there: the host says so, unless it is off or unreachable. */
static void connect_fails(struct sim_exchange *exchange)
{
    char name[NET_ADDRESS_MAX];
    snprintf(name, sizeof name, "%s", exchange->address);
    char *colon = strchr(name, ':');
    if (colon != NULL)
        *colon = '\0';
    struct sim_host *host = sim_host(exchange->world, name);
    if (!host->silent && !sim_is_cut(exchange->world, exchange->caller->host, host))
        sim_send_broken(host, exchange->caller, exchange);
}

int sim_call(struct net_peer *base, struct net_call *call)
{
    struct sim_peer *peer = container_of(base, struct sim_peer, base);
    struct sim_net *net = net_of(peer);
    if (net->dead)
        return SHOAL_E_SHUTDOWN;
    if (peer->outstanding >= base->max_calls)
        return SHOAL_E_BUSY;
    struct sim_exchange *exchange = sim_exchange_create(net);
    if (exchange == NULL)
        return SHOAL_E_NO_MEMORY;
    peer->outstanding++;
    exchange->peer = peer;
    exchange->call = call;
    memcpy(exchange->address, base->address, sizeof exchange->address);
    memcpy(exchange->expected, base->name, sizeof exchange->expected);
    exchange->request.payload_len = net_iov_bytes(call->payload, call->payload_count);
    uint64_t now_ns = reactor_now_ns(net->base.reactor);
    exchange->left_ns = call->deadline_ns > now_ns ? call->deadline_ns - now_ns : 0;
    exchange->request.identity = net->identity;
    exchange->server = server_find(net->world, base->address);
    if (exchange->server != NULL)
        sim_send(net, exchange->server, exchange, SIM_CALL, 0, call->header, call->header_len, NULL,
                 0);
    else
        connect_fails(exchange);

    int64_t result = 0;
    if (!completion_wait_until(&exchange->called, call->deadline_ns, &result)) {
        exchange->call = NULL;
        cancel_at_server(exchange);
        result = SHOAL_E_TIMEOUT;
    }
    sim_exchange_put(exchange);
    if (--peer->outstanding == 0)
        fiber_queue_wake_all(&peer->idle);
    return (int)result;
}

void sim_call_cancel(struct net_peer *base, struct net_call *call)
{
    struct sim_net *net = container_of(base->net, struct sim_net, base);
    list_for_each(&net->world->exchanges, struct sim_exchange, node, exchange) {
        if (exchange->call != call)
            continue;
        sim_call_end(exchange, SHOAL_E_CANCELLED);
        cancel_at_server(exchange);
        return;
    }
}

static int reply_take(struct net_call *call, const struct sim_message *message)
{
    size_t room = net_iov_bytes(call->reply_payload, call->reply_payload_count);
    if (message->header_len > call->reply_header_len || message->payload_len > room)
        return SHOAL_E_TOO_LARGE;
    memcpy(call->reply_header, message->data, message->header_len);
    call->reply_header_len = message->header_len;
    net_iov_scatter(call->reply_payload, call->reply_payload_count,
                    message->data + message->header_len, message->payload_len);
    call->reply_payload_len = message->payload_len;
    call->reply_payload_crc = crc32c(0, message->data + message->header_len, message->payload_len);
    return 0;
}

void sim_peer_deliver(struct sim_message *message)
{
    struct sim_exchange *exchange = message->exchange;
    struct net_call *call = exchange->call;
    if (call == NULL) {
        if (message->kind == SIM_PULL)
            cancel_at_server(exchange);
        return;
    }
    switch (message->kind) {
    case SIM_PULL:
        sim_send(exchange->caller, exchange->server, exchange, SIM_DATA, 0, NULL, 0, call->payload,
                 call->payload_count);
        break;
    case SIM_REPLY:
        sim_call_end(exchange, reply_take(call, message));
        break;
    case SIM_REFUSE:
        sim_call_end(exchange, message->status);
        break;
    case SIM_BROKEN:
        sim_call_end(exchange, SHOAL_E_CONNECTION);
        break;
    default:
        CHECK_MSG(false, "message kind %d at a caller", (int)message->kind);
    }
}
