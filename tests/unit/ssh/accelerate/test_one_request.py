"""A login is one signed request; what a server refuses is tried as far as asyncssh would try it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from flamecrest.server.ssh import accelerate as room
from flamecrest.server.ssh.counters import PoolCounters
from flamecrest.server.ssh.errors import LoginRefused
from flamecrest.server.ssh.host_keys import HostKeyVerifier, known_hosts_line
from flamecrest.server.ssh.pool.dial import dial
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.transport import SshTransport

pytestmark = pytest.mark.anyio

KEYS = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(3)]
QUESTION, SIGNATURE = "publickey, a question", "publickey, signed"


class Server(asyncssh.SSHServer):
    """Notes what a client asks for."""

    def __init__(self, asked: list[str], accepted: Sequence[asyncssh.SSHKey]) -> None:
        self._asked = asked
        self._accepted = {key.export_public_key() for key in accepted}

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        connection: Any = conn
        finish = connection._finish_userauth

        def noted(begin: bool, method: bytes, packet: Any) -> Any:
            signed = method == b"publickey" and packet.get_remaining_payload()[0]
            self._asked.append(method.decode() if method != b"publickey" else SIGNATURE if signed else QUESTION)
            return finish(begin, method, packet)

        connection._finish_userauth = noted

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002 - asyncssh's signature
        return key.export_public_key() in self._accepted


@asynccontextmanager
async def server(folder: Path, asked: list[str], accepted: Sequence[asyncssh.SSHKey]) -> AsyncIterator[int]:
    """The port of such a server."""
    acceptor = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=lambda: Server(asked, accepted), server_host_keys=[KEYS[0]]
    )
    port = acceptor.sockets[0].getsockname()[1]
    (folder / "known_hosts").write_text(known_hosts_line("127.0.0.1", port, KEYS[0]) + "\n")
    try:
        yield port
    finally:
        acceptor.close()
        await acceptor.wait_closed()


async def log_in(folder: Path, port: int, *keys: asyncssh.SSHKey, accelerate: bool = True) -> SshTransport:
    known = HostKeyVerifier([str(folder / "known_hosts")])
    host = Host("127.0.0.1", port, accelerate=accelerate)
    return await dial(host, "ann", asyncssh.load_keypairs(list(keys)), known, PoolCounters())


async def test_a_login_is_one_signed_request(tmp_path: Path):
    asked: list[str] = []
    async with server(tmp_path, asked, [KEYS[1]]) as port:
        transport = await log_in(tmp_path, port, KEYS[1])
        transport.abort()
    assert asked == [SIGNATURE]


async def test_off_leaves_the_login_to_asyncssh(tmp_path: Path):
    asked: list[str] = []
    async with server(tmp_path, asked, [KEYS[1]]) as port:
        transport = await log_in(tmp_path, port, KEYS[1], accelerate=False)
        transport.abort()
    assert asked == ["none", QUESTION, SIGNATURE]


async def test_a_key_that_is_refused_is_followed_by_the_next(tmp_path: Path):
    asked: list[str] = []
    async with server(tmp_path, asked, [KEYS[2]]) as port:
        transport = await log_in(tmp_path, port, KEYS[1], KEYS[2])
        transport.abort()
    assert asked == [SIGNATURE, SIGNATURE]


@pytest.mark.parametrize("accelerate", [True, False])
async def test_keys_that_are_all_refused_are_a_refused_login(tmp_path: Path, accelerate: bool):
    asked: list[str] = []
    async with server(tmp_path, asked, []) as port:
        with pytest.raises(LoginRefused):
            await log_in(tmp_path, port, KEYS[1], KEYS[2], accelerate=accelerate)
    assert asked.count(SIGNATURE) + asked.count(QUESTION) == 2


async def test_an_untested_version_is_left_alone(tmp_path: Path):
    class Client(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            installed.append(room.quick_login(conn, "2.20.9"))

    asked: list[str] = []
    installed: list[bool] = []
    async with server(tmp_path, asked, [KEYS[1]]) as port:
        known = str(tmp_path / "known_hosts")
        options = {
            "username": "ann",
            "client_keys": [KEYS[1]],
            "known_hosts": known,
            "config": None,
            "agent_path": None,
        }
        connection, _ = await asyncssh.create_connection(Client, "127.0.0.1", port, **options)
        connection.abort()
    assert installed == [False]
    assert asked == ["none", QUESTION, SIGNATURE]
