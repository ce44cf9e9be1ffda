"""Files on this machine's own disc: the Files port by plain system calls, to drive the HTTP room without SSH."""

# ruff: noqa: ARG002 -- a port's method takes what the port says

from __future__ import annotations

import asyncio
import grp
import hashlib
import os
import pwd
import re
import shutil
import stat as bits
import tarfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from flamecrest.server.errors import Invalid, PreconditionFailed, TooLarge, Upstream
from flamecrest.server.files.listing_filter import ALL_ENTRIES, ListingFilter
from flamecrest.server.files.values import (
    DEFAULT_COMPRESSION,
    DEFAULT_LISTING,
    DEFAULT_WRITE,
    CompressOptions,
    ListingEntry,
    ListOptions,
    Stat,
    TextRange,
    WriteOptions,
    WriteResult,
    kind_letter,
    permission_letters,
)

from .local_operations import LocalOperations, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import ChecksumAlgorithm, Compression

_CHUNK = 65536

T = TypeVar("T")


async def _do(words: str, function: Callable[..., T], *args: Any, **options: Any) -> T:
    with said(words):
        return await asyncio.to_thread(function, *args, **options)


class LocalReader:
    """An open file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.content: bytes | None = None
        self.stat = _stat(os.fstat(fd))

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        left = (self.stat.size if end is None else end) - start
        while left:
            chunk = await asyncio.to_thread(os.pread, self._fd, min(_CHUNK, left), start)
            start += len(chunk)
            if not chunk:
                raise Upstream("The file became shorter while it was read")
            left -= len(chunk)
            yield chunk


class LocalFiles(LocalOperations):
    """The Files port. `opened` counts what is open, so that a test sees what was left behind."""

    def __init__(self) -> None:
        self.opened = 0

    async def ls(
        self,
        path: str,
        deadline: Deadline,
        options: ListOptions = DEFAULT_LISTING,
        *,
        listing_filter: ListingFilter = ALL_ENTRIES,
    ) -> list[ListingEntry]:
        def look() -> list[ListingEntry]:
            if not bits.S_ISDIR(os.lstat(path).st_mode):
                return [_entry(path, path, options.numeric, follow=options.dereference)]
            found = []
            for folder, folders, names in os.walk(path):
                if not options.hidden:
                    folders[:] = [name for name in folders if not name.startswith(".")]
                for name in folders + names:
                    if options.hidden or not name.startswith("."):
                        full = os.path.join(folder, name)  # noqa: PTH118 -- Path would tidy hostile names
                        found.append(
                            _entry(full, os.path.relpath(full, path), options.numeric, follow=options.dereference)
                        )
                if not options.recursive:
                    break
            return sorted(found, key=lambda entry: entry.name)

        entries = await _do(f"ls: cannot access '{path}'", look)

        async def once() -> AsyncIterator[list[ListingEntry]]:
            yield entries

        return await listing_filter.collect(once())

    async def entry(self, path: str, deadline: Deadline) -> ListingEntry:
        return await _do(f"ls: cannot access '{path}'", _entry, path, path, False, follow=False)

    async def stat(self, path: str, deadline: Deadline, *, follow: bool = False) -> Stat:
        found = await _do(f"stat: cannot statx '{path}'", os.stat, path, follow_symlinks=follow)
        return _stat(found)

    async def file_type(self, path: str, deadline: Deadline) -> str:
        mode = (await self.stat(path, deadline)).mode
        data = b"" if bits.S_ISDIR(mode) else await self._read(path)
        if not data:
            return "directory" if bits.S_ISDIR(mode) else "empty"
        return "ASCII text" if data.isascii() else "data"

    async def head(self, path: str, deadline: Deadline, part: TextRange) -> str:
        units = await self._units(path, part.unit)
        return _text(units[: -part.count] if part.skip else units[: part.count], part.limit)

    async def tail(self, path: str, deadline: Deadline, part: TextRange) -> str:
        units = await self._units(path, part.unit)
        return _text(units[part.count - 1 :] if part.skip else units[-part.count :], part.limit)

    async def view(self, path: str, deadline: Deadline, *, offset: int, size: int) -> str:
        data = await self._read(path)
        return data[offset : offset + size].decode("utf-8", "replace")

    async def checksum(self, path: str, deadline: Deadline, *, algorithm: ChecksumAlgorithm = "sha256") -> str:
        with said(f"{algorithm}sum: {path}"):
            return hashlib.new(algorithm, await self._read(path)).hexdigest()

    async def chmod(self, path: str, mode: str, deadline: Deadline) -> None:
        if not re.fullmatch("[0-7]{1,4}", mode):
            raise Invalid(f"chmod: invalid mode: '{mode}'")
        await _do(f"chmod: cannot access '{path}'", os.chmod, path, int(mode, 8))

    async def chown(self, path: str, owner: str, group: str, deadline: Deadline) -> None:
        try:
            uid = pwd.getpwnam(owner).pw_uid if owner else -1
            gid = grp.getgrnam(group).gr_gid if group else -1
        except KeyError:
            raise Invalid(f"chown: invalid user: '{owner}:{group}'") from None
        await _do(f"chown: cannot access '{path}'", os.chown, path, uid, gid, follow_symlinks=False)

    async def mkdir(self, path: str, deadline: Deadline, *, parents: bool = False, exist_ok: bool = False) -> None:
        if exist_ok and await asyncio.to_thread(Path(path).is_dir):
            return
        make = (lambda: os.makedirs(path, exist_ok=True)) if parents else (lambda: os.mkdir(path))  # noqa: PTH102, PTH103
        await _do(f"mkdir: cannot create directory '{path}'", make)

    async def symlink(self, target: str, link: str, deadline: Deadline) -> None:
        await _do(f"ln: failed to create symbolic link '{link}'", os.symlink, target, link)

    async def rm(self, path: str, deadline: Deadline) -> None:
        def remove() -> None:
            is_tree = Path(path).is_dir() and not Path(path).is_symlink()
            (shutil.rmtree if is_tree else os.unlink)(path)

        await _do(f"rm: cannot remove '{path}'", remove)

    async def upload(
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, options: WriteOptions = DEFAULT_WRITE
    ) -> WriteResult:
        folder = os.path.dirname(path)  # noqa: PTH120
        partial = folder + "/.part"
        there = await asyncio.to_thread(_stat_or_none, path)
        if options.exclusive and there is not None:
            raise PreconditionFailed(f"{path}: File exists")
        if options.precondition is not None:
            options.precondition(there)
        if options.parents:
            await asyncio.to_thread(os.makedirs, folder, exist_ok=True)
        with said(path):
            fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self.opened += 1
        try:
            async for chunk in chunks:
                await asyncio.to_thread(os.write, fd, chunk)
            stat = await asyncio.to_thread(_finish, fd, partial, path, options)
            return WriteResult(there is None, stat if options.report_stat else None)
        except BaseException:
            await asyncio.to_thread(os.unlink, partial)
            raise
        finally:
            os.close(fd)
            self.opened -= 1

    @asynccontextmanager
    async def download(
        self, path: str, deadline: Deadline, *, choose_start: Callable[[Stat], int | None] | None = None
    ) -> AsyncIterator[LocalReader]:
        with said(path):
            fd = os.open(path, os.O_RDONLY)
        self.opened += 1
        try:
            reader = LocalReader(fd)
            if not bits.S_ISREG(reader.stat.mode):
                raise Invalid(f"{path}: Is not a regular file")
            if choose_start is not None:
                choose_start(reader.stat)
            yield reader
        finally:
            os.close(fd)
            self.opened -= 1

    async def compress(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        options: CompressOptions = DEFAULT_COMPRESSION,
    ) -> None:
        def pack() -> None:
            with tarfile.open(target, f"w:{_suffix(options.compression)}", dereference=options.dereference) as archive:  # type: ignore[call-overload]
                archive.add(source, Path(source).name)

        await _do(f"tar: {source}: Cannot open", pack)

    async def extract(self, source: str, target: str, deadline: Deadline, *, compression: Compression = "gzip") -> None:
        def unpack() -> None:
            with tarfile.open(source, f"r:{_suffix(compression)}") as archive:  # type: ignore[call-overload]
                # the filter came with Python 3.11.4; nothing hostile is unpacked here
                archive.extractall(target, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))

        try:
            await _do(f"tar: {source}: Cannot open", unpack)
        except tarfile.TarError:
            raise Invalid("tar: This does not look like a tar archive") from None

    async def _read(self, path: str) -> bytes:
        return await _do(path, lambda: Path(path).read_bytes())

    async def _units(self, path: str, unit: Literal["bytes", "lines"]) -> list[bytes]:
        data = await self._read(path)
        return data.splitlines(keepends=True) if unit == "lines" else [bytes([byte]) for byte in data]


def _text(units: list[bytes], limit: int) -> str:
    data = b"".join(units)
    if len(data) > limit:
        raise TooLarge(f"That part of the file has more than {limit} bytes")
    return data.decode("utf-8", "replace")


def _suffix(compression: Compression) -> str:
    return {"none": "", "gzip": "gz", "bzip2": "bz2", "xz": "xz"}[compression]


def _stat(found: os.stat_result) -> Stat:
    return Stat(
        mode=found.st_mode,
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size,
        atime=int(found.st_atime),
        mtime=int(found.st_mtime),
        ctime=int(found.st_ctime),
        ino=found.st_ino,
        dev=found.st_dev,
        nlink=found.st_nlink,
        mtime_ns=found.st_mtime_ns,
    )


def _finish(fd: int, partial: str, path: str, options: WriteOptions) -> Stat:
    """Set mode and time of a complete upload and rename it."""
    if options.mode is not None:
        os.fchmod(fd, options.mode)
    if options.mtime is not None:
        os.utime(fd, (options.mtime, options.mtime))
    if options.precondition is not None:
        options.precondition(_stat_or_none(path))
    os.rename(partial, path)  # noqa: PTH104
    return _stat(os.fstat(fd))


def _stat_or_none(path: str) -> Stat | None:
    return _stat(os.stat(path)) if os.path.exists(path) else None  # noqa: PTH110, PTH116


def _entry(full: str, name: str, numeric: bool, *, follow: bool) -> ListingEntry:
    found = os.lstat(full)
    target = os.readlink(full) if bits.S_ISLNK(found.st_mode) else None  # noqa: PTH115
    if follow and target is not None and os.path.exists(full):  # noqa: PTH110
        found, target = os.stat(full), None  # noqa: PTH116
    user, group = str(found.st_uid), str(found.st_gid)
    if not numeric:
        user, group = pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name
    return ListingEntry(
        name=name,
        kind=kind_letter(found.st_mode),
        permissions=permission_letters(found.st_mode),
        user=user,
        group=group,
        size=found.st_size,
        modified=time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(found.st_mtime)),
        link_target=target,
        mtime=int(found.st_mtime),
    )
