/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/macros.h"
#include "sim.h"

#define POLLS_MAX 2000000u /* without the clock moving: something spins */

void sim_complain(struct sim *sim, const char *format, ...)
{
    va_list arguments;

    if (sim->wrong[0] != '\0' || sim->ending)
        return;
    va_start(arguments, format);
    vsnprintf(sim->wrong, sizeof sim->wrong, format, arguments);
    va_end(arguments);
}

void sim_event(struct sim *sim, const char *format, ...)
{
    char text[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sim->digest = hash64(text, strlen(text), sim->digest ^ sim->now_ns);
    if (sim->options.verbose)
        printf("%10.6f %s\n", (double)sim->now_ns / 1e9, text);
}

static unsigned poll_all(struct sim *sim)
{
    unsigned did = 0;

    if (sim->authority.host.reactor != NULL)
        did += reactor_poll_once(sim->authority.host.reactor);
    for (unsigned i = 0; i < SIM_NODES; i++)
        if (sim->nodes[i].host.reactor != NULL)
            did += reactor_poll_once(sim->nodes[i].host.reactor);
    for (unsigned i = 0; i < SIM_CLIENTS; i++)
        if (sim->clients[i].host.reactor != NULL)
            did += reactor_poll_once(sim->clients[i].host.reactor);
    return did;
}

static uint64_t next_event_ns(const struct sim *sim)
{
    uint64_t next_ns = net_sim_next_event_ns(sim->world);

    next_ns = MIN(next_ns, cluster_next_ns(sim));
    next_ns = MIN(next_ns, sim->next_fault_ns);
    next_ns = MIN(next_ns, host_next_ns(&sim->authority.host));
    for (unsigned i = 0; i < SIM_NODES; i++)
        next_ns = MIN(next_ns, host_next_ns(&sim->nodes[i].host));
    for (unsigned i = 0; i < SIM_CLIENTS; i++)
        next_ns = MIN(next_ns, host_next_ns(&sim->clients[i].host));
    return next_ns;
}

bool sim_step(struct sim *sim, uint64_t limit_ns)
{
    unsigned polls = 0;

    do {
        cluster_tick(sim);
        CHECK_MSG(++polls < POLLS_MAX, "time stands still at %" PRIu64 " ns", sim->now_ns);
    } while (poll_all(sim) > 0);
    if (sim->now_ns >= sim->next_fault_ns) {
        faults_tick(sim);
        return true;
    }
    uint64_t next_ns = next_event_ns(sim);
    if (next_ns == UINT64_MAX || sim->now_ns >= limit_ns)
        return false;
    sim->now_ns = MIN(MAX(next_ns, sim->now_ns + 1), limit_ns);
    return true;
}

bool sim_until(struct sim *sim, bool (*done)(struct sim *sim), uint64_t limit_ns)
{
    while (sim->wrong[0] == '\0' || sim->ending) {
        if (done(sim))
            return true;
        if (!sim_step(sim, limit_ns))
            return done(sim);
    }
    return false;
}
