"""The loop that asks a cluster's services how they are and writes it on the Board; knows no service itself.

Checks are given by wiring and go through the same ports as users' requests, each with a deadline of its own.
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
from flamecrest.server.errors import GatewayError

from .board import ProbeResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from .board import Board, Service

_log: Final = logging.getLogger(__name__)
_JITTER: Final = 0.1  # of the pause, either way: many clusters' probes shall not stay in step


@dataclass(frozen=True, slots=True)
class Probe:
    """How to find out whether a service works: `check` returns, or raises within `timeout` seconds.

    The public text of a GatewayError is shown to users; of any other exception they see nothing.
    """

    service: Service
    check: Callable[[Deadline], Awaitable[None]]
    timeout: float
    path: str | None = None


class ProbeLoop:
    """Runs each probe of one cluster again and again from enter to exit, never one beside itself.

    The first runs begin at once and nobody waits for them. For the first `grace` seconds failures are shown
    on the board but close no door.
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
        said = None
        while True:
            started = self._monotonic()
            error = await _failure(probe)
            message = None if error is None else _public(error)
            health = ProbeResult(
                service=probe.service,
                healthy=error is None,
                checked=self._clock(),
                latency=self._monotonic() - started,
                message=message,
                path=probe.path,
            )
            self._board.record(health, counts=self._monotonic() >= grace_ends)
            if message != said:  # once, and not every few seconds of an outage
                _tell(self._name(probe), error)
            said = message
            pause = self._board.pause(probe.service, probe.path)
            await self._sleep(pause * self._spread(1 - _JITTER, 1 + _JITTER))

    def _name(self, probe: Probe) -> str:
        return " ".join(filter(None, (f"probe of {self._board.cluster}", probe.service, probe.path)))


async def _failure(probe: Probe) -> BaseException | None:
    """Run the check and return what it raised: whatever a check does, the loop goes on."""
    deadline = Deadline.after(probe.timeout)
    try:
        async with deadline.enforce(f"The {probe.service} check"):
            await probe.check(deadline)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return error  # something below the check was cancelled, not we
    except Exception as error:  # noqa: BLE001 - see above
        return error
    return None


def _public(error: BaseException) -> str:
    if isinstance(error, GatewayError):
        return error.public or type(error).__name__
    return "The check failed for a reason that only the gateway's log tells"


def _tell(name: str, error: BaseException | None) -> None:
    """Log what changed, in all detail."""
    match error:
        case None:
            _log.info("%s: healthy again", name)
        case GatewayError():
            _log.warning("%s: %s", name, error.detail or error.public)
        case _:
            _log.error("%s crashed", name, exc_info=error)
