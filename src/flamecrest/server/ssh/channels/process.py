"""One command on one channel: its output up to a limit, its exit status, and ending it.

To close a channel does not end its program (OpenSSH leaves it running). A signal request does.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import asyncssh

from flamecrest.server.errors import TooLarge
from flamecrest.server.ssh.command import RUNNING, Output
from flamecrest.server.ssh.command_line import Preamble
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.ssh.transport import SshTransport

LINGER = 0.5  # seconds from output until a result is looked for in it: most programs have ended then
GRACE = 2.0  # seconds from TERM to KILL, and from KILL until the channel is closed all the same


class RemoteProcess(asyncssh.SSHClientSession[bytes]):
    """A program on the login node. `finished` is its Output, TooLarge, or Lost if the channel closed first."""

    def __init__(self, transport: SshTransport, max_output: int) -> None:
        self._transport = transport
        self._left = max_output
        self._stdout: list[bytes] = []
        self._stderr: list[bytes] = []
        self._preambles = (Preamble(), Preamble())
        self._status: int | None = None
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[Output] = loop.create_future()
        self._closed = loop.create_future()
        self.is_enough: Callable[[Output], bool] | None = None  # of the Command; set before input is sent
        self._looks = False  # whether is_enough will be asked about the latest output

    @classmethod
    async def open(cls, transport: SshTransport, line: bytes, max_output: int) -> Self:
        """Run a shell line. ChannelRefused when the server takes no more channels."""
        process = cls(transport, max_output)
        opening = asyncio.ensure_future(transport.open_channel(process, line))
        try:
            process._channel = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # the server may still start the program
            opening.add_done_callback(_abandon)
            raise
        return process

    def send_input(self, data: bytes | None) -> None:
        """Send the whole standard input and EOF. Without EOF a program that reads its input would wait for ever."""
        if self._channel is not None:
            with suppress(OSError, asyncssh.Error):  # closed: `finished` has the reason
                if data:
                    self._transport.send(self._channel, data)
                self._channel.write_eof()

    def result_so_far(self) -> Output | None:
        """The output until now if it holds the result; see Command.is_enough."""
        printed = Output(RUNNING, b"".join(self._stdout), b"".join(self._stderr))
        return printed if self.is_enough is not None and self.is_enough(printed) else None

    @property
    def closed(self) -> bool:
        """Whether the channel has closed."""
        return self._closed.done()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        data = self._strip_preamble(data, datatype)
        self._left -= len(data)
        if self._left < 0:
            if not self.finished.done():
                self.finished.set_exception(TooLarge("The program on the cluster printed more than is accepted"))
            return
        (self._stdout if datatype is None else self._stderr).append(data)
        if self.is_enough is not None and not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(LINGER, self._finish_early)

    def _finish_early(self) -> None:
        """Finish with the output so far if it holds the result: the program stays."""
        self._looks = False
        if not self.finished.done() and (printed := self.result_so_far()) is not None:
            self.finished.set_result(printed)

    def _strip_preamble(self, data: bytes, datatype: int | None) -> bytes:
        """The part of a message that is the program's output and not text of login scripts."""
        self._transport.received(len(data))
        return self._preambles[datatype is not None].strip(data)

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
            self.finished.exception()  # the request may have ended: no warning about an exception never retrieved
        else:
            # without the mark the program has not started, and the text before it may say why
            errors = (*(bytes(preamble.text) for preamble in self._preambles), *self._stderr)
            self.finished.set_result(Output(self._status, b"".join(self._stdout), b"".join(errors)))

    async def end(self) -> None:
        """End the program with its process group and close the channel. Never raises."""
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


def _abandon(opening: asyncio.Future[asyncssh.SSHClientChannel[bytes]]) -> None:
    """Kill a program that was started after its request had ended."""
    if not opening.cancelled() and opening.exception() is None:
        with suppress(OSError, asyncssh.Error):
            opening.result().send_signal("KILL")
            opening.result().close()


def _number(name: str) -> int:
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 0
