/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node of six is killed while clients write and read, in a cluster whose supervisor sees the process
 * end; ec 4+2, every blob on all six. failover.h says what is measured. To be met: writes within the
 * time of a lease, 3 s, and half a second; reads within 100 ms.
 */
#include <stdio.h>

#include "bench.h"
#include "failover.h"
#include "local_cluster.h"

static struct shoal *open_one(void *context)
{
    return local_cluster_open(context);
}

static void kill_node(void *context, unsigned node)
{
    local_cluster_kill(context, node);
}

static void start_node(void *context, unsigned node)
{
    const struct local_cluster *cluster = context;
    char command[32];

    snprintf(command, sizeof command, "node start node-%u", node);
    local_cluster_finish(local_cluster_begin(cluster, command));
}

static unsigned each_once(void *context, unsigned turn)
{
    (void)context;
    return 2 + turn;
}

int main(int argc, char **argv)
{
    struct local_cluster local;
    const struct failover_cluster cluster = {.pools = {"durable"},
                                             .pools_count = 1,
                                             .watch_s = 5,
                                             .open = open_one,
                                             .kill = kill_node,
                                             .start = start_node,
                                             .context = &local};

    bench_start(argc, argv, "A node is killed: how long writes wait, and how late reads are.");
    setvbuf(stdout, NULL, _IOLBF, 0);
    local_cluster_start(&local, "--nodes 6 --size 256M");
    failover_writes(&cluster, "failover-writes", each_once, 3.5);
    failover_fill(&cluster);
    failover_reads(&cluster, "failover-reads", each_once);
    local_cluster_end(&local);
    return 0;
}
