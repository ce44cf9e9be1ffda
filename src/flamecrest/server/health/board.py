"""The health of a cluster's services: the last probe results, and which services requests may use. No I/O.

The probe loop (probes.py) writes to the Board; `cluster.py` asks it before a port is handed out.
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
    """The services of a cluster that can be probed, by their names on the wire."""

    SCHEDULER = "scheduler"
    FILESYSTEM = "filesystem"
    SSH = "ssh"
    S3 = "s3"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of one probe. `path` is set for file systems only; `latency` is in seconds.

    `message` is shown to users and must not contain secrets. `unknown`: the probe could not be made and says nothing
    about the service; the Board shows the last known `healthy` then.
    """

    service: Service
    healthy: bool
    checked: datetime
    latency: float
    message: str | None = None
    path: str | None = None
    unknown: bool = False


@dataclass(slots=True)
class _ServiceState:
    """The state of one service: its last result, and the number of counted failures since the last success."""

    last: ProbeResult
    since: datetime  # start of the current state, healthy or not
    failures: int = 0
    tried: datetime | None = None  # when the service was refused first, or a request was let through to try it
    served: datetime | None = None  # when such a request was served


_ORDER = list(Service)


class Board:
    """The last probe results of one cluster: a circuit breaker for each of its services.

    Requests for a service are refused after `failures` failed probes in a row (at least 2), until a probe or a request
    succeeds. Every `retry` seconds one request is let through to try. If it is served, the probe is wrong: its failures
    do not count for `interval` seconds. A service that was never probed is never refused, and a probe that could not be
    made changes nothing. `interval` and `retry` (seconds, at least 1) are the pauses after
    a successful and after any other probe.
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
        self._interval = max(1.0, interval)  # limits the load of the login node
        self._retry = max(1.0, min(retry, interval))
        self._failures = max(2, failures)
        self._clock = clock
        self._states: dict[tuple[Service, str | None], _ServiceState] = {}
        self.refused: set[tuple[Service, str | None]] = set()  # the services that `require` refuses now
        self._last_run: datetime | None = None

    def record(self, health: ProbeResult, *, counts: bool = True) -> None:
        """Store the result of a probe. If `counts` is false, a failure is shown but does not lead to refusals."""
        key = (health.service, health.path)
        state = self._states.get(key)
        if health.unknown:
            health = replace(health, healthy=state is None or state.last.healthy)
        if state is None or state.last.healthy is not health.healthy:
            state = self._states[key] = _ServiceState(health, since=health.checked)
        state.last = health
        counts = counts and not self._contradicted(state, health.checked)
        if counts and not health.healthy and not health.unknown:
            state.failures += 1
        if state.failures >= self._failures:
            if key not in self.refused:
                state.tried = health.checked
            self.refused.add(key)
        else:
            self.refused.discard(key)
        if self._last_run is None or health.checked > self._last_run:
            self._last_run = health.checked

    def _contradicted(self, state: _ServiceState, now: datetime) -> bool:
        """Whether a user's request was served shortly before, while the probe failed."""
        return state.served is not None and abs((now - state.served).total_seconds()) < self._interval

    def results(self) -> list[ProbeResult]:
        """The last result of each probe, by service and path."""
        found = [state.last for state in self._states.values()]
        return sorted(found, key=lambda health: (_ORDER.index(health.service), health.path or ""))

    @property
    def last_run(self) -> datetime | None:
        """The end of the latest probe; None before the first."""
        return self._last_run

    def age(self) -> float | None:
        """Seconds since `last_run`, never below zero; None before the first."""
        if self._last_run is None:
            return None
        return max(0.0, (self._clock() - self._last_run).total_seconds())

    def pause(self, service: Service, path: str | None = None) -> float:
        """Seconds from one probe of the service to the next."""
        state = self._states.get((service, path))
        fine = state is None or (state.last.healthy and not state.last.unknown)
        return self._interval if fine else self._retry

    def require(self, service: Service, path: str | None = None) -> bool:
        """Whether the request tries a service that is refused otherwise: its success must be told to `succeeded`.

        False if all requests may use the service. Raises Unavailable, with the time of the next probe.
        """
        if (service, path) not in self.refused:
            return False
        state, now = self._states[service, path], self._clock()
        if state.tried is not None and abs((now - state.tried).total_seconds()) < self._retry:
            raise self._refusal(service, path)
        state.tried = now
        return True

    def succeeded(self, service: Service, path: str | None = None) -> None:
        """A request that has tried a refused service was served: the service is no longer refused."""
        state = self._states[service, path]
        state.failures, state.served = 0, self._clock()
        self.refused.discard((service, path))

    def _refusal(self, service: Service, path: str | None) -> Unavailable:
        state = self._states[service, path]
        pause = self.pause(service, path)
        passed = (self._clock() - state.last.checked).total_seconds()
        reason = f": {state.last.message}" if state.last.message else ""
        return Unavailable(
            f"{_named(service, path)} of {self.cluster} has been down since "
            f"{state.since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}{reason}",
            # The clock may jump: never tell a client to wait for longer than the pause, or for a negative time.
            retry_after=max(1.0, min(pause, pause - passed)),
        )


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
