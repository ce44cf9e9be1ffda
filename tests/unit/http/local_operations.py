"""The operations that FirecREST v2 does not have, on this machine's own disc, for the HTTP room."""

# ruff: noqa: ARG002, PTH118, PTH123 -- a port takes what it says; Path would tidy hostile names

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from abc import abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from flamecrest.server.errors import Conflict, Denied, Invalid, NotFound
from flamecrest.server.files.values import (
    DEFAULT_LISTING,
    DiskSpace,
    DiskUsage,
    FollowEvent,
    FollowPosition,
    ListOptions,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.errors import GatewayError
    from flamecrest.server.files.values import ListingEntry, ListOptions, Stat


_KINDS: dict[int, type[GatewayError]] = {
    errno.ENOENT: NotFound,
    errno.EEXIST: Conflict,
    errno.ENOTEMPTY: Conflict,
    errno.EACCES: Denied,
    errno.EPERM: Denied,
}


@contextlib.contextmanager
def said(words: str) -> Iterator[None]:
    """Turn an OSError into what the command line tool would say."""
    try:
        yield
    except OSError as error:
        raise _KINDS.get(error.errno or 0, Invalid)(f"{words}: {error.strerror}", detail=repr(error)) from error


class LocalOperations:
    """Half of the Files port, over the other half."""

    ls: Any  # the other half's

    @abstractmethod
    async def stat(self, path: str, deadline: Deadline, *, follow: bool = False) -> Stat: ...

    @asynccontextmanager
    async def scan(
        self, path: str, deadline: Deadline, options: ListOptions = DEFAULT_LISTING
    ) -> AsyncIterator[AsyncIterator[Sequence[ListingEntry]]]:
        entries = await self.ls(path, deadline, options)

        async def batches() -> AsyncIterator[Sequence[ListingEntry]]:
            for at in range(0, len(entries), 2):
                yield entries[at : at + 2]

        yield batches()

    @asynccontextmanager
    async def follow(
        self, path: str, deadline: Deadline, *, lines: int = 10, after: FollowPosition | None = None
    ) -> AsyncIterator[AsyncIterator[FollowEvent | None]]:
        found = await self.stat(path, deadline, follow=True)

        async def pieces() -> AsyncIterator[FollowEvent | None]:
            offset = found.size if after is None else after.offset
            while True:
                data = await asyncio.to_thread(_part, path, offset)
                if data:
                    start, offset = offset, offset + len(data)
                    yield FollowEvent(
                        "added", data.decode("utf-8", "replace"), start, FollowPosition(found.ino, offset)
                    )
                else:
                    yield None
                await asyncio.sleep(0.01)

        yield pieces()

    async def df(self, path: str, deadline: Deadline) -> DiskSpace:
        await self.stat(path, deadline)
        of = await asyncio.to_thread(os.statvfs, path)
        unit = of.f_frsize
        return DiskSpace(of.f_blocks * unit, of.f_bfree * unit, of.f_bavail * unit, of.f_files, of.f_ffree, None)

    async def du(self, path: str, deadline: Deadline) -> DiskUsage:
        await self.stat(path, deadline)

        def walked() -> list[os.stat_result]:
            inside = (os.path.join(at, one) for at, folders, files in os.walk(path) for one in folders + files)
            return [os.lstat(name) for name in (path, *inside)]

        found = await asyncio.to_thread(walked)
        return DiskUsage(
            sum(s.st_size for s in found), sum(s.st_blocks * 512 for s in found), len(found), complete=True
        )

    async def mv(self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False) -> None:
        await self._free(source, target, deadline, "mv", overwrite=overwrite)
        with said(f"mv: cannot move '{source}' to '{target}'"):
            await asyncio.to_thread(os.rename, source, target)

    async def cp(
        self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False, dereference: bool = False
    ) -> None:
        await self._free(source, target, deadline, "cp", overwrite=overwrite)
        with said(f"cp: cannot copy '{source}' to '{target}'"):
            if await asyncio.to_thread(os.path.isdir, source):
                await asyncio.to_thread(shutil.copytree, source, target, dirs_exist_ok=overwrite)
            else:
                await asyncio.to_thread(shutil.copy2, source, target)

    async def touch(self, path: str, deadline: Deadline, *, mtime: int | None = None) -> None:
        def touched() -> None:
            if not os.path.lexists(path):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
            os.utime(path, None if mtime is None else (mtime, mtime))

        with said(f"touch: cannot touch '{path}'"):
            await asyncio.to_thread(touched)

    async def truncate(self, path: str, size: int, deadline: Deadline) -> None:
        await self.stat(path, deadline)
        if await asyncio.to_thread(os.path.isdir, path):
            raise Invalid(f"truncate: cannot open '{path}' for writing: Is a directory")
        with said(f"truncate: cannot open '{path}' for writing"):
            await asyncio.to_thread(os.truncate, path, size)

    async def _free(self, source: str, target: str, deadline: Deadline, what: str, *, overwrite: bool) -> None:
        await self.stat(source, deadline)
        if not overwrite and await asyncio.to_thread(os.path.lexists, target):
            raise Conflict(f"{what}: cannot put '{source}' at '{target}': File exists")


def _part(path: str, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read()
