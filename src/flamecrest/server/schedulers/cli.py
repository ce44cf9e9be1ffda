"""A scheduler by its command line: runs a dialect's commands on a login node and puts together what they say.

It knows no scheduler's words: those are the dialect's. Waiting, failing over and giving up are decided here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from flamecrest.server.errors import Busy, Conflict, GatewayError, NotFound, Timeout, Unavailable, Upstream

from .dialect import JOB_NOT_FOUND, MAYBE_SUBMITTED, CancelOutcome, Dialect, JobQuery
from .merging import JobRecord, Snapshot, Stage, merge
from .values import Account, Job, JobMetadata, JobSpec, Node, Partition, Reservation

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.command import Command, Output

SECOND_SOURCE_SECONDS = 3.0  # seconds that a job's second source is waited for once the first has told enough
_RESERVE = 0.1  # the part of a deadline that is kept for answering with what one source knows
_DOWN = (Unavailable, Upstream, Timeout, Busy)  # what the other source can make up for; the first are told first

_SOURCES = ("live", "history")

T = TypeVar("T")

_log = logging.getLogger(__name__)


class CommandRunner(Protocol):
    """What is needed of a Session: it runs commands."""

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        """Run the command; see Session.run."""
        ...


@dataclass(frozen=True, slots=True)
class _Answers:
    """What both sources said, or why they did not."""

    live: Snapshot | GatewayError
    history: Snapshot | GatewayError

    def merged(self) -> list[JobRecord]:
        """What is true by both; the graver error if neither answered."""
        live, history = (None if isinstance(one, GatewayError) else one.records for one in self._both())
        if live is None and history is None:
            raise min(self.failures(), key=lambda error: [isinstance(error, kind) for kind in _DOWN].index(True))
        return merge(live, history)

    def failures(self) -> list[GatewayError]:
        return [one for one in self._both() if isinstance(one, GatewayError)]

    def _both(self) -> tuple[Snapshot | GatewayError, Snapshot | GatewayError]:
        return self.live, self.history


class CliScheduler:
    """The Scheduler port for one user, over a dialect and a session.

    `tally` counts, for people, what was survived: sources that failed, rows that could not be read, unknown
    states. `patience` is in seconds; `clock` tells seconds since the epoch.
    """

    def __init__(
        self,
        dialect: Dialect,
        session: CommandRunner,
        username: str,
        *,
        tally: Counter[str] | None = None,
        patience: float = SECOND_SOURCE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dialect = dialect
        self._session = session
        self._username = username
        self._tally = Counter() if tally is None else tally
        self._patience = patience
        self._clock = clock

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit a job; see the port."""
        command = self._dialect.submit(spec)
        told = False

        def parse(output: Output) -> str:
            nonlocal told
            told = True
            return command.parse(output)

        try:
            return await self._session.run(replace(command, parse=parse), deadline)
        except (Timeout, Upstream) as error:
            if told:
                raise
            raise type(error)(f"{error.public}. {MAYBE_SUBMITTED}", detail=error.detail) from error

    async def jobs(
        self, *, all_users: bool, account: str | None, name: str | None, window: int, deadline: Deadline
    ) -> list[Job]:
        """Jobs alive in the window; see the port. Where one source is down, what the other knows."""
        user = None if all_users else self._username
        ask = JobQuery(user=user, account=account or None, name=name or None, window=window)
        since = self._clock() - window
        answers = await self._ask(ask, deadline)
        return [
            record.job
            for record in answers.merged()
            if self._dialect.matches(ask, record.job)
            and (user is None or record.job.user in (None, user))
            and (record.stage is not Stage.ENDED or (record.job.times.end or since) >= since)
        ]

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        """The job; see the port."""
        answers = await self._ask(JobQuery(job_id=job_id), deadline)
        known = [record for record in answers.merged() if not record.placeholder]
        job = self._dialect.select(job_id, known)
        if job is not None:
            return [job]
        if failures := answers.failures():
            message = f"Whether there is a job {job_id} is not known now: {failures[0].public}"
            raise type(failures[0])(message, detail=failures[0].detail)
        raise NotFound(f"{JOB_NOT_FOUND}: {job_id}")

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        """Script and paths; see the port. Of a job that only the records know, the script at most."""
        failed: GatewayError | None = None
        found: JobMetadata | None = None
        scripts = self._dialect.scripts(job_id)
        try:
            found = await self._session.run(self._dialect.metadata(job_id), deadline.sub(deadline.left() / 2))
        except _DOWN as error:
            self._note("live", error)
            failed, scripts = error, scripts[1:]
        script = await self._first(scripts, deadline)
        if found is None and script is None:
            if failed is not None:
                raise failed
            await self.job(job_id, deadline)
        return [replace(found or JobMetadata(job_id), script=script)]

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        """Cancel the job; see the port."""
        if await self._session.run(self._dialect.cancel(job_id), deadline) is not CancelOutcome.UNKNOWN:
            return
        past = self._dialect.history(JobQuery(job_id=job_id))
        reading = await self._session.run(past, deadline) if past is not None else Snapshot()
        if self._dialect.select(job_id, reading.records) is None:
            raise NotFound(f"{JOB_NOT_FOUND}: {job_id}")

    async def attach(self, job_id: str, command: str, deadline: Deadline) -> None:
        """Run a shell command in the job; see the port. Conflict if it does not run."""
        reading = await self._session.run(self._dialect.live(JobQuery(job_id=job_id)), deadline)
        if self._dialect.select(job_id, reading.records) is None:
            await self.job(job_id, deadline)
            raise Conflict("The job has ended")
        number = self._dialect.raw_job_id(job_id, reading.records)
        if number is None:
            raise Conflict(f"{job_id} is several jobs, or one that waits: name one that runs")
        await self._session.run(self._dialect.attach(number, command), deadline)

    async def nodes(self, deadline: Deadline) -> list[Node]:
        """All nodes; see the port."""
        return await self._session.run(self._dialect.nodes(), deadline)

    async def partitions(self, deadline: Deadline, *, hidden: bool) -> list[Partition]:
        """Partitions; see the port."""
        return await self._session.run(self._dialect.partitions(hidden=hidden), deadline)

    async def reservations(self, deadline: Deadline) -> list[Reservation]:
        """Reservations; see the port."""
        return await self._session.run(self._dialect.reservations(), deadline)

    async def accounts(self, deadline: Deadline) -> list[Account] | None:
        """The user's accounts; see the port. Records that do not answer in time are records that are down."""
        try:
            return await self._session.run(self._dialect.accounts(self._username), _early(deadline))
        except Timeout as error:
            self._note("accounts", error)
            return None

    async def ping(self, deadline: Deadline) -> None:
        """Whether the scheduler answers; see the port."""
        await self._session.run(self._dialect.ping(), deadline)

    async def _ask(self, ask: JobQuery, deadline: Deadline) -> _Answers:
        """Ask live and history at once.

        A list waits for both, up to the deadline: a job that is missing from it is taken for gone. One job is
        told by the source that knows it once the other has had its time (`patience`).
        """
        early = _early(deadline)
        tasks = [
            asyncio.create_task(self._one(source, command, early))
            for source, command in zip(_SOURCES, (self._dialect.live(ask), self._dialect.history(ask)), strict=True)
        ]
        try:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                enough = any(self._tells(ask, task.result()) for task in done)
                await asyncio.wait(pending, timeout=self._patience if enough else None)
            return _Answers(*(self._heard(source, task) for source, task in zip(_SOURCES, tasks, strict=True)))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, source: str, command: Command[Snapshot] | None, deadline: Deadline) -> Snapshot | GatewayError:
        """What a source says, or the error that the other one may make up for; others are raised."""
        if command is None:
            return Snapshot()
        try:
            reading = await self._session.run(command, deadline)
        except _DOWN as error:
            self._note(source, error)
            return error
        if reading.unread or reading.unknown_states:
            self._tally[f"{source}.unread"] += reading.unread
            self._tally.update(f"{source}.state.{state}" for state in reading.unknown_states)
            _log.warning("%s: %d rows not read, states %s", source, reading.unread, reading.unknown_states[:10])
        if reading.unread and not reading.records:
            unreadable = Upstream(f"None of the scheduler's {reading.unread} rows about jobs could be read")
            self._note(source, unreadable)
            return unreadable
        return reading

    def _heard(self, source: str, task: asyncio.Task[Snapshot | GatewayError]) -> Snapshot | GatewayError:
        if task.done():
            return task.result()
        error = Timeout(f"The scheduler's {source} answer was not waited for any longer")
        self._note(source, error)
        return error

    def _tells(self, ask: JobQuery, answer: Snapshot | GatewayError) -> bool:
        """Whether the answer alone says what was asked."""
        if ask.job_id is None or isinstance(answer, GatewayError):
            return False
        known = [record for record in answer.records if not record.placeholder]
        return self._dialect.select(ask.job_id, known) is not None

    async def _first(self, scripts: Sequence[Command[str | None]], deadline: Deadline) -> str | None:
        for command in scripts:
            try:
                script = await self._session.run(command, deadline)
            except _DOWN as error:
                self._note("script", error)
                continue
            if script is not None:
                return script
        return None

    def _note(self, what: str, error: GatewayError) -> None:
        self._tally[f"{what}.failed"] += 1
        _log.warning("%s: %s did not answer: %s", self._dialect.name, what, error.detail or error.public)


def _early(deadline: Deadline) -> Deadline:
    """A little before the deadline: time to answer with what is known by then."""
    return deadline.sub(deadline.left() * (1 - _RESERVE))
