#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments under load, up to what the layout survives, and of everything at once.

    kills.py NODES POOL=LAYOUT... [ROUNDS]

After each round every blob is read back twice and compared with what was acknowledged.
"""
import random
import sys
import time

from cluster import LONG, Cluster, finish_load


def main():
    nodes = int(sys.argv[1])
    layouts = dict(word.split("=") for word in sys.argv[2:] if "=" in word)
    rounds = 12 if LONG else 3
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    with Cluster(nodes) as cluster:
        spare = 99
        for pool, layout in layouts.items():
            words = ["--ec", layout] if "+" in layout else ["--copies", layout]
            cluster.shoal("pool", "create", pool, *words)
            spare = min(spare, int(layout.split("+")[1]) if "+" in layout else int(layout) - 1)
        for number in range(rounds):
            everything = number % 3 == 2
            victims = rng.sample(cluster.nodes, rng.randint(1, spare))
            print(f"round {number}: kill {'everything' if everything else victims}", flush=True)
            loads = [cluster.load(pool, 6, seed + number * 10 + i)
                     for i, pool in enumerate(layouts)]
            time.sleep(rng.uniform(0.3, 2.5))
            if everything:
                cluster.kill_everything()
                time.sleep(rng.uniform(0.1, 0.5))
                cluster.up()
            else:
                for victim in victims:
                    cluster.kill(victim)
                    time.sleep(rng.uniform(0, 0.8))
                time.sleep(rng.uniform(0, 1))
                for victim in victims:
                    cluster.start(victim)
            for load in loads:
                finish_load(load)
            # Whatever is still catching up: what was acknowledged is readable already.
            for pool in layouts:
                cluster.check(pool)
            status = cluster.wait_health("ok")
            assert status["partitions_degraded"] == 0
        for pool in layouts:
            cluster.check(pool)


if __name__ == "__main__":
    main()
