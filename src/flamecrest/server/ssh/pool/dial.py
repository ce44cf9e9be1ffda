"""Opening SSH connections: connect and log in, through a jump host if there is one, and remember failures."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncssh

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.accelerate import accelerate, quick_login
from flamecrest.server.ssh.counters import PoolCounters
from flamecrest.server.ssh.errors import (
    AddressPenalised,
    ConnectionDropped,
    LoginRefused,
    LoginTimeout,
    Lost,
    NothingSent,
)
from flamecrest.server.ssh.host_keys import HostKeyClient, HostKeyVerifier
from flamecrest.server.ssh.transport import SshTransport

from .connection import Connection
from .gate import Gate, Patience
from .greeting import Greeting
from .host import Host
from .login_errors import EXEMPT, explain
from .logins import Attempt, Dial, FailedLogins, LoginNode, Outcome

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.ssh.credentials.port import Credentials

    from .policy import PoolLimits

logger = logging.getLogger(__name__)

# AES-GCM first: it costs half the processor time of asyncssh's own first choice, chacha20-poly1305.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
BROKEN_PAUSE = 0.3  # seconds until a login that broke is made again, once
FIRST_SIGN = 0.8  # seconds in which a server must send its identification, if there are other login nodes


class Dialer:
    """Opens the connections of one pool, by the rules of logins.py."""

    def __init__(
        self, credentials: Credentials, host_keys: HostKeyVerifier, counters: PoolCounters, limits: PoolLimits
    ) -> None:
        self._credentials = credentials
        self._host_keys = host_keys
        self._counters = counters
        self._limits = limits
        self._failed = FailedLogins()
        self._proven: dict[tuple[str, Host], bytes] = {}  # credentials of the last login that succeeded
        self._gates: dict[Host, Gate] = {}
        self._begun: set[str] = set()  # users whose login is under way
        self._pinned: dict[tuple[str, ...], HostKeyVerifier] = {}  # by the keys of hosts that have keys of their own

    def gate(self, host: Host) -> Gate:
        """The logins under way on a node."""
        found = self._gates.get(host)
        if found is None:
            found = self._gates[host] = Gate(host, LoginNode(self._limits.max_failed_logins))
        return found

    def paused(self, host: Host) -> bool:
        """Whether the node dropped the last connection."""
        return self.gate(host).node.drops > 0

    def obstacle(self, host: Host, user: str) -> GatewayError:
        """Why a user's login has no result yet."""
        if user in self._begun and self.gate(host).node.cause is None:
            return NothingSent(f"SSH to {host} failed: no answer in time")
        return self.gate(host).obstacle()

    def _trusted(self, host: Host) -> HostKeyVerifier:
        """The host keys that are accepted of a host."""
        if not host.pinned:
            return self._host_keys
        return self._pinned.setdefault(host.pinned, HostKeyVerifier(pinned=host.pinned))

    def prune(self) -> None:
        """Forget old failures."""
        self._failed.prune(time.monotonic())

    async def connect(self, identity: Identity, host: Host, patience: Patience, *, others: bool = False) -> Connection:
        """A connection of that user. With `others` there are other nodes: a node that does not answer fails soon.

        Raises what the credentials raise, and NothingSent: the remembered failure at once while its pause lasts.
        """
        longest, age = host.connect_timeout + host.login_timeout, self._limits.age
        credential = await self._credentials.obtain(identity, Deadline.after(longest), age / 4)
        user, credentials = identity.username, credential.fingerprint
        last = self._failed.last(user, host, credentials)
        if last is not None and (left := last.until - time.monotonic()) > 0:
            raise type(last.error)(last.error.public, detail=last.error.detail, retry_after=left)
        attempt = Attempt(
            proven=self._proven.get((user, host)) == credentials,
            failed=last is not None and not last.timeout,
            unanswered=last is not None and last.timeout,
        )
        transport = await self._log_in(user, host, credential.keys, attempt, patience, credentials, others=others)
        self._failed.forget(user, host)
        self._proven[user, host] = credentials
        connection = Connection(user, host, transport, self._limits.max_sessions)
        connection.certificate = credential.certificate
        # its age counts from the time at which the source of credentials allowed the login
        connection.ends = min(credential.ends, credential.obtained + age)
        return connection

    async def _log_in(
        self,
        user: str,
        host: Host,
        keys: Sequence[asyncssh.SSHKeyPair],
        attempt: Attempt,
        patience: Patience,
        credentials: bytes,
        *,
        others: bool,
    ) -> SshTransport:
        """Log in; again where the server dropped the connection and a request still waits."""
        gate, broken = self.gate(host), False
        while True:
            greeting = Greeting(gate.node.identified)
            greeting.identified_within = FIRST_SIGN if others else None
            async with gate.login(attempt, patience) as started:
                self._begun.add(user)
                try:
                    transport = await dial(host, user, keys, self._trusted(host), self._counters, greeting)
                except ConnectionDropped as error:
                    self._note_drop(host, started, error)
                    if others:
                        raise
                except Lost as error:
                    last = broken or others
                    self._note_failure(user, host, started, credentials, error, greeting, again=not last)
                    if last:
                        raise
                    broken = True
                except GatewayError as error:
                    self._note_failure(user, host, started, credentials, error, greeting)
                    raise
                else:
                    gate.node.end(started, Outcome.SUCCEEDED, time.monotonic())
                    return transport
                finally:
                    self._begun.discard(user)
            if broken:
                await asyncio.sleep(BROKEN_PAUSE)

    def _note_drop(self, host: Host, dial: Dial, error: ConnectionDropped) -> None:
        """Pause the logins of all users on the node."""
        node, now = self.gate(host).node, time.monotonic()
        node.end(dial, Outcome.OTHER, now)
        if node.drop(dial, error, now, penalty=isinstance(error, AddressPenalised)):
            fields: dict[str, object] = {
                "host": str(host),
                "reason": error.public,
                "detail": error.detail,
                "drops": node.drops,
            }
            fields["pause_s"] = round(node.paused_until - now, 1)
            logger.warning("SSH connection dropped by the login node", extra={"fields": fields})

    def _note_failure(
        self,
        user: str,
        host: Host,
        dial: Dial,
        credentials: bytes,
        error: GatewayError,
        greeting: Greeting,
        *,
        again: bool = False,
    ) -> None:
        """Remember a failed login of one user, unless it is made again at once."""
        node, now = self.gate(host).node, time.monotonic()
        reached = greeting.identification is not None
        refused = isinstance(error, LoginRefused) or (reached and isinstance(error, Lost))
        outcome = Outcome.REFUSED if refused else Outcome.UNTRIED if reached else Outcome.OTHER
        node.end(dial, outcome, now)
        timeout = isinstance(error, (LoginTimeout, Lost))
        if again or not (refused or timeout):
            return
        failure = self._failed.add(user, host, credentials, error, now, timeout=timeout)
        fields: dict[str, object] = {"host": str(host), "user": user, "reason": error.public, "detail": error.detail}
        fields |= {"failures": failure.count, "pause_s": round(failure.until - now, 1)}
        if refused and node.penalises:
            fields["note"] = f"OpenSSH 9.8 and newer drop all connections of an address after such failures; {EXEMPT}"
        logger.warning("SSH login failed", extra={"fields": fields})


async def dial(
    host: Host,
    user: str,
    keys: Sequence[asyncssh.SSHKeyPair],
    host_keys: HostKeyVerifier,
    counters: PoolCounters,
    greeting: Greeting | None = None,
) -> SshTransport:
    """Connect and log in; `greeting` keeps what the login node said first.

    Raises NothingSent with a text that names the host and the problem; Lost where a second try may help.
    """
    tunnel, greeting = None, greeting or Greeting()
    client = HostKeyClient(host_keys)
    step = _Step(f"SSH to {host}", user, client, greeting)
    try:
        async with asyncio.timeout(host.connect_timeout + host.login_timeout):
            if host.proxy_host is not None:
                jump = HostKeyClient(host_keys)
                jump_user = host.proxy_user or user
                step = _Step(f"SSH to the jump host {host.proxy_host}:{host.proxy_port}", jump_user, jump, Greeting())
                tunnel = await _connect(jump, host.proxy_host, host.proxy_port, jump_user, keys, host, step.greeting)
                step = _Step(f"SSH to {host}", user, client, greeting)
                greeting.jump = tunnel
            greeting.address = host.address
            async with asyncio.timeout(greeting.identified_within) as greeting.patience:
                raw = await _connect(client, host.host, host.port, user, keys, host, greeting)
    except BaseException as error:
        if tunnel is not None:
            tunnel.abort()
        if isinstance(error, Exception):
            raise explain(error, step.where, step.user, step.greeting, step.client.refused) from error
        raise
    if host.accelerate:
        accelerate(raw)
    transport = SshTransport(raw, tunnel, counters, host.stall_timeout)
    client.on_lost = transport.connection_lost
    if raw.is_closed():
        transport.lost = True
    return transport


@dataclass(frozen=True, slots=True)
class _Step:
    """What a failure is about: the host, the account there, and what its server has said."""

    where: str
    user: str
    client: HostKeyClient
    greeting: Greeting


async def _connect(
    client: HostKeyClient,
    address: str,
    port: int,
    user: str,
    keys: Sequence[asyncssh.SSHKeyPair],
    host: Host,
    greeting: Greeting,
) -> asyncssh.SSHClientConnection:
    if host.accelerate:
        client.on_made = quick_login
    return await asyncssh.connect(
        address,
        port,
        tunnel=greeting,
        username=user,
        client_keys=list(keys),
        client_factory=lambda: client,
        known_hosts=client.known_hosts(),
        server_host_key_algs=client.algorithms(),
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
