"""Job ids: their syntax, and the records that they select."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import GatewayError, Invalid, NotFound
from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.merging import JobRecord
from flamecrest.server.schedulers.slurm.ids import SlurmJobId
from flamecrest.server.schedulers.values import Job, JobTimes, Stage


@pytest.mark.parametrize(
    ("text", "canonical", "asked"),
    [
        ("123", "123", "123"),
        ("0123", "123", "123"),
        ("123_4", "123_4", "123_4"),
        ("123_[4]", "123_4", "123_4"),
        ("123_[1-5]", "123_[1-5]", "123"),
        ("123[1-5]", "123_[1-5]", "123"),
        ("14_[2-4%2]", "14_[2-4]", "14"),
        ("14_[0-8:4,11]", "14_[0,4,8,11]", "14"),
        ("123+1", "123+1", "123+1"),
        ("123.west", "123", "123"),
        ("123_4.west-2.a_b", "123_4", "123_4"),
    ],
)
def test_ids(text, canonical, asked):
    job = SlurmJobId.parse(text)
    assert (str(job), job.argument) == (canonical, asked)
    assert SlurmJobId.parse(job.shown) == job


HOSTILE = [
    "", " ", "abc", "1;rm", "1 2", "1,2", "-1", "--all", "1_", "1_a", "1_[", "1_[]", "1_[5-1]", "1_[0-99999999]", "1+",
    "1+a", "1.batch", "1.extern", "1.0", "1.", "1.-x", "1.a/b", "1.a;b", "1.a b", "1.west\n", "1.a,b",
    "\uff11\uff12", "1\n", "\x00", "1_[1-2]x", "$(id)",
    "1_[" + "1," * 200 + "1]", "9" * 200,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_id_is_refused_with_the_field(text):
    with pytest.raises(Invalid) as caught:
        SlurmJobId.parse(text)
    assert caught.value.fields[0].name == "job_id"


@pytest.mark.parametrize("text", ["0", "0_1", "4294967295", "99999999999999999999"])
def test_numbers_no_job_can_have_are_not_found(text):
    with pytest.raises(NotFound, match="Job not found"):
        SlurmJobId.parse(text)


@given(st.text(alphabet="0123456789_[]-,:%+ ", max_size=20))
def test_what_is_taken_can_only_be_an_id(text):
    try:
        job = SlurmJobId.parse(text)
    except GatewayError:
        return
    assert not set(f"{job} {job.argument}") - set("0123456789_[]-,+ ")
    assert job.argument[0] in "123456789"


def record(job_id: str, stage: Stage, state: str, *, raw_id: str = "", code: int | None = None, **times) -> JobRecord:
    base, _, element = job_id.partition("_")
    base, _, offset = base.partition("+")
    nodes = "n1" if times else ""
    job = Job(job_id, "arr", state, stage, exit_code=code, times=JobTimes(**times), nodes=nodes, node_count=1)
    elements = ArrayElements.parse(element.strip("[]")) if element else None
    return JobRecord(job, base, raw_id=raw_id, elements=elements, component=int(offset) if offset else None)


ARRAY = [
    record("14_0", Stage.ENDED, "COMPLETED", raw_id="15", code=0, submit=10, start=11, end=14, elapsed=3),
    record("14_1", Stage.RUNNING, "RUNNING", raw_id="16", code=0, submit=10, start=12, elapsed=5),
    record("14_[2-4]", Stage.WAITING, "PENDING", raw_id="14"),
]


def pick(text: str, records=ARRAY) -> Job:
    job = SlurmJobId.parse(text).select(records)
    assert job is not None
    return job


def test_an_element_is_itself():
    assert pick("14_1") is ARRAY[1].job
    assert (pick("14_3").id, pick("14_3").state) == ("14_3", "PENDING")
    assert SlurmJobId.parse("14_5").select(ARRAY) is None


def test_an_element_is_found_by_its_own_number():
    assert pick("16") is ARRAY[1].job
    assert pick("16", ARRAY[1:2]) is ARRAY[1].job
    assert SlurmJobId.parse("99").select(ARRAY) is None


def test_an_array_is_summed_up():
    job = pick("14")
    assert (job.id, job.state, job.exit_code) == ("14", "RUNNING", 0)
    assert job.times == JobTimes(submit=10, start=11, elapsed=5)
    assert [step.id for step in job.steps] == ["14_0", "14_1"]
    assert job.nodes == "n1"


def test_files_of_elements_are_not_those_of_their_array():
    def with_files(one: JobRecord, output: str) -> JobRecord:
        return replace(one, job=replace(one.job, standard_output=output, standard_error="/h/errors"))

    job = pick("14", [with_files(one, f"/h/{one.job.id}") for one in ARRAY])
    assert (job.standard_output, job.standard_error) == (None, "/h/errors")


def test_some_elements_are_summed_up():
    job = pick("14_[0,3-4]")
    assert (job.id, job.state) == ("14_[0,3-4]", "RUNNING")  # begun, and not over
    assert [step.id for step in job.steps] == ["14_0"]
    assert (pick("14_[3-4]").state, pick("14_[3-4]").steps, pick("14_[3-4]").exit_code) == ("PENDING", (), None)


def test_an_array_ends_as_its_worst_element():
    ends = [
        record("14_0", Stage.ENDED, "COMPLETED", code=0, start=11, end=14),
        record("14_1", Stage.ENDED, "FAILED", code=7, start=12, end=20),
        record("14_[2-4]", Stage.ENDED, "CANCELLED", code=0),
    ]
    job = pick("14", ends)
    assert (job.state, job.exit_code, job.times.start, job.times.end) == ("FAILED", 7, 11, 20)
    assert len(job.steps) == 3


def test_suspended_is_told_if_all_that_runs_is_suspended():
    two = [record("14_0", Stage.RUNNING, "SUSPENDED"), record("14_1", Stage.RUNNING, "SUSPENDED")]
    assert pick("14", two).state == "SUSPENDED"
    assert pick("14", [*two, ARRAY[1]]).state == "RUNNING"


def test_an_array_of_one_element_is_an_array():
    one = [record("68_3", Stage.RUNNING, "RUNNING")]
    assert (pick("68", one).id, pick("68_3", one).id) == ("68", "68_3")


def test_components_of_a_heterogeneous_job():
    het = [record("21+0", Stage.RUNNING, "RUNNING", raw_id="21"), record("21+1", Stage.RUNNING, "RUNNING", raw_id="22")]
    assert (pick("21", het).id, len(pick("21", het).steps)) == ("21", 2)
    assert pick("21+1", het) is het[1].job
    assert pick("22", het[1:]) is het[1].job
    assert SlurmJobId.parse("21+2").select(het) is None


def test_a_job_whose_parts_wait_has_not_started_though_one_was_cancelled():
    cancelled = record("21+1", Stage.ENDED, "CANCELLED", raw_id="22", code=0)
    waiting = record("21+0", Stage.WAITING, "PENDING", raw_id="21")
    for het in (
        [cancelled, waiting],
        [waiting, replace(cancelled, job=replace(cancelled.job, times=JobTimes(start=9)))],
    ):
        job = pick("21", het)
        assert (job.state, job.stage, job.exit_code, job.times.end) == ("PENDING", Stage.WAITING, None, None)
        assert [step.id for step in job.steps] == ["21+1"]
    array = [record("14_1", Stage.ENDED, "CANCELLED", code=0), ARRAY[2]]
    assert (pick("14", array).state, pick("14", array).exit_code) == ("PENDING", None)
    running = record("21+0", Stage.RUNNING, "RUNNING", raw_id="21", code=0, start=10)
    assert (pick("21", [cancelled, running]).state, pick("21", [cancelled]).state) == ("RUNNING", "CANCELLED")


@given(st.lists(st.sampled_from([Stage.WAITING, Stage.RUNNING, Stage.ENDED]), min_size=1, max_size=6), st.data())
def test_an_array_never_goes_backwards(stages, data):
    words = {Stage.WAITING: "PENDING", Stage.RUNNING: "RUNNING", Stage.ENDED: "COMPLETED"}
    order = ["PENDING", "RUNNING", "COMPLETED"]

    def state() -> str:
        return pick(
            "7", [record(f"7_{n}", one, words[one], start=(one and 1) or None) for n, one in enumerate(stages)]
        ).state

    before = order.index(state())
    place = data.draw(st.integers(0, len(stages) - 1))
    stages[place] = Stage(min(stages[place] + 1, 2))
    after = order.index(state())
    assert after >= before
