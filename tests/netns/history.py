# SPDX-License-Identifier: Apache-2.0
"""Judges what the clients of registers.c asked and were told, each register by itself.

Values are never put twice, so whether some order explains all answers (linearizability) need not be searched for.
All operations of one value, its put and the reads that returned it, stand together in every such order. A value has
a *zone*: from the first return of these operations to the last call. Where the return is earlier the value
must have been there all that time (a forward zone); else it need only have been there at some moment in between.
An order exists if and only if no read returned before its value was put, no two forward zones overlap, and no forward
zone contains another zone whole (Gibbons and Korach, Testing Shared Memories, 1997). A put of unknown outcome
may have happened at any moment after its call, or never.

Versions must say the same: one version has one value, and once anybody was told of a version nobody who asks later
is told of an older one.
"""
import collections
import dataclasses
import math

TIMEOUT_S = 5.0  # as in registers.c
LATE_S = 5.0     # a busy machine
# Puts that ended so had no effect.
REFUSED = {"FULL", "QUOTA", "DENIED", "NO_POOL", "TOO_LARGE", "INVALID"}
REMOVED = "removed"


@dataclasses.dataclass(frozen=True)
class Operation:
    client: str
    kind: str
    key: str
    value: str
    version: tuple
    called: float
    returned: float
    status: str

    def __str__(self):
        version = ".".join(map(str, self.version)) if self.version else "-"
        return (f"{self.client} {self.kind} {self.key} = {self.value} ({version}) "
                f"{self.called:.3f}..{self.returned:.3f} {self.status}")

    @property
    def done(self):
        return self.status == "OK"


def parse(line):
    client, kind, key, value, version, called, returned, status = line.split()
    return Operation(client, kind, key, value,
                     () if version == "-" else tuple(map(int, version.split("."))),
                     int(called) / 1e9, int(returned) / 1e9, status)


def read(paths):
    operations = []
    for path in paths:
        with open(path) as journal:
            operations += map(parse, journal)
    return operations


# ---- values ----

@dataclasses.dataclass
class Value:
    """@first, @last: of the operations of this value, the first to return and the last to be called."""
    put: Operation
    first: Operation = None
    first_at: float = math.inf
    last: Operation = None

    def add(self, operation, returned):
        if self.first is None or returned < self.first_at:
            self.first, self.first_at = operation, returned
        if self.last is None or operation.called > self.last.called:
            self.last = operation

    @property
    def zone(self):
        return (min(self.first_at, self.last.called), max(self.first_at, self.last.called))

    @property
    def forward(self):
        return self.first_at < self.last.called


def is_read_of_none(operation):
    return operation.status == "NOT_FOUND" and operation.kind in ("get", "stat", "remove")


def values_of(operations, problems):
    """The values that were put, or may have been, with the reads of them."""
    values = {}
    for put in operations:
        if put.kind == "put" and put.status not in REFUSED:
            values[put.value] = Value(put)
            values[put.value].add(put, put.returned if put.done else math.inf)
    for removal in sorted(operations, key=lambda o: o.called):
        # Nothing is put after a removal, so all of them do the same: it is the first one's.
        if removal.kind == "remove" and not is_read_of_none(removal):
            value = values.setdefault(REMOVED, Value(removal))
            value.add(removal, removal.returned if removal.done else math.inf)
    for answer in operations:
        if is_read_of_none(answer):
            name = REMOVED
        elif answer.kind == "get" and answer.done:
            name = answer.value
        else:
            continue
        value = values.get(name)
        if value is None or value.put.called > answer.returned:
            problems.append(f"nobody had put this: {answer}")
        else:
            value.add(answer, answer.returned)
    return values


def disorder(values):
    """Pairs of values of which neither can have come wholly before the other."""
    forward = sorted((v for v in values if v.forward), key=lambda v: v.zone)
    for before, after in zip(forward, forward[1:]):
        if after.zone[0] < before.zone[1]:
            yield before, after
    for value in values:
        if not value.forward:
            for other in forward:
                if other.zone[0] < value.zone[0] and value.zone[1] < other.zone[1]:
                    yield other, value


def judge_values(operations, problems):
    values = values_of(operations, problems)
    for one, other in disorder(values.values()):
        problems.append("no order explains these:\n" + "\n".join(
            f"    {o}" for o in sorted({one.first, one.last, other.first, other.last},
                                       key=lambda o: o.called)))


# ---- versions ----

def judge_versions(operations, problems):
    told = [o for o in operations if o.version]
    value_of_version = {}
    for one in told:
        if one.kind == "stat":
            continue
        if value_of_version.setdefault(one.version, one.value) != one.value:
            problems.append(f"this version had the value {value_of_version[one.version]}: {one}")
    by_return = collections.deque(sorted(told, key=lambda o: o.returned))
    newest = None
    for one in sorted(told, key=lambda o: o.called):
        while by_return and by_return[0].returned < one.called:
            known = by_return.popleft()
            if newest is None or known.version > newest.version:
                newest = known
        if newest is not None and (one.version < newest.version or
                                   (one.kind == "put" and one.version == newest.version)):
            problems.append(f"older than what was known:\n    {newest}\n    {one}")


def judge(operations):
    """What is wrong with this history: sentences."""
    problems = []
    keys = collections.defaultdict(list)
    for operation in operations:
        keys[operation.key].append(operation)
        if operation.returned - operation.called > TIMEOUT_S + LATE_S:
            problems.append(f"outlived its deadline: {operation}")
    for one in keys.values():
        judge_versions(one, problems)
    for one in keys.values():
        judge_values(one, problems)
    return problems
