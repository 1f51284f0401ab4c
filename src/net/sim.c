/* SPDX-License-Identifier: Apache-2.0 */
#include "net/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "shoal/error.h"

int net_sim_world_create(const struct reactor_clock *clock, uint64_t seed,
                         const struct net_sim_faults *faults, struct net_sim_world **out)
{
    struct net_sim_world *world = calloc(1, sizeof *world);
    if (world == NULL)
        return SHOAL_E_NO_MEMORY;
    world->clock = clock;
    world->next_call = 1;
    prng_seed(&world->prng, seed);
    list_init(&world->hosts);
    list_init(&world->cuts);
    list_init(&world->nets);
    list_init(&world->exchanges);
    list_init(&world->held);
    if (faults != NULL)
        world->faults = *faults;
    *out = world;
    return 0;
}

void net_sim_world_destroy(struct net_sim_world *world)
{
    net_sim_heal(world);
    list_for_each(&world->nets, struct sim_net, node, net) {
        CHECK_MSG(net->base.reactor == NULL, "the net of host %s is not destroyed",
                  net->host->name);
        sim_queue_clear(net);
    }
    CHECK(list_empty(&world->exchanges));
    list_for_each(&world->nets, struct sim_net, node, net) {
        list_remove(&net->node);
        free(net);
    }
    list_for_each(&world->hosts, struct sim_host, node, host) {
        list_remove(&host->node);
        free(host);
    }
    free(world);
}

void net_sim_set_faults(struct net_sim_world *world, const struct net_sim_faults *faults)
{
    world->faults = *faults;
}

void net_sim_set_trace(struct net_sim_world *world,
                       void (*trace)(void *ctx, const struct net_sim_event *event), void *ctx)
{
    world->trace = trace;
    world->trace_ctx = ctx;
}

uint64_t net_sim_next_event_ns(const struct net_sim_world *world)
{
    uint64_t next = UINT64_MAX;
    const struct list_node *end = &world->nets.head;
    for (const struct list_node *node = end->next; node != end; node = node->next) {
        const struct sim_net *net = container_of((struct list_node *)node, struct sim_net, node);
        if (net->crash_pending)
            return sim_now(world);
        if (!net->dead && net->heap_count > 0 && net->heap[0]->due_ns < next)
            next = net->heap[0]->due_ns;
    }
    return next;
}

struct sim_host *sim_host(struct net_sim_world *world, const char *name)
{
    list_for_each(&world->hosts, struct sim_host, node, host) {
        if (strcmp(host->name, name) == 0)
            return host;
    }
    struct sim_host *host = calloc(1, sizeof *host);
    CHECK(host != NULL);
    snprintf(host->name, sizeof host->name, "%s", name);
    host->next_port = 1;
    list_push_back(&world->hosts, &host->node);
    return host;
}

static struct sim_cut *cut_find(const struct net_sim_world *world, const struct sim_host *from,
                                const struct sim_host *to)
{
    const struct list_node *end = &world->cuts.head;
    for (const struct list_node *node = end->next; node != end; node = node->next) {
        struct sim_cut *cut = container_of((struct list_node *)node, struct sim_cut, node);
        if (cut->from == from && cut->to == to)
            return cut;
    }
    return NULL;
}

bool sim_is_cut(const struct net_sim_world *world, const struct sim_host *from,
                const struct sim_host *to)
{
    return cut_find(world, from, to) != NULL;
}

void net_sim_cut(struct net_sim_world *world, const char *from, const char *to, bool cut)
{
    struct sim_host *a = sim_host(world, from);
    struct sim_host *b = sim_host(world, to);
    struct sim_cut *found = cut_find(world, a, b);
    if (cut && found == NULL) {
        found = calloc(1, sizeof *found);
        CHECK(found != NULL);
        found->from = a;
        found->to = b;
        list_push_back(&world->cuts, &found->node);
    } else if (!cut && found != NULL) {
        list_remove(&found->node);
        free(found);
        sim_release_held(world);
    }
}

void net_sim_slow(struct net_sim_world *world, const char *host, uint64_t extra_ns)
{
    sim_host(world, host)->extra_ns = extra_ns;
}

void net_sim_heal(struct net_sim_world *world)
{
    list_for_each(&world->cuts, struct sim_cut, node, cut) {
        list_remove(&cut->node);
        free(cut);
    }
    list_for_each(&world->hosts, struct sim_host, node, host)
        host->extra_ns = 0;
    sim_release_held(world);
}

void net_sim_crash(struct net_sim_world *world, const char *name)
{
    struct sim_host *host = sim_host(world, name);
    if (world->trace != NULL) {
        const struct net_sim_event event = {
            .at_ns = sim_now(world), .what = "crash", .kind = "-", .from = name, .to = name};
        world->trace(world->trace_ctx, &event);
    }
    host->silent = prng_chance(&world->prng, world->faults.silent_ppm, 1000000);
    list_for_each(&world->nets, struct sim_net, node, net) {
        if (net->host != host || net->dead)
            continue;
        net->dead = true;
        net->crash_pending = true;
    }
    sim_drop_sent_by(world, host);
    if (host->silent)
        return;
    list_for_each(&world->exchanges, struct sim_exchange, node, exchange) {
        if (exchange->server == NULL)
            continue;
        if (exchange->server->host == host && exchange->call != NULL)
            sim_send_broken(host, exchange->caller, exchange);
        if (exchange->caller->host == host && exchange->listener != NULL)
            sim_send_broken(host, exchange->server, exchange);
    }
}

/* [fiber] Peers and listeners are closed; whatever is still on its way here is dropped. */
static void sim_destroy(struct net *base)
{
    struct sim_net *net = container_of(base, struct sim_net, base);
    CHECK(list_empty(&net->peers) && list_empty(&net->listeners));
    net->dead = true;
    net->crash_pending = false;
    sim_queue_clear(net);
    reactor_remove_source(base->reactor, &net->source);
    base->reactor = NULL;
}

static const struct net_ops sim_ops = {
    .peer_open = sim_peer_open,
    .peer_close = sim_peer_close,
    .call = sim_call,
    .call_cancel = sim_call_cancel,
    .listen = sim_listen,
    .listener_close = sim_listener_close,
    .request_cancelled = sim_request_cancelled,
    .request_pull = sim_request_pull,
    .reply = sim_reply,
    .refuse = sim_refuse,
    .destroy = sim_destroy,
};

int net_sim_create(struct net_sim_world *world, struct reactor *reactor, const char *host,
                   const struct net_identity *identity, struct net **out)
{
    if (strnlen(host, NET_ADDRESS_MAX - 16) >= NET_ADDRESS_MAX - 16 || strchr(host, ':') != NULL)
        return SHOAL_E_INVALID;
    struct sim_net *net = calloc(1, sizeof *net);
    if (net == NULL)
        return SHOAL_E_NO_MEMORY;
    net->base.ops = &sim_ops;
    net->base.reactor = reactor;
    net->world = world;
    net->host = sim_host(world, host);
    net->host->silent = false;
    net->identity = *identity;
    list_init(&net->peers);
    list_init(&net->listeners);
    list_push_back(&world->nets, &net->node);
    net->source.poll = sim_poll;
    reactor_add_source(reactor, &net->source);
    *out = &net->base;
    return 0;
}

struct sim_exchange *sim_exchange_create(struct sim_net *caller)
{
    struct sim_exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL)
        return NULL;
    exchange->world = caller->world;
    exchange->references = 1;
    exchange->number = caller->world->next_call++;
    exchange->caller = caller;
    list_push_back(&caller->world->exchanges, &exchange->node);
    return exchange;
}

void sim_exchange_put(struct sim_exchange *exchange)
{
    CHECK(exchange->references > 0);
    if (--exchange->references > 0)
        return;
    list_remove(&exchange->node);
    free(exchange);
}
