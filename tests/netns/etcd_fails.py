#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Members of etcd are cut off from each other, frozen and killed, then all of them: no client notices."""
import time

import network
from fleet import CLIENTS, ETCD, Fleet, step
from load import Load
from members import MEMBERS

HELD_S = 6  # longer than a leader's lease in etcd


def one_after_the_other(fleet):
    leads = fleet.etcd.leader()
    step(f"etcd's leader, {ETCD[leads]}, is cut off from the other members")
    fleet.network.part([ETCD[leads]], ETCD)
    time.sleep(HELD_S)
    fleet.network.heal()
    fleet.etcd.wait()
    leads = fleet.etcd.leader()
    step(f"etcd's leader, {ETCD[leads]}, is frozen")
    fleet.etcd.freeze(leads)
    time.sleep(HELD_S)
    fleet.etcd.thaw(leads)
    fleet.etcd.wait()
    step("one member after the other is killed")
    for number in range(MEMBERS):
        fleet.etcd.kill(number)
        time.sleep(1)
        fleet.etcd.start(number)
        fleet.etcd.wait()


def all_at_once(fleet, load):
    step("all members are killed")
    fleet.etcd.kill_all()
    time.sleep(HELD_S)
    load.wait_served(CLIENTS, 5)
    fleet.etcd.start_all()
    fleet.until("somebody is elected", lambda: fleet.leader() is not None, 30)


def main():
    with Fleet() as fleet:
        epoch = fleet.epoch()
        with Load(fleet, "etcd", blobs=["coded"]) as load:
            one_after_the_other(fleet)
            load.wait_served(CLIENTS, 5)
            all_at_once(fleet, load)
        load.nothing_failed()
        assert fleet.epoch() == epoch, "etcd's troubles made epochs"
        assert fleet.run("pool", "create", "after", "--copies", "2", check=False).returncode == 0
        step("done")


if __name__ == "__main__":
    network.enter()
    main()
