"""Pipelined SFTP on one channel: a future for each request; requests of one turn of the loop are sent together.

It does not know what the requests are for. Paths are bytes.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncssh

from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.ssh.transport import SshTransport

from .process import Shell
from .sftp_channel import SftpSession
from .sftp_packets import (
    CLOSE,
    EXTENDED,
    FSETSTAT,
    FSTAT,
    HANDLE,
    HELLO,
    LSTAT,
    MAX_PACKET,
    MKDIR,
    NO_ATTRS,
    OPEN,
    OPENDIR,
    READ,
    READ_SIZE,
    READDIR,
    READLINK,
    REALPATH,
    REMOVE,
    RENAME,
    RMDIR,
    SETSTAT,
    STAT,
    SYMLINK,
    WRITE,
    Attrs,
    Name,
    SftpError,
    attrs_reply,
    data_reply,
    extensions,
    handle_reply,
    limits_reply,
    names_reply,
    owner_names_reply,
    status_reply,
    statvfs_reply,
    string,
)

T = TypeVar("T")

_HEAD = struct.Struct(">IBI")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_AT = struct.Struct(">QI")  # offset, size


class Sftp:
    """The SFTP client of one connection, shared by all requests of its user.

    Every request method sends at once and returns a future, so a caller may make several requests before it waits.
    The server answers in order. Futures raise SftpError, or Lost when the channel has closed.
    """

    def __init__(self, transport: SshTransport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, tuple[asyncio.Future[Any], Callable[[bytes], object]]] = {}
        self._next = 0
        self._out: list[bytes | memoryview] = []
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._closed = False
        self.on_closed: Callable[[], None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._turn = asyncio.Lock()  # of those who wait for room
        self.extensions: dict[bytes, bytes] = {}
        self.stall_timeout = transport.stall_timeout  # seconds
        self.read_size = READ_SIZE
        self.write_size = READ_SIZE
        self.requests = 0
        self.swept: dict[bytes, float] = {}  # when each folder was searched for files left behind, by a monotonic clock

    # --- opening and the channel's life

    async def open(
        self, seconds: float, shell: Shell | None = None, text: bytes = b"", line: bytes | None = None
    ) -> None:
        """Start the subsystem, or with a shell the program of `text`. Raises ChannelRefused, Unsupported, Upstream.

        NotStarted with the login's words if the server has not begun within so many seconds. With `line`, a shell
        line, the login starts an SFTP server whatever it is given.
        """
        hello = self._loop.create_future()
        session = SftpSession(self, self._transport, hello)
        if shell is None:
            self._channel = await self._transport.open_channel(session, line)
        else:
            shell.run(session, text)
            self._channel = shell.channel
        try:
            async with asyncio.timeout(seconds):
                await self._begin(self._channel, hello)
        except TimeoutError:
            raise session.hung(seconds) from None

    async def _begin(self, channel: asyncssh.SSHClientChannel[bytes], hello: asyncio.Future[bytes]) -> None:
        """Exchange the first packets."""
        with suppress(OSError, asyncssh.Error):  # closed: `hello` has the error
            channel.write(HELLO)
        self.extensions = extensions(await hello)
        if b"limits@openssh.com" in self.extensions:
            limits = await self._ask(EXTENDED, string(b"limits@openssh.com"), limits_reply)
            self.read_size = min(limits[1], MAX_PACKET // 2) or READ_SIZE
            self.write_size = min(limits[2], MAX_PACKET // 2) or READ_SIZE

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def lost(self, error: Exception | None) -> None:
        """Fail every request without an answer: the channel has closed."""
        if self._closed:
            return
        self._closed = True
        self._writable.set()
        if self.on_closed is not None:
            self.on_closed()
        waiting, self._waiting = self._waiting, {}
        for future, _ in waiting.values():
            if not future.done():
                _fail(future, Lost("The SSH connection was lost", detail=str(error) if error else None))

    # --- requests

    def stat(self, path: bytes) -> asyncio.Future[Attrs]:
        return self._ask(STAT, string(path), attrs_reply)

    def lstat(self, path: bytes) -> asyncio.Future[Attrs]:
        return self._ask(LSTAT, string(path), attrs_reply)

    def fstat(self, handle: bytes) -> asyncio.Future[Attrs]:
        return self._ask(FSTAT, string(handle), attrs_reply)

    def setstat(self, path: bytes, attrs: Attrs) -> asyncio.Future[None]:
        return self._ask(SETSTAT, string(path) + attrs.packed(), status_reply)

    def fsetstat(self, handle: bytes, attrs: Attrs) -> asyncio.Future[None]:
        return self._ask(FSETSTAT, string(handle) + attrs.packed(), status_reply)

    def open_file(self, path: bytes, flags: int, attrs: Attrs = NO_ATTRS) -> asyncio.Future[bytes]:
        return self._ask(OPEN, string(path) + _U32.pack(flags) + attrs.packed(), handle_reply)

    def close_handle(self, handle: bytes) -> asyncio.Future[None]:
        return self._ask(CLOSE, string(handle), status_reply)

    def read(self, handle: bytes, offset: int, size: int) -> asyncio.Future[bytes]:
        """At most `size` bytes; b"" at the end of the file."""
        return self._ask(READ, string(handle) + _AT.pack(offset, size), data_reply)

    def write(self, handle: bytes, offset: int, *parts: bytes | memoryview) -> asyncio.Future[None]:
        """Write the parts one behind the other."""
        size = sum(map(len, parts))
        return self._ask(WRITE, string(handle) + _AT.pack(offset, size), status_reply, parts, size)

    def opendir(self, path: bytes) -> asyncio.Future[bytes]:
        return self._ask(OPENDIR, string(path), handle_reply)

    def readdir(self, handle: bytes) -> asyncio.Future[list[Name]]:
        """The next entries; an empty list at the end."""
        return self._ask(READDIR, string(handle), names_reply)

    def readlink(self, path: bytes) -> asyncio.Future[list[Name]]:
        return self._ask(READLINK, string(path), names_reply)

    def realpath(self, path: bytes) -> asyncio.Future[list[Name]]:
        """The path with links and dots resolved, as the only entry's name."""
        return self._ask(REALPATH, string(path), names_reply)

    def remove(self, path: bytes) -> asyncio.Future[None]:
        return self._ask(REMOVE, string(path), status_reply)

    def mkdir(self, path: bytes, attrs: Attrs = NO_ATTRS) -> asyncio.Future[None]:
        return self._ask(MKDIR, string(path) + attrs.packed(), status_reply)

    def rmdir(self, path: bytes) -> asyncio.Future[None]:
        return self._ask(RMDIR, string(path), status_reply)

    def symlink(self, target: bytes, link: bytes) -> asyncio.Future[None]:
        # OpenSSH expects the arguments in the reverse order of the draft, and other servers follow it
        return self._ask(SYMLINK, string(target) + string(link), status_reply)

    def rename(self, old: bytes, new: bytes) -> asyncio.Future[None]:
        """Rename. An existing file is replaced only if the server has OpenSSH's posix-rename."""
        if b"posix-rename@openssh.com" in self.extensions:
            return self._ask(EXTENDED, string(b"posix-rename@openssh.com") + string(old) + string(new), status_reply)
        return self._ask(RENAME, string(old) + string(new), status_reply)

    def rename_new(self, old: bytes, new: bytes) -> asyncio.Future[None]:
        """Rename as in version 3: fails if the new name exists."""
        return self._ask(RENAME, string(old) + string(new), status_reply)

    def owner_names(self, uid: int, gid: int) -> asyncio.Future[tuple[str, str]]:
        """The names of a user and a group, "" for none; SftpError UNSUPPORTED if the server lacks the extension."""
        body = string(b"users-groups-by-id@openssh.com") + string(_U32.pack(uid)) + string(_U32.pack(gid))
        return self._ask(EXTENDED, body, owner_names_reply)

    def statvfs(self, path: bytes) -> asyncio.Future[tuple[int, ...]]:
        """The eleven numbers of statvfs@openssh.com; SftpError UNSUPPORTED if the server lacks it."""
        return self._ask(EXTENDED, string(b"statvfs@openssh.com") + string(path), statvfs_reply)

    def hardlink(self, old: bytes, new: bytes) -> asyncio.Future[None]:
        """Make a hard link; SftpError UNSUPPORTED if the server lacks the extension."""
        return self._ask(EXTENDED, string(b"hardlink@openssh.com") + string(old) + string(new), status_reply)

    def copy_data(self, source: bytes, offset: int, size: int, target: bytes) -> asyncio.Future[None]:
        """Copy bytes between open files, to the same offset; SftpError UNSUPPORTED without the extension copy-data."""
        body = string(source) + _U64.pack(offset) + _U64.pack(size) + string(target) + _U64.pack(offset)
        return self._ask(EXTENDED, string(b"copy-data") + body, status_reply)

    def fsync(self, handle: bytes) -> asyncio.Future[None]:
        """Have the server write the file to disk; does nothing if the server lacks the extension."""
        if b"fsync@openssh.com" in self.extensions:
            return self._ask(EXTENDED, string(b"fsync@openssh.com") + string(handle), status_reply)
        done: asyncio.Future[None] = self._loop.create_future()
        done.set_result(None)
        return done

    @asynccontextmanager
    async def handle(self, opening: asyncio.Future[bytes]) -> AsyncIterator[bytes]:
        """The handle of an open request, closed afterwards without waiting for the server."""
        try:
            handle = await opening
        except asyncio.CancelledError:
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                self.forget(self.close_handle(opening.result()))
            raise
        try:
            yield handle
        finally:
            self.forget(self.close_handle(handle))

    @staticmethod
    def forget(future: asyncio.Future[Any]) -> None:
        """Ignore the outcome of a request."""
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def room(self) -> None:
        """Wait until the channel takes more data; in turn, else all who wait would send when it takes that of one."""
        async with self._turn:
            await self._writable.wait()

    async def answered_all(self, seconds: float) -> None:
        """Wait until the server has answered all requests, at most so many seconds. Nobody may wait for an answer."""
        if pending := [future for future, _ in self._waiting.values() if not future.done()]:
            await asyncio.wait(pending, timeout=seconds)

    # --- the wire

    def _ask(
        self,
        kind: int,
        body: bytes,
        parse: Callable[[bytes], T],
        data: Sequence[bytes | memoryview] = (),
        size: int = 0,
    ) -> asyncio.Future[T]:
        """Send a request: its body, then `data` of `size` bytes."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            _fail(future, Lost("The SSH connection was lost"))
            return future
        self._next = number = (self._next + 1) & 0xFFFFFFFF
        self.requests += 1
        self._waiting[number] = (future, parse)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(_HEAD.pack(len(body) + size + 5, kind, number))
        self._out.append(body)
        self._out += data
        return future

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._channel is not None and not self._closed:
            try:
                self._transport.send(self._channel, b"".join(out))
            except (OSError, asyncssh.Error) as error:
                self.lost(error)

    def data_arrived(self, number: int, data: bytes) -> None:
        """Handle the data that answers a read request."""
        future, parse = self._waiting.pop(number, (None, None))
        if future is not None and not future.done():
            if parse is data_reply:
                future.set_result(data)
            else:
                _fail(future, Upstream("The cluster's SFTP server sent something malformed", detail="DATA"))

    def answered(self, packet: bytes) -> None:
        """Handle a packet from the server, without its length."""
        number = _U32.unpack_from(packet, 1)[0]
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return
        future, parse = waiting
        if future.done():  # the caller has gone, so a handle that was opened is closed here
            if packet[0] == HANDLE:
                self.forget(self.close_handle(handle_reply(packet)))
            return
        try:
            future.set_result(parse(packet))
        except SftpError as error:
            _fail(future, error)
        except (struct.error, IndexError) as error:
            _fail(future, Upstream("The cluster's SFTP server sent something malformed", detail=str(error)))

    def pause(self) -> None:
        self._writable.clear()

    def resume(self) -> None:
        self._writable.set()


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    """Fail a request; its caller may be gone: asyncio must not warn about an exception that was never retrieved."""
    future.set_exception(error.with_traceback(None))  # it refers to the frame, and that to the future
    future.exception()
