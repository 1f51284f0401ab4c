/* SPDX-License-Identifier: Apache-2.0 */
/* The client's life, its view of the map, and its scratch memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/log.h"
#include "client/client_private.h"

#define REFRESH_LIMIT_NS UINT64_C(2000000000)
#define REFRESH_PAUSE_NS UINT64_C(10000000) /* between two questions for a newer map */
#define REFRESH_CALL_NS UINT64_C(1000000000)

static void config_defaults(struct client_config *config)
{
    if (config->timeout_ns == 0)
        config->timeout_ns = UINT64_C(30000000000);
    if (config->hedge_ns == 0)
        config->hedge_ns = UINT64_C(20000000);
    if (config->call_ns == 0)
        config->call_ns = UINT64_C(5000000000);
    if (config->operations_max == 0)
        config->operations_max = 64;
    if (config->calls_max == 0)
        config->calls_max = 256;
    if (config->buffers == 0)
        config->buffers = 8;
    if (config->stripe_max == 0)
        config->stripe_max = 4u << 20;
}

int client_create(struct reactor *reactor, struct net *net, const struct client_config *config,
                  struct client **out)
{
    if (config->seeds_count == 0 || config->buffers > 64 || config->stripe_max > CLIENT_STRIPE_MAX)
        return SHOAL_E_INVALID;
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return SHOAL_E_NO_MEMORY;
    client->reactor = reactor;
    client->net = net;
    client->mute_node = UINT32_MAX;
    client->config = *config;
    config_defaults(&client->config);
    list_init(&client->peers);
    list_init(&client->exchanges);
    fiber_mutex_init(&client->refreshing);
    fiber_queue_init(&client->scratch_waiters);
    fiber_queue_init(&client->watch);

    client->seeds = calloc(config->seeds_count, sizeof *client->seeds);
    /* Reconstruction needs the k pieces read and at most as many made. */
    client->scratch_bytes = 2 * (size_t)client->config.stripe_max + (size_t)2 * BLOB_SET_MAX * 4096;
    size_t scratch_bytes = client->scratch_bytes * client->config.buffers;
    client->scratch = mmap(NULL, scratch_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (client->seeds == NULL || client->scratch == MAP_FAILED)
        goto no_memory;
    for (unsigned i = 0; i < config->seeds_count; i++) {
        if (strlen(config->seeds[i]) >= NET_ADDRESS_MAX)
            goto no_memory;
        snprintf(client->seeds[i], NET_ADDRESS_MAX, "%s", config->seeds[i]);
    }
    client->config.seeds = NULL;
    client->scratch_free = client->config.buffers == 64
                               ? UINT64_MAX
                               : (UINT64_C(1) << client->config.buffers) - 1;
    if (fiber_pool_create(reactor, "client pieces", client->config.operations_max * 4, 0,
                          &client->fibers) != 0)
        goto no_memory;
    *out = client;
    return 0;

no_memory:
    if (client->scratch != MAP_FAILED)
        munmap(client->scratch, scratch_bytes);
    free(client->seeds);
    free(client);
    return SHOAL_E_NO_MEMORY;
}

void client_cancel_all(struct client *client)
{
    client->closing = true;
    list_for_each(&client->exchanges, struct exchange, node, exchange) {
        exchange_cancel(exchange);
    }
}

static void peer_drop(struct client_peer *peer)
{
    CHECK(peer->users > 0);
    peer->users--;
}

static void view_free(struct view *view)
{
    for (uint32_t i = 0; i < view->map->nodes_count; i++)
        if (view->peers[i] != NULL)
            peer_drop(view->peers[i]);
    cluster_map_free(view->map);
    free(view->peers);
    free(view);
}

void client_close(struct client *client)
{
    CHECK_MSG(client->operations == 0, "%u operations are still under way", client->operations);
    exchanges_unwatch(client);
    if (client->view != NULL) {
        CHECK(client->view->holders == 1);
        view_free(client->view);
        client->view = NULL;
    }
    list_for_each(&client->peers, struct client_peer, node, peer) {
        net_peer_close(peer->peer);
        list_remove(&peer->node);
        free(peer);
    }
}

void client_destroy(struct client *client)
{
    CHECK_MSG(client->view == NULL && list_empty(&client->peers), "the client was not closed");
    fiber_pool_destroy(client->fibers);
    munmap(client->scratch, client->scratch_bytes * client->config.buffers);
    free(client->seeds);
    free(client);
}

/* ---- views ---- */

struct view *view_hold(struct client *client)
{
    if (client->view != NULL)
        client->view->holders++;
    return client->view;
}

void view_release(struct client *client, struct view *view)
{
    (void)client;
    CHECK(view->holders > 0);
    if (--view->holders == 0)
        view_free(view);
}

const struct cluster_map *client_map(const struct client *client)
{
    return client->view != NULL ? client->view->map : NULL;
}

static bool map_names(const struct cluster_map *map, const char *address)
{
    for (uint32_t i = 0; i < map->nodes_count; i++)
        if (strcmp(map->nodes[i].data, address) == 0)
            return true;
    return false;
}

/* Peers that no map names any more; their connections would only be kept alive for nothing. */
static void close_idle_peers(struct client *client)
{
    struct list idle;
    list_init(&idle);
    list_for_each(&client->peers, struct client_peer, node, peer) {
        bool named = client->view != NULL && map_names(client->view->map, peer->address);
        if (peer->users == 0 && !named) {
            list_remove(&peer->node);
            list_push_back(&idle, &peer->node);
        }
    }
    list_for_each(&idle, struct client_peer, node, peer) {
        net_peer_close(peer->peer);
        list_remove(&peer->node);
        free(peer);
    }
}

static int adopt(struct client *client, const void *encoded, size_t len)
{
    struct cluster_map *map;
    int rc = cluster_map_decode(encoded, len, &map);
    if (rc != 0)
        return rc;
    struct view *old = client->view;
    bool other_cluster = old != NULL && memcmp(old->map->cluster, map->cluster, 16) != 0;
    if (other_cluster || (old != NULL && map->epoch <= old->map->epoch)) {
        cluster_map_free(map);
        return other_cluster ? SHOAL_E_DENIED : 0;
    }
    struct view *view = calloc(1, sizeof *view);
    if (view != NULL)
        view->peers = calloc(map->nodes_count + 1, sizeof(struct client_peer *));
    if (view == NULL || view->peers == NULL || cluster_map_place(map, old == NULL ? NULL : old->map) != 0) {
        if (view != NULL)
            free(view->peers);
        free(view);
        cluster_map_free(map);
        return SHOAL_E_NO_MEMORY;
    }
    view->map = map;
    view->holders = 1;
    client->view = view;
    LOG_DEBUG("client: adopted the map of epoch %llu", (unsigned long long)map->epoch);
    if (old != NULL)
        view_release(client, old);
    exchanges_end_lost(client);
    return 0;
}

/* Ask one node for its map. Return: 0 when it answered. */
static int ask_for_map(struct client *client, const char *address, const char *name,
                       uint64_t deadline_ns)
{
    uint8_t *buffer = scratch_get(client, deadline_ns);
    if (buffer == NULL)
        return SHOAL_E_BUSY;
    struct wire_map_get question = {
        .have_epoch = client->view != NULL ? client->view->map->epoch : 0};
    struct wire_map_get_reply answer;
    struct iovec into = {buffer, client->scratch_bytes};
    struct exchange exchange = {.verb = &verb_map_get, .message = &question, .reply = &answer,
                                .into = &into, .into_count = 1, .deadline_ns = deadline_ns};
    int rc = exchange_with_address(client, address, name, &exchange);
    if (rc == 0 && exchange.got > 0)
        rc = adopt(client, buffer, exchange.got);
    else if (rc == 0 && client->view == NULL)
        rc = SHOAL_E_NOT_SERVING; /* it has no map either */
    scratch_put(client, buffer);
    return rc;
}

/* A connection error says the least, so anything else is kept in preference to it. */
static int worse(int best, int rc)
{
    return best == 0 || best == SHOAL_E_CONNECTION || best == SHOAL_E_TIMEOUT ? rc : best;
}

/* In turn from @first on, but @mute last if it is one of them: to wait for it costs the most. */
static uint32_t whom_to_ask(uint32_t first, uint32_t i, uint32_t count, uint32_t mute)
{
    if (mute >= count)
        return (first + i) % count;
    uint32_t its_turn = (mute + count - first) % count;
    return i == count - 1 ? mute : (first + i + (i >= its_turn)) % count;
}

static int refresh_from_anybody(struct client *client, uint64_t deadline_ns)
{
    int best = 0;
    struct view *view = view_hold(client);
    if (view != NULL) {
        uint64_t before = view->map->epoch;
        uint32_t count = view->map->nodes_count;
        uint32_t first = count > 0 ? (uint32_t)prng_below(reactor_prng(client->reactor), count) : 0;
        uint32_t mute = client->mute_node;
        /* Two that answer are enough: a newer map spreads among nodes within a heartbeat. */
        unsigned answered = 0;
        for (uint32_t i = 0; i < count && answered < 2; i++) {
            uint32_t index = whom_to_ask(first, i, count, mute);
            const struct map_node *node = &view->map->nodes[index];
            uint64_t limit = reactor_now_ns(client->reactor) + REFRESH_CALL_NS;
            if (!node->up)
                continue;
            int rc = ask_for_map(client, node->data, node->name, MIN(limit, deadline_ns));
            if (rc == SHOAL_E_TIMEOUT)
                client->mute_node = index;
            else if (index == mute)
                client->mute_node = UINT32_MAX;
            answered += rc == 0;
            best = rc == 0 ? best : worse(best, rc);
            if (client->view->map->epoch > before)
                break;
        }
        view_release(client, view);
        if (answered > 0)
            return 0;
    }
    for (unsigned i = 0; i < client->config.seeds_count; i++) {
        uint64_t limit = reactor_now_ns(client->reactor) + REFRESH_CALL_NS;
        int rc = ask_for_map(client, client->seeds[i], NULL, MIN(limit, deadline_ns));
        if (rc == 0)
            return 0;
        best = worse(best, rc);
    }
    return best == 0 ? SHOAL_E_CONNECTION : best;
}

int client_refresh(struct client *client, uint64_t deadline_ns)
{
    uint64_t began = reactor_now_ns(client->reactor);
    fiber_mutex_lock(&client->refreshing);
    int rc = 0;
    /* Somebody else asked while this one waited; to ask again in turn would take each its time. */
    if (client->view == NULL || client->refreshed_ns <= began) {
        uint64_t next = client->refreshed_ns + REFRESH_PAUSE_NS;
        if (client->refreshed_ns != 0 && next > reactor_now_ns(client->reactor))
            fiber_sleep_until(next);
        /* Others wait for this one, and their deadlines may be earlier. */
        uint64_t limit = reactor_now_ns(client->reactor) + REFRESH_LIMIT_NS;
        rc = refresh_from_anybody(client, MIN(deadline_ns, limit));
        client->refreshed_ns = reactor_now_ns(client->reactor);
        close_idle_peers(client);
    }
    fiber_mutex_unlock(&client->refreshing);
    return rc;
}

int client_connect(struct client *client, uint64_t deadline_ns)
{
    if (client->view != NULL)
        return 0;
    int rc;
    for (;;) {
        rc = client_refresh(client, deadline_ns);
        bool transient = rc == SHOAL_E_NOT_SERVING || rc == SHOAL_E_BUSY || rc == SHOAL_E_TIMEOUT;
        if (rc == 0 || !transient || reactor_now_ns(client->reactor) >= deadline_ns)
            return rc;
    }
}

/* ---- scratch memory ---- */

uint8_t *scratch_try(struct client *client)
{
    if (client->scratch_free == 0)
        return NULL;
    unsigned index = (unsigned)__builtin_ctzll(client->scratch_free);
    client->scratch_free &= ~(UINT64_C(1) << index);
    return client->scratch + index * client->scratch_bytes;
}

uint8_t *scratch_get(struct client *client, uint64_t deadline_ns)
{
    uint8_t *buffer;
    while ((buffer = scratch_try(client)) == NULL)
        if (!fiber_queue_wait_until(&client->scratch_waiters, deadline_ns))
            return NULL;
    return buffer;
}

void scratch_put(struct client *client, uint8_t *buffer)
{
    size_t index = (size_t)(buffer - client->scratch) / client->scratch_bytes;
    CHECK(index < client->config.buffers && (client->scratch_free >> index & 1) == 0);
    client->scratch_free |= UINT64_C(1) << index;
    fiber_queue_wake_one(&client->scratch_waiters);
}

const struct ec_code *client_code(struct client *client, unsigned k, unsigned m)
{
    for (unsigned i = 0; i < CLIENT_CODES; i++)
        if (client->codes[i].k == k && client->codes[i].m == m)
            return &client->codes[i];
    struct ec_code *code = &client->codes[client->next_code];
    client->next_code = (client->next_code + 1) % CLIENT_CODES;
    return ec_code_init(code, k, m) == 0 ? code : NULL;
}

/* ---- tasks ---- */

static void task_fiber(void *arg)
{
    struct task *task = arg;
    struct fiber_group *group = task->group;
    task->run(task);
    fiber_group_done(group);
}

void task_start(struct client *client, struct fiber_group *group, struct task *task)
{
    task->group = group;
    fiber_group_add(group);
    if (fiber_spawn(client->fibers, task_fiber, task) != 0)
        task_fiber(task);
}
