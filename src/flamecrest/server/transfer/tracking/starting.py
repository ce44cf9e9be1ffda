"""Starts synchronizations and copies, which the gateway works on in the background, and does again what has failed."""

from __future__ import annotations

import asyncio
import json
import os
import stat as stat_bits
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from flamecrest.server.errors import Invalid, NotFound, Unsupported
from flamecrest.server.files.values import Compression, CompressOptions
from flamecrest.server.ssh.channels.sftp_packets import NO_SUCH_FILE, SftpError
from flamecrest.server.transfer.port import StartedTransfer, SubmittedTransfer, TransferRequest
from flamecrest.server.transfer.records import names, storage
from flamecrest.server.transfer.records.names import RecordFiles
from flamecrest.server.transfer.records.record import End, Record, damaged, sha256_of
from flamecrest.server.transfer.trees import sync as trees
from flamecrest.server.transfer.trees.compare import CompareOptions, Step
from flamecrest.server.transfer.trees.patterns import Filter
from flamecrest.server.transfer.trees.sync import Place, Synchronization

from .background import LONGEST, Work, is_stop
from .filecopy import Earlier, FileCopy
from .port import PlannedStep, SyncPlan, SyncRequest
from .storecopy import THROUGH_STORE, StoreCopy, cancel_steps
from .work import FolderWork

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.values import JobSpec
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

    from .tools import UserTools

T = TypeVar("T")
BackgroundWork = FolderWork | FileCopy | StoreCopy
MOST_PATTERNS: Final = 100
_KINDS: Final[dict[str, Any]] = {"d": "folder", "f": "file", "l": "link"}


class FolderTransfers:
    """Starts them for one user on one cluster, which has the records."""

    def __init__(self, tools: UserTools) -> None:
        self._tools = tools

    async def plan(self, request: SyncRequest, target: UserTools, most: int, deadline: Deadline) -> SyncPlan:
        """See the port."""
        source, there = await self._places(request.path, request.target, target, deadline)
        options = await asyncio.to_thread(_options, request)
        shown: list[PlannedStep] = []
        counts: Counter[str] = Counter()
        size = 0
        async with (
            deadline.enforce("Comparing the folders"),
            trees.steps(source, there, options, sweep=False) as steps,
        ):
            async for step in steps:
                if step.verb == "m" and step.new:
                    continue  # of a folder that is created
                planned = _planned(step)
                counts[planned.action] += 1
                size += planned.size if step.verb == "f" else 0
                if len(shown) < most:
                    shown.append(planned)
        return SyncPlan(shown, dict(counts), size)

    async def sync(
        self, request: SyncRequest, target: UserTools, deadline: Deadline, then: JobSpec | None
    ) -> SubmittedTransfer:
        """See the port."""
        with self._tools.running.room(self._tools.username):
            source, there = await self._places(request.path, request.target, target, deadline)
            options, same = await asyncio.to_thread(_options, request), self._same(target)
            synchronization = Synchronization(source, there, options, same_cluster=same)
            details = _details(request) | ({} if same else {"system": target.work.cluster})
            record = Record("sync", "internal", request.path, int(time.time()), target=request.target, details=details)
            return await self._start(record, FolderWork(synchronization), target, deadline, then)

    async def copy(
        self,
        path: str,
        target_path: str,
        target: UserTools,
        deadline: Deadline,
        then: JobSpec | None,
        account: str | None = None,
    ) -> SubmittedTransfer:
        """See the port."""
        if self._same(target):
            raise Invalid("`targetSystem`: use transfer/cp or transfer/sync within a system")
        exact = await self._target_of_copy(path, target_path, target, deadline)
        return await self._copy(path, exact, target, deadline, then, account)

    async def _copy(
        self,
        path: str,
        target_path: str,
        target: UserTools,
        deadline: Deadline,
        then: JobSpec | None,
        account: str | None,
        before: Earlier | None = None,
    ) -> SubmittedTransfer:
        """Copy to exactly this path; `before` is an attempt that has failed."""
        with self._tools.running.room(self._tools.username):
            stat = await self._tools.files().queries.stat(path, deadline, follow=True)
            details: dict[str, str | int] = {"system": target.work.cluster, "mtime": int(stat.mtime)}
            details |= {"account": account} if account else {}
            record = Record("copy", "internal", path, int(time.time()), stat.size, target_path, details=details)
            store, there = self._tools.store, target.store
            transfer = names.new_id(int(time.time()) + LONGEST)
            work: BackgroundWork
            if stat_bits.S_ISDIR(stat.mode):
                places = await self._places(path, target_path, target, deadline)
                work = FolderWork(Synchronization(*places, CompareOptions(), same_cluster=False))
            elif store is not None and there is not None and store.copies_to(there):
                details["through"] = THROUGH_STORE
                work = StoreCopy(transfer, store, there, path, target_path, stat.size or 0, account)
            else:
                work = FileCopy(self._tools, target, path, target_path, stat, before)
            return await self._start(record, work, target, deadline, then, transfer)

    async def again(
        self, transfer: str, record: Record, target: UserTools, deadline: Deadline, then: JobSpec | None, upload: str
    ) -> StartedTransfer | SubmittedTransfer:
        """Start a transfer again that has not succeeded. Raises Unsupported for one that its client has to start.

        `upload` is what the progress of a copy names.
        """
        if record.method == "direct":
            request = TransferRequest("direct", file_size=record.size, sha256=sha256_of(record))
            start = self._tools.direct.upload if record.direction == "upload" else self._tools.direct.download
            return await start(record.path, deadline, account=None, request=request)
        if record.method == "s3" and self._tools.store is not None:
            return await self._tools.store.again(record, deadline)
        if record.method == "sync":
            return await self.sync(_request_of(record), target, deadline, then)
        if record.method == "copy":
            if record.details.get("through") == THROUGH_STORE:
                await cancel_steps(transfer, self._tools.store, target.store, deadline)
            before = Earlier(upload, record.size, record.details.get("mtime"))
            account = str(record.details.get("account") or "") or None
            return await self._copy(record.path, record.target, target, deadline, then, account, before)
        if record.method in {"streamer", "wormhole"}:
            return await self._client_again(record, deadline)
        if record.job_id:
            return await self._job_again(record, deadline)
        raise Unsupported(f"A transfer by {record.method} is started again by its client")

    async def _client_again(self, record: Record, deadline: Deadline) -> StartedTransfer:
        """Submit a job for the client of an upload or a download: with another secret, or another code."""
        if record.method == "wormhole" and record.direction == "upload":
            raise Unsupported("A code of magic-wormhole works once. Start the upload again with the sender's new code.")
        jobs, account = self._tools.transfers(), str(record.details.get("account") or "") or None
        start = jobs.upload if record.direction == "upload" else jobs.download
        return await start(record.path, deadline, account=account, request=TransferRequest(record.method))

    async def _job_again(self, record: Record, deadline: Deadline) -> SubmittedTransfer:
        """Submit a job that does the same."""
        jobs, given, paths = self._tools.transfers(), record.details, (record.path, record.target)
        account, dereference = str(given.get("account") or "") or None, bool(given.get("dereference"))
        compression = str(given.get("compression") or "gzip")
        if compression not in get_args(Compression):
            raise damaged()
        match record.method:
            case "mv":
                return await jobs.mv(*paths, deadline, account=account)
            case "cp":
                return await jobs.cp(*paths, deadline, account=account, dereference=dereference)
            case "rm":
                return await jobs.rm(record.path, deadline, account=account)
            case "compress":
                pattern = str(given.get("match_pattern") or "") or None
                options = CompressOptions(compression, pattern, dereference)  # type: ignore[arg-type]
                return await jobs.compress(*paths, deadline, account=account, options=options)
            case "extract":
                return await jobs.extract(*paths, deadline, account=account, compression=compression)  # type: ignore[arg-type]
        raise Unsupported(f"A transfer by {record.method} is started again by its client")

    # --- steps

    def _same(self, target: UserTools) -> bool:
        return target.work.cluster == self._tools.work.cluster

    async def _start(
        self, record: Record, work: BackgroundWork, target: UserTools, deadline: Deadline, then: JobSpec | None,
        transfer: str = "",
    ) -> SubmittedTransfer:  # fmt: skip
        """Create the record, and begin."""
        tools = self._tools
        folder = tools.work.records
        files = RecordFiles(folder, transfer or names.new_id(int(time.time()) + LONGEST))
        packed = None if then is None else target.then.pack(files.transfer, then)

        async def create(sftp: Sftp) -> None:
            await storage.create_folder(sftp, folder)
            with tools.sweeps.after(tools.session, folder):
                if packed is not None:
                    await target.then.keep(sftp, files, packed)
                await storage.begin(sftp, files, record, storage.log_line(f"{record.method} was started."))

        await _sftp(tools.session, create, deadline)

        async def run() -> End:
            end = await work.run()
            if packed is not None and end.state == "COMPLETED":
                await _uncancelled(target.then.submit(files, tools.session))
            return end

        tools.running.start(tools.username, Work(tools.session, files, run, work.progress, work.errors))
        return SubmittedTransfer(files.transfer, tools.work.path, os.fsdecode(files.log), os.fsdecode(files.errors))

    async def _places(self, path: str, target_path: str, target: UserTools, deadline: Deadline) -> tuple[Place, Place]:
        """The folders with links resolved. Raises Invalid if one contains the other."""
        here = await _resolved(self._tools.session, path, deadline)
        if not stat_bits.S_ISDIR((await self._tools.files().queries.stat(path, deadline, follow=True)).mode):
            raise Invalid(f"sync: {path}: Not a directory")
        there = await _resolved(target.session, target_path, deadline)
        first, second = here.rstrip(b"/") + b"/", there.rstrip(b"/") + b"/"
        if first.startswith(second) or second.startswith(first):
            outer = os.fsdecode(min(here, there, key=len))
            if self._same(target) or await self._shared(outer, target, deadline):
                raise Invalid("`targetPath`: one of the folders contains the other")
        return Place(self._tools.session, here, self._tools.work.cluster), Place(
            target.session, there, target.work.cluster
        )

    async def _shared(self, path: str, target: UserTools, deadline: Deadline) -> bool:
        """Whether a path leads to the same folder on both clusters: they share its file system."""
        asked = (tools.files().queries.stat(path, deadline, follow=True) for tools in (self._tools, target))
        try:
            here, there = await asyncio.gather(*asked)
        except NotFound:
            return False
        return (here.uid, here.version) == (there.uid, there.version)

    @staticmethod
    async def _target_of_copy(path: str, target_path: str, target: UserTools, deadline: Deadline) -> str:
        """The path of the copy: within `target_path` if that is a folder."""
        with suppress(NotFound):
            there = await target.files().queries.stat(target_path, deadline, follow=True)
            if stat_bits.S_ISDIR(there.mode):
                return f"{target_path.rstrip('/')}/{path.rstrip('/').rpartition('/')[2]}"
        return target_path


async def _sftp(session: Session, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline) -> T:
    try:
        return await session.sftp(use, deadline)
    except SftpError as error:
        raise storage.explained(error, "transfer") from None


async def _uncancelled(submission: Coroutine[Any, Any, object]) -> None:
    """Submit the job of a transfer that is complete, also if that is cancelled meanwhile; not if the gateway stops."""
    task = asyncio.ensure_future(submission)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        if is_stop(cancelled):
            task.cancel()
            raise
        await asyncio.wait([task])
        task.result()


async def _resolved(session: Session, path: str, deadline: Deadline) -> bytes:
    """A path with links resolved; its last name need not exist."""
    wanted = os.fsencode(path).rstrip(b"/") or b"/"

    async def use(sftp: Sftp) -> bytes:
        with suppress(SftpError):
            await sftp.stat(wanted)
            return (await sftp.realpath(wanted))[0].name
        folder, _, name = wanted.rpartition(b"/")
        try:
            return (await sftp.realpath(folder or b"/"))[0].name.rstrip(b"/") + b"/" + name
        except SftpError as error:
            if error.code != NO_SUCH_FILE:
                raise
            raise NotFound(f"sync: {path}: No such file or directory") from None

    return await _sftp(session, use, deadline)


def _options(request: SyncRequest) -> CompareOptions:
    """How the folders are compared. Parsing a thousand wildcards takes a third of a second. Raises Invalid."""
    try:
        patterns = Filter.of(list(request.include), list(request.exclude))
    except ValueError as error:
        raise Invalid(str(error)) from None
    return CompareOptions(request.checksum, request.delete, patterns)


def _details(request: SyncRequest) -> dict[str, str | int]:
    """The details of a record."""
    patterns = json.dumps([list(request.include), list(request.exclude)])
    return {"checksum": int(request.checksum), "delete": int(request.delete), "patterns": patterns}


def _request_of(record: Record) -> SyncRequest:
    """The request of a record. Raises Conflict if the record is damaged."""
    given = record.details
    with suppress(ValueError, TypeError, RecursionError):
        include, exclude = json.loads(str(given.get("patterns")))
        if (
            all(isinstance(one, str) for one in (*include, *exclude))
            and len(include) + len(exclude) <= 2 * MOST_PATTERNS
        ):
            flags = bool(given.get("checksum")), bool(given.get("delete"))
            return SyncRequest(record.path, record.target, *flags, include, exclude)
    raise damaged()


def _planned(step: Step) -> PlannedStep:
    path, one = os.fsdecode(step.path), step.entry
    kind = _KINDS.get(one.kind, "other")
    match step.verb:
        case "!":
            return PlannedStep("fail", path, kind, 0, step.reason)
        case "o":
            return PlannedStep("skip", path, kind, 0, step.reason)
        case "x" | "k":
            return PlannedStep("delete", path, kind, one.size)
        case "m":
            return PlannedStep("attributes", path, kind, 0)
    return PlannedStep("create" if step.new else "update", path, kind, one.size if one.kind == "f" else 0)
