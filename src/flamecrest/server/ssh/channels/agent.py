"""The agent: a small program that stays on a connection and answers questions about files in one round trip each.

It answers what SFTP version 3 cannot (inode, device, links, change time) and what SFTP needs several round trips for.
Whatever fails, is large or is unusual it leaves to SFTP, and has then changed nothing. Where the login node has no
perl, stat_command.py asks coreutils for attributes, one process for each question.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import asyncssh

from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.errors import Lost, StatError, Unanswered
from flamecrest.server.ssh.programs.perl import one_line
from flamecrest.server.ssh.start_line import Preamble, perl_text
from flamecrest.server.ssh.transport import SshTransport

from .process import Shell

T = TypeVar("T")

PROGRAM = one_line("agent.pl")
GREETING = "flamecrest agent"  # its first line: perl has found its modules
MAX_ANSWER = 1024 * 1024  # bytes
MAX_UNANSWERED = 1024 * 1024  # bytes of questions; further ones are left to SFTP, which has a window
SLOW_SENT = 2  # slow questions sent and not answered, at most: one in progress, and the next

# dev ino mode nlink uid gid rdev size atime mtime ctime, then the nanoseconds of mtime's fraction and of ctime's
# (rounded as a double rounds them, so that the agent and `stat` give the same numbers for a file; 0: only the second is
# known), and the login node's clock right before, in microseconds since the epoch (0: unknown)
StatNumbers = tuple[int, ...]

_HEAD = struct.Struct(">cI")  # letter, length of the text


class Question(Generic[T]):
    """A question to the agent: a letter, its arguments as text, and how to read the answer.

    `read` raises ValueError for anything that is not an answer of our agent. A `repeatable` question changes nothing.
    A `slow` question waits while two others are in progress, and shares its answer with questions of the same text:
    `read` must depend on the text alone. A `patient` question waits until the agent has started or failed to;
    for others SFTP takes over after a moment. A `required` question is never left to SFTP because many are pending:
    SFTP could not do the same.
    """

    __slots__ = ("patient", "read", "repeatable", "required", "slow", "text")

    def __init__(
        self,
        letter: bytes,
        text: bytes,
        read: Callable[[bytes], T],
        *,
        repeatable: bool = True,
        slow: bool = False,
        required: bool = False,
        patient: bool = False,
    ) -> None:
        self.text = _HEAD.pack(letter, len(text)) + text
        self.read = read
        self.repeatable = repeatable
        self.slow = slow
        self.required = required
        self.patient = patient or required


def stat_numbers(answer: bytes) -> StatNumbers:
    """Read the numbers of an answer; ValueError for anything else."""
    found = tuple(map(int, answer.split(b" ")))
    if len(found) != 14:
        raise ValueError("not 14 numbers")
    return found


def stat_question(path: bytes, *, follow: bool) -> Question[StatNumbers]:
    """The question for the attributes of a path, of a link's target with `follow`."""
    return Question(b"s" if follow else b"l", path, stat_numbers, patient=True)


def read_answer(question: Question[T], answer: bytes) -> T | None:
    """The value of an answer; None: use SFTP instead. Raises StatError, ValueError if it is not an answer."""
    match answer[:1]:
        case b"=":
            return question.read(answer[1:])
        case b"-":
            return None
        case b"~":
            raise StatError(int(answer[1:]))
    raise ValueError("not an answer of the agent")


class _PendingQuestion(Generic[T]):
    """A question and the requests that wait for its answer."""

    __slots__ = ("futures", "question")

    def __init__(self, question: Question[T], future: asyncio.Future[T | None]) -> None:
        self.question = question
        self.futures = [future]

    @property
    def wanted(self) -> bool:
        """Whether a request still waits."""
        return not all(future.done() for future in self.futures)

    def resolve(self, answer: bytes) -> None:
        """Give the answer to every request. ValueError if it is not an answer of our agent."""
        waiting = [future for future in self.futures if not future.done()]
        if not waiting:
            return
        try:
            value = read_answer(self.question, answer)
        except StatError as error:
            self.fail(error.with_traceback(None))  # it refers to this frame, and that to the futures
            return
        for future in waiting:
            future.set_result(value)

    def fail(self, error: Exception) -> None:
        """Fail every request."""
        for future in self.futures:
            if not future.done():
                future.set_exception(error)
                future.exception()  # the request may have ended: no warning about an exception never retrieved


class Agent(asyncssh.SSHClientSession[bytes]):
    """The agent of one connection, shared by all requests of its user. It takes questions once it has greeted."""

    def __init__(self, transport: SshTransport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._shell: Shell  # from `open` on
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._sent: deque[_PendingQuestion[Any]] = deque()
        self._queued: dict[bytes, _PendingQuestion[Any]] = {}  # slow questions not sent yet, by their text
        self._slow_sent = 0
        self._preamble = Preamble(GREETING)
        self._buffer = b""
        self._out: list[bytes] = []
        self._unanswered = 0  # bytes of questions
        self._closed = False
        self.started: asyncio.Future[bool] = self._loop.create_future()  # False: there is no agent here
        self.untrusted = False  # it has sent something that is not an answer of our program
        self.on_closed: Callable[[], None] | None = None

    async def open(self) -> None:
        """Open its channel. ChannelRefused when the server takes no more channels, Lost."""
        self._shell = await Shell.open(self._transport)
        self._shell.on_closed = self._shell_closed

    async def start(self, seconds: float) -> GatewayError | None:
        """Start the program on the opened channel. Why there is no agent here, if so: then call `give_up`.

        The login, and then the program, must greet within so many seconds.
        """
        try:
            await self._shell.greeting(seconds)
            self._shell.run(self, perl_text(PROGRAM))
            async with asyncio.timeout(seconds):
                if not await asyncio.shield(self.started):
                    return Lost("The agent ended before it greeted")
        except GatewayError as error:
            return error
        except TimeoutError:
            return Lost("The agent did not greet")
        return None

    async def give_up(self) -> None:
        """Tell those who wait that there is no agent here, and end its login."""
        self._end_start(started=False)
        await self._shell.end()

    def _end_start(self, *, started: bool) -> None:
        if not self.started.done():
            self.started.set_result(started)

    def ask(self, question: Question[T]) -> asyncio.Future[T | None]:
        """The value of the answer; None if the question is to be asked by SFTP. StatError, or Lost when it has closed.

        A slow question that is not sent yet shares its answer with later ones of the same text.
        """
        future: asyncio.Future[T | None] = self._loop.create_future()
        if self._closed:
            future.set_exception(Lost("The SSH connection was lost"))
        elif self._unanswered > MAX_UNANSWERED and not question.required:
            future.set_result(None)
        elif not question.slow:
            self._send(_PendingQuestion(question, future))
        elif (same := self._queued.get(question.text)) is not None:
            same.futures.append(future)  # sent after this request, so the answer is not older than the request
        else:
            self._queued[question.text] = _PendingQuestion(question, future)
            self._unanswered += len(question.text)
            self._send_slow()
        return future

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def changing(self) -> bool:
        """Whether a question that changes something has no answer yet."""
        return any(not pending.question.repeatable for pending in self._sent)

    def leave(self) -> None:
        """Fail the repeatable questions with Unanswered: they are asked over another connection."""
        for pending in (*self._sent, *self._queued.values()):
            if pending.question.repeatable:
                pending.fail(Unanswered("The login node has stopped answering"))

    def close(self) -> None:
        """Close the channel. The program ends with its input."""
        self._shell.close()

    # --- sending

    def _send(self, pending: _PendingQuestion[Any]) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        text = pending.question.text
        self._out.append(text)
        self._unanswered += len(text)
        self._sent.append(pending)

    def _send_slow(self) -> None:
        """Send slow questions as far as allowed: answers come in order, so quick ones wait for few of them."""
        while self._queued and self._slow_sent < SLOW_SENT:
            text = next(iter(self._queued))
            pending = self._queued.pop(text)
            self._unanswered -= len(text)
            if pending.wanted:
                self._slow_sent += 1
                self._send(pending)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._channel is not None and not self._closed:
            try:
                self._transport.send(self._channel, b"".join(out))
            except (OSError, asyncssh.Error) as error:
                self.connection_lost(error)

    # --- receiving

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is not None:
            return
        self._transport.received(len(data))
        if not self.started.done():
            data = self._preamble.strip(data)
            if self._preamble.ended:
                self._end_start(started=True)
        if self._buffer:
            data = self._buffer + data
        at = 0
        while len(data) - at >= 4:
            size = int.from_bytes(data[at : at + 4])
            end = at + 4 + size
            if size > MAX_ANSWER or not self._sent:
                self._distrust()
                return
            if end > len(data):
                break
            self._take_answer(data[at + 4 : end])
            if self._closed:
                return
            at = end
        self._buffer = data[at:] if at else data

    def _take_answer(self, answer: bytes) -> None:
        """Take the answer to the question that was sent first."""
        pending = self._sent.popleft()
        self._unanswered -= len(pending.question.text)
        if pending.question.slow:
            self._slow_sent -= 1
            self._send_slow()
        try:
            pending.resolve(answer)
        except ValueError:
            self._sent.appendleft(pending)
            self._distrust()

    def _distrust(self) -> None:
        """Close a program that does not answer as ours does. It is not started on this connection again."""
        self.untrusted = True
        self.connection_lost(None)
        self.close()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def _shell_closed(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._end_start(started=False)
        if self.on_closed is not None:
            self.on_closed()
        for pending in (*self._sent, *self._queued.values()):
            pending.fail(Lost("The SSH connection was lost", detail=str(exc) if exc else None))
        self._sent.clear()
        self._queued.clear()
