"""A scheduler in memory, as a JobReader sees it: a live queue, an accounting that is written late, and counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError
from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.job_lookup import JobLookup
from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.reading.job_reads import JobReads
from flamecrest.server.schedulers.reading.port import ReadLimits
from flamecrest.server.schedulers.slurm.ids import SlurmJobId
from flamecrest.server.schedulers.values import Job, JobTimes, Stage

NOW = 1_795_300_100.0  # the clock of the tests, seconds since the epoch
STAGES = {"PENDING": Stage.WAITING, "RUNNING": Stage.RUNNING}


def record(job_id: str, state: str = "RUNNING", user: str = "alice", **more) -> JobRecord:
    ended = state not in STAGES
    times = JobTimes(submit=int(NOW) - 60, end=int(NOW) - 1 if ended else None)
    more = {"times": times} | more
    job = Job(job_id, "job", state, STAGES.get(state, Stage.ENDED), user=user, **more)
    return JobRecord(job, job_id, raw_id=job_id)


@dataclass
class Cluster:
    """The jobs of all users. `hold` and `hold_history` are set when questions may be answered.

    `faults` is what questions to a source fail with.
    """

    queue: dict[str, JobRecord] = field(default_factory=dict)
    accounting: dict[str, JobRecord] = field(default_factory=dict)
    asked: list[tuple[str, JobQuery]] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    hold_history: asyncio.Event = field(default_factory=asyncio.Event)
    never_eligible: set[str] = field(default_factory=set)  # jobs that no list of the accounting has
    faults: dict[str, GatewayError] = field(default_factory=dict)
    cancelled: int = 0

    def put(self, job_id: str, state: str = "RUNNING", user: str = "alice", **more) -> None:
        self.queue[job_id] = record(job_id, state, user, **more)

    def account(self, job_id: str, state: str = "RUNNING", user: str = "alice", **more) -> None:
        self.accounting[job_id] = record(job_id, state, user, **more)

    def count(self, source: str) -> int:
        return sum(one == source for one, _ in self.asked)

    async def ask(self, source: str, query: JobQuery) -> Snapshot:
        """As of when the question is asked: a slow answer is an old one."""
        self.asked.append((source, query))
        jobs = self.queue if source == "live" else self.accounting
        found = [one for one in jobs.values() if _wanted(query, one)]
        if source == "history" and query.job_id is None and not query.job_ids:
            found = [one for one in found if one.job.id not in self.never_eligible]
        try:
            await self.hold.wait()
            if source == "history":
                await self.hold_history.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if source in self.faults:
            raise self.faults[source]
        return Snapshot(found)


def _wanted(query: JobQuery, one: JobRecord) -> bool:
    if query.job_id is not None or query.job_ids:
        named = [query.job_id] if query.job_id is not None else query.job_ids
        return bool({one.base_id, one.raw_id} & {SlurmJobId.parse(job_id).base_id for job_id in named})
    return query.user in {None, one.job.user}


class Reader:
    """One user's questions to the cluster."""

    has_history = True

    def __init__(self, cluster: Cluster, user: str = "alice") -> None:
        self.cluster = cluster
        self.user = user

    async def live(self, query: JobQuery, deadline: Deadline) -> Snapshot:
        async with deadline.enforce("The queue"):
            return await self.cluster.ask("live", query)

    async def history(self, query: JobQuery, deadline: Deadline) -> Snapshot:
        async with deadline.enforce("The accounting"):
            return await self.cluster.ask("history", query)

    def queue_id(self, job_id: str) -> str | None:
        job = SlurmJobId.parse(job_id)
        return None if job.cluster else job.base_id

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        return SlurmJobId.parse(job_id).select(records)

    def matches(self, query: JobQuery, job: Job) -> bool:
        return query.name in {None, job.name} and query.account in {None, job.account}


class World:
    """A cluster, its shared reads, and readers. `life` and `interval`: see ReadLimits."""

    def __init__(self, *, life: float = 60.0, interval: float = 60.0, max_jobs: int = 1000) -> None:
        self.cluster = Cluster()
        self.cluster.hold.set()
        self.cluster.hold_history.set()
        self.counters = SchedulerCounters()
        lookup = JobLookup("toy", self.counters, second_source_seconds=5.0)
        limits = ReadLimits(life, interval, max_jobs)
        self.late = 0.0  # seconds that have passed beside those of the clock
        self.reads = JobReads(
            lookup, self.counters, limits, clock=lambda: NOW + self.late, ticks=lambda: time.monotonic() + self.late
        )

    def reader(self, user: str = "alice") -> Reader:
        return Reader(self.cluster, user)

    async def jobs(
        self, user: str = "alice", *, all_users: bool = False, seconds: float = 30.0, **filters
    ) -> dict[str, str]:
        query = JobQuery(user=None if all_users else user, **{"window": 3600} | filters)
        found = await self.reads.jobs(self.reader(user), query, Deadline.after(seconds))
        return {job.id: job.state for job in found.value}

    async def job(self, job_id: str, user: str = "alice", seconds: float = 30.0) -> str:
        return (await self.reads.job(self.reader(user), job_id, Deadline.after(seconds))).value.state

    async def many(self, *job_ids: str, user: str = "alice") -> dict[str, str]:
        found = await self.reads.jobs_by_id(self.reader(user), job_ids, Deadline.after(30))
        return {
            job_id: type(one).__name__ if isinstance(one, GatewayError) else one.value.state
            for job_id, one in found.items()
        }

    async def until(self, there: Callable[[dict[str, str]], bool]) -> None:
        """List jobs until that is true of the list."""
        async with asyncio.timeout(20):
            while not there(await self.jobs()):
                await asyncio.sleep(0.002)

    def written(self, user: str = "alice") -> None:
        self.reads.written(user)


def element(base_id: str, number: int, state: str) -> JobRecord:
    one = record(f"{base_id}_{number}", state)
    return replace(one, base_id=base_id, elements=ArrayElements.of(number), raw_id=str(1000 + number))
