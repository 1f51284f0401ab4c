/* SPDX-License-Identifier: Apache-2.0 */
/* What a cluster says of itself: the map, and the report of each node that is up. */
#ifndef CLI_REPORTS_H
#define CLI_REPORTS_H

#include "cli/cli.h"
#include "cluster/cluster.h"

struct node_report {
    bool answered;
    struct wire_report_reply reply;
};

struct reports {
    struct cluster_map *map; /* a copy, with its table */
    struct node_report *of;  /* by index of node in the map */
};

/* Return: 0, or why there is no map; a node that does not answer is no error. reports_free() in any case. */
int reports_gather(struct shoal *shoal, struct reports *reports);
void reports_free(struct reports *reports);

/* NULL: its node did not say. */
const struct wire_item_target_report *reports_target(const struct reports *reports,
                                                     const struct map_target *target);

#endif
