"""Faults for resumable uploads: a centre, a gateway that can be killed, a relay that can be cut."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from flamecrest.sandbox.centre import Centre
from flamecrest.sandbox.issuer import Issuer
from tests.live import faults
from tests.live.process import PROGRAMS, Forked, answers, free_port, running
from tests.live.site import Site, write_settings

USER = "fireuser"
PATIENCE = 120.0  # seconds for a gateway to start on a busy machine


class Line:
    """A TCP relay to the gateway, slow enough that a cut hits a transfer."""

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
        argv = [
            str(PROGRAMS / "flamecrest"),
            "serve",
            "--config",
            str(self._config),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        url = f"http://127.0.0.1:{self.port}/status/liveness"
        process = running(argv, self._log, lambda: answers(url), seconds=PATIENCE, start=Forked)
        self.pid = self._stack.enter_context(process)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        self._stack.close()


class World:
    """The centre, the gateway and the relay."""

    def __init__(
        self,
        portal: BlockingPortal,
        gateway: Gateway,
        line: Line,
        *,
        system: str,
        token: str,
        folder: Path,
        drop: Callable[[], None],
    ) -> None:
        self.portal = portal
        self.gateway = gateway
        self.line = line
        self.folder = folder
        self.url = f"http://127.0.0.1:{line.port}/filesystem/{system}/uploads"
        self.headers = {"Authorization": f"Bearer {token}"}
        self._drop = drop

    def cut(self) -> None:
        """Reset the client's connection."""
        self.portal.call(self.line.cut)

    def drop(self) -> None:
        """Drop the SSH connections."""
        self._drop()

    def crash(self) -> None:
        """Kill the gateway and start another one."""
        self.gateway.kill()
        self.gateway.start()


def behind_a_line(portal: BlockingPortal, stack: ExitStack, config: Path, root: Path) -> tuple[Gateway, Line]:
    """A gateway that runs, and the line to it."""
    gateway = Gateway(config, root / "gateway.log")
    gateway.start()
    stack.callback(gateway.stop)
    return gateway, stack.enter_context(portal.wrap_async_context_manager(Line(gateway.port)))


@contextmanager
def sandbox_world(root: Path) -> Iterator[World]:
    """Over the sandbox."""
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        centre: Any = stack.enter_context(portal.wrap_async_context_manager(Centre(root / "centre")))
        folder = centre.home(USER) / "work"
        folder.mkdir()
        gateway, line = behind_a_line(portal, stack, centre.write_config(root / "flamecrest.yaml"), root)
        yield World(
            portal,
            gateway,
            line,
            system=centre.system,
            token=centre.token(USER),
            folder=folder,
            drop=lambda: portal.call(centre.ssh.drop),
        )


@contextmanager
def live_world(root: Path, site: Site) -> Iterator[World]:
    """Over an OpenSSH server of our own beside the live centre's, and the home of one of its users."""
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        issuer = stack.enter_context(portal.wrap_async_context_manager(Issuer(site.clients(), ttl=3600)))
        server = stack.enter_context(faults.sshd(site, root))
        settings = site.settings(issuer, root / "secret", probing=False)
        settings["clusters"][0]["ssh"] |= {"port": server.port, "host_keys": {"known_hosts": str(server.known_hosts)}}
        folder = Path(tempfile.mkdtemp(prefix="tus-", dir=site.home(site.user)))
        stack.callback(shutil.rmtree, folder)
        faults.give(folder, site.user)
        gateway, line = behind_a_line(portal, stack, write_settings(settings, root / "flamecrest.yaml"), root)
        yield World(
            portal,
            gateway,
            line,
            system=site.system,
            token=issuer.mint(site.user),
            folder=folder,
            drop=server.cut,
        )
