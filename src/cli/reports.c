/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/reports.h"

#include <stdlib.h>

#define REPORT_MS 2000u

struct gathering {
    struct shoal *shoal;
    struct reports *reports;
    int rc;
};

static void gather_fiber(void *arg)
{
    struct gathering *gathering = arg;
    struct reports *reports = gathering->reports;
    struct client *client = shoal_client(gathering->shoal);
    gathering->rc = client_refresh(client, shoal_deadline_ns(gathering->shoal, REPORT_MS));
    const struct cluster_map *map = client_map(client);
    if (map == NULL)
        return;
    gathering->rc = 0;
    reports->map = cluster_map_copy(map);
    reports->of = calloc(map->nodes_count + 1, sizeof *reports->of);
    if (reports->map == NULL || reports->of == NULL || cluster_map_place(reports->map, NULL) != 0) {
        gathering->rc = SHOAL_E_NO_MEMORY;
        return;
    }
    for (uint32_t i = 0; i < reports->map->nodes_count; i++) {
        struct node_report *report = &reports->of[i];
        uint64_t deadline_ns = shoal_deadline_ns(gathering->shoal, REPORT_MS);
        report->answered = reports->map->nodes[i].up &&
                           client_report(client, i, deadline_ns, &report->reply) == 0;
        if (report->answered && client_headway(client, i, deadline_ns, &report->headway) != 0)
            report->headway.targets_count = 0;
    }
}

int reports_gather(struct shoal *shoal, struct reports *reports)
{
    struct gathering gathering = {.shoal = shoal, .reports = reports};
    *reports = (struct reports){0};
    int rc = shoal_run_fiber(shoal, gather_fiber, &gathering);
    return rc == 0 ? gathering.rc : rc;
}

void reports_free(struct reports *reports)
{
    cluster_map_free(reports->map);
    free(reports->of);
}

static void add_headway(struct headway *sum, const struct headway *more)
{
    sum->slots_left += more->slots_left;
    sum->slots_per_s += more->slots_per_s;
    sum->pieces_per_s += more->pieces_per_s;
    sum->bytes_per_s += more->bytes_per_s;
    if (sum->seconds_left >= 0)
        sum->seconds_left = more->seconds_left < 0 ? -1
                                                   : MAX(sum->seconds_left, more->seconds_left);
}

static struct headway headway_of(const struct wire_item_target_headway *target)
{
    double seconds = (double)target->window_ms / 1000;
    struct headway headway = {.slots_left = target->slots_left};
    if (seconds > 0) {
        headway.slots_per_s = (double)target->slots / seconds;
        headway.pieces_per_s = (double)target->pieces / seconds;
        headway.bytes_per_s = (double)target->bytes / seconds;
    }
    if (target->slots_left > 0)
        headway.seconds_left =
            headway.slots_per_s > 0 ? (double)target->slots_left / headway.slots_per_s : -1;
    return headway;
}

struct headway reports_headway(const struct reports *reports, uint32_t node)
{
    struct headway sum = {.slots_left = 0};
    const struct wire_headway_reply *reply = &reports->of[node].headway;
    for (unsigned i = 0; i < reply->targets_count; i++) {
        struct headway target = headway_of(&reply->targets[i]);
        add_headway(&sum, &target);
    }
    return sum;
}

struct headway reports_headway_of_all(const struct reports *reports)
{
    struct headway sum = {.slots_left = 0};
    for (uint32_t i = 0; i < reports->map->nodes_count; i++) {
        struct headway node = reports_headway(reports, i);
        add_headway(&sum, &node);
    }
    return sum;
}

const struct wire_item_target_report *reports_target(const struct reports *reports,
                                                     const struct map_target *target)
{
    const struct node_report *report = &reports->of[target->node];
    for (unsigned i = 0; report->answered && i < report->reply.targets_count; i++)
        if (report->reply.targets[i].target == target->id)
            return &report->reply.targets[i];
    return NULL;
}
