"""Opening an SSH connection: connect and log in, through a jump host if there is one, and explain failures."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncssh

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Upstream
from flamecrest.server.ssh.accelerate import accelerate
from flamecrest.server.ssh.counters import PoolCounters
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.ssh.host_keys import HostKeyClient, HostKeyVerifier
from flamecrest.server.ssh.transport import SshTransport

from .connection import Connection
from .host import Host

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.ssh.credentials import Credentials

# AES-GCM first: it costs half the processor time of asyncssh's own first choice, chacha20-poly1305.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
DIALS = 8  # logins at the same time: sshd's MaxStartups (10:30:100 by default) drops some beyond ten
DIAL_RETRIES = (0.1, 0.3, 0.9)  # seconds before a login that the server dropped is tried again
OPENSSH_MAX_SESSIONS = 10  # OpenSSH's default; the limit of a server that has refused nothing yet
LEARNED_FOR = 600.0  # seconds for which new connections start with the limit learned from a refusal


class Dialer:
    """Opens the connections of one pool: few at a time, again where the server drops them, with what it has learned.

    `max_sessions` is the number of channels that the hosts take on a connection; None: learn it from their refusals.
    """

    def __init__(
        self, credentials: Credentials, host_keys: HostKeyVerifier, counters: PoolCounters, max_sessions: int | None
    ) -> None:
        self._credentials = credentials
        self._host_keys = host_keys
        self._counters = counters
        self._max_sessions = max_sessions
        self._gate = asyncio.Semaphore(DIALS)
        self._learned: dict[Host, tuple[int, float]] = {}  # channels per connection, and when that was learned

    async def connect(self, identity: Identity, host: Host) -> Connection:
        """A connection of that user. Raises what the credentials raise, Upstream, or Lost after the last retry."""
        keys = await self._credentials.keys(identity, Deadline.after(host.connect_timeout + host.login_timeout))
        for pause in (*DIAL_RETRIES, None):
            try:
                async with self._gate:
                    transport = await dial(host, identity.username, keys, self._host_keys, self._counters)
                    limit, known = self._channel_limit(host)
                    return Connection(identity.username, host, transport, limit, limit_known=known)
            except Lost:
                # the server closed the connection before the login: MaxStartups does that at random
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def learn(self, host: Host, limit: int) -> None:
        """Start new connections to the host with this limit of channels, for a while."""
        self._learned[host] = (limit, time.monotonic())

    def _channel_limit(self, host: Host) -> tuple[int, bool]:
        """How many channels a new connection takes, and whether that is known or a first guess."""
        if self._max_sessions is not None:
            return self._max_sessions, True
        if (found := self._learned.get(host)) and time.monotonic() - found[1] < LEARNED_FOR:
            return found[0], True
        return OPENSSH_MAX_SESSIONS, False


async def dial(
    host: Host,
    user: str,
    keys: Sequence[asyncssh.SSHKeyPair],
    host_keys: HostKeyVerifier,
    counters: PoolCounters,
) -> SshTransport:
    """Connect and log in. Raises Upstream with a text that names the problem, Lost where a second try may help."""
    tunnel = None
    client = HostKeyClient(host_keys)
    try:
        async with asyncio.timeout(host.connect_timeout + host.login_timeout):
            if host.proxy_host is not None:
                jump = HostKeyClient(host_keys)
                jump_user = host.proxy_user or user
                tunnel = await _connect(jump, host.proxy_host, host.proxy_port, jump_user, keys, host, None)
            raw = await _connect(client, host.host, host.port, user, keys, host, tunnel)
    except BaseException as error:
        if tunnel is not None:
            tunnel.abort()
        if isinstance(error, Exception):
            raise explain(error, host, user, client.refused) from error
        raise
    if host.accelerate:
        accelerate(raw)
    transport = SshTransport(raw, tunnel, counters)
    client.on_lost = transport.connection_lost
    if raw.is_closed():
        transport.lost = True
    return transport


async def _connect(
    client: HostKeyClient,
    address: str,
    port: int,
    user: str,
    keys: Sequence[asyncssh.SSHKeyPair],
    host: Host,
    tunnel: asyncssh.SSHClientConnection | None,
) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        address,
        port,
        tunnel=tunnel,
        username=user,
        client_keys=list(keys),
        client_factory=lambda: client,
        known_hosts=client.known_hosts(),
        encryption_algs=CIPHERS,
        # no prompts, no forwarding, and neither agent nor files of the account that runs the gateway
        config=None,
        agent_path=None,
        preferred_auth="publickey",
        compression_algs=None,
        client_host_keysign=False,
        connect_timeout=host.connect_timeout,
        login_timeout=host.login_timeout,
        keepalive_interval=host.keep_alive,
        keepalive_count_max=3,
    )


def explain(error: Exception, host: Host, user: str, refused: str | None = None) -> GatewayError:  # noqa: C901 - a table
    """The error for the caller, by the class of a failure to connect and never by its text.

    `refused` describes the host key that was refused, if one was.
    """
    if isinstance(error, GatewayError):
        return error
    where = f"SSH to {host}"
    detail = f"{type(error).__name__}: {error}"
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return Upstream(refused or f"{where} failed: the host key could not be verified", detail=detail)
        case asyncssh.PermissionDenied():
            return Upstream(f"{where} failed: the cluster did not accept the SSH credentials of {user}", detail=detail)
        case asyncssh.KeyExchangeFailed():
            return Upstream(f"{where} failed: no common algorithm with the server", detail=detail)
        case asyncssh.ConnectionLost():
            return Lost(f"{where} failed: the server closed the connection", detail=detail)
        case asyncssh.Error():
            return Upstream(f"{where} failed: protocol error", detail=detail)
        case socket.gaierror():
            return Upstream(f"{where} failed: the host name could not be resolved", detail=detail)
        case ConnectionRefusedError():
            return Upstream(f"{where} failed: connection refused", detail=detail)
        case TimeoutError():
            return Upstream(f"{where} failed: no answer in time", detail=detail)
        case ConnectionError():
            return Lost(f"{where} failed: the connection was reset", detail=detail)
        case OSError():
            return Upstream(f"{where} failed: {error.strerror or 'network error'}", detail=detail)
    return Upstream(f"{where} failed", detail=detail)
