"""A real SSH server that echoes, with small windows if wanted, and a proxy that cuts and changes the bytes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh

from flamecrest.server.ssh.counters import PoolCounters
from flamecrest.server.ssh.host_keys import HostKeyVerifier, known_hosts_line
from flamecrest.server.ssh.pool.dial import dial
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.transport import SshTransport


class Echoed(asyncssh.SSHClientSession[bytes]):
    """Collects the data of a channel, and its end."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.writable = asyncio.Event()
        self.writable.set()
        self.closed = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        assert datatype is None
        self.got += data

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()
        self.closed.set_result(exc)


async def echo(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Send all input back, and end."""
    while data := await process.stdin.read(50_000):
        process.stdout.write(data)
        await process.stdout.drain()
    process.exit(0)


@asynccontextmanager
async def connected(
    folder: Path, through: Callable[[int], Any] | None = None, *, accelerate: bool = True, **server: Any
) -> AsyncIterator[SshTransport]:
    """A connection to such a server, through that network if there is one."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    trusted = folder / "authorized"
    trusted.write_bytes(key.export_public_key())
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[key],
        authorized_client_keys=str(trusted),
        process_factory=server.pop("program", echo),
        encoding=None,
        **server,
    )
    port = acceptor.sockets[0].getsockname()[1]
    network = None if through is None else await asyncio.start_server(through(port), "127.0.0.1", 0)
    if network is not None:
        port = network.sockets[0].getsockname()[1]
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(known_hosts_line("127.0.0.1", port, key) + "\n")
    pairs = asyncssh.load_keypairs([key])
    transport = await dial(
        Host("127.0.0.1", port, accelerate=accelerate),
        "ann",
        pairs,
        HostKeyVerifier([str(known_hosts)]),
        PoolCounters(),
    )
    try:
        yield transport
    finally:
        transport.close()
        await transport.raw.wait_closed()
        acceptor.close()
        await acceptor.wait_closed()
        if network is not None:
            network.close()


def cutting(seed: int, spoil_after: int | None = None) -> Callable[[int], Any]:
    """A proxy that cuts the data to the client into pieces of many sizes, and changes one bit after some bytes."""

    def through(port: int) -> Any:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sizes = random.Random(seed)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            passing = asyncio.create_task(_pass(reader, far_writer, lambda: 65536, None))
            await _pass(far_reader, writer, lambda: sizes.choice((1, 3, 20, 700, 40_000, 300_000)), spoil_after)
            await passing

        return carry

    return through


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: Callable[[], int], spoil_after: int | None
) -> None:
    passed = 0
    try:
        while data := await reader.read(size()):
            if spoil_after is not None and passed <= spoil_after < passed + len(data):
                at = spoil_after - passed
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            passed += len(data)
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def sent_and_back(transport: SshTransport, content: bytes, piece: int = 100_000) -> Echoed:
    """Send the content in pieces and EOF; the session, when the channel has closed."""
    session = Echoed()
    channel = await transport.open_channel(session, b"echo")
    for start in range(0, len(content), piece):
        await session.writable.wait()
        transport.send(channel, content[start : start + piece])
    channel.write_eof()
    await session.closed
    return session
