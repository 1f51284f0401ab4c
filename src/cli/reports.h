/* SPDX-License-Identifier: Apache-2.0 */
/* What a cluster says of itself: the map, and the report of each node that is up. */
#ifndef CLI_REPORTS_H
#define CLI_REPORTS_H

#include "cli/cli.h"
#include "cluster/cluster.h"

struct node_report {
    bool answered;
    struct wire_report_reply reply;
    struct wire_headway_reply headway; /* none from a node of an older release */
};

/*
 * struct headway - What is still to be learned, and how fast that goes.
 * @seconds_left: until the last target is done; negative: nobody can say
 */
struct headway {
    uint64_t slots_left;
    double slots_per_s, pieces_per_s, bytes_per_s, seconds_left;
};

struct reports {
    struct cluster_map *map; /* a copy, with its table */
    struct node_report *of;  /* by index of node in the map */
};

/* Return: 0, or why there is no map; a node that does not answer is no error. reports_free() in any case. */
int reports_gather(struct shoal *shoal, struct reports *reports);
void reports_free(struct reports *reports);

/* Of a node's targets, or of all: rates add up, and the slowest says when it ends. */
struct headway reports_headway(const struct reports *reports, uint32_t node);
struct headway reports_headway_of_all(const struct reports *reports);

/* NULL: its node did not say. */
const struct wire_item_target_report *reports_target(const struct reports *reports,
                                                     const struct map_target *target);

#endif
