/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The authority's host: the first map, its life, and how it learns that a node has died.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "shoal/error.h"
#include "sim.h"

int sim_save_bytes(void **kept, size_t *kept_len, const void *bytes, size_t len)
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

    /* As long as a transaction takes, in which heartbeats come. A dead process saves nothing. */
    fiber_sleep(SIM_SAVE_NS);
    if (authority->state == SIM_DYING)
        return SHOAL_E_IO;
    return sim_save_bytes(&authority->map, &authority->map_len, map, len);
}

static void add_pools(const struct sim *sim, struct cluster_map *map)
{
    struct map_pool durable = {
        .name = "durable", .erasure = true, .k = 4, .m = 2, .stripe_size = SIM_STRIPE_BYTES,
        .copies_below = 16u << 10};
    struct map_pool replicated = {
        .name = "replicated", .k = 1, .m = 2, .stripe_size = SIM_STRIPE_BYTES};

    CHECK(map_change_pool_create(map, &durable) == 0);
    CHECK(map_change_pool_create(map, &replicated) == 0);
    if (sim->frail) {
        struct map_pool thin = {
            .name = "thin", .erasure = true, .k = 2, .m = 1, .stripe_size = SIM_STRIPE_BYTES,
            .copies_below = 8u << 10};
        CHECK(map_change_pool_create(map, &thin) == 0);
    }

    /* Smaller than what is put into it, so that it evicts. */
    struct map_pool cache = {
        .name = "cache", .k = 1, .m = 0, .cache = true, .stripe_size = SIM_STRIPE_BYTES,
        .quota_bytes = 600u << 10, .ttl_s = 30};
    CHECK(map_change_pool_create(map, &cache) == 0);
}

static struct cluster_map *first_map(const struct sim *sim)
{
    struct cluster_map *map = cluster_map_create();

    CHECK(map != NULL);
    memcpy(map->cluster, "simulated-shoal!", 16);
    map->partition_bits = SIM_PARTITION_BITS;
    map->lease_ms = sim->silence ? SIM_LEASE_MS : 0;
    map->out_ms = SIM_OUT_MS;
    for (unsigned i = 0; i < SIM_FIRST_NODES; i++) {
        struct map_node node = {.rack = i};
        snprintf(node.name, sizeof node.name, "node%u", i);
        snprintf(node.data, sizeof node.data, "node%u:1", i);
        snprintf(node.replication, sizeof node.replication, "node%u:1", i);
        CHECK(map_change_node_add(map, &node) == 0);
        for (unsigned drive = 0; drive < sim->drives; drive++)
            CHECK(map_change_target_add(map, sim_target(sim, i, drive), node.name, 100) == 0);
    }
    add_pools(sim, map);
    CHECK(map_change_publish(map) == 0);
    return map;
}

void authority_boot(struct sim *sim)
{
    struct sim_authority *self = &sim->authority;
    struct authority_config config = {
        .save = authority_save, .ctx = self, .move_ns = 300 * MS};

    self->sim = sim;
    self->state = SIM_RUNNING;
    self->restart_ns = UINT64_MAX;
    host_create(sim, &self->host, "authority", NET_ROLE_AUTHORITY, ++self->boots);
    config.reactor = self->host.reactor;
    config.net = self->host.net;
    if (self->map == NULL)
        config.map = first_map(sim);
    else
        CHECK(cluster_map_decode(self->map, self->map_len, &config.map) == 0);
    CHECK(authority_create(&config, &self->authority) == 0);
    CHECK(authority_listen(self->authority, SIM_AUTHORITY_ADDRESS) == 0);
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

void authority_tick(struct sim *sim)
{
    struct sim_authority *self = &sim->authority;

    if (self->state == SIM_DYING && fiber_pool_in_use(self->host.fibers) == 0) {
        authority_destroy(self->authority);
        self->authority = NULL;
        host_destroy(&self->host);
        self->state = SIM_GONE;
    }
    if (self->state == SIM_GONE && sim->now_ns >= self->restart_ns)
        authority_boot(sim);
}

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
 * after the death, or, when it was dead itself, after its own return. Or nobody sees it.
 */
void authority_notice_deaths(struct sim *sim)
{
    struct sim_authority *self = &sim->authority;

    if (self->state != SIM_RUNNING || sim->silence)
        return;
    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (!node->joined || node->told_dead || sim->now_ns < node->tell_ns ||
            (node->state != SIM_DYING && node->state != SIM_GONE))
            continue;
        node->told_dead = true;
        sim_event(sim, "authority notices that node%u is dead", i);
        CHECK(fiber_spawn(self->host.fibers, tell_fiber, node) == 0);
    }
}
