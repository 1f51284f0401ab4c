/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is not heard any more. The books are in memory only and each authority begins them anew: what
 * an earlier one heard, or failed to hear, is no evidence, and neither is time in which this process
 * itself stood still. What the node of this one has heard is.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "cluster/authority_private.h"
#include "core/reactor.h"

#define LOOKS_PER_SILENCE 12u
#define STUCK_SILENCES 4u
#define FENCED_MAX 64u /* at a time */

/*
 * Who stays at an old epoch, since its disk has no room for the map, say, is of no use: all wait for it. It may
 * be at one for some time, until its grants to somebody dead have run out (R46).
 */
static bool is_stuck(const struct authority *a, struct heard *heard, uint64_t epoch)
{
    uint64_t now = reactor_now_ns(a->config.reactor);
    if (epoch >= a->map->epoch)
        heard->behind_ns = 0;
    else if (heard->behind_ns == 0 || heard->epoch != epoch)
        heard->behind_ns = now;
    heard->epoch = epoch;
    return heard->behind_ns != 0 && now - heard->behind_ns > STUCK_SILENCES * a->silence_ns;
}

void authority_heard(struct authority *a, const char *name, size_t len, uint32_t incarnation,
                     uint64_t epoch)
{
    for (uint32_t i = 0; i < a->map->nodes_count; i++) {
        const struct map_node *node = &a->map->nodes[i];
        struct heard *heard = &a->heard[i];
        if (strlen(node->name) != len || memcmp(node->name, name, len) != 0 ||
            node->incarnation != incarnation)
            continue;
        if (heard->incarnation != incarnation)
            *heard = (struct heard){.incarnation = incarnation};
        else if (is_stuck(a, heard, epoch))
            continue;
        heard->at_ns = reactor_now_ns(a->config.reactor);
        heard->asked_ns = 0;
    }
}

static bool is_silent_for(const struct authority *a, const struct map_node *node, uint32_t index,
                          uint64_t ns)
{
    const struct heard *heard = &a->heard[index];
    return node->up && heard->incarnation == node->incarnation &&
           reactor_now_ns(a->config.reactor) - heard->at_ns > ns;
}

static bool is_silent(const struct authority *a, const struct map_node *node, uint32_t index)
{
    return is_silent_for(a, node, index, a->silence_ns);
}

/* Whoever died together with one that is silent for so long is silent too by now: nothing is left to gather. */
static enum apply_when when_to_apply(const struct authority *a)
{
    for (uint32_t i = 0; i < a->map->nodes_count; i++)
        if (is_silent_for(a, &a->map->nodes[i], i, a->silence_ns + a->config.gather_ns))
            return APPLY_AT_ONCE;
    return APPLY_GATHERED;
}

struct silence {
    const struct authority *authority;
    uint64_t due_ns;
};

/* Who overslept heard nobody meanwhile. */
static bool overslept(const struct authority *a, uint64_t due_ns)
{
    return reactor_now_ns(a->config.reactor) > due_ns + a->silence_ns / 4;
}

/* Judged when it is applied: the change has waited, and a node may have been heard meanwhile. */
static int apply_silence(struct cluster_map *map, void *arg)
{
    const struct silence *silence = arg;
    const struct authority *a = silence->authority;
    unsigned found = 0;
    if (overslept(a, silence->due_ns))
        return SHOAL_E_TIMEOUT;
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        if (!is_silent(a, &map->nodes[i], i))
            continue;
        (void)map_change_node_down(map, map->nodes[i].name);
        found++;
    }
    return found > 0 ? 0 : SHOAL_E_EXISTS;
}

int authority_ask_node(struct net *net, const struct map_node *node, uint64_t deadline_ns,
                       struct wire_map_get_reply *reply)
{
    struct wire_head head = {.type = WIRE_map_get, .target = WIRE_NO_TARGET};
    /* As if we had them all: an answer without the map. */
    struct wire_map_get ask = {.have_epoch = UINT64_MAX};
    uint8_t header[256];
    struct net_call call = {
        .header = header,
        .header_len = wire_map_get_encode(header, sizeof header, &head, &ask),
        .deadline_ns = deadline_ns,
        .reply_header = header,
        .reply_header_len = sizeof header,
    };
    struct net_peer *peer;
    int error = net_peer_open(net, node->replication, node->name, 1, &peer);
    if (error != 0)
        return error;
    error = net_call(peer, &call);
    net_peer_close(peer);
    if (error != 0)
        return error;
    struct decoder in = decoder_init(header, call.reply_header_len);
    wire_head_decode(&in, &head);
    return !decoder_ok(&in) || head.status != 0 ? SHOAL_E_INVALID
                                                : wire_map_get_reply_decode(&in, reply);
}

struct question {
    struct authority *authority;
    struct map_node node;
};

static void ask(void *arg)
{
    struct question *question = arg;
    struct authority *a = question->authority;
    const struct map_node *node = &question->node;
    struct wire_map_get_reply reply;
    uint64_t deadline = reactor_now_ns(a->config.reactor) + a->silence_ns / 4;
    if (authority_ask_node(a->config.net, node, deadline, &reply) == 0 && !a->stopping)
        authority_heard(a, node->name, strlen(node->name), reply.incarnation, reply.epoch);
    fiber_group_done(&a->running);
    free(question);
}

/* One that lives may not know who leads, when it alone has lost etcd: so it is asked before. */
static void ask_node(struct authority *a, const struct map_node *node)
{
    struct question *question = malloc(sizeof *question);
    if (question == NULL)
        return;
    *question = (struct question){a, *node};
    fiber_group_add(&a->running);
    if (fiber_spawn(a->fibers, ask, question) != 0) {
        fiber_group_done(&a->running);
        free(question);
    }
}

/* So that the death of one authority does not make another count from nothing. */
static void begin_books(struct authority *a)
{
    uint64_t now = reactor_now_ns(a->config.reactor);
    for (uint32_t i = 0; i < a->map->nodes_count; i++) {
        uint64_t silent_ns = a->config.silent_ns == NULL ? 0 : a->config.silent_ns(a->config.ctx, i);
        a->heard[i] = (struct heard){.incarnation = a->map->nodes[i].incarnation,
                                     .at_ns = now - MIN(silent_ns, now)};
    }
}

/* Lives that the books do not have yet begin now. */
static bool look(struct authority *a, bool anew)
{
    uint64_t now = reactor_now_ns(a->config.reactor);
    bool silent = false;
    for (uint32_t i = 0; i < a->map->nodes_count; i++) {
        const struct map_node *node = &a->map->nodes[i];
        struct heard *heard = &a->heard[i];
        if (anew || heard->incarnation != node->incarnation)
            *heard = (struct heard){.incarnation = node->incarnation, .at_ns = now};
        if (node->up && now - heard->at_ns > a->silence_ns / 2 &&
            now - heard->asked_ns > a->silence_ns / 4) {
            heard->asked_ns = now;
            ask_node(a, node);
        }
        silent |= is_silent(a, node, i);
    }
    return silent;
}

static void tell(const struct authority *a)
{
    for (uint32_t i = 0; i < a->map->nodes_count; i++)
        if (is_silent(a, &a->map->nodes[i], i))
            LOG_WARN("authority: %s was not heard for %llu ms", a->map->nodes[i].name,
                     (unsigned long long)(a->silence_ns / 1000000));
}

/* Nothing has blocked since somebody was found silent, so nobody was heard meanwhile. */
static void fence_silent(struct authority *a)
{
    char names[FENCED_MAX][CLUSTER_NAME_MAX];
    unsigned count = 0;
    for (uint32_t i = 0; i < a->map->nodes_count && count < FENCED_MAX; i++)
        if (is_silent(a, &a->map->nodes[i], i))
            memcpy(names[count++], a->map->nodes[i].name, CLUSTER_NAME_MAX);
    for (unsigned i = 0; i < count && !a->stopping; i++)
        a->config.fence(a->config.ctx, names[i]);
}

void authority_silence(void *arg)
{
    struct authority *a = arg;
    bool anew = false;
    begin_books(a);
    while (!a->stopping) {
        uint64_t pause = a->silence_ns / LOOKS_PER_SILENCE;
        struct silence silence = {a, reactor_now_ns(a->config.reactor) + a->config.gather_ns};
        if (look(a, anew) && !a->outdated) {
            tell(a);
            int error = 0;
            if (a->config.fence != NULL)
                fence_silent(a);
            else
                error = authority_apply(a, apply_silence, &silence, when_to_apply(a));
            /* Not when the silent one is back already: others have to be looked after. */
            if (error != 0 && error != SHOAL_E_EXISTS)
                pause = a->silence_ns;
        }
        uint64_t due = reactor_now_ns(a->config.reactor) + pause;
        fiber_queue_wait_until(&a->end, due);
        anew = overslept(a, due);
    }
    fiber_group_done(&a->running);
}
