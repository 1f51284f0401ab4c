#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A cluster of real nodes whose authority is elected through a real etcd, which is hurt under load.

The directories are those of `shoal up`; then each shoald is told of etcd and started by hand, as on a
host of its own.
"""
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cluster"))
from cluster import LONG, Cluster, finish_load  # noqa: E402
from members import MEMBERS, Members, free_ports  # noqa: E402

NODES = 4
PREFIX = "shoal/test"
DOWN_AFTER = 2.0  # two thirds of a lease


class Elected(Cluster):
    """No supervisor: nodes are processes of this test."""

    def __init__(self):
        super().__init__(NODES)
        self.processes = {}

    def __enter__(self):
        super().__enter__()
        try:
            self.run("pool", "create", "copied", "--copies", "3")
            self.run("pool", "create", "coded", "--ec", "2+1")
            self.run("down", "--dir", self.directory)
            self.etcd = Members(self.work)
            self.etcd.__enter__()
            with open(os.path.join(self.directory, "authority", "map"), "rb") as file:
                self.etcd.put(f"{PREFIX}/map", file.read())
            self.addresses = [f"127.0.0.1:{port}" for port in free_ports(NODES)]
            for name, address in zip(self.nodes, self.addresses):
                self.change_config(os.path.join(name, "node.yaml"), self.node_entries(address))
            self.change_config("client.yaml", [f'authority: "{",".join(self.addresses)}"'])
            for name in self.nodes:
                self.start_node(name)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        for name in list(self.processes):
            self.stop_node(name)
        if hasattr(self, "etcd"):
            self.etcd.__exit__(kind, value, trace)
        super().__exit__(kind, value, trace)

    def node_entries(self, address):
        endpoints = "".join(f'\n    - "{endpoint}"' for endpoint in self.etcd.endpoints)
        path = self.etcd.path
        return [f"etcd:\n  endpoints:{endpoints}\n  prefix: {PREFIX}\n  ca: {path('ca.crt')}\n"
                f"  cert: {path('etcd.crt')}\n  key: {path('etcd.key')}", f'listen.authority: "{address}"']

    def change_config(self, name, entries):
        """Without `authority`, with the entries instead; a dotted one goes into its group."""
        path = os.path.join(self.directory, name)
        with open(path) as file:
            lines = [line for line in file.read().splitlines() if not line.startswith("authority:")]
        for entry in entries:
            group, dot, rest = entry.partition(".")
            if dot and f"{group}:" in lines:
                lines.insert(lines.index(f"{group}:") + 1, f"  {rest}")
            else:
                lines.append(entry)
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")

    # ---- nodes ----

    def start_node(self, name):
        path = os.path.join(self.directory, name)
        shoald = os.path.join(os.path.dirname(os.path.dirname(self.program)), "shoald", "shoald")
        with open(os.path.join(path, "log"), "a") as log:
            self.processes[name] = subprocess.Popen(
                [shoald, "--config", os.path.join(path, "node.yaml")], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)

    def stop_node(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name)
        process.send_signal(how)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    # ---- looking ----

    def leader(self):
        value = self.etcd.get(f"{PREFIX}/leader")
        return json.loads(value)["name"] if value else None

    def wait_leader(self, other_than=None, seconds=40):
        deadline = time.monotonic() + seconds
        while True:
            leader = self.leader()
            if leader is not None and leader != other_than:
                return leader
            assert time.monotonic() < deadline, "nobody is elected"
            time.sleep(0.1)

    def states(self):
        return {node["name"]: node["state"] for node in self.json("status")["nodes"]}

    def wait_states(self, wanted, seconds=40):
        deadline = time.monotonic() + seconds
        while True:
            states = self.states()
            if all(states[name] == state for name, state in wanted.items()):
                return
            assert time.monotonic() < deadline, f"{states} instead of {wanted}"
            time.sleep(0.1)

    def incarnations(self):
        """How often a life began, over all logs: a node that enrols twice shows here."""
        return sum(line.count("enrolling again") for name in self.nodes for line in
                   open(os.path.join(self.directory, name, "log"), errors="replace"))

    def epoch(self):
        return self.json("status")["epoch"]

    def quiet_epoch(self, seconds=60):
        """The epoch, once nothing more comes of what was changed before."""
        deadline = time.monotonic() + seconds
        epoch, since = self.epoch(), time.monotonic()
        while time.monotonic() < since + 4:
            assert time.monotonic() < deadline, "one epoch follows the other"
            time.sleep(0.5)
            now = self.epoch()
            if now != epoch:
                epoch, since = now, time.monotonic()
        return epoch

    def wait_declared(self, before, seconds=40):
        """Status calls a node down that does not answer; that the cluster does is another epoch."""
        deadline = time.monotonic() + seconds
        while self.epoch() == before:
            assert time.monotonic() < deadline, "no epoch says that it is down"
            time.sleep(0.1)

    def make_pool(self, name):
        return self.run("pool", "create", name, "--copies", "2", check=False).returncode == 0


def step(text):
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


def under_load(cluster, seconds, seed, hurt):
    """What is acknowledged meanwhile is there; and something was."""
    loads = [cluster.load(pool, seconds, seed + i) for i, pool in enumerate(("copied", "coded"))]
    hurt()
    for load in loads:
        finish_load(load)
    for pool in ("copied", "coded"):
        cluster.check(pool)


def must_write(cluster, count=5):
    """Each at once: nothing on this path waits for etcd."""
    for number in range(count):
        began = time.monotonic()
        cluster.shoal("put", f"copied/alive-{number}", __file__)
        cluster.shoal("get", "coded/alive", "-")
        assert time.monotonic() - began < 10


def any_address_will_do(cluster):
    """Whoever is asked names the elected one."""
    path = os.path.join(cluster.directory, "client.yaml")
    with open(path) as file:
        text = file.read()
    for number, address in enumerate(cluster.addresses):
        with open(path, "w") as file:
            file.write(text.replace(",".join(cluster.addresses), address))
        cluster.shoal("pool", "create", f"by-{number}", "--copies", "2")
    with open(path, "w") as file:
        file.write(text)


def etcd_frozen(cluster):
    step("all of etcd is frozen under load, and longer than every lease")
    epoch, again = cluster.quiet_epoch(), cluster.incarnations()

    def hurt():
        time.sleep(1)
        cluster.etcd.freeze_all()
        time.sleep(12 if LONG else 8)
        must_write(cluster)
        cluster.etcd.thaw_all()

    under_load(cluster, 14, 100, hurt)
    cluster.wait_leader()
    step("and nothing has come of it")
    assert cluster.epoch() == epoch, "an outage made epochs"
    assert cluster.incarnations() == again, "somebody was taken for dead"
    assert cluster.make_pool("after-frost")


def etcd_killed(cluster):
    step("all of etcd is killed; changes wait; a node that restarts waits too")
    again = cluster.incarnations()
    cluster.etcd.kill_all()
    time.sleep(6)
    must_write(cluster)
    restarted = cluster.nodes[1]
    cluster.stop_node(restarted)
    cluster.start_node(restarted)
    time.sleep(2)
    cluster.etcd.start_all()
    cluster.wait_leader()
    cluster.wait_states({name: "up" for name in cluster.nodes}, 90)
    must_write(cluster)
    assert cluster.incarnations() == again, "somebody was taken for dead"


def members_fail(cluster):
    step("one member after the other is killed and frozen")
    epoch, again = cluster.quiet_epoch(), cluster.incarnations()

    def hurt():
        for number in range(MEMBERS):
            cluster.etcd.kill(number)
            time.sleep(1)
            cluster.etcd.start(number)
            cluster.etcd.wait()
        leads = cluster.etcd.leader()
        cluster.etcd.freeze(leads)
        time.sleep(8)
        cluster.etcd.thaw(leads)
        cluster.etcd.wait()

    under_load(cluster, 16, 200, hurt)
    assert cluster.epoch() == epoch and cluster.incarnations() == again
    assert cluster.make_pool("after-members")


def leader_dies(cluster):
    step("the elected node is killed, then another that is not elected")
    first, epoch = cluster.wait_leader(), cluster.quiet_epoch()
    cluster.stop_node(first, signal.SIGKILL)
    second = cluster.wait_leader(other_than=first)
    cluster.wait_declared(epoch)
    must_write(cluster, 1)
    assert cluster.make_pool("after-leader")
    cluster.start_node(first)
    cluster.wait_states({name: "up" for name in cluster.nodes}, 90)

    victim = next(name for name in cluster.nodes if name not in (first, second))
    epoch, began = cluster.quiet_epoch(), time.monotonic()
    cluster.stop_node(victim, signal.SIGKILL)
    cluster.wait_declared(epoch)
    took = time.monotonic() - began
    step(f"a silent node is down after {took:.1f} s")
    assert took > DOWN_AFTER - 1
    cluster.start_node(victim)
    cluster.wait_states({name: "up" for name in cluster.nodes}, 90)


def node_frozen(cluster):
    step("the elected node is frozen: it is down, comes back, and enrols by itself")
    first, epoch = cluster.wait_leader(), cluster.quiet_epoch()
    process = cluster.processes[first]
    process.send_signal(signal.SIGSTOP)
    try:
        cluster.wait_leader(other_than=first)
        cluster.wait_declared(epoch)
    finally:
        process.send_signal(signal.SIGCONT)
    cluster.wait_states({name: "up" for name in cluster.nodes}, 90)
    must_write(cluster, 1)


def etcd_restored(cluster):
    step("an older etcd is restored: refused")
    cluster.etcd.snapshot(os.path.join(cluster.work, "older"))
    assert cluster.make_pool("newer")
    cluster.quiet_epoch()
    newest = cluster.etcd.get(f"{PREFIX}/map")
    epoch = cluster.epoch()
    cluster.etcd.restore(os.path.join(cluster.work, "older"))
    time.sleep(12)
    must_write(cluster, 1)
    done = cluster.run("pool", "create", "refused", "--copies", "2", check=False)
    assert done.returncode != 0 and "older than this cluster" in done.stderr, done.stderr
    assert cluster.epoch() == epoch
    told = [name for name in cluster.nodes if "etcd is older than this cluster" in
            open(os.path.join(cluster.directory, name, "log"), errors="replace").read()]
    assert len(told) == NODES, f"only {told} said so"
    step("and with the newest map all goes on")
    while True:
        cluster.etcd.put(f"{PREFIX}/map", newest)
        revision = json.loads(cluster.etcd.control("get", f"{PREFIX}/map", "-w", "json").stdout)
        if revision["kvs"][0]["mod_revision"] >= marks(cluster):
            break
    cluster.wait_leader(seconds=90)
    deadline = time.monotonic() + 60
    while not cluster.make_pool("accepted"):
        assert time.monotonic() < deadline
        time.sleep(1)
    assert cluster.epoch() > epoch


def marks(cluster):
    return max(int(open(os.path.join(cluster.directory, name, "etcd-mark")).read())
               for name in cluster.nodes)


def main():
    with Elected() as cluster:
        step(f"{cluster.wait_leader()} is elected")
        cluster.wait_states({name: "up" for name in cluster.nodes}, 90)
        cluster.shoal("put", "coded/alive", __file__)
        any_address_will_do(cluster)
        etcd_frozen(cluster)
        etcd_killed(cluster)
        members_fail(cluster)
        leader_dies(cluster)
        node_frozen(cluster)
        etcd_restored(cluster)
        for pool in ("copied", "coded"):
            cluster.check(pool)
        step("done")


BEGAN = time.monotonic()
if __name__ == "__main__":
    main()
