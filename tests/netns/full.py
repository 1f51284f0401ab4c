#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drives fill up under load: writers are told so, what was acknowledged stays, and room that is made is used. The
same for the file system in which a node keeps the map."""
import errno
import os

import network
from fleet import CLIENTS, NODES, Fleet, step
from load import Load

SIZE = "48M"


def refusals(load, pool):
    """How many puts of blobs were told that there is no room."""
    if not os.path.exists(load.blob_journal(pool)):
        return 0
    with open(load.blob_journal(pool)) as journal:
        return sum(line.startswith("!") and line.split()[-1] == "FULL" for line in journal)


def fill(fleet):
    step("two clients put more than there is room for")
    with Load(fleet, "full") as load:
        fleet.until("drives are full", lambda: min(refusals(load, p) for p in load.blobs) > 20, 60)
    step(f"   refused for want of room: {[refusals(load, p) for p in load.blobs]}")
    return {line.split()[1] for pool in load.blobs for line in open(load.blob_journal(pool))}


def empty(fleet, names):
    step("what they put is removed: there is room again")
    for pool in ("coded", "copied"):
        fleet.run("rm", "--force", *(f"{pool}/{name}" for name in names))
    path = fleet.path("large")
    with open(path, "wb") as file:
        file.write(os.urandom(1 << 19))
    for number in range(20):
        fleet.run("put", f"coded/again-{number}", path)
        fleet.run("put", f"copied/again-{number}", path)


def state_directory(fleet):
    """A node that cannot keep the newest map adopts none, and catches up once there is room."""
    node = NODES[-1]
    step(f"there is no room in the directory of {node}, and epochs pass")
    filler = os.path.join(fleet.state(node), "filler")
    with Load(fleet, "state", blobs=["coded"]) as load:
        try:
            with open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        # It goes down, and comes back: two epochs at least.
        victim = next(name for name in NODES[:-1] if name != fleet.leader())
        fleet.children[victim].kill()
        fleet.children[victim].wait()
        load.wait_served(CLIENTS, 30)
        step("   and there is room again")
        os.unlink(filler)
        fleet.start_node(victim)
        fleet.wait_health()


def main():
    with Fleet(SIZE) as fleet:
        state_directory(fleet)
        empty(fleet, fill(fleet))
        step("done")


if __name__ == "__main__":
    network.enter()
    main()
