#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node that hangs is killed and its writes go on; what stood still with the supervisor is not held against it."""
import os
import signal
import time

from cluster import Cluster, finish_load

LEASE = 3  # seconds of silence
SLACK = 4  # to notice, to kill, to publish, and for a build with sanitizers


def states(cluster):
    return {node["name"]: node["state"] for node in cluster.json("status")["nodes"]}


def stop(cluster, name):
    os.kill(cluster.pid(name), signal.SIGSTOP)


def all_up(cluster):
    return {name: "up" for name in cluster.nodes}


def main():
    with Cluster(6) as cluster:
        cluster.shoal("pool", "create", "coded", "--ec", "4+2")
        blob = os.path.join(cluster.work, "blob")
        with open(blob, "wb") as file:
            file.write(os.urandom(3 << 20))

        print("node-2 hangs under load: writes go on without it", flush=True)
        load = cluster.load("coded", 12, 1)
        time.sleep(1)
        hung = cluster.pid("node-2")
        stop(cluster, "node-2")
        began = time.monotonic()
        # Each stripe of a blob has all six nodes among its members, so this waits for the fence.
        cluster.shoal("put", "coded/while-hung", blob)
        waited = time.monotonic() - began
        print(f"   a put took {waited:.1f} s", flush=True)
        assert LEASE - 1 < waited < LEASE + SLACK, waited
        assert not os.path.exists(f"/proc/{hung}") or "Z" in open(f"/proc/{hung}/stat").read()
        assert states(cluster)["node-2"] == "down", states(cluster)
        finish_load(load)
        cluster.check("coded")
        cluster.start("node-2")
        cluster.wait_health("ok")
        cluster.check("coded")

        print("the supervisor stands still for longer than that: nobody is killed for it", flush=True)
        pids = {name: cluster.pid(name) for name in cluster.nodes}
        stop(cluster, "authority")
        time.sleep(2 * LEASE)
        os.kill(cluster.pid("authority"), signal.SIGCONT)
        time.sleep(LEASE + 1)
        assert states(cluster) == all_up(cluster), states(cluster)
        assert pids == {name: cluster.pid(name) for name in cluster.nodes}

        print("a supervisor that begins anew beside a hung node kills it too; 'up' starts it", flush=True)
        hung = pids["node-5"]
        stop(cluster, "node-5")
        cluster.kill("authority")
        cluster.up()
        cluster.shoal("put", "coded/after", blob)
        cluster.up()
        assert cluster.pid("node-5") != hung
        cluster.wait_health("ok")
        cluster.check("coded")


if __name__ == "__main__":
    main()
