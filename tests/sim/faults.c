/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes wrong with processes, the network and clocks, and when. drives.c has what goes wrong with
 * drives, and the rule of how much may be lost at once; beyond it a loss of power of the whole cluster
 * may come at any time, for nobody can then have written what the others do not know.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "base/macros.h"
#include "shoal/error.h"
#include "sim.h"

#define DRIFT_PPM 20000u /* how far a clock may be from the right rate, either way */
#define DAY_S 86400

static const struct net_sim_faults quiet_net = {.delay_ns = 50000, .jitter_ns = 50000};

/* @prng: of this one fault, so that leaving one out changes nothing about the others. */
static uint64_t soon(const struct sim *sim, struct prng *prng, uint64_t least_ns, uint64_t most_ns)
{
    return sim->now_ns + prng_between(prng, least_ns, most_ns);
}

static unsigned any_index(struct sim *sim, struct prng *prng)
{
    unsigned joined = 0, i = 0;

    for (unsigned j = 0; j < SIM_NODES; j++)
        joined += sim->nodes[j].joined;
    for (uint64_t draw = prng_below(prng, joined);; i++) {
        if (!sim->nodes[i].joined)
            continue;
        if (draw-- == 0)
            return i;
    }
}

struct sim_node *faults_any_node(struct sim *sim, struct prng *prng)
{
    return &sim->nodes[any_index(sim, prng)];
}

/* Who was not heard while the network was in trouble is declared dead some time after it has healed. */
bool net_may_kill(const struct sim *sim)
{
    return sim->silence && (sim->net_troubled || sim->now_ns < sim->net_calm_ns);
}

/* ---- processes ---- */

static bool crash_one(struct sim *sim, struct prng *prng)
{
    struct sim_node *node = faults_any_node(sim, prng);

    if (node->state != SIM_RUNNING || !atlas_spares(sim, node))
        return false;
    if (sim->tight && node->index == SIM_TIGHT_NODE)
        return false; /* what it could not hold it could not learn again */
    node_die(node, prng_chance(prng, 1, 2));
    if (prng_chance(prng, 1, 6) && !net_may_kill(sim))
        node->replacement = SIM_WANTED;
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

/* ---- the network ---- */

/* See drives.c. */
static bool may_trouble_net(struct sim *sim)
{
    bool may = !sim->silence || (atlas_is_clear(sim) && !atlas_lacks_memory(sim));

    sim->net_troubled |= may;
    return may;
}

static bool worsen_net(struct sim *sim, struct prng *prng)
{
    struct net_sim_faults faults = quiet_net;

    if (!may_trouble_net(sim))
        return false;
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

/* Nodes, then the authority, clients, and the nodes that join later. */
#define HOSTS (SIM_FIRST_NODES + 1 + SIM_CLIENTS) /* at the beginning */
#define HOSTS_MAX (SIM_NODES + 1 + SIM_CLIENTS)
static const char *host_name(unsigned index, char *name, size_t size)
{
    if (index < SIM_FIRST_NODES)
        snprintf(name, size, "node%u", index);
    else if (index == SIM_FIRST_NODES)
        snprintf(name, size, "authority");
    else if (index < HOSTS)
        snprintf(name, size, "client%u", index - SIM_FIRST_NODES - 1);
    else
        snprintf(name, size, "node%u", SIM_FIRST_NODES + index - HOSTS);
    return name;
}

static bool cut_link(struct sim *sim, struct prng *prng)
{
    char from_name[24], to_name[24];
    unsigned from = (unsigned)prng_below(prng, SIM_FIRST_NODES);
    unsigned to = (unsigned)prng_below(prng, prng_chance(prng, 2, 3) ? SIM_FIRST_NODES : HOSTS);
    bool both = prng_chance(prng, 1, 3), back = prng_chance(prng, 1, 2);

    if (from == to || !may_trouble_net(sim))
        return false;
    host_name(from, from_name, sizeof from_name);
    host_name(to, to_name, sizeof to_name);
    if (both || !back)
        net_sim_cut(sim->world, from_name, to_name, true);
    if (both || back)
        net_sim_cut(sim->world, to_name, from_name, true);
    sim_event(sim, "the link between %s and %s is cut (%u)", from_name, to_name, 2u * both + back);
    return true;
}

/* One node, and clients that see nobody else: who would be told by others that it is not up any more. */
static uint64_t one_alone(struct prng *prng)
{
    uint64_t clients = (UINT64_C(1) << SIM_CLIENTS) - 1;
    uint64_t side = UINT64_C(1) << prng_below(prng, SIM_FIRST_NODES);

    if (prng_chance(prng, 2, 3))
        side |= (prng_next(prng) & clients) << (SIM_FIRST_NODES + 1);
    return side;
}

static bool is_client(unsigned host)
{
    return host > SIM_FIRST_NODES && host < HOSTS;
}

/*
 * Everybody is on one side or the other; messages pass one way only, or neither. Or clients are on both: some
 * may go on with a node that the others have given up.
 */
static bool part_hosts(struct sim *sim, struct prng *prng)
{
    uint64_t side = prng_next(prng);
    bool both = prng_chance(prng, 2, 3), spares_clients;
    char from_name[24], to_name[24];

    if (!may_trouble_net(sim))
        return false;
    if (prng_chance(prng, 2, 3))
        side = one_alone(prng);
    spares_clients = prng_chance(prng, 1, 2);
    for (unsigned from = 0; from < HOSTS_MAX; from++)
        for (unsigned to = 0; to < HOSTS_MAX; to++)
            if ((side >> from & 1) != (side >> to & 1) && (both || (side >> from & 1) != 0) &&
                !(spares_clients && (is_client(from) || is_client(to))))
                net_sim_cut(sim->world, host_name(from, from_name, sizeof from_name),
                            host_name(to, to_name, sizeof to_name), true);
    sim_event(sim, "the network falls apart: %03x%s", (unsigned)side & ((1u << HOSTS_MAX) - 1),
              spares_clients ? ", but for clients" : "");
    return true;
}

static bool slow_host(struct sim *sim, struct prng *prng)
{
    struct sim_node *node = faults_any_node(sim, prng);

    if (node->state != SIM_RUNNING || !may_trouble_net(sim))
        return false;
    net_sim_slow(sim->world, node->host.name, prng_below(prng, SECOND));
    sim_event(sim, "node%u becomes slow", node->index);
    return true;
}

static void heal_net(struct sim *sim)
{
    net_sim_set_faults(sim->world, &quiet_net);
    net_sim_heal(sim->world);
    if (sim->net_troubled)
        sim->net_calm_ns = sim->now_ns + 4 * SECOND;
    sim->net_troubled = false;
    sim_event(sim, "the network heals");
}

/* ---- clocks ---- */

static bool bend_clock(struct sim *sim, struct prng *prng)
{
    unsigned index = (unsigned)prng_below(prng, HOSTS);
    struct sim_host *host = index < SIM_FIRST_NODES    ? &sim->nodes[index].host
                            : index == SIM_FIRST_NODES ? &sim->authority.host
                                                       : &sim->clients[index - SIM_FIRST_NODES - 1].host;
    int64_t rate_ppm = (int64_t)prng_below(prng, 2 * DRIFT_PPM + 1) - DRIFT_PPM;
    int64_t wall_off_s = (int64_t)prng_below(prng, 2 * DAY_S + 1) - DAY_S;

    if (host->reactor == NULL)
        return false;
    host_set_clock(host, rate_ppm, prng_chance(prng, 1, 2) ? wall_off_s : host->clock.wall_off_s);
    sim_event(sim, "the clock of %s goes %" PRId64 " ppm too fast", host->name, rate_ppm);
    return true;
}

/* ---- all of them ---- */

static const struct {
    strike *strike; /* NULL: chosen for the whole run */
    unsigned weight;
} kinds[SIM_FAULT_COUNT] = {
    [SIM_FAULT_crash] = {crash_one, 8},
    [SIM_FAULT_crash_all] = {crash_all, 2},
    [SIM_FAULT_authority] = {crash_authority, 2},
    [SIM_FAULT_cut] = {cut_link, 3},
    [SIM_FAULT_partition] = {part_hosts, 2},
    [SIM_FAULT_net] = {worsen_net, 3},
    [SIM_FAULT_slow] = {slow_host, 2},
    [SIM_FAULT_rot] = {drive_decays, 2},
    [SIM_FAULT_misplace] = {drive_misplaces, 2},
    [SIM_FAULT_eio] = {drive_fails, 2},
    [SIM_FAULT_slow_drive] = {drive_slows, 2},
    [SIM_FAULT_stuck] = {drive_hangs, 1},
    [SIM_FAULT_clock] = {bend_clock, 2},
    [SIM_FAULT_tight] = {NULL, 0},
    [SIM_FAULT_silence] = {NULL, 0},
    [SIM_FAULT_join] = {NULL, 0}, /* moves.c has this and the rest */
};
#define HEAL_WEIGHT 8u

static bool may(const struct sim *sim, enum sim_fault fault)
{
    return (sim->options.without >> fault & 1) == 0 && sim->options.faults > 0;
}

static bool strikes_a_drive(enum sim_fault fault)
{
    return fault == SIM_FAULT_rot || fault == SIM_FAULT_misplace || fault == SIM_FAULT_eio ||
           fault == SIM_FAULT_slow_drive || fault == SIM_FAULT_stuck;
}

void faults_choose(struct sim *sim)
{
    struct prng *prng = &sim->fault_prng;

    moves_choose(sim);
    if (sim->options.operations == 0) {
        sim->drives = 1;
        sim->silence = sim->options.silence;
        return;
    }
    bool tight = prng_chance(prng, 1, 4);
    struct prng own;

    prng_seed(&own, sim_seed(sim, "silence", 0));
    sim->silence = prng_chance(&own, 1, 2) && may(sim, SIM_FAULT_silence);
    sim->sound_drives = prng_chance(&own, 1, 2) && sim->silence;

    sim->drives = prng_chance(prng, 1, 4) ? 2 : 1;
    sim->volatile_caches = prng_chance(prng, 3, 4);
    sim->frail = prng_chance(prng, 1, 4);
    sim->tight = tight && !sim->frail && may(sim, SIM_FAULT_tight);
    sim->commit_delay_ns = prng_chance(prng, 1, 3) ? 3 * SECOND : 0;
    sim->care_ns = prng_chance(prng, 1, 3) ? 100 * MS : 0;
    sim->pause_ns = prng_chance(prng, 1, 3) ? 100 * MS : 400 * MS;
    sim->fault_pause_ns = prng_chance(prng, 1, 3) ? SECOND : 4 * SECOND;
}

void faults_begin(struct sim *sim)
{
    net_sim_set_faults(sim->world, &quiet_net);
    sim->next_fault_ns = soon(sim, &sim->fault_prng, 200 * MS, 2 * SECOND);
    moves_begin(sim);
}

void faults_tick(struct sim *sim)
{
    unsigned weights = HEAL_WEIGHT, fault = 0;
    struct prng prng;

    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
        weights += kinds[i].weight;
    uint64_t draw = prng_below(&sim->fault_prng, weights);
    prng_seed(&prng, prng_next(&sim->fault_prng));
    sim->next_fault_ns = soon(sim, &sim->fault_prng, 50 * MS, sim->fault_pause_ns);
    atlas_look(sim);
    while (fault < SIM_FAULT_COUNT && draw >= kinds[fault].weight)
        draw -= kinds[fault++].weight;
    if (fault == SIM_FAULT_COUNT) {
        heal_net(sim);
        drives_heal(sim);
    } else if (may(sim, (enum sim_fault)fault) && sim->faults_injected < sim->options.faults) {
        bool spared = sim->sound_drives && strikes_a_drive((enum sim_fault)fault);
        sim->faults_injected += (spared ? part_hosts : kinds[fault].strike)(sim, &prng);
    }
}

void faults_take_away(struct sim *sim)
{
    unsigned first = any_index(sim, &sim->fault_prng), second;

    do
        second = any_index(sim, &sim->fault_prng);
    while (second == first);
    node_die(&sim->nodes[first], true);
    if (!sim->frail)
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
    /* That is one node more than the atlas knows of: what is away returns as it was. */
    for (unsigned i = 0; i < SIM_NODES; i++)
        if (sim->nodes[i].replacement == SIM_WANTED)
            sim->nodes[i].replacement = SIM_NONE;
    if (node->state == SIM_RUNNING || node->state == SIM_STARTING)
        node_die(node, false);
}

void faults_end(struct sim *sim)
{
    sim_event(sim, "the faults end");
    sim->next_fault_ns = UINT64_MAX;
    moves_end(sim);
    heal_net(sim);
    drives_heal(sim);
    widen_tight_drive(sim);
    if (sim->authority.state != SIM_RUNNING)
        sim->authority.restart_ns = sim->now_ns;
    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->joined && (node->state == SIM_GONE || node->state == SIM_DYING))
            node->restart_ns = MIN(node->restart_ns, soon(sim, &sim->fault_prng, 0, 2 * SECOND));
    }
}
