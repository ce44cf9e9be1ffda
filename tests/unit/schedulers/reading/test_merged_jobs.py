"""A user's merged jobs are those of both sources merged at once, whatever order answers come in; and what is kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest

from flamecrest.server.http.core.shared_answers import LARGE_ITEM, SLICE, Encoded
from flamecrest.server.http.jobs.shown import show_job
from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.merging import JobRecord, Snapshot, merge
from flamecrest.server.schedulers.reading.merged_jobs import MergedJobs, RecordsByBase
from flamecrest.server.schedulers.reading.shared_answers import Answer
from flamecrest.server.schedulers.reading.user_jobs import UserJobs
from flamecrest.server.schedulers.values import Job, JobTimes, SharedList, Stage

from .toy_queue import NOW, element, record

STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED")


def some_record(random: Random) -> JobRecord:
    """A job, an element or the rest of an array, of one of a few ids: so most have been seen before."""
    state, base_id = random.choice(STATES), str(random.randint(1, 7))
    user = "bob" if base_id == "7" else "alice"
    submitted = int(NOW) - random.choice((60, 60, 30))
    ended = int(NOW) - random.randint(0, 50) if STATES.index(state) > 1 else None
    one = record(base_id, state, user, times=JobTimes(submit=submitted, end=ended))
    kind = random.random()
    if kind < 0.5:
        return replace(one, restarts=random.choice((0, 0, 1)))
    if kind < 0.8:
        number = random.randint(0, 3)
        return replace(element(base_id, number, state), job=replace(one.job, id=f"{base_id}_{number}"))
    elements = random.choice(("0-3", "1,3", "2"))
    return replace(one, job=replace(one.job, id=f"{base_id}_[{elements}]"), elements=ArrayElements.parse(elements))


def some_records(random: Random) -> list[JobRecord]:
    found = (some_record(random) for _ in range(random.randint(0, 6)))
    return list({one.job.id: one for one in found}.values())


def merged_at_once(user: UserJobs, queue: Answer[Snapshot]) -> list[Job]:
    records = merge(user.live(queue.value.records, queue.asked), user.listed())
    return [one.job for one in records if one.job.user in {None, user.user}]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_list_is_that_of_all_records_merged_at_once(seed: int):
    random = Random(seed)
    user, now, queue = UserJobs("alice", life=1.0, interval=10.0), 100.0, Answer(Snapshot(), 99.0)
    user.observe(queue, whole=True)
    for _ in range(40):
        now += random.random() * 5
        late = now - random.choice((0, 0, 0, 4))  # an answer may come after a later one
        match random.randint(0, 9):
            case 0 | 1 | 2:
                same = [one for one in queue.value.records if random.random() < 0.8]
                more = {one.job.id: one for one in (*same, *some_records(random)) if one.job.user == "alice"}
                queue = Answer(Snapshot([*more.values()]), max(late, queue.asked))
                user.observe(queue, whole=True)
            case 3 | 4:
                user.observe(Answer(Snapshot(some_records(random)), late), whole=False)
            case 5 | 6 | 7:
                user.add_list(some_records(random), random.choice((3600, 600)), late, NOW + now)
            case 8:
                user.add_job("1", some_records(random), now)
            case _:
                user.changed = now
                user.own.add(str(random.randint(1, 6)))
        assert user.is_last(queue)
        expected = merged_at_once(user, queue)
        assert sorted(user.merged().select(None, 0), key=_key) == sorted(expected, key=_key)
        assert [one.times.submit for one in user.merged().select(None, 0)] == [one.times.submit for one in expected]
        since = NOW - random.randint(0, 50)
        recent = [one for one in expected if one.stage is not Stage.ENDED or (one.times.end or since) >= since]
        assert sorted(user.merged().select(lambda job: job.id > "3", since), key=_key) == sorted(
            (one for one in recent if one.id > "3"), key=_key
        )


def _key(job: Job) -> str:
    return job.id


def test_an_answer_of_which_a_later_one_is_known_is_not_the_last():
    user = UserJobs("alice", life=1.0, interval=10.0)
    first, second = (Answer(Snapshot([record("1")]), asked) for asked in (1.0, 2.0))
    assert not user.is_last(first)
    for queue in (first, second):
        user.observe(queue, whole=True)
    assert (user.is_last(first), user.is_last(second)) == (False, True)
    user.shrink(0)
    assert not user.is_last(second)
    assert list(user.merged().select(None, 0)) == []


# what is made of a job is kept


def jobs_of(user: UserJobs, *records: JobRecord, asked: float) -> SharedList[Job]:
    user.observe(Answer(Snapshot(records), asked), whole=True)
    return user.merged().select(None, 0)


def test_only_jobs_that_have_changed_are_encoded_again():
    encoded: list[str] = []

    def show(job: Job) -> dict[str, str]:
        encoded.append(job.id)
        return {"id": job.id, "state": job.state}

    user = UserJobs("alice", life=1.0, interval=10.0)
    user.add_list([record("1", "COMPLETED"), record("2", "RUNNING")], 3600, 0.5, NOW)
    before = Encoded.of_list("jobs", jobs_of(user, record("2"), record("3", "PENDING"), asked=1.0), show)
    version = user.version
    same = jobs_of(user, record("2"), record("3", "PENDING"), asked=2.0)
    assert (Encoded.of_list("jobs", same, show), user.version) == (before, version)
    user.add_list([record("1", "COMPLETED"), record("2", "RUNNING")], 3600, 2.5, NOW)
    assert user.version == version
    assert encoded == ["1", "2", "3"]
    after = Encoded.of_list("jobs", jobs_of(user, record("2"), record("3", "RUNNING"), asked=3.0), show)
    assert encoded == ["1", "2", "3", "3"]
    assert after.body == before.body.replace(b"PENDING", b"RUNNING")
    assert after.etag != before.etag


def test_elements_that_have_not_changed_are_joined_once():
    merged = MergedJobs()
    live = [element("7", number, "RUNNING") for number in range(3)]
    history = [element("7", number, "RUNNING") for number in range(3)]
    merged.put("7", live, history)
    first = merged.select(None, 0).items
    live[1] = element("7", 1, "COMPLETED")
    merged.put("7", live, history)
    second = merged.select(None, 0).items
    assert [one is other for one, other in zip(first, second, strict=True)] == [True, False, True]
    merged.put("7", [], [])
    assert list(merged.select(None, 0)) == []


def test_the_json_of_a_large_job_is_not_kept():
    job = replace(record("1").job, comment="x" * LARGE_ITEM)
    user = UserJobs("alice", life=1.0, interval=10.0)
    found = jobs_of(user, replace(record("1"), job=job), record("2"), asked=1.0)
    encoded = Encoded.of_list("jobs", found, lambda one: {"comment": one.comment})
    assert len(encoded.body) > LARGE_ITEM
    assert [one.shown is not None for one in found.items] == [False, True]


def test_a_tag_is_that_of_the_jobs_whether_lists_share_them_or_not():
    user = UserJobs("alice", life=1.0, interval=10.0)
    shared = jobs_of(user, record("1"), record("2"), asked=1.0)
    lists = (shared, SharedList(shared), list(shared))
    first, *others = (Encoded.of_list("jobs", one, lambda job: {"id": job.id}) for one in lists)
    assert others == [first, first]


def test_jobs_that_have_changed_may_be_merged_a_few_at_a_time():
    user, other = UserJobs("alice", life=1.0, interval=10.0), UserJobs("alice", life=1.0, interval=10.0)
    queue = Answer(Snapshot([record(str(number)) for number in range(100)]), 1.0)
    for one in (user, other):
        one.observe(queue, whole=True)
        one.add_list([record(str(number), "COMPLETED") for number in range(80, 120)], 3600, 1.0, NOW)
    slices = 1
    while user.merge_some(7):
        slices += 1
    assert slices == 18
    assert user.merged().select(None, 0) == other.merged().select(None, 0)
    assert not user.merge_some(7)


@pytest.mark.anyio
async def test_other_tasks_run_while_a_long_list_is_encoded():
    jobs = [record(str(number)).job for number in range(10 * SLICE)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    shared = SharedList(jobs)
    encoded = await Encoded.of_long_list("jobs", shared, show_job)
    running.cancel()
    assert turns >= 10
    assert encoded == Encoded.of_list("jobs", SharedList(jobs), show_job)
    assert await Encoded.of_long_list("jobs", shared, show_job) is encoded
    assert await Encoded.of_long_list("jobs", jobs, show_job) == encoded


@pytest.mark.parametrize("seed", range(20))
def test_records_are_kept_by_their_base_ids(seed: int):
    random = Random(seed)
    kept, expected = RecordsByBase(), dict[str, dict[str, JobRecord]]()
    for _ in range(60):
        base_id = str(random.randint(1, 4))
        records = {
            f"{base_id}_{number}": element(base_id, number, "COMPLETED") for number in range(random.randint(0, 3))
        }
        match random.randint(0, 2):
            case 0:
                kept.put(base_id, {base_id: record(base_id)})
                expected[base_id] = {base_id: record(base_id)}
            case 1:
                kept.put(base_id, records)
                expected[base_id] = records
            case _:
                job_id = random.choice((base_id, f"{base_id}_1"))
                kept.drop(base_id, job_id)
                expected[base_id] = {key: one for key, one in expected.get(base_id, {}).items() if key != job_id}
        assert {one: dict(kept.of(one)) for one in "1234"} == {one: expected.get(one, {}) for one in "1234"}
        assert kept.base_ids() == {key for key, one in expected.items() if one}
        every = [one for records in expected.values() for one in records.values()]
        assert (len(kept), sorted(one.job.id for one in kept)) == (len(every), sorted(one.job.id for one in every))
