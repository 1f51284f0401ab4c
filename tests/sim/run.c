/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "sim.h"

#define SETTLE_NS (180 * SECOND)

static uint64_t sim_now_ns(void *ctx)
{
    return ((struct sim *)ctx)->now_ns;
}

uint64_t sim_seed(const struct sim *sim, const char *part, uint64_t number)
{
    uint64_t seed = hash64(part, strlen(part), sim->options.seed ^ number * 0x9e3779b97f4a7c15u);

    return seed == 0 ? 1 : seed; /* some take 0 for "choose one" */
}

void sim_begin(struct sim *sim, const struct sim_options *options)
{
    memset(sim, 0, sizeof *sim);
    sim->options = *options;
    sim->now_ns = SECOND;
    sim->next_value = 1;
    sim->next_fault_ns = UINT64_MAX;
    prng_seed(&sim->fault_prng, sim_seed(sim, "faults", 0));
    faults_choose(sim);
    sim->clock = (struct reactor_clock){.now_ns = sim_now_ns, .ctx = sim};
    log_set_time_source(sim_now_ns, sim);
    CHECK(net_sim_world_create(&sim->clock, sim_seed(sim, "net", 0), NULL, &sim->world) == 0);
    cluster_begin(sim);
}

void sim_end(struct sim *sim)
{
    sim->ending = true;
    if (sim->clients[0].client != NULL)
        clients_destroy(sim);
    cluster_destroy(sim);
    net_sim_world_destroy(sim->world);
    log_set_time_source(NULL, NULL);
}

/* Who is in the way, for the person who looks. */
static void say_unsettled(struct sim *sim)
{
    const struct cluster_map *map =
        sim->authority.state == SIM_RUNNING ? authority_map(sim->authority.authority) : NULL;
    for (unsigned i = 0; i < SIM_NODES; i++) {
        const struct sim_node *node = &sim->nodes[i];
        const struct map_target *target =
            map == NULL ? NULL : cluster_map_target(map, sim_target(sim, i, 0));
        struct wire_report_reply report = {0};
        if (node->node != NULL)
            node_report(node->node, &report);
        sim_event(sim,
                  "node%u: process %d, target %d%s of epoch %llu; at epoch %llu, serving %d, "
                  "%u slots unsettled, catching up %llu of %llu",
                  i, (int)node->state, target == NULL ? -1 : (int)target->state,
                  target != NULL && target->up ? "" : " (absent)",
                  map == NULL ? 0 : (unsigned long long)map->epoch,
                  (unsigned long long)report.epoch, report.targets[0].serving,
                  report.targets[0].slots_waiting,
                  (unsigned long long)report.targets[0].catch_up_done,
                  (unsigned long long)report.targets[0].catch_up_total);
    }
    if (map != NULL && map->moves != NULL)
        sim_event(sim, "%llu positions are being learned, %llu left, %u holds",
                  (unsigned long long)map->moves->arriving,
                  (unsigned long long)map->moves->leaving, map->holds_count);
}

static bool never(struct sim *sim)
{
    (void)sim;
    return false;
}

/* Settled is not enough: what was lost or damaged has to be whole again on every member. */
static void wait_until_whole(struct sim *sim)
{
    uint64_t until_ns = sim->now_ns + SETTLE_NS;
    char why[450] = "a target is not clean, or a slot not settled";

    /* Who was cut off may yet be declared dead. */
    if (sim->silence)
        (void)sim_until(sim, never, sim->now_ns + SIM_LEASE_MS * MS);
    while (sim->now_ns < until_ns && sim->wrong[0] == '\0') {
        if (sim_until(sim, cluster_is_settled, until_ns)) {
            atlas_look(sim);
            if (audit(sim, why, sizeof why) && atlas_is_clear(sim))
                return;
        }
        (void)sim_until(sim, never, sim->now_ns + SECOND / 2);
    }
    say_unsettled(sim);
    sim_complain(sim, "not all was whole %u s after the faults' end: %s",
                 (unsigned)(SETTLE_NS / SECOND), why);
}

static void check_history(struct sim *sim)
{
    for (unsigned key = 0; key < sim->options.keys; key++) {
        if (history_explains(&sim->history, key))
            continue;
        sim_complain(sim, "no order of the operations on key %u explains the answers", key);
        if (sim->options.verbose)
            history_print(&sim->history, key);
    }
}

bool sim_run(struct sim *sim, const struct sim_options *options)
{
    sim_begin(sim, options);
    clients_create(sim);
    if (!sim_until(sim, cluster_is_settled, sim->now_ns + 60 * SECOND))
        sim_complain(sim, "the cluster did not start within a minute");
    clients_start(sim, options->operations);
    faults_begin(sim);
    if (!sim_until(sim, clients_are_idle, sim->now_ns + 3600 * SECOND))
        sim_complain(sim, "the clients did not finish within an hour");
    faults_end(sim);
    wait_until_whole(sim);
    if (sim->wrong[0] == '\0')
        clients_read_all(sim);
    if (sim->wrong[0] == '\0') {
        faults_take_away(sim);
        clients_read_all(sim);
    }
    if (sim->wrong[0] == '\0')
        check_history(sim);
    sim_event(sim, "end: %s", sim->wrong[0] == '\0' ? "nothing wrong" : sim->wrong);
    sim_end(sim);
    return sim->wrong[0] == '\0';
}
