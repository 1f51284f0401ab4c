/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "shoal/error.h"
#include "sim.h"

#define AUTHORITY_ADDRESS "authority:1"
#define PARTITION_BITS 4u

/* ---- the authority ---- */

static int save_bytes(void **kept, size_t *kept_len, const void *bytes, size_t len)
{
    void *copy = malloc(len);

    if (copy == NULL)
        return SHOAL_E_NO_MEMORY;
    memcpy(copy, bytes, len);
    free(*kept);
    *kept = copy;
    *kept_len = len;
    return 0;
}

static int authority_save(void *ctx, const void *map, size_t len)
{
    struct sim_authority *authority = ctx;

    /* A dead process saves nothing. */
    if (authority->state == SIM_DYING)
        return SHOAL_E_IO;
    return save_bytes(&authority->map, &authority->map_len, map, len);
}

static void add_pools(struct cluster_map *map)
{
    struct map_pool durable = {
        .name = "durable", .erasure = true, .k = 4, .m = 2, .stripe_size = SIM_STRIPE_BYTES,
        .copies_below = 16u << 10};
    struct map_pool replicated = {
        .name = "replicated", .k = 1, .m = 2, .stripe_size = SIM_STRIPE_BYTES};

    CHECK(map_change_pool_create(map, &durable) == 0);
    CHECK(map_change_pool_create(map, &replicated) == 0);

    /* Smaller than what is put into it, so that it evicts. */
    struct map_pool cache = {
        .name = "cache", .k = 1, .m = 0, .cache = true, .stripe_size = SIM_STRIPE_BYTES,
        .quota_bytes = 600u << 10, .ttl_s = 30};
    CHECK(map_change_pool_create(map, &cache) == 0);
}

static struct cluster_map *first_map(void)
{
    struct cluster_map *map = cluster_map_create();

    CHECK(map != NULL);
    memcpy(map->cluster, "simulated-shoal!", 16);
    map->partition_bits = PARTITION_BITS;
    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct map_node node = {.domain = i};
        snprintf(node.name, sizeof node.name, "node%u", i);
        snprintf(node.data, sizeof node.data, "node%u:1", i);
        snprintf(node.replication, sizeof node.replication, "node%u:1", i);
        CHECK(map_change_node_add(map, &node) == 0);
        CHECK(map_change_target_add(map, i, node.name, 100) == 0);
    }
    add_pools(map);
    CHECK(map_change_publish(map) == 0);
    return map;
}

void authority_boot(struct sim *sim)
{
    struct sim_authority *self = &sim->authority;
    struct authority_config config = {.save = authority_save, .ctx = self};

    self->sim = sim;
    self->state = SIM_RUNNING;
    self->restart_ns = UINT64_MAX;
    host_create(sim, &self->host, "authority", NET_ROLE_AUTHORITY, ++self->boots);
    config.reactor = self->host.reactor;
    config.net = self->host.net;
    if (self->map == NULL)
        config.map = first_map();
    else
        CHECK(cluster_map_decode(self->map, self->map_len, &config.map) == 0);
    CHECK(authority_create(&config, &self->authority) == 0);
    CHECK(authority_listen(self->authority, AUTHORITY_ADDRESS) == 0);
    sim_event(sim, "authority starts");
}

static void authority_end_fiber(void *arg)
{
    struct sim_authority *self = arg;

    authority_stop(self->authority);
}

void authority_die(struct sim *sim)
{
    struct sim_authority *self = &sim->authority;

    sim_event(sim, "authority dies");
    self->state = SIM_DYING;
    net_sim_crash(sim->world, "authority");
    CHECK(fiber_spawn(self->host.fibers, authority_end_fiber, self) == 0);
}

static void net_end_fiber(void *arg)
{
    net_destroy(arg);
}

/* Empty the reactor of what destroying the network leaves to be done. */
static void end_net(struct sim_host *host)
{
    CHECK(fiber_spawn(host->fibers, net_end_fiber, host->net) == 0);
    while (fiber_pool_in_use(host->fibers) > 0)
        CHECK(reactor_poll_once(host->reactor) > 0);
    while (reactor_poll_once(host->reactor) > 0)
        ;
}

static void authority_tick(struct sim *sim)
{
    struct sim_authority *self = &sim->authority;

    if (self->state == SIM_DYING && fiber_pool_in_use(self->host.fibers) == 0) {
        authority_destroy(self->authority);
        self->authority = NULL;
        end_net(&self->host);
        host_destroy(&self->host);
        self->state = SIM_GONE;
    }
    if (self->state == SIM_GONE && sim->now_ns >= self->restart_ns)
        authority_boot(sim);
}

/* ---- noticing deaths ---- */

static void tell_fiber(void *arg)
{
    struct sim_node *node = arg;

    char name[16];

    snprintf(name, sizeof name, "node%u", node->index);
    if (authority_node_died(node->sim->authority.authority, name) != 0)
        node->told_dead = false;
}

/*
 * The authority sees the exit of a node's process, as the supervisor of `shoal up` does: some time
 * after the death, or, when it was dead itself, after its own return.
 */
static void notice_deaths(struct sim *sim)
{
    struct sim_authority *self = &sim->authority;

    if (self->state != SIM_RUNNING)
        return;
    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->told_dead || sim->now_ns < node->tell_ns ||
            (node->state != SIM_DYING && node->state != SIM_GONE))
            continue;
        node->told_dead = true;
        sim_event(sim, "authority notices that node%u is dead", i);
        CHECK(fiber_spawn(self->host.fibers, tell_fiber, node) == 0);
    }
}

/* ---- nodes ---- */

static int node_save(void *ctx, const void *bytes, size_t len)
{
    struct sim_node *node = ctx;

    if (node->state == SIM_DYING)
        return SHOAL_E_IO;
    return save_bytes(&node->map, &node->map_len, bytes, len);
}

static int node_load(void *ctx, void **bytes, size_t *len)
{
    struct sim_node *node = ctx;

    if (node->map == NULL)
        return SHOAL_E_NOT_FOUND;
    *bytes = NULL;
    *len = 0;
    return save_bytes(bytes, len, node->map, node->map_len);
}

static int open_target(struct sim_node *node)
{
    /* Full: a drive whose index has no room for all that is put. */
    const struct engine_config config = {
        .index_max_objects = node->sim->tight && node->index == SIM_TIGHT_NODE ? 64 : 0};
    const struct engine_format_config format = {.target = node->index,
                                                .partition_bits = PARTITION_BITS};
    int error = 0;

    if (!node->formatted)
        error = engine_format(node->dev, node->arena, &format);
    if (error == 0)
        error = engine_open(node->dev, node->arena, &config, &node->engine, &node->report);
    return error;
}

static void configure(struct sim_node *node, struct node_config *config)
{
    *config = (struct node_config){
        .reactor = node->host.reactor,
        .data = node->host.net,
        .replication = node->host.net,
        .arena = node->arena,
        .authority = authority_remote_door(node->authority),
        .store = {node_load, node_save, node},
        .targets_count = 1,
        .client_fibers = 24,
        .member_fibers = 48,
        .control_fibers = 24,
        .call_fibers = 128,
        .window = 512,
        .tombstone_s = 40,
        .upload_s = 20,
    };
    snprintf(config->name, sizeof config->name, "node%u", node->index);
    snprintf(config->data_address, sizeof config->data_address, "node%u:1", node->index);
    snprintf(config->replication_address, sizeof config->replication_address, "node%u:1",
             node->index);
    config->targets[0] = (struct node_target_config){
        .id = node->index,
        .engine = node->engine,
        .stale = node->report.stale,
        .empty = !node->formatted,
    };
}

static void start_fiber(void *arg)
{
    struct sim_node *node = arg;
    struct node_config config;

    int error = open_target(node);
    if (node->state == SIM_DYING)
        return;
    if (error != 0) {
        sim_complain(node->sim, "node%u does not open its drive: %s %s", node->index,
                     shoal_error_name(error), node->report.problem);
        return;
    }
    CHECK(authority_remote_create(node->host.reactor, node->host.net, AUTHORITY_ADDRESS,
                                  &node->authority) == 0);
    configure(node, &config);
    error = node_create(&config, &node->node);
    CHECK_MSG(error == 0, "node_create: %s", shoal_error_name(error));
    node->formatted = true;
    error = node_start(node->node);
    if (error != 0 && node->state != SIM_DYING)
        sim_complain(node->sim, "node%u does not start: %s", node->index, shoal_error_name(error));
    if (node->state == SIM_STARTING)
        node->state = SIM_RUNNING;
}

void node_boot(struct sim_node *node)
{
    static const struct dma_class classes[] = {
        {4096, 96}, {32u << 10, 64}, {256u << 10, 48}};
    struct sim *sim = node->sim;
    char name[16];

    snprintf(name, sizeof name, "node%u", node->index);
    host_create(sim, &node->host, name, NET_ROLE_NODE, ++node->boots);
    CHECK(dma_arena_create(node->host.reactor, classes, ARRAY_LEN(classes), &node->arena) == 0);
    const struct dev_sim_config config = {
        .name = name,
        .seed = sim_seed(sim, "drive", node->boots << 8 | node->index),
        .volatile_cache = true,
        .latency_min_ns = 20000,
        .latency_max_ns = 400000,
    };
    CHECK(dev_sim_open(node->host.reactor, node->store, &config, &node->dev) == 0);
    node->state = SIM_STARTING;
    node->stopped = false;
    node->restart_ns = UINT64_MAX;
    node->patience_ns = 0;
    sim_event(sim, "%s starts", name);
    CHECK(fiber_spawn(node->host.fibers, start_fiber, node) == 0);
}

static void end_fiber(void *arg)
{
    struct sim_node *node = arg;

    node_stop(node->node);
    node->stopped = true;
}

void node_die(struct sim_node *node, bool power)
{
    struct sim *sim = node->sim;

    sim_event(sim, "node%u %s", node->index, power ? "loses power" : "is killed");
    net_sim_crash(sim->world, node->host.name);
    struct prng prng;
    prng_seed(&prng, prng_next(&sim->fault_prng));
    if (power)
        dev_sim_crash(node->dev, &prng);
    else
        dev_sim_kill(node->dev, &prng);
    node->state = SIM_DYING;
    node->told_dead = false;
    node->tell_ns = sim->now_ns + prng_below(&sim->fault_prng, 500 * MS);
}

/* What of a death blocks, after the node has stopped. */
static void close_fiber(void *arg)
{
    struct sim_node *node = arg;

    if (node->engine != NULL)
        engine_close(node->engine, true);
    node->engine = NULL;
    if (node->authority != NULL)
        authority_remote_destroy(node->authority);
    node->authority = NULL;
}

static void finish_death(struct sim_node *node)
{
    if (node->node != NULL && !node->stopped) {
        CHECK(fiber_spawn(node->host.fibers, end_fiber, node) == 0);
        return;
    }
    if (node->node != NULL)
        node_destroy(node->node);
    node->node = NULL;
    if (node->engine != NULL || node->authority != NULL) {
        CHECK(fiber_spawn(node->host.fibers, close_fiber, node) == 0);
        return;
    }
    dev_close(node->dev);
    end_net(&node->host);
    dma_arena_destroy(node->arena);
    host_destroy(&node->host);
    node->dev = NULL;
    node->arena = NULL;
    node->state = SIM_GONE;
    sim_event(node->sim, "node%u is gone", node->index);
}

/* The drive died with the node; it comes back with another, empty one, under the old name. */
static void replace_drive(struct sim_node *node)
{
    dev_sim_store_destroy(node->store);
    CHECK(dev_sim_store_create(SIM_DEVICE_BYTES, &node->store) == 0);
    node->formatted = false;
    node->new_drive = false;
    sim_event(node->sim, "node%u gets a new drive", node->index);
}

/* ---- all of it ---- */

void cluster_tick(struct sim *sim)
{
    authority_tick(sim);
    notice_deaths(sim);
    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->state == SIM_DYING && fiber_pool_in_use(node->host.fibers) == 0)
            finish_death(node);
        /* A target that stopped for good is told of; some time later somebody restarts its node. */
        if (node->state == SIM_RUNNING && engine_stopped(node->engine) &&
            sim->now_ns >= node->patience_ns + 3 * SECOND) {
            if (node->patience_ns != 0) {
                node_die(node, false);
                node->restart_ns = sim->now_ns + SECOND;
            }
            node->patience_ns = node->patience_ns == 0 ? sim->now_ns : 0;
        }
        if (node->state == SIM_GONE && sim->now_ns >= node->restart_ns) {
            if (node->new_drive)
                replace_drive(node);
            node_boot(node);
        }
    }
}

uint64_t cluster_next_ns(const struct sim *sim)
{
    uint64_t next_ns = UINT64_MAX;

    if (sim->authority.state == SIM_GONE)
        next_ns = sim->authority.restart_ns;
    for (unsigned i = 0; i < SIM_NODES; i++) {
        const struct sim_node *node = &sim->nodes[i];
        if (node->state == SIM_GONE)
            next_ns = MIN(next_ns, node->restart_ns);
        if (!node->told_dead && (node->state == SIM_GONE || node->state == SIM_DYING) &&
            sim->authority.state == SIM_RUNNING && node->tell_ns > sim->now_ns)
            next_ns = MIN(next_ns, node->tell_ns);
    }
    return next_ns;
}

bool cluster_is_settled(struct sim *sim)
{
    if (sim->authority.state != SIM_RUNNING)
        return false;
    const struct cluster_map *map = authority_map(sim->authority.authority);
    for (uint32_t i = 0; i < map->targets_count; i++)
        if (map->targets[i].state != TARGET_CLEAN || !map->targets[i].up)
            return false;
    for (unsigned i = 0; i < SIM_NODES; i++)
        if (sim->nodes[i].state != SIM_RUNNING || !node_is_settled(sim->nodes[i].node))
            return false;
    return true;
}

static bool all_gone(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_NODES; i++)
        if (sim->nodes[i].state != SIM_GONE)
            return false;
    return sim->authority.state == SIM_GONE;
}

void cluster_destroy(struct sim *sim)
{
    sim->next_fault_ns = UINT64_MAX;
    sim->authority.restart_ns = UINT64_MAX;
    if (sim->authority.state == SIM_RUNNING)
        authority_die(sim);
    for (unsigned i = 0; i < SIM_NODES; i++) {
        sim->nodes[i].restart_ns = UINT64_MAX;
        if (sim->nodes[i].state == SIM_RUNNING || sim->nodes[i].state == SIM_STARTING)
            node_die(&sim->nodes[i], false);
        sim->nodes[i].restart_ns = UINT64_MAX;
    }
    CHECK(sim_until(sim, all_gone, sim->now_ns + 600 * SECOND));
    for (unsigned i = 0; i < SIM_NODES; i++) {
        dev_sim_store_destroy(sim->nodes[i].store);
        free(sim->nodes[i].map);
    }
    free(sim->authority.map);
}
