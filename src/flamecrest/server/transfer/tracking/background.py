"""Work of the gateway that no request waits for: transfers between folders. Its state is in the transfer's record.

While it runs, the one that works on it replaces the file of progress every BEAT seconds. So any replica can see that it
has died. A file of its end, which anybody may create first, stops it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy, GatewayError, Timeout
from flamecrest.server.ssh.channels.sftp_packets import SftpError
from flamecrest.server.transfer.records import names, storage
from flamecrest.server.transfer.records.names import RecordFiles, WorkFolder
from flamecrest.server.transfer.records.record import End, Progress, Record

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

BEAT: Final = 2.0  # seconds
FIRST_BEAT: Final = 0.3  # seconds; then it is known what a retry may go on with
STEP: Final = 20.0  # seconds for one access to the record
MOST: Final = 64  # transfers of one gateway at the same time
MOST_OF_USER: Final = 8
LONGEST: Final = 7 * 24 * 3600  # seconds of a transfer
DONE: Final = "The transfer was completed."
STOPPED: Final = "The gateway that worked on it was stopped. A retry goes on where it ended."
_LINES: Final = {"COMPLETED": DONE, "CANCELLED": "The transfer was cancelled."}

_log: Final = logging.getLogger(__name__)


def is_stop(error: BaseException) -> bool:
    """Whether work is cancelled because the gateway ends, not because the transfer is cancelled."""
    return isinstance(error, asyncio.CancelledError) and error.args == (STOPPED,)


class GoesOn(Exception):
    """The work of a gateway that ends is gone on with by others: it has no end yet, and none is recorded."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done for a transfer. `progress` says how far it is, `errors` what has failed.

    `run` is cancelled with the text STOPPED if the gateway ends, and without a text if the transfer is cancelled. It
    may return an end also then: what was done already stays. It raises GoesOn if the end is not known yet.
    """

    session: Session  # of the records
    files: RecordFiles
    run: Callable[[], Awaitable[End]]
    progress: Callable[[], Progress]
    errors: Callable[[], list[str]]


class RunningTransfers:
    """The transfers that this process works on."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._users: dict[str, str] = {}  # by transfer
        self._preparing: Counter[str] = Counter()  # by user: transfers that are being prepared
        self._notes: dict[str, asyncio.Task[None]] = {}  # by transfer: records that are being written
        self._jobs: dict[tuple[bytes, str], str] = {}  # those transfers, by the folder of records and the job's id
        self.started = 0  # transfers, since the start of the process

    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks that run now."""
        return {*self._tasks.values(), *self._notes.values()}

    async def close(self) -> None:
        """Stop what runs, and record that."""
        tasks = [*self._tasks.values(), *self._notes.values()]
        for task in tasks:
            task.cancel(STOPPED)
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def room(self, user: str) -> Iterator[None]:
        """Keep room for one more transfer of a user while it is prepared and started.

        Raises Busy if there is none: those that are being prepared count, so requests at the same time share the room.
        """
        of_user = sum(of == user for of in self._users.values()) + self._preparing[user]
        if len(self._tasks) + self._preparing.total() >= MOST or of_user >= MOST_OF_USER:
            raise Busy("Too many transfers are running. Wait until one has ended.", retry_after=10)
        self._preparing[user] += 1
        try:
            yield
        finally:
            self._preparing[user] -= 1
            if not self._preparing[user]:
                del self._preparing[user]

    def start(self, user: str, work: Work) -> None:
        """Begin a transfer whose record exists."""
        name = work.files.transfer
        task = asyncio.create_task(_attend(work), name=f"transfer {name}")
        self._tasks[name], self._users[name] = task, user
        self.started += 1

        def ended(task: asyncio.Task[None]) -> None:
            del self._tasks[name], self._users[name]
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("transfer", exc_info=error)

        task.add_done_callback(ended)

    def remember(self, session: Session, work: WorkFolder, record: Record) -> str:
        """Write the record of a scheduler's job, whose id is returned; nobody waits for it."""
        name = names.id_of(record.created + LONGEST, record.job_id, str(record.details.get("output")))
        folder = work.records
        task = asyncio.create_task(_write_record(session, RecordFiles(folder, name), record))
        self._notes[name], self._jobs[folder, record.job_id] = task, name

        def ended(_: object) -> None:
            self._notes.pop(name, None)
            self._jobs.pop((folder, record.job_id), None)

        task.add_done_callback(ended)
        return name

    async def written(self, transfer: str, folder: bytes = b"") -> None:
        """Wait until the record of a scheduler's job was written, or could not be.

        `transfer` is the id of the transfer, or with `folder`, the folder of records, that of the job.
        """
        if (task := self._notes.get(self._jobs.get((folder, transfer), transfer))) is not None:
            await asyncio.wait([task])

    def __len__(self) -> int:
        return len(self._tasks)

    def has(self, transfer: str) -> bool:
        """Whether this process works on a transfer."""
        return transfer in self._tasks

    async def stop(self, transfer: str) -> None:
        """Stop a transfer, and wait until its end was recorded. It may have been completed before."""
        task = self._tasks.get(transfer)
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=STEP)


async def _write_record(session: Session, files: RecordFiles, record: Record) -> None:
    async def use(sftp: Sftp) -> None:
        await storage.create_folder(sftp, files.folder)
        if await storage.known_id(sftp, files.folder, files.transfer) is None:  # else the same job is recorded already
            await storage.create_file(sftp, files.record, record.packed())

    with suppress(GatewayError, SftpError):
        await session.sftp(use, Deadline.after(STEP))


async def _attend(work: Work) -> None:
    """Run the work with heartbeats, and record how it has ended."""
    running = asyncio.ensure_future(work.run())
    try:
        end = await _watch(work, running)
    except asyncio.CancelledError as cancelled:
        running.cancel(*cancelled.args)
        await asyncio.gather(running, return_exceptions=True)
        end = _end_of_cancelled(running, by_user=not is_stop(cancelled))
        if end is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STEP):
                    await _finish(work, end, tries=1)
        raise
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    if end is not None:
        await _finish(work, end, tries=5)


def _end_of_cancelled(running: asyncio.Future[End], *, by_user: bool) -> End | None:
    """The end of work that was cancelled; None if others go on with it."""
    if not running.cancelled():
        error = running.exception()
        if error is None:
            return running.result()
        if isinstance(error, GoesOn):
            return None
    now = int(time.time())
    return End("CANCELLED", now) if by_user else End("FAILED", now, error=STOPPED)


async def _watch(work: Work, running: asyncio.Future[End]) -> End | None:
    """How the work has ended; None if somebody else has recorded an end."""
    until, pause = time.monotonic() + LONGEST, FIRST_BEAT
    while True:
        await asyncio.wait([running], timeout=pause)
        pause = BEAT
        if running.done():
            break
        with suppress(GatewayError, SftpError):
            if await work.session.sftp(lambda sftp: _beat(sftp, work), Deadline.after(STEP)):
                return None
        if time.monotonic() > until:
            return End("TIMEOUT", int(time.time()), error="It took too long. A retry goes on where it ended.")
    try:
        return running.result()
    except GatewayError as error:
        return End("TIMEOUT" if isinstance(error, Timeout) else "FAILED", int(time.time()), error=error.public)
    except SftpError as error:
        return End("FAILED", int(time.time()), error=storage.explained(error, "transfer").public)
    except Exception as error:  # noqa: BLE001 -- the record says that it has failed; the log has the rest
        _log.exception("transfer %s", work.files.transfer)
        return End("FAILED", int(time.time()), error=f"Internal error ({type(error).__name__})")


async def _beat(sftp: Sftp, work: Work) -> bool:
    """Write the progress; whether an end was recorded."""
    await storage.write_progress(sftp, work.files, work.progress())
    return await storage.read_end(sftp, work.files) is not None


async def _finish(work: Work, end: End, *, tries: int) -> None:
    async def use(sftp: Sftp) -> None:
        await storage.write_progress(sftp, work.files, work.progress())
        await storage.append_log(sftp, work.files.errors, *work.errors())
        line = _LINES.get(end.state) or f"The transfer has failed: {end.error}"
        await storage.finish(sftp, work.files, end, line)

    for attempt in range(tries):
        with suppress(GatewayError, SftpError):
            await work.session.sftp(use, Deadline.after(STEP))
            return
        if attempt + 1 < tries:
            await asyncio.sleep(2**attempt)
    _log.warning("transfer: its end could not be recorded", extra={"fields": {"transfer": work.files.transfer}})
