"""What is up and what is not: the Board of last results, and guard(), which lets only what is ready be asked.

Pure: no I/O, no clock but the one given. Probes (probes.py) and live traffic write; `cluster.py` asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from flamecrest.server.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable


class Service(StrEnum):
    """The services of a cluster that are watched, as the wire names them."""

    SCHEDULER = "scheduler"
    FILESYSTEM = "filesystem"
    SSH = "ssh"
    S3 = "s3"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of one probe. `path` is set for file systems only; `latency` is in seconds.

    `message` is for users: it must hold no secret.
    """

    service: Service
    healthy: bool
    checked: datetime
    latency: float
    message: str | None = None
    path: str | None = None


@dataclass(slots=True)
class _Watched:
    """One service: its last result, and the failures in a row that count against it."""

    last: ProbeResult
    since: datetime  # when it became as healthy, or not, as it is now
    failures: int = 0


_ORDER = list(Service)


class Board:
    """The last results of one cluster, and from them which doors are closed.

    A door closes after `failures` failed probes in a row with no success between, of a probe or of a live
    request, and opens at the first success. Nothing is closed that was never probed. `interval` and `retry`
    (seconds, at least one) are the pauses after a probe that worked and after one that failed.
    """

    def __init__(
        self,
        cluster: str = "the cluster",
        *,
        interval: float = 120.0,
        retry: float = 5.0,
        failures: int = 2,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.cluster = cluster
        self._interval = max(1.0, interval)  # a probe is work for a login node, whatever the settings say
        self._retry = max(1.0, min(retry, interval))
        self._failures = max(1, failures)
        self._clock = clock
        self._watched: dict[tuple[Service, str | None], _Watched] = {}
        self._last_run: datetime | None = None

    def record(self, health: ProbeResult, *, counts: bool = True) -> None:
        """Note the result of a probe. With `counts` false a failure is shown but closes no door."""
        key = (health.service, health.path)
        watched = self._watched.get(key)
        if watched is None or watched.last.healthy is not health.healthy:
            watched = self._watched[key] = _Watched(health, since=health.checked)
        watched.last = health
        if counts and not health.healthy:
            watched.failures += 1
        if self._last_run is None or health.checked > self._last_run:
            self._last_run = health.checked

    def seen(self, service: Service, path: str | None = None) -> None:
        """Note that a live request found the service working: its door opens, and the last result says so."""
        watched = self._watched.get((service, path))
        if watched is None or watched.last.healthy:
            return
        now = self._clock()
        healthy = replace(watched.last, healthy=True, checked=now, message=None)
        self._watched[service, path] = _Watched(healthy, since=now)

    def results(self) -> list[ProbeResult]:
        """The last result of each probe, by service and path."""
        found = [watched.last for watched in self._watched.values()]
        return sorted(found, key=lambda health: (_ORDER.index(health.service), health.path or ""))

    @property
    def last_run(self) -> datetime | None:
        """When a probe last finished; None before the first."""
        return self._last_run

    def age(self) -> float | None:
        """Seconds since `last_run`, never below zero; None before the first."""
        if self._last_run is None:
            return None
        return max(0.0, (self._clock() - self._last_run).total_seconds())

    def pause(self, service: Service, path: str | None = None) -> float:
        """Seconds from one probe of the service to the next: short after a failure."""
        watched = self._watched.get((service, path))
        return self._interval if watched is None or watched.last.healthy else self._retry

    def refusal(self, service: Service, path: str | None = None) -> Unavailable | None:
        """The error for who asks for a closed service, to be tried again after its next probe; None if open."""
        watched = self._watched.get((service, path))
        if watched is None or watched.failures < self._failures:
            return None
        pause = self.pause(service, path)
        passed = (self._clock() - watched.last.checked).total_seconds()
        said = f": {watched.last.message}" if watched.last.message else ""
        return Unavailable(
            f"{_named(service, path)} of {self.cluster} has been down since "
            f"{watched.since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}{said}",
            # A wall clock can jump; an answer to wait for a day, or for less than no time, is none.
            retry_after=max(1.0, min(pause, pause - passed)),
        )


def guard(board: Board, service: Service, path: str | None = None) -> None:
    """Return if the service may be asked, raise Unavailable at once if it is known to be down."""
    refusal = board.refusal(service, path)
    if refusal is not None:
        raise refusal


def _named(service: Service, path: str | None) -> str:
    match service:
        case Service.SCHEDULER:
            return "The scheduler"
        case Service.FILESYSTEM:
            return f"The file system {path}"
        case Service.SSH:
            return "The SSH service"
        case Service.S3:
            return "The object store"
