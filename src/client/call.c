/* SPDX-License-Identifier: Apache-2.0 */
/* One message and its answer; whom to ask, and whether to ask again. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "client/client_private.h"

#define BACKOFF_FIRST_NS UINT64_C(500000)
#define BACKOFF_MAX_NS UINT64_C(200000000)
/* How long an operation puts up with too few members before it says so. */
#define PATIENCE_NS UINT64_C(4000000000)
/* A retry under an old request id is answered from a window of this length; see R8. */
#define RETRY_WINDOW_NS UINT64_C(30000000000)

#define VERB_DEFINE(name)                                                                          \
    static size_t name##_out(void *buffer, size_t size, const struct wire_head *head,              \
                             const void *message)                                                  \
    {                                                                                              \
        return wire_##name##_encode(buffer, size, head, message);                                  \
    }                                                                                              \
    static int name##_in(struct decoder *in, void *reply)                                          \
    {                                                                                              \
        return wire_##name##_reply_decode(in, reply);                                              \
    }                                                                                              \
    const struct verb verb_##name = {WIRE_##name, name##_out, name##_in};
VERBS(VERB_DEFINE)
#undef VERB_DEFINE

/* ---- peers ---- */

static struct client_peer *peer_find(struct client *client, const char *address, const char *name)
{
    list_for_each(&client->peers, struct client_peer, node, peer) {
        if (strcmp(peer->address, address) == 0)
            return peer;
    }
    struct client_peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return NULL;
    strncpy(peer->address, address, sizeof peer->address - 1);
    if (net_peer_open(client->net, address, name, client->config.calls_max, &peer->peer) != 0) {
        free(peer);
        return NULL;
    }
    list_push_back(&client->peers, &peer->node);
    return peer;
}

/* ---- calls that last ---- */

/*
 * Who does not answer may be cut off, and only others know that it is not up any more: nothing ends a call to
 * it. So when one lasts, somebody else is asked for a newer map, and it ends if the map says so.
 */
#define WATCH_NS UINT64_C(500000000)
#define LASTING_NS UINT64_C(700000000)

void exchanges_end_lost(struct client *client)
{
    const struct cluster_map *map = client->view->map;
    list_for_each(&client->exchanges, struct exchange, node, exchange) {
        if (exchange->to >= map->nodes_count)
            continue;
        const struct map_node *node = &map->nodes[exchange->to];
        if (!node->up || node->incarnation != exchange->incarnation)
            net_call_cancel(exchange->peer, exchange->call);
    }
}

static bool one_lasts(const struct client *client)
{
    uint64_t now = reactor_now_ns(client->reactor);
    list_for_each(&client->exchanges, struct exchange, node, exchange)
        if (exchange->to != UINT32_MAX && now - exchange->began_ns > LASTING_NS)
            return true;
    return false;
}

static void watch(void *arg)
{
    struct client *client = arg;
    while (!client->closing && !list_empty(&client->exchanges)) {
        uint64_t until = reactor_now_ns(client->reactor) + WATCH_NS;
        fiber_queue_wait_until(&client->watch, until);
        if (!client->closing && one_lasts(client))
            (void)client_refresh(client, until + WATCH_NS);
    }
    client->watching = false;
    fiber_queue_wake_all(&client->watch);
}

void exchanges_unwatch(struct client *client)
{
    client->closing = true;
    fiber_queue_wake_all(&client->watch);
    while (client->watching)
        fiber_queue_wait(&client->watch);
}

/* ---- one exchange ---- */

static int exchange_run(struct client *client, struct net_peer *peer, struct wire_head *head,
                        struct exchange *exchange, uint64_t *answer_epoch)
{
    uint8_t header[WIRE_MESSAGE_MAX], reply_header[WIRE_MESSAGE_MAX];
    head->type = exchange->verb->type;
    size_t len = exchange->verb->encode(header, sizeof header, head, exchange->message);
    if (len == 0)
        return SHOAL_E_TOO_LARGE;
    struct net_call call = {
        .header = header, .header_len = len,
        .payload = exchange->payload, .payload_count = exchange->payload_count,
        .reply_payload = exchange->into, .reply_payload_count = exchange->into_count,
        .deadline_ns = exchange->deadline_ns,
        .reply_header = reply_header, .reply_header_len = sizeof reply_header,
    };
    if (exchange->cancelled || client->closing)
        return SHOAL_E_CANCELLED;
    exchange->peer = peer;
    exchange->call = &call;
    exchange->began_ns = reactor_now_ns(client->reactor);
    list_push_back(&client->exchanges, &exchange->node);
    if (!client->watching)
        client->watching = fiber_spawn(client->fibers, watch, client) == 0;
    int rc = net_call(peer, &call);
    list_remove(&exchange->node);
    exchange->call = NULL;
    if (rc != 0)
        return rc == SHOAL_E_CANCELLED && !exchange->cancelled ? SHOAL_E_CONNECTION : rc;

    struct wire_head answer;
    struct decoder in = decoder_init(reply_header, call.reply_header_len);
    wire_head_decode(&in, &answer);
    if (!decoder_ok(&in) || answer.type != head->type) {
        LOG_WARN("client: an answer that is none to a %s", wire_type_name(head->type));
        return SHOAL_E_VERSION;
    }
    *answer_epoch = answer.epoch;
    if (answer.status != 0)
        return -(int)answer.status;
    exchange->got = call.reply_payload_len;
    exchange->got_crc = call.reply_payload_crc;
    return exchange->verb->decode(&in, exchange->reply) == 0 ? 0 : SHOAL_E_VERSION;
}

int exchange_with_address(struct client *client, const char *address, const char *name,
                          struct exchange *exchange)
{
    struct client_peer *peer = peer_find(client, address, name);
    if (peer == NULL)
        return SHOAL_E_CONNECTION;
    struct wire_head head = {.target = WIRE_NO_TARGET,
                             .epoch = client->view != NULL ? client->view->map->epoch : 0};
    struct prng *prng = reactor_prng(client->reactor);
    head.request = (struct blob_request_id){prng_next(prng), prng_next(prng)};
    exchange->to = UINT32_MAX;
    uint64_t epoch;
    peer->users++;
    int rc = exchange_run(client, peer->peer, &head, exchange, &epoch);
    peer->users--;
    return rc;
}

static int exchange_in_view(struct operation *op, struct view *view, uint32_t node, uint32_t target,
                            struct exchange *exchange)
{
    struct client *client = op->client;
    const struct map_node *map_node = &view->map->nodes[node];
    if (!map_node->up)
        return SHOAL_E_CONNECTION;
    if (view->peers[node] == NULL) {
        struct client_peer *peer = peer_find(client, map_node->data, map_node->name);
        if (peer == NULL)
            return SHOAL_E_CONNECTION;
        peer->users++;
        view->peers[node] = peer;
    }
    uint64_t limit = reactor_now_ns(client->reactor) + client->config.call_ns;
    if (exchange->deadline_ns == 0 || exchange->deadline_ns > op->deadline_ns)
        exchange->deadline_ns = op->deadline_ns;
    exchange->deadline_ns = MIN(exchange->deadline_ns, limit);
    exchange->to = node;
    exchange->incarnation = map_node->incarnation;
    struct wire_head head = {
        .target = target, .epoch = view->map->epoch, .request = op->request};
    uint64_t epoch = 0;
    return exchange_run(client, view->peers[node]->peer, &head, exchange, &epoch);
}

int exchange_with_target(struct operation *op, struct view *view, const struct map_target *target,
                         struct exchange *exchange)
{
    return exchange_in_view(op, view, target->node, target->id, exchange);
}

int exchange_with_node(struct operation *op, struct view *view, uint32_t node,
                       struct exchange *exchange)
{
    return exchange_in_view(op, view, node, WIRE_NO_TARGET, exchange);
}

void exchange_cancel(struct exchange *exchange)
{
    exchange->cancelled = true;
    if (exchange->call != NULL)
        net_call_cancel(exchange->peer, exchange->call);
}

/* ---- operations ---- */

static int find_pool(struct operation *op)
{
    for (unsigned round = 0; round < 2; round++) {
        const struct cluster_map *map = client_map(op->client);
        const struct map_pool *pool = cluster_map_pool_named(map, op->pool_name);
        if (pool != NULL) {
            op->pool = *pool;
            op->id.pool = pool->id;
            return 0;
        }
        /* It may have been created since. */
        if (round == 0)
            (void)client_refresh(op->client, op->deadline_ns);
    }
    return SHOAL_E_NO_POOL;
}

int operation_begin(struct operation *op, struct client *client, const struct client_blob *blob)
{
    uint64_t now = reactor_now_ns(client->reactor);
    struct prng *prng = reactor_prng(client->reactor);
    *op = (struct operation){
        .client = client,
        .deadline_ns = blob->deadline_ns != 0 ? blob->deadline_ns : now + client->config.timeout_ns,
        .request = blob->request,
        .pool_name = blob->pool,
    };
    if (op->request.hi == 0 && op->request.lo == 0)
        op->request = (struct blob_request_id){prng_next(prng), prng_next(prng) | 1};
    if (blob->name_len > BLOB_NAME_MAX)
        return SHOAL_E_TOO_LARGE;
    if (blob->name_len > 0 && memchr(blob->name, 0, blob->name_len) != NULL)
        return SHOAL_E_INVALID;
    op->name = blob->name;
    op->name_len = (uint16_t)blob->name_len;
    op->id.key = blob->name_len > 0 ? blob_key_of_name(blob->name, blob->name_len) : blob->key;
    if (client->operations >= client->config.operations_max)
        return SHOAL_E_BUSY;
    client->operations++;
    int rc = client_connect(client, op->deadline_ns);
    if (rc == 0)
        rc = find_pool(op);
    if (rc != 0)
        client->operations--;
    return rc;
}

void operation_end(struct operation *op)
{
    CHECK(op->client->operations > 0);
    op->client->operations--;
}

void operation_fork(struct operation *part, const struct operation *op)
{
    struct prng *prng = reactor_prng(op->client->reactor);
    *part = *op;
    part->request = (struct blob_request_id){prng_next(prng), prng_next(prng) | 1};
    part->tries = 0;
    part->unknown = false;
    part->last_error = 0;
    part->trouble_since_ns = 0;
}

static bool refreshes(int error)
{
    return error == SHOAL_E_STALE_EPOCH || error == SHOAL_E_NOT_PRIMARY ||
           error == SHOAL_E_CONNECTION || error == SHOAL_E_NOT_SERVING ||
           error == SHOAL_E_UNAVAILABLE || error == SHOAL_E_TIMEOUT;
}

static bool repeatable(int error)
{
    return refreshes(error) || error == SHOAL_E_NEWER_EPOCH || error == SHOAL_E_BUSY ||
           error == SHOAL_E_CHANGED || error == SHOAL_E_SHUTDOWN || error == SHOAL_E_PREPARED ||
           error == SHOAL_E_LOW_WATER;
}

bool operation_again(struct operation *op, int error)
{
    struct client *client = op->client;
    if (!repeatable(error) || client->closing)
        return false;
    op->last_error = error;
    if (error == SHOAL_E_CONNECTION || error == SHOAL_E_TIMEOUT || error == SHOAL_E_SHUTDOWN)
        op->unknown = true;
    uint64_t now = reactor_now_ns(client->reactor);
    if (error != SHOAL_E_UNAVAILABLE && error != SHOAL_E_CONNECTION)
        op->trouble_since_ns = 0;
    else if (op->trouble_since_ns == 0)
        op->trouble_since_ns = now;
    else if (now - op->trouble_since_ns > PATIENCE_NS)
        return false;
    if (now >= op->deadline_ns)
        return false;

    uint64_t epoch = client->view != NULL ? client->view->map->epoch : 0;
    if (refreshes(error))
        (void)client_refresh(client, op->deadline_ns);
    bool newer = client->view != NULL && client->view->map->epoch > epoch;
    unsigned shift = MIN(op->tries, 9u);
    op->tries++;
    if (!newer) {
        /* Between half and the whole of the pause, so that many clients do not return as one. */
        uint64_t pause = MIN(BACKOFF_FIRST_NS << shift, BACKOFF_MAX_NS);
        pause = prng_between(reactor_prng(client->reactor), pause / 2, pause);
        fiber_sleep_until(MIN(reactor_now_ns(client->reactor) + pause, op->deadline_ns));
    }
    return reactor_now_ns(client->reactor) < op->deadline_ns;
}

int operation_error(const struct operation *op, int error)
{
    if (!repeatable(error))
        return error;
    if (op->client->closing)
        return SHOAL_E_CANCELLED;
    if (op->unknown && error != SHOAL_E_UNAVAILABLE)
        return SHOAL_E_TIMEOUT;
    if (error == SHOAL_E_STALE_EPOCH || error == SHOAL_E_NEWER_EPOCH ||
        error == SHOAL_E_NOT_PRIMARY || error == SHOAL_E_NOT_SERVING ||
        error == SHOAL_E_CONNECTION || error == SHOAL_E_PREPARED || error == SHOAL_E_SHUTDOWN)
        return SHOAL_E_UNAVAILABLE;
    return error;
}

/* R8: a primary that does not know the request must hear that another may have executed it. */
static void note_try(struct exchange *exchange, uint64_t epoch)
{
    if (exchange->retry == NULL)
        return;
    *exchange->retry = *exchange->first_epoch != 0;
    if (!*exchange->retry)
        *exchange->first_epoch = epoch;
}

int ask_primary(struct operation *op, const struct blob_id *id, struct exchange *exchange)
{
    struct client *client = op->client;
    uint64_t stop = MIN(op->deadline_ns, reactor_now_ns(client->reactor) + RETRY_WINDOW_NS);
    op->deadline_ns = stop;
    for (;;) {
        struct view *view = view_hold(client);
        const struct map_pool *pool = cluster_map_pool(view->map, id->pool);
        int rc;
        if (pool == NULL) {
            rc = SHOAL_E_NO_POOL;
        } else {
            struct target_set set;
            cluster_map_set(view->map, pool, id, &set);
            exchange->deadline_ns = 0;
            if (set.primary < 0) {
                rc = SHOAL_E_UNAVAILABLE;
            } else {
                note_try(exchange, view->map->epoch);
                rc = exchange_with_target(op, view, set.targets[set.primary], exchange);
            }
        }
        view_release(client, view);
        if (rc == 0 || !operation_again(op, rc))
            return operation_error(op, rc);
    }
}
