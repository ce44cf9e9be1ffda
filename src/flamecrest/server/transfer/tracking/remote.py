"""The TrackedTransfers port over the records of one user on one cluster: list, show, cancel, retry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import Conflict, Invalid, NotFound, Upstream
from flamecrest.server.schedulers.values import Stage
from flamecrest.server.ssh.channels.sftp_packets import SftpError
from flamecrest.server.transfer.direct.parts import plan_of
from flamecrest.server.transfer.direct.uploads import read_slots
from flamecrest.server.transfer.port import SubmittedTransfer
from flamecrest.server.transfer.records import names, storage
from flamecrest.server.transfer.records.answers import Answers
from flamecrest.server.transfer.records.damage import is_damaged, remove, written_at
from flamecrest.server.transfer.records.names import RecordFiles
from flamecrest.server.transfer.records.record import End, Progress, Record

from .background import BEAT, DONE, STOPPED
from .following import FollowingJobs
from .jobs import Standing, state_of_job, why
from .storecopy import THROUGH_STORE, cancel_steps, end_of_left
from .then import submitted
from .view import damaged_view, state_of, view

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.errors import GatewayError
    from flamecrest.server.schedulers.values import JobSpec
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.transfer.port import StartedTransfer

    from .port import SyncPlan, SyncRequest, TrackedTransfers, TransferView
    from .starting import FolderTransfers
    from .tools import UserTools

T = TypeVar("T")
SILENT: Final = 8  # seconds without progress, by this machine's clock, after which it is looked for twice
_ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"})


class RemoteTrackedTransfers:
    """The TrackedTransfers port. `folders` starts synchronizations and copies."""

    def __init__(self, tools: UserTools, folders: FolderTransfers) -> None:
        self.tools = tools
        self._folders = folders
        self._following = FollowingJobs(tools, self.get)

    @property
    def answers(self) -> Answers:
        return Answers(self.tools.session, self._folder)

    async def list(self, limit: int, before: str | None, deadline: Deadline) -> list[TransferView]:
        async def use(sftp: Sftp) -> list[TransferView]:
            known = await storage.newest(sftp, self._folder)
            if before is not None:
                if before not in known:
                    raise NotFound("There is no such transfer")
                known = known[known.index(before) + 1 :]
            found = await asyncio.gather(*(self._shown_or_none(sftp, one, deadline) for one in known[:limit]))
            return [one for one in found if one is not None]

        return await self._sftp(use, deadline)

    async def get(self, transfer: str, deadline: Deadline) -> TransferView:
        await self.tools.running.written(transfer, self._folder)

        async def use(sftp: Sftp) -> TransferView:
            files = await self._files(sftp, transfer)
            try:
                return await self._shown(sftp, files, deadline)
            except (Conflict, Invalid) as error:
                damaged = await _damaged(sftp, files, error) if await is_damaged(sftp, files, error) else None
                if damaged is None:
                    raise
                return damaged

        return await self._sftp(use, deadline)

    async def cancel(self, transfer: str, deadline: Deadline) -> TransferView | None:
        await self.tools.running.written(transfer, self._folder)

        async def use(sftp: Sftp) -> tuple[str, Record, TransferView] | None:
            files = await self._files(sftp, transfer)
            try:
                return files.transfer, await _record(sftp, files), await self._shown(sftp, files, deadline)
            except (Conflict, Invalid) as error:
                if not await is_damaged(sftp, files, error):
                    raise
            await remove(sftp, files)
            return None

        found = await self._sftp(use, deadline)
        if found is None:
            await self.tools.running.stop(transfer)
            return None
        name, record, shown = found
        left = shown if _has_steps(record) and not self.tools.running.has(name) else None
        if shown.state in _ENDED:
            return left if shown.state == "CANCELLED" else None
        if record.job_id:  # the scheduler says how it has ended
            await self.tools.scheduler().cancel(record.job_id, deadline)
            return None
        await self.tools.running.stop(name)  # first: it knows whether the target was replaced already
        await self.tools.lookup.cancel(name, deadline)
        return left

    async def cancel_steps(self, transfer: str, target: TrackedTransfers, deadline: Deadline) -> None:
        await cancel_steps(transfer, self.tools.store, _tools(target).store, deadline)

    async def settle_copy(self, transfer: str, target: TrackedTransfers, deadline: Deadline) -> TransferView:
        there, files = _tools(target), RecordFiles(self._folder, transfer)
        end, progress = await end_of_left(transfer, self.tools.store, there.store, deadline)
        if end is not None and end.state == "COMPLETED":
            await there.then.submit(files, self.tools.session)

        async def use(sftp: Sftp) -> None:
            await storage.write_progress(sftp, files, progress)
            if end is not None:
                await storage.finish(sftp, files, end, end.error or DONE)

        await self._sftp(use, deadline)
        return await self.get(transfer, deadline)

    async def retry(
        self, transfer: str, target: TrackedTransfers, deadline: Deadline
    ) -> StartedTransfer | SubmittedTransfer:
        await self.tools.running.written(transfer, self._folder)

        async def use(sftp: Sftp) -> tuple[str, Record, TransferView, JobSpec | None, str]:
            files = await self._files(sftp, transfer)
            shown, progress = await self._shown(sftp, files, deadline), await storage.read_progress(sftp, files)
            upload = "" if progress is None else progress.upload
            then = await _tools(target).then.kept(sftp, files)
            return files.transfer, await _record(sftp, files), shown, then, upload

        name, record, shown, then, upload = await self._sftp(use, deadline)
        if record.direction == "upload" and shown.state not in _ENDED:
            if then is not None:
                self._following.follow(name)
            if record.method == "direct":
                return await self.tools.direct.resume(name, record, "direct")
            if record.method == "s3" and self.tools.store is not None:
                return await self.tools.store.resume(name, record, deadline)
        if shown.state == "COMPLETED" and record.direction != "download":
            raise Conflict("The transfer was completed: there is nothing to retry")
        if shown.state not in _ENDED:
            raise Conflict("The transfer is still under way. Cancel it first.")
        again = await self._folders.again(name, record, _tools(target), deadline, then, upload)
        if then is not None and record.method not in {"sync", "copy"}:
            await self.submit_after(again if isinstance(again, SubmittedTransfer) else again.job, then, deadline)
        return again

    def room_to_follow(self, then: JobSpec) -> AbstractContextManager[None]:
        return self._following.room(then)

    async def submit_after(self, job: SubmittedTransfer, then: JobSpec, deadline: Deadline) -> None:
        await self._following.keep(job.transfer_id, then, deadline)

    async def plan(self, request: SyncRequest, target: TrackedTransfers, most: int, deadline: Deadline) -> SyncPlan:
        return await self._folders.plan(request, _tools(target), most, deadline)

    async def sync(
        self, request: SyncRequest, target: TrackedTransfers, deadline: Deadline, then: JobSpec | None = None
    ) -> SubmittedTransfer:
        return await self._folders.sync(request, _tools(target), deadline, then)

    async def copy(
        self, path: str, target_path: str, target: TrackedTransfers, deadline: Deadline,
        then: JobSpec | None = None, account: str | None = None,
    ) -> SubmittedTransfer:  # fmt: skip
        return await self._folders.copy(path, target_path, _tools(target), deadline, then, account)

    # --- records

    async def _sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline) -> T:
        try:
            return await self.tools.session.sftp(use, deadline, repeatable=True)
        except SftpError as error:
            raise storage.explained(error, "transfer") from None

    @property
    def _folder(self) -> bytes:
        return self.tools.work.records

    async def _files(self, sftp: Sftp, transfer: str) -> RecordFiles:
        """The files of a transfer, given by its id or that of its job. Raises NotFound."""
        if names.is_transfer_id(transfer):
            return RecordFiles(self._folder, transfer)
        for name in (await storage.newest(sftp, self._folder))[: storage.SEARCHED]:
            files = RecordFiles(self._folder, name)
            with suppress(Conflict):
                record = await storage.read_record(sftp, files)
                if record is not None and record.job_id == transfer:
                    return files
        raise NotFound("There is no such transfer")

    # --- state

    async def _shown_or_none(self, sftp: Sftp, transfer: str, deadline: Deadline) -> TransferView | None:
        files = RecordFiles(self._folder, transfer)
        try:
            return await self._shown(sftp, files, deadline)
        except NotFound:  # removed meanwhile
            return None
        except (Conflict, Invalid) as error:
            return await _damaged(sftp, files, error)

    async def _shown(self, sftp: Sftp, files: RecordFiles, deadline: Deadline) -> TransferView:
        record, end, progress, then, follows = await asyncio.gather(
            _record(sftp, files), storage.read_end(sftp, files), storage.read_progress(sftp, files),
            submitted(sftp, files), storage.exists(sftp, files.then),
        )  # fmt: skip
        now = Standing("PENDING", end, progress)
        if end is None:
            now = await self._standing(sftp, files, record, progress, deadline)
        state = now.state if now.end is None else now.end.state
        if follows and then is None and state == "COMPLETED":
            self._following.follow(files.transfer)
        reason = (now.reason if state == "PENDING" else "") or await storage.error_of(sftp, files, now.end)
        shown = view(files, record, state, now.end, now.progress, reason or None, then)
        return replace(shown, abandoned=True) if now.abandoned else shown

    async def _standing(
        self, sftp: Sftp, files: RecordFiles, record: Record, progress: Progress | None, deadline: Deadline
    ) -> Standing:
        """How a transfer stands that has no end on record; `progress` is that on record."""
        if record.method in {"sync", "copy"}:
            silent = await self._is_silent(sftp, files, record, progress)
            if silent and _has_steps(record):
                return Standing("RUNNING", None, progress, abandoned=True)
            return Standing("RUNNING", await _stopped(sftp, files) if silent else None, progress)
        if record.method == "direct":
            end = await self.tools.jobs.settle(sftp, files, record)
            parts = await _progress_of_parts(sftp, files, record) if end is None else None
            return Standing("RUNNING" if parts is not None and parts.done else "PENDING", end, parts)
        if record.job_id:
            return await state_of_job(self.tools, sftp, files, record, deadline)
        try:  # through the object store
            (job, *_) = await self.tools.lookup.job(files.transfer, deadline)
        except NotFound:
            return Standing("PENDING", None, progress)
        if progress is None and job.stage is Stage.RUNNING:  # the gateway may be the mover
            progress = await _progress_of_parts(sftp, files, record)
        return Standing(state_of(job), await storage.read_end(sftp, files), progress, why(job) or "")

    async def _is_silent(self, sftp: Sftp, files: RecordFiles, record: Record, progress: Progress | None) -> bool:
        """Whether the gateway that works on a transfer in the background has died."""
        if self.tools.running.has(files.transfer):
            return False
        last = progress.at if progress is not None else record.created
        if abs(time.time() - last) < SILENT:
            return False
        before = await storage.read_progress_file(sftp, files)
        await asyncio.sleep(2.5 * BEAT)
        return await storage.read_progress_file(sftp, files) == before


def _tools(target: TrackedTransfers) -> UserTools:
    if not isinstance(target, RemoteTrackedTransfers):
        raise TypeError("transfers go between clusters with the same adapter")
    return target.tools


def _has_steps(record: Record) -> bool:
    """Whether a transfer is a copy whose steps are transfers, too."""
    return record.method == "copy" and record.details.get("through") == THROUGH_STORE


async def _stopped(sftp: Sftp, files: RecordFiles) -> End | None:
    """The end of a transfer in the background, recorded for a gateway that has died, unless the disk is full."""
    end = End("FAILED", int(time.time()), error=STOPPED)
    with suppress(SftpError):
        await storage.finish(sftp, files, end, STOPPED)
    return await storage.read_end(sftp, files) or end


async def _record(sftp: Sftp, files: RecordFiles) -> Record:
    record = await storage.read_record(sftp, files)
    if record is None:
        raise NotFound("There is no such transfer")
    return record


async def _damaged(sftp: Sftp, files: RecordFiles, error: GatewayError) -> TransferView | None:
    """A transfer whose record cannot be used; None if there is none."""
    created = await written_at(sftp, files)
    return None if created is None else damaged_view(files, created, error.public)


async def _progress_of_parts(sftp: Sftp, files: RecordFiles, record: Record) -> Progress | None:
    """How much of an upload in parts is there."""
    if record.direction != "upload":
        return None
    try:
        slots = await read_slots(sftp, files, record)
    except (SftpError, Upstream):
        return None
    plan = plan_of(record)
    done = sum(plan.span(number)[1] for number, slot in enumerate(slots, 1) if slot is not None and slot.complete)
    return Progress(int(time.time()), done, record.size)
