"""The Files port on the local disk, to test the HTTP room without SSH. It runs the contract suite of the port."""

# ruff: noqa: ARG002, PTH103, PTH104, PTH110, PTH114, PTH116, PTH118, PTH120, PTH115 -- the port's arguments; Path normalizes names

from __future__ import annotations

import asyncio
import grp
import hashlib
import os
import pwd
import re
import secrets
import stat as bits
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flamecrest.server.errors import Conflict, Invalid, PreconditionFailed, TooLarge, Upstream
from flamecrest.server.files.listing_filter import ALL_ENTRIES, ListingFilter
from flamecrest.server.files.remote.commands import command_errors
from flamecrest.server.files.remote.reading.download import UnopenedReader
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.files.settling import wait_until_settled
from flamecrest.server.files.values import (
    DEFAULT_LISTING,
    DEFAULT_WRITE,
    ListingEntry,
    ListOptions,
    Stat,
    TextRange,
    WriteOptions,
    WriteResult,
    kind_letter,
    permission_letters,
)
from flamecrest.server.ssh.channels.sftp_packets import Attrs
from flamecrest.server.ssh.command import Command

from .local_operations import LocalOperations, do, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import ChecksumAlgorithm

_CHUNK = 65536


class LocalReader:
    """An open file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.content: bytes | None = None
        self.stat = _stat(os.fstat(fd))
        if self.stat.size <= _CHUNK and len(data := os.pread(fd, 1 << 20, 0)) != self.stat.size:  # /proc, /sys
            self.content, self.stat = data, self.stat._replace(size=len(data), ino=0)

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        end = self.stat.size if end is None else end
        while start < end:
            chunk = self.content[start:end] if self.content else await self._read(start, min(_CHUNK, end - start))
            start += len(chunk)
            if start == end:
                await asyncio.to_thread(self._check_unchanged)
            yield chunk

    async def _read(self, start: int, size: int) -> bytes:
        chunk = await asyncio.to_thread(os.pread, self._fd, size, start)
        if not chunk:
            raise Upstream("The file became shorter while it was read")
        return chunk

    def _check_unchanged(self) -> None:
        now, before = _stat(os.fstat(self._fd)), self.stat
        if self.content is None and now.version[1:4] != before.version[1:4]:
            raise Upstream("The file was changed while it was read")


class LocalFiles(LocalOperations):
    """The Files port. `opened` counts the open files, so a test can detect a leak."""

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
            itself = os.lstat(path)
            link = bits.S_ISLNK(itself.st_mode) and not path.endswith("/") and not options.dereference
            if link or not bits.S_ISDIR(os.stat(path).st_mode if os.path.exists(path) else itself.st_mode):
                return [_entry(path, path, options.numeric, follow=options.dereference)]
            found = []
            for folder, folders, names in os.walk(path):
                if not options.hidden:
                    folders[:] = [name for name in folders if not name.startswith(".")]
                for name in folders + names:
                    if options.hidden or not name.startswith("."):
                        full = os.path.join(folder, name)
                        shown = os.path.relpath(full, path)
                        found.append(_entry(full, shown, options.numeric, follow=options.dereference))
                if not options.recursive:
                    break
            return found

        entries = await do(f"ls: cannot access '{path}'", look)

        async def once() -> AsyncIterator[list[ListingEntry]]:
            yield entries

        return await listing_filter.collect(once())

    async def entry(self, path: str, deadline: Deadline) -> ListingEntry:
        return await do(f"ls: cannot access '{path}'", _entry, path, path, False, follow=False)

    async def stat(self, path: str, deadline: Deadline, *, follow: bool = False) -> Stat:
        found = await do(f"stat: cannot statx '{path}'", os.stat, path, follow_symlinks=follow)
        return _stat(found)

    async def file_type(self, path: str, deadline: Deadline) -> str:
        await do(f"file: cannot open '{path}'", os.lstat, path)
        return await run(Command(("file", "-b", "--", path), command_errors.parse_file_type))

    async def head(self, path: str, deadline: Deadline, part: TextRange) -> str:
        units = await self._units(path, part.unit)
        return _text(units[: max(0, len(units) - part.count)] if part.skip else units[: part.count], part.limit)

    async def tail(self, path: str, deadline: Deadline, part: TextRange) -> str:
        units = await self._units(path, part.unit)
        return _text(units[max(0, part.count - 1) :] if part.skip else units[-part.count :], part.limit)

    async def view(self, path: str, deadline: Deadline, *, offset: int, size: int) -> str:
        data = await self._read(path)
        return data[offset : offset + size].decode("utf-8", "replace")

    async def checksum(self, path: str, deadline: Deadline, *, algorithm: ChecksumAlgorithm = "sha256") -> str:
        data = await self._read(path)
        name = "blake2b" if algorithm == "blake2b" else algorithm
        return hashlib.new(name, data).hexdigest()

    async def upload(
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, options: WriteOptions = DEFAULT_WRITE
    ) -> WriteResult:
        prefix = f"upload: {path}"
        target, there = await asyncio.to_thread(_writable_target, path, options, prefix)
        if options.precondition is not None:
            if there is not None and await wait_until_settled(there):
                there = await asyncio.to_thread(_stat_or_none, target)
            options.precondition(there)
        folder = os.path.dirname(target)
        if options.parents:
            await do(prefix, _make_parents, folder, prefix)
        temporary = f"{folder}/.flamecrest-upload-{secrets.token_hex(8)}"
        fd = await do(prefix, os.open, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self.opened += 1
        try:
            async for chunk in chunks:
                await asyncio.to_thread(os.write, fd, chunk)
            stat = await asyncio.to_thread(_finish, fd, temporary, target, there, options, prefix)
            return WriteResult(there is None, stat if options.report_stat else None)
        finally:
            with suppress(FileNotFoundError):
                await asyncio.to_thread(os.unlink, temporary)
            os.close(fd)
            self.opened -= 1

    @asynccontextmanager
    async def download(
        self, path: str, deadline: Deadline, *, choose_start: Callable[[Stat], int | None] | None = None
    ) -> AsyncIterator[LocalReader | UnopenedReader]:
        prefix = f"download: {path}"
        found = _stat(await do(prefix, os.stat, path))
        if await wait_until_settled(found):
            found = _stat(await do(prefix, os.stat, path))
        require_regular(prefix, Attrs(mode=found.mode))
        if choose_start is not None and choose_start(found) is None:
            yield UnopenedReader(found)
            return
        fd = await do(prefix, os.open, path, os.O_RDONLY)
        self.opened += 1
        try:
            yield await asyncio.to_thread(LocalReader, fd)
        finally:
            os.close(fd)
            self.opened -= 1

    async def _read(self, path: str) -> bytes:
        require_regular(path, Attrs(mode=(await do(path, os.stat, path)).st_mode))
        return await do(path, lambda: Path(path).read_bytes())

    async def _units(self, path: str, unit: Literal["bytes", "lines"]) -> list[bytes]:
        data = await self._read(path)
        return re.findall(rb"[^\n]*\n|[^\n]+", data) if unit == "lines" else [bytes([byte]) for byte in data]


def _writable_target(path: str, options: WriteOptions, prefix: str) -> tuple[str, Stat | None]:
    if path.rpartition("/")[2] in {"", ".", ".."}:
        raise Invalid(f"{prefix}: Is a directory")
    if options.exclusive and os.path.lexists(path):
        raise PreconditionFailed(f"{prefix}: File exists")
    if os.path.islink(path) and not os.path.exists(path):
        raise Conflict(f"{prefix}: the target is a symbolic link that leads nowhere")
    target = os.path.realpath(path) if os.path.islink(path) else path
    there = _stat_or_none(target)
    if there is not None:
        require_regular(prefix, Attrs(mode=there.mode))
    return target, there


def _set_attributes(fd: int, there: Stat | None, options: WriteOptions) -> None:
    mode = options.mode
    if mode is None and there is not None:
        mode = bits.S_IMODE(there.mode)
    if mode is not None:
        os.fchmod(fd, mode)
    if options.mtime is not None:
        os.utime(fd, (options.mtime, options.mtime))


def _finish(fd: int, temporary: str, target: str, there: Stat | None, options: WriteOptions, prefix: str) -> Stat:
    _set_attributes(fd, there, options)
    if options.precondition is not None:
        options.precondition(_stat_or_none(target))
    if options.exclusive:
        _link(temporary, target, prefix)
    else:
        os.rename(temporary, target)
    return _stat(os.stat(target))


def _make_parents(folder: str, prefix: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError:
        raise Invalid(f"{prefix}: Not a directory") from None


def _link(temporary: str, target: str, prefix: str) -> None:
    try:
        os.link(temporary, target)
        Path(temporary).unlink()  # sets ctime
    except FileExistsError:
        raise PreconditionFailed(f"{prefix}: File exists") from None


def _text(units: list[bytes], limit: int) -> str:
    data = b"".join(units)
    if len(data) > limit:
        raise TooLarge(f"That part of the file has more than {limit} bytes")
    return data.decode("utf-8", "replace")


def _stat(found: os.stat_result) -> Stat:
    return Stat(
        mode=found.st_mode,
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size,
        atime=int(found.st_atime),
        mtime=found.st_mtime_ns // 10**9,
        ctime=int(found.st_ctime),
        ino=found.st_ino,
        dev=found.st_dev,
        nlink=found.st_nlink,
        mtime_fraction=found.st_mtime_ns % 10**9,
        ctime_fraction=found.st_ctime_ns % 10**9,
        clock=time.time_ns() // 1000,
    )


def _stat_or_none(path: str) -> Stat | None:
    return _stat(os.stat(path)) if os.path.exists(path) else None


def _entry(full: str, name: str, numeric: bool, *, follow: bool) -> ListingEntry:
    found = os.lstat(full)
    target = os.readlink(full) if bits.S_ISLNK(found.st_mode) else None
    if follow and target is not None and os.path.exists(full):
        found, target = os.stat(full), None
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
        modified=time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(found.st_mtime_ns // 10**9)),
        link_target=target,
        mtime=found.st_mtime_ns // 10**9,
    )
