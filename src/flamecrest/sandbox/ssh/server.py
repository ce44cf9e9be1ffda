"""The sandbox's SSH server without root: keys and certificates, commands, SFTP, and faults on demand.

All users are one real account. SFTP separates them by made-up owners (permissions.py). Commands cannot be separated
without root: `tar` and `cat` read everything that the account that runs the sandbox may read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import asyncssh

from flamecrest.sandbox.processes import MARK

from .connection import SshdConnection
from .faults import Counts, Faults
from .session import SshdSession

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from flamecrest.sandbox.users import UnixUser, UnixUsers

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
VERSION = "OpenSSH_9.2p1 Flamecrest-sandbox"  # clients recognise OpenSSH's argument order of SFTP symlink by this name


class _Login(asyncssh.SSHServer):
    """The authentication and the sessions of one connection."""

    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._user: UnixUser | None = None
        self._connection: SshdConnection | None = None
        self._logged_in = False
        self._sessions = 0

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        if self._user is not None and not self._logged_in:
            self._server.login_failed()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        assert isinstance(conn, SshdConnection)
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        self._user = self._server.users.get(username)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        if username in self._server.faults.hanging:
            await asyncio.Event().wait()
        return self._server.may_log_in(username) and key.public_data in self._server.keys.get(username, ())

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return self._server.may_log_in(username) and key.public_data in self._server.authorities

    def auth_completed(self) -> None:
        assert self._connection is not None
        self._logged_in = True
        self._server.counts.logins += 1
        self._server.starting.discard(self._connection)

    def session_requested(self) -> SshdSession:
        counts = self._server.counts
        if self._sessions >= self._server.max_sessions:
            counts.channels_refused += 1
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "open failed")
        assert self._user is not None
        assert self._connection is not None
        self._sessions += 1
        counts.channels += 1
        counts.channels_opened += 1
        counts.channels_most = max(counts.channels_most, counts.channels)
        return self._server.session(self._user, self._connection, self._ended)

    def connection_requested(self, *_where: object) -> bool:
        return True  # a jump host

    def _ended(self) -> None:
        self._sessions -= 1
        self._server.counts.channels -= 1


class SshServer:
    """An SSH server on 127.0.0.1. `faults`, `max_sessions`, `max_startups` and `sftp` may be changed while it runs."""

    def __init__(
        self,
        users: UnixUsers,
        host_key: asyncssh.SSHKey,
        *,
        keys: Mapping[str, Iterable[asyncssh.SSHKey]],
        authorities: Iterable[asyncssh.SSHKey] = (),
        bin_dirs: Sequence[Path] = (),
        variables: Mapping[str, str] | None = None,
        max_sessions: int = 10,
        max_startups: int = 100,
        sftp: bool = True,
    ) -> None:
        self.users = users
        self.host_key = host_key
        self.keys = {name: {key.public_data for key in of} for name, of in keys.items()}
        self.authorities = {key.public_data for key in authorities}
        self.max_sessions = max_sessions
        self.max_startups = max_startups  # connections that have not logged in yet
        self.sftp = sftp  # whether the SFTP subsystem exists
        self.faults = Faults()
        self.counts = Counts()
        self.port = 0
        self.connections: set[SshdConnection] = set()
        self.starting: set[SshdConnection] = set()
        self.running: set[subprocess.Popen[bytes]] = set()
        self._variables = dict(variables or {})
        self._path = ":".join([*(str(directory) for directory in bin_dirs), SYSTEM_PATH])
        self._server: asyncio.Server | None = None
        self._penalty_ends = self._penalised_until = 0.0

    async def start(self, port: int = 0) -> None:
        """Listen on a port; 0 is the port of the last start(), or a free one."""
        loop = asyncio.get_running_loop()
        options = asyncssh.SSHServerConnectionOptions(
            server_factory=lambda: _Login(self),
            server_host_keys=[self.host_key],
            server_version=VERSION,
            encoding=None,
            allow_scp=False,
            x11_forwarding=False,
            agent_forwarding=False,
            login_timeout=30,
            keepalive_interval=0,
        )

        def connection() -> SshdConnection:
            return SshdConnection(loop, options, faults=self.faults, admit=self.admit, dismiss=self.dismiss)

        self._server = await loop.create_server(connection, "127.0.0.1", port or self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, close all connections and end all commands."""
        self.refuse()
        self.drop()
        for process in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        while self.running or self.connections:  # noqa: ASYNC110 - once at the end
            await asyncio.sleep(0.005)
        await asyncio.sleep(0)  # closed pipes are removed in the next iteration of the loop

    # Faults

    def refuse(self) -> None:
        """Refuse new connections until start() is called again."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def drop(self, after: int | None = None) -> None:
        """Close all connections: now, or after `after` more bytes were sent over all of them together."""
        self.faults.cut_after = after
        if after is None:
            for connection in list(self.connections):
                connection.cut()

    def hang(self) -> None:
        """Accept new connections without sending anything. Existing connections are served."""
        self.faults.silent = True

    def freeze(self) -> None:
        """Neither read nor write on existing connections. New ones are served."""
        for connection in list(self.connections):
            connection.freeze()

    def thaw(self) -> None:
        """End hang(), freeze() and drop(after=...), and process what has arrived in the meantime."""
        self.faults.silent = False
        self.faults.cut_after = None
        for connection in list(self.connections):
            connection.thaw()
            connection.greet()

    # Called by connections

    def admit(self, connection: SshdConnection) -> bytes | None:
        """Register a TCP connection. Returns OpenSSH's text if it is refused."""
        self.counts.connections += 1
        if self.faults.penalties and time.monotonic() < self._penalised_until:
            self.counts.penalised += 1
            return b"Not allowed at this time\r\n"
        if len(self.starting) >= self.max_startups:
            self.counts.startups_refused += 1
            return b"Exceeded MaxStartups\r\n"
        self.starting.add(connection)
        self.connections.add(connection)
        self.counts.connected = len(self.connections)
        self.counts.connected_most = max(self.counts.connected_most, self.counts.connected)
        return None

    def login_failed(self) -> None:
        """Count a failed login, and its penalty as OpenSSH does: 5 s each, enforced from a sum of 15 s on."""
        self.counts.failed_logins += 1
        now = time.monotonic()
        self._penalty_ends = max(now, self._penalty_ends) + 5.0
        if self._penalty_ends - now > 14.0:  # OpenSSH counts whole seconds
            self._penalised_until = self._penalty_ends

    def dismiss(self, connection: SshdConnection) -> None:
        """Unregister a TCP connection."""
        self.starting.discard(connection)
        self.connections.discard(connection)
        self.counts.connected = len(self.connections)

    def may_log_in(self, user: str) -> bool:
        return self.users.get(user) is not None and user not in self.faults.disabled

    def session(self, user: UnixUser, connection: SshdConnection, closed: Callable[[], None]) -> SshdSession:
        peer = connection.get_extra_info("peername")[:2]
        own = connection.get_extra_info("sockname")[:2]

        def environment(asked: dict[str, str]) -> dict[str, str]:
            return {
                **asked,
                **self.environment(user),
                "SSH_CLIENT": f"{peer[0]} {peer[1]} {own[1]}",
                "SSH_CONNECTION": f"{peer[0]} {peer[1]} {own[0]} {own[1]}",
            }

        return SshdSession(
            self.users,
            user,
            environment,
            faults=self.faults,
            counts=self.counts,
            running=self.running,
            closed=closed,
            sftp=self.sftp,
        )

    def environment(self, user: UnixUser) -> dict[str, str]:
        """The environment variables of a user's commands."""
        zone = {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}
        # without the subsystem, files are served by the machine's own SFTP server, which knows no made-up owners
        owners = {} if self.sftp else {"FLAMECREST_REAL_OWNERS": "1"}
        return {
            **zone,
            **owners,
            **self._variables,
            "USER": user.name,
            "LOGNAME": user.name,
            "HOME": str(user.home),
            "SHELL": "/bin/bash",
            "PATH": self._path,
            MARK: str(self.users.root),
        }
