/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of one node, each on its reactor. To everybody else they are one node: the first of
 * them leads, which means that it alone enrols, beats, fetches maps and keeps them on disk. It offers
 * each part what it has adopted; the newest offer replaces one that was not taken yet. All that parts
 * share is below, and is atomic or never changes.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "node/node_private.h"
#include "shoal/error.h"

struct offer {
    struct cluster_map *map; /* shared */
    uint32_t incarnation;
};

/* ---- mail that says no more than "look": sent again only after it arrived ---- */

static void bell_ring(struct bell *bell, struct reactor *to)
{
    if (!atomic_exchange(&bell->rung, true))
        mailbox_post(to, &bell->mail);
}

static void want_rung(struct mail *mail)
{
    struct node_group *group = container_of(mail, struct node_group, want.mail);
    atomic_store(&group->want.rung, false);
    struct node *leader = group->parts[0].node;
    if (leader != NULL)
        node_want_epoch(leader, atomic_exchange(&group->wanted_epoch, 0));
}

static void offer_rung(struct mail *mail)
{
    struct group_part *part = container_of(mail, struct group_part, offered.mail);
    atomic_store(&part->offered.rung, false);
    if (part->node != NULL)
        fiber_queue_wake_all(&part->node->map_wake);
}

/* ---- requests that came by another part's reactor ---- */

static void part_request(void *ctx, struct net_request *request)
{
    struct group_part *part = ctx;
    if (part->node == NULL)
        net_refuse(request, SHOAL_E_SHUTDOWN); /* it is not up yet */
    else
        node_request(part->node, request);
}

struct group_part *group_part_for(const struct node *node, const struct wire_head *head)
{
    struct node_group *group = node->group;
    if (head->type == WIRE_map_push || head->type == WIRE_report ||
        head->type == WIRE_headway || head->type == WIRE_lease)
        return &group->parts[0];
    for (unsigned i = 0; i < group->targets_count; i++)
        if (group->targets[i].id == head->target)
            return &group->parts[group->targets[i].part];
    return node->part;
}

/* ---- what parts ask of the authority, through the leader ---- */

struct question {
    struct mail mail;
    struct group_part *from;
    int (*put)(struct authority_door door, const void *ask, void *reply);
    const void *ask;
    void *reply;
    int result;
    struct completion done;
};

static void question_back(struct mail *mail)
{
    struct question *q = container_of(mail, struct question, mail);
    completion_signal(&q->done, q->result);
}

static void question_answered(struct question *q, int result)
{
    q->result = result;
    q->mail.deliver = question_back;
    mailbox_post(q->from->reactor, &q->mail);
}

static void question_fiber(void *arg)
{
    struct question *q = arg;
    struct node *leader = q->from->group->parts[0].node;
    question_answered(q, q->put(leader->config.authority, q->ask, q->reply));
}

static void question_there(struct mail *mail)
{
    struct question *q = container_of(mail, struct question, mail);
    struct node *leader = q->from->group->parts[0].node;
    if (leader == NULL || leader->stopping)
        question_answered(q, SHOAL_E_SHUTDOWN);
    else if (fiber_spawn(leader->pools[CLASS_CONTROL], question_fiber, q) != 0)
        question_answered(q, SHOAL_E_BUSY);
}

static int question(struct group_part *from,
                    int (*put)(struct authority_door door, const void *ask, void *reply),
                    const void *ask, void *reply)
{
    struct question q = {.mail.deliver = question_there, .from = from, .put = put, .ask = ask,
                         .reply = reply};
    mailbox_post(from->group->parts[0].reactor, &q.mail);
    return (int)completion_wait(&q.done);
}

static int put_caught_up(struct authority_door door, const void *ask, void *reply)
{
    return door.ops->caught_up(door.ctx, ask, reply);
}

static int part_caught_up(void *ctx, const struct wire_caught_up *ask,
                          struct wire_caught_up_reply *reply)
{
    return question(ctx, put_caught_up, ask, reply);
}

static int put_moved(struct authority_door door, const void *ask, void *reply)
{
    return door.ops->moved(door.ctx, ask, reply);
}

static int part_moved(void *ctx, const struct wire_moved *ask, struct wire_moved_reply *reply)
{
    return question(ctx, put_moved, ask, reply);
}

/* What a part asks that does not lead; the other questions are the leader's. */
static const struct authority_ops part_ops = {.caught_up = part_caught_up, .moved = part_moved};
_Static_assert(sizeof part_ops == 5 * sizeof(void (*)(void)),
               "a question to the authority was added: do parts that do not lead ask it?");

/* ---- creation ---- */

int node_group_create(struct node_config *parts, unsigned count, struct node_group **out)
{
    if (count == 0 || count > NODE_TARGETS_MAX)
        return SHOAL_E_INVALID;
    struct node_group *group = calloc(1, sizeof *group);
    if (group == NULL)
        return SHOAL_E_NO_MEMORY;
    group->parts_count = count;
    group->want.mail.deliver = want_rung;
    for (unsigned i = 0; i < count; i++) {
        struct group_part *part = &group->parts[i];
        part->group = group;
        part->reactor = parts[i].reactor;
        part->service = (struct net_service){part_request, part};
        part->offered.mail.deliver = offer_rung;
        for (unsigned t = 0; t < parts[i].targets_count; t++) {
            if (group->targets_count == NODE_TARGETS_MAX) {
                free(group);
                return SHOAL_E_INVALID;
            }
            const struct node_target_config *target = &parts[i].targets[t];
            group->targets[group->targets_count++] = (struct group_target){
                .id = target->id, .part = i, .device = target->device, .stale = target->stale};
        }
        parts[i].group = group;
        parts[i].part = i;
        if (i > 0)
            parts[i].authority = (struct authority_door){&part_ops, part};
    }
    *out = group;
    return 0;
}

void node_group_destroy(struct node_group *group)
{
    if (group == NULL)
        return;
    for (unsigned i = 0; i < group->parts_count; i++) {
        struct offer *offer = atomic_exchange(&group->parts[i].offer, NULL);
        CHECK(group->parts[i].node == NULL);
        if (offer != NULL)
            cluster_map_free(offer->map);
        free(offer);
    }
    free(group);
}

struct group_target *group_target_of(struct node_group *group, uint32_t id)
{
    for (unsigned i = 0; i < group->targets_count; i++)
        if (group->targets[i].id == id)
            return &group->targets[i];
    return NULL;
}

/* ---- from the leader to the parts ---- */

void group_offer(struct node *leader)
{
    struct node_group *group = leader->group;
    for (unsigned i = 1; i < group->parts_count; i++) {
        struct group_part *part = &group->parts[i];
        struct offer *offer = malloc(sizeof *offer);
        if (offer == NULL) {
            LOG_ERROR("no memory to tell reactor %u of epoch %llu", i,
                      (unsigned long long)leader->map->epoch);
            return; /* the next epoch tries again; till then it answers as one that is behind */
        }
        *offer = (struct offer){cluster_map_share(leader->map), leader->incarnation};
        offer = atomic_exchange(&part->offer, offer);
        if (offer != NULL)
            cluster_map_free(offer->map);
        free(offer);
        bell_ring(&part->offered, part->reactor);
    }
}

void group_follow(void *arg)
{
    struct node *node = arg;
    while (!node->stopping) {
        struct offer *offer = atomic_exchange(&node->part->offer, NULL);
        if (offer == NULL) {
            fiber_queue_wait(&node->map_wake);
            continue;
        }
        node->incarnation = offer->incarnation;
        if (node->map != NULL && offer->map->epoch == node->map->epoch) {
            cluster_map_free(offer->map);
            node_refresh(node);
        } else {
            (void)node_adopt(node, offer->map);
        }
        free(offer);
    }
    fiber_group_done(&node->running);
}

/* ---- from a part to the leader ---- */

void group_want(struct node *node, uint64_t epoch)
{
    struct node_group *group = node->group;
    uint64_t wanted = atomic_load(&group->wanted_epoch);
    while (wanted < epoch && !atomic_compare_exchange_weak(&group->wanted_epoch, &wanted, epoch))
        ;
    bell_ring(&group->want, group->parts[0].reactor);
}

uint64_t group_epoch(const struct node_group *group)
{
    uint64_t epoch = UINT64_MAX;
    for (unsigned i = 0; i < group->parts_count; i++)
        epoch = MIN(epoch, atomic_load(&group->parts[i].epoch));
    return epoch;
}

/* ---- to each part and back ---- */

struct visit {
    struct mail mail;
    struct group_part *part;
    struct reactor *home;
    void (*look)(struct node *part, void *arg);
    void *arg;
    struct completion done;
};

static void visit_back(struct mail *mail)
{
    completion_signal(&container_of(mail, struct visit, mail)->done, 0);
}

static void visit_there(struct mail *mail)
{
    struct visit *visit = container_of(mail, struct visit, mail);
    if (visit->part->node != NULL)
        visit->look(visit->part->node, visit->arg);
    visit->mail.deliver = visit_back;
    mailbox_post(visit->home, &visit->mail);
}

void group_visit(struct node *node, void (*look)(struct node *part, void *arg), void *arg)
{
    struct node_group *group = node->group;
    for (unsigned i = 0; i < group->parts_count; i++) {
        struct group_part *part = &group->parts[i];
        if (part == node->part) {
            look(node, arg);
            continue;
        }
        struct visit visit = {.mail.deliver = visit_there, .part = part, .home = node->reactor,
                              .look = look, .arg = arg};
        mailbox_post(part->reactor, &visit.mail);
        completion_wait(&visit.done);
    }
}
