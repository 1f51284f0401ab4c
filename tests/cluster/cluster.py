# SPDX-License-Identifier: Apache-2.0
"""A cluster of real processes for a test: started, hurt, and taken away again."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

LONG = os.environ.get("SHOAL_TEST_LONG") is not None


class Cluster:
    """`with Cluster(nodes=6) as c:` gives c.shoal("put", ...), c.kill("node-3"), c.start("node-3")."""

    def __init__(self, nodes, size="256M", plane="tls", targets=1, more=()):
        self.program = os.environ["SHOAL"]
        self.load_program = os.environ["SHOAL_LOAD"]
        self.work = tempfile.mkdtemp(prefix="shoal-test-")
        self.directory = os.path.join(self.work, "cluster")
        self.nodes = [f"node-{i + 1}" for i in range(nodes)]
        self.arguments = ["--dir", self.directory, "--nodes", str(nodes), "--size", size,
                          "--data-plane", plane, "--targets-per-node", str(targets), *more]
        self.environment = dict(os.environ, SHOAL_CONFIG=os.path.join(self.directory, "client.yaml"),
                                XDG_STATE_HOME=os.path.join(self.work, "state"))

    def __enter__(self):
        try:
            self.up(*self.arguments)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.show_logs()
        self.run("down", "--dir", self.directory, check=False)
        died = self.deaths()
        if died and kind is None:
            self.show_logs()
            raise AssertionError(f"a process ended by a bug of its own: {died}")
        shutil.rmtree(self.work, ignore_errors=True)

    def run(self, *arguments, check=True, **options):
        done = subprocess.run([self.program, *arguments], env=self.environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                              timeout=180, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"shoal {' '.join(arguments)}: exit {done.returncode}\n"
                                 f"{done.stdout}{done.stderr}")
        return done

    def shoal(self, *arguments, **options):
        return self.run(*arguments, **options).stdout

    def json(self, *arguments):
        return json.loads(self.shoal(*arguments, "--json"))

    def up(self, *arguments):
        return self.run("up", *(arguments or ("--dir", self.directory)))

    def deaths(self):
        """Lines of logs that only our own faults write: no kill and no stop does."""
        found = []
        for name in ["authority", *self.nodes]:
            path = os.path.join(self.directory, name, "log")
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as log:
                    found += [f"{name}: {line.strip()}" for line in log
                              if "CHECK failed" in line or "Sanitizer" in line]
        return found

    def show_logs(self):
        for name in ["authority", *self.nodes]:
            path = os.path.join(self.directory, name, "log")
            if os.path.exists(path):
                with open(path, errors="replace") as log:
                    print(f"--- {name}\n{''.join(log.readlines()[-25:])}", file=sys.stderr)

    # ---- processes ----

    def pid(self, name):
        with open(os.path.join(self.directory, name, "pid")) as file:
            return int(file.read())

    def kill(self, name):
        try:
            os.kill(self.pid(name), signal.SIGKILL)
        except ProcessLookupError:
            pass

    def kill_everything(self):
        """As when the power goes, but for what the kernel still writes."""
        for name in ["authority", *self.nodes]:
            self.kill(name)

    def start(self, name):
        # The supervisor may not have noticed the death yet.
        for _ in range(50):
            done = self.run("node", "start", name, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(f"{name} does not start: {done.stderr}")

    def wait_health(self, wanted="ok", seconds=90):
        deadline = time.monotonic() + seconds
        while True:
            status = self.json("status")
            if status["health"] == wanted:
                return status
            if time.monotonic() > deadline:
                raise AssertionError(f"health is {status['health']}, not {wanted}: "
                                     f"{json.dumps(status, indent=1)}")
            time.sleep(0.2)

    # ---- load ----

    def journal(self, pool):
        return os.path.join(self.work, f"journal-{pool}")

    def load(self, pool, seconds, seed):
        return subprocess.Popen([self.load_program, "write", pool, str(seconds), str(seed),
                                 self.journal(pool)], env=self.environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def check(self, pool):
        done = subprocess.run([self.load_program, "check", pool, self.journal(pool)],
                              env=self.environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False, timeout=300)
        print(f"   {pool}: {done.stdout.strip()}", flush=True)
        assert done.returncode == 0, done.stdout + done.stderr


def finish_load(process, must_acknowledge=True):
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, out + err
    print(f"   {out.strip()}", flush=True)
    acknowledged = int(out.split()[1])
    assert acknowledged > 0 or not must_acknowledge, "nothing was acknowledged at all"
    return acknowledged
