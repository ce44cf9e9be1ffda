"""One client, with a token or without, cannot keep other users from being served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.certificates import write_certificate
from tests.unit.cli.served import answer, dialed, serving
from tests.unit.http.world import World

pytestmark = pytest.mark.anyio

SERVERS = ("granian", "uvicorn")
CONNECTIONS = 4
PAUSE = 0.2  # seconds between two steps of an attacker
PATIENCE = 50.0  # seconds within which another user is served on a slow machine; the gateway's timeouts are longer
LONG = {"header_timeout": 300.0, "stall_timeout": 300.0}

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def head(method: str, target: str, *lines: str, user: str | None = "fireuser") -> bytes:
    token = [] if user is None else [f"Authorization: Bearer token-of-{user}"]
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: gateway", *token, *lines, "", ""]).encode()


def upload(root: str, name: str, user: str | None = "fireuser") -> bytes:
    return head("PUT", f"/filesystem/toy/ops/upload?path={root}/{name}", "Content-Length: 1000000000", user=user)


def stat(root: str, user: str) -> bytes:
    return head("GET", f"/filesystem/toy/ops/stat?path={root}", user=user)


async def writing(root: str, streams: Streams, start: bytes, more: bytes) -> None:
    """Send a start, and then some bytes now and then, until the gateway closes. Read what comes."""
    reader, writer = streams
    writer.write(start)
    while not reader.at_eof():
        writer.write(more)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                await reader.read(65536)
        await asyncio.sleep(PAUSE)


async def uploads_in_drops(root: str, streams: Streams) -> None:
    await writing(root, streams, upload(root, "a"), b"x")


async def bodies_without_a_token_in_drops(root: str, streams: Streams) -> None:
    await writing(root, streams, upload(root, "b", user=None), b"x")


async def bodies_with_a_bad_token_in_drops(root: str, streams: Streams) -> None:
    await writing(root, streams, upload(root, "b", user="nobody"), b"x")


async def heads_in_drops(root: str, streams: Streams) -> None:
    await writing(root, streams, b"GET /status/liveness HTTP/1.1\r\nHost: gateway\r\n", b"X-A: b\r\n")


async def small_requests_without_a_token(root: str, streams: Streams) -> None:
    await writing(root, streams, b"", head("GET", "/status/liveness", user=None))


async def nothing(root: str, streams: Streams) -> None:
    await writing(root, streams, b"", b"")


async def followed_files(root: str, streams: Streams) -> None:
    await writing(root, streams, head("GET", f"/filesystem/toy/ops/tail?path={root}/large&follow=true"), b"")


async def reading(streams: Streams, start: bytes) -> None:
    """Send a start, and then read some bytes now and then."""
    reader, writer = streams
    writer.write(start)
    while await reader.read(1024):
        await asyncio.sleep(PAUSE)


async def documents_read_slowly(root: str, streams: Streams) -> None:
    await reading(streams, head("GET", "/docs/swagger-ui-bundle.js", user=None))


async def documents_read_slowly_again_and_again(root: str, streams: Streams) -> None:
    await reading(streams, head("GET", "/openapi.json", user=None) * 30)


async def downloads_read_slowly(root: str, streams: Streams) -> None:
    await reading(streams, head("GET", f"/filesystem/toy/ops/download?path={root}/large"))


Attack = Callable[[str, Streams], Awaitable[None]]
USUAL: list[Attack] = [uploads_in_drops, bodies_with_a_bad_token_in_drops, documents_read_slowly]
FURTHER: list[Attack] = [
    bodies_without_a_token_in_drops,
    heads_in_drops,
    small_requests_without_a_token,
    nothing,
    followed_files,
    documents_read_slowly_again_and_again,
    downloads_read_slowly,
]


async def again_and_again(attack: Attack, port: int, root: str) -> None:
    """Attack by one connection; a new one when it has ended."""
    while True:
        with socket.socket() as dialing, contextlib.suppress(OSError):
            dialing.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            dialing.setblocking(False)
            await asyncio.get_running_loop().sock_connect(dialing, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=dialing, limit=1024)
            try:
                await attack(root, (reader, writer))
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.02)


async def served(port: int, root: str, user: str) -> None:
    """Ask until the answer is 200."""
    status = 0
    while status != 200:
        async with dialed(port) as (reader, writer):
            with contextlib.suppress(OSError, EOFError):
                writer.write(stat(root, user))
                status = (await answer(reader))[0]
        await asyncio.sleep(0.02)


async def others_are_served(attack: Attack, server: str, root: str) -> None:
    app = World(root).app()
    options = {"max_connections": CONNECTIONS, "max_requests_per_user": CONNECTIONS // 2} | LONG
    async with serving(app, grace=0.0, http=server, **options) as port, asyncio.TaskGroup() as group:
        attackers = [group.create_task(again_and_again(attack, port, root)) for _ in range(2 * CONNECTIONS)]
        try:
            await asyncio.sleep(0.5)
            async with asyncio.timeout(PATIENCE):
                await served(port, root, "bob")
        finally:
            for one in attackers:
                one.cancel()


@pytest.mark.parametrize(
    "attacks",
    [USUAL, pytest.param(FURTHER, marks=[pytest.mark.live, pytest.mark.timeout(120)])],
    ids=["usual", "further"],
)
@pytest.mark.parametrize("server", SERVERS)
async def test_others_are_served(server: str, attacks: list[Attack], tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(50_000_000)
    failures = await asyncio.gather(
        *(others_are_served(attack, server, str(tmp_path)) for attack in attacks), return_exceptions=True
    )
    failed = {attack.__name__: error for attack, error in zip(attacks, failures, strict=True) if error is not None}
    assert not failed


@pytest.mark.parametrize("server", SERVERS)
async def test_tls_handshakes_that_stall_keep_nobody_out(server: str, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    tls = str(certificate), str(key)
    app = World(str(tmp_path)).app()
    async with (
        serving(app, http=server, max_connections=2, header_timeout=300.0, tls=tls) as port,
        dialed(port),
        dialed(port) as (_, half),
    ):
        half.write(b"\x16\x03\x01\x02")  # the beginning of a ClientHello
        status = 0
        while status != 200:
            with contextlib.suppress(OSError, EOFError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                writer.write(stat(str(tmp_path), "bob"))
                status = (await answer(reader))[0]
                writer.close()
