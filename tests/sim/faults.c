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

/* @prng: of this one fault, so that leaving one out changes nothing about the others. */
static uint64_t soon(const struct sim *sim, struct prng *prng, uint64_t least_ns, uint64_t most_ns)
{
    return sim->now_ns + prng_between(prng, least_ns, most_ns);
}

static struct sim_node *any_node(struct sim *sim, struct prng *prng)
{
    return &sim->nodes[prng_below(prng, SIM_NODES)];
}

static bool crash_one(struct sim *sim, struct prng *prng)
{
    unsigned most = sim->rotting ? 1 : LOST_MAX;
    struct sim_node *node = any_node(sim, prng);

    /* Without an authority nobody can say how clean the targets are. */
    if (node->state != SIM_RUNNING || sim->authority.state != SIM_RUNNING || unclean(sim) >= most)
        return false;
    if (sim->tight && node->index == SIM_TIGHT_NODE)
        return false; /* what it could not hold it could not learn again */
    node_die(node, prng_chance(prng, 1, 2));
    node->new_drive = prng_chance(prng, 1, 6);
    node->restart_ns = soon(sim, prng, 20 * MS, 8 * SECOND);
    return true;
}

static bool crash_all(struct sim *sim, struct prng *prng)
{
    uint64_t back_ns = soon(sim, prng, 100 * MS, 2 * SECOND);

    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->state != SIM_RUNNING)
            continue;
        node_die(node, true);
        node->restart_ns = back_ns + prng_below(prng, 2 * SECOND);
    }
    return true;
}

static bool crash_authority(struct sim *sim, struct prng *prng)
{
    if (sim->authority.state != SIM_RUNNING)
        return false;
    authority_die(sim);
    sim->authority.restart_ns = soon(sim, prng, 100 * MS, 6 * SECOND);
    return true;
}

static bool worsen_net(struct sim *sim, struct prng *prng)
{
    struct net_sim_faults faults = quiet_net;

    faults.jitter_ns = prng_below(prng, 5 * MS);
    faults.slow_ppm = (uint32_t)prng_below(prng, 30000);
    faults.slow_ns = prng_below(prng, 2 * SECOND);
    faults.loss_ppm = (uint32_t)prng_below(prng, 15000);
    faults.reset_ppm = (uint32_t)prng_below(prng, 15000);
    faults.held_ppm = 500000;
    faults.silent_ppm = 300000;
    net_sim_set_faults(sim->world, &faults);
    sim_event(sim, "the network worsens");
    return true;
}

static bool cut_link(struct sim *sim, struct prng *prng)
{
    unsigned from = (unsigned)prng_below(prng, SIM_NODES);
    unsigned to = (unsigned)prng_below(prng, SIM_NODES);
    char from_name[16], to_name[16];

    if (from == to)
        return false;
    snprintf(from_name, sizeof from_name, "node%u", from);
    snprintf(to_name, sizeof to_name, "node%u", to);
    net_sim_cut(sim->world, from_name, to_name, true);
    sim_event(sim, "the link from node%u to node%u is cut", from, to);
    return true;
}

static bool slow_host(struct sim *sim, struct prng *prng)
{
    struct sim_node *node = any_node(sim, prng);

    if (node->state != SIM_RUNNING)
        return false;
    net_sim_slow(sim->world, node->host.name, prng_below(prng, SECOND));
    sim_event(sim, "node%u becomes slow", node->index);
    return true;
}

static void heal_net(struct sim *sim)
{
    net_sim_set_faults(sim->world, &quiet_net);
    net_sim_heal(sim->world);
    sim_event(sim, "the network heals");
}

static bool trouble_drive(struct sim *sim, struct prng *prng)
{
    static const struct dev_sim_faults faults = {
        .read_error_ppm = 20000, .rot_read_ppm = 5000, .rot_rest_ppm = 3000};
    struct sim_node *node = &sim->nodes[0];

    if (node->state != SIM_RUNNING || !sim->rotting)
        return false;
    dev_sim_set_faults(node->dev, &faults);
    sim_event(sim, "the drive of node0 rots");
    if (sim->authority.state == SIM_RUNNING && unclean(sim) == 0 && prng_chance(prng, 1, 2)) {
        dev_sim_fail_nth(node->dev, 1 + prng_below(prng, 30), SHOAL_E_IO);
        sim_event(sim, "the drive of node0 is to fail soon");
    }
    return true;
}

/* Return: true when it happened. */
typedef bool strike(struct sim *sim, struct prng *prng);

static const struct {
    strike *strike; /* NULL: chosen for the whole run */
    unsigned weight;
} kinds[SIM_FAULT_COUNT] = {
    [SIM_FAULT_crash] = {crash_one, 4},     [SIM_FAULT_crash_all] = {crash_all, 1},
    [SIM_FAULT_authority] = {crash_authority, 1}, [SIM_FAULT_cut] = {cut_link, 1},
    [SIM_FAULT_net] = {worsen_net, 1},      [SIM_FAULT_slow] = {slow_host, 1},
    [SIM_FAULT_drive] = {trouble_drive, 1}, [SIM_FAULT_tight] = {NULL, 0},
};
#define HEAL_WEIGHT 2u

static bool may(const struct sim *sim, enum sim_fault fault)
{
    return (sim->options.without >> fault & 1) == 0 && sim->options.faults > 0;
}

void faults_choose(struct sim *sim)
{
    bool tight = prng_chance(&sim->fault_prng, 1, 4), rotting = prng_chance(&sim->fault_prng, 1, 3);

    sim->tight = tight && may(sim, SIM_FAULT_tight);
    sim->rotting = rotting && may(sim, SIM_FAULT_drive);
}

void faults_begin(struct sim *sim)
{
    net_sim_set_faults(sim->world, &quiet_net);
    sim->next_fault_ns = soon(sim, &sim->fault_prng, 200 * MS, 2 * SECOND);
}

void faults_tick(struct sim *sim)
{
    unsigned weights = HEAL_WEIGHT, fault = 0;
    struct prng prng;

    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
        weights += kinds[i].weight;
    uint64_t draw = prng_below(&sim->fault_prng, weights);
    prng_seed(&prng, prng_next(&sim->fault_prng));
    sim->next_fault_ns = soon(sim, &sim->fault_prng, 100 * MS, 4 * SECOND);
    while (fault < SIM_FAULT_COUNT && draw >= kinds[fault].weight)
        draw -= kinds[fault++].weight;
    if (fault == SIM_FAULT_COUNT)
        heal_net(sim);
    else if (may(sim, (enum sim_fault)fault) && sim->faults_injected < sim->options.faults)
        sim->faults_injected += kinds[fault].strike(sim, &prng);
}

void faults_take_two(struct sim *sim)
{
    unsigned first = (unsigned)prng_below(&sim->fault_prng, SIM_NODES);
    unsigned second = (first + 1 + (unsigned)prng_below(&sim->fault_prng, SIM_NODES - 1)) % SIM_NODES;

    node_die(&sim->nodes[first], true);
    node_die(&sim->nodes[second], false);
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
            node->restart_ns = MIN(node->restart_ns, soon(sim, &sim->fault_prng, 0, 2 * SECOND));
    }
}
