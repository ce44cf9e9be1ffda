"""The Bulk port over SSH: one remote tar packs; unpacking is pipelined SFTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Invalid, Unsupported, Upstream
from flamecrest.server.files.remote.replacement.questions import target
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.errors import StatError

from . import inflate, packing
from .port import ArchiveFormat, Selection, UnpackLimits, UnpackResult
from .selection import select
from .unpacking import Unpacker, target_folder
from .untar import ByteReader, DamagedArchive, EndMarkFilter, TruncatedArchive
from .zipping import ZipWriter

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.stream import RemoteStream
    from flamecrest.server.ssh.port import Session

OUTPUT_TIMEOUT: Final = 300.0  # seconds without output from tar, which walks directories without writing
INPUT_TIMEOUT: Final = 24 * 3600.0  # seconds in which a program does not read its input: the client may read slowly
PIECE: Final = 64 * 1024
MAX_PADDING: Final = 16 * 1024 * 1024  # bytes that may follow the end mark

# Input: time and path of each file. Links are not followed.
_TOUCH: Final = r"""status=0
while IFS= read -r -d '' when && IFS= read -r -d '' path; do
    touch -c -h -m -d "@$when" -- "$path" || status=1
done
exit "$status"
"""


class RemoteBulk:
    """The Bulk port of one user on one cluster."""

    def __init__(self, session: Session, bounds: UnpackLimits | None = None) -> None:
        self._session = session
        self._bounds = bounds or UnpackLimits()

    async def select(self, paths: Sequence[str], base: str | None, deadline: Deadline) -> Selection:
        return await self._session.sftp(lambda sftp: select(sftp, paths, base), deadline, repeatable=True)

    @asynccontextmanager
    async def pack(
        self, selection: Selection, form: ArchiveFormat, deadline: Deadline
    ) -> AsyncIterator[AsyncGenerator[bytes]]:
        program = packing.command(form, selection.base)
        async with self._session.stream(program, deadline) as stream:
            feeding = asyncio.create_task(_feed(stream, _listed(selection.names)))
            try:
                async with aclosing(stream.chunks(OUTPUT_TIMEOUT)) as chunks:  # type: ignore[type-var]
                    async with deadline.enforce("Starting the archive"):
                        first = await anext(chunks, b"")
                    if not first:
                        packing.check_available(await stream.wait(OUTPUT_TIMEOUT), form)
                    async with aclosing(_packed(_chain(first, chunks), stream, selection, form)) as packed:
                        yield packed
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)

    async def unpack(
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, *, setuid: bool = False
    ) -> UnpackResult:
        outcome = UnpackResult()
        async with self._session.open_sftp(deadline) as sftp:
            async with deadline.enforce("Opening the folder"):
                folder, umask = await asyncio.gather(target_folder(sftp, path), self._umask(path, deadline))
            async with aclosing(
                inflate.plain(chunks, lambda data: self._unzstd(data, deadline), self._bounds)
            ) as plain:
                try:
                    unpacker = Unpacker(sftp, folder, outcome, self._touch, setuid=setuid, umask=umask)
                    await unpacker.run(ByteReader(plain), self._bounds)
                    await _rest(plain)
                except TruncatedArchive:
                    outcome.complete = False
        return outcome

    async def _umask(self, folder: str, deadline: Deadline) -> int | None:
        """The user's umask, as commands have it; None if it is unknown, or an ACL of the folder counts in its place."""
        with suppress(StatError):
            found = await self._session.ask(target(os.fsencode(folder.rstrip("/")) + b"/.flamecrest-unpack"), deadline)
            return None if found is None else found.umask
        return None

    async def _touch(self, times: Sequence[tuple[bytes, int]]) -> bool:
        names = b"".join(b"%d\0%b\0" % (seconds, path) for path, seconds in times)
        command = Command(("bash", "-pc", _TOUCH), lambda output: output.status == 0, stdin=names)
        try:
            return await self._session.run(command, Deadline.after(OUTPUT_TIMEOUT))
        except GatewayError:
            return False

    async def _unzstd(self, chunks: AsyncIterator[bytes], deadline: Deadline) -> AsyncGenerator[bytes]:
        """Decompress on the cluster: Python has zstd from 3.14 on."""
        program: Command[Any] = Command(("zstd", "-q", "-d", "-c"), lambda output: output)
        async with self._session.stream(program, deadline) as stream:
            feeding = asyncio.create_task(_feed(stream, chunks))
            try:
                async with aclosing(stream.chunks(OUTPUT_TIMEOUT)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        yield piece
                output = await stream.wait(OUTPUT_TIMEOUT)
                if output.not_installed:
                    raise Unsupported("The cluster can't decompress zstd", detail=output.errors()[:200])
                await feeding
                if output.status != 0:
                    if "premature" in output.errors() or "unexpected end" in output.errors().lower():
                        raise TruncatedArchive
                    raise Invalid("The archive is damaged: it can't be decompressed", detail=output.errors()[:500])
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)


async def _packed(
    chunks: AsyncIterator[bytes], stream: RemoteStream, selection: Selection, form: ArchiveFormat
) -> AsyncGenerator[bytes]:
    """Yield the archive with its end."""
    make = _zipped if form == "zip" else _tarred
    try:
        async for piece in make(chunks, stream, selection, form):
            if piece:
                yield piece
    except (TruncatedArchive, DamagedArchive) as error:
        raise Upstream("The archive could not be finished") from error


async def _tarred(
    chunks: AsyncIterator[bytes], stream: RemoteStream, selection: Selection, form: ArchiveFormat
) -> AsyncGenerator[bytes]:
    mark = EndMarkFilter() if form == "tar" else None
    async for chunk in chunks:
        yield chunk if mark is None else mark.feed(chunk)
    failed = packing.failures(await stream.wait(OUTPUT_TIMEOUT), selection.base)
    if mark is not None and not mark.seen:
        raise TruncatedArchive
    yield packing.ending([*selection.missing, *failed], form)


async def _zipped(
    chunks: AsyncIterator[bytes], stream: RemoteStream, selection: Selection, _: ArchiveFormat
) -> AsyncGenerator[bytes]:
    archive = ZipWriter()
    async for piece in archive.convert(chunks):
        yield piece
    async for _padding in chunks:
        pass
    failed = packing.failures(await stream.wait(OUTPUT_TIMEOUT), selection.base)
    if failed := [*selection.missing, *failed, *archive.skipped]:
        archive.add(*packing.report(failed))
    yield await asyncio.to_thread(archive.close)


async def _feed(stream: RemoteStream, chunks: AsyncIterator[bytes]) -> None:
    """Write the chunks to the program's input, and close it in any case."""
    try:
        async for chunk in chunks:
            await stream.write(chunk, INPUT_TIMEOUT)
    finally:
        stream.send_eof()


async def _listed(names: Iterable[bytes]) -> AsyncIterator[bytes]:
    piece = bytearray()
    for name in names:
        piece += name + b"\0"
        if len(piece) > PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


async def _chain(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    if first:
        yield first
    async for chunk in chunks:
        yield chunk


async def _rest(chunks: AsyncIterator[bytes]) -> None:
    """Read the padding after the end mark, so that checksums of the compression are verified."""
    left = MAX_PADDING
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise Invalid("The archive has more after its end mark than padding")
