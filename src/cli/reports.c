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
    for (uint32_t i = 0; i < reports->map->nodes_count; i++)
        reports->of[i].answered =
            reports->map->nodes[i].up &&
            client_report(client, i, shoal_deadline_ns(gathering->shoal, REPORT_MS),
                          &reports->of[i].reply) == 0;
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

const struct wire_item_target_report *reports_target(const struct reports *reports,
                                                     const struct map_target *target)
{
    const struct node_report *report = &reports->of[target->node];
    for (unsigned i = 0; report->answered && i < report->reply.targets_count; i++)
        if (report->reply.targets[i].target == target->id)
            return &report->reply.targets[i];
    return NULL;
}
