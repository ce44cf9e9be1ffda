"""The operations that FirecREST v2 does not have, on the local disk, to test the HTTP room without SSH."""

# ruff: noqa: ARG002, PTH112, PTH123 -- the port's arguments; Path normalizes names

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import shutil
import stat as bits
from asyncio.subprocess import PIPE
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from flamecrest.server.errors import Conflict, Invalid, TooLarge, Upstream
from flamecrest.server.files.paths import within
from flamecrest.server.files.remote.commands import archive
from flamecrest.server.files.remote.commands.command_errors import check_success
from flamecrest.server.files.remote.commands.copying import copy
from flamecrest.server.files.remote.commands.space import usage_command
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.files.values import (
    DEFAULT_COMPRESSION,
    DEFAULT_LISTING,
    Compression,
    CompressOptions,
    DiskSpace,
    DiskUsage,
    FollowEvent,
    FollowPosition,
    ListOptions,
)
from flamecrest.server.ssh.channels.sftp_packets import Attrs
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.errors import StatError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import ListingEntry, ListOptions


T = TypeVar("T")


@contextlib.contextmanager
def said(prefix: str) -> Iterator[None]:
    """Turn an OSError into the error that the adapters over SSH raise."""
    try:
        yield
    except OSError as error:
        failure = operation_error(StatError(error.errno or 0), prefix)
        failure.detail = repr(error)
        raise failure from error


async def do(prefix: str, function: Callable[..., T], *args: Any, **options: Any) -> T:
    """Call a blocking function in a thread."""
    with said(prefix):
        return await asyncio.to_thread(function, *args, **options)


async def run(command: Command[T]) -> T:
    """Run a program of the adapters on this machine."""
    environment = {**os.environ, "LC_ALL": "C"}
    process = await asyncio.create_subprocess_exec(*command.argv, stdout=PIPE, stderr=PIPE, env=environment)
    try:
        stdout, stderr = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return command.parse(Output(process.returncode or 0, stdout, stderr))


class LocalOperations:
    """The second half of the Files port, built on the first."""

    ls: Any  # the other half's

    stat: Any

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
        prefix = f"tail: cannot open '{path}' for reading"
        require_regular(prefix, Attrs(mode=(await do(prefix, os.stat, path)).st_mode))
        follower = _Follower(path, *await do(prefix, _content, path))
        async with aclosing(follower.events(lines, after)) as events:
            yield events

    async def df(self, path: str, deadline: Deadline) -> DiskSpace:
        of = await do(f"df: {path}", os.statvfs, path)
        unit = of.f_frsize
        return DiskSpace(of.f_blocks * unit, of.f_bfree * unit, of.f_bavail * unit, of.f_files, of.f_ffree, None)

    async def du(self, path: str, deadline: Deadline) -> DiskUsage:
        await do(f"du: cannot access '{path}'", os.lstat, path)
        return await run(usage_command(path, f"du: cannot access '{path}'"))

    async def chmod(self, path: str, mode: str, deadline: Deadline) -> None:
        await run(Command(("chmod", "--", mode, path), check_success))

    async def chown(self, path: str, owner: str, group: str, deadline: Deadline) -> None:
        await do(f"chown: cannot access '{path}'", os.stat, path)
        if owner or group:
            await run(Command(("chown", "--", f"{owner}:{group}" if group else owner, path), check_success))

    async def mkdir(self, path: str, deadline: Deadline, *, parents: bool = False, exist_ok: bool = False) -> None:
        def make() -> None:
            if not ((parents or exist_ok) and os.path.isdir(path)):
                (os.makedirs if parents else os.mkdir)(path)

        await do(f"mkdir: cannot create directory '{path}'", make)

    async def symlink(self, target: str, link: str, deadline: Deadline) -> None:
        await do(f"ln: failed to create symbolic link '{link}'", os.symlink, target, link)

    async def rm(self, path: str, deadline: Deadline) -> None:
        prefix = f"rm: cannot remove '{path}'"
        plain = path.rstrip("/")
        if plain.rpartition("/")[2] in {"", ".", ".."}:
            raise Invalid(f"{prefix}: Invalid argument")
        is_tree = bits.S_ISDIR((await do(prefix, os.lstat, plain)).st_mode)
        if plain != path and not is_tree:
            raise Invalid(f"{prefix}: Not a directory")
        await do(prefix, shutil.rmtree if is_tree else os.unlink, plain)

    async def mv(self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False) -> None:
        prefix = f"mv: cannot move '{source}' to '{target}'"
        if any(path.rstrip("/").rpartition("/")[2] in {".", ".."} for path in (source, target)):
            raise Invalid(f"{prefix}: Invalid argument")
        slash = source[-1:] == "/" or target[-1:] == "/"
        source, target = source.rstrip("/"), target.rstrip("/")
        here = await do(f"mv: cannot stat '{source}'", os.lstat, source)
        if slash and not bits.S_ISDIR(here.st_mode):
            raise Invalid(f"{prefix}: Not a directory")
        if await asyncio.to_thread(os.path.lexists, target):
            if not overwrite:
                raise Conflict(f"{prefix}: File exists")
            there = await do(prefix, os.lstat, target)
            behind = await do(prefix, os.stat, source) if await asyncio.to_thread(os.path.exists, source) else here
            if (there.st_dev, there.st_ino) in {(one.st_dev, one.st_ino) for one in (here, behind)}:
                raise Invalid(f"{prefix}: they are the same file")
        if within(target, source):
            raise Invalid(f"{prefix}: a directory can't be moved into itself")
        try:
            await do(prefix, os.rename, source, target)
        except Upstream as error:
            if "cross-device" in error.public:
                hint = "they are on different file systems; copy it, or use /transfer/mv"
                raise Invalid(f"{prefix}: {hint}") from None
            raise

    async def cp(
        self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False, dereference: bool = False
    ) -> None:
        await run(copy(source, target, overwrite=overwrite, dereference=dereference))

    async def touch(self, path: str, deadline: Deadline, *, mtime: int | None = None) -> None:
        def touch() -> None:
            if not os.path.lexists(path):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            os.utime(path, None if mtime is None else (mtime, mtime))

        await do(f"touch: cannot touch '{path}'", touch)

    async def truncate(self, path: str, size: int, deadline: Deadline) -> None:
        prefix = f"truncate: cannot open '{path}' for writing"
        require_regular(prefix, Attrs(mode=(await do(prefix, os.stat, path)).st_mode))
        try:
            await asyncio.to_thread(os.truncate, path, size)
        except OSError:
            larger = f"truncate: cannot make '{path}' {size} bytes large"
            raise TooLarge(f"{larger}: more than the file system or your quota takes") from None

    async def compress(
        self, source: str, target: str, deadline: Deadline, options: CompressOptions = DEFAULT_COMPRESSION
    ) -> None:
        await run(Command(archive.compress(source, target, options).argv, archive.finished))

    async def extract(self, source: str, target: str, deadline: Deadline, *, compression: Compression = "gzip") -> None:
        await run(Command(archive.extract(source, target, compression=compression).argv, archive.finished))


class _Follower:
    """Rereads the whole file at each poll. After a rotation it misses the last lines of the old file."""

    def __init__(self, path: str, data: bytes, ino: int) -> None:
        self._path = path
        self._data = data
        self._ino = ino

    async def events(self, lines: int, after: FollowPosition | None) -> AsyncGenerator[FollowEvent | None]:
        offset = len(self._data) - len(b"".join(self._data.splitlines(keepends=True)[-lines:])) if lines else 0
        if after is not None:
            offset = after.offset
        ino = self._ino if after is None else after.ino
        while True:
            if ino != self._ino or offset > len(self._data):
                event: Literal["rotated", "truncated"] = "rotated" if ino != self._ino else "truncated"
                ino, offset = self._ino, 0
                yield FollowEvent(event, "", 0, FollowPosition(ino, 0))
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            text = decoder.decode(self._data[offset:])
            if text:
                start, offset = offset, len(self._data) - len(decoder.getstate()[0])
                yield FollowEvent("added", text, start, FollowPosition(ino, offset))
            else:
                yield None
            await asyncio.sleep(0.01)
            with contextlib.suppress(FileNotFoundError):
                self._data, self._ino = await asyncio.to_thread(_content, self._path)


def _content(path: str) -> tuple[bytes, int]:
    with open(path, "rb") as file:
        return file.read(), os.fstat(file.fileno()).st_ino
