/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/sim.h"
#include "shoal/error.h"

static const char *const kind_names[] = {"call",   "pull",   "data",  "reply",
                                         "refuse", "cancel", "broken"};

uint64_t sim_now(const struct net_sim_world *world)
{
    return world->clock->now_ns(world->clock->ctx);
}

void sim_trace(struct net_sim_world *world, const char *what, const struct sim_message *message)
{
    if (world->trace == NULL)
        return;
    const struct net_sim_event event = {.at_ns = sim_now(world),
                                        .what = what,
                                        .kind = kind_names[message->kind],
                                        .from = message->from->name,
                                        .to = message->to->host->name,
                                        .call = message->exchange->number,
                                        .header_len = message->header_len,
                                        .payload_len = message->payload_len};
    world->trace(world->trace_ctx, &event);
}

static bool earlier(const struct sim_message *a, const struct sim_message *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void heap_push(struct sim_net *net, struct sim_message *message)
{
    if (net->heap_count == net->heap_room) {
        net->heap_room = net->heap_room == 0 ? 64 : net->heap_room * 2;
        net->heap = realloc(net->heap, net->heap_room * sizeof *net->heap);
        CHECK(net->heap != NULL);
    }
    size_t at = net->heap_count++;
    while (at > 0 && earlier(message, net->heap[(at - 1) / 2])) {
        net->heap[at] = net->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    net->heap[at] = message;
}

static struct sim_message *heap_pop(struct sim_net *net)
{
    struct sim_message *first = net->heap[0];
    struct sim_message *last = net->heap[--net->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= net->heap_count)
            break;
        if (child + 1 < net->heap_count && earlier(net->heap[child + 1], net->heap[child]))
            child++;
        if (!earlier(net->heap[child], last))
            break;
        net->heap[at] = net->heap[child];
        at = child;
    }
    net->heap[at] = last;
    return first;
}

static void message_free(struct sim_message *message)
{
    sim_exchange_put(message->exchange);
    free(message);
}

static struct sim_message *message_create(struct sim_host *from, struct sim_net *to,
                                          struct sim_exchange *exchange, enum sim_kind kind,
                                          size_t bytes)
{
    struct sim_message *message = malloc(sizeof *message + bytes);
    CHECK(message != NULL);
    memset(message, 0, sizeof *message);
    list_node_init(&message->node);
    message->kind = kind;
    message->from = from;
    message->to = to;
    message->exchange = exchange;
    exchange->references++;
    message->order = exchange->world->next_order++;
    return message;
}

uint64_t sim_delay(struct net_sim_world *world, const struct sim_host *from,
                   const struct sim_host *to, size_t bytes)
{
    const struct net_sim_faults *faults = &world->faults;
    uint64_t delay = from->extra_ns + to->extra_ns;
    if (from == to)
        return delay;
    delay += faults->delay_ns;
    if (faults->jitter_ns > 0) {
        /* The minimum of three draws: small far more often than large. */
        uint64_t draw = UINT64_MAX;
        for (unsigned i = 0; i < 3; i++) {
            uint64_t one = prng_below(&world->prng, faults->jitter_ns * 8);
            draw = one < draw ? one : draw;
        }
        delay += draw;
    }
    if (faults->bytes_per_s > 0)
        delay += bytes * UINT64_C(1000000000) / faults->bytes_per_s;
    if (faults->slow_ns > 0 && prng_chance(&world->prng, faults->slow_ppm, 1000000))
        delay += prng_below(&world->prng, faults->slow_ns);
    return delay;
}

/* What the faults make of a message: true when it is gone or held. */
static bool befallen(struct sim_message *message)
{
    struct net_sim_world *world = message->exchange->world;
    const struct net_sim_faults *faults = &world->faults;
    if (message->from == message->to->host)
        return false;
    if (sim_is_cut(world, message->from, message->to->host)) {
        if (message->kind == SIM_BROKEN || !prng_chance(&world->prng, faults->held_ppm, 1000000)) {
            sim_trace(world, "lose", message);
            message_free(message);
        } else {
            sim_trace(world, "hold", message);
            list_push_back(&world->held, &message->node);
        }
        return true;
    }
    if (message->kind == SIM_BROKEN)
        return false;
    if (prng_chance(&world->prng, faults->reset_ppm, 1000000)) {
        sim_trace(world, "reset", message);
        struct sim_peer *peer = message->exchange->call != NULL ? message->exchange->peer : NULL;
        message_free(message);
        if (peer != NULL)
            sim_peer_break(peer);
        return true;
    }
    if (prng_chance(&world->prng, faults->loss_ppm, 1000000)) {
        sim_trace(world, "lose", message);
        message_free(message);
        return true;
    }
    return false;
}

static void message_launch(struct sim_message *message)
{
    struct net_sim_world *world = message->exchange->world;
    message->due_ns =
        sim_now(world) + sim_delay(world, message->from, message->to->host, message->payload_len);
    sim_trace(world, "send", message);
    heap_push(message->to, message);
}

void sim_send(struct sim_net *from, struct sim_net *to, struct sim_exchange *exchange,
              enum sim_kind kind, int status, const void *header, size_t header_len,
              const struct iovec *payload, unsigned payload_count)
{
    if (from->dead || to->dead)
        return;
    size_t payload_len = net_iov_bytes(payload, payload_count);
    struct sim_message *message =
        message_create(from->host, to, exchange, kind, header_len + payload_len);
    message->status = status;
    message->header_len = header_len;
    message->payload_len = payload_len;
    if (header_len > 0)
        memcpy(message->data, header, header_len);
    net_iov_gather(message->data + header_len, payload, payload_count, payload_len);
    if (!befallen(message))
        message_launch(message);
}

void sim_send_broken(struct sim_host *from, struct sim_net *to, struct sim_exchange *exchange)
{
    if (to->dead)
        return;
    struct sim_message *message = message_create(from, to, exchange, SIM_BROKEN, 0);
    if (!befallen(message))
        message_launch(message);
}

void sim_release_held(struct net_sim_world *world)
{
    list_for_each(&world->held, struct sim_message, node, message) {
        if (sim_is_cut(world, message->from, message->to->host))
            continue;
        list_remove(&message->node);
        if (message->to->dead)
            message_free(message);
        else
            message_launch(message);
    }
}

/* A crash takes with it some of what had not left the machine yet: half, drawn one by one. */
void sim_drop_sent_by(struct net_sim_world *world, const struct sim_host *host)
{
    list_for_each(&world->nets, struct sim_net, node, net) {
        if (net->host == host)
            continue;
        for (size_t i = 0; i < net->heap_count; i++) {
            struct sim_message *message = net->heap[i];
            if (message->from == host && message->kind != SIM_BROKEN)
                message->dropped |= prng_chance(&world->prng, 1, 2);
        }
    }
    list_for_each(&world->held, struct sim_message, node, message) {
        if (message->from == host || message->to->host == host) {
            list_remove(&message->node);
            message_free(message);
        }
    }
}

void sim_queue_clear(struct sim_net *net)
{
    while (net->heap_count > 0)
        message_free(heap_pop(net));
    free(net->heap);
    net->heap = NULL;
    net->heap_room = 0;
}

/* Everything a crash cuts short, once, on the reactor that must see it. */
static unsigned crash_poll(struct sim_net *net)
{
    net->crash_pending = false;
    sim_queue_clear(net);
    list_for_each(&net->world->exchanges, struct sim_exchange, node, exchange) {
        if (exchange->caller == net && exchange->call != NULL)
            sim_call_end(exchange, SHOAL_E_SHUTDOWN);
        if (exchange->server == net && exchange->listener != NULL)
            sim_request_cancel(exchange, SHOAL_E_SHUTDOWN);
    }
    return 1;
}

unsigned sim_poll(struct reactor_source *source)
{
    struct sim_net *net = container_of(source, struct sim_net, source);
    uint64_t now = sim_now(net->world);
    unsigned done = 0;
    if (net->crash_pending)
        return crash_poll(net);
    while (net->heap_count > 0 && net->heap[0]->due_ns <= now) {
        struct sim_message *message = heap_pop(net);
        done++;
        if (message->dropped) {
            sim_trace(net->world, "drop", message);
        } else {
            sim_trace(net->world, "deliver", message);
            bool to_server = message->kind == SIM_CALL || message->kind == SIM_DATA ||
                             message->kind == SIM_CANCEL;
            if (message->kind == SIM_BROKEN)
                to_server = message->exchange->caller != net;
            if (to_server)
                sim_listen_deliver(message);
            else
                sim_peer_deliver(message);
        }
        message_free(message);
    }
    return done;
}
