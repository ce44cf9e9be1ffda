"""One command on one channel: its output within a limit, its end, and ending it.

Closing a channel does not end the program behind it (OpenSSH leaves it running): a signal request does.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import asyncssh

from flamecrest.server.errors import TooLarge
from flamecrest.server.ssh.command import Output
from flamecrest.server.ssh.command_line import Preamble
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.ssh.pool.connection import open_channel

if TYPE_CHECKING:
    from flamecrest.server.ssh.pool.connection import Connection

GRACE = 2.0  # seconds between TERM and KILL, and again until the channel is given up


class RemoteProcess(asyncssh.SSHClientSession[bytes]):
    """A program on the login node. `finished` is its Output, or why there is none."""

    def __init__(self, connection: Connection, max_output: int) -> None:
        self._connection = connection
        self._left = max_output
        self._stdout: list[bytes] = []
        self._stderr: list[bytes] = []
        self._preambles = (Preamble(), Preamble())
        self._status: int | None = None
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[Output] = loop.create_future()
        self._closed = loop.create_future()

    @classmethod
    async def start(cls, connection: Connection, line: bytes, stdin: bytes | None, max_output: int) -> RemoteProcess:
        """Run a shell line; `stdin` is sent and followed by EOF. ChannelRefused when there is no room."""
        process = cls(connection, max_output)
        channel = await process.opened(line)
        if stdin:
            connection.send(channel, stdin)
        # without EOF a program that reads its input would wait for ever
        channel.write_eof()
        return process

    async def opened(self, line: bytes) -> asyncssh.SSHClientChannel[bytes]:
        """The channel that runs a shell line; one that opens after the caller has gone is ended."""
        opening = asyncio.ensure_future(open_channel(self._connection, self, line))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # the server may start it yet: end it when it does
            opening.add_done_callback(self.abandon)
            raise

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        data = self._own(data, datatype)
        self._left -= len(data)
        if self._left < 0:
            if not self.finished.done():
                self.finished.set_exception(TooLarge("The program on the cluster printed more than is accepted"))
            return
        (self._stdout if datatype is None else self._stderr).append(data)

    def _own(self, data: bytes, datatype: int | None) -> bytes:
        """What of a message is the program's own, and not what login scripts print before it."""
        self._connection.received(len(data))
        preamble = self._preambles[datatype is not None]
        return data if preamble.over else preamble.rest(data)

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002 - asyncssh's signature
        self._status = 128 + _number(signal)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        if self.finished.done():
            return
        if self._status is None:
            detail = str(exc) if exc else "the channel closed without an exit status"
            self.finished.set_exception(Lost("The SSH connection was lost", detail=detail))
            self.finished.exception()  # who asked may have gone: no complaint that nobody looked
        else:
            # noise is left only where the program never started: it may say why
            said = (*(bytes(preamble.noise) for preamble in self._preambles), *self._stderr)
            self.finished.set_result(Output(self._status, b"".join(self._stdout), b"".join(said)))

    async def end(self) -> None:
        """End the program with its whole process group and close the channel; never raises."""
        channel = self._channel
        if channel is None or self._closed.done():
            return
        for name in ("TERM", "KILL"):
            try:
                channel.send_signal(name)
                await asyncio.wait_for(asyncio.shield(self._closed), GRACE)
            except TimeoutError:
                continue
            except (OSError, asyncssh.Error):
                break
            return
        channel.close()
        await asyncio.wait([self._closed], timeout=GRACE)

    def abandon(self, opening: asyncio.Future[Any]) -> None:
        """What to do with a channel that opened after nobody wanted it any more."""
        if not opening.cancelled() and opening.exception() is None and self._channel is not None:
            try:
                self._channel.send_signal("KILL")
                self._channel.close()
            except (OSError, asyncssh.Error):
                pass


def _number(name: str) -> int:
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 0
