"""Job queries over two sources that return values: plain coroutines, no commands and no scheduler."""

from __future__ import annotations

import asyncio
import threading
from collections import UserList
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, GatewayError, NotFound, Timeout, Unavailable, Upstream
from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.job_lookup import JobLookup, JobSources, Source
from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.slurm.ids import SlurmJobId
from flamecrest.server.schedulers.values import Job, JobTimes, Stage

pytestmark = pytest.mark.anyio

RUNNING = JobRecord(Job("7", "job", "RUNNING", Stage.RUNNING, times=JobTimes(submit=1)), "7")
ENDED = JobRecord(Job("6", "job", "FAILED", Stage.ENDED, times=JobTimes(submit=0)), "6")


def soon() -> Deadline:
    return Deadline.after(60)


def answers(*records: JobRecord, unread: int = 0, unknown_states: tuple[str, ...] = ()) -> Source:
    async def source(_: Deadline) -> Snapshot:
        return Snapshot(records, unread, unknown_states)

    return source


def fails(error: GatewayError) -> Source:
    async def source(_: Deadline) -> Snapshot:
        raise error

    return source


async def hangs(deadline: Deadline) -> Snapshot:
    async with deadline.enforce("The source"):
        await asyncio.Event().wait()
    return Snapshot()


def by_id(job_id: str):
    def select(records: Iterable[JobRecord]) -> Job | None:
        return next((record.job for record in records if record.job.id == job_id), None)

    return select


def lookup(counters: SchedulerCounters | None = None, seconds: float = 60.0) -> JobLookup:
    return JobLookup("toy", counters or SchedulerCounters(), second_source_seconds=seconds)


async def find(job_id: str, sources: JobSources, seconds: float = 60.0) -> Job:
    return await lookup(seconds=seconds).find(job_id, sources, by_id(job_id), soon())


async def test_jobs_of_both_sources_are_merged():
    sources = JobSources(answers(RUNNING), answers(ENDED))
    assert await lookup().records(sources, soon()) == [ENDED, RUNNING]
    assert await find("7", sources) == RUNNING.job
    assert await find("6", sources) == ENDED.job
    with pytest.raises(NotFound, match="Job not found: 5"):
        await find("5", sources)


class Watched(UserList[JobRecord]):
    """Records that know which threads have read them."""

    def __init__(self, records: Iterable[JobRecord]) -> None:
        super().__init__(records)
        self.readers: set[threading.Thread] = set()

    def __iter__(self) -> Iterator[JobRecord]:
        self.readers.add(threading.current_thread())
        return iter(self.data)


@pytest.mark.parametrize(("count", "in_loop"), [(10, True), (3000, False)])
async def test_many_jobs_are_merged_beside_the_event_loop(count: int, in_loop: bool):
    queued = Watched(replace(RUNNING, job=replace(RUNNING.job, id=str(at)), base_id=str(at)) for at in range(count))

    async def live(_: Deadline) -> Snapshot:
        return Snapshot(queued)

    found = await lookup().records(JobSources(live, answers(ENDED)), soon())
    assert {one.job.id for one in found} == {*map(str, range(count)), "6"}
    assert (threading.current_thread() in queued.readers) == in_loop


async def test_a_scheduler_may_have_one_source():
    sources = JobSources(answers(RUNNING), None)
    assert await lookup().records(sources, soon()) == [RUNNING]
    with pytest.raises(NotFound):
        await find("6", sources)


async def test_one_source_is_enough_if_it_knows_the_job():
    down = fails(Unavailable("down"))
    assert await find("7", JobSources(answers(RUNNING), down)) == RUNNING.job
    assert await find("6", JobSources(down, answers(ENDED))) == ENDED.job
    assert await find("7", JobSources(answers(RUNNING), hangs), seconds=0.0) == RUNNING.job
    with pytest.raises(Unavailable, match="Cannot tell whether job 6 exists: down"):
        await find("6", JobSources(answers(RUNNING), down))


async def test_ended_elements_alone_do_not_tell_the_state_of_an_array():
    """The live source forgets elements some minutes after their end; a slow history knows them."""
    last, first = (
        JobRecord(Job(f"7_{at}", "job", state, Stage.ENDED), "7", elements=ArrayElements.of(at))
        for at, state in ((2, "COMPLETED"), (1, "FAILED"))
    )

    async def slow(_: Deadline) -> Snapshot:
        await asyncio.sleep(0.05)
        return Snapshot((first, last))

    sources = JobSources(answers(last), slow)
    for job_id, state in (("7", "FAILED"), ("7_2", "COMPLETED")):
        job = await lookup(seconds=0.0).find(job_id, sources, SlurmJobId.parse(job_id).select, soon())
        assert (job.id, job.state) == (job_id, state)


async def test_a_source_that_ignores_its_deadline_is_not_waited_for():
    async def deaf(_: Deadline) -> Snapshot:
        return await asyncio.Future()

    deadline = Deadline.after(0.01)
    assert await lookup().records(JobSources(answers(RUNNING), deaf), deadline) == [RUNNING]
    with pytest.raises(Timeout, match="did not answer in time"):
        await lookup().records(JobSources(deaf, deaf), deadline)


async def test_the_more_severe_failure_is_raised():
    sources = JobSources(fails(Timeout("late")), fails(Unavailable("down")))
    with pytest.raises(Unavailable, match="down"):
        await lookup().records(sources, soon())
    with pytest.raises(Upstream, match="broken"):
        await lookup().records(JobSources(fails(Upstream("broken")), fails(Timeout("late"))), soon())


async def test_a_history_that_the_user_may_not_read_leaves_the_queue():
    assert await lookup().records(JobSources(answers(RUNNING), fails(Denied("no"))), soon()) == [RUNNING]


async def test_an_error_that_is_no_failure_of_the_source_is_raised():
    with pytest.raises(Denied):
        await lookup().records(JobSources(fails(Denied("no")), answers(RUNNING)), soon())


async def test_failures_are_counted():
    counters = SchedulerCounters()
    sources = JobSources(answers(RUNNING, unread=2, unknown_states=("ODD", "ODD")), fails(Upstream("broken")))
    await lookup(counters).records(sources, soon())
    assert counters.read() == {
        "history.failures": 1,
        "live.unreadable_rows": 2,
        "live.unknown_states.ODD": 2,
    }


async def test_an_answer_without_a_readable_row_is_a_failure():
    counters = SchedulerCounters()
    with pytest.raises(Upstream, match="None of the scheduler's 3 rows"):
        await lookup(counters).records(JobSources(answers(unread=3), fails(Timeout("late"))), soon())
    assert counters.failures == {"live": 1, "history": 1}


def test_unknown_states_are_counted_by_name_up_to_a_limit():
    counters = SchedulerCounters()
    counters.count_unknown_states("live", (f"STATE{number}" for number in range(1000)))
    counters.count_unknown_states("live", ["STATE0"])
    assert len(counters.unknown_states["live"]) == 101
    assert counters.unknown_states["live"]["other"] == 900
    assert counters.unknown_states["live"]["STATE0"] == 2
