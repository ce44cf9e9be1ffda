"""SFTP version 3 with the extensions, limits, error codes and argument order of OpenSSH 9.2.

Files are local. Owners and permissions are those of permissions.py.
"""

# Paths are arbitrary bytes, and pathlib accepts text only.
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH115, PTH116, PTH118, PTH211
from __future__ import annotations

import asyncio
import errno
import os
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.constants import (
    FX_BAD_MESSAGE,
    FX_FAILURE,
    FX_NO_SUCH_FILE,
    FX_OP_UNSUPPORTED,
    FX_PERMISSION_DENIED,
    FXF_APPEND,
    FXF_CREAT,
    FXF_EXCL,
    FXF_READ,
    FXF_TRUNC,
    FXF_WRITE,
    FXP_EXTENDED_REPLY,
)
from asyncssh.packet import SSHPacket, String
from asyncssh.sftp import SFTPAttrs, SFTPError, SFTPLimits, SFTPName, SFTPServerHandler

from flamecrest.sandbox.permissions import READ, WRITE, View

if TYPE_CHECKING:
    from flamecrest.sandbox.users import UnixUser, UnixUsers

RequestHandler = Callable[[Any, SSHPacket], Awaitable[object]]

MAX_PACKET = 256 * 1024  # OpenSSH's SFTP_MAX_MSG_LENGTH
MAX_DATA = MAX_PACKET - 1024
BY_ID = b"users-groups-by-id@openssh.com"
EXTENSIONS = (
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"hardlink@openssh.com", b"1"),
    (b"fsync@openssh.com", b"1"),
    (b"lsetstat@openssh.com", b"1"),
    (b"limits@openssh.com", b"1"),
    (BY_ID, b"1"),
    (b"copy-data", b"1"),
)
_COPY_BLOCK = 1024 * 1024
_DENIED = (FX_PERMISSION_DENIED, "Permission denied")
_MISSING = (FX_NO_SUCH_FILE, "No such file")
_BAD = (FX_BAD_MESSAGE, "Bad message")
# errno_to_portable() of OpenSSH's sftp-server.c: all others are "Failure".
_STATUS = {
    errno.ENOENT: _MISSING,
    errno.ENOTDIR: _MISSING,
    errno.EBADF: _MISSING,
    errno.ELOOP: _MISSING,
    errno.EPERM: _DENIED,
    errno.EACCES: _DENIED,
    errno.EFAULT: _DENIED,
    errno.ENAMETOOLONG: _BAD,
    errno.EINVAL: _BAD,
    errno.ENOSYS: (FX_OP_UNSUPPORTED, "Operation unsupported"),
}


class OpenFile:
    """An open file: its descriptor, its path without links, and whether writes append."""

    def __init__(self, fd: int, path: bytes, *, append: bool) -> None:
        self.fd = fd
        self.path = path
        self.append = append


class FileServer(asyncssh.SFTPServer):
    """The file operations of one user."""

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes], users: UnixUsers, user: UnixUser) -> None:
        super().__init__(chan)
        self.users = users
        self._view = View(users, user)
        self._user = user

    def format_user(self, uid: int | None) -> str:
        return self.users.name(uid)

    def format_group(self, gid: int | None) -> str:
        return self.users.name(gid)

    def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> OpenFile:
        found = self._view.find(path, follow=not pflags & FXF_EXCL)
        wanted = (READ if pflags & FXF_READ else 0) | (WRITE if pflags & FXF_WRITE else 0)
        if os.path.lexists(found):
            self._view.check(found, wanted)
        elif pflags & FXF_CREAT:
            self._view.check_entry(found)
        flags = os.O_RDWR if wanted == READ | WRITE else os.O_WRONLY if wanted == WRITE else os.O_RDONLY
        for ours, theirs in ((FXF_CREAT, os.O_CREAT), (FXF_TRUNC, os.O_TRUNC), (FXF_EXCL, os.O_EXCL)):
            flags |= theirs if pflags & ours else 0
        append = bool(pflags & FXF_APPEND)
        mode = 0o666 if attrs.permissions is None else attrs.permissions & 0o7777
        # Opening a named pipe must not block the sandbox. Regular files ignore O_NONBLOCK.
        fd = os.open(found, flags | (os.O_APPEND if append else 0) | os.O_CLOEXEC | os.O_NONBLOCK, mode)
        return OpenFile(fd, found, append=append)

    def close(self, file_obj: object) -> None:
        os.close(_opened(file_obj).fd)

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        return os.pread(_opened(file_obj).fd, min(size, MAX_DATA), offset)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        file = _opened(file_obj)
        rest = memoryview(data)
        while rest:
            done = os.write(file.fd, rest) if file.append else os.pwrite(file.fd, rest, offset)
            rest = rest[done:]
            offset += done
        return len(data)

    def lstat(self, path: bytes) -> SFTPAttrs:
        found = self._view.find(path, follow=False)
        return self._attributes(found, os.lstat(found))

    def stat(self, path: bytes) -> SFTPAttrs:
        found = self._view.find(path)
        return self._attributes(found, os.stat(found))

    def fstat(self, file_obj: object) -> SFTPAttrs:
        file = _opened(file_obj)
        return self._attributes(file.path, os.fstat(file.fd))

    def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        found = self._view.find(path)
        self._set(found, found, attrs)

    def lsetstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        found = self._view.find(path, follow=False)
        if stat.S_ISLNK(os.lstat(found).st_mode) and attrs.permissions is not None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        self._set(found, found, attrs)

    def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        file = _opened(file_obj)
        self._set(file.fd, file.path, attrs)

    def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        """List a directory. Errors are raised here, as opendir does, not at the first entry."""
        found = self._view.find(path)
        self._view.check(found, READ)
        with os.scandir(found) as entries:  # read it completely: a client may close it early
            return _each(self._entries(found, list(entries)))

    def remove(self, path: bytes) -> None:
        found = self._view.find(path, follow=False)
        self._view.check_entry(found)
        os.unlink(found)

    def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:
        found = self._view.find(path.rstrip(b"/"), follow=False)
        self._view.check_entry(found)
        os.mkdir(found, 0o777 if attrs.permissions is None else attrs.permissions & 0o777)

    def rmdir(self, path: bytes) -> None:
        found = self._view.find(path.rstrip(b"/"), follow=False)
        self._view.check_entry(found)
        os.rmdir(found)

    def realpath(self, path: bytes) -> bytes:
        return self._view.find(path).rstrip(b"/") or b"/"

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        if os.path.lexists(self._view.find(newpath, follow=False)):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        self.posix_rename(oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        old, new = (self._view.find(path, follow=False) for path in (oldpath, newpath))
        self._view.check_entry(old)
        self._view.check_entry(new)
        os.rename(old, new)

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self._view.find(path, follow=False))

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        found = self._view.find(newpath, follow=False)
        self._view.check_entry(found)
        os.symlink(oldpath, found)

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        old, new = (self._view.find(path, follow=False) for path in (oldpath, newpath))
        self._view.check_entry(new)
        os.link(old, new, follow_symlinks=False)

    def statvfs(self, path: bytes) -> os.statvfs_result:
        return os.statvfs(self._view.find(path))

    def fstatvfs(self, file_obj: object) -> os.statvfs_result:
        return os.fstatvfs(_opened(file_obj).fd)

    def fsync(self, file_obj: object) -> None:
        os.fsync(_opened(file_obj).fd)

    def _attributes(self, path: bytes, found: os.stat_result) -> SFTPAttrs:
        attrs = SFTPAttrs.from_local(found)
        attrs.uid, attrs.gid = self.users.owner(path.rstrip(b"/"), found)
        attrs.atime, attrs.mtime = int(found.st_atime) & 0xFFFFFFFF, found.st_mtime_ns // 10**9 & 0xFFFFFFFF
        return attrs

    def _entry(self, name: bytes, path: bytes, found: os.stat_result) -> SFTPName:
        attrs = self._attributes(path, found)
        low, attrs.mtime = attrs.mtime, found.st_mtime_ns // 10**9
        entry = SFTPName(name, attrs=attrs)
        self.format_longname(entry)  # with the whole time
        attrs.mtime = low
        return entry

    def _entries(self, path: bytes, entries: Iterable[os.DirEntry[bytes]]) -> Iterator[SFTPName]:
        for name in (b".", b".."):
            real = os.path.normpath(os.path.join(path, name))
            yield self._entry(name, real, os.lstat(real))
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed in the meantime
                continue
            yield self._entry(entry.name, entry.path, found)

    def _set(self, file: int | bytes, path: bytes, attrs: SFTPAttrs) -> None:
        """Change the given attributes. A descriptor was checked for writing when it was opened."""
        if attrs.size is not None:
            if isinstance(file, bytes):
                self._view.check(path, WRITE)
            os.truncate(file, attrs.size)
        changes = (attrs.permissions, attrs.mtime, attrs.uid, attrs.gid)
        if any(change is not None for change in changes) and not self._view.owns(path):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        if attrs.permissions is not None:
            os.chmod(file, attrs.permissions & 0o7777)
        if attrs.atime is not None and attrs.mtime is not None:
            os.utime(file, (attrs.atime, attrs.mtime), follow_symlinks=isinstance(file, int))
        if (attrs.uid, attrs.gid) not in {(None, None), (self._user.uid, self._user.gid)}:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _opened(file: object) -> OpenFile:
    if not isinstance(file, OpenFile):
        raise TypeError(f"{file!r} is not an open file")
    return file


async def _each(entries: Iterator[SFTPName]) -> AsyncIterator[SFTPName]:
    for entry in entries:
        yield entry


class _Raw:
    """An extended reply that is encoded already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def encode(self, _version: int) -> bytes:
        return self._body


def _openssh(handler: RequestHandler) -> RequestHandler:
    """Wrap a handler: OpenSSH's error codes and texts, and the delay of Faults.slow."""

    async def answer(self: OpenSSHHandler, packet: SSHPacket) -> object:
        if delay := self.delay():
            await asyncio.sleep(delay)
        try:
            return await handler(self, packet)
        except OSError as error:
            code, text = _STATUS.get(error.errno or 0, (FX_FAILURE, "Failure"))
            raise SFTPError(code, text) from None

    answer.__name__ = handler.__name__  # asyncssh logs operations by this name
    return answer


async def _limits(_self: object, packet: SSHPacket) -> SFTPLimits:
    packet.check_end()
    return SFTPLimits(MAX_PACKET, MAX_DATA, MAX_DATA, os.sysconf("SC_OPEN_MAX") - 5)


async def _names_by_id(self: OpenSSHHandler, packet: SSHPacket) -> _Raw:
    """users-groups-by-id@openssh.com: the names for a list of user numbers, and for a list of group numbers."""
    lists = packet.get_string(), packet.get_string()
    packet.check_end()
    answer = b""
    for numbers in lists:
        if len(numbers) % 4:
            raise SFTPError(*_BAD)
        names = (self.files.users.name(number) for (number,) in struct.iter_unpack(">I", numbers))
        answer += String(b"".join(String("" if name.isdigit() else name) for name in names))
    return _Raw(answer)


async def _copy_data(self: OpenSSHHandler, packet: SSHPacket) -> None:
    source, offset, length = packet.get_string(), packet.get_uint64(), packet.get_uint64()
    target, position = packet.get_string(), packet.get_uint64()
    packet.check_end()
    src, dst = self.opened(source), self.opened(target)
    if src is None or dst is None or src is dst:
        raise SFTPError(FX_FAILURE, "Failure")
    left = length or None
    while left is None or left > 0:
        data = os.pread(src.fd, min(_COPY_BLOCK, _COPY_BLOCK if left is None else left), offset)
        if not data:
            break
        self.files.write(dst, position, data)
        offset, position = offset + len(data), position + len(data)
        left = None if left is None else left - len(data)
        await asyncio.sleep(0)


def _handlers(table: dict[Any, Any]) -> dict[Any, Any]:
    known = {name for name, _version in EXTENSIONS}
    return {kind: _openssh(table[kind]) for kind in table if isinstance(kind, int) or kind in known}


class OpenSSHHandler(SFTPServerHandler):
    """asyncssh's SFTP protocol handler with OpenSSH's behaviour."""

    _extensions = list(EXTENSIONS)  # noqa: RUF012 - as in the base class
    _return_types = {**SFTPServerHandler._return_types, BY_ID: FXP_EXTENDED_REPLY}  # noqa: RUF012, SLF001 - see below
    _packet_handlers = _handlers(  # asyncssh's table with other rows
        {
            **SFTPServerHandler._packet_handlers,  # noqa: SLF001 - there is no public way to add a request type
            b"limits@openssh.com": _limits,
            BY_ID: _names_by_id,
            b"copy-data": _copy_data,
        }
    )

    def __init__(
        self,
        files: FileServer,
        reader: asyncssh.SSHReader[bytes],
        writer: asyncssh.SSHWriter[bytes],
        delay: Callable[[], float],
    ) -> None:
        super().__init__(files, reader, writer, 3)
        self.files = files
        self.delay = delay
        self._nonstandard_symlink = True  # OpenSSH's argument order for every client: the target first

    def opened(self, handle: bytes) -> OpenFile | None:
        file = self._file_handles.get(handle)
        return file if isinstance(file, OpenFile) else None

    async def recv_packet(self) -> SSHPacket:
        packet = await super().recv_packet()
        if len(packet.get_full_payload()) > MAX_PACKET:
            raise asyncssh.SFTPBadMessage("bad message: too long")
        return packet
