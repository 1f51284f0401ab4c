/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storage nodes: how they start, die and return, and when the whole cluster is settled.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "engine/rules.h"
#include "shoal/error.h"
#include "sim.h"

/* ---- what a node is given ---- */

static int node_save(void *ctx, const void *bytes, size_t len)
{
    struct sim_node *node = ctx;

    if (node->state == SIM_DYING)
        return SHOAL_E_IO;
    return sim_save_bytes(&node->map, &node->map_len, bytes, len);
}

static int node_load(void *ctx, void **bytes, size_t *len)
{
    struct sim_node *node = ctx;

    if (node->map == NULL)
        return SHOAL_E_NOT_FOUND;
    *bytes = NULL;
    *len = 0;
    return sim_save_bytes(bytes, len, node->map, node->map_len);
}

static int open_drive(struct sim_node *node, unsigned index)
{
    struct sim_drive *drive = &node->drives[index];
    /* Full: a drive whose index has no room for all that is put. */
    const struct engine_config config = {
        .commit_delay_ns = node->sim->commit_delay_ns,
        .index_max_objects =
            node->sim->tight && node->index == SIM_TIGHT_NODE && index == 0 ? 64 : 0,
    };
    const struct engine_format_config format = {.target = sim_target(node->sim, node->index, index),
                                                .partition_bits = SIM_PARTITION_BITS};
    int error = 0;

    if (!drive->formatted)
        error = engine_format(drive->dev, node->arena, &format);
    if (error == 0)
        error = engine_open(drive->dev, node->arena, &config, &drive->engine, &drive->report);
    if (error != 0 && node->state != SIM_DYING)
        sim_complain(node->sim, "node%u does not open drive %u: %s %s", node->index, index,
                     shoal_error_name(error), drive->report.problem);
    return error;
}

/* A drive to which nothing was done holds no damaged piece: what a crash cuts short was not there yet. */
static void look_over(struct sim_node *node, unsigned index)
{
    struct sim_drive *drive = &node->drives[index];
    struct engine_scrub_progress progress;

    if (drive->suspect)
        return;
    while (engine_scrub_step(drive->engine, 64, NULL, NULL) > 0)
        ;
    engine_scrub_progress(drive->engine, &progress);
    if (progress.damaged > 0 && node->state != SIM_DYING)
        sim_complain(node->sim, "node%u returns with %" PRIu64 " pieces damaged, and its drive %u is sound",
                     node->index, progress.damaged, index);
}

static void configure(struct sim_node *node, struct node_config *config)
{
    const struct sim *sim = node->sim;

    *config = (struct node_config){
        .reactor = node->host.reactor,
        .data = node->host.net,
        .replication = node->host.net,
        .arena = node->arena,
        .authority = authority_remote_door(node->authority),
        .store = {node_load, node_save, node},
        .targets_count = sim->drives,
        .client_fibers = 24,
        .member_fibers = 48,
        .control_fibers = 24,
        .call_fibers = 128,
        .window = 512,
        .tombstone_s = SIM_TOMBSTONE_S,
        .upload_s = 20,
        .care_ns = sim->care_ns,
        .scrub_pause_ns = 3 * SECOND,
        .catch_up_bytes_per_s = 1u << 20, /* so little that what is fetched has to wait for clients */
    };
    snprintf(config->name, sizeof config->name, "node%u", node->index);
    snprintf(config->data_address, sizeof config->data_address, "node%u:1", node->index);
    snprintf(config->replication_address, sizeof config->replication_address, "node%u:1",
             node->index);
    for (unsigned i = 0; i < sim->drives; i++)
        config->targets[i] = (struct node_target_config){
            .id = sim_target(sim, node->index, i),
            .device = node->drives[i].report.device,
            .engine = node->drives[i].engine,
            .stale = node->drives[i].report.stale,
        };
}

static void start_fiber(void *arg)
{
    struct sim_node *node = arg;
    struct node_config config;
    int error = 0;

    for (unsigned i = 0; i < node->sim->drives && error == 0; i++)
        error = open_drive(node, i);
    for (unsigned i = 0; i < node->sim->drives && error == 0; i++)
        look_over(node, i);
    if (node->state == SIM_DYING || error != 0)
        return;
    CHECK(authority_remote_create(node->host.reactor, node->host.net, SIM_AUTHORITY_ADDRESS,
                                  &node->authority) == 0);
    configure(node, &config);
    error = node_create(&config, &node->node);
    CHECK_MSG(error == 0, "node_create: %s", shoal_error_name(error));
    for (unsigned i = 0; i < node->sim->drives; i++)
        node->drives[i].formatted = true;
    error = node_start(node->node);
    if (error != 0 && node->state != SIM_DYING)
        sim_complain(node->sim, "node%u does not start: %s", node->index, shoal_error_name(error));
    if (node->state == SIM_STARTING)
        node->state = SIM_RUNNING;
}

static void open_device(struct sim_node *node, unsigned index)
{
    struct sim_drive *drive = &node->drives[index];
    struct sim *sim = node->sim;
    const struct dev_sim_config config = {
        .name = node->host.name,
        .seed = sim_seed(sim, "drive", node->boots << 8 | sim_target(node->sim, node->index, index)),
        .volatile_cache = sim->volatile_caches,
        .latency_min_ns = SIM_DRIVE_FAST_NS,
        .latency_max_ns = SIM_DRIVE_SLOW_NS,
    };

    CHECK(dev_sim_open(node->host.reactor, drive->store, &config, &drive->dev) == 0);
    drive->faults = (struct dev_sim_faults){0};
    drive->scrubs = 0;
}

void node_boot(struct sim_node *node)
{
    static const struct dma_class classes[] = {{4096, 96}, {32u << 10, 64}, {256u << 10, 64}};
    struct sim *sim = node->sim;
    char name[16];

    snprintf(name, sizeof name, "node%u", node->index);
    host_create(sim, &node->host, name, NET_ROLE_NODE, ++node->boots);
    CHECK(dma_arena_create(node->host.reactor, classes, ARRAY_LEN(classes), &node->arena) == 0);
    for (unsigned i = 0; i < sim->drives; i++)
        open_device(node, i);
    node->state = SIM_STARTING;
    node->stopped = false;
    node->restart_ns = UINT64_MAX;
    node->patience_ns = 0;
    sim_event(sim, "%s starts", name);
    CHECK(fiber_spawn(node->host.fibers, start_fiber, node) == 0);
}

/* ---- dying ---- */

static void end_fiber(void *arg)
{
    struct sim_node *node = arg;

    node_stop(node->node);
    node->stopped = true;
}

void node_die(struct sim_node *node, bool power)
{
    struct sim *sim = node->sim;
    struct prng prng;

    sim_event(sim, "node%u %s", node->index, power ? "loses power" : "is killed");
    net_sim_crash(sim->world, node->host.name);
    prng_seed(&prng, prng_next(&sim->fault_prng));
    for (unsigned i = 0; i < sim->drives; i++) {
        if (power)
            dev_sim_crash(node->drives[i].dev, &prng);
        else
            dev_sim_kill(node->drives[i].dev, &prng);
    }
    node->state = SIM_DYING;
    node->told_dead = false;
    node->tell_ns = sim->now_ns + prng_below(&prng, 500 * MS);
}

/* What of a death blocks, after the node has stopped. */
static void close_fiber(void *arg)
{
    struct sim_node *node = arg;

    for (unsigned i = 0; i < node->sim->drives; i++) {
        if (node->drives[i].engine != NULL)
            engine_close(node->drives[i].engine, true);
        node->drives[i].engine = NULL;
    }
    if (node->authority != NULL)
        authority_remote_destroy(node->authority);
    node->authority = NULL;
}

static bool has_engine(const struct sim_node *node)
{
    for (unsigned i = 0; i < node->sim->drives; i++)
        if (node->drives[i].engine != NULL)
            return true;
    return false;
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
    if (has_engine(node) || node->authority != NULL) {
        CHECK(fiber_spawn(node->host.fibers, close_fiber, node) == 0);
        return;
    }
    for (unsigned i = 0; i < node->sim->drives; i++) {
        dev_close(node->drives[i].dev);
        node->drives[i].dev = NULL;
    }
    dma_arena_destroy(node->arena);
    host_destroy(&node->host);
    node->arena = NULL;
    node->state = SIM_GONE;
    sim_event(node->sim, "node%u is gone", node->index);
}

/*
 * A drive died with the node; it comes back with another, empty one, under the old name. Sometimes the
 * map is told first, as `shoal node replace-device` does.
 */
static void tell_of_replacement(void *arg)
{
    struct sim_node *node = arg;
    char wish[64], *answer = NULL;

    snprintf(wish, sizeof wish, "{\"wish\":\"target_replaced\",\"target\":%u}",
             sim_target(node->sim, node->index, 0));
    authority_wish(node->sim->authority.authority, wish, &answer);
    bool known = answer != NULL && strstr(answer, "\"ok\":true") != NULL;
    node->replacement = known ? SIM_KNOWN : SIM_WANTED;
    free(answer);
}

static void replace_drive(struct sim_node *node)
{
    struct sim_drive *drive = &node->drives[0];

    dev_sim_store_destroy(drive->store);
    CHECK(dev_sim_store_create(SIM_DEVICE_BYTES, &drive->store) == 0);
    drive->formatted = false;
    drive->suspect = false;
    node->replacement = SIM_NONE;
    node->forgot = true;
    sim_event(node->sim, "node%u gets a new drive", node->index);
}

/* ---- all of it ---- */

static bool has_stopped(const struct sim_node *node)
{
    for (unsigned i = 0; i < node->sim->drives; i++)
        if (engine_stopped(node->drives[i].engine))
            return true;
    return false;
}

/* A target that stopped for good is told of; some time later somebody restarts its node. */
static void node_tend(struct sim_node *node)
{
    struct sim *sim = node->sim;

    if (node->state != SIM_RUNNING || sim->now_ns < node->patience_ns + 3 * SECOND ||
        !has_stopped(node))
        return;
    if (node->patience_ns != 0) {
        node_die(node, false);
        node->restart_ns = sim->now_ns + SECOND;
    }
    node->patience_ns = node->patience_ns == 0 ? sim->now_ns : 0;
}

static void node_return(struct sim_node *node)
{
    struct sim *sim = node->sim;

    if (node->replacement == SIM_KNOWN)
        replace_drive(node);
    if (node->replacement == SIM_NONE) {
        node_boot(node);
        return;
    }
    if (node->replacement == SIM_WANTED && node->boots % 2 == 0) {
        node->replacement = SIM_KNOWN;
    } else if (node->replacement == SIM_WANTED && sim->authority.state == SIM_RUNNING) {
        node->replacement = SIM_TOLD;
        CHECK(fiber_spawn(sim->authority.host.fibers, tell_of_replacement, node) == 0);
    }
    node->restart_ns = sim->now_ns + 100 * MS;
}

void cluster_tick(struct sim *sim)
{
    authority_tick(sim);
    authority_notice_deaths(sim);
    moves_tick(sim);
    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->state == SIM_DYING && fiber_pool_in_use(node->host.fibers) == 0)
            finish_death(node);
        node_tend(node);
        if (node->joined && node->state == SIM_GONE && sim->now_ns >= node->restart_ns)
            node_return(node);
    }
}

uint64_t cluster_next_ns(const struct sim *sim)
{
    uint64_t next_ns = sim->moves.next_ns;

    if (sim->authority.state == SIM_GONE)
        next_ns = MIN(next_ns, sim->authority.restart_ns);
    for (unsigned i = 0; i < SIM_NODES; i++) {
        const struct sim_node *node = &sim->nodes[i];
        if (!node->joined)
            continue;
        if (node->state == SIM_GONE)
            next_ns = MIN(next_ns, node->restart_ns);
        if (!sim->silence && !node->told_dead && (node->state == SIM_GONE || node->state == SIM_DYING) &&
            sim->authority.state == SIM_RUNNING && node->tell_ns > sim->now_ns)
            next_ns = MIN(next_ns, node->tell_ns);
    }
    return next_ns;
}

bool node_is_clean(const struct sim_node *node)
{
    const struct sim *sim = node->sim;

    if (node->state != SIM_RUNNING)
        return false;
    if (sim->authority.state != SIM_RUNNING)
        return true; /* as far as anybody can say */
    const struct cluster_map *map = authority_map(sim->authority.authority);
    struct wire_report_reply report = {0};
    node_report(node->node, &report);
    for (unsigned i = 0; i < sim->drives; i++) {
        const struct map_target *target = cluster_map_target(map, sim_target(sim, node->index, i));
        /* The map may be older than the life it is in: then it does not serve. */
        if (target == NULL || target->state != TARGET_CLEAN || !target->up ||
            !report.targets[i].serving)
            return false;
    }
    return true;
}

bool node_is_out(const struct sim_node *node)
{
    const struct sim *sim = node->sim;

    if (sim->authority.state != SIM_RUNNING)
        return false;
    const struct cluster_map *map = authority_map(sim->authority.authority);
    for (unsigned i = 0; i < sim->drives; i++) {
        const struct map_target *target = cluster_map_target(map, sim_target(sim, node->index, i));
        if (target == NULL || target->state != TARGET_OUT)
            return false;
    }
    return true;
}

bool cluster_is_settled(struct sim *sim)
{
    if (sim->authority.state != SIM_RUNNING)
        return false;
    for (unsigned i = 0; i < SIM_NODES; i++)
        if (sim->nodes[i].joined &&
            (!node_is_clean(&sim->nodes[i]) || !node_is_settled(sim->nodes[i].node)))
            return false;
    const struct cluster_map *map = authority_map(sim->authority.authority);
    return moves_are_done(sim, map) && !cluster_map_unconfirmed(map);
}

static bool all_gone(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_NODES; i++)
        if (sim->nodes[i].state != SIM_GONE)
            return false;
    return sim->authority.state == SIM_GONE;
}

void cluster_begin(struct sim *sim)
{
    authority_boot(sim);
    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->sim = sim;
        node->index = i;
        for (unsigned drive = 0; drive < sim->drives; drive++)
            CHECK(dev_sim_store_create(SIM_DEVICE_BYTES, &node->drives[drive].store) == 0);
        node->joined = i < SIM_FIRST_NODES;
        node->restart_ns = UINT64_MAX;
        if (node->joined)
            node_boot(node);
    }
}

void cluster_destroy(struct sim *sim)
{
    sim->next_fault_ns = UINT64_MAX;
    moves_end(sim);
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
        for (unsigned drive = 0; drive < sim->drives; drive++)
            dev_sim_store_destroy(sim->nodes[i].drives[drive].store);
        free(sim->nodes[i].map);
    }
    free(sim->authority.map);
}
