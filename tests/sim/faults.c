/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes wrong, and how much of it at once.
 *
 * The pools survive the loss of two members. So at any moment at most two targets are other than
 * clean, counting those that will be when a crashed node returns; and where a run damages bits at
 * rest, only on the drive of node 0, at most one. Beyond that a whole-cluster loss of power may come at
 * any time: nobody can have written what the others do not know.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "base/macros.h"
#include "shoal/error.h"
#include "sim.h"

#define LOST_MAX 2u

static const struct net_sim_faults quiet_net = {.delay_ns = 50000, .jitter_ns = 50000};

/* Targets that could not serve what they held, were the rest to be lost now. */
static unsigned unclean(struct sim *sim)
{
    unsigned count = 0;
    const struct cluster_map *map =
        sim->authority.state == SIM_RUNNING ? authority_map(sim->authority.authority) : NULL;

    for (unsigned i = 0; i < SIM_NODES; i++)
        count += sim->nodes[i].state != SIM_RUNNING ||
                 (map != NULL && (map->targets[i].state != TARGET_CLEAN || !map->targets[i].up));
    return count;
}

static uint64_t soon(struct sim *sim, uint64_t least_ns, uint64_t most_ns)
{
    return sim->now_ns + prng_between(&sim->prng, least_ns, most_ns);
}

static void crash_one(struct sim *sim)
{
    unsigned most = sim->rotting ? 1 : LOST_MAX;
    struct sim_node *node = &sim->nodes[prng_below(&sim->prng, SIM_NODES)];

    /* Without an authority nobody can say how clean the targets are. */
    if (node->state != SIM_RUNNING || sim->authority.state != SIM_RUNNING || unclean(sim) >= most)
        return;
    if (sim->tight && node->index == SIM_TIGHT_NODE)
        return; /* what it could not hold it could not learn again */
    node_die(node, prng_chance(&sim->prng, 1, 2));
    node->new_drive = prng_chance(&sim->prng, 1, 6);
    node->restart_ns = soon(sim, 20 * MS, 8 * SECOND);
    sim->faults_injected++;
}

static void crash_all(struct sim *sim)
{
    uint64_t back_ns = soon(sim, 100 * MS, 2 * SECOND);

    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->state != SIM_RUNNING)
            continue;
        node_die(node, true);
        node->restart_ns = back_ns + prng_below(&sim->prng, 2 * SECOND);
    }
    sim->faults_injected++;
}

static void crash_authority(struct sim *sim)
{
    if (sim->authority.state != SIM_RUNNING)
        return;
    authority_die(sim);
    sim->authority.restart_ns = soon(sim, 100 * MS, 6 * SECOND);
    sim->faults_injected++;
}

static void worsen_net(struct sim *sim)
{
    struct net_sim_faults faults = quiet_net;

    faults.jitter_ns = prng_below(&sim->prng, 5 * MS);
    faults.slow_ppm = (uint32_t)prng_below(&sim->prng, 30000);
    faults.slow_ns = prng_below(&sim->prng, 2 * SECOND);
    faults.loss_ppm = (uint32_t)prng_below(&sim->prng, 15000);
    faults.reset_ppm = (uint32_t)prng_below(&sim->prng, 15000);
    faults.held_ppm = 500000;
    faults.silent_ppm = 300000;
    net_sim_set_faults(sim->world, &faults);
    sim_event(sim, "the network worsens");
    sim->faults_injected++;
}

static void cut_link(struct sim *sim)
{
    unsigned from = (unsigned)prng_below(&sim->prng, SIM_NODES);
    unsigned to = (unsigned)prng_below(&sim->prng, SIM_NODES);
    char from_name[16], to_name[16];

    if (from == to)
        return;
    snprintf(from_name, sizeof from_name, "node%u", from);
    snprintf(to_name, sizeof to_name, "node%u", to);
    net_sim_cut(sim->world, from_name, to_name, true);
    sim_event(sim, "the link from node%u to node%u is cut", from, to);
    sim->faults_injected++;
}

static void slow_host(struct sim *sim)
{
    struct sim_node *node = &sim->nodes[prng_below(&sim->prng, SIM_NODES)];

    if (node->state != SIM_RUNNING)
        return;
    net_sim_slow(sim->world, node->host.name, prng_below(&sim->prng, SECOND));
    sim_event(sim, "node%u becomes slow", node->index);
    sim->faults_injected++;
}

static void heal_net(struct sim *sim)
{
    net_sim_set_faults(sim->world, &quiet_net);
    net_sim_heal(sim->world);
    sim_event(sim, "the network heals");
}

static void trouble_drive(struct sim *sim)
{
    static const struct dev_sim_faults faults = {
        .read_error_ppm = 20000, .rot_read_ppm = 5000, .rot_rest_ppm = 3000};
    struct sim_node *node = &sim->nodes[0];

    if (node->state != SIM_RUNNING || !sim->rotting)
        return;
    dev_sim_set_faults(node->dev, &faults);
    sim_event(sim, "the drive of node0 rots");
    if (sim->authority.state == SIM_RUNNING && unclean(sim) == 0 && prng_chance(&sim->prng, 1, 2)) {
        dev_sim_fail_nth(node->dev, 1 + prng_below(&sim->prng, 30), SHOAL_E_IO);
        sim_event(sim, "the drive of node0 is to fail soon");
    }
    sim->faults_injected++;
}

void faults_begin(struct sim *sim)
{
    sim->rotting = sim->options.faults && prng_chance(&sim->prng, 1, 3);
    net_sim_set_faults(sim->world, &quiet_net);
    sim->next_fault_ns = sim->options.faults ? soon(sim, 200 * MS, 2 * SECOND) : UINT64_MAX;
}

void faults_tick(struct sim *sim)
{
    static void (*const faults[])(struct sim *) = {
        crash_one, crash_one,  crash_one, crash_one, crash_all,     crash_authority,
        cut_link,  worsen_net, slow_host, heal_net,  trouble_drive, heal_net};

    faults[prng_below(&sim->prng, ARRAY_LEN(faults))](sim);
    sim->next_fault_ns = soon(sim, 100 * MS, 4 * SECOND);
}

/*
 * What was written while a small drive was away may not fit on it: then it cannot catch up until
 * somebody makes room. Here it gets room.
 */
static void widen_tight_drive(struct sim *sim)
{
    struct sim_node *node = &sim->nodes[SIM_TIGHT_NODE];

    if (!sim->tight)
        return;
    sim->tight = false;
    if (node->state == SIM_RUNNING || node->state == SIM_STARTING)
        node_die(node, false);
}

void faults_end(struct sim *sim)
{
    const struct dev_sim_faults none = {0};

    sim_event(sim, "the faults end");
    sim->next_fault_ns = UINT64_MAX;
    heal_net(sim);
    widen_tight_drive(sim);
    if (sim->authority.state != SIM_RUNNING)
        sim->authority.restart_ns = sim->now_ns;
    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->state == SIM_RUNNING)
            dev_sim_set_faults(node->dev, &none);
        if (node->state == SIM_GONE || node->state == SIM_DYING)
            node->restart_ns = MIN(node->restart_ns, soon(sim, 0, 2 * SECOND));
    }
}
