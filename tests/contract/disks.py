"""The files that jobs read and write: of this machine, or of the cluster by the Files port."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flamecrest.server.errors import NotFound
from flamecrest.server.files.port import Files
from flamecrest.server.files.values import ListOptions

from .gateways import soon


class Disk(Protocol):
    """What the contract cases need of a file system."""

    async def read(self, path: str) -> str: ...

    async def write(self, path: str, text: str) -> None: ...

    async def mkdir(self, path: str) -> None: ...

    async def symlink(self, target: str, path: str) -> None: ...

    async def names(self, path: str) -> list[str] | None:
        """The names in a directory, sorted; links end in @. None if there is no such directory."""
        ...


@dataclass(frozen=True)
class LocalDisk:
    """Files of this machine."""

    async def read(self, path: str) -> str:
        return await asyncio.to_thread(Path(path).read_text)

    async def write(self, path: str, text: str) -> None:
        await asyncio.to_thread(Path(path).write_text, text)

    async def mkdir(self, path: str) -> None:
        await asyncio.to_thread(Path(path).mkdir)

    async def symlink(self, target: str, path: str) -> None:
        await asyncio.to_thread(Path(path).symlink_to, target)

    async def names(self, path: str) -> list[str] | None:
        def scan() -> list[str]:
            with os.scandir(path) as entries:
                return sorted(entry.name + "@" * entry.is_symlink() for entry in entries)

        try:
            return await asyncio.to_thread(scan)
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class RemoteDisk:
    """Files of the cluster."""

    files: Files

    async def read(self, path: str) -> str:
        return await self.files.queries.view(path, soon(), offset=0, size=100_000)

    async def write(self, path: str, text: str) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield text.encode()

        await self.files.content.upload(path, chunks(), soon())

    async def mkdir(self, path: str) -> None:
        await self.files.changes.mkdir(path, soon())

    async def symlink(self, target: str, path: str) -> None:
        await self.files.changes.symlink(target, path, soon())

    async def names(self, path: str) -> list[str] | None:
        try:
            found = await self.files.queries.ls(path, soon(), ListOptions(hidden=True))
        except NotFound:
            return None
        return sorted(one.name + "@" * (one.link_target is not None) for one in found)
