"""What resumable uploads must survive, as a world: a centre, a gateway that can be killed, a line that can be cut."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from flamecrest.sandbox.centre import Centre
from tests.live.process import answers, free_port, running

USER = "fireuser"
PATIENCE = 120.0  # seconds for a gateway to come up: machines are busy
PROGRAM = str(Path(sys.executable).parent / "flamecrest")


class Line:
    """A TCP relay to the gateway, slow enough that a cut hits a transfer and not the pause after it."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.carried = 0  # bytes towards the gateway
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        while self._writers:
            await asyncio.sleep(0.005)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, out = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(out)
        try:
            await asyncio.gather(self._carry(reader, out, slow=True), self._carry(there, writer, slow=False))
        finally:
            for one in (writer, out):
                one.transport.abort()
                self._writers.discard(one)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(16384):
                writer.write(data)
                await writer.drain()
                if slow:
                    self.carried += len(data)
                    await asyncio.sleep(0.001)
        writer.transport.abort()


class Gateway:
    """A gateway on a port of its own, in a process that can be killed and started again."""

    def __init__(self, config: Path, log: Path) -> None:
        self._config = config
        self._log = log
        self.port = free_port()
        self.pid = 0
        self._stack = ExitStack()

    def start(self) -> None:
        argv = [PROGRAM, "serve", "--config", str(self._config), "--host", "127.0.0.1", "--port", str(self.port)]
        url = f"http://127.0.0.1:{self.port}/status/liveness"
        self.pid = self._stack.enter_context(running(argv, self._log, lambda: answers(url), seconds=PATIENCE))

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        self._stack.close()


class World:
    """Everything together."""

    def __init__(self, portal: BlockingPortal, centre: Centre, gateway: Gateway, line: Line) -> None:
        self.portal = portal
        self.centre = centre
        self.gateway = gateway
        self.line = line
        self.folder = centre.home(USER) / "work"
        self.folder.mkdir(exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.line.port}/filesystem/{self.centre.system}/uploads"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.centre.token(USER)}"}

    def cut(self) -> None:
        """The client's connection breaks."""
        self.portal.call(self.line.cut)

    def drop(self) -> None:
        """The SSH connections break."""
        self.portal.call(self.centre.ssh.drop)

    def crash(self) -> None:
        """The gateway is killed, and another one comes up in its place."""
        self.gateway.kill()
        self.gateway.start()


@contextmanager
def world(root: Path) -> Iterator[World]:
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        centre: Any = stack.enter_context(portal.wrap_async_context_manager(Centre(root / "centre")))
        gateway = Gateway(centre.write_config(root / "flamecrest.yaml"), root / "gateway.log")
        gateway.start()
        stack.callback(gateway.stop)
        line = stack.enter_context(portal.wrap_async_context_manager(Line(gateway.port)))
        yield World(portal, centre, gateway, line)
