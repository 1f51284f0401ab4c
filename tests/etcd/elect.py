#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The map of a cluster is handed from the file of one authority to a real etcd, once and for good."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cluster"))
from cluster import Cluster  # noqa: E402
from members import Members  # noqa: E402

PREFIX = "shoal/handed"


def elect(cluster, etcd, *more, endpoints=None, directory=None):
    members = [word for endpoint in endpoints or etcd.endpoints for word in ("--etcd", endpoint)]
    return cluster.run("cluster", "elect", "--dir", directory or cluster.directory, *members, "--prefix", PREFIX,
                       "--etcd-ca", etcd.path("ca.crt"), "--etcd-cert", etcd.path("etcd.crt"),
                       "--etcd-key", etcd.path("etcd.key"), *more, check=False)


def refused(done, words):
    assert done.returncode == 1 and words in done.stderr, f"'{words}' is not in: {done.stderr}"


def main():
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


if __name__ == "__main__":
    main()
