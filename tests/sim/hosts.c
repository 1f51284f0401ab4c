/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts, each with a clock of its own: it runs at its own rate, which may change, and its idea of the
 * date may jump.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "sim.h"

#define WALL_START_S 1700000000u
#define MILLION 1000000

static uint64_t host_now_ns(void *ctx)
{
    const struct sim_clock *clock = ctx;
    uint64_t passed_ns = clock->sim->now_ns - clock->since_ns;

    /* Two products, so that neither overflows in a run of days. */
    int64_t more = (int64_t)(passed_ns / MILLION) * clock->rate_ppm +
                   (int64_t)(passed_ns % MILLION) * clock->rate_ppm / MILLION;
    return clock->at_ns + passed_ns + (uint64_t)more;
}

static uint64_t host_wall_s(void *ctx)
{
    const struct sim_clock *clock = ctx;

    return (uint64_t)((int64_t)(WALL_START_S + clock->sim->now_ns / SECOND) + clock->wall_off_s);
}

void host_set_clock(struct sim_host *host, int64_t rate_ppm, int64_t wall_off_s)
{
    host->clock.at_ns = host_now_ns(&host->clock);
    host->clock.since_ns = host->clock.sim->now_ns;
    host->clock.rate_ppm = rate_ppm;
    host->clock.wall_off_s = wall_off_s;
}

/* When the simulation is at this host's @host_ns, or just after. */
static uint64_t sim_time_of(const struct sim_clock *clock, uint64_t host_ns)
{
    if (host_ns == UINT64_MAX || host_ns <= clock->at_ns)
        return host_ns == UINT64_MAX ? UINT64_MAX : clock->since_ns;
    double left_ns = (double)(host_ns - clock->at_ns) * MILLION /
                     (double)(MILLION + clock->rate_ppm);
    return clock->since_ns + (uint64_t)left_ns;
}

uint64_t host_next_ns(const struct sim_host *host)
{
    if (host->reactor == NULL)
        return UINT64_MAX;
    uint64_t timer_ns = reactor_next_timer_ns(host->reactor);
    return sim_time_of(&host->clock, timer_ns);
}

void host_create(struct sim *sim, struct sim_host *host, const char *name, enum net_role role,
                 uint64_t boot)
{
    struct net_identity identity = {.role = role, .cluster = "sim"};
    uint64_t seed = sim_seed(sim, name, boot);
    const struct reactor_config config = {
        .name = name, .clock = &host->clock.door, .seed = seed, .cpu = -1};

    host->clock = (struct sim_clock){.sim = sim, .since_ns = sim->now_ns};
    host->clock.door = (struct reactor_clock){host_now_ns, host_wall_s, &host->clock};
    /* No two clocks say the same time, nor count it at quite the same rate. */
    host->clock.at_ns = sim->now_ns + seed % (1000 * SECOND);
    host->clock.rate_ppm = (int64_t)(seed % 201) - 100;
    snprintf(host->name, sizeof host->name, "%s", name);
    snprintf(identity.name, sizeof identity.name, "%s", name);
    CHECK(reactor_create(&config, &host->reactor) == 0);
    CHECK(fiber_pool_create(host->reactor, "sim", 32, 256u << 10, &host->fibers) == 0);
    CHECK(net_sim_create(sim->world, host->reactor, name, &identity, &host->net) == 0);
}

static void end_net(void *arg)
{
    net_destroy(arg);
}

void host_destroy(struct sim_host *host)
{
    CHECK(fiber_spawn(host->fibers, end_net, host->net) == 0);
    while (fiber_pool_in_use(host->fibers) > 0)
        CHECK(reactor_poll_once(host->reactor) > 0);
    /* What destroying the network leaves to be done. */
    while (reactor_poll_once(host->reactor) > 0)
        ;
    fiber_pool_destroy(host->fibers);
    reactor_destroy(host->reactor);
    memset(host, 0, sizeof *host);
}
