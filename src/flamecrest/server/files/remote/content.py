"""Whole files, in and out: the parts of the Files port that stream; knows no packet."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Invalid, NotFound
from flamecrest.server.files.remote import agent_requests
from flamecrest.server.files.remote.access import Access
from flamecrest.server.files.remote.reading import SftpReader, UnopenedReader
from flamecrest.server.files.remote.writing import STALL_TIMEOUT, require_regular, temporary_beside, write_file
from flamecrest.server.files.values import DEFAULT_WRITE, Stat, WriteOptions, WriteResult
from flamecrest.server.ssh.channels import sftp_packets
from flamecrest.server.ssh.channels.agent_protocol import StatError, stat_question
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, Attrs, SftpError
from flamecrest.server.ssh.errors import Lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flamecrest.server.ssh.channels.sftp import Sftp

SWEEP = 5.0  # seconds that a caller whose upload has failed waits for its traces to be removed


class RemoteContent(Access):
    """What brings whole files in and out."""

    @asynccontextmanager
    async def download(
        self, path: str, deadline: Deadline, *, first: Callable[[Stat], int | None] | None = None
    ) -> AsyncIterator[SftpReader | agent_requests.MemoryReader | UnopenedReader]:
        words = f"download: {path}"
        asked = first or _from_the_start
        name = os.fsencode(path)
        try:
            file = await self._session.ask(agent_requests.read(name), deadline)
        except StatError as error:
            raise error.explained(words) from None
        if file is not None:
            if asked(file.stat) is None:
                yield UnopenedReader(file.stat)
                return
            if file.data is not None:
                yield agent_requests.MemoryReader(file.stat, file.data)
                return
        async with self._session.open_sftp(deadline) as sftp:
            found = file.stat if file is not None else await self._attributes(sftp, path, words, deadline)
            start = asked(found)
            if start is None:
                yield UnopenedReader(found)
                return
            try:
                async with sftp.handle(sftp.open_file(name, FLAG_READ)) as handle:
                    reader = SftpReader(sftp, handle, found)
                    try:
                        await reader.begin(words, start, asked, deadline)
                        yield reader
                    finally:
                        reader.close()
            except SftpError as error:
                raise error.explained(words) from None

    async def _attributes(self, sftp: Sftp, path: str, words: str, deadline: Deadline) -> Stat:
        """The attributes of a regular file: all of them, where one round trip brings them, else what SFTP knows."""
        try:
            numbers = await self._session.ask(stat_question(os.fsencode(path), follow=True), deadline)
        except StatError as error:
            raise error.explained(words) from None
        if numbers is None:
            return await self._regular(sftp, path, words, deadline)
        found = Stat.of(numbers)
        require_regular(words, Attrs(mode=found.mode))
        return found

    async def upload(
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, landing: WriteOptions = DEFAULT_WRITE
    ) -> WriteResult:
        words = f"upload: {path}"
        name = os.fsencode(path)
        folder, _, last = name.rpartition(b"/")
        if last in {b"", b".", b".."}:
            raise Invalid(f"{words}: Is a directory")

        if not (landing.new or landing.admit or landing.mtime is not None or landing.sync):
            data, ended, chunks = await agent_requests.buffer_small(chunks)
            landed = await self._put(name, data, landing) if ended else None
            if landed is not None:
                return landed

        async def look(at: bytes) -> Stat | None:
            try:  # not under the caller's deadline, which may be over long before a large upload is
                return await self._stat(os.fsdecode(at), Deadline.after(STALL_TIMEOUT), words, follow=True)
            except NotFound:
                return None

        async with self._session.open_sftp(deadline) as sftp:
            try:
                return await write_file(
                    sftp,
                    name,
                    words,
                    chunks,
                    deadline,
                    landing,
                    look=look,
                    make_folder=lambda: _make_folders(sftp, folder, words),
                    sweep=self._sweep,
                )
            except SftpError as error:
                raise error.explained(words) from None

    async def _put(self, path: bytes, data: bytes, landing: WriteOptions) -> WriteResult | None:
        """Write a small file in one round trip; None where that takes more, and nothing has changed."""
        temporary = temporary_beside(path)
        try:
            written = await self._session.ask(
                agent_requests.write(path, temporary, data, landing.mode), Deadline.after(STALL_TIMEOUT)
            )
        except Lost:  # whether it has landed is not known
            await self._sweep(temporary)
            raise
        return None if written is None else WriteResult(written.created, written.stat if landing.report else None)

    async def _sweep(self, path: bytes) -> None:
        """Remove what an upload left behind when its connection broke, if that can be done soon."""
        with suppress(SftpError, GatewayError):
            await self._session.sftp(lambda sftp: sftp.remove(path), Deadline.after(SWEEP))


def _from_the_start(_: Stat) -> int:
    return 0


async def _make_folders(sftp: Sftp, folder: bytes, words: str) -> None:
    """Make a folder and what is missing above it, all asked for together; those that are there refuse and stay."""
    parts = folder.split(b"/")
    steps = [b"/".join(parts[: n + 1]) for n in range(1, len(parts)) if parts[n]]
    results = await asyncio.gather(*map(sftp.mkdir, steps), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, SftpError):
            raise result
    for result in reversed(results):
        match result:
            case SftpError(code=sftp_packets.NO_SUCH_FILE):
                continue  # the one above it is why
            case SftpError(code=sftp_packets.PERMISSION_DENIED):
                raise result.explained(words)
            case SftpError() if result is not results[-1]:
                raise Invalid(f"{words}: Not a directory")
        return
