#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The map of a cluster is handed from the file of one authority to a real etcd, once and for good; nodes
that joined before and after elect the authority."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cluster"))
from cluster import Cluster  # noqa: E402
from hosts import SHOAL, Hosts, blobs, found  # noqa: E402
from members import Members  # noqa: E402

PREFIX = "shoal/handed"


def credentials(etcd, endpoints=None):
    members = [word for endpoint in endpoints or etcd.endpoints for word in ("--etcd", endpoint)]
    return (*members, "--prefix", PREFIX, "--etcd-ca", etcd.path("ca.crt"), "--etcd-cert",
            etcd.path("etcd.crt"), "--etcd-key", etcd.path("etcd.key"))


def elect(cluster, etcd, *more, endpoints=None, directory=None):
    return cluster.run("cluster", "elect", "--dir", directory or cluster.directory,
                       *credentials(etcd, endpoints), *more, check=False)


def refused(done, words):
    assert done.returncode == 1 and words in done.stderr, f"'{words}' is not in: {done.stderr}"


def a_map_is_handed_over_once():
    with Cluster(nodes=3, size="64M") as cluster, Members(cluster.work) as etcd:
        path = os.path.join(cluster.directory, "authority", "map")
        refused(elect(cluster, etcd), "stop it first")
        cluster.run("down", "--dir", cluster.directory)
        with open(path, "rb") as file:
            kept = file.read()
        refused(elect(cluster, etcd, endpoints=["https://127.0.0.1:1"]), "did not take the map")
        assert os.path.exists(path), "nobody has it"
        done = elect(cluster, etcd, "--authority", "127.0.0.1:7401,127.0.0.1:7402")
        assert done.returncode == 0, done.stderr
        assert etcd.get(f"{PREFIX}/map") == kept
        with open(os.path.join(cluster.directory, "client.yaml")) as file:
            assert 'authority: "127.0.0.1:7401,127.0.0.1:7402"' in file.read()
        # The old authority never starts again.
        refused(cluster.run("supervise", "--dir", cluster.directory, check=False),
                "cannot read the cluster's map")
        # Who was cut short before the file was renamed does it again.
        os.rename(f"{path}.in-etcd", path)
        assert elect(cluster, etcd).returncode == 0 and not os.path.exists(path)
        # Another cluster does not take the place of this one.
        other = os.path.join(cluster.work, "other")
        cluster.run("cluster", "init", "--dir", other, "--authority", "127.0.0.1:7403")
        refused(elect(cluster, etcd, directory=other), "holds a map under")
        assert etcd.get(f"{PREFIX}/map") == kept


def stop(hosts, name):
    hosts.children[name].terminate()
    assert hosts.children.pop(name).wait(timeout=60) is not None


def join(hosts, etcd, host):
    hosts.run(*hosts.join(host, "-"), *credentials(etcd), "--authority", hosts.address(host, 4),
              data=hosts.token())


def nodes_elect_the_authority():
    with Hosts() as hosts, Members(hosts.work) as etcd:
        found(hosts)
        for host in (1, 2, 3):
            join(hosts, etcd, host)
        stop(hosts, "authority")
        addresses = ",".join(hosts.address(host, 4) for host in (1, 2, 3))
        done = elect(hosts, etcd, "--authority", addresses, directory=hosts.admin)
        assert done.returncode == 0, done.stderr
        stop(hosts, "admit")
        hosts.start("admit", SHOAL, "cluster", "admit", "--dir", hosts.admin)
        for host in (1, 2, 3):
            hosts.start_node(host)
        hosts.until("all are up", lambda: hosts.run("status", check=False).returncode == 0 and
                    list(hosts.states().values()) == ["up"] * 3)
        # Whoever is elected adds a node; without etcd's addresses it is told what it lacks.
        hosts.refused("is elected", *hosts.join(4, "-"), data=hosts.token())
        join(hosts, etcd, 4)
        hosts.start_node(4)
        hosts.until("the fourth is up", lambda: list(hosts.states().values()) == ["up"] * 4)
        hosts.run("pool", "create", "copied", "--copies", "3")
        blobs(hosts, "before")
        leader = json.loads(etcd.get(f"{PREFIX}/leader"))["name"]
        hosts.children[leader].kill()
        hosts.children[leader].wait()
        hosts.run("pool", "create", "second", "--copies", "2")
        assert json.loads(etcd.get(f"{PREFIX}/leader"))["name"] != leader
        hosts.start_node(int(leader[-1]))
        hosts.until("it is back", lambda: hosts.status()["health"] == "ok")
        blobs(hosts, "after")


if __name__ == "__main__":
    a_map_is_handed_over_once()
    nodes_elect_the_authority()
