"""Create an archive's entries below one directory over SFTP, with many small files in flight.

No entry can leave the directory: nothing is written through a symbolic link below it. Each directory on the path of an
entry was created here or was seen to be a directory, and no directory is removed here.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat as stat_bits
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Denied, GatewayError, Invalid, NotFound, TooLarge
from flamecrest.server.files.paths import NAME_MAX
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.sweeping import skip, sweep
from flamecrest.server.files.remote.times import U32_TIMES
from flamecrest.server.files.remote.writing import within_stall_timeout
from flamecrest.server.ssh.channels.sftp_packets import (
    FAILURE,
    FLAG_CREATE,
    FLAG_EXCLUSIVE,
    FLAG_WRITE,
    Attrs,
    SftpError,
)

from .entry_names import EntryRefused, entry_path, link_target
from .untar import ByteReader, Member, TruncatedArchive, members

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp

    from .port import UnpackLimits, UnpackResult

SMALL: Final = 128 * 1024  # bytes; such a file is read completely, so that the next one can start
IN_FLIGHT: Final = 64  # small files written at the same time
WINDOW: Final = 4 * 1024 * 1024  # bytes in flight of all small files, and the same of one large file
LATE: Final = 1000  # files whose times are set together, by a command
REMEMBERED: Final = 2 * 1024 * 1024  # bytes of names in the cache of known directories

# Sets the times of paths, in seconds; returns whether that succeeded for all.
Touch = Callable[[Sequence[tuple[bytes, int]]], Awaitable[bool]]


class Unpacker:
    """Unpacks one archive into one directory."""

    def __init__(
        self, sftp: Sftp, folder: bytes, outcome: UnpackResult, touch: Touch, *, setuid: bool, umask: int | None = None
    ) -> None:
        """Without `umask` modes are as the SFTP server creates files and directories."""
        self._sftp = sftp
        self._umask = umask
        self._touch = touch
        self._late: list[tuple[bytes, int]] = []  # paths and times that SFTP can't set
        self._root = folder.rstrip(b"/")
        self._outcome = outcome
        self._modes = 0o7777 if setuid else 0o777
        self._folders: set[bytes] = {b""}
        self._remembered = 0
        self._tasks: dict[bytes, asyncio.Task[None]] = {}  # by path, in order of their start
        self._bytes = 0

    async def run(self, blocks: ByteReader, bounds: UnpackLimits) -> None:
        """Create all entries. TruncatedArchive is raised after the complete ones were created."""
        count = 0
        try:
            async for member in members(blocks):
                count += 1
                if count > bounds.entries:
                    raise TooLarge(f"The archive has more than {bounds.entries} entries")
                if member.size > bounds.size:
                    raise TooLarge("The archive unpacks to more than is accepted")
                await self._attempt(member.name, partial(self._entry, member, blocks))
                if len(self._late) >= LATE:
                    await self._settle()
        except (TruncatedArchive, GatewayError):
            await self._settle()  # complete entries are kept
            raise
        except BaseException:
            self._cancel()
            raise
        await self._settle()

    async def _attempt(self, name: bytes, work: Callable[[], Awaitable[bool]]) -> None:
        """Create an entry and count the result."""
        try:
            if await work():
                self._outcome.created += 1
        except EntryRefused as refused:
            self._outcome.fail(os.fsdecode(name), str(refused))
        except SftpError as error:
            self._outcome.fail(os.fsdecode(name), _reason(error))

    async def _entry(self, member: Member, blocks: ByteReader) -> bool:
        """Create one entry, or start a task for it; return True if it was created."""
        at = entry_path(member.name)
        if member.kind == "other":
            raise EntryRefused("It is a device, a FIFO or nothing known")
        if not at:
            if member.kind == "folder":
                return False  # the target itself
            raise EntryRefused("It has no name")
        if member.kind == "folder":
            await self._way(at.rpartition(b"/")[0])
            await self._wait_for(at)
            return await self._folder(at, member.mode)
        await self._way(at.rpartition(b"/")[0])
        await self._wait_for(at)
        if member.kind == "symlink":
            return await self._symlink(at, link_target(at, member.target))
        if member.kind == "hardlink":
            return await self._hardlink(at, entry_path(member.target))
        if member.stored > SMALL or member.segments is not None:
            return await self._write(at, member, blocks)
        await self._begin(at, member, await blocks.exactly(member.stored))
        return False

    # --- directories and links

    async def _folder(self, at: bytes, mode: int) -> bool:
        """Ensure that a directory exists, not a link to one; return True if it was created."""
        if at in self._folders:
            return False
        path = self._path(at)
        made = False
        wanted = self._allowed(mode) | 0o700
        try:
            making, looking = self._sftp.mkdir(path, Attrs(mode=wanted & 0o1777)), self._sftp.lstat(path)
            self._sftp.forget(looking)
            await making
            await self._complete_mode(path, (await looking).mode or 0, wanted)
            made = True
            skip(self._sftp, path)
        except SftpError as error:
            try:
                found = await self._sftp.lstat(path)
            except SftpError:
                raise error from None
            if stat_bits.S_ISLNK(found.mode or 0):
                raise EntryRefused(f"'{os.fsdecode(at)}' is a symbolic link: nothing is written through it") from None
            if not stat_bits.S_ISDIR(found.mode or 0):
                raise EntryRefused(f"'{os.fsdecode(at)}' is not a folder") from None
        self._remembered += len(at) + 64
        if self._remembered > REMEMBERED:
            self._folders, self._remembered = {b""}, 0
        self._folders.add(at)
        return made

    def _allowed(self, mode: int) -> int:
        return mode & self._modes & ~(self._umask or 0)

    async def _complete_mode(self, path: bytes, made: int, wanted: int) -> None:
        """Set the bits that mkdir(2) ignores, and those that another umask of the server took. Inherited bits stay."""
        permissions = made if self._umask is None else wanted
        mode = (permissions & 0o777) | (made & 0o7000) | (wanted & 0o7000)
        if mode != stat_bits.S_IMODE(made):
            await self._sftp.setstat(path, Attrs(mode=mode))

    async def _way(self, at: bytes) -> None:
        """Ensure that a directory and its parents exist."""
        missing = []
        while at not in self._folders:
            missing.append(at)
            at = at.rpartition(b"/")[0]
        for folder in reversed(missing):
            await self._folder(folder, 0o777)

    async def _symlink(self, at: bytes, target: bytes) -> bool:
        temporary = self._temporary(at)
        await self._sftp.symlink(target, temporary)
        await self._land(temporary, at)
        return True

    async def _hardlink(self, at: bytes, target: bytes) -> bool:
        """Create a hard link to a file of the target. All directories on its path must not be links."""
        if not target or target == at:
            raise EntryRefused("The hard link leads nowhere")
        await self._settle()
        parts = target.split(b"/")
        ways = [b"/".join(parts[: n + 1]) for n in range(len(parts))]
        found = await asyncio.gather(*(self._sftp.lstat(self._path(way)) for way in ways), return_exceptions=True)
        for n, attrs in enumerate(found):
            if isinstance(attrs, BaseException):
                raise attrs
            kind = stat_bits.S_IFMT(attrs.mode or 0)
            if kind != (stat_bits.S_IFREG if n == len(ways) - 1 else stat_bits.S_IFDIR):
                raise EntryRefused("The hard link's target is not a file of the archive's folder")
        temporary = self._temporary(at)
        await self._sftp.hardlink(self._path(target), temporary)
        await self._land(temporary, at)
        self._discard(temporary)  # rename(2) leaves it if the path is a name of the same file already
        return True

    # --- files

    async def _begin(self, at: bytes, member: Member, content: bytes) -> None:
        """Start a task that writes a small file; waits while too many are in flight."""
        while self._tasks and (len(self._tasks) >= IN_FLIGHT or self._bytes + len(content) > WINDOW):
            await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            self._reap()

        async def put() -> None:
            try:
                await self._attempt(member.name, partial(self._put, at, member, content))
            finally:
                self._bytes -= len(content)

        self._bytes += len(content)
        self._tasks[at] = asyncio.create_task(put())

    async def _put(self, at: bytes, member: Member, content: bytes) -> bool:
        temporary = self._temporary(at)
        handle = await self._open(temporary, member)
        try:
            steps = range(0, len(content), self._sftp.write_size)
            sent = [self._sftp.write(handle, n, content[n : n + self._sftp.write_size]) for n in steps]
            await self._finish(handle, member, sent)
            await self._land(temporary, at, member.mtime)
        except BaseException:
            self._discard(temporary)
            raise
        return True

    async def _write(self, at: bytes, member: Member, blocks: ByteReader) -> bool:
        """Write a large or sparse file as it arrives; gaps between its segments stay holes."""
        temporary = self._temporary(at)
        handle = await self._open(temporary, member)
        sent: deque[asyncio.Future[None]] = deque()
        closed = False
        try:
            for start, length in member.segments if member.segments is not None else ((0, member.stored),):
                offset, end = start, start + length
                while offset < end:
                    data = await blocks.some(min(end - offset, self._sftp.write_size))
                    while len(sent) * self._sftp.write_size > WINDOW:
                        await within_stall_timeout(self._sftp, sent.popleft())
                    await self._sftp.room()
                    sent.append(self._sftp.write(handle, offset, data))
                    offset += len(data)
            closed = True
            await self._finish(handle, member, list(sent))
            await self._land(temporary, at, member.mtime)
        except BaseException:
            if not closed:
                self._sftp.forget(self._sftp.close_handle(handle))
            for future in sent:
                self._sftp.forget(future)
            self._discard(temporary)
            raise
        return True

    async def _open(self, temporary: bytes, member: Member) -> bytes:
        opening = self._sftp.open_file(
            temporary, FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE, Attrs(mode=self._allowed(member.mode) & 0o777)
        )
        try:
            handle = await opening
        except asyncio.CancelledError:
            self._discard(temporary)
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                self._sftp.forget(self._sftp.close_handle(opening.result()))
            raise
        sweep(self._sftp, temporary)
        return handle

    async def _finish(self, handle: bytes, member: Member, sent: list[asyncio.Future[None]]) -> None:
        """Set size, times and mode after the content, in one turn; closes the handle in any case."""
        size = member.size if member.segments is not None else None
        mode = self._allowed(member.mode) if self._umask is not None else None
        asked = [*sent]
        try:
            if mode is None and member.mode & self._modes & 0o7000:
                mode = ((await self._sftp.fstat(handle)).mode or 0) & 0o777 | member.mode & 0o7000
            if size is not None:
                asked.append(self._sftp.fsetstat(handle, Attrs(size=size)))
            # after the content: write(2) clears set-ID bits
            times = (int(time.time()), member.mtime) if member.mtime in U32_TIMES else (None, None)
            asked.append(self._sftp.fsetstat(handle, Attrs(mode=mode, atime=times[0], mtime=times[1])))
        finally:
            asked.append(self._sftp.close_handle(handle))
        try:
            for future in asked:
                await within_stall_timeout(self._sftp, future)
        except BaseException:
            for future in asked:
                self._sftp.forget(future)
            raise

    async def _land(self, temporary: bytes, at: bytes, mtime: int = 0) -> None:
        try:
            await within_stall_timeout(self._sftp, self._sftp.rename(temporary, self._path(at)))
        except SftpError as error:
            self._discard(temporary)
            if error.code == FAILURE:
                raise EntryRefused("A folder of this name is there already, or the cluster refused") from None
            raise
        except BaseException:
            self._discard(temporary)
            raise
        if mtime not in U32_TIMES:
            self._late.append((self._path(at), mtime))

    def _discard(self, temporary: bytes) -> None:
        # does not wait for the answer, as the caller may be cancelled
        self._sftp.forget(self._sftp.remove(temporary))

    # --- tasks

    async def _wait_for(self, at: bytes) -> None:
        """Wait for an earlier entry of the same name: the last one in the archive must win."""
        self._reap()
        if at in self._tasks:
            await asyncio.wait([self._tasks[at]])
            self._reap()

    async def _settle(self) -> None:
        try:
            while self._tasks:
                await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
                self._reap()
            late, self._late = self._late, []
            if late and not await self._touch(late):
                for path, _ in late:
                    name = os.fsdecode(path.removeprefix(self._root + b"/"))
                    self._outcome.fail(name, "Its time is beyond 1970 to 2106, and could not be set")
        except BaseException:
            self._cancel()
            raise

    def _reap(self) -> None:
        done = [at for at, task in self._tasks.items() if task.done()]
        failed = [error for at in done if (error := self._tasks.pop(at).exception()) is not None]
        if failed:
            self._cancel()
            raise failed[0]

    def _cancel(self) -> None:
        for task in self._tasks.values():
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            task.cancel()
        self._tasks.clear()

    def _path(self, at: bytes) -> bytes:
        return self._root + b"/" + at

    def _temporary(self, at: bytes) -> bytes:
        parent, slash, _ = at.rpartition(b"/")
        return self._path(parent + slash + b".flamecrest-unpack-" + secrets.token_hex(8).encode())


async def target_folder(sftp: Sftp, path: str) -> bytes:
    """Return the directory to unpack into, as bytes. Raises NotFound, Denied, Invalid."""
    try:
        found = await sftp.stat(os.fsencode(path))
    except SftpError as error:
        if any(len(part) > NAME_MAX for part in os.fsencode(path).split(b"/")):
            raise Invalid(f"bulk upload: {path}: File name too long") from None
        raise operation_error(error, f"bulk upload: {path}") from None
    if not stat_bits.S_ISDIR(found.mode or 0):
        raise Invalid(f"bulk upload: {path}: Not a directory")
    return os.fsencode(path)


def _reason(error: SftpError) -> str:
    match operation_error(error, ""):
        case NotFound():
            return "No such file or directory"
        case Denied():
            return "Permission denied"
    return "The cluster refused (disk full, quota, or a read-only file system?)"
