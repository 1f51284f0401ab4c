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
 * R47: a set of one ceases to answer by itself once neither the authority nor most nodes have had it up for
 * some time. A node that has adopted a map in which it is not has it up no more, in this life or another.
 */
static bool is_alone(const struct authority *a, uint32_t node, uint64_t since_epoch)
{
    for (uint32_t i = 0; i < a->map->nodes_count; i++)
        if (i != node && !a->map->nodes[i].removed && a->seen_epoch[i] < since_epoch)
            return false;
    return true;
}

/* By index, which no change of the map ever gives to another target. */
static bool grow(struct authority *a)
{
    uint32_t count = a->map->targets_count;
    if (count <= a->absences_count)
        return true;
    struct absence *absences = realloc(a->absences, count * sizeof *absences);
    if (absences == NULL)
        return false;
    memset(absences + a->absences_count, 0, (count - a->absences_count) * sizeof *absences);
    a->absences = absences;
    a->absences_count = count;
    return true;
}

static void note_absence(struct authority *a, const struct map_target *target, uint64_t now)
{
    struct absence *absence = &a->absences[target - a->map->targets];
    uint32_t incarnation = a->map->nodes[target->node].incarnation;
    bool down = !target->up && (target->state == TARGET_DOWN || target->state == TARGET_OUT);
    if (!down)
        *absence = (struct absence){0};
    else if (absence->since_ns == 0 || absence->incarnation != incarnation)
        *absence = (struct absence){
            .since_ns = now, .epoch = a->map->epoch, .incarnation = incarnation};
    if (down && absence->alone_ns == 0 && is_alone(a, target->node, absence->epoch))
        absence->alone_ns = now;
}

static void look(struct authority *a)
{
    uint64_t now = reactor_now_ns(a->config.reactor), long_ns = a->map->out_ms * 1000000ull;
    for (uint32_t i = 0; !a->stopping && grow(a) && i < a->map->targets_count; i++) {
        const struct map_target *target = &a->map->targets[i];
        note_absence(a, target, now);
        struct absence *absence = &a->absences[i];
        if (absence->since_ns == 0 || now - absence->since_ns < long_ns || absence->gave_up_ones)
            continue;
        bool alone = absence->alone_ns != 0 && now - absence->alone_ns >= long_ns;
        struct out out = {target->id, a->map->lease_ms == 0 || alone};
        absence->gave_up_ones = target->state == TARGET_OUT && out.alone &&
                                !cluster_map_keeps_ones(a->map, target);
        if (absence->gave_up_ones || (target->state == TARGET_OUT && !out.alone))
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
