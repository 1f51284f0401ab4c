/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node of six is killed while clients write and read, in a cluster of hosts with etcd, where nobody
 * sees the process end: it is known by its silence alone, and nothing is written without it before its
 * lease has run out. Pools ec 4+2, every blob on all six, and of three copies. failover.h says what
 * is measured.
 *
 *   failover-writes-hosts   to be met: the time of a lease, 3 s, and half a second
 *   failover-reads-hosts    to be met: 100 ms
 *   failover-leader         writes, when it is the elected node that is killed
 *   failover-leader-reads   reads then
 */
#include <stdio.h>

#include "bench.h"
#include "failover.h"
#include "hosts_cluster.h"

#define LEASE_S 3u

static struct shoal *open_one(void *context)
{
    return hosts_cluster_open(context);
}

static void kill_node(void *context, unsigned node)
{
    hosts_cluster_kill(context, node);
}

static void start_node(void *context, unsigned node)
{
    hosts_cluster_restart(context, node);
}

static unsigned leader(void *context, unsigned turn)
{
    (void)turn;
    return hosts_cluster_leader(context);
}

static unsigned another(void *context, unsigned turn)
{
    return 1 + turn == hosts_cluster_leader(context) ? FAILOVER_KILLS + 1 : 1 + turn;
}

int main(int argc, char **argv)
{
    struct hosts_cluster hosts;
    const struct failover_cluster cluster = {
        .pools = {"durable", "copied"},
        .pools_count = 2,
        .watch_s = 2 * LEASE_S + 1,
        .rest_s = LEASE_S + 1, /* what a life before may have granted holds a node back for a lease */
        .open = open_one,
        .kill = kill_node,
        .start = start_node,
        .context = &hosts};

    bench_start(argc, argv, "A node of a cluster of hosts is killed: how long writes wait, and how "
                            "late reads are.");
    setvbuf(stdout, NULL, _IOLBF, 0);
    hosts_cluster_start(&hosts);
    failover_writes(&cluster, "failover-writes-hosts", another, LEASE_S + 0.5);
    failover_writes(&cluster, "failover-leader", leader, LEASE_S + 0.5);
    failover_fill(&cluster);
    failover_reads(&cluster, "failover-reads-hosts", another);
    failover_reads(&cluster, "failover-leader-reads", leader);
    hosts_cluster_end(&hosts);
    return 0;
}
