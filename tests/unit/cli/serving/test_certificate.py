"""A new TLS certificate is used without a restart, and what is under way goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flamecrest.cli.serving.certificate import renew_certificate, version_of
from flamecrest.cli.serving.options import HttpOptions
from flamecrest.cli.serving.run import running
from tests.certificates import write_certificate
from tests.unit.cli.served import answer, application, reply

pytestmark = pytest.mark.anyio


class Slow:
    """A handler that answers `/slow` when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            self.begun.set()
            await self.go_on.wait()
        await reply(send, b"done")


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]]:
    """A connection, and the certificate that the server has shown."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader, writer, writer.get_extra_info("ssl_object").getpeercert(True)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def shown(port: int) -> bytes:
    """The certificate that new connections see; the server answers a request."""
    async with connected(port) as (reader, writer, certificate):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer(reader))[2] == b"done"
    return certificate


async def shown_if_served(port: int) -> bytes | None:
    """The same; None for a connection that ends without an answer, as granian's may at the moment of the change."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        return await shown(port)
    return None


def on_disk(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text())


@pytest.mark.parametrize("http", ["granian", "uvicorn"])
async def test_new_connections_get_the_new_certificate(
    tmp_path: Path, http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = write_certificate(tmp_path)
    slow, asked, files = Slow(), asyncio.Event(), (str(certificate), str(key))
    caplog.set_level(logging.INFO, "flamecrest.serve")
    used = version_of(files)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with running(application(slow), listener, HttpOptions(http, tls=files), grace=20) as reload:
            renewal = asyncio.create_task(renew_certificate(files, used, reload, asked, look_seconds=0.05))
            first = on_disk(certificate)
            async with connected(port) as (reader, writer, before):
                writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
                await slow.begun.wait()
                await asyncio.to_thread(write_certificate, tmp_path)
                async with asyncio.timeout(30):
                    while await shown_if_served(port) in {first, None}:
                        await asyncio.sleep(0.02)
                assert before == first
                assert await shown(port) == on_disk(certificate)
                slow.go_on.set()
                assert (await answer(reader))[2] == b"done"
            key.write_text("not a key")
            asked.set()
            async with asyncio.timeout(30):
                while "not usable" not in caplog.text:
                    await asyncio.sleep(0.02)
            assert await shown(port) == on_disk(certificate)
            renewal.cancel()
    assert "TLS certificate read again" in caplog.text
