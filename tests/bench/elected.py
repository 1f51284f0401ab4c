#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Six nodes that joined, and the etcd that elects one of them, for a program that measures what deaths cost.

Each node has addresses of its own; nobody but their silence says that one is dead. Prints the directory of
client.yaml when all serve, then answers each line that it is sent:

  leader      the number of the node that is elected
  kill N      ok: SIGKILL, and nobody is told
  start N     ok: it is started, and not waited for

All of it ends when nothing more can come.
"""
import json
import os
import signal
import sys

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path += [os.path.join(TESTS, "cluster"), os.path.join(TESTS, "etcd")]
os.environ.setdefault("SHOAL", "shoal")
os.environ.setdefault("SHOALD", "shoald")
from hosts import SHOAL, Hosts  # noqa: E402
from members import Members  # noqa: E402

NODES = range(1, 7)
ADMIN = len(NODES) + 1
PREFIX = "shoal/bench"
POOLS = {"durable": ["--ec", "4+2"], "copied": ["--copies", "3"]}


class Elected(Hosts):
    def __init__(self):
        super().__init__()
        self.etcd = Members(self.work)

    def __enter__(self):
        try:
            self.etcd.__enter__()
            self.found()
            self.until("all are up", self.all_are_up)
            for pool, layout in POOLS.items():
                self.run("pool", "create", pool, *layout)
            self.until("all is well", lambda: self.status()["health"] == "ok")
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        self.etcd.__exit__(None, value, trace)
        super().__exit__(kind, value, trace)

    def found(self):
        credentials = [word for endpoint in self.etcd.endpoints for word in ("--etcd", endpoint)]
        credentials += ["--prefix", PREFIX, "--etcd-ca", self.etcd.path("ca.crt"), "--etcd-cert",
                        self.etcd.path("etcd.crt"), "--etcd-key", self.etcd.path("etcd.key")]
        self.run("cluster", "init", "--dir", self.admin, "--authority", self.address(ADMIN, 1),
                 "--admit", self.address(ADMIN, 2), "--targets", "16")
        self.start("authority", SHOAL, "supervise", "--dir", self.admin)
        self.start("admit", SHOAL, "cluster", "admit", "--dir", self.admin)
        self.until("admit listens", lambda: "may join at" in open(self.path("admit.log")).read())
        token = self.token()
        for host in NODES:
            self.run("cluster", "join", "--token", "-", "--name", f"host-{host}",
                     "--dir", self.path(f"etc-{host}"), "--state", self.path(f"var-{host}"),
                     "--data", self.address(host, 1), "--replication", self.address(host, 2),
                     "--management", self.address(host, 3), "--authority", self.address(host, 4),
                     "--size", "256M", *credentials, self.path(f"disk-{host}"), data=token)
        for name in ("authority", "admit"):
            self.children[name].terminate()
            self.children.pop(name).wait(timeout=60)
        self.run("cluster", "elect", "--dir", self.admin, *credentials, "--authority",
                 ",".join(self.address(host, 4) for host in NODES))
        for host in NODES:
            self.start_node(host)

    def all_are_up(self):
        done = self.run("status", "--json", check=False)
        return done.returncode == 0 and \
            [node["state"] for node in json.loads(done.stdout)["nodes"]] == ["up"] * len(NODES)

    # ---- what is asked of it ----

    def leader(self):
        self.until("one is elected", lambda: self.etcd.get(f"{PREFIX}/leader"))
        return json.loads(self.etcd.get(f"{PREFIX}/leader"))["name"].removeprefix("host-")

    def kill(self, host):
        child = self.children[f"host-{host}"]
        child.kill()
        child.wait()
        return "ok"

    def start_again(self, host):
        self.start_node(int(host))
        return "ok"


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN) # who asks ends, and all of it then
    with Elected() as cluster:
        print(cluster.admin, flush=True)
        verbs = {"leader": cluster.leader, "kill": cluster.kill, "start": cluster.start_again}
        for line in sys.stdin:
            verb, *words = line.split()
            print(verbs[verb](*words), flush=True)


if __name__ == "__main__":
    main()
