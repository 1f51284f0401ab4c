#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A cluster that was not made by `shoal up`: each node joins with a token, has an address for each
plane, checks its configuration, renews its certificate while it serves, and is missed when it is dead."""
import filecmp
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

SHOAL, SHOALD = os.environ["SHOAL"], os.environ["SHOALD"]


class Hosts:
    """Directories and addresses in the place of hosts; processes are children, killed at the end."""

    def __init__(self):
        self.work = tempfile.mkdtemp(prefix="shoal-hosts-")
        self.admin = self.path("admin")
        self.children = {}
        self.ports = {}
        self.environment = dict(os.environ, SHOAL_CONFIG=self.path("admin", "client.yaml"),
                                XDG_STATE_HOME=self.path("state"))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for child in self.children.values():
            child.terminate()
        died = []
        for name, child in self.children.items():
            if child.wait(timeout=60) not in (0, -signal.SIGTERM, -signal.SIGKILL):
                died.append(f"{name} ended with {child.returncode}")
            with open(self.path(f"{name}.log"), errors="replace") as log:
                lines = log.readlines()
            died += [line for line in lines if "CHECK failed" in line or "Sanitizer" in line]
            if kind is not None:
                print(f"--- {name}\n{''.join(lines[-20:])}", file=sys.stderr)
        shutil.rmtree(self.work, ignore_errors=True)
        assert kind is not None or not died, died

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    def address(self, host, plane):
        """Each host has an address for each plane, as loopback has addresses enough for all."""
        where = f"127.7.{host}.{plane}"
        if (host, plane) not in self.ports:
            with socket.socket() as probe:
                probe.bind((where, 0))
                self.ports[host, plane] = probe.getsockname()[1]
        return f"{where}:{self.ports[host, plane]}"

    def start(self, name, *command):
        with open(self.path(f"{name}.log"), "a") as log:
            self.children[name] = subprocess.Popen(command, env=self.environment, stdout=log,
                                                   stderr=log)

    def run(self, *arguments, check=True, data=None, program=SHOAL):
        done = subprocess.run([program, *arguments], env=self.environment, text=True, check=False,
                              input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=120)
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def refused(self, words, *arguments, **options):
        done = self.run(*arguments, check=False, **options)
        assert done.returncode == 1 and words in done.stderr + done.stdout, \
            f"{arguments}: '{words}' is not in: exit {done.returncode} {done.stdout}{done.stderr}"

    def until(self, what, condition, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"it never came to this: {what}"
            time.sleep(0.1)

    # ---- what operators do ----

    def token(self):
        return self.run("cluster", "token", "--dir", self.admin).stdout

    def join(self, host, token):
        return ("cluster", "join", "--token", token, "--name", f"host-{host}",
                "--dir", self.path(f"etc-{host}"), "--state", self.path(f"var-{host}"),
                "--data", self.address(host, 1), "--replication", self.address(host, 2),
                "--management", self.address(host, 3), "--rack", f"rack-{host}", "--size", "64M",
                self.path(f"disk-{host}-a"), self.path(f"disk-{host}-b"))

    def config(self, host):
        return self.path(f"etc-{host}", "node.yaml")

    def start_node(self, host):
        self.start(f"host-{host}", SHOALD, "--config", self.config(host))

    def status(self):
        return json.loads(self.run("status", "--json").stdout)

    def states(self):
        return {node["name"]: node["state"] for node in self.status()["nodes"]}


def found(hosts):
    hosts.run("cluster", "init", "--dir", hosts.admin, "--authority", hosts.address(9, 1),
              "--admit", hosts.address(9, 2))
    hosts.refused("holds a cluster already", "cluster", "init", "--dir", hosts.admin, "--authority",
                  hosts.address(9, 1))
    hosts.start("authority", SHOAL, "supervise", "--dir", hosts.admin)
    hosts.refused("does 'shoal cluster admit' run there", *hosts.join(1, "-"), data=hosts.token())
    hosts.start("admit", SHOAL, "cluster", "admit", "--dir", hosts.admin)
    hosts.until("admit listens", lambda: "may join at" in open(hosts.path("admit.log")).read())


def all_join(hosts):
    for host in (1, 2, 3):
        hosts.run(*hosts.join(host, "-"), data=hosts.token())
        folder = hosts.path(f"etc-{host}")
        assert sorted(os.listdir(folder)) == ["ca.crt", "node.crt", "node.key", "node.yaml"]
        assert os.stat(os.path.join(folder, "node.key")).st_mode & 0o777 == 0o600
        done = hosts.run("--check-config", "--config", hosts.config(host), program=SHOALD)
        assert done.stdout.startswith("ok: node"), done.stdout
        hosts.start_node(host)
    hosts.until("all are up", lambda: list(hosts.states().values()) == ["up"] * 3)
    for node in hosts.status()["nodes"]:
        assert len(set(node["addresses"].values())) == 3 and len(node["targets"]) == 2
    # Who joins twice is told so, and keeps what it has.
    hosts.refused("is a node already", *hosts.join(1, "-"), data=hosts.token())
    hosts.refused("has been started", *hosts.join(1, "-"), "--force", data=hosts.token())
    done = hosts.run("--check-config", "--config", hosts.config(1), program=SHOALD)
    assert sorted(os.listdir(hosts.path("etc-1"))) == ["ca.crt", "node.crt", "node.key", "node.yaml"]


def blobs(hosts, name):
    path, back = hosts.path("blob"), hosts.path("back")
    with open(path, "wb") as file:
        file.write(os.urandom(3 << 20))
    hosts.run("put", f"copied/{name}", path)
    hosts.run("get", f"copied/{name}", back)
    assert filecmp.cmp(path, back, shallow=False)


def a_token_is_good_for_joining_only(hosts):
    token = hosts.path("token")
    with open(token, "w") as file:
        file.write(hosts.token())
    with open(hosts.path("posing.yaml"), "w") as file:
        file.write(f"nodes: ['{hosts.address(1, 1)}']\nauthority: '{hosts.address(9, 1)}'\n"
                   f"tls: {{ca: {token}, certificate: {token}, key: {token}}}\n"
                   f"admin: {{certificate: {token}, key: {token}}}\n")
    for command in (["pool", "create", "mine", "--copies", "1"], ["put", "copied/x", token],
                    ["get", "copied/before", hosts.path("stolen")]):
        done = hosts.run(*command, "--config", hosts.path("posing.yaml"), check=False)
        assert done.returncode == 1, f"{command} with a token: {done.stdout}{done.stderr}"
    assert not os.path.exists(hosts.path("stolen"))
    hosts.refused("holds no token", *hosts.join(4, "-"), data="rubbish")
    # A client's certificate in the shape of a token.
    with open(hosts.path("forged"), "w") as forged:
        forged.write(f"shoal-token-1 {hosts.address(9, 2)}\n")
        for part in ("client.crt", "client.key", "ca.crt"):
            with open(os.path.join(hosts.admin, "certs", part)) as file:
                forged.write(file.read())
    hosts.refused("a node joins with a token", *hosts.join(4, hosts.path("forged")))
    assert "host-4" not in hosts.states()


def configurations_are_checked(hosts):
    with open(hosts.config(1)) as file:
        good = file.read()
    wrong = hosts.path("wrong.yaml")
    for pattern, instead, words in (
            (r'name: "host-1"', "name: host-2", "is of the node 'host-1'"),
            (r'data: "[^"]*"', "data: here", "listen.data is 'here'"),
            (r"disk-1-b", "disk-1-a", "is listed twice"),
            (r"disk-1-b", "disk-none", "No such file"),
            (r"etc-1/node.key", "etc-2/node.key", "is not the key of"),
            (r"etc-1/ca.crt", "etc-1/node.crt", "is not good by"),
            (r"(?m)^name:.*$", "", "'name' is missing"),
            (r"$", "\nreactor: 3\n", "no entry is called 'reactor'"),
            (r"$", "\ncpus: all\n", "'cpus' is 'all'")):
        with open(wrong, "w") as file:
            file.write(re.sub(pattern, instead, good, count=1))
        hosts.refused(words, "--check-config", "--config", wrong, program=SHOALD)


def served_fingerprint(hosts, host):
    """Of the certificate that a new connection meets."""
    certs = os.path.join(hosts.admin, "certs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(os.path.join(certs, "ca.crt"))
    context.load_cert_chain(os.path.join(certs, "client.crt"), os.path.join(certs, "client.key"))
    where, port = hosts.address(host, 1).rsplit(":", 1)
    with socket.create_connection((where, int(port)), timeout=20) as plain:
        with context.wrap_socket(plain) as tls:
            return hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest()


def fingerprint(hosts, host):
    return json.loads(hosts.run("cert", "show", "--json",
                                hosts.path(f"etc-{host}", "node.crt")).stdout)[0]["sha256"]


def certificates_are_renewed_while_serving(hosts):
    before, pid = fingerprint(hosts, 1), hosts.children["host-1"].pid
    assert served_fingerprint(hosts, 1) == before
    hosts.run("cert", "renew", "--node", hosts.config(1), "--within", "30d")
    assert fingerprint(hosts, 1) == before, "it was not due"
    hosts.run("cert", "renew", "--node", hosts.config(1))
    after = fingerprint(hosts, 1)
    assert after != before
    hosts.until("the new certificate is served", lambda: served_fingerprint(hosts, 1) == after)
    assert hosts.children["host-1"].poll() is None and hosts.children["host-1"].pid == pid
    hosts.run("cert", "renew") # the client's own, and the administrator's
    hosts.run("pool", "create", "other", "--copies", "2")
    blobs(hosts, "renewed")


def certificates_are_made_by_hand(hosts):
    made = hosts.path("made")
    hosts.run("cert", "request", "--role", "client", "--name", "trainer", "--out", made)
    hosts.run("cert", "issue", "--csr", os.path.join(made, "trainer.csr"), "--out", made, "--ca",
              os.path.join(hosts.admin, "certs"))
    with open(os.path.join(made, "client.yaml"), "w") as file:
        file.write(f"nodes: ['{hosts.address(2, 1)}']\n"
                   f"tls: {{ca: {hosts.admin}/certs/ca.crt, certificate: trainer.crt, "
                   "key: trainer.key}\n")
    hosts.run("get", "copied/before", hosts.path("back"), "--config",
              os.path.join(made, "client.yaml"))
    hosts.refused("no tls.renewal", "cert", "renew", "--config", os.path.join(made, "client.yaml"))


def units_run_commands_that_are_there(hosts):
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "systemd")
    commands = []
    for unit in os.listdir(folder):
        with open(os.path.join(folder, unit)) as file:
            commands += re.findall(r"(?m)^ExecStart(?:Pre)?=/usr/bin/(.*)$", file.read())
    assert len(commands) >= 5, commands
    for command in commands:
        program, *words = command.split()
        verbs = [word for word in words[:2] if re.fullmatch(r"[a-z]+", word)]
        verbs = verbs[:1] if verbs[:1] == ["cert"] else verbs # its verbs share their options
        help_text = hosts.run(*verbs, "--help", program={"shoal": SHOAL, "shoald": SHOALD}[program])
        for option in re.findall(r"--[a-z-]+", command):
            assert option in help_text.stdout, f"{command}: no option {option}"


def a_node_joins_what_is_in_use(hosts):
    hosts.run(*hosts.join(4, "-"), data=hosts.token())
    hosts.start_node(4)
    hosts.until("it has its share", lambda: hosts.states().get("host-4") == "up" and
                hosts.status()["health"] == "ok")
    hosts.run("get", "copied/before", hosts.path("back"))
    blobs(hosts, "grown")


def nodes_stand_in_racks(hosts):
    def places():
        return {node["name"]: (node["rack"], node["row"]) for node in hosts.status()["nodes"]}

    assert places()["host-4"] == ("rack-4", ""), places()
    hosts.run("node", "move", "host-1", "host-4", "--rack", "shared", "--row", "east")
    assert places()["host-4"] == ("shared", "east"), places()
    hosts.refused("a rack stands in one row", "node", "move", "host-4", "--row", "west")
    hosts.run("node", "move", "host-4", "--rack", "rack-4", "--row", "")
    hosts.until("nothing moves", lambda: hosts.status()["positions_moving"] == 0)
    blobs(hosts, "moved")
    # Processes are begun and ended where they run.
    hosts.refused("shoal cluster join", "node", "add")
    hosts.refused("systemctl stop shoal", "node", "stop", "host-4")


def a_dead_node_is_missed(hosts):
    hosts.children["host-3"].kill()
    hosts.children["host-3"].wait()
    hosts.until("the authority misses it", lambda: hosts.states()["host-3"] == "down" and
                hosts.run("put", "copied/during", hosts.path("blob"), check=False).returncode == 0)
    hosts.start_node(3)
    hosts.until("it is back", lambda: hosts.status()["health"] == "ok")
    blobs(hosts, "after")


def main():
    with Hosts() as hosts:
        found(hosts)
        all_join(hosts)
        hosts.run("pool", "create", "copied", "--copies", "3")
        blobs(hosts, "before")
        a_token_is_good_for_joining_only(hosts)
        configurations_are_checked(hosts)
        certificates_are_renewed_while_serving(hosts)
        certificates_are_made_by_hand(hosts)
        units_run_commands_that_are_there(hosts)
        a_node_joins_what_is_in_use(hosts)
        nodes_stand_in_racks(hosts)
        a_dead_node_is_missed(hosts)


if __name__ == "__main__":
    main()
