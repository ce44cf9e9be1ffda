"""The OpenSSH client, as somebody would use it by hand: what the gateway's bulk and big files are measured beside."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from tests.live.site import Site

CIPHER = "aes128-gcm@openssh.com"
PATIENCE = 300  # seconds that a command may take
STARTING = 15  # seconds in which a connection must be open


@dataclass(frozen=True, slots=True)
class OpenSsh:
    """Runs commands on the site as its user; `folder` is ours, for the socket of an open connection."""

    site: Site
    folder: Path

    @staticmethod
    def found() -> bool:
        """Whether there is a client here."""
        return shutil.which("ssh") is not None

    async def run(
        self, command: str, *, stdin: IO[bytes] | int = asyncio.subprocess.DEVNULL, shared: bool = False
    ) -> tuple[float, bytes]:
        """Seconds that the command took, and what it printed; RuntimeError when it failed."""
        return await self._run(command, stdin, asyncio.subprocess.PIPE, shared=shared)

    async def discard(self, command: str) -> float:
        """Seconds that the command took; what it prints goes nowhere, without passing through us."""
        seconds, _ = await self._run(command, asyncio.subprocess.DEVNULL, asyncio.subprocess.DEVNULL, shared=False)
        return seconds

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """An open connection, which `run(shared=True)` uses."""
        process = await asyncio.create_subprocess_exec(*self._argv("-M", "-N", shared=True))
        try:
            async with asyncio.timeout(STARTING):
                while not self._socket.exists():
                    if process.returncode is not None:
                        raise RuntimeError(f"ssh -M ended with {process.returncode}")
                    await asyncio.sleep(0.02)
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    @property
    def _socket(self) -> Path:
        return self.folder / "ssh-control"

    async def _run(self, command: str, stdin: IO[bytes] | int, stdout: int, *, shared: bool) -> tuple[float, bytes]:
        argv = self._argv(shared=shared)
        start = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *argv, command, stdin=stdin, stdout=stdout, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(PATIENCE):
                output, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            raise RuntimeError(f"ssh ended with {process.returncode}: {said.decode('utf-8', 'replace')[-2000:]}")
        return seconds, output or b""

    def _argv(self, *more: str, shared: bool) -> list[str]:
        settings = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
            "LogLevel=ERROR",
            f"UserKnownHostsFile={self.site.known_hosts}",
            f"ControlPath={self._socket if shared else 'none'}",
        ]
        options = [word for setting in settings for word in ("-o", setting)]
        where = ["-p", str(self.site.port), "-i", str(self.site.key(self.site.user)), "-l", self.site.user]
        return ["ssh", "-F", "none", "-T", "-c", CIPHER, *options, *where, *more, self.site.host]
