/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "shoald/shoald.h"

static int bad_list(const char *text, struct value_error *why)
{
    snprintf(why->text, sizeof why->text, "'cpus' is '%.100s', must be like 2-9,12", text);
    return SHOAL_E_CONFIG;
}

static const char *read_cpu(const char *at, unsigned long *cpu)
{
    char *end;
    *cpu = strtoul(at, &end, 10);
    return end == at || *at < '0' || *at > '9' || *cpu >= CPU_SETSIZE ? NULL : end;
}

/* "2-9,12": the first NODE_TARGETS_MAX of them, into @cpus. */
static int parse_cpus(const char *text, int *cpus, unsigned *count, struct value_error *why)
{
    *count = 0;
    for (const char *at = text; *at != 0;) {
        unsigned long first, last;
        at = read_cpu(at, &first);
        last = first;
        if (at != NULL && *at == '-')
            at = read_cpu(at + 1, &last);
        if (at == NULL || last < first || (*at != 0 && *at != ',') || (*at == ',' && at[1] == 0))
            return bad_list(text, why);
        for (; first <= last; first++)
            if (*count < NODE_TARGETS_MAX)
                cpus[(*count)++] = (int)first;
        at += *at == ',';
    }
    return 0;
}

/* Pinned means a core of its own; with fewer cores than reactors, spinning would be taking turns. */
int shoald_plan(const struct shoald_config *config, struct shoald_plan *plan,
                struct value_error *why)
{
    cpu_set_t usable;
    unsigned listed = 0, devices = (unsigned)config->devices.count;
    int rc = parse_cpus(config->cpus == NULL ? "" : config->cpus, plan->cpus, &listed, why);
    if (rc != 0)
        return rc;
    unsigned cores = 1;
    if (sched_getaffinity(0, sizeof usable, &usable) == 0)
        cores = (unsigned)CPU_COUNT(&usable);
    unsigned wanted = config->reactors != 0 ? (unsigned)config->reactors : cores;
    plan->workers = MIN(wanted, devices);
    bool pinned = listed >= plan->workers && plan->workers <= cores;
    for (unsigned i = 0; i < plan->workers && pinned; i++)
        pinned = CPU_ISSET((size_t)plan->cpus[i], &usable);
    if (listed > 0 && !pinned)
        LOG_WARN("'cpus' names fewer CPUs that this process may use than there are reactors, %u: "
                 "none is pinned", plan->workers);
    for (unsigned i = 0; i < plan->workers && !pinned; i++)
        plan->cpus[i] = -1;
    plan->spin_ns = config->spin_ns;
    if (plan->workers > cores && plan->spin_ns > 0) {
        LOG_WARN("there are %u reactors and %u cores: none spins", plan->workers, cores);
        plan->spin_ns = 0;
    }
    return 0;
}
