"""A repeated request for a transfer job submits the same job again, by which the scheduler's adapter knows it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Invalid, Timeout, Upstream
from flamecrest.server.files.remote.commands.archive import Script
from flamecrest.server.schedulers.port import Submitter
from flamecrest.server.schedulers.values import JobSpec
from flamecrest.server.transfer.jobs.log_ids import UNCLEAR_SECONDS, LogIds
from flamecrest.server.transfer.jobs.script import TransferJob
from flamecrest.server.transfer.jobs.submission import TransferSubmitter

pytestmark = pytest.mark.anyio


@dataclass
class Queue:
    """The Submitter port: it raises `errors`, one for each submission, before it accepts any."""

    errors: list[BaseException] = field(default_factory=list)
    specs: list[JobSpec] = field(default_factory=list)

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        del deadline
        self.specs.append(spec)
        if self.errors:
            raise self.errors.pop(0)
        return str(len(self.specs))


@dataclass
class Time:
    """A clock that is set by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def job(*arguments: str, **env: str) -> TransferJob:
    return TransferJob.of("copy", "copied", Script("cp", arguments), env=env)


def submitter(queue: Queue, ids: LogIds, user: str = "fireuser") -> TransferSubmitter:
    port: Submitter = queue
    return TransferSubmitter(port, user, work_root="/scratch", log_ids=ids)


async def submit(one: TransferSubmitter, what: TransferJob, *, account: str = "proj", key: str | None = None) -> str:
    return (await one.submit(what, Deadline.after(5), account=account, key=key)).output_log


async def test_same_key_makes_the_same_job() -> None:
    queue = Queue()
    first = await submit(submitter(queue, LogIds()), job("a"), key="k")
    assert await submit(submitter(queue, LogIds()), job("a"), key="k") == first  # by another replica
    assert queue.specs[0] == queue.specs[1]
    assert queue.specs[0].idempotency_key == "k"
    others = [
        await submit(submitter(queue, LogIds()), job("a"), key="other"),
        await submit(submitter(queue, LogIds(), "somebody"), job("a"), key="k"),
    ]
    assert len({log.rpartition("/")[2] for log in (first, *others)}) == 3


@pytest.mark.parametrize("error", [Upstream("lost"), Timeout("late"), asyncio.CancelledError()])
async def test_job_after_an_unclear_outcome_is_the_same_job(error: BaseException) -> None:
    queue, ids = Queue([error]), LogIds()
    one = submitter(queue, ids)
    with pytest.raises(type(error)):
        await submit(one, job("a", secret="x"))
    await submit(submitter(queue, ids, "somebody"), job("a", secret="x"))
    for what, account in ((job("b", secret="x"), "proj"), (job("a", secret="y"), "proj"), (job("a", secret="x"), "p")):
        await submit(one, what, account=account)
    await submit(one, job("a", secret="x"))
    await submit(one, job("a", secret="x"))  # one request is the repetition, the next is meant
    assert [spec == queue.specs[0] for spec in queue.specs[1:]] == [False, False, False, False, True, False]


async def test_refused_job_is_not_remembered() -> None:
    queue, ids = Queue([Invalid("no such partition")]), LogIds()
    one = submitter(queue, ids)
    with pytest.raises(Invalid):
        await submit(one, job("a"))
    await submit(one, job("a"))
    assert queue.specs[0] != queue.specs[1]


async def test_unclear_outcome_is_forgotten() -> None:
    clock = Time()
    queue, ids = Queue([Upstream("lost")]), LogIds(clock=clock)
    one = submitter(queue, ids)
    with pytest.raises(Upstream):
        await submit(one, job("a"))
    clock.now += UNCLEAR_SECONDS + 1
    await submit(one, job("a"))
    assert queue.specs[0] != queue.specs[1]
