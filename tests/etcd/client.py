#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""etcd's client against real members: transactions, leases, watches; members killed and frozen."""
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time

from members import MEMBERS, Members


class Client:
    def __init__(self, etcd, endpoints=None, certificate="etcd"):
        self.process = subprocess.Popen(
            [os.environ["ETCD_CLIENT"], etcd.path("ca.crt"), etcd.path(f"{certificate}.crt"),
             etcd.path(f"{certificate}.key"), *(endpoints or etcd.endpoints)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.asked = 0
        self.answers = {}
        self.arrived = queue.Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.stdin.close()
        assert self.process.wait(timeout=20) == 0 or kind is not None
        self.reader.join()
        self.process.stdout.close()

    def read(self):
        for line in self.process.stdout:
            number, *words = line.split()
            self.arrived.put((int(number), words))

    def send(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        self.asked += 1
        return self.asked

    def wait(self, number, seconds=60):
        """(error, succeeded, revision, value, milliseconds)"""
        while number not in self.answers:
            found, words = self.arrived.get(timeout=seconds)
            self.answers[found] = words
        error, succeeded, revision, value, took = self.answers.pop(number)
        return error, succeeded == "1", int(revision), value, int(took)

    def ask(self, *words):
        return self.wait(self.send(*words))


def transactions(client):
    error, done, first, _, _ = client.ask("create", "p/key", "one", 0)
    assert (error, done) == ("OK", True) and first > 0
    error, done, revision, value, _ = client.ask("create", "p/key", "two", 0)
    assert (error, done, revision, value) == ("OK", False, first, "one")
    error, done, second, _, _ = client.ask("change", "p/key", first, "three")
    assert (error, done) == ("OK", True) and second > first
    error, done, revision, value, _ = client.ask("change", "p/key", first, "four")
    assert (error, done, revision, value) == ("OK", False, second, "three")
    assert client.ask("get", "p/none")[:4] == ("OK", True, 0, "-")
    return second


def leases(client):
    assert client.ask("grant", 4711, 2)[0] == "OK"
    assert client.ask("grant", 4711, 2)[0] == "OK", "the same again is the same"
    assert client.ask("create", "p/leased", "x", 4711)[1]
    for _ in range(6):
        assert client.ask("keep", 4711)[0] == "OK"
        time.sleep(0.5)
    assert client.ask("get", "p/leased")[3] == "x"
    revision = client.ask("get", "p/leased")[2]
    watch = client.send("watch", "p/leased", revision, 30)
    assert client.ask("revoke", 4711)[0] == "OK"
    assert client.wait(watch)[0] == "OK"
    assert client.ask("get", "p/leased")[3] == "-"
    assert client.ask("keep", 4711)[0] == "NOT_FOUND"
    assert client.ask("revoke", 4711)[0] == "NOT_FOUND"


def watches(client, etcd, revision):
    error, _, _, _, took = client.ask("watch", "p/key", revision, 1)
    assert error == "TIMEOUT" and took >= 900
    watch = client.send("watch", "p/key", revision, 60)
    time.sleep(0.5)
    etcd.put("p/other", b"not ours")
    assert client.ask("change", "p/key", revision, "five")[1]
    error, _, _, _, took = client.wait(watch)
    assert error == "OK" and took >= 500
    # What changed before the watch began is news all the same.
    assert client.ask("watch", "p/key", revision, 60)[0] == "OK"
    watch = client.send("watch", "p/key", revision + 100, 60)
    time.sleep(0.3)
    client.ask("unwatch")
    assert client.wait(watch, 5)[0] == "TIMEOUT"
    # A watch that asks for what was compacted away learns that it must look.
    now = client.ask("get", "p/key")[2]
    etcd.control("compaction", str(now))
    assert client.ask("watch", "p/key", 1, 60)[0] == "OK"


def answers_soon(client):
    """Without their leader the members agree on nothing until they have elected another."""
    deadline = time.monotonic() + 30
    while client.ask("get", "p/key")[:2] != ("OK", True):
        assert time.monotonic() < deadline


def members_fail(client, etcd):
    for number in range(MEMBERS):
        etcd.kill(number)
        answers_soon(client)
        etcd.start(number)
        etcd.wait()
    for number in range(MEMBERS):
        watch = client.send("watch", "p/key", 10 ** 9, 60)
        etcd.freeze(number)
        answers_soon(client)
        etcd.thaw(number)
        etcd.wait()
        client.ask("unwatch")
        client.wait(watch)


def all_fail(client, etcd):
    etcd.freeze_all()
    asked = [client.send("get", "p/key"), client.send("keep", 1),
             client.send("change", "p/key", 1, "never")]
    for number in asked:
        error, _, _, _, took = client.wait(number)
        assert error == "TIMEOUT" and took < 8000, (error, took)
    etcd.thaw_all()
    etcd.wait()
    assert client.ask("get", "p/key")[0] == "OK"
    etcd.kill_all()
    error, _, _, _, took = client.ask("get", "p/key")
    assert error in ("CONNECTION", "TIMEOUT") and took < 8000
    etcd.start_all()
    assert client.ask("get", "p/key")[0] == "OK"


def strangers(etcd):
    """Neither a certificate of another CA nor a server with one is taken."""
    other = Members(os.path.join(etcd.directory, "other"))
    from members import make_certificates
    make_certificates(other.certificates)
    for name in ("crt", "key"):
        shutil.copy(other.path(f"etcd.{name}"), etcd.path(f"foreign.{name}"))
    with Client(etcd, certificate="foreign") as client:
        assert client.ask("get", "p/key")[0] in ("CONNECTION", "TIMEOUT")
    shutil.copy(etcd.path("ca.crt"), etcd.path("kept.crt"))
    shutil.copy(other.path("ca.crt"), etcd.path("ca.crt"))
    with Client(etcd) as client:
        assert client.ask("get", "p/key")[0] in ("CONNECTION", "TIMEOUT")
    shutil.copy(etcd.path("kept.crt"), etcd.path("ca.crt"))


def main():
    work = tempfile.mkdtemp(prefix="shoal-etcd-")
    try:
        with Members(work) as etcd, Client(etcd) as client:
            revision = transactions(client)
            leases(client)
            watches(client, etcd, revision)
            members_fail(client, etcd)
            all_fail(client, etcd)
            strangers(etcd)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
