"""The limit of a user's open requests: further ones are refused, and every end of a request frees its place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from flamecrest.server.errors import Busy
from flamecrest.server.http.core.user_requests import UserRequests
from tests.unit.cli.served import answer, dialed, serving
from tests.unit.http.world import World, logged

pytestmark = pytest.mark.anyio

FOLLOW = "&follow=true"


@pytest.fixture(params=["granian", "uvicorn"])
async def port(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[int]:
    (tmp_path / "log").write_text("line\n")
    async with serving(World(str(tmp_path)).app(), http=request.param, max_requests_per_user=2) as port:
        yield port


def ask(operation: str, path: Path, more: str = "", *lines: str, user: str = "fireuser") -> bytes:
    method = "PUT" if operation == "upload" else "GET"
    first = f"{method} /filesystem/toy/ops/{operation}?path={path}{more} HTTP/1.1"
    return "\r\n".join([first, "Host: x", f"Authorization: Bearer token-of-{user}", *lines, "", ""]).encode()


async def status_of(port: int, request: bytes) -> int:
    async with dialed(port) as (reader, writer):
        writer.write(request)
        return (await answer(reader))[0]


async def opened(stack: AsyncExitStack, port: int, request: bytes) -> asyncio.StreamWriter:
    """Begin a followed file; returns when its response has begun."""
    reader, writer = await stack.enter_async_context(dialed(port))
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    return writer


async def test_requests_beyond_the_limit_are_refused_at_once(port: int, tmp_path: Path) -> None:
    follow, stat = ask("tail", tmp_path / "log", FOLLOW), ask("stat", tmp_path)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await opened(stack, port, follow)
        with logged() as lines:
            async with dialed(port) as (reader, writer):
                writer.write(ask("upload", tmp_path / "new", "", "Content-Length: 1000000000") + b"x")
                status, headers, body = await answer(reader)
                assert (status, headers[b"retry-after"], headers[b"connection"]) == (429, b"1", b"close")
                assert b"You have 2 open requests" in body
                assert await reader.read() == b""  # the body is not awaited
        assert [(line["user"], line["status"]) for line in lines if "route" in line] == [("fireuser", 429)]
        assert not (tmp_path / "new").exists()
        assert await status_of(port, stat) == 429
        assert await status_of(port, ask("stat", tmp_path, user="bob")) == 200


async def test_every_end_of_a_request_frees_its_place(port: int, tmp_path: Path) -> None:
    stat = ask("stat", tmp_path)
    ends = (
        stat,
        ask("stat", tmp_path / "none"),
        ask("stat", tmp_path, "&dereference=maybe"),
        stat.replace(b"toy", b"no"),
    )
    async with AsyncExitStack() as stack:
        lost = await opened(stack, port, ask("tail", tmp_path / "log", FOLLOW))
        for request in ends * 2:
            assert await status_of(port, request) in {200, 400, 404}
        await opened(stack, port, ask("tail", tmp_path / "log", FOLLOW))
        assert await status_of(port, stat) == 429
        lost.transport.abort()
        async with asyncio.timeout(20):
            while await status_of(port, stat) != 200:
                await asyncio.sleep(0.02)


def test_requests_are_counted_by_user() -> None:
    users, first = UserRequests(), {"type": "http"}
    users.limit = 1
    users.begin("ann", first)
    users.begin("bob", {"type": "http"})
    refused = {"type": "http"}
    with pytest.raises(Busy):
        users.begin("ann", refused)
    users.end(refused)
    with pytest.raises(Busy):
        users.begin("ann", {"type": "http"})
    users.end(first)
    users.begin("ann", {"type": "http"})
