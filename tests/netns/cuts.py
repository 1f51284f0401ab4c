#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Links are cut under load, one way and both ways.

    cuts.py [SCENARIO...]     all of them by default
"""
import sys
import time

import network
from fleet import ADMIN, CLIENTS, ETCD, NODES, Fleet, step
from load import Load

HELD_S = 6  # longer than silence needs to count as death, and than a lease


def hold(since):
    time.sleep(max(2.0, HELD_S - (time.monotonic() - since)))


def one_way(fleet):
    """One node is heard by nobody of the cluster, another hears nobody; clients reach both."""
    leader = fleet.leader()
    mute, deaf = [name for name in NODES if name != leader][:2]
    everybody = [*NODES, *ETCD, ADMIN]
    step(f"nobody hears {mute}, and {deaf} hears nobody")
    with Load(fleet, "one-way") as load:
        time.sleep(1)
        since = time.monotonic()
        fleet.network.cut([mute], everybody)
        fleet.network.cut(everybody, [deaf])
        load.wait_served(CLIENTS, 15)
        hold(since)
        fleet.network.heal()
        fleet.wait_health()


def only_etcd(fleet):
    """The elected node, and another, lose etcd and nothing else: somebody else is elected, nobody is down."""
    leader = fleet.leader()
    other = next(name for name in NODES if name != leader)
    step(f"{leader}, which is elected, and {other} lose etcd")
    with Load(fleet, "only-etcd", blobs=["coded"]) as load:
        time.sleep(1)
        epoch, since = fleet.epoch(), time.monotonic()
        fleet.network.part([leader, other], ETCD)
        fleet.until("another is elected", lambda: fleet.leader() not in (None, leader), 30)
        load.wait_served(CLIENTS, 5)
        hold(since)
        fleet.network.heal()
        assert fleet.epoch() == epoch, "a node that lost only etcd was taken for dead"
    load.nothing_failed()


def minority(fleet):
    """The elected node and another, with a member of etcd and a client, are on one side of a cut: as many as every
    pool survives, and enough to read what is coded 2+2."""
    leader = fleet.leader()
    other = next(name for name in NODES if name != leader)
    these = [leader, other, ETCD[0], CLIENTS[3]]
    those = [name for name in [*NODES, *ETCD, *CLIENTS, ADMIN] if name not in these]
    step(f"{', '.join(these)} are cut off")
    with Load(fleet, "minority") as load:
        time.sleep(1)
        since = time.monotonic()
        fleet.network.part(these, those)
        load.wait_served(CLIENTS[:3], 25)
        served = time.monotonic()
        hold(since)
        fleet.network.heal()
        load.watched(served, time.monotonic())
        fleet.wait_health()


def with_its_client(fleet):
    """A node is cut off from the others and from etcd, and not from clients. One of these sees nobody else."""
    leader = fleet.leader()
    node = next(name for name in NODES if name != leader)
    step(f"{node} is cut off, but not from its clients")
    with Load(fleet, "with-its-client") as load:
        time.sleep(1)
        since = time.monotonic()
        fleet.network.part([node], [*NODES, *ETCD, ADMIN])
        fleet.network.part([CLIENTS[3]], [name for name in [*NODES, *ETCD, *CLIENTS] if name != node])
        load.wait_served(CLIENTS[:3], 15)
        hold(since)
        healed = time.monotonic()
        fleet.network.heal()
        load.watched(since, since + 2)
        load.watched(since + 3, healed)
        fleet.wait_health()


SCENARIOS = {"one-way": one_way, "only-etcd": only_etcd, "minority": minority,
             "with-its-client": with_its_client}


def main():
    chosen = sys.argv[1:] or SCENARIOS
    with Fleet() as fleet:
        for name in chosen:
            SCENARIOS[name](fleet)
        step("done")


if __name__ == "__main__":
    network.enter()
    main()
