/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is down for too long is out: what it held is rebuilt elsewhere (R42). The time is this
 * process's own: an authority that was away knows nothing of how long somebody was down meanwhile,
 * and begins anew.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cluster/authority_private.h"
#include "core/reactor.h"
#include "shoal/error.h"

#define TICK_NS 1000000000ull

struct out {
    uint32_t target;
    bool alone;
};

static int apply_out(struct cluster_map *map, void *arg)
{
    const struct out *out = arg;
    return map_change_target_out(map, out->target, out->alone);
}

/*
 * R47: a set of one ceases to answer by itself once it hears neither of the authority nor of most nodes for
 * some time. So nobody may be left who could be with it.
 */
static bool is_alone(const struct authority *a, uint32_t node)
{
    for (uint32_t i = 0; i < a->map->nodes_count; i++)
        if (i != node && !a->map->nodes[i].removed &&
            (!a->map->nodes[i].up || !authority_knows(a, i)))
            return false;
    return true;
}

/* By index, which no change of the map ever gives to another target. */
static bool grow(struct authority *a)
{
    uint32_t count = a->map->targets_count;
    if (count <= a->down_since_count)
        return true;
    uint64_t *times = realloc(a->down_since, count * sizeof *times);
    if (times == NULL)
        return false;
    memset(times + a->down_since_count, 0, (count - a->down_since_count) * sizeof *times);
    a->down_since = times;
    a->down_since_count = count;
    return true;
}

static void look(struct authority *a)
{
    uint64_t now = reactor_now_ns(a->config.reactor);
    for (uint32_t i = 0; !a->stopping && grow(a) && i < a->map->targets_count; i++) {
        const struct map_target *target = &a->map->targets[i];
        struct out out = {target->id, a->map->lease_ms == 0 || is_alone(a, target->node)};
        if (target->up || target->state != TARGET_DOWN) {
            a->down_since[i] = 0;
            continue;
        }
        if (a->down_since[i] == 0)
            a->down_since[i] = now;
        if (now - a->down_since[i] < a->map->out_ms * 1000000ull)
            continue;
        if (authority_apply(a, apply_out, &out, APPLY_GATHERED) == 0)
            LOG_WARN("target %u is down for too long: what it held is rebuilt elsewhere",
                     out.target);
    }
}

void authority_outs(void *arg)
{
    struct authority *a = arg;
    while (!a->stopping) {
        if (a->map->out_ms != 0)
            look(a);
        fiber_queue_wait_until(&a->end, reactor_now_ns(a->config.reactor) + TICK_NS);
    }
    fiber_group_done(&a->running);
}
