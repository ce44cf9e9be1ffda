"""The stat agent: a small program that stays on a connection and answers stat(2), which SFTP version 3 can't.

SFTP knows neither inode, device, links nor change time, and a `stat` command a request costs a process each.
Where the login node has no perl, `stat_command` asks coreutils instead, one process a question.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections import deque
from typing import TYPE_CHECKING

import asyncssh

from flamecrest.server.errors import Denied, GatewayError, Invalid, NotFound, Upstream

from . import Command, Output
from .connection import Lost, open_channel
from .line import Preamble

if TYPE_CHECKING:
    from .connection import Connection

# A question is one letter (s follows links, l does not) and the path, ended by NUL; an answer is the twelve
# numbers below, or ! and the errno, ended by NUL; answers come in the order of the questions.
# Time::HiRes adds the fraction to a time as a double does: seconds are exact as long as it is neither 0 nor rounded
# up to a whole second, and where it is, perl's own stat is asked for them.
PROGRAM = (
    '$| = 1; $/ = "\\0"; binmode STDIN; binmode STDOUT;'
    'my $fine = eval { require Time::HiRes; Time::HiRes->can("lstat") };'
    "while (defined($_ = <STDIN>)) { chomp; my $path = substr($_, 1); my ($follow, $part) = (/^s/, 0);"
    "my $plain = sub { $follow ? stat($path) : lstat($path) };"
    "my @s = !$fine ? $plain->() : $follow ? Time::HiRes::stat($path) : Time::HiRes::lstat($path);"
    "if ($fine && @s) { my @t = map { int } @s[8 .. 10];"
    "$part = int(($s[9] - $t[1]) * 1e9 + .5) if $s[9] > 0;"
    "if (grep { $t[$_] == $s[$_ + 8] || $t[$_] < 0 } 0 .. 2) { @s = $plain->() } else { @s[8 .. 10] = @t } }"
    'print @s ? join(" ", @s[0 .. 10], $part) : "!" . ($! + 0), "\\0" }'
)
MAX_ANSWER = 4096

# dev ino mode nlink uid gid rdev size atime mtime ctime, and the nanoseconds of mtime's fraction (a double's worth of
# them: the same number for the same file from the agent and from `stat`; 0: only the second is known)
Numbers = tuple[int, ...]


class StatError(Exception):
    """stat(2) failed with this errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number

    def explained(self, words: str) -> GatewayError:
        """This failure as an error for the caller: `words` (operation and path), then the reason."""
        text = f"{words}: {os.strerror(self.errno)}"
        match self.errno:
            case errno.ENOENT:
                return NotFound(text)
            case errno.EACCES | errno.EPERM:
                return Denied(text)
            case errno.ENOTDIR | errno.ELOOP | errno.ENAMETOOLONG | errno.EINVAL:
                return Invalid(text)
        return Upstream(text)


class StatAgent(asyncssh.SSHClientSession[bytes]):
    """The agent of one connection, shared by all requests of its user."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._waiting: deque[asyncio.Future[Numbers]] = deque()
        self._preamble = Preamble()
        self._buffer = b""
        self._out: list[bytes] = []
        self._status: int | None = None
        self.closed = False

    async def open(self, line: bytes) -> None:
        """Start the program by this shell line; ChannelRefused when there is no room."""
        self._channel = await open_channel(self._connection, self, line)

    def ask(self, path: bytes, *, follow: bool) -> asyncio.Future[Numbers]:
        """The numbers for a path; the future raises StatError, or Lost when the agent is gone."""
        future: asyncio.Future[Numbers] = self._loop.create_future()
        if self.closed:
            future.set_exception(Lost("The SSH connection was lost"))
            return future
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append((b"s" if follow else b"l") + path + b"\0")
        self._waiting.append(future)
        return future

    @property
    def missing(self) -> bool:
        """Whether the program could not be started at all (a shell says 126 or 127)."""
        return self._status in {126, 127}

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
        *answers, self._buffer = (self._buffer + data).split(b"\0")
        for answer in answers:
            if not self._waiting:
                self._break()
                return
            self._answered(self._waiting.popleft(), answer)
        if len(self._buffer) > MAX_ANSWER:
            self._break()

    def _answered(self, future: asyncio.Future[Numbers], answer: bytes) -> None:
        try:
            failed = answer.startswith(b"!")
            numbers = (int(answer[1:]),) if failed else tuple(map(int, answer.split(b" ")))
        except ValueError:
            # nothing after it can be matched to a question
            self._waiting.appendleft(future)
            self._break()
            return
        if future.done():
            return
        if failed:
            future.set_exception(StatError(numbers[0]))
        else:
            future.set_result(numbers)

    def _break(self) -> None:
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
            self._connection.standing_closed()
        for future in self._waiting:
            if not future.done():
                future.set_exception(Lost("The SSH connection was lost", detail=str(exc) if exc else None))
                future.exception()  # who asked may have gone: no complaint that nobody looked
        self._waiting.clear()


def stat_command(path: str, *, follow: bool) -> Command[Numbers]:
    """The same question to coreutils."""
    argv = ("stat", *(("-L",) if follow else ()), "--printf=%d %i %f %h %u %g 0 %s %X %.9Y %Z", "--", path)
    return Command(argv, _parse, repeatable=True)


def _part(seconds: int, nanoseconds: int) -> int:
    """The fraction as the agent has it: what a double keeps of it beside the seconds."""
    both = seconds + 1e-9 * nanoseconds
    return int((both - int(both)) * 1e9 + 0.5) if both > 0 else 0


_ERRNO = {os.strerror(number): number for number in errno.errorcode}


def _parse(output: Output) -> Numbers:
    if output.status == 0:
        words = output.stdout.split()
        if len(words) == 11:
            modified = words[9]
            words[9] = modified.partition(b".")[0]
            numbers = [int(word, 16 if at == 2 else 10) for at, word in enumerate(words)]
            if modified.startswith(b"-"):
                numbers[9] = math.floor(float(modified))
            return (*numbers, _part(numbers[9], int(modified.partition(b".")[2] or b"0")))
    # coreutils ends its message with strerror's words (in English: LC_ALL=C)
    reason = output.errors().rpartition(": ")[2]
    if reason in _ERRNO:
        raise StatError(_ERRNO[reason])
    raise Upstream("The cluster's stat failed", detail=f"status {output.status}: {output.errors()[:200]}")
