"""The loop that probes services and writes the results to a Board. It knows no service itself.

Wiring supplies the checks. They use the same ports as users' requests, each with its own deadline.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, NotFound, Timeout, Unavailable, Upstream

from .board import ProbeResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from .board import Board, Service

_log: Final = logging.getLogger(__name__)
_JITTER: Final = 0.1  # part of the pause: random, so that the probes of many clusters do not run at the same time


@dataclass(frozen=True, slots=True)
class Probe:
    """A check of a service: it returns if the service works, else it raises. It may take `timeout` seconds.

    NotProbed says that the check could not be made. Users see the public text of a GatewayError. They see nothing of
    any other exception, which is a defect of the check and no sign of an outage.
    """

    service: Service
    check: Callable[[Deadline], Awaitable[None]]
    timeout: float
    path: str | None = None


class NotProbed(GatewayError):
    """The check could not be made, for a reason that lies in the gateway or its service account."""


class ProbeLoop:
    """Runs the probes of one board repeatedly from enter to exit; each probe runs once at a time.

    The first probes start at once, in the background. For the first `grace` seconds failures are shown on the
    board but do not lead to refusals.
    """

    def __init__(
        self,
        board: Board,
        probes: Sequence[Probe],
        *,
        grace: float = 0.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._board = board
        self._probes = tuple(probes)
        self._grace = grace
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._spread = spread
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        grace_ends = self._monotonic() + self._grace
        self._tasks = [
            asyncio.create_task(self._watch(probe, grace_ends), name=self._name(probe)) for probe in self._probes
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, probe: Probe, grace_ends: float) -> None:
        previous = None
        while True:
            started = self._monotonic()
            error = await _failure(probe)
            message = None if error is None else _public(error)
            health = ProbeResult(
                service=probe.service,
                healthy=error is None,
                unknown=error is not None and _says_nothing(error),
                checked=self._clock(),
                latency=self._monotonic() - started,
                message=message,
                path=probe.path,
            )
            self._board.record(health, counts=self._monotonic() >= grace_ends)
            if message != previous:  # not every few seconds of an outage
                _log_change(self._name(probe), error)
            previous = message
            pause = self._board.pause(probe.service, probe.path)
            await self._sleep(pause * self._spread(1 - _JITTER, 1 + _JITTER))

    def _name(self, probe: Probe) -> str:
        return " ".join(filter(None, ("probe of", self._board.cluster, probe.service, probe.path)))


async def _failure(probe: Probe) -> BaseException | None:
    """Run the check and return the exception that it raised: the loop must survive every check."""
    deadline = Deadline.after(probe.timeout)
    try:
        async with deadline.enforce(f"The {probe.service} check"):
            await probe.check(deadline)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return error  # a task below the check was cancelled, not the probe loop
    except Exception as error:  # noqa: BLE001 - see above
        return error
    return None


def _says_nothing(error: BaseException) -> bool:
    """Whether the service is not at fault: the check was not made, or was refused for its account or by a limit."""
    return not isinstance(error, Unavailable | Upstream | Timeout | NotFound) or isinstance(error, NotProbed)


def _public(error: BaseException) -> str:
    if not isinstance(error, GatewayError):
        return "Unknown: the check failed. The reason is in the gateway's log."
    text = error.public or type(error).__name__
    return f"Unknown: the probe could not be made: {text}" if _says_nothing(error) else text


def _log_change(name: str, error: BaseException | None) -> None:
    """Log the changed state in detail."""
    match error:
        case None:
            _log.info("%s: healthy again", name)
        case GatewayError():
            unknown = "could not be made: " if _says_nothing(error) else ""
            _log.warning("%s: %s%s", name, unknown, error.detail or error.public)
        case _:
            _log.error("%s crashed", name, exc_info=error)
