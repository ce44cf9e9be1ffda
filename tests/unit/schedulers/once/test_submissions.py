"""A submission is made once: its answer may be lost, its request repeated, its key used elsewhere."""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import replace

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import (
    Denied,
    GatewayError,
    InProgress,
    Invalid,
    KeyReused,
    Timeout,
    Unavailable,
    Upstream,
)
from flamecrest.server.schedulers.job_errors import UnclearSubmission
from flamecrest.server.schedulers.once.submissions import KEY_LIFE, UNCLEAR_LIFE, Submissions, is_marker, make_marker
from flamecrest.server.schedulers.values import ArrayRequest, JobSpec, Resources

from .queue_of_jobs import JobQueue

pytestmark = pytest.mark.anyio

SPEC = JobSpec("/home/ada", script="#!/bin/sh\ntrue\n", env={"A": "1", "B": "2"})
KEYED = replace(SPEC, idempotency_key="key-1")


def soon(seconds: float = 30.0) -> Deadline:
    return Deadline.after(seconds)


async def submit(
    queue: JobQueue, spec: JobSpec = SPEC, submissions: Submissions | None = None, user: str = "ada"
) -> str:
    return await (submissions or Submissions()).submit(queue, user, spec, soon())


# markers


def test_a_marker_says_nothing_and_is_no_comment():
    marker = make_marker("ada", "a secret key", SPEC)
    assert marker.text.startswith(marker.prefix)
    assert re.fullmatch(r"flamecrest-[a-z2-7]{20}-[a-z2-7]{8}", marker.text)
    assert is_marker(marker.text)
    assert not any(map(is_marker, (None, "", marker.prefix, f"my {marker.text}", f"{marker.text}\n")))


def test_a_marker_depends_on_user_key_and_job():
    first = make_marker("ada", "key", SPEC)
    assert make_marker("bob", "key", SPEC).prefix != first.prefix
    assert make_marker("ada", "key2", SPEC).prefix != first.prefix
    assert make_marker("ad", "akey", SPEC).prefix != first.prefix
    assert make_marker("ada", "key", replace(SPEC, marker="m", idempotency_key="key")) == first
    assert make_marker("ada", "key", replace(SPEC, env={"B": "2", "A": "1"})) == first
    others = [
        replace(SPEC, script="#!/bin/sh\nfalse\n"),
        replace(SPEC, env={"A": "1", "B": "3"}),
        replace(SPEC, resources=Resources(nodes=2)),
        replace(SPEC, resources=Resources(tasks=2)),
        replace(SPEC, array=ArrayRequest("1-2")),
        replace(SPEC, hold=True),
        replace(SPEC, working_directory="/home/ada/x"),
        replace(SPEC, script=None, script_path=SPEC.script),
        replace(SPEC, name="\udcff"),
    ]
    markers = {make_marker("ada", "key", one).text for one in (SPEC, *others)}
    assert len(markers) == len(others) + 1
    assert {text.startswith(first.prefix) for text in markers} == {True}


# without a key


async def test_each_submission_has_its_own_marker():
    queue, submissions = JobQueue(), Submissions()
    assert [await submit(queue, submissions=submissions) for _ in range(3)] == ["1", "2", "3"]
    assert len(set(queue.jobs.values())) == 3
    assert queue.searches == 0


async def test_a_job_is_found_whose_answer_was_lost():
    queue = JobQueue(loses="answer", late=2)
    assert await submit(queue) == "1"
    assert queue.searches == 3


async def test_a_search_that_fails_is_repeated():
    queue = JobQueue(loses="answer")
    queue.broken = Unavailable("down")
    found = asyncio.create_task(submit(queue))
    while not queue.searches:
        await asyncio.sleep(0.01)
    queue.broken = None
    assert await found == "1"


async def test_a_job_that_cannot_be_found_may_have_been_submitted():
    queue, submissions = JobQueue(loses="request"), Submissions(search_seconds=0)
    with pytest.raises(Upstream) as caught:
        await submit(queue, submissions=submissions)
    assert isinstance(caught.value, UnclearSubmission)
    assert "The job may have been submitted" in caught.value.public
    key = re.search(r"`Idempotency-Key: (\S+)`", caught.value.public)
    marker = re.search(r"the marker (\S+)\.$", caught.value.public)
    assert key is not None
    assert marker is not None
    queue.add(marker[1])  # it came later
    queue.loses = ""
    assert await submit(queue, replace(SPEC, idempotency_key=key[1])) == "1"  # at another replica
    assert len(queue.jobs) == 1


async def test_a_repeated_request_is_the_same_submission_after_an_unclear_one():
    queue, submissions = JobQueue(loses="request", late=1), Submissions(search_seconds=0)
    queue.at_submission = queue.add
    with pytest.raises(UnclearSubmission):
        await submit(queue, submissions=submissions)
    queue.loses, queue.at_submission = "", lambda _: None
    assert await submit(queue, replace(SPEC, name="other"), submissions) == "2"
    assert await submit(queue, submissions=submissions, user="bob") == "3"
    assert await submit(queue, submissions=submissions) == "1"
    assert await submit(queue, submissions=submissions) == "4"  # another one is meant now


async def test_a_repeated_request_is_submitted_if_there_is_no_job():
    queue, submissions = JobQueue(loses="request"), Submissions(search_seconds=0)
    with pytest.raises(UnclearSubmission):
        await submit(queue, submissions=submissions)
    queue.broken = Unavailable("down")
    with pytest.raises(Unavailable, match="Nothing was submitted"):
        await submit(queue, submissions=submissions)
    queue.loses, queue.broken = "", None
    late = queue.add(*unclear_markers(submissions))
    assert await submit(queue, submissions=submissions) == late


def unclear_markers(submissions: Submissions) -> list[str]:
    return [make_marker("ada", key, SPEC).text for key, _ in submissions.unclear()]


async def test_an_unclear_submission_is_forgotten_in_the_end():
    now = 0.0
    queue, submissions = JobQueue(loses="request"), Submissions(search_seconds=0, clock=lambda: now)
    with pytest.raises(UnclearSubmission):
        await submit(queue, submissions=submissions)
    searches, queue.loses, now = queue.searches, "", UNCLEAR_LIFE + 1
    assert await submit(queue, submissions=submissions) == "1"
    assert queue.searches == searches


async def test_a_request_that_was_given_up_is_unclear():
    queue, submissions = JobQueue(hold=asyncio.Event()), Submissions()
    task = asyncio.create_task(submit(queue, submissions=submissions))
    await queue.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    queue.hold = None
    job_id = queue.add(*unclear_markers(submissions))
    assert await submit(queue, submissions=submissions) == job_id


async def test_a_refusal_is_passed_on():
    def refuse(_: str) -> None:
        raise Invalid("Invalid account")

    queue, submissions = JobQueue(at_submission=refuse), Submissions()
    for spec in (SPEC, KEYED, KEYED):
        with pytest.raises(Invalid, match=r"^Invalid account$"):
            await submit(queue, spec, submissions)
    queue.at_submission = lambda _: None
    assert await submit(queue, KEYED, submissions) == "1"


# with a key


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_same_key_and_job_are_one_submission(restarted):
    queue, submissions = JobQueue(), Submissions()
    for _ in range(3):
        assert await submit(queue, KEYED, Submissions() if restarted else submissions) == "1"
    assert await submit(queue, KEYED, submissions, "bob") == "2"
    assert await submit(queue, replace(KEYED, idempotency_key="key-2"), submissions) == "3"


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_key_cannot_be_used_for_another_job(restarted):
    queue, submissions = JobQueue(), Submissions()
    assert await submit(queue, KEYED, submissions) == "1"
    with pytest.raises(KeyReused):
        await submit(queue, replace(KEYED, name="other"), Submissions() if restarted else submissions)
    assert list(queue.jobs) == ["1"]


async def test_a_key_is_remembered_for_a_day_here():
    now = 0.0
    queue, submissions = JobQueue(), Submissions(clock=lambda: now)
    await submit(queue, KEYED, submissions)
    searches, now = queue.searches, KEY_LIFE
    assert await submit(queue, KEYED, submissions) == "1"
    assert queue.searches == searches
    now += 1
    assert await submit(queue, KEYED, submissions) == "1"
    assert queue.searches > searches


async def test_a_key_is_busy_while_its_submission_is_under_way():
    queue, submissions = JobQueue(hold=asyncio.Event()), Submissions()
    first = asyncio.create_task(submit(queue, KEYED, submissions))
    await queue.begun.wait()
    with pytest.raises(InProgress):
        await submit(queue, KEYED, submissions)
    with pytest.raises(KeyReused):
        await submit(queue, replace(KEYED, name="other"), submissions)
    assert queue.hold is not None
    queue.hold.set()
    assert await first == "1"
    assert await submit(queue, KEYED, submissions) == "1"


async def test_a_key_whose_program_still_runs_on_the_cluster_is_busy():
    queue = JobQueue(settled=asyncio.Event())
    with pytest.raises(InProgress):
        await Submissions().submit(queue, "ada", KEYED, soon(0.1))
    assert not queue.jobs


@pytest.mark.parametrize("fault", [Unavailable("down"), Timeout("late"), Upstream("broken"), Denied("no")])
async def test_without_a_search_nothing_is_submitted(fault: GatewayError):
    queue, submissions = JobQueue(broken=fault), Submissions()
    with pytest.raises(type(fault), match="Nothing was submitted"):
        await submit(queue, KEYED, submissions)
    queue.broken = None
    assert await submit(queue, KEYED, submissions) == "1"


async def test_of_two_replicas_at_the_same_moment_the_first_job_stays():
    queue = JobQueue()
    queue.at_submission = queue.add  # the other replica is faster
    assert await submit(queue, KEYED) == "1"
    assert queue.cancelled == ["2"]


async def submit_all(queue: JobQueue, specs: list[JobSpec], submissions: Submissions) -> list[str | GatewayError]:
    async def one(spec: JobSpec) -> str | GatewayError:
        try:
            return await submissions.submit(queue, "ada", spec, soon())
        except GatewayError as error:
            return error

    async with submissions.batch(queue, "ada", specs, 30) as kept:
        found = await asyncio.gather(*map(one, specs))
    return [kept.get(job_id, job_id) if isinstance(job_id, str) else job_id for job_id in found]


BATCH = [replace(SPEC, name=f"job-{number}", idempotency_key=f"key\n{number}") for number in range(100)]


async def test_a_batch_takes_one_search():
    queue = JobQueue()
    first = await submit_all(queue, BATCH, Submissions(clock=lambda: 0.0))
    assert (len(set(first)), queue.searches) == (100, 1)
    assert await submit_all(queue, BATCH, Submissions(clock=lambda: 0.0)) == first
    assert (len(queue.jobs), queue.searches) == (100, 2)
    again = Submissions(clock=lambda: 0.0)
    other = [replace(BATCH[0], name="another"), *BATCH[1:]]
    refused, *others = await submit_all(queue, other, again)
    assert isinstance(refused, KeyReused)
    assert others == first[1:]


async def test_a_batch_asks_again_after_a_second():
    now = itertools.count(0.0, 0.6)
    queue = JobQueue()
    await submit_all(queue, BATCH[:10], Submissions(clock=lambda: next(now)))
    assert 3 <= queue.searches <= 10


async def test_of_two_batches_at_the_same_moment_the_first_jobs_stay():
    queue = JobQueue()
    queue.at_submission = lambda marker: queue.add(marker) if len(queue.jobs) % 4 == 0 else None
    submissions = Submissions(clock=lambda: 0.0)
    found = await submit_all(queue, BATCH[:8], submissions)
    assert {queue.jobs[str(job_id)] for job_id in found} == set(queue.jobs.values())
    assert len(queue.cancelled) == len(queue.jobs) - 8 > 0
    assert not set(queue.cancelled) & set(map(str, found))
    assert await submit_all(queue, BATCH[:8], submissions) == found


async def test_without_a_search_no_job_of_a_batch_is_submitted():
    queue = JobQueue(broken=Upstream("squeue failed"))
    found = await submit_all(queue, BATCH[:3], Submissions(clock=lambda: 0.0))
    assert all("Nothing was submitted" in one.public for one in found if isinstance(one, Upstream))
    assert (len(found), queue.jobs, queue.searches) == (3, {}, 1)


async def test_a_batch_waits_until_a_search_is_certain():
    queue = JobQueue(unrecorded=2)
    assert len(set(await submit_all(queue, BATCH[:3], Submissions(clock=lambda: 0.0)))) == 3
    assert queue.searches == 3


async def test_a_lost_answer_with_a_key():
    queue, submissions = JobQueue(loses="answer"), Submissions()
    assert await submit(queue, KEYED, submissions) == "1"
    assert await submit(queue, KEYED, submissions) == "1"
    assert list(queue.jobs) == ["1"]


async def test_a_search_is_repeated_until_it_is_certain():
    queue = JobQueue(unrecorded=2)
    assert await submit(queue, KEYED) == "1"
    assert queue.searches == 3
    queue = JobQueue(unrecorded=1000)
    with pytest.raises(Unavailable, match="Nothing was submitted"):
        await Submissions().submit(queue, "ada", KEYED, soon(0.1))
    assert not queue.jobs


async def test_a_new_key_needs_no_search():
    """The accounting may be late, or down."""
    queue, submissions = JobQueue(broken=Unavailable("the accounting does not answer")), Submissions()
    new = replace(KEYED, new_key=True)
    assert [await submit(queue, new, submissions) for _ in range(2)] == ["1", "1"]
    assert (queue.searches, len(queue.jobs)) == (0, 1)
    assert make_marker("ada", "key", new) == make_marker("ada", "key", KEYED)
    queue.broken = None
    assert await submit(queue, KEYED) == "1"  # another gateway finds it


async def test_a_new_key_whose_answer_is_lost():
    queue = JobQueue(loses="answer", late=1)
    assert await submit(queue, replace(KEYED, new_key=True)) == "1"
    assert (queue.searches, len(queue.jobs)) == (2, 1)
