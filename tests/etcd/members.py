# SPDX-License-Identifier: Apache-2.0
"""Three members of a real etcd with certificates on both sides: started, hurt, restored."""
import os
import shutil
import signal
import socket
import subprocess
import time

MEMBERS = 3


def free_ports(count):
    """Ports that nobody had a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def make_certificates(directory, addresses=("127.0.0.1",)):
    """A CA, and one certificate "etcd" of it that members, at @addresses, and clients use alike."""
    os.makedirs(directory)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    run = {"check": True, "cwd": directory, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    subprocess.run(["openssl", "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt",
                    "-subj", "/CN=etcd test CA"], **run)
    subprocess.run(["openssl", "req", "-x509", *key, "-CA", "ca.crt", "-CAkey", "ca.key",
                    "-keyout", "etcd.key", "-out", "etcd.crt", "-subj", "/CN=etcd",
                    "-addext", "subjectAltName=" + ",".join(f"IP:{one}" for one in addresses),
                    "-addext", "basicConstraints=critical,CA:FALSE",
                    "-addext", "extendedKeyUsage=serverAuth,clientAuth"], **run)


class Members:
    """`with Members(directory) as etcd: etcd.kill(0); etcd.freeze(1); ...`"""

    def __init__(self, directory, hosts=()):
        """@hosts: for each member its address, and what to put before its command; none: loopback."""
        self.directory = directory
        self.certificates = os.path.join(directory, "certificates")
        self.processes = [None] * MEMBERS
        ports = free_ports(2 * MEMBERS)
        self.addresses = [address for address, _ in hosts] or ["127.0.0.1"] * MEMBERS
        self.launchers = [launcher for _, launcher in hosts] or [[]] * MEMBERS
        self.endpoints = [f"https://{address}:{port}"
                          for address, port in zip(self.addresses, ports[:MEMBERS])]
        self.peers = [f"https://{address}:{port}"
                      for address, port in zip(self.addresses, ports[MEMBERS:])]
        self.generation = 0

    def path(self, name):
        return os.path.join(self.certificates, name)

    def __enter__(self):
        make_certificates(self.certificates, self.addresses)
        try:
            self.start_all()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, value, trace):
        for number in range(MEMBERS):
            self.kill(number)
        if kind is not None:
            for number in range(MEMBERS):
                with open(self.log(number), errors="replace") as log:
                    print(f"--- etcd member {number}\n{''.join(log.readlines()[-8:])}")

    def log(self, number):
        return os.path.join(self.directory, f"etcd-{number}.log")

    def data(self, number):
        return os.path.join(self.directory, f"etcd-{number}-{self.generation}")

    def initial(self):
        return ",".join(f"m{i}={peer}" for i, peer in enumerate(self.peers))

    def start(self, number):
        assert self.processes[number] is None
        certificate = ["--cert-file", self.path("etcd.crt"), "--key-file", self.path("etcd.key")]
        arguments = [
            *self.launchers[number], "etcd", "--name", f"m{number}", "--data-dir", self.data(number),
            "--listen-client-urls", self.endpoints[number],
            "--advertise-client-urls", self.endpoints[number],
            "--listen-peer-urls", self.peers[number],
            "--initial-advertise-peer-urls", self.peers[number],
            "--initial-cluster", self.initial(), "--initial-cluster-token", "shoal-test",
            "--trusted-ca-file", self.path("ca.crt"), "--client-cert-auth", *certificate,
            "--peer-trusted-ca-file", self.path("ca.crt"), "--peer-client-cert-auth",
            *[word.replace("--", "--peer-") for word in certificate],
            "--unsafe-no-fsync", "--snapshot-count", "1000", "--logger", "zap",
            "--log-outputs", self.log(number)]
        self.processes[number] = subprocess.Popen(arguments, stdin=subprocess.DEVNULL,
                                                  stdout=subprocess.DEVNULL,
                                                  stderr=subprocess.DEVNULL)

    def start_all(self):
        for number in range(MEMBERS):
            if self.processes[number] is None:
                self.start(number)
        self.wait()

    def kill(self, number):
        process = self.processes[number]
        if process is not None:
            process.kill()
            process.wait()
        self.processes[number] = None

    def kill_all(self):
        for number in range(MEMBERS):
            self.kill(number)

    def signal(self, number, which):
        os.kill(self.processes[number].pid, which)

    def freeze(self, number):
        self.signal(number, signal.SIGSTOP)

    def thaw(self, number):
        self.signal(number, signal.SIGCONT)

    def freeze_all(self):
        for number in range(MEMBERS):
            self.freeze(number)

    def thaw_all(self):
        for number in range(MEMBERS):
            self.thaw(number)

    def leader(self):
        """The number of the member that leads, as etcd has it."""
        for number, endpoint in enumerate(self.endpoints):
            done = self.control("endpoint", "status", "--write-out=fields", endpoints=[endpoint],
                                check=False)
            fields = dict(line.split(" : ", 1) for line in done.stdout.splitlines()
                          if " : " in line)
            if done.returncode == 0 and fields['"MemberID"'] == fields['"Leader"']:
                return number
        raise AssertionError("no member of etcd leads")

    # ---- etcdctl ----

    def control(self, *arguments, endpoints=None, check=True, **options):
        return subprocess.run(
            ["etcdctl", "--endpoints", ",".join(endpoints or self.endpoints), "--cacert",
             self.path("ca.crt"), "--cert", self.path("etcd.crt"), "--key", self.path("etcd.key"),
             "--dial-timeout=2s", "--command-timeout=5s", *arguments],
            env=dict(os.environ, ETCDCTL_API="3"), check=check, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=options.pop("text", True), timeout=60, **options)

    def wait(self, seconds=60):
        deadline = time.monotonic() + seconds
        while self.control("endpoint", "health", check=False).returncode != 0:
            assert time.monotonic() < deadline, "not every member of etcd is well"
            time.sleep(0.2)

    def put(self, key, data):
        self.control("put", key, input=data, text=False)

    def get(self, key):
        done = self.control("get", key, "--print-value-only", text=False)
        return done.stdout[:-1]

    def snapshot(self, path):
        self.control("snapshot", "save", path, endpoints=self.endpoints[:1])

    def restore(self, path):
        """All members come back with what the snapshot has, as after a disaster."""
        self.kill_all()
        self.generation += 1
        for number in range(MEMBERS):
            shutil.rmtree(self.data(number), ignore_errors=True)
            self.control("snapshot", "restore", path, "--name", f"m{number}", "--data-dir",
                         self.data(number), "--initial-cluster", self.initial(),
                         "--initial-cluster-token", "shoal-test",
                         "--initial-advertise-peer-urls", self.peers[number])
        self.start_all()
