"""The health of a cluster's services: what probes and users' requests have found, and which services are refused.

No I/O. The probe loop (probes.py) and the routes report to the Board; `cluster.py` asks it before a port is handed out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flamecrest.server.errors import Unavailable

from .breaker import Breaker, BreakerPolicy, BreakerState
from .maintenance import window_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .maintenance import MaintenanceWindow

ENDLESS_RETRY: Final = 300.0  # seconds until a retry makes sense, at most: the end of a maintenance may come earlier


class Service(StrEnum):
    """The services that can be probed: those of a cluster by their names on the wire, then those of the gateway."""

    SCHEDULER = "scheduler"
    FILESYSTEM = "filesystem"
    SSH = "ssh"
    S3 = "s3"
    ISSUER = "issuer"
    OPENFGA = "openfga"


class Target(NamedTuple):
    """What a probe or a breaker is about. path: of a file system; the name of an issuer."""

    service: Service
    path: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of one probe. `path` is set for file systems and issuers only; `latency` is in seconds.

    `message` is shown to users and must not contain secrets. `unknown`: the probe could not be made and says nothing
    about the service; the Board shows the last known `healthy` then. `since`: the start of the current state, healthy
    or not; the Board sets it.
    """

    service: Service
    healthy: bool
    checked: datetime
    latency: float | None
    message: str | None = None
    path: str | None = None
    unknown: bool = False
    since: datetime | None = None


class ServiceDown(Unavailable):
    """The service is refused. `details` has `service`, `path`, `reason` (down or maintenance), `since`."""


@dataclass(slots=True)
class _TargetState:
    """The state of one target: its breaker, its last probe, and the last failure of a user's request."""

    breaker: Breaker
    last: ProbeResult | None = None
    since: datetime | None = None  # start of the current state, healthy or not
    failed: ProbeResult | None = None  # the last failure of a user's request, until one is served


_ORDER = list(Service)


class Board:
    """The health of one cluster: for each of its services the last result and a circuit breaker (breaker.py).

    A service of which nothing is known is never refused, and a probe that could not be made changes nothing.
    `interval` and `retry` (seconds, at least 1) are the pauses after a successful and after any other probe; `retry` is
    the pause of a breaker, too. `failures` (at least 2) are the failed probes in a row that open it; `requests` the
    failed requests of users. `clock` is for what is shown, `monotonic` (seconds) for what is decided.
    """

    def __init__(
        self,
        cluster: str = "the cluster",
        *,
        interval: float = 120.0,
        retry: float = 5.0,
        failures: int = 2,
        requests: int = 4,
        windows: Sequence[MaintenanceWindow] = (),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cluster = cluster
        self._interval = max(1.0, interval)  # limits the load of the login node
        self._retry = max(1.0, min(retry, interval))
        self._policy = BreakerPolicy(
            probes=failures, requests=requests, retry=self._retry, trial=self._retry * 6, trust=self._interval
        )
        self._windows = tuple(windows)
        self._clock = clock
        self._monotonic = monotonic
        self._states: dict[Target, _TargetState] = {}
        self._suspected: set[Target] = set()  # a success of theirs must be reported
        self.refused: set[Target] = set()  # those whose breaker is open
        self.watching = bool(self._windows)  # whether requests have to ask, and to report that they were served
        self._last_run: datetime | None = None

    # --- reports

    def record(self, health: ProbeResult, *, counts: bool = True) -> None:
        """Store the result of a probe. If `counts` is false, a failure is shown but does not lead to refusals."""
        target = Target(health.service, health.path)
        state = self._state(target)
        before = state.last
        if health.unknown:
            health = replace(health, healthy=before is None or before.healthy)
        if before is None or before.healthy is not health.healthy:
            state.since = health.checked
        state.last = health
        now = self._monotonic()
        if not health.unknown and health.healthy:
            state.breaker.probe_succeeded(now)
        elif not health.unknown and counts:
            state.breaker.probe_failed(now)
        self._note(target, state)
        if self._last_run is None or health.checked > self._last_run:
            self._last_run = health.checked

    def succeeded(self, service: Service, path: str | None = None) -> None:
        """A user's request was served by the service: it is no longer refused."""
        target = Target(service, path)
        state = self._states.get(target)
        if state is None:
            return
        state.breaker.request_succeeded(self._monotonic())
        state.failed = None
        self._note(target, state)

    def failed(self, user: str, message: str, service: Service, path: str | None = None) -> None:
        """A user's request failed because of the service. `message` is shown to all users."""
        target = Target(service, path)
        state = self._state(target)
        state.breaker.request_failed(user, self._monotonic())
        now = self._clock()
        since = now if state.failed is None else state.failed.since
        state.failed = ProbeResult(service, False, now, None, message, path, since=since)
        self._note(target, state)

    def trial_ended(self, service: Service, path: str | None = None) -> None:
        """The request that tried the service has ended and says nothing about it."""
        state = self._states.get(Target(service, path))
        if state is not None:
            state.breaker.trial_ended()

    # --- questions

    def require(self, service: Service, path: str | None = None, *, user: str = "") -> bool:
        """Whether the request of `user` tries a service that is refused otherwise: report its end.

        False if all requests may use the service. Raises ServiceDown, with the time of the next trial.
        """
        now = self._clock()
        window = window_of(self._windows, service, path, now) if self._windows else None
        if window is not None:
            raise self._in_maintenance(window, Target(service, path), now)
        target = Target(service, path)
        if target not in self.refused:
            return False
        wait = self._states[target].breaker.ask(self._monotonic(), user)
        if wait is not None:
            raise self._refusal(target, wait)
        return True

    def state(self, target: Target) -> BreakerState:
        """The state of a breaker."""
        state = self._states.get(target)
        return BreakerState.CLOSED if state is None else state.breaker.state(self._monotonic())

    def results(self) -> list[ProbeResult]:
        """What is known of each service, by service and path. A refused service is not healthy."""
        now = self._clock()
        found = {target: self._result(target) for target in self._states}
        for service in (Service.SCHEDULER, Service.SSH):
            if window_of(self._windows, service, None, now) is not None:
                found.setdefault(Target(service), None)
        shown = []
        for target, result in found.items():
            window = window_of(self._windows, target.service, target.path, now)
            if window is not None:
                message = f"Maintenance{_until(window)}{_reason(window.message)}"
                latency = result.latency if result is not None else None
                result = ProbeResult(  # noqa: PLW2901
                    target.service,
                    False,
                    now,
                    latency,
                    message,
                    target.path,
                    since=window.start,
                )
            if result is not None:
                shown.append(result)
        return sorted(shown, key=lambda one: (_ORDER.index(one.service), one.path or ""))

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
        state = self._states.get(Target(service, path))
        last = None if state is None else state.last
        fine = state is None or last is None or (last.healthy and not last.unknown)
        return self._interval if fine and not (state is not None and state.breaker.is_open) else self._retry

    # --- inside

    def _state(self, target: Target) -> _TargetState:
        state = self._states.get(target)
        if state is None:
            state = self._states[target] = _TargetState(Breaker(self._policy))
        return state

    def _note(self, target: Target, state: _TargetState) -> None:
        """Keep the sets of targets up to date."""
        (self.refused.add if state.breaker.is_open else self.refused.discard)(target)
        (self._suspected.add if state.breaker.suspected else self._suspected.discard)(target)
        self.watching = bool(self._suspected or self._windows)

    def _result(self, target: Target) -> ProbeResult | None:
        state = self._states[target]
        if state.failed is not None and state.breaker.is_open and (state.last is None or state.last.healthy):
            return state.failed
        return None if state.last is None else replace(state.last, since=state.since)

    def _refusal(self, target: Target, wait: float) -> ServiceDown:
        result = self._result(target)
        since = _shown(result.since) if result is not None and result.since is not None else None
        message = None if result is None else result.message
        error = ServiceDown(
            f"{_named(target)} of {self.cluster} has been down since {since}{_reason(message or '')}",
            retry_after=max(1.0, min(self._retry, wait)),
        )
        error.details = _details(target, "down", since)
        return error

    def _in_maintenance(self, window: MaintenanceWindow, target: Target, now: datetime) -> ServiceDown:
        what = f"{_named(target)} of {self.cluster}" if window.services else self.cluster
        left = ENDLESS_RETRY if window.end is None else (window.end - now).total_seconds()
        error = ServiceDown(
            f"{what} is in maintenance{_until(window)}{_reason(window.message)}", retry_after=max(1.0, left)
        )
        since = None if window.start is None else _shown(window.start)
        until = None if window.end is None else _shown(window.end)
        error.details = {**_details(target, "maintenance", since), **({"until": until} if until else {})}
        return error


def _details(target: Target, reason: str, since: str | None) -> dict[str, Any]:
    found = {"service": target.service.value, "path": target.path, "reason": reason}
    return {name: value for name, value in {**found, "since": since}.items() if value is not None}


def _shown(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _until(window: MaintenanceWindow) -> str:
    return f" until {_shown(window.end)}" if window.end is not None else ""


def _reason(message: str) -> str:
    return f": {message}" if message else ""


def _named(target: Target) -> str:
    match target.service:
        case Service.SCHEDULER:
            return "The scheduler"
        case Service.FILESYSTEM:
            return f"The file system {target.path}"
        case Service.SSH:
            return "The SSH service"
        case Service.S3:
            return "The object store"
        case Service.ISSUER:
            return f"The token issuer {target.path}"
        case Service.OPENFGA:
            return "OpenFGA"
