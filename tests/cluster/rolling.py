#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A rolling restart, as for an upgrade: every node in turn stops and starts under load, and no request fails."""
import time

from cluster import Cluster


def all_succeeded(load):
    out, err = load.communicate(timeout=180)
    assert load.returncode == 0, out + err
    print(f"   {out.strip()}", flush=True)
    counts = dict(zip(out.split()[::2], map(int, out.split()[1::2])))
    assert counts["acknowledged"] > 0, out
    assert counts["refused"] == counts["unknown"] == 0, out


def main():
    with Cluster(6, size="512M") as cluster:
        cluster.shoal("pool", "create", "coded", "--ec", "4+2")
        cluster.shoal("pool", "create", "copied", "--copies", "3")
        for name in cluster.nodes:
            began = time.monotonic()
            loads = [cluster.load("coded", 4, int(began)), cluster.load("copied", 4, int(began) + 1)]
            time.sleep(0.5)
            cluster.shoal("node", "stop", name)
            time.sleep(1)
            cluster.shoal("node", "start", name)
            cluster.wait_health()
            print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
            for load in loads:
                all_succeeded(load)
        cluster.check("coded")
        cluster.check("copied")


if __name__ == "__main__":
    main()
