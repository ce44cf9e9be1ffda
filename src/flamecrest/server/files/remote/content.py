"""The FileContent port over SSH: downloads and uploads of whole files.

Small files take one request to the agent (agent_requests.py), others SFTP (reading/download.py, writing.py).
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, NotFound, PreconditionFailed, Upstream
from flamecrest.server.files.paths import folder_in_the_way
from flamecrest.server.files.read_ahead import ReadAhead
from flamecrest.server.files.remote import agent_requests
from flamecrest.server.files.remote.access import create, stat_path, stat_regular
from flamecrest.server.files.remote.directories import make_directories
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.reading.download import OPEN_ATTEMPTS, SftpReader, UnopenedReader
from flamecrest.server.files.remote.replacement import questions
from flamecrest.server.files.remote.replacement.landing import TargetChanged, TargetDamaged, land
from flamecrest.server.files.remote.replacement.path_locks import PathLocks
from flamecrest.server.files.remote.replacement.targets import find_target
from flamecrest.server.files.remote.writing import TemporaryFile, require_regular, temporary_beside
from flamecrest.server.files.settling import wait_until_settled
from flamecrest.server.files.values import CLOCK_STEP, DEFAULT_WRITE, Stat, WriteOptions, WriteResult
from flamecrest.server.ssh.channels.agent import stat_question
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, Attrs, SftpError
from flamecrest.server.ssh.errors import Lost, StatError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from flamecrest.server.files.remote.replacement.questions import Made, Target
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

SMALL_ATTEMPTS = 5  # to read a file that changes continuously
CHECKS = 5  # of a precondition, for a file that changes between the check and the rename
CLEANUP_TIMEOUT = 5.0  # seconds that the caller of a failed upload waits until its temporary file is removed


@dataclass(frozen=True, slots=True)
class RemoteContent:
    """The FileContent port of one user on one cluster."""

    session: Session
    locks: PathLocks = field(default_factory=PathLocks)  # shared by all users of the cluster
    read_ahead: ReadAhead = field(default_factory=ReadAhead)  # shared by all users of the gateway
    username: str = ""

    @asynccontextmanager
    async def download(
        self, path: str, deadline: Deadline, *, choose_start: Callable[[Stat], int | None] | None = None
    ) -> AsyncIterator[SftpReader | agent_requests.MemoryReader | UnopenedReader]:
        prefix = f"download: {path}"
        choose_start = choose_start or _first_byte
        name = os.fsencode(path)
        small = await self._small(name, prefix, deadline)
        if small is not None:
            if choose_start(small.stat) is None:
                yield UnopenedReader(small.stat)
                return
            if small.data is not None:
                yield agent_requests.MemoryReader(small.stat, small.data)
                return
        async with self.session.open_sftp(deadline) as sftp:
            found = small.stat if small is not None else await self._attributes(sftp, path, prefix, deadline)
            try:
                async with aclosing(self._opened(sftp, name, prefix, found, choose_start, deadline)) as readers:
                    yield await anext(readers)
            except SftpError as error:
                raise operation_error(error, prefix) from None

    async def _opened(
        self,
        sftp: Sftp,
        path: bytes,
        prefix: str,
        found: Stat,
        choose_start: Callable[[Stat], int | None],
        deadline: Deadline,
    ) -> AsyncGenerator[SftpReader | UnopenedReader]:
        """Yield a reader of the file at the path, `found` there; opens it again if it is replaced meanwhile."""

        async def look() -> Stat:
            return await stat_path(
                self.session, os.fsdecode(path), Deadline.after(self.session.stall_timeout), prefix, follow=True
            )

        for attempt in range(OPEN_ATTEMPTS):
            start = choose_start(found)
            if start is None:
                yield UnopenedReader(found)
                return
            async with sftp.handle(sftp.open_file(path, FLAG_READ)) as handle:
                reader = SftpReader(sftp, handle, found, look, self.read_ahead.window(self.username))
                try:
                    again = await reader.begin(prefix, start, deadline, last=attempt == OPEN_ATTEMPTS - 1)
                    if again is None:
                        if reader.stat is not found and reader.content is None:
                            choose_start(reader.stat)
                        yield reader
                        return
                    found = _regular(prefix, again)
                finally:
                    reader.close()

    async def _small(self, path: bytes, prefix: str, deadline: Deadline) -> agent_requests.SmallFile | None:
        """Read a file by the agent, again after the step of the clock in which it was changed, if that is now.

        Raises Upstream for a small file that has other content each time: a write may be half done.
        """
        question = agent_requests.read(path)
        before: agent_requests.SmallFile | None = None
        try:
            for _ in range(SMALL_ATTEMPTS):
                small = await self.session.ask(question, deadline)
                if small is None or not await wait_until_settled(small.stat):
                    return small
                if before is not None and small.data == before.data:
                    return small
                before = small
        except StatError as error:
            raise operation_error(error, prefix) from None
        raise Upstream(f"{prefix}: The file is being changed all the time; `tail` reads its end, `cp` copies it")

    async def upload(
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, options: WriteOptions = DEFAULT_WRITE
    ) -> WriteResult:
        prefix = f"upload: {path}"
        name = os.fsencode(path)
        if name.rpartition(b"/")[2] in {b"", b".", b".."}:
            raise folder_in_the_way(path)
        if not (options.exclusive or options.precondition or options.mtime is not None or options.sync):
            data, ended, chunks = await agent_requests.buffer_small(chunks)
            result = await self._write_by_agent(name, data, options) if ended else None
            if result is not None:
                return result
        async with self.session.open_sftp(deadline) as sftp:
            try:
                return await self._write(sftp, name, chunks, deadline, options, prefix)
            except SftpError as error:
                raise operation_error(error, prefix) from None

    async def _attributes(self, sftp: Sftp, path: str, prefix: str, deadline: Deadline) -> Stat:
        """Return the attributes of a regular file: from the agent if there is one, else what SFTP knows."""
        try:
            numbers = await self.session.ask(stat_question(os.fsencode(path), follow=True), deadline)
        except StatError as error:
            raise operation_error(error, prefix) from None
        if numbers is None:
            return await stat_regular(sftp, path, deadline, prefix)
        return _regular(prefix, Stat(*numbers))

    async def _write_by_agent(self, path: bytes, data: bytes, options: WriteOptions) -> WriteResult | None:
        """Write a small file in one round trip; None, with nothing changed, where the agent cannot do it."""
        temporary = temporary_beside(path)
        question = agent_requests.write(path, temporary, data, options.mode)
        try:
            reply = await self.session.ask(question, Deadline.after(self.session.stall_timeout))
        except Lost:  # it is not known whether the file was written
            await self._remove(temporary)
            raise
        return None if reply is None else WriteResult(reply.created, reply.stat if options.report_stat else None)

    async def _write(
        self,
        sftp: Sftp,
        path: bytes,
        chunks: AsyncIterator[bytes],
        deadline: Deadline,
        options: WriteOptions,
        prefix: str,
    ) -> WriteResult:
        """Write a temporary file and rename it to its target. On any failure the target is unchanged."""
        async with deadline.enforce("Opening the file"):
            target = await find_target(self.session, sftp, path, options, prefix, deadline)
            settled_at = _settled_at(target.existing) if options.report_stat else 0.0
            await self._check_precondition(target.path, options, prefix)
            try:
                file = await TemporaryFile.create(sftp, target, options, prefix)
            except NotFound:
                if not options.parents:
                    raise
                folder = target.path.rpartition(b"/")[0]
                if not await create(self.session, "directories", folder, prefix, deadline):
                    await make_directories(sftp, folder, prefix)
                file = await TemporaryFile.create(sftp, target, options, prefix)
        try:
            await file.write(chunks)
            made = await file.finish(target, options)
            await asyncio.sleep(settled_at - time.monotonic())
            found = await self._land(sftp, made, target, options, prefix)
        except TargetDamaged:
            raise  # the temporary file is the only one that holds the content
        except BaseException as error:
            file.discard()
            if isinstance(error, Lost):  # the request to remove it was lost, too
                await self._remove(file.path)
            raise
        if options.report_stat and found is None:
            found = await self._stat(target.path, prefix)
            # another file may have taken the path since: without inode the attributes identify no content
            found = None if found is None else found._replace(ino=0)
        return WriteResult(target.existing is None, found if options.report_stat else None)

    async def _land(
        self, sftp: Sftp, temporary: Made, target: Target, options: WriteOptions, prefix: str
    ) -> Stat | None:
        """Put the temporary file in place; with a precondition only of the file that it was checked for."""
        if options.precondition is None:
            return await land(self.session, sftp, temporary, target, options, prefix)
        async with self.locks.hold(target.path, self.username):
            for _ in range(CHECKS):
                found = await self._check_precondition(target.path, options, prefix)
                with suppress(TargetChanged):
                    return await land(
                        self.session, sftp, temporary, target, options, prefix, known=questions.known(found)
                    )
        raise PreconditionFailed(f"{prefix}: The file is being changed")

    async def _check_precondition(self, target: bytes, options: WriteOptions, prefix: str) -> Stat | None:
        """Check the precondition if there is one; the attributes of the file that it is met by."""
        if options.precondition is None:
            return None
        found = await self._stat(target, prefix)
        if found is not None and await wait_until_settled(found):
            found = await self._stat(target, prefix)
        options.precondition(found)
        return found

    async def _stat(self, path: bytes, prefix: str) -> Stat | None:
        # not under the caller's deadline, which may pass long before a large upload is complete
        with suppress(NotFound):
            return await stat_path(
                self.session, os.fsdecode(path), Deadline.after(self.session.stall_timeout), prefix, follow=True
            )
        return None

    async def _remove(self, path: bytes) -> None:
        """Remove a temporary file over another connection, if that is possible in a short time."""
        with suppress(SftpError, GatewayError):
            await self.session.sftp(lambda sftp: sftp.remove(path), Deadline.after(CLEANUP_TIMEOUT))


def _regular(prefix: str, found: Stat) -> Stat:
    """Return the attributes of a regular file; raises Invalid for anything else."""
    require_regular(prefix, Attrs(mode=found.mode))
    return found


def _settled_at(existing: Stat | None) -> float:
    """The monotonic time from which on a file that replaces this one has a later ctime, so that its tag is another."""
    wait = 0.0 if existing is None or not existing.ctime else existing.settles_in(time.time())
    return time.monotonic() + wait if 0 < wait <= CLOCK_STEP else 0.0


def _first_byte(_: Stat) -> int:
    return 0
