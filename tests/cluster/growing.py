#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Nodes are added, moved to other racks and removed while a load runs; every acknowledged byte is read back."""
import os
import time
import urllib.request

from cluster import Cluster, finish_load
from moving import check, places, wait_still


def racks(cluster):
    return {node["name"]: (node["rack"], node["row"]) for node in cluster.json("map")["nodes"]}


def refused(cluster, words, *arguments):
    done = cluster.run(*arguments, check=False)
    assert done.returncode == 1 and words in done.stderr, done


def watch_rebuild(cluster, name, seconds=120):
    """While data moves to a node, status says how fast it goes and when it ends; then that it is done."""
    deadline = time.monotonic() + seconds
    fastest, estimates = 0, []
    while True:
        status = cluster.json("status")
        node = next(n for n in status["nodes"] if n["name"] == name)["rebuild"]
        assert status["rebuild"]["slots_left"] >= node["slots_left"], status
        fastest = max(fastest, node["bytes_per_s"])
        if node["slots_left"] > 0 and node["seconds_left"] is not None:
            estimates.append(node["seconds_left"])
        if status["positions_moving"] == 0:
            break
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    assert fastest > 0 and estimates and min(estimates) < seconds, (fastest, estimates)
    assert node["slots_left"] == 0 and node["seconds_left"] == 0, node
    shown = cluster.shoal("status")
    assert "rebuilding" not in shown and "SURVIVES" in shown, shown
    management = node_of(cluster, name)["addresses"]["management"]
    with urllib.request.urlopen(f"http://{management}/metrics", timeout=10) as page:
        lines = dict(line.rsplit(" ", 1) for line in page.read().decode().splitlines()
                     if line.startswith(("shoal_node_learned", "shoal_node_slots")))
    assert sum(float(v) for k, v in lines.items() if "learned_bytes_total" in k) > 0, lines
    assert sum(float(v) for k, v in lines.items() if "learned_pieces_total" in k) > 0, lines
    assert sum(float(v) for k, v in lines.items() if "slots_to_learn" in k) == 0, lines


def node_of(cluster, name):
    return next(n for n in cluster.json("status")["nodes"] if n["name"] == name)


def main():
    with Cluster(6, size="512M", more=("--racks", "3")) as cluster:
        cluster.shoal("pool", "create", "coded", "--ec", "4+2")
        cluster.shoal("pool", "create", "copied", "--copies", "3")
        assert racks(cluster)["node-5"] == ("rack-2", ""), racks(cluster)
        finish_load(cluster.load("coded", 2, 1))
        blob = os.path.join(cluster.work, "blob")
        with open(blob, "wb") as file:
            file.write(os.urandom(100 << 20))
        cluster.shoal("put", "coded/large", blob)

        print("two nodes are added under load", flush=True)
        loads = [cluster.load("coded", 8, 2), cluster.load("copied", 8, 3)]
        added = cluster.json("node", "add", "--rack", "rack-4")
        assert added["node"] == "node-7" and len(added["targets"]) == 1, added
        cluster.nodes.append("node-7")
        watch_rebuild(cluster, "node-7")
        assert cluster.json("node", "add", "--rack", "rack-4", "--targets-per-node", "2", "--size",
                            "256M")["node"] == "node-8"
        cluster.nodes.append("node-8")
        refused(cluster, "there is a node 'node-8' already", "node", "add", "node-8")
        refused(cluster, "is no name of a node here", "node", "add", "tom")
        wait_still(cluster)
        for load in loads:
            finish_load(load)
        assert places(cluster, "node-7")[0] > 0 and places(cluster, "node-8")[0] > 0
        cluster.wait_health("ok")
        check(cluster)

        print("racks get rows, and one node another rack", flush=True)
        load = cluster.load("coded", 6, 4)
        refused(cluster, "a rack stands in one row", "node", "move", "node-7", "--row", "east")
        cluster.shoal("node", "move", "node-7", "node-8", "--row", "east")
        cluster.shoal("node", "move", "node-1", "node-2", "node-4", "node-5", "--row", "west")
        cluster.shoal("node", "move", "node-8", "--rack", "rack-3")
        assert racks(cluster)["node-8"] == ("rack-3", ""), racks(cluster)
        assert racks(cluster)["node-4"] == ("rack-1", "west"), racks(cluster)
        wait_still(cluster)
        finish_load(load)
        cluster.wait_health("ok")
        check(cluster)

        print("nodes are removed: their processes end, their files are put aside or deleted", flush=True)
        load = cluster.load("coded", 6, 5)
        for name, more in (("node-2", []), ("node-7", ["--delete-files"])):
            pid = cluster.pid(name)
            refused(cluster, "still holds what is needed", "node", "remove", name)
            cluster.shoal("node", "drain", name)
            wait_still(cluster)
            gone = cluster.json("node", "remove", name, *more)
            assert not os.path.exists(f"/proc/{pid}"), "the process runs on"
            assert not os.path.exists(os.path.join(cluster.directory, name))
            kept = os.path.join(cluster.directory, "removed", name)
            assert gone["files"] == (None if more else kept), gone
            assert os.path.exists(os.path.join(kept, "disk-1")) == (not more)
            cluster.nodes.remove(name)
        finish_load(load)
        check(cluster)
        refused(cluster, "was removed", "node", "add", "node-2")
        refused(cluster, "there is no node", "node", "remove", "node-2")

        print("it comes back as it is now, also when all was killed", flush=True)
        cluster.kill_everything()
        cluster.up()
        assert [node["name"] for node in cluster.wait_health("ok")["nodes"]] == sorted(cluster.nodes)
        check(cluster)


if __name__ == "__main__":
    main()
