"""Whether a connection's server answers: tests of silent connections, suspicion, and the end by `keep_alive`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from flamecrest.server.ssh.errors import Unanswered

if TYPE_CHECKING:
    from flamecrest.server.ssh.transport import SshTransport

SILENCE: Final = 1.0  # seconds without data, while an answer is awaited, after which a connection is tested
ANSWER: Final = 1.4  # seconds in which a tested connection must answer, else it is suspected
HURRY: Final = (0.3, 0.4)  # the same two if there are other login nodes
UNANSWERED: Final = 3  # keep-alive messages in a row that may stay without an answer; with the next one it is lost


class Liveness:
    """The tests of one connection. `keep_alive` is the interval of keep-alive messages in seconds; 0: none.

    A suspected connection gets no new work, and requests that can be made again elsewhere leave it. All else that is
    under way on it stays until the server answers again, or asyncssh ends the connection by its keep-alive.
    """

    def __init__(self, transport: SshTransport, keep_alive: float) -> None:
        self._transport = transport
        self._keep_alive = keep_alive
        self._interval = -1.0  # of keep-alive messages, as it is set
        self._tested: float | None = None  # monotonic time of the test that has no answer yet
        self._heard = 0.0  # when data had last come at that time
        self._leavers: dict[object, Callable[[], None]] = {}
        self.suspected = False
        self._first, self._answer = SILENCE, ANSWER
        self._silence = SILENCE  # before the next test
        self._answered = 0.0  # when the last test was answered

    def hurry(self) -> None:
        """Suspect the server sooner: there are other login nodes."""
        self._first, self._answer = HURRY
        self._silence = self._first

    def silent(self, now: float) -> bool:
        """Whether no data has come for a while."""
        return now - self._transport.heard > self._silence

    def watch(self, now: float, *, busy: bool) -> None:
        """Test a silent connection that is in use, and begin or end its keep-alive.

        A connection that has just been heard needs neither: to restart a timer with every message costs more than
        the message.
        """
        if self._tested is not None and self._transport.heard != self._heard:
            # a request that takes long needs no test as often as one that was made just now
            self._silence, self._answered = min(SILENCE, 2 * self._silence), self._transport.heard
        elif self._transport.heard != self._answered:
            self._silence = self._first
        silent = self.silent(now)
        interval = self._keep_alive if silent else 0.0
        if interval != self._interval and not self._transport.lost:
            self._interval = interval
            self._transport.raw.set_keepalive(interval, UNANSWERED)
        # an answer may be older than SILENCE by now
        if not silent or (self._tested is not None and self._transport.heard != self._heard):
            self._tested, self.suspected = None, False
        if not silent:
            return
        if self._tested is None:
            if busy:
                self._tested, self._heard = now, self._transport.heard
                self._transport.test()
        elif now - self._tested > self._answer:
            self.suspect()

    def suspect(self) -> None:
        """Take the server for dead until it is heard again."""
        self.suspected = True
        for leave in tuple(self._leavers.values()):
            leave()

    @contextmanager
    def leaving(self, *, when: bool = True) -> Iterator[None]:
        """Raise Unanswered in the block as soon as the connection is suspected. With `when=False`, never."""
        task = asyncio.current_task()
        if not when or task is None:
            yield
            return
        cancelling, left, key = task.cancelling(), False, object()

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                task.cancel()

        self._leavers[key] = leave
        try:
            yield
        except asyncio.CancelledError:
            if left and task.uncancel() <= cancelling:
                raise Unanswered("The login node has stopped answering") from None
            raise
        finally:
            del self._leavers[key]
