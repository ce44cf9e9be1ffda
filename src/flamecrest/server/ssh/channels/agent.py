"""The agent: a small program that stays on a connection and answers small questions about files in one round trip.

What SFTP version 3 can't say (inode, device, links, change time) and what it says in several round trips. It does
what is plain and leaves the rest (whatever fails, is large or odd) to SFTP: what it leaves it has not changed.
Where the login node has no perl, `stat_command` asks coreutils for attributes, one process a question.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import asyncssh

from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.command_line import Preamble, shell_line
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.ssh.pool.connection import open_channel
from flamecrest.server.ssh.programs.perl import one_line

from .agent_protocol import Question, StatError, read_answer

if TYPE_CHECKING:
    from flamecrest.server.ssh.pool.connection import Connection

T = TypeVar("T")

PROGRAM = one_line("agent.pl")
MAX_ANSWER = 1024 * 1024  # bytes
SLOW = 2  # slow questions under way at once: one that is worked at, and the next
MAX_WAITING = 1024 * 1024  # bytes of questions under way at once; what comes then is left to SFTP, which has a window


class _PendingQuestion(Generic[T]):
    """A question with those who wait for its answer."""

    __slots__ = ("futures", "question")

    def __init__(self, question: Question[T], future: asyncio.Future[T | None]) -> None:
        self.question = question
        self.futures = [future]

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits."""
        return not all(future.done() for future in self.futures)

    def answered(self, answer: bytes) -> None:
        """Tell everybody; raises ValueError for what is no answer."""
        try:
            found = read_answer(self.question, answer) if self.wanted else None
        except StatError as error:
            self.failed(error)
            return
        for future in self.futures:
            if not future.done():
                future.set_result(found)

    def failed(self, error: Exception) -> None:
        """Tell everybody that there is no answer."""
        for future in self.futures:
            if not future.done():
                future.set_exception(error)
                future.exception()  # who asked may have gone: no complaint that nobody looked


class Agent(asyncssh.SSHClientSession[bytes]):
    """The agent of one connection, shared by all requests of its user."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._waiting: deque[_PendingQuestion[Any]] = deque()
        self._later: dict[bytes, _PendingQuestion[Any]] = {}  # slow ones that are not sent yet, by their text
        self._slow = 0  # of those that are
        self._preamble = Preamble()
        self._buffer = b""
        self._out: list[bytes] = []
        self._asked = 0  # bytes of questions without an answer
        self._status: int | None = None
        self._answered = False  # a question, so that the program runs
        self.changing = 0  # questions under way that change something
        self.counted = False  # among the connection's channels
        self.closed = False

    async def open(self) -> None:
        """Start the program; ChannelRefused when there is no room."""
        line = shell_line(Command(("perl", "-e", PROGRAM), lambda output: output))
        self._channel = await open_channel(self._connection, self, line)

    def ask(self, question: Question[T]) -> asyncio.Future[T | None]:
        """What the answer says; None: ask by another way. Raises StatError, and Lost when the agent is gone."""
        future: asyncio.Future[T | None] = self._loop.create_future()
        if self.closed:
            future.set_exception(Lost("The SSH connection was lost"))
        elif not question.slow:
            self._send(_PendingQuestion(question, future))
        elif (same := self._later.get(question.text)) is not None:
            same.futures.append(future)  # it is asked after all of them: nobody gets what was true before
        else:
            self._later[question.text] = _PendingQuestion(question, future)
            self._asked += len(question.text)
            self._send_slow()
        return future

    def _send(self, asked: _PendingQuestion[Any]) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(asked.question.text)
        self._asked += len(asked.question.text)
        self._waiting.append(asked)

    def _send_slow(self) -> None:
        """Send slow questions as far as it goes: they are answered in order with all others, which do not wait long."""
        while self._later and self._slow < SLOW:
            text = next(iter(self._later))
            asked = self._later.pop(text)
            self._asked -= len(text)
            if asked.wanted:
                self._slow += 1
                self._send(asked)

    @property
    def full(self) -> bool:
        """Whether so much is asked by now that the next question is to go another way."""
        return self._asked > MAX_WAITING

    @property
    def missing(self) -> bool:
        """Whether the program could not be started at all: there is no perl, or one that lacks a module.

        A shell says 126 or 127, perl what errno was or 255; the program itself ends with 0 or 1.
        """
        status = self._status or 0
        return not self._answered and (1 < status < 128 or status == 255)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._channel is not None and not self.closed:
            try:
                self._connection.send(self._channel, b"".join(out))
            except (OSError, asyncssh.Error) as error:
                self.connection_lost(error)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is not None:
            return
        self._connection.received(len(data))
        data = self._preamble.rest(data)
        if self._buffer:
            data = self._buffer + data
        at = 0
        while len(data) - at >= 4:
            size = int.from_bytes(data[at : at + 4])
            end = at + 4 + size
            if size > MAX_ANSWER or not self._waiting:
                self.disbelieve()
                return
            if end > len(data):
                break
            self._next(self._waiting.popleft(), data[at + 4 : end])
            if self.closed:
                return
            at = end
        self._buffer = data[at:] if at else data

    def _next(self, asked: _PendingQuestion[Any], answer: bytes) -> None:
        """Take the answer to the question that was asked first."""
        self._answered = True
        self._asked -= len(asked.question.text)
        if asked.question.slow:
            self._slow -= 1
            self._send_slow()
        try:
            asked.answered(answer)
        except ValueError:
            self._waiting.appendleft(asked)
            self.disbelieve()

    def disbelieve(self) -> None:
        """End what does not answer as our program does; it is not started on this connection again."""
        self._connection.agent_missing = True
        self.connection_lost(None)
        self.close()

    def close(self) -> None:
        """Close the channel; the program ends with its input."""
        if self._channel is not None:
            self._channel.close()

    def exit_status_received(self, status: int) -> None:
        self._status = status
        if self.missing:
            self._connection.agent_missing = True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        if self._connection.agent is self:
            self._connection.agent = None
        if self.counted:
            self.counted = False
            self._connection.standing_closed()
        for asked in (*self._waiting, *self._later.values()):
            asked.failed(Lost("The SSH connection was lost", detail=str(exc) if exc else None))
        self._waiting.clear()
        self._later.clear()
