/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "net/sim.h"
#include "shoal/error.h"

static struct sim_exchange *exchange_of(const struct net_request *request)
{
    return container_of((struct net_request *)request, struct sim_exchange, request);
}

static bool address_taken(struct net_sim_world *world, const char *address)
{
    list_for_each(&world->nets, struct sim_net, node, net) {
        if (!net->dead && sim_listener_find(net, address) != NULL)
            return true;
    }
    return false;
}

/* "HOST", "HOST:PORT", or "HOST:0" for the next free number; HOST is this net's. */
static int address_choose(struct sim_net *net, const char *wanted, char *address, size_t room)
{
    size_t host_len = strlen(net->host->name);
    if (strncmp(wanted, net->host->name, host_len) != 0 ||
        (wanted[host_len] != '\0' && wanted[host_len] != ':'))
        return SHOAL_E_INVALID;
    if (strcmp(wanted + host_len, ":0") != 0) {
        snprintf(address, room, "%s", wanted);
        return address_taken(net->world, address) ? SHOAL_E_SYSTEM : 0;
    }
    do {
        int len = snprintf(address, room, "%s:%u", net->host->name, net->host->next_port++);
        CHECK((size_t)len < room);
    } while (address_taken(net->world, address));
    return 0;
}

int sim_listen(struct net *base, const char *address, const struct net_service *service,
               struct net_listener **out)
{
    struct sim_net *net = container_of(base, struct sim_net, base);
    if (net->dead)
        return SHOAL_E_SHUTDOWN;
    struct sim_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL)
        return SHOAL_E_NO_MEMORY;
    int error = address_choose(net, address, listener->base.address, sizeof listener->base.address);
    if (error != 0) {
        free(listener);
        return error;
    }
    listener->base.net = base;
    listener->base.service = *service;
    fiber_queue_init(&listener->idle);
    list_push_back(&net->listeners, &listener->node);
    *out = &listener->base;
    return 0;
}

void sim_request_cancel(struct sim_exchange *exchange, int error)
{
    exchange->cancelled = true;
    exchange->cancel_error = error;
    if (exchange->pull_iov != NULL) {
        exchange->pull_iov = NULL;
        completion_signal(&exchange->pulled, error);
    }
}

void sim_listener_close(struct net_listener *base)
{
    struct sim_listener *listener = container_of(base, struct sim_listener, base);
    struct sim_net *net = container_of(base->net, struct sim_net, base);
    base->closing = true;
    list_for_each(&net->world->exchanges, struct sim_exchange, node, exchange) {
        if (exchange->listener == listener && !exchange->cancelled)
            sim_request_cancel(exchange, SHOAL_E_CANCELLED);
    }
    while (listener->unanswered > 0)
        fiber_queue_wait(&listener->idle);
    list_remove(&listener->node);
    free(listener);
}

bool sim_request_cancelled(const struct net_request *request)
{
    return exchange_of(request)->cancelled;
}

int sim_request_pull(struct net_request *request, const struct iovec *iov, unsigned iov_count,
                     uint64_t deadline_ns)
{
    struct sim_exchange *exchange = exchange_of(request);
    if (exchange->server->dead)
        return SHOAL_E_SHUTDOWN;
    if (exchange->cancelled)
        return exchange->cancel_error;
    exchange->pull_iov = iov;
    exchange->pull_count = iov_count;
    sim_send(exchange->server, exchange->caller, exchange, SIM_PULL, 0, NULL, 0, NULL, 0);
    int64_t result = 0;
    if (!completion_wait_until(&exchange->pulled, deadline_ns, &result)) {
        exchange->pull_iov = NULL;
        result = SHOAL_E_TIMEOUT;
    }
    return (int)result;
}

/* The server's half ends; the request must not be touched afterwards. */
static void request_end(struct sim_exchange *exchange)
{
    struct sim_listener *listener = exchange->listener;
    exchange->listener = NULL;
    if (--listener->unanswered == 0)
        fiber_queue_wake_all(&listener->idle);
    sim_exchange_put(exchange);
}

int sim_reply(struct net_request *request, const void *header, size_t header_len,
              const struct iovec *payload, unsigned payload_count)
{
    struct sim_exchange *exchange = exchange_of(request);
    struct sim_net *server = exchange->server;
    int result = 0;
    if (server->dead)
        result = SHOAL_E_SHUTDOWN;
    else if (exchange->cancelled)
        result = exchange->cancel_error;
    sim_send(server, exchange->caller, exchange, SIM_REPLY, 0, header, header_len, payload,
             payload_count);
    /* The buffers are in use for as long as a card would take to read them. */
    uint64_t busy = sim_delay(exchange->world, server->host, exchange->caller->host,
                              net_iov_bytes(payload, payload_count));
    if (!server->dead && payload_count > 0)
        fiber_sleep(busy);
    request_end(exchange);
    return result;
}

void sim_refuse(struct net_request *request, int error)
{
    struct sim_exchange *exchange = exchange_of(request);
    sim_send(exchange->server, exchange->caller, exchange, SIM_REFUSE, error, NULL, 0, NULL, 0);
    request_end(exchange);
}

/* What a handshake would have found out. */
static int admission(const struct sim_exchange *exchange)
{
    const struct net_identity *server = &exchange->server->identity;
    if (strcmp(server->cluster, exchange->request.identity.cluster) != 0)
        return SHOAL_E_DENIED;
    if (exchange->expected[0] != '\0' && strcmp(exchange->expected, server->name) != 0)
        return SHOAL_E_DENIED;
    return 0;
}

static void call_arrives(struct sim_message *message)
{
    struct sim_exchange *exchange = message->exchange;
    struct sim_net *server = exchange->server;
    int error = admission(exchange);
    struct sim_listener *listener = sim_listener_find(server, exchange->address);
    if (listener == NULL) {
        sim_send_broken(server->host, exchange->caller, exchange);
        return;
    }
    if (error != 0) {
        sim_send(server, exchange->caller, exchange, SIM_REFUSE, error, NULL, 0, NULL, 0);
        return;
    }
    exchange->references++;
    exchange->listener = listener;
    listener->unanswered++;
    memcpy(exchange->header, message->data, message->header_len);
    exchange->request.net = &server->base;
    exchange->request.deadline_ns = reactor_now_ns(server->base.reactor) + exchange->left_ns;
    exchange->request.header = exchange->header;
    exchange->request.header_len = message->header_len;
    listener->base.service.request(listener->base.service.ctx, &exchange->request);
}

void sim_listen_deliver(struct sim_message *message)
{
    struct sim_exchange *exchange = message->exchange;
    if (message->kind == SIM_CALL) {
        call_arrives(message);
        return;
    }
    if (exchange->listener == NULL)
        return;
    if (message->kind == SIM_DATA) {
        if (exchange->pull_iov == NULL)
            return;
        net_iov_scatter(exchange->pull_iov, exchange->pull_count, message->data,
                        message->payload_len);
        exchange->pull_iov = NULL;
        exchange->request.payload_crc = crc32c(0, message->data, message->payload_len);
        completion_signal(&exchange->pulled, 0);
    } else if (!exchange->cancelled) {
        sim_request_cancel(exchange,
                           message->kind == SIM_BROKEN ? SHOAL_E_CONNECTION : SHOAL_E_CANCELLED);
    }
}
