"""Programs on a login node: the shell that starts each, and one command's output and exit status.

Until a shell has greeted, nothing but the constant start line is sent. Then its channel is handed to the receiver of a
program's output, for good: a command, a stream, the agent, an SFTP server. To close a channel does not end its program
(OpenSSH leaves it running). A signal request does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import asyncssh

from flamecrest.server.errors import GatewayError, TooLarge, Upstream
from flamecrest.server.ssh.command import MAX_OUTPUT, RUNNING, Output
from flamecrest.server.ssh.errors import EndedEarly, Lost, NoCommands, NotStarted
from flamecrest.server.ssh.start_line import (
    AFTER_PROBE,
    BEGIN,
    BEGIN_ERRORS,
    GREETING,
    MAX_NOISE,
    MAX_PREAMBLE,
    PRELUDE,
    START_LINE,
    Preamble,
    login_words,
    split_end,
)
from flamecrest.server.ssh.transport import SshTransport

from .sftp_packets import HELLO, SERVER_HELLO

LINGER = 0.5  # seconds from output until a result is looked for in it: most programs have ended then
MARK_ENDS = b"\x1e\n"  # the end of the end mark
GRACE = 2.0  # seconds from TERM to KILL, and from KILL until the channel is closed all the same
PROBE_AFTER = 0.5  # seconds of silence after which a login is asked whether it is an SFTP server
SFTP_ONLY = b"This service allows sftp connections only."  # of OpenSSH, for ForceCommand internal-sftp
MAX_BEGINNING = 1024  # bytes of them that are kept for the error

Receiver = asyncssh.SSHClientSession[bytes]


class Shell(asyncssh.SSHClientSession[bytes]):
    """One login on one channel. Await `greeting`, then `run` once, or for each command of a series."""

    def __init__(self, transport: SshTransport) -> None:
        self.transport = transport
        self.channel: asyncssh.SSHClientChannel[bytes]  # from `connection_made` on
        self._receiver: Receiver | None = None
        self._texts = bytearray(), bytearray()  # of start-up files, on standard output and standard error
        self._beginnings: list[bytes] = [b"", b""]  # of those texts, once they are cut
        self._noise = 0
        self._probed = False
        self._status: int | None = None
        loop = asyncio.get_running_loop()
        self._greeted: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self.let_go: asyncio.Future[None] = loop.create_future()  # done when a command has taken it, or it has closed
        self.on_closed: Callable[[], None] | None = None

    @classmethod
    async def open(cls, transport: SshTransport) -> Self:
        """Send the start line. ChannelRefused when the server takes no more channels, Lost."""
        shell = cls(transport)
        await transport.open_channel(shell, START_LINE)
        return shell

    async def greeting(self, seconds: float) -> None:
        """Wait until /bin/sh runs. NotStarted with the login's words, also when it is silent that long; Lost.

        NoCommands when the login is an SFTP server.
        """
        if self._greeted.done():
            return self._greeted.result()
        try:
            async with asyncio.timeout(seconds):
                if not self.transport.runs_commands:
                    await asyncio.wait([self._greeted], timeout=min(PROBE_AFTER, seconds / 2))
                    self._probe()
                await asyncio.shield(self._greeted)
        except TimeoutError:
            if self._greeted.done():
                return self._greeted.result()
            raise self._not_started(f"did not start a shell within {seconds:g} seconds", hung=True) from None

    def _probe(self) -> None:
        """Send what an SFTP client sends first: a server answers, and a shell that starts later passes it over."""
        if not (self._probed or self._greeted.done()):
            self._probed = True
            with suppress(OSError, asyncssh.Error):  # closed: `connection_lost` follows
                self.transport.send(self.channel, HELLO)

    def run(self, receiver: Receiver, text: bytes, *, end_input: bool = False) -> None:
        """Hand the channel to the receiver and send the text of a program, with the beginning or all of its input."""
        self._receiver = receiver
        receiver.connection_made(self.channel)
        for at, rest in enumerate(self._texts):
            if rest:
                receiver.data_received(bytes(rest), asyncssh.EXTENDED_DATA_STDERR if at else None)
                rest.clear()
        # asyncssh calls the receiver directly: much data and many answers come
        self.data_received = receiver.data_received  # type: ignore[method-assign]
        if self._status is not None:  # the shell has ended after its greeting
            receiver.exit_status_received(self._status)
        if self._closed.done():
            receiver.connection_lost(None)
            return
        with suppress(OSError, asyncssh.Error):  # closed: `connection_lost` follows
            self.transport.send(self.channel, text)
            if end_input:  # without that a program that reads its input would wait for ever
                self.channel.write_eof()

    @property
    def closed(self) -> bool:
        """Whether the channel has closed."""
        return self._closed.done()

    def close(self) -> None:
        """Close the channel. /bin/sh ends with its input if nothing runs yet."""
        self.channel.close()

    def kill(self) -> None:
        """Kill what runs in place of a program of ours, and close the channel."""
        with suppress(OSError, asyncssh.Error):  # closed
            self.channel.send_signal("KILL")
        self.channel.close()

    async def end(self) -> None:
        """End what runs with its process group, and close the channel. Never raises."""
        if self._closed.done():
            return
        channel = self.channel
        for name in ("TERM", "KILL"):
            try:
                channel.send_signal(name)
            except (OSError, asyncssh.Error):
                break
            await asyncio.wait([self._closed], timeout=GRACE)
            if self._closed.done():
                return
        channel.close()
        await asyncio.wait([self._closed], timeout=GRACE)

    # --- receiving

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self.channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.transport.received(len(data))
        text = self._texts[datatype is not None]
        text += data
        if self._greeted.done():
            del text[:-MAX_PREAMBLE]
        elif datatype is None and (found := GREETING.search(text)):
            del text[: found.end()]
            self._texts[1].clear()
            self._greeted.set_result(None)
            self.transport.runs_commands = True
            with suppress(OSError, asyncssh.Error):  # closed: `connection_lost` follows
                self.transport.send(self.channel, AFTER_PROBE + PRELUDE if self._probed else PRELUDE)
        elif datatype is None and self._probed and SERVER_HELLO.search(text):
            self._fail(NoCommands(detail="the login is an SFTP server"))
            self.channel.close()  # OpenSSH forwards no signal to a forced command
        else:
            self._noise += len(data)
            if len(text) > MAX_PREAMBLE:
                at = datatype is not None
                self._beginnings[at] = self._beginnings[at] or bytes(text[:MAX_BEGINNING])
                del text[:-MAX_PREAMBLE]
            if self._noise > MAX_NOISE:
                self._fail(self._not_started("prints without end and starts no shell", hung=True))

    def eof_received(self) -> bool:
        return bool(self._receiver.eof_received()) if self._receiver is not None else True

    def pause_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.pause_writing()

    def resume_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.resume_writing()

    def exit_status_received(self, status: int) -> None:
        self._status = status
        if self._receiver is not None:
            self._receiver.exit_status_received(status)

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._status = 128
        if self._receiver is not None:
            self._receiver.exit_signal_received(signal, core_dumped, msg, lang)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed.done():
            return
        self._closed.set_result(None)
        if not self.let_go.done():
            self.let_go.set_result(None)
        if self._receiver is not None:
            self._receiver.connection_lost(exc)
        elif self._status is None:
            self._fail(Lost("The SSH connection was lost", detail=str(exc) if exc else None))
        elif SFTP_ONLY in self._texts[0]:
            self._fail(NoCommands(detail=SFTP_ONLY.decode()))
        else:
            self._fail(self._not_started("ended before a program could be started"))
        if self.on_closed is not None:
            self.on_closed()

    def _not_started(self, how: str, *, hung: bool = False) -> NotStarted:
        out, errors = (first or bytes(text) for first, text in zip(self._beginnings, self._texts, strict=True))
        return not_started(how, out, errors, status=self._status, hung=hung)

    def _fail(self, error: GatewayError) -> None:
        if not self._greeted.done():
            self._greeted.set_exception(error)
            self._greeted.exception()  # the request may have ended: no warning about an exception never retrieved


Text = bytes | bytearray


def not_started(how: str, stdout: Text, stderr: Text, *, status: int | None = None, hung: bool = False) -> NotStarted:
    """The error of a login that did not start our program, with its own words."""
    said = login_words(stderr, stdout)
    detail = None if status is None else f"exit status {status}"
    error = NotStarted(f"The login on the cluster {how}{f': {said}' if said else ''}", detail=detail)
    error.said, error.hung = bool(said), hung
    return error


class RemoteProcess(asyncssh.SSHClientSession[bytes]):
    """A program on the login node.

    `finished` is its Output, TooLarge, NotStarted, Upstream if it was ended before its exit status came, or Lost.
    """

    def __init__(self, shell: Shell, max_output: int) -> None:
        self._transport = shell.transport
        self._channel = shell.channel
        self._left = max_output
        self._kept = 0  # bytes, counted in `transport.held`
        self._linger = LINGER
        self._stdout: list[bytes] = []
        self._stderr: list[bytes] = []
        self._preambles = (Preamble(BEGIN), Preamble(BEGIN_ERRORS))
        self._status: int | None = None  # of the login
        self.finished: asyncio.Future[Output] = asyncio.get_running_loop().create_future()
        self.is_enough: Callable[[Output], bool] | None = None  # of the Command; set before input is sent
        self._looks = False  # whether is_enough will be asked about the latest output

    def result_so_far(self) -> Output | None:
        """The output until now if it holds the result; see Command.is_enough."""
        if self.is_enough is None:
            return None
        printed, errors = b"".join(self._stdout), b"".join(self._stderr)
        found = split_end(printed)  # it has ended, and something that it has started goes on
        so_far = Output(RUNNING, printed, errors) if found is None else Output(found[1], found[0], errors)
        return so_far if self.is_enough(so_far) else None

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._transport.received(len(data))
        data = self._preambles[datatype is not None].strip(data)
        self._left -= len(data)
        if self._left < 0 or self._transport.held + len(data) > MAX_OUTPUT:  # of all programs on the connection
            self._left = -1
            if not self.finished.done():
                self.finished.set_exception(TooLarge("The program on the cluster printed more than is accepted"))
            return
        self._kept += len(data)
        self._transport.held += len(data)
        printed = self._stdout if datatype is None else self._stderr
        before = printed[-1][-1:] if printed else b""
        printed.append(data)
        if self.is_enough is not None and not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(self._linger, self._finish_early)
            self._linger *= 2  # each look goes through all of the output
        elif datatype is None and (MARK_ENDS in data or before + data[:1] == MARK_ENDS):
            asyncio.get_running_loop().call_later(LINGER, self._finish_at_mark)

    def _finish_at_mark(self) -> None:
        """Finish if the end mark has come: what a start-up file has left running may keep the channel open."""
        if not self.finished.done() and (found := split_end(b"".join(self._stdout))) is not None:
            self.finished.set_result(Output(found[1], found[0], b"".join(self._stderr)))

    def _finish_early(self) -> None:
        """Finish with the output so far if it holds the result: the program stays."""
        self._looks = False
        if not self.finished.done() and (printed := self.result_so_far()) is not None:
            self.finished.set_result(printed)

    def drop(self) -> None:
        """Free the output, and discard what still comes."""
        self._transport.held -= self._kept
        self._kept, self._left = 0, -1
        self._stdout.clear()
        self._stderr.clear()

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002 - asyncssh's signature
        self._status = 128

    def connection_lost(self, exc: Exception | None) -> None:
        if self.finished.done():
            return
        found = split_end(b"".join(self._stdout))
        if found is not None:
            self.finished.set_result(Output(found[1], found[0], b"".join(self._stderr)))
        else:
            self.finished.set_exception(self._without_status(exc))
            self.finished.exception()  # the request may have ended: no warning about an exception never retrieved

    def _without_status(self, exc: Exception | None) -> Upstream:
        """Why the channel closed before the command's exit status came."""
        out, errors = self._preambles
        if self._status is None:
            return Lost("The SSH connection was lost", detail=str(exc or "the channel closed without an exit status"))
        if not out.ended:
            how = "ended before the command could be started"
            return not_started(how, bytes(out.text), bytes(errors.text), status=self._status)
        said = login_words(b"".join(self._stderr))
        return EndedEarly(
            f"The command on the cluster was ended before it had finished{f': {said}' if said else ''}",
            detail=f"no exit status of the command; the login's is {self._status}",
        )
