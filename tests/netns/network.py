# SPDX-License-Identifier: Apache-2.0
"""A network of hosts on one machine: a namespace for each, joined by a hub that can cut any link.

The test itself runs in the hub's namespaces (network, mounts, processes), which `enter()` makes: when it ends, in
whatever way, the kernel takes every process, link, mount and rule of it away. The hub reaches every host
always; what one host sends to another is forwarded by the hub, unless that link is cut.
"""
import os
import shutil
import signal
import subprocess
import sys

SKIPPED = 77  # as Meson has it
PLANES = {"data": 1, "replication": 2, "management": 3, "authority": 4}
HUB = "10.9.0.1"
GATEWAY = "169.254.1.1"
UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]

# A cut link swallows what is sent, as a dead switch does: nobody is told.
RULES = """
table ip shoal {
    set cut { type ifname . ifname; }
    chain forward {
        type filter hook forward priority 0
        iifname . oifname @cut counter drop
    }
}
"""


def skip(why):
    print(f"SKIP: {why}")
    sys.exit(SKIPPED)


def enter():
    """Goes on in namespaces of its own, or skips the test."""
    if os.environ.get("SHOAL_NETNS") == "inside":
        # To end as by an error, so that what is on disk is cleaned up too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
        return
    for program, package in (("ip", "iproute2"), ("nft", "nftables"), ("unshare", "util-linux"),
                             ("etcd", "etcd-server"), ("etcdctl", "etcd-client")):
        if shutil.which(program) is None:
            skip(f"there is no '{program}' (package {package})")
    if os.geteuid() != 0:
        skip("only root may make network namespaces")
    probe = ("mount -t tmpfs none /run && ip netns add probe && ip link add probe type veth peer name eth0 "
             "netns probe && nft -f -")
    done = subprocess.run([*UNSHARE, "sh", "-c", probe], input=RULES, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        skip(f"this machine lets root make no network of namespaces: {done.stdout.strip()}")
    sys.stdout.flush()
    os.environ["SHOAL_NETNS"] = "inside"
    os.execvp(UNSHARE[0], [*UNSHARE, sys.executable, *sys.argv])


def address(number, plane):
    return f"10.{PLANES[plane]}.0.{number}"


class Network:
    """Hosts by name and number; the number is the last part of each of a host's addresses."""

    def __init__(self, hosts):
        self.hosts = list(hosts)
        # Where `ip netns` keeps names; the mount is ours alone.
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
        self.batch(None, [f"link set lo up", f"addr add {HUB}/32 dev lo"])
        for name, number in hosts.items():
            self.add(name, number)
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forward:
            forward.write("1")
        self.nft(RULES)

    def add(self, name, number):
        addresses = [address(number, plane) for plane in PLANES]
        self.batch(None, [f"netns add {name}",
                          f"link add {name} type veth peer name eth0 netns {name}",
                          f"addr add {GATEWAY}/32 dev {name}", f"link set {name} up",
                          *(f"route add {one}/32 dev {name}" for one in addresses)])
        self.batch(name, ["link set lo up", "link set eth0 up",
                          *(f"addr add {one}/32 dev eth0" for one in addresses),
                          f"route add {GATEWAY}/32 dev eth0", f"route add default via {GATEWAY}"])

    @staticmethod
    def batch(host, lines):
        where = ["-n", host] if host else []
        subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(lines), text=True, check=True)

    @staticmethod
    def nft(text):
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

    @staticmethod
    def inside(host):
        """What to put before a command for it to run on @host, as the same process."""
        return ["ip", "netns", "exec", host]

    # ---- faults ----

    def cut(self, senders, receivers):
        """One way: nothing that @senders send arrives at @receivers."""
        links = [f'"{a}" . "{b}"' for a in senders for b in receivers if a != b]
        self.nft(f"add element ip shoal cut {{ {', '.join(links)} }}")

    def part(self, these, those):
        """Both ways."""
        self.cut(these, those)
        self.cut(those, these)

    def heal(self):
        self.nft("flush set ip shoal cut")
