"""`output?follow=true`: the output of a job as server-sent events until the job ends.

While the job waits, only its state is asked for, which all requests of a user share. The events are those of
`tail?follow=true`, and at last `end`, whose data is the job. The id of an event names the file and the position behind
the event (`Last-Event-ID`), so a client that was disconnected goes on there.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, Field, GatewayError, Invalid, NotFound
from flamecrest.server.files.values import FollowPosition
from flamecrest.server.http.core.responses import RESUMABLE
from flamecrest.server.http.core.shared_events import stream_end
from flamecrest.server.http.files.tail import parse_event_id, send_added
from flamecrest.server.schedulers.values import Stage
from flamecrest.wire.json import dumps

from .shown import show_job

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from flamecrest.server.files.port import Files
    from flamecrest.server.files.values import FollowEvent
    from flamecrest.server.http.core.route import Call
    from flamecrest.server.schedulers.port import Scheduler
    from flamecrest.server.schedulers.values import Job

LOOK_EVERY: Final = 1.0  # seconds between two looks at the job
_ENDED: Final = "-end"  # at the end of the id of the last event
_NOWHERE: Final = FollowPosition(0, 0)


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The event that a client has got last: the position behind it, and whether it was the end of the job."""

    after: FollowPosition | None
    ended: bool

    @classmethod
    def of(cls, call: Call) -> LastEvent:
        """Read `Last-Event-ID`. Raises Invalid."""
        text = call.headers.get("last-event-id") or ""
        after = parse_event_id(text.removesuffix(_ENDED) or text)
        return cls(None if after == _NOWHERE else after, text.endswith(_ENDED))


@dataclass(frozen=True, slots=True)
class FollowStart:
    """Where to begin in an output that is there already: a number of bytes or lines before its end, or an offset.

    At most one is given; none is the beginning.
    """

    last_bytes: int | None = None
    last_lines: int | None = None
    offset: int | None = None

    @classmethod
    def of(cls, last_bytes: int | None, last_lines: int | None, offset: int | None, *, follow: bool) -> FollowStart:
        """Make it from the parameters of a request. Raises Invalid."""
        named = {"bytes": last_bytes, "lines": last_lines, "offset": offset}
        given = [name for name, value in named.items() if value is not None]
        if given and not follow:
            message = "needs `follow`; for a part of the output give the header `Range`"
        elif len(given) > 1:
            message = f"contradicts `{given[1]}`: give one of `bytes`, `lines` and `offset`"
        else:
            return cls(last_bytes, last_lines, offset)
        raise Invalid(f"`{given[0]}` {message}", fields=(Field("query", given[0], message),))

    def within(self, size: int) -> int:
        """The first byte to read of so many; an offset behind the end is the end."""
        if self.offset is not None:
            return min(self.offset, size)
        return 0 if self.last_bytes is None else max(0, size - self.last_bytes)


FROM_THE_BEGINNING: Final = FollowStart()


class FollowedOutput:
    """The output of one job, from `start` or from `after` on.

    `scheduler` returns the caller's scheduler, `open_output` the caller's files and the path of the output as it is
    known now.
    """

    def __init__(
        self,
        job: Job,
        scheduler: Callable[[], Scheduler],
        open_output: Callable[[Job], Awaitable[tuple[Files, str]]],
        seconds: tuple[float, float],
        after: FollowPosition | None,
        start: FollowStart = FROM_THE_BEGINNING,
    ) -> None:
        self.job = job
        self._start = start
        self.ended = job.stage is Stage.ENDED
        self.position = after
        self.complete = False  # the job has ended, and its output was read to the end
        self._scheduler = scheduler
        self._open_output = open_output
        self._job_seconds, self._file_seconds = seconds
        self._looked = time.monotonic()

    async def pieces(self) -> AsyncGenerator[FollowEvent | None, None]:
        """Yield what is added to the output, and None from time to time while nothing is added.

        Ends when the job has ended, or when the connection is wanted for another user.
        """
        while not self.complete:
            ended = self.ended
            try:
                async with aclosing(self._of_file()) as pieces:
                    async for piece in pieces:
                        yield piece
            except NotFound:  # the job has not made the file yet, or the file was removed
                self.complete = ended
                self._start = FROM_THE_BEGINNING  # all that it will write is new
                if not ended:
                    yield None
                    await self._wait()
            except (Denied, Invalid):  # another file has this name now: the client connects again, and gets the error
                return
            else:
                if ended is self.ended:  # finished, or the connection is wanted for another user
                    return

    async def _of_file(self) -> AsyncGenerator[FollowEvent | None, None]:
        """Read to the end if the job has ended, else until it has. Raises NotFound if there is no file yet."""
        ended = self.ended
        if self.job.stage is Stage.WAITING or (ended and self.job.times.start is None):
            raise NotFound("The job has not started")  # a file of that name is not of this job
        files, path = await self._open_output(self.job)
        deadline = Deadline.after(self._file_seconds)
        if self.position is None and self._start.last_lines is None:
            found = await files.queries.stat(path, deadline, follow=True)
            self.position = FollowPosition(found.ino, self._start.within(found.size))
        lines = self._start.last_lines or 0
        # When the job has ended, the file is opened once more: network file systems show the latest bytes then.
        async with files.queries.follow(path, deadline, lines=lines, after=self.position) as pieces:
            async for piece in pieces:
                if piece is not None:
                    if piece.event == "rotated":
                        await self._open_output(self.job)
                    self.position = piece.position
                    yield piece
                    continue
                self.complete = ended
                if not ended:
                    yield None
                    await self._look()
                if self.ended:
                    return

    async def _wait(self) -> None:
        await self._scheduler().wait_for_change(LOOK_EVERY)
        await self._look()

    async def _look(self) -> None:
        """Ask for the job's state, at most once in a while. A failure is no news."""
        if self.ended or (now := time.monotonic()) - self._looked < LOOK_EVERY / 2:
            return
        self._looked = now
        try:
            self.job = (await self._scheduler().job(self.job.id, Deadline.after(self._job_seconds)))[0]
        except NotFound:  # ended so long ago that the scheduler has forgotten it
            self.job = replace(self.job, state="UNKNOWN")
            self.ended = True
        except GatewayError:
            return
        self.ended = self.ended or self.job.stage is Stage.ENDED

    def last_event(self) -> bytes:
        """The event that tells of the end of the job."""
        position = self.position or _NOWHERE
        head = b"id: %x-%x%b\nevent: end\ndata: " % (position.ino, position.offset, _ENDED.encode())
        return head + dumps(show_job(self.job)) + b"\n\n"


class OutputEvents(Response):
    """Sends the output of a job until the job ends, the caller's token expires, or an hour has passed."""

    def __init__(self, call: Call, output: FollowedOutput) -> None:
        super().__init__()
        self._output = output
        self._until = stream_end(call)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send events until the stream ends; cancelled when the client disconnects, and when the gateway stops."""
        scope[RESUMABLE] = True
        async with aclosing(self._output.pieces()) as pieces:
            await send_added(send, pieces, self._until)
        end = self._output.last_event() if self._output.complete else b""
        await send({"type": "http.response.body", "body": end, "more_body": False})
