/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes that come and go while everything else goes wrong: spare ones join, others are drained, change
 * their mind, are removed when they hold nothing, and perhaps join again, with the drives they had or
 * with another; weights change; and some are away for so long that they are out. All of it draws
 * from a stream of its own, on a schedule of its own.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/macros.h"
#include "shoal/error.h"
#include "sim.h"

static bool may(const struct sim *sim, enum sim_fault fault)
{
    return (sim->options.without >> fault & 1) == 0 && sim->options.faults > 0;
}

static uint64_t soon(struct sim *sim, uint64_t least_ns, uint64_t most_ns)
{
    return sim->now_ns + prng_between(&sim->moves.prng, least_ns, most_ns);
}

void moves_choose(struct sim *sim)
{
    prng_seed(&sim->moves.prng, sim_seed(sim, "moves", 0));
    sim->moves.next_ns = UINT64_MAX;
    sim->moves.chosen = prng_chance(&sim->moves.prng, 1, 2);
}

void moves_begin(struct sim *sim)
{
    if (sim->moves.chosen && sim->options.faults > 0 && sim->options.operations > 0)
        sim->moves.next_ns = soon(sim, 200 * MS, 5 * SECOND);
}

void moves_end(struct sim *sim)
{
    sim->moves.next_ns = UINT64_MAX;
}

/* ---- asking the authority ---- */

static void node_name(unsigned index, char *name, size_t size)
{
    snprintf(name, size, "node%u", index);
}

static int apply_join(struct cluster_map *map, void *arg)
{
    const struct sim_node *node = arg;
    struct map_node added = {.rack = node->index};

    node_name(node->index, added.name, sizeof added.name);
    snprintf(added.data, sizeof added.data, "node%u:1", node->index);
    snprintf(added.replication, sizeof added.replication, "node%u:1", node->index);
    int error = map_change_node_add(map, &added);
    for (unsigned i = 0; i < node->sim->drives && error == 0; i++) {
        uint32_t target = sim_target(node->sim, node->index, i);
        if (cluster_map_target(map, target) == NULL)
            error = map_change_target_add(map, target, added.name, 100);
    }
    return error;
}

static const struct map_node *map_node_of(const struct cluster_map *map, const struct sim_node *node)
{
    char name[16];

    node_name(node->index, name, sizeof name);
    return cluster_map_node_named(map, name);
}

/* Fewer nodes than the widest pool has members would do, but then one node's loss is that of two. */
static bool are_enough(const struct cluster_map *map)
{
    uint64_t placeable = 0;

    for (uint32_t i = 0; i < map->targets_count; i++) {
        const struct map_node *node = &map->nodes[map->targets[i].node];
        if (!node->draining && !node->removed && map->targets[i].state != TARGET_OUT)
            placeable |= UINT64_C(1) << map->targets[i].node;
    }
    return __builtin_popcountll(placeable) > (int)SIM_FIRST_NODES;
}

static int apply_drain(struct cluster_map *map, void *arg)
{
    const struct map_node *node = map_node_of(map, arg);

    if (!node->draining && !are_enough(map))
        return SHOAL_E_CONDITION;
    return map_change_node_drain(map, node->name, !node->draining);
}

static int apply_remove(struct cluster_map *map, void *arg)
{
    return map_change_node_remove(map, map_node_of(map, arg)->name);
}

static int apply_weight(struct cluster_map *map, void *arg)
{
    const struct sim_moves *moves = &((const struct sim_node *)arg)->sim->moves;

    return map_change_target_weight(map, moves->target, moves->weight);
}

static void change_fiber(void *arg)
{
    struct sim *sim = arg;
    struct sim_node *node = &sim->nodes[sim->moves.node];

    int error = authority_change(sim->authority.authority, sim->moves.apply, node);
    sim_event(sim, "node%u %s: %s", node->index, sim->moves.what, shoal_error_name(error));
    if (error == 0 && sim->moves.apply == apply_join) {
        node->joined = true;
        node->told_dead = true; /* what the map says already */
        node->restart_ns = sim->now_ns;
    }
    if (error == 0 && sim->moves.apply == apply_remove)
        node->joined = false;
    sim->moves.busy = false;
}

static bool ask(struct sim_node *node, int (*apply)(struct cluster_map *map, void *arg),
                const char *what)
{
    struct sim *sim = node->sim;

    sim->moves.busy = true;
    sim->moves.apply = apply;
    sim->moves.what = what;
    sim->moves.node = node->index;
    if (fiber_spawn(sim->authority.host.fibers, change_fiber, sim) == 0)
        return true;
    sim->moves.busy = false; /* many deaths are being told of */
    return false;
}

/* ---- what happens ---- */

/* In order, for targets are numbered as they come. A removed node may come again. */
static bool join(struct sim *sim)
{
    const struct cluster_map *map = authority_map(sim->authority.authority);

    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        bool known = map_node_of(map, node) != NULL;
        if (node->joined || node->state != SIM_GONE || atlas_suspects(node) ||
            (known && !prng_chance(&sim->moves.prng, 1, 2)))
            continue;
        node->replacement = known && prng_chance(&sim->moves.prng, 1, 2) ? SIM_WANTED : SIM_NONE;
        return ask(node, apply_join, "joins");
    }
    return false;
}

static bool drain(struct sim *sim)
{
    return ask(faults_any_node(sim, &sim->moves.prng), apply_drain, "is drained, or no more");
}

static bool weigh(struct sim *sim)
{
    struct sim_node *node = faults_any_node(sim, &sim->moves.prng);

    sim->moves.target =
        sim_target(sim, node->index, (unsigned)prng_below(&sim->moves.prng, sim->drives));
    sim->moves.weight = (uint32_t)prng_between(&sim->moves.prng, 30, 300);
    return ask(node, apply_weight, "changes a weight");
}

static bool stay_away(struct sim *sim)
{
    struct sim_node *node = faults_any_node(sim, &sim->moves.prng);

    if (node->state != SIM_RUNNING || !atlas_spares(sim, node) ||
        (sim->tight && node->index == SIM_TIGHT_NODE))
        return false;
    node_die(node, prng_chance(&sim->moves.prng, 1, 2));
    bool other = prng_chance(&sim->moves.prng, 1, 3) && !net_may_kill(sim);
    node->replacement = other ? SIM_WANTED : SIM_NONE;
    node->restart_ns = soon(sim, 10 * SECOND, 40 * SECOND);
    return true;
}

static bool has_nothing(const struct sim_node *node, const struct target_places *places)
{
    bool nothing = true;

    for (unsigned i = 0; i < node->sim->drives; i++) {
        const struct target_places *of = &places[sim_target(node->sim, node->index, i)];
        nothing = nothing && of->serves == 0 && of->leaves == 0;
    }
    return nothing;
}

/* Who was drained, and has nothing left, can go. */
static bool remove_one(struct sim *sim)
{
    const struct cluster_map *map = authority_map(sim->authority.authority);
    struct target_places *places = calloc(map->targets_count, sizeof *places);
    struct sim_node *found = NULL;

    CHECK(places != NULL);
    cluster_map_places(map, places);
    for (unsigned i = 0; i < SIM_NODES && found == NULL; i++)
        if (sim->nodes[i].joined && map_node_of(map, &sim->nodes[i])->draining &&
            has_nothing(&sim->nodes[i], places))
            found = &sim->nodes[i];
    free(places);
    return found != NULL && ask(found, apply_remove, "is removed");
}

void moves_tick(struct sim *sim)
{
    /* Whoever was removed is switched off. */
    for (unsigned i = 0; i < SIM_NODES; i++)
        if (!sim->nodes[i].joined && sim->nodes[i].state == SIM_RUNNING)
            node_die(&sim->nodes[i], false);
    if (sim->now_ns < sim->moves.next_ns)
        return;
    sim->moves.next_ns = soon(sim, 500 * MS, 6 * SECOND);
    uint64_t draw = prng_below(&sim->moves.prng, 8);
    if (sim->moves.busy || sim->authority.state != SIM_RUNNING ||
        sim->faults_injected >= sim->options.faults)
        return;
    bool did = false;
    if (draw < 2 && may(sim, SIM_FAULT_join))
        did = join(sim);
    else if (draw < 4 && may(sim, SIM_FAULT_drain))
        did = drain(sim);
    else if (draw == 4 && may(sim, SIM_FAULT_weigh))
        did = weigh(sim);
    else if (draw == 5 && may(sim, SIM_FAULT_absence))
        did = stay_away(sim);
    else if (draw > 5 && may(sim, SIM_FAULT_drain))
        did = remove_one(sim);
    sim->faults_injected += did;
}

unsigned moves_missing(const struct cluster_map *map)
{
    unsigned missing = 0, most = 0;

    for (uint32_t i = 0; i < map->holds_count; i++) {
        const struct map_hold *hold = &map->holds[i];
        if (i > 0 && hold->key >> 5 != hold[-1].key >> 5)
            missing = 0;
        missing += hold->target == PLACE_NONE;
        most = MAX(most, missing);
    }
    return most;
}

bool moves_are_done(const struct sim *sim, const struct cluster_map *map)
{
    return !sim->moves.busy && moves_missing(map) == 0 &&
           (map->moves == NULL || map->moves->arriving + map->moves->leaving == 0);
}
