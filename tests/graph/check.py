#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the shape of the source: which room includes which, and a few rules for every file.

    check.py ROOT

1. A room includes rooms below it only, and there is no cycle.
2. A room shows one header to the others (base and core show all of theirs). Tests may look deeper.
3. Sockets and io_uring come in through core, net and dev alone; clocks, random numbers, threads
   and the environment through the doors alone. Everything else runs in the simulator.
4. Every file says its licence. No source file has more than 800 lines.
"""
import os
import re
import subprocess
import sys

# Below what a room may include. "client" sees of cluster only the map.
ALLOWED = {
    "base": [],
    "core": ["base"],
    "wire": ["base", "core"],
    "place": ["base", "core", "wire"],
    "ec": ["base", "core"],
    "dev": ["base", "core"],
    "net": ["base", "core", "wire"],
    "engine": ["base", "core", "wire", "place", "ec", "dev"],
    "cluster": ["base", "core", "wire", "place", "ec", "dev", "net", "engine"],
    "node": ["base", "core", "wire", "place", "ec", "dev", "net", "engine", "cluster"],
    "client": ["base", "core", "wire", "place", "ec", "net", "cluster"],
    "shoald": ["base", "core", "wire", "place", "ec", "dev", "net", "engine", "cluster", "node"],
    "cli": ["base", "core", "wire", "place", "ec", "dev", "net", "engine", "cluster", "node",
            "client", "shoald"],
}
SHOWS_ALL = {"base", "core"}

# Rooms whose code runs in the simulator: nothing undetermined but through the doors.
DETERMINED = {"wire", "place", "ec", "engine", "cluster", "node", "client"}
FORBIDDEN_CALLS = re.compile(
    r"(?<![\w.>])(time|rand|random|srand|getenv|secure_getenv|clock_gettime|gettimeofday|"
    r"pthread_create|thrd_create|nanosleep|usleep|sleep|getpid|random_os_bytes|random_os_u64)\s*\(")
# File: what it may call all the same, with the reason.
CALLS_EXEMPT = {
    # Where the public handle is told which cluster is meant; the client inside it is told by its caller.
    "src/client/config.c": {"getenv"},
    # The authority's door to etcd: libcurl has an event loop of its own, so it has a thread.
    "src/cluster/etcd.c": {"pthread_create", "clock_gettime"},
    # A thread that waits for its turn is outside the reactor, and so has no clock of it.
    "src/client/handle.c": {"clock_gettime"},
}

SYSTEM_IO = re.compile(r"^(liburing\.h|sys/(socket|epoll|un)\.h|netinet/.*|netdb\.h|arpa/.*)$")
# The metrics page has a thread and a socket of its own; `shoal up` looks for free ports.
SYSTEM_IO_FILES = re.compile(r"^src/(core/|net/|dev/uring|shoald/metrics_page|cli/local)")

SOURCE = (".c", ".h", ".py", ".pml", ".sh", ".build", ".yaml", ".yml")
LINES_MAX = 800
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.M)
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)


def list_files(root):
    """Tracked files and new ones that are not ignored; all files where there is no git."""
    done = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if done.returncode == 0 and done.stdout:
        names = done.stdout.splitlines()
    else:
        names = []
        for folder, folders, files in os.walk(root):
            folders[:] = [f for f in folders if f not in (".git", "out") and
                          not f.startswith("build")]
            names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
    return sorted(n for n in names if os.path.isfile(os.path.join(root, n)))


def room_of(path):
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "src" else None


def is_test(path):
    return path.endswith(("_test.c", "_test.h")) or path.startswith("tests/") or "/test_" in path


def read(root, name):
    with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def check_room_edges(texts):
    problems = []
    shown = {}
    for name, text in texts.items():
        room = room_of(name)
        if room is None or not name.endswith((".c", ".h")):
            continue
        for local, _ in INCLUDE.findall(text):
            target = local.split("/")[0]
            if "/" not in local or target == room or target == "shoal":
                continue
            if room in ALLOWED and target not in ALLOWED[room] and not is_test(name):
                problems.append(f"{name}: room '{room}' may not include \"{local}\"")
            if room not in ALLOWED:
                problems.append(f"{name}: room '{room}' has no place in tests/graph/check.py")
            if target not in SHOWS_ALL and not is_test(name):
                shown.setdefault(target, {}).setdefault(local, name)
    for room, headers in sorted(shown.items()):
        if len(headers) > 1:
            users = ", ".join(f'"{h}" (in {u})' for h, u in sorted(headers.items()))
            problems.append(f"room '{room}' shows more than one header: {users}")
    return problems


def check_cycles(texts):
    """The table has no cycle by construction only if this finds none."""
    edges = {}
    for name, text in texts.items():
        room = room_of(name)
        if room is None or is_test(name):
            continue
        for local, _ in INCLUDE.findall(text):
            target = local.split("/")[0]
            if "/" in local and target not in (room, "shoal"):
                edges.setdefault(room, set()).add(target)
    problems, state = [], {}

    def visit(room, path):
        if state.get(room) == "done":
            return
        if room in path:
            problems.append("cycle of rooms: " + " -> ".join(path[path.index(room):] + [room]))
            return
        for target in sorted(edges.get(room, ())):
            visit(target, path + [room])
        state[room] = "done"

    for room in sorted(edges):
        visit(room, [])
    return problems


def blank(match):
    """Comments and strings say anything; only their line breaks count."""
    return "\n" * match.group(0).count("\n")


def check_doors(texts):
    problems = []
    for name, text in texts.items():
        room = room_of(name)
        if room is None or is_test(name) or not name.endswith((".c", ".h")):
            continue
        for _, system in INCLUDE.findall(text):
            if SYSTEM_IO.match(system) and not SYSTEM_IO_FILES.match(name):
                problems.append(f"{name}: <{system}> belongs behind core, net or dev")
        if room not in DETERMINED:
            continue
        for number, line in enumerate(COMMENT.sub(blank, text).split("\n"), 1):
            for call in FORBIDDEN_CALLS.findall(line):
                if call not in CALLS_EXEMPT.get(name, ()):
                    problems.append(f"{name}:{number}: {call}() comes through a door only")
    return problems


def check_files(texts):
    problems = []
    for name, text in texts.items():
        lines = text.split("\n")
        script = text.startswith("#!")
        if not name.endswith(SOURCE) and not script:
            continue
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:3]):
            problems.append(f"{name}: no 'SPDX-License-Identifier: Apache-2.0' at the top")
        if len(lines) - 1 > LINES_MAX:
            problems.append(f"{name}: {len(lines) - 1} lines, at most {LINES_MAX}: split it")
    return problems


def check(texts):
    return (check_room_edges(texts) + check_cycles(texts) + check_doors(texts) +
            check_files(texts))


def main():
    root = sys.argv[1]
    names = [n for n in list_files(root)
             if not n.endswith((".md", ".jsonl", ".json")) and "/corpus/" not in n]
    problems = check({name: read(root, name) for name in names})
    for problem in problems:
        print(problem)
    print(f"{len(names)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
