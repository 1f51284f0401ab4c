/* SPDX-License-Identifier: Apache-2.0 */
#include "node/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "node/node_private.h"
#include "shoal/error.h"

static void default_u(unsigned *value, unsigned otherwise)
{
    if (*value == 0)
        *value = otherwise;
}

static void default_u64(uint64_t *value, uint64_t otherwise)
{
    if (*value == 0)
        *value = otherwise;
}

static void config_defaults(struct node_config *config)
{
    default_u(&config->client_fibers, 128);
    default_u(&config->member_fibers, 256);
    default_u(&config->control_fibers, 64);
    default_u(&config->call_fibers, 512);
    default_u(&config->client_calls, 64);
    default_u(&config->peer_calls, 128);
    default_u(&config->window, 16384);
    default_u64(&config->call_ns, 3 * NODE_S);
    default_u64(&config->put_ns, 10 * NODE_S);
    default_u64(&config->wait_ns, 3 * NODE_S);
    default_u64(&config->commit_batch_ns, 10 * NODE_MS);
    default_u64(&config->heartbeat_ns, 500 * NODE_MS);
    default_u64(&config->slow_ns, 5 * NODE_S);
    default_u64(&config->tombstone_s, 60);
    default_u64(&config->upload_s, 60);
    default_u64(&config->care_ns, NODE_S);
    default_u64(&config->scrub_bytes_per_s, 32u << 20);
    default_u64(&config->scrub_pause_ns, 600 * NODE_S);
    default_u64(&config->catch_up_bytes_per_s, 256u << 20);
}

static void metrics_register(struct node *node)
{
    struct metrics *metrics = node->metrics;
    char which[32];
    snprintf(which, sizeof which, "reactor=\"%u\"", node->config.part);
    for (uint16_t type = 0; type < NODE_TYPES; type++) {
        const char *name = wire_type_name(type);
        if (name == NULL)
            continue;
        char label[96];
        snprintf(label, sizeof label, "op=\"%s\",reactor=\"%u\"", name, node->config.part);
        struct request_metrics *m = &node->request_metrics[type];
        m->count = metric_counter(metrics, "shoal_node_requests_total", "Requests answered.", label);
        m->errors = metric_counter(metrics, "shoal_node_request_errors_total",
                                   "Requests answered with an error.", label);
        m->seconds = metric_histogram(metrics, "shoal_node_request_seconds",
                                      "From a request's arrival to its answer.", label);
    }
    node->puts_replayed = metric_counter(metrics, "shoal_node_requests_replayed_total",
                                         "Retries that got their old answer.", which);
    node->prepares_refused = metric_counter(metrics, "shoal_node_prepares_refused_total",
                                            "Prepares below low water or aborted before.", which);
    node->settled_forward = metric_counter(metrics, "shoal_node_settled_forward_total",
                                           "Prepared writes that settling committed.", which);
    node->settled_back = metric_counter(metrics, "shoal_node_settled_back_total",
                                        "Prepared writes that settling aborted.", which);
    node->repaired = metric_counter(metrics, "shoal_node_pieces_repaired_total",
                                    "Damaged pieces rebuilt from the others.", which);
    node->damaged_found = metric_counter(metrics, "shoal_node_pieces_damaged_total",
                                         "Pieces found damaged by reading or scrubbing.", which);
    node->caught_up_objects = metric_counter(metrics, "shoal_node_catch_up_objects_total",
                                             "Pieces fetched or dropped by learners.", which);
    node->evicted = metric_counter(metrics, "shoal_node_evicted_total",
                                   "Blobs evicted from caches.", which);
    node->tombstones_collected = metric_counter(metrics, "shoal_node_tombstones_collected_total",
                                                "Tombstones that were no longer needed.", which);
    node->stripes_collected = metric_counter(metrics, "shoal_node_stripes_collected_total",
                                             "Stripes of dead uploads that were removed.", which);
}

static int target_create(struct node *node, struct target *t,
                         const struct node_target_config *config)
{
    t->node = node;
    t->id = config->id;
    t->engine = config->engine;
    t->shared = group_target_of(node->group, config->id);
    t->device_stale = config->stale;
    headway_create(t, node->metrics);
    list_init(&t->versioned);
    list_init(&t->orphans);
    list_init(&t->aborted_list);
    list_init(&t->commits);
    list_init(&t->damaged);
    list_init(&t->storing);
    list_init(&t->touches);
    fiber_queue_init(&t->stored);
    fiber_queue_init(&t->settle_wake);
    fiber_queue_init(&t->learn_wake);
    fiber_queue_init(&t->commit_wake);
    fiber_queue_init(&t->orphan_wake);
    fiber_queue_init(&t->repair_wake);
    fiber_queue_init(&t->learn_piece_free);
    uint64_t seed = prng_next(reactor_prng(node->reactor));
    uint32_t installs = node->config.control_fibers + NODE_LEARN_PIECES + 8;
    t->object_pool = pool_create("objects", sizeof(struct object), NODE_OBJECTS_MAX, 0);
    t->objects = table_create(NODE_OBJECTS_MAX, offsetof(struct object, id), sizeof(struct blob_id),
                              seed);
    t->install_pool = pool_create("installs", sizeof(struct install), installs, 0);
    t->installs = table_create(installs, offsetof(struct install, id), sizeof(struct blob_id),
                               seed + 1);
    t->learn_pieces = learn_pieces_create();
    t->aborted_pool = pool_create("aborted", sizeof(struct aborted), NODE_ABORTED_MAX, 0);
    t->aborted = table_create(NODE_ABORTED_MAX, offsetof(struct aborted, id),
                              sizeof(struct blob_id), seed + 2);
    if (t->object_pool == NULL || t->objects == NULL || t->install_pool == NULL ||
        t->installs == NULL || t->learn_pieces == NULL || t->aborted_pool == NULL ||
        t->aborted == NULL)
        return SHOAL_E_NO_MEMORY;
    return window_create(&t->window, node->config.window, seed + 3);
}

static void target_destroy(struct target *t)
{
    void *each;
    uint64_t cursor = 0;
    while (t->objects != NULL && (each = table_next(t->objects, &cursor)) != NULL)
        pool_put(t->object_pool, each);
    for (cursor = 0; t->aborted != NULL && (each = table_next(t->aborted, &cursor)) != NULL;)
        pool_put(t->aborted_pool, each);
    commit_queues_free(t);
    upload_touches_free(t);
    table_destroy(t->objects);
    pool_destroy(t->object_pool);
    table_destroy(t->installs);
    pool_destroy(t->install_pool);
    pool_destroy(t->learn_pieces);
    table_destroy(t->aborted);
    pool_destroy(t->aborted_pool);
    window_destroy(&t->window);
    for (unsigned i = 0; i < t->slots_count; i++)
        free(t->slots[i].flags);
    free(t->slots);
    free(t->low_water);
}

/* Those who ask are as many as the nodes, and each asks one question at a time. */
#define LEASE_FIBERS 32u

static int pools_create(struct node *node)
{
    const struct node_config *c = &node->config;
    unsigned requests = c->client_fibers + c->member_fibers + c->control_fibers + LEASE_FIBERS;
    node->request_pool = pool_create("requests", sizeof(struct request), requests, 0);
    if (node->request_pool == NULL)
        return SHOAL_E_NO_MEMORY;
    struct {
        const char *name;
        unsigned count;
        struct fiber_pool **pool;
    } pools[] = {
        {"client", c->client_fibers, &node->pools[CLASS_CLIENT]},
        {"member", c->member_fibers, &node->pools[CLASS_MEMBER]},
        {"control", c->control_fibers, &node->pools[CLASS_CONTROL]},
        {"lease", LEASE_FIBERS, &node->pools[CLASS_LEASE]},
        {"calls", c->call_fibers, &node->calls},
        {"learners", (NODE_LEARN_SLOTS + NODE_LEARN_PIECES) * c->targets_count, &node->learners},
        {"loops", 5 + 8 * c->targets_count, &node->loops},
    };
    for (unsigned i = 0; i < ARRAY_LEN(pools); i++) {
        int error = fiber_pool_create(node->reactor, pools[i].name, pools[i].count, 0,
                                      pools[i].pool);
        if (error != 0)
            return error;
    }
    return 0;
}

/* The map that this node adopted last: it never goes back behind it (R1). */
static int load_map(struct node *node)
{
    void *bytes = NULL;
    size_t len = 0;
    if (node->config.store.load == NULL || !node_leads(node))
        return 0; /* the others get it from who leads */
    int error = node->config.store.load(node->config.store.ctx, &bytes, &len);
    if (error == SHOAL_E_NOT_FOUND)
        return 0;
    if (error == 0)
        error = cluster_map_decode(bytes, len, &node->map);
    if (error == 0)
        error = cluster_map_place(node->map, NULL);
    free(bytes);
    return error;
}

int node_create(const struct node_config *config, struct node **out)
{
    if (config->targets_count == 0 || config->targets_count > NODE_TARGETS_MAX)
        return SHOAL_E_INVALID;
    struct node *node = calloc(1, sizeof *node);
    if (node == NULL)
        return SHOAL_E_NO_MEMORY;
    node->config = *config;
    config_defaults(&node->config);
    node->reactor = config->reactor;
    int error = 0;
    if (config->group == NULL)
        error = node_group_create(&node->config, 1, &node->own_group);
    if (error != 0) {
        free(node);
        return error;
    }
    node->group = node->config.group;
    node->part = &node->group->parts[node->config.part];
    node->metrics = config->metrics;
    fiber_mutex_init(&node->adopting);
    fiber_queue_init(&node->map_wake);
    fiber_queue_init(&node->adopted);
    fiber_queue_init(&node->stop_wake);
    fiber_queue_init(&node->lease_wake);
    fiber_group_init(&node->running);
    pace_init(node);
    if (node->metrics == NULL) {
        node->metrics = node->own_metrics = metrics_create();
        error = node->metrics == NULL ? SHOAL_E_NO_MEMORY : 0;
    }
    if (error == 0) {
        metrics_register(node);
        error = pools_create(node);
        if (error == 0)
            error = leases_create(node);
    }
    if (error == 0 && node->group->parts_count > 1)
        error = net_relay_create(node->reactor,
                                 node->config.client_fibers + node->config.member_fibers,
                                 &node->relay);
    for (unsigned i = 0; error == 0 && i < config->targets_count; i++) {
        node->targets_count++;
        error = target_create(node, &node->targets[i], &config->targets[i]);
    }
    if (error == 0)
        error = load_map(node);
    if (error != 0) {
        node->stopping = true;
        node_destroy(node);
        return error;
    }
    node->part->node = node;
    *out = node;
    return 0;
}

static void start_loop(struct node *node, void (*loop)(void *arg), void *arg)
{
    fiber_group_add(&node->running);
    CHECK(fiber_spawn(node->loops, loop, arg) == 0);
}

int node_start(struct node *node)
{
    const struct node_config *c = &node->config;
    struct net_service service = {.request = node_request, .ctx = node};
    int error = net_listen(c->data, c->data_address, &service, &node->data_listener);
    bool same = c->data == c->replication &&
                strcmp(c->data_address, c->replication_address) == 0;
    if (error == 0 && !same)
        error = net_listen(c->replication, c->replication_address, &service,
                           &node->replication_listener);
    if (error != 0)
        return error;
    start_loop(node, node_leads(node) ? node_keeper : group_follow, node);
    if (node_leads(node) && node->map != NULL)
        group_offer(node);
    start_loop(node, node_heartbeat, node);
    if (node_leads(node))
        start_loop(node, node_leaser, node);
    for (unsigned i = 0; i < node->targets_count; i++) {
        start_loop(node, node_settler, &node->targets[i]);
        start_loop(node, node_learner, &node->targets[i]);
        start_loop(node, node_committer, &node->targets[i]);
        start_loop(node, node_orphans, &node->targets[i]);
        start_loop(node, node_repairer, &node->targets[i]);
        start_loop(node, node_carer, &node->targets[i]);
        start_loop(node, node_scrubber, &node->targets[i]);
    }
    return 0;
}

const char *node_data_address(const struct node *node)
{
    return net_listener_address(node->data_listener);
}

const char *node_replication_address(const struct node *node)
{
    return net_listener_address(node->replication_listener != NULL ? node->replication_listener
                                                                   : node->data_listener);
}

const struct cluster_map *node_map(const struct node *node)
{
    return node->map;
}

bool node_is_settled(const struct node *node)
{
    if (!node->serving)
        return false;
    for (unsigned i = 0; i < node->targets_count; i++) {
        const struct target *t = &node->targets[i];
        if (!t->serving || t->unsettled > 0 || t->learner_since != 0 || engine_stopped(t->engine))
            return false;
    }
    return true;
}

bool node_pause(struct node *node, uint64_t duration_ns)
{
    if (!node->stopping)
        fiber_queue_wait_until(&node->stop_wake, node_now(node) + duration_ns);
    return !node->stopping;
}

static void wake_everything(struct node *node)
{
    fiber_queue_wake_all(&node->stop_wake);
    fiber_queue_wake_all(&node->map_wake);
    fiber_queue_wake_all(&node->adopted);
    fiber_queue_wake_all(&node->lease_wake);
    for (unsigned i = 0; i < node->targets_count; i++) {
        fiber_queue_wake_all(&node->targets[i].settle_wake);
        fiber_queue_wake_all(&node->targets[i].learn_wake);
        fiber_queue_wake_all(&node->targets[i].commit_wake);
        fiber_queue_wake_all(&node->targets[i].orphan_wake);
        fiber_queue_wake_all(&node->targets[i].repair_wake);
        fiber_queue_wake_all(&node->targets[i].stored);
        objects_slot_lost(&node->targets[i]);
    }
}

void node_stop(struct node *node)
{
    node->stopping = true;
    node->serving = false;
    for (unsigned i = 0; i < node->targets_count; i++)
        node->targets[i].serving = false;
    wake_everything(node);
    node_peers_close(node);
    if (node->data_listener != NULL)
        net_listener_close(node->data_listener);
    if (node->replication_listener != NULL)
        net_listener_close(node->replication_listener);
    node->data_listener = node->replication_listener = NULL;
    fiber_group_wait(&node->running);
    node_peers_close(node);
    for (unsigned i = 0; i < CLASS_COUNT; i++)
        while (fiber_pool_in_use(node->pools[i]) > 0)
            fiber_yield();
    if (node->relay != NULL)
        net_relay_destroy(node->relay);
    node->relay = NULL;
}

void node_destroy(struct node *node)
{
    CHECK(node->stopping);
    for (unsigned i = 0; i < node->targets_count; i++)
        target_destroy(&node->targets[i]);
    for (unsigned i = 0; i < CLASS_COUNT; i++)
        if (node->pools[i] != NULL)
            fiber_pool_destroy(node->pools[i]);
    leases_destroy(node);
    if (node->calls != NULL)
        fiber_pool_destroy(node->calls);
    if (node->learners != NULL)
        fiber_pool_destroy(node->learners);
    if (node->loops != NULL)
        fiber_pool_destroy(node->loops);
    pool_destroy(node->request_pool);
    cluster_map_free(node->map);
    metrics_destroy(node->own_metrics);
    node->part->node = NULL;
    node_group_destroy(node->own_group);
    free(node);
}

const struct ec_code *node_code(struct node *node, unsigned k, unsigned m)
{
    struct ec_code *code = &node->codes[k][m];
    if (code->k == 0)
        CHECK(ec_code_init(code, k, m) == 0);
    return code;
}
