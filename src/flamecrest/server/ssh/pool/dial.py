"""Opening an SSH connection: connect and log in, through a jump host if there is one, and explain failures."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncssh

from flamecrest.server.errors import GatewayError, Upstream
from flamecrest.server.ssh.accelerate import accelerate
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.ssh.host_keys import HostKeyClient

from .connection import Connection

if TYPE_CHECKING:
    from flamecrest.server.ssh.host_keys import HostKeyVerifier

# AES-GCM costs asyncssh half of what its default first choice does, per packet.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)


@dataclass(frozen=True, slots=True)
class Host:
    """Where a cluster's login node is, and the jump host before it if there is one. Times in seconds."""

    host: str
    port: int = 22
    proxy_host: str | None = None
    proxy_port: int = 22
    proxy_user: str | None = None  # None: the user's own name
    connect_timeout: float = 5.0
    login_timeout: float = 5.0
    keep_alive: float = 5.0
    accelerate: bool = True  # use the faster parts of `ssh/accelerate` where asyncssh's version allows it

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def dial(
    host: Host,
    user: str,
    keys: Sequence[asyncssh.SSHKeyPair],
    host_keys: HostKeyVerifier,
) -> Connection:
    """Connect and log in; raises Upstream with a text that says what to do about it."""
    tunnel = None
    client = HostKeyClient(host_keys)
    try:
        async with asyncio.timeout(host.connect_timeout + host.login_timeout):
            if host.proxy_host is not None:
                jump = HostKeyClient(host_keys)
                tunnel = await _connect(
                    jump,
                    host.proxy_host,
                    host.proxy_port,
                    host.proxy_user or user,
                    keys,
                    host_keys,
                    host,
                    None,
                )
            raw = await _connect(client, host.host, host.port, user, keys, host_keys, host, tunnel)
    except BaseException as error:
        if tunnel is not None:
            tunnel.abort()
        if isinstance(error, Exception):
            raise explain(error, host, user, client.refused) from error
        raise
    if host.accelerate:
        accelerate(raw)
    connection = Connection(user, raw, tunnel)
    client.lost = lambda: _lost(connection)
    if raw.is_closed():
        connection.lost = True
    return connection


def _lost(connection: Connection) -> None:
    connection.lost = True
    if connection.tunnel is not None:
        connection.tunnel.close()
    if connection.on_lost is not None:
        connection.on_lost(connection)


async def _connect(
    client: HostKeyClient,
    address: str,
    port: int,
    user: str,
    keys: Sequence[asyncssh.SSHKeyPair],
    host_keys: HostKeyVerifier,
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
        known_hosts=host_keys.known_hosts(),
        encryption_algs=CIPHERS,
        # an API never answers prompts, forwards nothing and uses no agent or file of the gateway's account
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
    """The kind and words for a failure to connect. From classes and codes, never from a message's text."""
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
