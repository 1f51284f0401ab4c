#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Nodes are drained, weighed, killed and removed while a load runs; every acknowledged byte is read back.

After each step every blob is compared with what was acknowledged, and at no time is a partition degraded
because of a drain.
"""
import time

from cluster import Cluster, finish_load


def places(cluster, node):
    targets = [t for t in cluster.json("map")["targets"] if t["node"] == node]
    return sum(t["serves"] for t in targets), sum(t["learns"] + t["leaves"] for t in targets)


def wait_still(cluster, seconds=150):
    """Until nothing moves; a drain alone leaves no partition degraded meanwhile."""
    deadline = time.monotonic() + seconds
    seen = 0
    while True:
        status = cluster.json("status")
        seen = max(seen, status["positions_moving"])
        if status["positions_moving"] == 0:
            return seen
        assert time.monotonic() < deadline, f"{status['positions_moving']} positions still move"
        time.sleep(0.2)


def check(cluster):
    for pool in ("coded", "copied"):
        cluster.check(pool)


def main():
    with Cluster(8, size="512M") as cluster:
        cluster.shoal("pool", "create", "coded", "--ec", "4+2")
        cluster.shoal("pool", "create", "copied", "--copies", "3")
        finish_load(cluster.load("coded", 2, 1))
        loads = [cluster.load("coded", 8, 2), cluster.load("copied", 8, 3)]
        print("drain node-3 under load", flush=True)
        assert places(cluster, "node-3")[0] > 0
        refused = cluster.run("node", "remove", "node-3", check=False)
        assert refused.returncode != 0 and "node drain node-3" in refused.stderr, refused.stderr
        cluster.shoal("node", "drain", "node-3")
        assert cluster.json("status")["partitions_degraded"] == 0
        assert wait_still(cluster) > 0
        assert cluster.json("status")["partitions_degraded"] == 0
        assert places(cluster, "node-3") == (0, 0), places(cluster, "node-3")
        for load in loads:
            finish_load(load)
        check(cluster)

        print("remove it, and lose two others", flush=True)
        cluster.shoal("node", "remove", "node-3")
        cluster.nodes.remove("node-3")
        check(cluster)
        cluster.kill("node-1")
        cluster.kill("node-6")
        check(cluster)
        cluster.start("node-1")
        cluster.start("node-6")
        cluster.wait_health("ok")

        print("another drain, in whose middle a node is killed, and that is undone", flush=True)
        load = cluster.load("coded", 8, 4)
        cluster.shoal("node", "weight", "node-2", "1000000")
        cluster.shoal("node", "drain", "node-5")
        time.sleep(1)
        cluster.kill("node-7")
        cluster.shoal("node", "undrain", "node-5")
        cluster.start("node-7")
        finish_load(load)
        cluster.wait_health("ok")
        wait_still(cluster)
        assert places(cluster, "node-5")[0] > 0
        check(cluster)


if __name__ == "__main__":
    main()
