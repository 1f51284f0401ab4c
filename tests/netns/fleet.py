# SPDX-License-Identifier: Apache-2.0
"""Ten nodes, three members of etcd and the clients, each a host of its own on a network that can be cut."""
import json
import os
import signal
import subprocess
import sys
import time

import history
import network

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cluster"))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "etcd"))
from hosts import SHOAL, SHOALD, Hosts  # noqa: E402
from members import MEMBERS, Members  # noqa: E402

NODES = [f"node-{i}" for i in range(1, 11)]
ETCD = [f"etcd-{i}" for i in range(1, MEMBERS + 1)]
ADMIN = "admin"
CLIENTS = [f"client-{i}" for i in range(1, 5)]
NUMBERS = {**{name: i for i, name in enumerate(NODES, 1)},
           **{name: i for i, name in enumerate(ETCD, 101)},
           **{name: i for i, name in enumerate(CLIENTS, 201)}, ADMIN: 250}
PREFIX = "shoal/netns"
POOLS = {"copied": ["--copies", "3"], "even": ["--ec", "2+2"], "coded": ["--ec", "4+2"]}
BEGAN = time.monotonic()


def step(text):
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


class Fleet(Hosts):
    """`with Fleet() as fleet:`; nodes are told apart by name, as links are."""

    def __init__(self, size="192M"):
        super().__init__()
        self.size = size
        self.mounted = []
        self.network = network.Network(NUMBERS)
        self.etcd = Members(self.work, [(network.address(NUMBERS[name], "data"),
                                         network.Network.inside(name)) for name in ETCD])

    def __enter__(self):
        try:
            self.etcd.__enter__()
            self.found()
            self.until("all are up", lambda: self.up() == set(NODES))
            for pool, layout in POOLS.items():
                self.run("pool", "create", pool, *layout)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        step("ten nodes serve")
        return self

    def __exit__(self, kind, value, trace):
        self.network.heal()
        for name, child in self.children.items():
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
        self.etcd.__exit__(kind, value, trace)
        for name in self.mounted:
            subprocess.run(["umount", "--lazy", self.state(name)], check=True)
        super().__exit__(kind, value, trace)

    # ---- how it is made ----

    def address(self, host, plane):
        return f"{network.address(NUMBERS[host], plane)}:{7500 + network.PLANES[plane]}"

    def inside(self, host, *command):
        return [*network.Network.inside(host), *command]

    def run(self, *arguments, **options):
        """From the administrator's host, which can be cut off like any other."""
        program, *words = self.inside(ADMIN, SHOAL, *arguments)
        return super().run(*words, program=program, **options)

    def found(self):
        credentials = [word for endpoint in self.etcd.endpoints for word in ("--etcd", endpoint)]
        credentials += ["--prefix", PREFIX, "--etcd-ca", self.etcd.path("ca.crt"), "--etcd-cert",
                        self.etcd.path("etcd.crt"), "--etcd-key", self.etcd.path("etcd.key")]
        self.run("cluster", "init", "--dir", self.admin, "--authority", f"{network.HUB}:7400",
                 "--admit", f"{network.HUB}:7401", "--targets", "16")
        self.start("authority", SHOAL, "supervise", "--dir", self.admin)
        self.start("admit", SHOAL, "cluster", "admit", "--dir", self.admin)
        self.until("admit listens", lambda: "may join at" in open(self.path("admit.log")).read())
        token = self.token()
        for name in NODES:
            # A file system of its own, small enough to be filled.
            os.mkdir(self.state(name))
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", self.state(name)],
                           check=True)
            self.mounted.append(name)
            self.run("cluster", "join", "--token", "-", "--name", name, "--dir",
                     self.path(f"etc-{name}"), "--state", self.state(name),
                     "--data", self.address(name, "data"), "--replication",
                     self.address(name, "replication"), "--management",
                     self.address(name, "management"), "--authority",
                     self.address(name, "authority"), "--rack", f"rack-{name[5:]}",
                     "--size", self.size,
                     *credentials, self.path(f"disk-{name}"), data=token)
            with open(self.config(name), "a") as config:
                config.write("memory: 48M\n")
        for name in ("authority", "admit"):
            self.children[name].terminate()
            self.children.pop(name).wait(timeout=60)
        self.run("cluster", "elect", "--dir", self.admin, *credentials, "--authority",
                 ",".join(self.address(name, "authority") for name in NODES))
        for name in NODES:
            self.start_node(name)

    def config(self, name):
        return self.path(f"etc-{name}", "node.yaml")

    def state(self, name):
        return self.path(f"var-{name}")

    def start_node(self, name):
        self.start(name, *self.inside(name, SHOALD, "--config", self.config(name)))

    # ---- looking ----

    def up(self):
        done = self.run("status", "--json", check=False)
        if done.returncode != 0:
            return set()
        return {n["name"] for n in json.loads(done.stdout)["nodes"] if n["state"] == "up"}

    def wait_health(self, seconds=60):
        self.until("all is well", lambda: self.status()["health"] == "ok" and
                   self.up() == set(NODES), seconds)

    def leader(self):
        value = self.etcd.get(f"{PREFIX}/leader")
        return json.loads(value)["name"] if value else None

    def epoch(self):
        return self.status()["epoch"]

    # ---- faults ----

    def signal(self, names, which):
        for name in names:
            self.children[name].send_signal(which)
