#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Nodes are frozen under load (SIGSTOP) for longer than a lease, and wake not knowing it.

    freezes.py [SCENARIO...]     all of them by default
"""
import signal
import sys
import time

import network
from fleet import CLIENTS, ETCD, NODES, Fleet, step
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


def with_questions(fleet):
    """What a node finds in its sockets when it wakes was asked when the others had gone on without it, by a client
    that sees nobody else."""
    node = next(name for name in NODES if name != fleet.leader())
    step(f"{node} is frozen, while a client that sees only it asks on")
    with Load(fleet, "with-questions") as load:
        time.sleep(1)
        since = time.monotonic()
        fleet.network.part([CLIENTS[3]], [n for n in [*NODES, *ETCD, *CLIENTS] if n != node])
        fleet.signal([node], signal.SIGSTOP)
        load.wait_served(CLIENTS[:3], 15)
        time.sleep(max(2.0, HELD_S - (time.monotonic() - since)))
        woken = time.monotonic()
        fleet.signal([node], signal.SIGCONT)
        time.sleep(1)
        fleet.network.heal()
        fleet.wait_health()
        waited = [o for o in load.operations([CLIENTS[3]]) if o.called < woken < o.returned]
        assert waited, "nobody had asked it anything"
        step(f"   it answered {sum(o.done for o in waited)} of {len(waited)} questions")


SCENARIOS = {"two": two, "five": five, "with-questions": with_questions}


def main():
    with Fleet() as fleet:
        for name in sys.argv[1:] or SCENARIOS:
            SCENARIOS[name](fleet)
        step("done")


if __name__ == "__main__":
    network.enter()
    main()
