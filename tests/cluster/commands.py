#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The shoal command against a real cluster: every subcommand, its JSON, and its messages."""
import filecmp
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request

from cluster import Cluster
from later_release import later_release

HERE = os.path.dirname(os.path.abspath(__file__))
TRACE = os.path.join(HERE, "..", "data", "conversation_trace_300.jsonl")


def fails(cluster, words, *arguments, code=1):
    done = cluster.run(*arguments, check=False)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}: {done.stderr}"
    for word in words:
        assert word in done.stderr, f"{arguments}: '{word}' is not in: {done.stderr}"


def put_and_get(cluster):
    for size in [0, 1, 4096, 65535, 65536, 1 << 20, (4 << 20) + 1, 23 << 20]:
        path = os.path.join(cluster.work, "in")
        back = os.path.join(cluster.work, "back")
        with open(path, "wb") as file:
            file.write(os.urandom(size))
        for pool in ["durable", "replicated", "kv"]:
            stored = cluster.json("put", f"{pool}/blob-{size}", path)
            assert stored["size"] == size and not stored["existed"]
            cluster.shoal("get", f"{pool}/blob-{size}", back)
            assert filecmp.cmp(path, back, shallow=False), f"{pool} {size} differs"
            about = cluster.json("stat", f"{pool}/blob-{size}")
            assert about["size"] == size and about["version"] == stored["version"]
        if size > 10:
            part = subprocess.run([cluster.program, "get", f"durable/blob-{size}", "-", "--offset",
                                   str(size // 3), "--length", str(size // 2)], check=True,
                                  env=cluster.environment, stdout=subprocess.PIPE).stdout
            with open(path, "rb") as file:
                file.seek(size // 3)
                assert part == file.read(size // 2), f"range of {size} differs"


def streams(cluster):
    data = os.urandom(11 << 20)
    subprocess.run([cluster.program, "put", "durable/stream", "-"], input=data, check=True,
                   env=cluster.environment)
    back = subprocess.run([cluster.program, "get", "durable/stream"], check=True,
                          env=cluster.environment, stdout=subprocess.PIPE).stdout
    assert back == data


def content(cluster):
    path = os.path.join(cluster.work, "content")
    for size in [1000, (4 << 20) * 2 + 77]:
        data = os.urandom(size)
        with open(path, "wb") as file:
            file.write(data)
        first = cluster.shoal("put", "--content", "durable", path).split()
        again = cluster.shoal("put", "--content", "durable", path).split()
        assert first[1] == "new" and again == [first[0], "existed"], (first, again)
        if size <= 4 << 20:
            assert first[0] == hashlib.sha256(data).hexdigest()
        back = os.path.join(cluster.work, "content-back")
        cluster.shoal("get", "--verify", f"durable/@{first[0]}", back)
        assert filecmp.cmp(path, back, shallow=False)


def conditions(cluster):
    one = cluster.json("put", "durable/conditional", TRACE)
    fails(cluster, ["exists"], "put", "--if-absent", "durable/conditional", TRACE)
    fails(cluster, ["version"], "put", "--if-version", "1.1.1", "durable/conditional", TRACE)
    two = cluster.json("put", "--if-version", one["version"], "durable/conditional", TRACE)
    assert two["version"] != one["version"]
    fails(cluster, ["version"], "rm", "--if-version", one["version"], "durable/conditional")
    cluster.shoal("rm", "--if-version", two["version"], "durable/conditional")
    fails(cluster, ["no such blob"], "stat", "durable/conditional")
    fails(cluster, ["no such blob"], "get", "durable/conditional")


def directories(cluster):
    tree = os.path.join(cluster.work, "tree")
    for name in ["a", "sub/b", "sub/deep/c", "sub/large"]:
        os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
        with open(os.path.join(tree, name), "wb") as file:
            file.write(os.urandom(5 << 20 if name == "sub/large" else 1234))
    cluster.shoal("put", "-r", "durable/tree", tree)
    cluster.shoal("get", "-r", "durable/tree", tree + "-back")
    subprocess.run(["diff", "-r", tree, tree + "-back"], check=True)
    listed = cluster.shoal("ls", "durable/tree/sub").split()
    assert listed == ["tree/sub/b", "tree/sub/deep/c", "tree/sub/large"], listed
    blobs = cluster.json("ls", "durable/tree/")["blobs"]
    assert [blob["name"] for blob in blobs] == ["tree/a"] + listed


def pools(cluster):
    cluster.shoal("pool", "create", "mine", "--ec", "2+1")
    cluster.shoal("put", "mine/x", TRACE)
    assert "mine" in [pool["name"] for pool in cluster.json("pool", "ls")["pools"]]
    fails(cluster, ["already"], "pool", "create", "mine", "--copies", "2")
    fails(cluster, ["targets"], "pool", "create", "wide", "--ec", "9+3")
    fails(cluster, ["--ec"], "pool", "create", "odd", "--ec", "4", code=2)
    cluster.shoal("pool", "rm", "mine")
    fails(cluster, ["no pool"], "get", "mine/x")


def status(cluster):
    about = cluster.json("status")
    for name in ["epoch", "health", "nodes", "pools", "partitions_degraded", "blobs"]:
        assert name in about, name
    assert about["health"] == "ok" and len(about["nodes"]) == len(cluster.nodes)
    for node in about["nodes"]:
        assert node["state"] == "up" and node["pid"] == cluster.pid(node["name"])
        assert set(node["addresses"]) == {"data", "replication", "management"}
        for target in node["targets"]:
            assert os.path.exists(target["device"]) and target["state"] == "up"
            assert 0 < target["bytes_used"] < target["bytes_total"]
    assert about["blobs"] > 0


def metrics(cluster):
    for node in cluster.json("status")["nodes"][:2]:
        page = urllib.request.urlopen(f"http://{node['addresses']['management']}/metrics",
                                      timeout=10).read()
        assert b"shoal_" in page
        try:
            checked = subprocess.run(["promtool", "check", "metrics"], input=page, check=False,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            print("   promtool is not installed: the page was not checked")
            return
        assert checked.returncode == 0, checked.stdout.decode()


def bench_and_replay(cluster):
    for op in ["put", "get", "mixed"]:
        done = cluster.json("bench", op, "--pool", "durable", "--size", "64K", "--depth", "8",
                            "--seconds", "0.5")
        assert done["op"] == op and done["errors"] == 0 and done["ops"] > 0, done
        assert set(done["latency_us"]) == {"p50", "p99", "p999", "max"}
        assert done["size_bytes"] == 65536 and done["depth"] == 8
    done = cluster.json("replay", TRACE, "--pool", "kv", "--block-bytes", "4K", "--verify")
    # What the trace itself says, worked out by hand with a set and no store.
    assert (done["requests"], done["block_refs"], done["prefix_hits"]) == (300, 8490, 676), done
    assert done["verify_errors"] == 0
    assert done["bytes_read"] == done["bytes_saved"] == 676 * 4096


def node_commands(cluster):
    cluster.shoal("node", "stop", "node-2")
    assert cluster.json("status")["health"] == "degraded"
    cluster.shoal("put", "durable/while-down", TRACE)
    cluster.shoal("node", "start", "node-2")
    cluster.wait_health()
    cluster.shoal("node", "kill", "node-4")
    cluster.shoal("get", "durable/while-down", os.path.join(cluster.work, "x"))
    cluster.shoal("node", "start", "node-4")
    cluster.wait_health()
    cluster.shoal("node", "replace-device", "node-5")
    cluster.wait_health()
    fails(cluster, ["no node"], "node", "stop", "node-99")
    assert filecmp.cmp(TRACE, os.path.join(cluster.work, "x"), shallow=False)


def copies_of(cluster, data):
    """The devices that hold these bytes, and where."""
    found = {}
    for node in cluster.json("status")["nodes"]:
        for target in node["targets"]:
            with open(target["device"], "rb") as device:
                at = device.read().find(data)
            if at >= 0:
                found[node["name"]] = (target["device"], at)
    return found


def scrub(cluster):
    """Bytes that decay on a device are found without a reader, and rebuilt from the other copies."""
    data = os.urandom(20000)
    path = os.path.join(cluster.work, "decaying")
    with open(path, "wb") as file:
        file.write(data)
    cluster.shoal("put", "replicated/decaying", path)
    held = copies_of(cluster, data)
    assert len(held) == 3, held
    name, (device, at) = held.popitem()
    with open(os.path.join(cluster.directory, name, "node.yaml"), "a") as config:
        config.write("scrub_pause: 1s\n")
    cluster.shoal("node", "stop", name)
    with open(device, "r+b") as file:
        file.seek(at + 10000)
        file.write(b"decay")
    cluster.shoal("node", "start", name)
    deadline = time.monotonic() + 60
    while True:
        about = [target for target in cluster.json("scrub", "status")["targets"]
                 if target["node"] == name]
        if about and about[0].get("repaired"):
            break
        assert time.monotonic() < deadline, about
        time.sleep(0.2)
    assert about[0]["damaged"] == 1, about
    assert name in copies_of(cluster, data), "the copy is not whole again"
    assert "none yet" in cluster.shoal("scrub", "status")
    fails(cluster, ["status"], "scrub", "stop", code=2)
    cluster.wait_health()


def supervisor_death(cluster):
    cluster.kill("authority")
    cluster.shoal("put", "durable/orphan", TRACE)
    cluster.shoal("get", "durable/orphan", os.path.join(cluster.work, "x"))
    before = [cluster.pid(name) for name in cluster.nodes]
    cluster.up()
    assert before == [cluster.pid(name) for name in cluster.nodes], "nodes were started anew"
    cluster.wait_health()


def reads_without_supervisor(cluster):
    """Nobody says who is dead, and the dead ones are primaries of much: reads go on."""
    path = os.path.join(cluster.work, "in")
    back = os.path.join(cluster.work, "back")
    with open(path, "wb") as file:
        file.write(os.urandom(300000))
    for number in range(12):
        cluster.shoal("put", f"durable/orphan/{number}", path if number % 2 else TRACE)
    time.sleep(0.5)
    cluster.kill("authority")
    cluster.kill("node-1")
    cluster.kill("node-4")
    for number in range(12):
        began = time.monotonic()
        cluster.shoal("get", f"durable/orphan/{number}", back)
        assert filecmp.cmp(path if number % 2 else TRACE, back, shallow=False)
        assert cluster.json("stat", f"durable/orphan/{number}")["size"] == os.path.getsize(back)
        assert time.monotonic() - began < 3, number
    cluster.up()
    cluster.wait_health()


def resume(cluster):
    cluster.shoal("down", "--dir", cluster.directory)
    fails(cluster, ["no cluster is running"], "stat", "durable/orphan")
    fails(cluster, ["--nodes"], "up", "--dir", cluster.directory, "--nodes", "3")
    cluster.up()
    cluster.shoal("get", "durable/orphan", os.path.join(cluster.work, "x"))
    assert filecmp.cmp(TRACE, os.path.join(cluster.work, "x"), shallow=False)


def two_clusters(cluster):
    with Cluster(3, size="64M") as other:
        other.shoal("put", "replicated/only-there", TRACE)
        fails(cluster, ["no such blob"], "stat", "replicated/only-there")
        # The certificates of one cluster are no good in the other.
        path = os.path.join(cluster.work, "mixed.yaml")
        with open(os.path.join(other.directory, "client.yaml")) as file:
            text = file.read().replace("certs/", os.path.join(cluster.directory, "certs") + "/")
        with open(path, "w") as file:
            file.write(text)
        fails(cluster, ["certificate"], "stat", "replicated/only-there", "--config", path)


def versions(cluster):
    """A node of a later release is told apart from one that is down."""
    certs = os.path.join(cluster.directory, "certs")
    with open(os.path.join(cluster.directory, "client.yaml")) as file:
        name = file.readline().split('"')[1]
    with later_release(name, os.path.join(certs, "ca.crt"), os.path.join(certs, "authority.crt"),
                       os.path.join(certs, "authority.key")) as address:
        path = os.path.join(cluster.work, "later.yaml")
        with open(path, "w") as file:
            file.write(f'cluster: "{name}"\nnodes: ["{address}"]\n'
                       f'tls: {{ca: "{certs}/ca.crt", certificate: "{certs}/client.crt", '
                       f'key: "{certs}/client.key"}}\n')
        fails(cluster, ["another version", "one release"], "stat", "durable/x", "--config", path)


def messages(cluster):
    fails(cluster, ["no pool 'nowhere'"], "put", "nowhere/x", TRACE)
    fails(cluster, ["No such file"], "put", "durable/x", "/nonexistent/file")
    fails(cluster, ["POOL/NAME"], "stat", "durable")
    fails(cluster, ["hex"], "stat", "durable/@12")
    fails(cluster, ["no command"], "frobnicate", code=2)
    fails(cluster, ["after it"], "--json", "status", code=2)
    fails(cluster, ["--help"], "put", "--no-such-option", code=2)
    fails(cluster, ["/nonexistent"], "stat", "a/b", "--config", "/nonexistent/client.yaml")
    device = cluster.json("status")["nodes"][0]["targets"][0]["device"]
    fails(cluster, ["in use"], "fsck", device)
    for command in ["up", "down", "status", "node", "pool", "scrub", "put", "get", "stat", "rm", "ls", "bench",
                    "replay", "format", "inspect", "fsck"]:
        text = cluster.shoal(command, "--help")
        assert f"shoal {command}" in text and "xample" in text, command
    assert cluster.shoal("--version").startswith("shoal ")


def devices(cluster):
    path = os.path.join(cluster.work, "disk.img")
    cluster.shoal("format", "--size", "16M", path)
    fails(cluster, ["already"], "format", path)
    json.loads(cluster.shoal("inspect", path))
    checked = cluster.json("fsck", path)
    assert checked["errors"] == 0 and not checked["fatal"]
    with open(path, "r+b") as file:
        file.write(b"x" * 4096)
    done = cluster.run("fsck", path, check=False)
    assert done.returncode == 1, done.stdout
    fails(cluster, ["no "], "fsck", path + "-missing")


def threads(cluster):
    done = subprocess.run([os.environ["SHOAL_THREADS"], "replicated", "3"], check=False, text=True,
                          env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"   {done.stdout.strip()}", flush=True)


def container(cluster):
    for arguments in [["stat", "durable/x"], ["up", "--dir", os.path.join(cluster.work, "other")]]:
        done = subprocess.run([os.environ["SHOAL_WITHOUT_URING"], cluster.program, *arguments],
                              env=cluster.environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False, timeout=60)
        assert done.returncode == 1 and "io_uring" in done.stderr and "container" in done.stderr, \
            done.stderr


def full(cluster):
    """A full cluster says so, and room comes back when blobs are removed."""
    path = os.path.join(cluster.work, "fill")
    with open(path, "wb") as file:
        file.write(os.urandom(200000))
    with Cluster(3, size="16M") as small:
        for number in range(200):
            done = small.run("put", f"replicated/fill-{number}", path, check=False)
            if done.returncode != 0:
                break
        assert "no space" in done.stderr, done.stderr
        assert number > 40, number
        assert any("full" in text for text in small.json("status")["warnings"])
        small.shoal("rm", *[f"replicated/fill-{i}" for i in range(number)])
        for _ in range(100):  # space is given back once nothing can need it any more
            done = small.run("put", "replicated/again", path, check=False)
            if done.returncode == 0:
                break
            time.sleep(1)
        assert done.returncode == 0, done.stderr


def documented(cluster):
    root = os.path.join(HERE, "..", "..")
    subprocess.run([os.path.join(root, "scripts/lib/make-cli-doc"), cluster.program, "--check",
                    os.path.join(root, "docs/cli.md")], check=True)


def main():
    steps = [put_and_get, streams, content, conditions, directories, pools, status, metrics,
             bench_and_replay, node_commands, scrub, supervisor_death, reads_without_supervisor,
             resume, two_clusters, versions, messages,
             devices, threads, container, full, documented]
    wanted = sys.argv[1:]
    with Cluster(6) as cluster:
        for step in steps:
            if wanted and step.__name__ not in wanted:
                continue
            print(step.__name__.replace("_", " "), flush=True)
            began = time.monotonic()
            step(cluster)
            print(f"   {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
