/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the nodes say when they are asked before one of them leads: whether somebody has a newer map than
 * etcd, and who lives.
 */
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "cluster/authority_private.h"
#include "core/reactor.h"

#define MS 1000000ull
#define ANSWER_NS (700 * MS)

struct question {
    struct survey *survey;
    const struct map_node *node;
    uint64_t deadline_ns;
    bool *answered;
    struct fiber_group *group;
};

static uint64_t now_ns(const struct survey *survey)
{
    return reactor_now_ns(survey->reactor);
}

static void ask(void *arg)
{
    struct question *question = arg;
    struct survey *survey = question->survey;
    struct wire_map_get_reply reply;
    if (now_ns(survey) >= question->deadline_ns) {
        *question->answered = true; /* not asked, so its silence says nothing */
    } else if (authority_ask_node(survey->net, question->node, question->deadline_ns, &reply) == 0) {
        survey->newest = MAX(survey->newest, reply.epoch);
        *question->answered = true;
    }
    fiber_group_done(question->group);
    free(question);
}

/*
 * Who did not answer is silent since the node here heard it last, so that one death is not waited for twice. If this
 * process stood still while it asked, nobody's silence says anything.
 */
static void note_silence(struct survey *survey, const struct cluster_map *map, const bool *answered,
                         uint64_t asked_ns)
{
    uint64_t now = now_ns(survey);
    bool stood_still = now > asked_ns + 2 * ANSWER_NS;
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        bool unknown = answered[i] || stood_still || survey->heard == NULL;
        uint64_t heard_ns = unknown ? 0 : survey->heard(survey->ctx, i);
        survey->silent_ns[i] = heard_ns == 0 || heard_ns > now ? 0 : now - heard_ns;
    }
}

void authority_survey(struct survey *survey, const struct cluster_map *map)
{
    struct fiber_group group;
    uint64_t asked_ns = now_ns(survey);
    bool answered[CLUSTER_NODES_MAX] = {false};
    fiber_group_init(&group);
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        answered[i] = strcmp(map->nodes[i].name, survey->self) == 0;
        if (answered[i] || !map->nodes[i].up)
            continue;
        struct question *question = malloc(sizeof *question);
        answered[i] = question == NULL;
        if (answered[i])
            continue;
        *question = (struct question){survey, &map->nodes[i], asked_ns + ANSWER_NS, &answered[i], &group};
        fiber_group_add(&group);
        while (fiber_spawn(survey->fibers, ask, question) != 0)
            fiber_sleep(MS);
    }
    fiber_group_wait(&group);
    note_silence(survey, map, answered, asked_ns);
}
