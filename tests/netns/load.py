# SPDX-License-Identifier: Apache-2.0
"""What the clients do while hosts are hurt, and the verdict on it.

Every client works on the same registers (registers.c, judged by history.py); two of them also put blobs of every
size and layout, each of which must afterwards be what was acknowledged (tests/cluster/load.c).
"""
import collections
import os
import subprocess
import time

import history
from fleet import CLIENTS, POOLS, step

REGISTERS, BLOBS = os.environ["SHOAL_REGISTERS"], os.environ["SHOAL_LOAD"]
WATCHER = "watcher"  # on the host of the last client, the one that is cut off with others
BLOB_WRITERS = {"coded": "client-1", "copied": "client-2"}
SHOWN = 6


class Load:
    """`with Load(fleet, "cuts") as load:`; it ends, and the verdict is given, at the end of that."""

    def __init__(self, fleet, name, blobs=tuple(BLOB_WRITERS)):
        self.fleet, self.name, self.blobs = fleet, name, blobs
        self.children = {}

    def journal(self, client):
        return self.fleet.path(f"{self.name}-{client}.journal")

    def blob_journal(self, pool):
        return self.fleet.path(f"blobs-{pool}.journal")

    def spawn(self, what, client, *command):
        self.children[what] = subprocess.Popen(
            self.fleet.inside(client, "nice", *command), env=self.fleet.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def registers(self, verb, client, host=None):
        self.spawn(f"{client} {verb}", host or client, REGISTERS, verb, client, self.name,
                   self.journal(client), *POOLS)

    def finish(self):
        for what, child in self.children.items():
            out, _ = child.communicate(timeout=90)
            assert child.returncode == 0, f"{what}: {out}"
        self.children = {}

    def __enter__(self):
        self.registers("make", CLIENTS[0])
        self.finish()
        for client in CLIENTS:
            self.registers("run", client)
        self.registers("watch", WATCHER, CLIENTS[-1])
        for pool in self.blobs:
            self.spawn(f"blobs of {pool}", BLOB_WRITERS[pool], BLOBS, "write", pool,
                       "600", str(time.monotonic_ns() % 1000003), self.blob_journal(pool))
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            for child in self.children.values():
                child.kill()
                child.wait()
            return
        for child in self.children.values():
            child.terminate()
        self.finish()
        self.fleet.wait_health()
        self.check()

    # ---- looking, while it runs ----

    def operations(self, clients=(*CLIENTS, WATCHER)):
        return history.read(self.journal(client) for client in clients
                            if os.path.exists(self.journal(client)))

    def wait_served(self, clients, seconds):
        """Until each of @clients has put and got something in each pool from now on."""
        began = time.monotonic()

        def missing():
            wanted = {(client, kind, pool) for client in clients for kind in ("put", "get")
                      for pool in POOLS}
            return wanted - {(o.client, o.kind, o.key.split("/")[0])
                             for o in self.operations(clients) if o.called > began and o.done}

        while missing():
            assert time.monotonic() - began < seconds, f"not served: {sorted(missing())}"
            time.sleep(0.2)
        step(f"   all of {', '.join(clients)} are served after {time.monotonic() - began:.1f} s")

    def nothing_failed(self):
        """Nobody in the cluster was hurt: no client noticed. (The watcher has no patience with a busy machine.)"""
        failed = [o for o in self.operations(CLIENTS) if o.status not in ("OK", "NOT_FOUND")]
        assert not failed, f"{self.name}: {len(failed)} failed, such as {failed[0]}"

    def watched(self, since, until):
        """Unless the watcher asked what it was told proves nothing."""
        asked = [o for o in self.operations([WATCHER]) if o.called > since and o.returned < until]
        assert asked, f"the watcher asked nothing in these {until - since:.0f} s"
        step(f"   the watcher was answered {sum(o.done for o in asked)} of {len(asked)} times")

    # ---- the verdict ----

    def read_all(self):
        """Everything by two clients, twice: the last that the journals say."""
        began = time.monotonic()
        for client in CLIENTS[-2:]:
            self.registers("read", client)
        for pool in self.blobs:
            self.spawn(f"check of {pool}", BLOB_WRITERS[pool], BLOBS, "check", pool,
                       self.blob_journal(pool))
        self.finish()
        return [f"cannot be read any more: {o}" for o in self.operations()
                if o.called > began and o.status not in ("OK", "NOT_FOUND")]

    def check(self):
        problems = self.read_all()
        operations = self.operations()
        counts = collections.Counter(f"{o.kind} {o.status}" for o in operations)
        step(f"   {self.name}: {dict(sorted(counts.items()))}")
        problems += history.judge(operations)
        assert not problems, (f"{self.name}: {len(problems)} problems, among them\n  " +
                              "\n  ".join(problems[:SHOWN]))
