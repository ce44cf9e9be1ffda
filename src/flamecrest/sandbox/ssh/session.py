"""A session channel of the sandbox's SSH server: a command in a shell, or SFTP.

As with OpenSSH, the process group of a command gets the client's signals and outlives the channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, cast

from asyncssh.stream import SSHReader, SSHServerStreamSession, SSHWriter

from .sftp import FileServer, OpenSSHHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from flamecrest.sandbox.users import UnixUser, UnixUsers

    from .faults import Counts, Faults

SFTP_SERVER = "/usr/lib/openssh/sftp-server"  # of Debian
STDERR = 1  # SSH_EXTENDED_DATA_STDERR
# The signals that OpenSSH forwards to a process group; it ignores all others.
SIGNALS = {
    name: getattr(signal, f"SIG{name}")
    for name in ("ABRT", "ALRM", "FPE", "HUP", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2")
}


class _OutputPipe(asyncio.Protocol):
    """Standard output or standard error of a command, forwarded to the channel."""

    def __init__(self, session: SshdSession, datatype: int | None) -> None:
        self._session = session
        self._datatype = datatype
        self.transport: asyncio.ReadTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._session.send(data, self._datatype)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._session.output_ended()


class _InputPipe(asyncio.BaseProtocol):
    """Standard input of a command. While its pipe is full, the channel is not read."""

    def __init__(self, session: SshdSession) -> None:
        self._session = session

    def pause_writing(self) -> None:
        self._session.hold_input()

    def resume_writing(self) -> None:
        self._session.release_input()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._session.release_input()  # later input is discarded


class SshdSession(SSHServerStreamSession[bytes]):
    """A session channel. SFTP uses asyncssh's stream session; commands use pipes."""

    def __init__(
        self,
        users: UnixUsers,
        user: UnixUser,
        environment: Callable[[dict[str, str]], dict[str, str]],
        *,
        faults: Faults,
        counts: Counts,
        running: set[subprocess.Popen[bytes]],
        closed: Callable[[], None],
        sftp: bool,
    ) -> None:
        super().__init__(None)
        self._users = users
        self._user = user
        self._environment = environment
        self._faults = faults
        self._counts = counts
        self._running = running
        self._closed = closed
        self._sftp = sftp
        self._is_command = False
        self._process: subprocess.Popen[bytes] | None = None
        self._early_signals: list[str] = []
        self._early_input: list[bytes] = []
        self._stdin: asyncio.WriteTransport | None = None
        self._input_over = False
        self._outputs: list[_OutputPipe] = []
        self._waiting_for = 3  # stdout, stderr, the end of the process
        self._lost = False

    # Requests of the client

    def pty_requested(self, *_terminal: object) -> bool:
        return False

    def shell_requested(self) -> bool:
        self._is_command = True
        return True

    def exec_requested(self, command: str) -> bool:  # noqa: ARG002 - asyncssh's signature
        self._is_command = self._user.name not in self._faults.sftp_only
        return self._user.name not in self._faults.no_process | self._faults.no_commands

    def subsystem_requested(self, subsystem: str) -> bool:
        self._is_command = self._faults.subsystem_by_shell
        return self._sftp and subsystem == "sftp" and self._user.name not in self._faults.no_process

    def session_started(self) -> None:
        assert self._chan is not None
        assert self._conn is not None
        work = self._run() if self._is_command else self._serve_files()
        self._conn.create_task(work)

    async def _serve_files(self) -> None:
        self._counts.sftp_sessions += 1
        chan: Any = self._chan
        files = FileServer(chan, self._users, self._user)
        reader, writer = SSHReader[bytes](self, chan), SSHWriter[bytes](self, chan)
        await OpenSSHHandler(files, reader, writer, lambda: self._faults.slow).run()

    # Commands

    async def _run(self) -> None:
        self._counts.commands += 1
        if self._faults.slow:
            await asyncio.sleep(self._faults.slow)
            if self._lost:
                return
        chan: Any = self._chan
        command = SFTP_SERVER if chan.get_subsystem() else chan.get_command()
        asked = {os.fsdecode(key): os.fsdecode(value) for key, value in chan.get_environment_bytes().items()}
        try:
            self._process = self._spawn(command, asked)
        except OSError as error:
            chan.write(f"/bin/bash: {error.strerror}\n".encode(), STDERR)
            chan.exit(1)
            return
        self._running.add(self._process)
        await self._connect(self._process)

    def _spawn(self, command: str | None, asked: dict[str, str]) -> subprocess.Popen[bytes]:
        argv = [*_default_signals(), "/bin/bash", *(() if self._faults.rc_files else ("--norc",))]
        home = self._user.home
        return subprocess.Popen(
            argv if command is None else [*argv, "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=home if home.is_dir() else "/",
            env=self._environment(asked),
            start_new_session=True,
        )

    async def _connect(self, process: subprocess.Popen[bytes]) -> None:
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(process.pid)
        loop.add_reader(pidfd, self._exited, process, pidfd)
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._stdin, _ = await loop.connect_write_pipe(lambda: _InputPipe(self), process.stdin)
        self._stdin.write(b"".join(self._early_input))
        if self._input_over:
            self._stdin.close()
        for pipe, datatype in ((process.stdout, None), (process.stderr, STDERR)):
            output = _OutputPipe(self, datatype)
            self._outputs.append(output)
            await loop.connect_read_pipe(lambda output=output: output, pipe)  # type: ignore[misc]
        for name in self._early_signals:
            self.signal_received(name)
        if self._lost:
            self._let_go()

    def _exited(self, process: subprocess.Popen[bytes], pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        process.wait()
        self._running.discard(process)
        self.output_ended()

    def output_ended(self) -> None:
        """Count the ends of stdout, stderr and the process; close the channel at the last one."""
        self._waiting_for -= 1
        if self._waiting_for or self._lost:
            return
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.abort()
        assert self._process is not None
        chan: Any = self._chan
        status = self._process.returncode
        if status < 0:
            chan.exit_with_signal(signal.Signals(-status).name[3:], False)
        else:
            chan.exit(status)

    # The channel

    def send(self, data: bytes, datatype: int | None) -> None:
        chan: Any = self._chan
        with contextlib.suppress(OSError):  # the client has closed the channel
            chan.write(data, datatype)

    def hold_input(self) -> None:
        if not self._lost:
            chan: Any = self._chan
            chan.pause_reading()

    def release_input(self) -> None:
        # In a later iteration of the loop: asyncio's pipe calls this while it writes. If the end of the input followed
        # at once, the pipe would be closed twice.
        asyncio.get_running_loop().call_soon(self._resume_input)

    def _resume_input(self) -> None:
        if not self._lost:
            chan: Any = self._chan
            chan.resume_reading()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if not self._is_command:
            super().data_received(data, datatype)
        elif self._stdin is None:
            self._early_input.append(data)
        elif not self._stdin.is_closing():
            self._stdin.write(data)

    def eof_received(self) -> bool:
        if not self._is_command:
            return super().eof_received()
        self._input_over = True
        if self._stdin is not None:
            self._stdin.close()
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        for output in self._outputs:
            if output.transport is not None:
                output.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        for output in self._outputs:
            if output.transport is not None:
                output.transport.resume_reading()

    def signal_received(self, signal: str) -> None:
        if self._process is None:
            self._early_signals.append(signal)
        elif self._process.returncode is None and signal in SIGNALS:
            os.killpg(self._process.pid, SIGNALS[signal])

    def break_received(self, msec: int) -> bool:  # noqa: ARG002 - asyncssh's signature
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        super().connection_lost(exc)
        self._closed()
        if self._process is not None:
            self._let_go()

    def _let_go(self) -> None:
        """Close the pipes. The command continues until its next read or write on them."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.abort()
        for output in self._outputs:
            if output.transport is not None:
                output.transport.close()


def _default_signals() -> list[str]:
    """The env(1) command that resets signals which this process ignores, for example because of nohup(1)."""
    ignored = [
        name for name in SIGNALS if name != "PIPE" and signal.getsignal(SIGNALS[name]) is signal.SIG_IGN
    ]  # subprocess resets SIGPIPE itself
    return ["/usr/bin/env", f"--default-signal={','.join(ignored)}"] if ignored else []
