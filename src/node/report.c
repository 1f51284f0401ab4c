/* SPDX-License-Identifier: Apache-2.0 */
/* What a node says of itself: for `shoal status` and for the metrics page. */
#include "node/node_private.h"

static void report_target(struct target *t, struct wire_item_target_report *out)
{
    struct engine_usage usage;
    struct engine_scrub_progress scrub;
    engine_usage(t->engine, &usage);
    engine_scrub_progress(t->engine, &scrub);
    *out = (struct wire_item_target_report){
        .target = t->id,
        .state = (uint8_t)t->state,
        .serving = t->serving,
        .bytes_total = usage.bytes_total,
        .bytes_used = usage.bytes_used,
        .objects = usage.objects,
        .objects_max = usage.objects_max,
        .heads = usage.heads,
        .catch_up_done = t->learn_done,
        .catch_up_total = t->learner_since != 0 ? t->learn_total : 0,
        .slots_waiting = t->unsettled,
        .scrub_passes = scrub.passes,
        .scrub_objects = scrub.pass_objects,
        .scrub_bytes = scrub.bytes_checked,
        .scrub_damaged = scrub.damaged,
        .scrub_repaired = t->repaired,
        .scrub_ended_s = t->scrub_ended_s,
    };
    if (t->learner_since == 0)
        out->catch_up_done = 0;
}

/* Blobs are counted where their primary is, so that the sum over nodes is their number. */
static uint64_t count_heads(struct target *t, uint32_t pool)
{
    uint64_t heads = 0;
    uint32_t partitions = 1u << t->node->map->partition_bits;
    for (uint32_t p = 0; p < partitions; p++) {
        const uint8_t *slot = target_slot(t, pool, p);
        if (slot != NULL && (*slot & SLOT_MINE) != 0)
            heads += engine_partition_heads(t->engine, pool, p);
    }
    return heads;
}

/* Adds what one part has, on that part's reactor. */
static void report_part(struct node *node, void *arg)
{
    struct wire_report_reply *out = arg;
    for (unsigned i = 0; i < node->targets_count; i++)
        report_target(&node->targets[i], &out->targets[out->targets_count++]);
    for (uint32_t i = 0; node->map != NULL && i < out->pools_count; i++) {
        struct wire_item_pool_report *pool = &out->pools[i];
        for (unsigned j = 0; j < node->targets_count; j++) {
            struct target *t = &node->targets[j];
            struct engine_usage usage;
            engine_pool_usage(t->engine, pool->pool, &usage);
            pool->bytes_used += usage.bytes_used;
            pool->heads += count_heads(t, pool->pool);
        }
    }
}

void node_report(struct node *node, struct wire_report_reply *out)
{
    *out = (struct wire_report_reply){
        .epoch = node->map == NULL ? 0 : node->map->epoch,
        .incarnation = node->incarnation,
    };
    for (uint32_t i = 0; node->map != NULL && i < node->map->pools_count; i++)
        out->pools[out->pools_count++] =
            (struct wire_item_pool_report){.pool = node->map->pools[i].id};
    group_visit(node, report_part, out);
}

void serve_report(struct request *r)
{
    REQUEST(r, report, ask);
    (void)ask;
    struct wire_report_reply reply;
    node_report(r->node, &reply);
    REPLY_LARGE(r, report, &reply);
}
