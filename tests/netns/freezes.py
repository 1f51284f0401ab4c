#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Nodes are frozen under load (SIGSTOP) for longer than a lease, and wake not knowing it.

    freezes.py [SCENARIO...]     all of them by default
"""
import signal
import sys
import time

import network
from fleet import CLIENTS, NODES, Fleet, step
from load import Load

HELD_S = 6


def freeze(fleet, name, nodes, served, seconds):
    with Load(fleet, name) as load:
        time.sleep(1)
        since = time.monotonic()
        fleet.signal(nodes, signal.SIGSTOP)
        if served:
            load.wait_served(CLIENTS, seconds)
        time.sleep(max(0.0, HELD_S - (time.monotonic() - since)))
        # Requests wait in the sockets of these nodes; the first thing that they do is answer them.
        fleet.signal(nodes, signal.SIGCONT)
        load.wait_served(CLIENTS, 30)
        fleet.wait_health()


def two(fleet):
    """The elected node and another: what every pool survives."""
    leader = fleet.leader()
    nodes = [leader, next(name for name in NODES if name != leader)]
    step(f"{' and '.join(nodes)} are frozen")
    freeze(fleet, "two-frozen", nodes, True, 30)


def five(fleet):
    """More than any pool survives: what needs them waits, and nothing is lost."""
    nodes = [name for name in NODES if name != fleet.leader()][:5]
    step(f"{', '.join(nodes)} are frozen")
    freeze(fleet, "five-frozen", nodes, False, 0)


SCENARIOS = {"two": two, "five": five}


def main():
    with Fleet() as fleet:
        for name in sys.argv[1:] or SCENARIOS:
            SCENARIOS[name](fleet)
        step("done")


if __name__ == "__main__":
    network.enter()
    main()
