/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far learners are, and how fast they go: for `shoal status` and the metrics page. The rate is that of
 * the last five to ten seconds: of the window that runs and the one before.
 */
#include <stdio.h>

#include "base/metrics.h"
#include "node/node_private.h"

#define WINDOW_NS (5 * NODE_S)

static void turn(struct headway *h, uint64_t now)
{
    if (now - h->now.since_ns < WINDOW_NS)
        return;
    h->before = h->now;
    /* Nobody learned for longer than both windows: what was before says nothing. */
    if (now - h->now.since_ns >= 2 * WINDOW_NS)
        h->before = (struct headway_window){.since_ns = now};
    h->now = (struct headway_window){.since_ns = now};
}

void headway_create(struct target *t, struct metrics *metrics)
{
    struct headway *h = &t->headway;
    char label[64];
    if (metrics == NULL)
        return;
    snprintf(label, sizeof label, "target=\"%u\"", t->id);
    h->pieces_total = metric_counter(metrics, "shoal_node_learned_pieces_total",
                                     "Pieces that a target fetched to catch up, or to take over.",
                                     label);
    h->bytes_total =
        metric_counter(metrics, "shoal_node_learned_bytes_total", "Bytes of these.", label);
    h->slots_left = metric_gauge(metrics, "shoal_node_slots_to_learn",
                                 "Slots that the target has still to learn.", label);
    h->slots_degraded = metric_gauge(
        metrics, "shoal_node_slots_degraded",
        "Slots of which the target is primary and that lack a clean member.", label);
}

/* Each slot is counted where its primary is, so that the sum over nodes is the cluster's. */
void headway_epoch(struct target *t)
{
    uint64_t degraded = 0;
    struct members set;
    if (t->headway.slots_degraded == NULL)
        return;
    for (unsigned i = 0; i < t->slots_count; i++)
        for (uint32_t p = 0; p >> t->node->map->partition_bits == 0; p++)
            degraded += (t->slots[i].flags[p] & SLOT_MINE) != 0 &&
                        node_members(t->node, t->slots[i].pool, p, &set) &&
                        (unsigned)__builtin_popcount(set.present) < set.width;
    gauge_set(t->headway.slots_degraded, (double)degraded);
}

void headway_piece(struct target *t, uint64_t bytes)
{
    struct headway *h = &t->headway;
    turn(h, node_now(t->node));
    h->now.pieces++;
    h->now.bytes += bytes;
    if (h->pieces_total == NULL)
        return;
    counter_add(h->pieces_total, 1);
    counter_add(h->bytes_total, bytes);
}

void headway_slot(struct target *t)
{
    struct headway *h = &t->headway;
    turn(h, node_now(t->node));
    h->now.slots++;
    if (h->slots_left != NULL && gauge_get(h->slots_left) > 0)
        gauge_set(h->slots_left, gauge_get(h->slots_left) - 1);
}

static uint64_t count_left(const struct target *t)
{
    uint64_t left = 0;
    if (!t->serving || t->learner_since == 0)
        return 0;
    for (unsigned i = 0; i < t->slots_count; i++)
        for (uint32_t p = 0; p >> t->node->map->partition_bits == 0; p++)
            left += (t->slots[i].flags[p] & SLOT_LEARNED) == 0 &&
                    learner_has(t, t->slots[i].pool, p);
    return left;
}

void headway_count(struct target *t)
{
    if (t->headway.slots_left != NULL)
        gauge_set(t->headway.slots_left, (double)count_left(t));
}

void headway_report(struct target *t, struct wire_item_target_headway *out)
{
    struct headway *h = &t->headway;
    uint64_t now = node_now(t->node);
    turn(h, now);
    uint64_t since = h->before.since_ns != 0 ? h->before.since_ns : h->now.since_ns;
    *out = (struct wire_item_target_headway){
        .target = t->id,
        .slots_left = count_left(t),
        .window_ms = (now - since) / NODE_MS,
        .slots = h->before.slots + h->now.slots,
        .pieces = h->before.pieces + h->now.pieces,
        .bytes = h->before.bytes + h->now.bytes,
    };
}

static void part_headway(struct node *node, void *arg)
{
    struct wire_headway_reply *out = arg;
    for (unsigned i = 0; i < node->targets_count; i++)
        headway_report(&node->targets[i], &out->targets[out->targets_count++]);
}

void serve_headway(struct request *r)
{
    REQUEST(r, headway, ask);
    (void)ask;
    struct wire_headway_reply reply = {0};
    group_visit(r->node, part_headway, &reply);
    REPLY_LARGE(r, headway, &reply);
}
