"""The Uploads port over SFTP. The state of an upload is a file beside its target, on the cluster.

The offset of an upload is recorded after its data was synced; the size of the data file is never used. Bytes after
the recorded offset, as a killed gateway leaves them, are written again: no gap or torn block gets into the target.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import (
    Conflict,
    GatewayError,
    Gone,
    Invalid,
    Locked,
    NotFound,
    StaleState,
    Unavailable,
    Upstream,
)
from flamecrest.server.files.paths import check_new_file
from flamecrest.server.files.remote.replacement.landing import land
from flamecrest.server.files.remote.replacement.questions import made
from flamecrest.server.files.remote.replacement.targets import find_target, resolve_target
from flamecrest.server.files.remote.writing import within_stall_timeout
from flamecrest.server.files.resumable.append import UploadWriter
from flamecrest.server.files.resumable.identity import find_file
from flamecrest.server.files.resumable.lock import UploadLock, acquire, released_soon
from flamecrest.server.files.resumable.port import PieceChecksum, UploadStatus
from flamecrest.server.files.resumable.state import UploadFiles, UploadKey, UploadState
from flamecrest.server.files.resumable.storage import (
    begin,
    discard,
    explained,
    fence,
    mark_removed,
    opened_state,
    read,
    settled_writer,
    stop_writer,
    sweep,
    writer_begins,
    writer_ended,
)
from flamecrest.server.files.values import DEFAULT_WRITE, WriteOptions
from flamecrest.server.ssh.channels.sftp_packets import (
    FLAG_READ,
    FLAG_WRITE,
    NO_SUCH_FILE,
    Attrs,
    SftpError,
)

if TYPE_CHECKING:
    from flamecrest.server.files.remote.replacement.opening import OpenFile
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

T = TypeVar("T")

LIFETIME = 7 * 24 * 3600  # seconds after its creation for which an upload can be resumed
RESCUE = 10.0  # seconds to record the offset over another connection after one was lost


class RemoteUploads:
    """The Uploads port over one user's session."""

    def __init__(self, session: Session, *, lifetime: float = LIFETIME) -> None:
        self._session = session
        self._lifetime = lifetime

    async def create(self, path: str, length: int | None, metadata: str, deadline: Deadline) -> UploadStatus:
        check_new_file(path)
        key = UploadKey.new(path, int(time.time() + self._lifetime))

        async def use(sftp: Sftp) -> UploadFiles:
            target = await find_target(
                self._session, sftp, os.fsencode(path), DEFAULT_WRITE, f"upload: {path}", deadline
            )
            names = key.beside(target.path)
            await sweep(sftp, names.folder)
            state = UploadState(0, length, target.new_mode or 0, metadata)
            await begin(sftp, names, state, path, new=target.existing is None)
            return names

        names = await self._sftp(use, deadline, path, resumable=False)
        with suppress(GatewayError):
            found = await find_file(self._session, names.data, deadline)
            if not found.size:  # else it is another file: others may write to the folder
                key = replace(key, file=found.identity)
        made = UploadStatus(key, 0, length, metadata)
        return await self.look(key, deadline) if made.complete else made

    async def look(self, key: UploadKey, deadline: Deadline) -> UploadStatus:
        async def use(sftp: Sftp) -> UploadStatus | None:
            names = await self._names(sftp, key)
            state = await read(sftp, names)
            if state is None:
                return None
            at = names.of(state)
            if state.offset != state.length:
                state = await self._settled(sftp, at, state, deadline)
            if state is not None and state.offset == state.length and not state.finished:
                # a complete upload must be at its target before it is reported
                state = await self._complete(sftp, key, at)
            return None if state is None else UploadStatus(key, state.offset, state.length, state.metadata)

        return await self._sftp(use, deadline, key.path) or await self._finished(key, deadline)

    async def append(
        self,
        key: UploadKey,
        offset: int,
        chunks: AsyncIterator[bytes],
        deadline: Deadline,
        *,
        length: int | None = None,
        checksum: PieceChecksum | None = None,
    ) -> UploadStatus:
        async with self._opened(key, deadline) as (sftp, names):
            state: UploadState | None = None
            try:
                async with acquire(sftp, names.lock) as lock:
                    state = await self._append(sftp, key, names, lock, offset, chunks, length, checksum)
            except SftpError as error:
                _require_missing(error)
            if state is not None:
                if state.finished:
                    _in_step(offset, state.offset)
                return UploadStatus(key, state.offset, state.length, state.metadata)
        done = await self._finished(key, deadline)
        _in_step(offset, done.offset)
        return done

    async def remove(self, key: UploadKey, deadline: Deadline) -> None:
        async def use(sftp: Sftp) -> bool:
            names = await self._names(sftp, key)
            state = await read(sftp, names)
            if state is None:
                return False
            await discard(sftp, names.of(state))
            return True

        if not await self._sftp(use, deadline, key.path):
            await self._finished(key, deadline)  # its file stays

            async def mark(sftp: Sftp) -> None:
                await mark_removed(sftp, await self._names(sftp, key))

            await self._sftp(mark, deadline, key.path)

    # --- steps

    async def _append(
        self,
        sftp: Sftp,
        key: UploadKey,
        names: UploadFiles,
        lock: UploadLock,
        offset: int,
        chunks: AsyncIterator[bytes],
        length: int | None,
        checksum: PieceChecksum | None,
    ) -> UploadState:
        """Append as the owner of the lock, and finish a complete upload. Returns the new state."""
        async with opened_state(sftp, names, lock) as (head, state):
            if state.finished:
                return state
            _in_step(offset, state.offset)
            whole, at = _length(state, length), names.of(state)
            async with self._data(sftp, key, at, state, lock) as file:
                if await stop_writer(at, state):
                    tail = UploadWriter(sftp, file.handle, head, lock, state, whole)
                    writer_begins(at.data, tail.outstanding)
                    await self._receive(tail, at, chunks, checksum)
                    if tail.state.offset == tail.state.length:
                        await self._finish(sftp, key, at, tail.state, lock, file.handle)
                    return tail.state
                await fence(sftp, at, state, lock, file.handle, self._identify)
        return await self._append(sftp, key, names, lock, offset, chunks, length, checksum)

    @staticmethod
    async def _settled(sftp: Sftp, names: UploadFiles, state: UploadState, deadline: Deadline) -> UploadState | None:
        """The state after an earlier request, if one is about to end: its client asks where to go on."""
        released = await released_soon(sftp, names.lock)
        ended = await settled_writer(names.data, deadline.left() / 2)
        return await read(sftp, names) if released or ended or state.writing else state

    async def _complete(self, sftp: Sftp, key: UploadKey, names: UploadFiles) -> UploadState | None:
        """Put an upload that has all its bytes in place; None if it is gone."""
        try:
            async with acquire(sftp, names.lock) as lock, opened_state(sftp, names, lock) as (_, state):
                if not state.finished:
                    at = names.of(state)
                    async with self._data(sftp, key, at, state, lock) as file:
                        await self._finish(sftp, key, at, state, lock, file.handle)
                return state
        except SftpError as error:
            _require_missing(error)
            return None

    @asynccontextmanager
    async def _data(
        self, sftp: Sftp, key: UploadKey, names: UploadFiles, state: UploadState, lock: UploadLock
    ) -> AsyncIterator[OpenFile]:
        """Open the data file. Raises Conflict if another file has taken its place, as far as its identity is known.

        In a folder that others may write, they can rename another file of the same user there.
        """
        expected = state.file if state.part else key.file
        async with lock.opened(sftp, names.data, FLAG_READ | FLAG_WRITE) as file:
            if expected:
                found = await find_file(self._session, names.data, Deadline.after(RESCUE))
                if found.identity != expected or found.size != file.attrs.size:
                    raise Conflict(f"upload: {key.path}: another file is in the place of the data")
            yield file

    async def _identify(self, path: bytes) -> int:
        with suppress(GatewayError):
            return (await find_file(self._session, path, Deadline.after(RESCUE))).identity
        return 0

    async def _receive(
        self, tail: UploadWriter, names: UploadFiles, chunks: AsyncIterator[bytes], checksum: PieceChecksum | None
    ) -> None:
        """Write the chunks. On a failure record the offset of what is on disk."""
        try:
            await tail.take(chunks, checksum)
            writer_ended(names.data)
        except Upstream:
            if checksum is None:
                with suppress(GatewayError, SftpError):
                    await self._rescue(names, tail)
            raise
        except Locked:
            raise  # another request owns the upload now
        except Exception:
            with suppress(GatewayError, SftpError):
                await tail.checkpoint(end=True, keep=checksum is None)
                writer_ended(names.data)
            raise
        finally:
            tail.forget()
            tail.outstanding.ended.set()

    async def _rescue(self, names: UploadFiles, tail: UploadWriter) -> None:
        """Record the acknowledged offset over another connection, after the first was lost."""

        async def use(sftp: Sftp) -> None:
            async with (
                tail.lock.opened(sftp, names.data, FLAG_READ | FLAG_WRITE) as (handle, _),
                tail.lock.opened(sftp, names.state, FLAG_READ | FLAG_WRITE) as (head, _),
            ):
                await sftp.fsync(handle)
                await sftp.write(head, 0, replace(tail.state, offset=tail.safe, writing=False).head())
            if tail.lock.fresh:
                await sftp.remove(names.lock)

        await self._session.sftp(use, Deadline.after(RESCUE), repeatable=True)

    async def _finish(
        self, sftp: Sftp, key: UploadKey, names: UploadFiles, state: UploadState, lock: UploadLock, handle: bytes
    ) -> None:
        """Rename a complete upload to its target, with the mode of the file that it replaces."""
        prefix = f"upload: {key.path}"
        target, found = await asyncio.gather(
            find_target(self._session, sftp, os.fsencode(key.path), DEFAULT_WRITE, prefix, Deadline.after(RESCUE)),
            sftp.fstat(handle),
        )
        if target.path != names.target:
            raise StaleState(f"{prefix}: the path leads to another file now")
        size, length = found.size or 0, state.length or 0
        if size < length:
            raise Conflict(f"{prefix}: the data does not have the length that it must have")
        await lock.beat()
        if size > length:  # of a piece that was not accepted
            await sftp.fsetstat(handle, Attrs(size=length))
        if target.existing is None:
            await sftp.fsetstat(handle, Attrs(mode=state.mode))
        await within_stall_timeout(sftp, sftp.fsync(handle))
        temporary = made(names.data, await sftp.fstat(handle))
        await land(self._session, sftp, temporary, target, WriteOptions(sync=True), prefix, opened=handle)
        await self._record(sftp, key, names, state, lock)

    async def _record(
        self, sftp: Sftp, key: UploadKey, names: UploadFiles, state: UploadState, lock: UploadLock
    ) -> None:
        """Remove the state file of a finished upload, unless nothing else shows that it is finished."""
        try:
            await self._finished(key, Deadline.after(RESCUE))
            known = True
        except GatewayError:
            known = not key.file  # there is no way to know it on this cluster
        if known:
            sftp.forget(sftp.remove(names.state))
            return
        async with lock.opened(sftp, names.state, FLAG_READ | FLAG_WRITE) as (head, _):
            await within_stall_timeout(sftp, sftp.write(head, 0, replace(state, finished=True).packed()))

    async def _finished(self, key: UploadKey, deadline: Deadline) -> UploadStatus:
        """Return a completed upload: its target is its data file. Raises NotFound, Gone."""
        found = None
        if key.expires > time.time() and key.file:
            with suppress(NotFound):
                found = await find_file(self._session, os.fsencode(key.path), deadline)
        if found is None or found.identity != key.file:
            raise (NotFound if key.expires > time.time() else Gone)("There is no such upload any more")
        return UploadStatus(key, found.size, found.size, "")

    # --- helpers

    async def _names(self, sftp: Sftp, key: UploadKey) -> UploadFiles:
        """Return the files of an upload. If it has expired, they are removed and Gone is raised."""
        prefix = f"upload: {key.path}"
        target, _ = await resolve_target(sftp, os.fsencode(key.path), prefix)
        names = key.beside(target)
        if key.expires <= time.time():
            with suppress(Conflict):  # a damaged state file
                state = await read(sftp, names)
                await discard(sftp, names if state is None else names.of(state))
            await discard(sftp, names)
            raise Gone("The upload has expired")
        return names

    async def _sftp(
        self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, path: str, *, resumable: bool = True
    ) -> T:
        try:
            return await self._session.sftp(use, deadline)
        except SftpError as error:
            raise explained(error, path) from None
        except Upstream as error:
            if resumable:
                raise _again(error) from None
            raise

    @asynccontextmanager
    async def _opened(self, key: UploadKey, deadline: Deadline) -> AsyncIterator[tuple[Sftp, UploadFiles]]:
        try:
            async with self._session.open_sftp(deadline) as sftp:
                async with deadline.enforce("Opening the upload"):
                    names = await self._names(sftp, key)
                yield sftp, names
        except SftpError as error:
            raise explained(error, key.path) from None
        except Upstream as error:
            raise _again(error) from None


def _require_missing(error: SftpError) -> None:
    """Raise the error unless a file of the upload is missing: another request completed or removed it."""
    if error.code != NO_SUCH_FILE:
        raise error


def _again(error: Upstream) -> Unavailable:
    """Turn a failure into Unavailable: clients of the tus protocol resume after a 5xx only."""
    return Unavailable(f"{error.public}: the upload can be resumed", detail=error.detail, retry_after=1)


def _in_step(given: int, offset: int) -> None:
    if given != offset:
        raise StaleState(f"`Upload-Offset` is {given}, and the upload is at {offset}")


def _length(state: UploadState, length: int | None) -> int | None:
    """The length of an upload, perhaps declared by this request."""
    if length is None:
        return state.length
    if state.length not in {None, length}:
        raise Invalid("`Upload-Length` can't be changed")
    if length < state.offset:
        raise Invalid("`Upload-Length` is less than what has arrived")
    return length
