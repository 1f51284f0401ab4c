/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "sim.h"

void host_create(struct sim *sim, struct sim_host *host, const char *name, enum net_role role,
                 uint64_t boot)
{
    struct net_identity identity = {.role = role, .cluster = "sim"};
    const struct reactor_config config = {
        .name = name, .clock = &sim->clock, .seed = sim_seed(sim, name, boot), .cpu = -1};

    snprintf(host->name, sizeof host->name, "%s", name);
    snprintf(identity.name, sizeof identity.name, "%s", name);
    CHECK(reactor_create(&config, &host->reactor) == 0);
    CHECK(fiber_pool_create(host->reactor, "sim", 8, 256u << 10, &host->fibers) == 0);
    CHECK(net_sim_create(sim->world, host->reactor, name, &identity, &host->net) == 0);
}

/* The network of it must be destroyed already, by a fiber. */
void host_destroy(struct sim_host *host)
{
    fiber_pool_destroy(host->fibers);
    reactor_destroy(host->reactor);
    memset(host, 0, sizeof *host);
}
