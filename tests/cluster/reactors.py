#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Nodes that serve several targets, each on a reactor of its own, are killed and stopped under load."""
import os
import re
import time
import urllib.request

from cluster import LONG, Cluster, finish_load

REACTORS = 3


def metric_of_reactors(cluster, node, name):
    """{reactor: sum over all operations} of a counter that each reactor has for itself."""
    address = next(n for n in cluster.json("status")["nodes"] if n["name"] == node)
    page = urllib.request.urlopen(f"http://{address['addresses']['management']}/metrics",
                                  timeout=20).read().decode()
    sums = {}
    for reactor, value in re.findall(name + r'\{[^}]*reactor="(\d+)"[^}]*\} (\d+)', page):
        sums[int(reactor)] = sums.get(int(reactor), 0) + int(value)
    return sums


def threads(cluster, node):
    """{name: clock ticks of CPU} of the node's threads."""
    tasks = f"/proc/{cluster.pid(node)}/task"
    used = {}
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/stat") as stat:
            name, rest = re.match(r"\d+ \((.*)\) (.*)", stat.read()).groups()
        used[name] = sum(int(ticks) for ticks in rest.split()[11:13])
    return used


def restart_with_reactors(cluster):
    """The machine that runs this may have fewer cores: ask for as many as there are targets."""
    for node in cluster.nodes:
        cluster.shoal("node", "stop", node)
        with open(os.path.join(cluster.directory, node, "node.yaml"), "a") as config:
            config.write(f"reactors: {REACTORS}\n")
        cluster.start(node)
    cluster.wait_health()


def all_reactors_serve(cluster):
    for node in cluster.nodes:
        requests = metric_of_reactors(cluster, node, "shoal_node_requests_total")
        assert sorted(requests) == list(range(REACTORS)), requests
        assert all(requests.values()), f"{node}: a reactor answered nothing: {requests}"
        ran = threads(cluster, node)
        for reactor in range(REACTORS):
            assert ran.get(f"{node}/{reactor}", 0) > 0, f"{node}: {ran}"
        print(f"   {node}: requests by reactor {requests}", flush=True)


def one_node_to_all_others(cluster):
    status = cluster.json("status")
    assert len(status["nodes"]) == len(cluster.nodes)
    for node in status["nodes"]:
        assert [t["state"] for t in node["targets"]] == ["up"] * REACTORS, node
        assert all(t["bytes_total"] > 0 for t in node["targets"]), node
        maps = [name for name in os.listdir(os.path.join(cluster.directory, node["name"]))
                if name.startswith("map")]
        assert maps == ["map"], maps


def hurt(cluster, rounds):
    loads = [cluster.load(pool, 6 * rounds, 1) for pool in ("coded", "copied")]
    for i in range(rounds):
        victim = cluster.nodes[i % len(cluster.nodes)]
        time.sleep(1)
        cluster.kill(victim)
        time.sleep(0.5)
        cluster.start(victim)
        cluster.wait_health()
        # A stop while others call it: every request is answered, the process ends by itself.
        other = cluster.nodes[(i + 1) % len(cluster.nodes)]
        cluster.shoal("node", "stop", other)
        cluster.start(other)
        cluster.wait_health()
    for load in loads:
        finish_load(load)


def main():
    with Cluster(nodes=3, size="128M", targets=REACTORS) as cluster:
        cluster.shoal("pool", "create", "coded", "--ec", "4+2")
        cluster.shoal("pool", "create", "copied", "--copies", "2")
        restart_with_reactors(cluster)
        hurt(cluster, 5 if LONG else 1)
        for pool in ("coded", "copied"):
            cluster.check(pool)
        all_reactors_serve(cluster)
        one_node_to_all_others(cluster)


if __name__ == "__main__":
    main()
