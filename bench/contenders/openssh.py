"""The OpenSSH client as a user runs it by hand. Bulk downloads and big files are compared with it."""

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
TIMEOUT = 300  # seconds for a command
CONNECT_TIMEOUT = 15  # seconds


@dataclass(frozen=True, slots=True)
class OpenSsh:
    """Runs commands on a site as its first user. `folder` holds the control socket of an open connection."""

    site: Site
    folder: Path

    @staticmethod
    def installed() -> bool:
        return shutil.which("ssh") is not None

    async def run(
        self, command: str, *, stdin: IO[bytes] | int = asyncio.subprocess.DEVNULL, shared: bool = False
    ) -> tuple[float, bytes]:
        """Run a command; return its duration in seconds and its standard output.

        Raises RuntimeError if the exit status is not 0.
        """
        return await self._run(command, stdin, asyncio.subprocess.PIPE, shared=shared)

    async def discard(self, command: str) -> float:
        """Run a command with its standard output going to /dev/null; return its duration in seconds."""
        seconds, _ = await self._run(command, asyncio.subprocess.DEVNULL, asyncio.subprocess.DEVNULL, shared=False)
        return seconds

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep a connection open for `run(shared=True)`."""
        process = await asyncio.create_subprocess_exec(*self._argv("-M", "-N", shared=True))
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                while not self._socket.exists():
                    if process.returncode is not None:
                        raise RuntimeError(f"ssh -M ended with status {process.returncode}")
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
            async with asyncio.timeout(TIMEOUT):
                output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            raise RuntimeError(
                f"ssh ended with status {process.returncode}: {errors.decode('utf-8', 'replace')[-2000:]}"
            )
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
        destination = ["-p", str(self.site.port), "-i", str(self.site.key(self.site.user)), "-l", self.site.user]
        return ["ssh", "-F", "none", "-T", "-c", CIPHER, *options, *destination, *more, self.site.host]
