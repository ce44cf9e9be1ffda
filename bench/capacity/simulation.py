"""How many replicas a centre of some size needs, and what each of them holds: a simulation of the busiest minute.

It knows no gateway: what one process needs, and what users do, are given to it. The same seed gives the same result.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MINUTE: Final = 60.0  # seconds that are simulated, after as many to open the connections
BUSY: Final = 0.6  # of a core, above which a replica is to be added
WAIT: Final = 0.05  # seconds that 99 of 100 requests may wait for the processor at most


@dataclass(frozen=True, slots=True)
class Measured:
    """What one process needs. Times in seconds of one core, memory in MiB."""

    request: Mapping[str, float]  # processor time by operation
    login: float  # processor time of a new SSH connection
    idle: float  # memory after the start
    user: float  # memory of a user with an open SSH connection
    client: float  # memory of an open HTTP connection between two requests
    connections: int  # HTTP connections: server.max_connections
    idle_timeout: float  # seconds after which an unused SSH connection is closed: ssh.timeout.idle_timeout
    descriptors: int  # of a process without connections


@dataclass(frozen=True, slots=True)
class Kind:
    """What users of one kind do: `burst` requests, one each `gap` seconds, then `pause` seconds of nothing."""

    share: float  # of the active users
    burst: int
    gap: float
    pause: float  # on average
    operations: Mapping[str, float]  # with their weights


@dataclass(frozen=True, slots=True)
class Need:
    """The replicas for one size of a centre, and the busiest of them. `wait` in seconds, for 99 of 100 requests."""

    users: int
    active: int
    rate: float  # requests a second, of all replicas
    replicas: int
    limit: str  # what of the busiest replica is nearest to its limit
    busy: float  # of a core
    wait: float
    ssh: int  # SSH connections at a time
    logins: float  # new SSH connections a second, of all replicas
    memory: float  # MiB
    descriptors: int


Request = tuple[float, int, float]  # when it comes, its user, its processor time


def requests_of(user: int, kind: Kind, measured: Measured, until: float, chance: random.Random) -> Iterator[Request]:
    """The requests of one user from 0 to `until`."""
    names, weights = list(kind.operations), list(kind.operations.values())
    costs = [measured.request[name] for name in names]
    mean = kind.pause + kind.gap * (kind.burst - 1)
    at = chance.random() * mean - mean / 2  # somewhere within a first round
    while at < until:
        for cost in chance.choices(costs, weights, k=kind.burst):
            if 0 <= at < until:
                yield at, user, cost
            at += kind.gap
        at += chance.expovariate(1 / kind.pause) - kind.gap


@dataclass(frozen=True, slots=True)
class Replica:
    """What one replica had to do in the minute."""

    busy: float
    waits: Sequence[float]
    ssh: int
    logins: int


def serve(requests: Sequence[Request], measured: Measured) -> Replica:
    """One process: one core, one request after another. Requests are in the order of time."""
    last: dict[int, float] = {}
    free = work = 0.0
    waits, logins = [], 0
    for at, user, processor in requests:
        new = at - last.get(user, -math.inf) > measured.idle_timeout
        last[user] = at
        cost = processor + (measured.login if new else 0.0)
        if at < MINUTE:  # connections are being opened that would be open
            continue
        start = max(free, at)
        free = start + cost
        work += cost
        waits.append(start - at)
        logins += new
    ssh = sum(MINUTE * 2 - at <= measured.idle_timeout for at in last.values())
    return Replica(work / MINUTE, waits, ssh, logins)


def p99(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.99) - 1] if values else 0.0


def need(users: int, kinds: Sequence[Kind], measured: Measured, *, active: float, seed: int = 1) -> Need:
    """The fewest replicas with which each has room. Users are spread by a hash, each to one replica."""
    chance = random.Random(seed)
    some = max(1, round(users * active))
    kind_of = chance.choices(kinds, [kind.share for kind in kinds], k=some)
    places = [chance.random() for _ in range(some)]
    requests = sorted(
        one for user, kind in enumerate(kind_of) for one in requests_of(user, kind, measured, 2 * MINUTE, chance)
    )
    rate = sum(at >= MINUTE for at, _, _ in requests) / MINUTE
    replicas = 1
    while True:
        shares: list[list[Request]] = [[] for _ in range(replicas)]
        for one in requests:
            shares[int(places[one[1]] * replicas)].append(one)
        served = [serve(share, measured) for share in shares]
        clients = max(Counter(int(place * replicas) for place in places).values())
        wait, busy = max(p99(one.waits) for one in served), max(one.busy for one in served)
        used = {"processor": busy / BUSY, "wait": wait / WAIT, "HTTP connections": clients / measured.connections}
        if max(used.values()) <= 1 or replicas >= some:  # more than one for each user would not help
            break
        replicas = max(replicas + 1, math.ceil(busy / BUSY) if replicas == 1 else 0)
    ssh = max(one.ssh for one in served)
    return Need(
        users=users,
        active=some,
        rate=rate,
        replicas=replicas,
        limit=max(used, key=lambda name: used[name]),
        busy=busy,
        wait=wait,
        ssh=ssh,
        logins=sum(one.logins for one in served) / MINUTE,
        memory=measured.idle + measured.user * ssh + measured.client * clients,
        descriptors=measured.descriptors + ssh + clients,
    )
