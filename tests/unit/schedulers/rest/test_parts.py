"""Changes of elements of arrays and of components of heterogeneous jobs by slurmrestd.

For `/job/237+1` slurmrestd updates component 0, and job 237 alone for `/job/237`; it refuses the elements of arrays. So
each record is updated by its own number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from flamecrest.server.errors import Conflict, GatewayError, Invalid, NotFound
from flamecrest.server.schedulers.values import JobAction, JobChange

from .toy_slurmrestd import ToySlurmrestd, body, client_of, scheduler_of, slurmrestd, soon

pytestmark = pytest.mark.anyio

NEWER = ("v0.0.42", "v0.0.45")
ARRAYS = {"v0.0.42": (234, 240, 241), "v0.0.45": (256, 262, 263)}  # elements 2-3 that wait, 0, 1
HETEROGENEOUS = {"v0.0.42": (237, 238), "v0.0.45": (259, 260)}  # the components
REFUSED = {"errors": [{"error_number": 2021, "error": "Job has already finished"}]}


def updated(toy: ToySlurmrestd) -> list[int]:
    """The numbers of the jobs that were updated."""
    return [int(asked.target.rpartition("/")[2]) for asked in toy.asked if asked.method == "POST"]


def accept(toy: ToySlurmrestd, version: str, *numbers: int) -> None:
    for number in numbers:
        toy.answers[f"POST /slurm/{version}/job/{number}"] = 200, b"{}"


def unknown_in_the_history(toy: ToySlurmrestd, version: str, number: int) -> None:
    toy.answers[f"GET /slurmdb/{version}/job/{number}"] = 200, b'{"jobs": []}'


def cases_of_arrays() -> Iterator[tuple[str, str, list[int], type[GatewayError] | None]]:
    for version, (waiting, first, second) in ARRAYS.items():
        yield version, f"{waiting}", [waiting, second, first], None
        yield version, f"{waiting}_1", [second], None
        yield version, f"{waiting}_[0-1]", [second, first], None
        yield version, f"{waiting}_[2-3]", [waiting], None
        yield version, f"{second}", [second], None  # an element by its own number
        yield version, f"{waiting}_2", [], Conflict  # in one record with element 3
        yield version, f"{waiting}_9", [], NotFound
        yield version, f"{waiting}+0", [], NotFound


@pytest.mark.parametrize(("version", "job_id", "numbers", "error"), list(cases_of_arrays()))
async def test_elements_of_arrays(
    version: str, job_id: str, numbers: list[int], error: type[GatewayError] | None
) -> None:
    async with slurmrestd() as toy, client_of(toy, version) as client:
        toy.play(version, "job-array")
        waiting, *begun = ARRAYS[version]
        accept(toy, version, waiting, *begun)
        toy.answers[f"GET /slurm/{version}/job/{begun[1]}"] = toy.answers[f"GET /slurm/{version}/job/{waiting}"]
        unknown_in_the_history(toy, version, waiting)
        for change in (
            scheduler_of(client).change(job_id, JobChange(name="x"), soon()),
            scheduler_of(client).act(job_id, JobAction.HOLD, soon()),
        ):
            with pytest.raises(error) if error is not None else nullcontext():
                await change
        assert updated(toy) == numbers * 2


@pytest.mark.parametrize("version", NEWER)
async def test_components_of_heterogeneous_jobs(version: str) -> None:
    leader, second = HETEROGENEOUS[version]
    async with slurmrestd() as toy, client_of(toy, version) as client:
        toy.play(version, "job-hetjob", "slurmdb-job-hetjob")
        accept(toy, version, leader, second)
        scheduler = scheduler_of(client)
        for job_id, numbers in ((f"{leader}", [leader, second]), (f"{leader}+0", [leader]), (f"{leader}+1", [second])):
            toy.asked.clear()
            await scheduler.change(job_id, JobChange(name="x"), soon())
            assert updated(toy) == numbers
        toy.asked.clear()
        for change in (
            scheduler.change(f"{leader}+9", JobChange(name="x"), soon()),
            scheduler.act(f"{leader}+9", JobAction.RELEASE, soon()),
            scheduler.cancel(f"{leader}+9", soon()),
            scheduler.signal(f"{leader}+9", "USR1", soon()),
        ):
            with pytest.raises(NotFound):
                await change
        assert {asked.method for asked in toy.asked} == {"GET"}


async def test_22_05_is_asked_to_change_the_elements_that_have_not_ended() -> None:
    """Of an array with an ended one it tells of that alone, whether the others were changed or not."""
    ended, done, refused = "job-array-with-ended-element", "job-update-elements", "job-update-elements-ERR-partition"
    async with slurmrestd() as toy, client_of(toy, "v0.0.38") as client:
        toy.play("v0.0.38", ended, "job-update-array-with-ended-element-ERR-partition", done)
        scheduler = scheduler_of(client)
        for job_id in ("10762", "10762_[0-3]", "10762_[1-9]"):
            await scheduler.act(job_id, JobAction.HOLD, soon())
        toy.play("v0.0.38", refused)
        with pytest.raises(Conflict, match=r"^Job is no longer pending execution$"):
            await scheduler.change("10762", JobChange(partition="none"), soon())
        rows = [row | {"job_state": "FAILED"} for row in body("v0.0.38", ended)["jobs"]]
        toy.answers["GET /slurm/v0.0.38/job/10762"] = 200, json.dumps({"jobs": rows}).encode()
        with pytest.raises(Conflict, match=r"^Job has already finished$"):
            await scheduler.act("10762", JobAction.HOLD, soon())


@pytest.mark.parametrize("version", ["v0.0.40", *NEWER])
async def test_a_signal_to_the_elements_that_have_not_ended(version: str) -> None:
    """slurmrestd tells of those that have."""
    rows = body(version, "job-array-with-ended-element")["jobs"]
    array = next(row["array_job_id"]["number"] for row in rows)
    async with slurmrestd() as toy, client_of(toy, version) as client:
        toy.play(version, "job-array-with-ended-element", "jobs-delete-signal-array-with-ended-element")
        scheduler = scheduler_of(client)
        await scheduler.signal(f"{array}", "USR1", soon())
        for job_id in (f"{array}_0", f"{array}_[0]"):
            with pytest.raises(Conflict, match="already completing or completed"):
                await scheduler.signal(job_id, "USR1", soon())
        ended = [row for row in rows if row["array_task_id"]["number"] == 0]
        toy.answers[f"GET /slurm/{version}/job/{array}"] = 200, json.dumps({"jobs": ended}).encode()
        with pytest.raises(Conflict, match="already completing or completed"):
            await scheduler.signal(f"{array}", "USR1", soon())


async def test_an_element_that_ends_while_an_array_is_changed() -> None:
    waiting, first, second = ARRAYS["v0.0.45"]
    async with slurmrestd() as toy, client_of(toy, "v0.0.45") as client:
        toy.play("v0.0.45", "job-array")
        accept(toy, "v0.0.45", waiting, second)
        finished = {"errors": [{"error_number": 2084, "error": "Job has already finished"}]}
        toy.answers[f"POST /slurm/v0.0.45/job/{first}"] = 500, json.dumps(finished).encode()
        await scheduler_of(client).change(f"{waiting}", JobChange(name="x"), soon())
        assert updated(toy) == [waiting, second, first]


@pytest.mark.parametrize("version", NEWER)
async def test_a_component_that_waits_is_not_cancelled_alone(version: str) -> None:
    """slurmrestd would do it, other than scancel."""
    leader, _ = HETEROGENEOUS[version]
    rows = [row | {"job_state": ["PENDING"], "nodes": ""} for row in body(version, "job-hetjob")["jobs"]]
    async with slurmrestd() as toy, client_of(toy, version) as client:
        toy.play(version, "slurmdb-job-hetjob")
        toy.answers[f"GET /slurm/{version}/job/{leader}"] = 200, json.dumps({"jobs": rows}).encode()
        with pytest.raises(Conflict, match="cancelled together"):
            await scheduler_of(client).cancel(f"{leader}+1", soon())
        assert {asked.method for asked in toy.asked} == {"GET"}


async def test_slurmrestd_refuses_a_component_that_waits() -> None:
    words = "Operation not permitted on individual component of heterogeneous job"
    refused = {"errors": [{"error_number": 2108, "error": words, "source": "slurm_kill_job"}]}
    async with slurmrestd() as toy, client_of(toy, "v0.0.38") as client:
        toy.answers["DELETE /slurm/v0.0.38/job/203"] = 500, json.dumps(refused).encode()
        with pytest.raises(Conflict, match=words):
            await scheduler_of(client).cancel("203", soon())


@pytest.mark.parametrize("version", NEWER)
async def test_ended_elements_are_left_out(version: str) -> None:
    waiting, first, second = ARRAYS[version]
    rows = [row | {"job_state": ["COMPLETED"]} if row["job_id"] != second else row for row in rows_of(version)]
    async with slurmrestd() as toy, client_of(toy, version) as client:
        toy.answers[f"GET /slurm/{version}/job/{waiting}"] = 200, json.dumps({"jobs": rows}).encode()
        accept(toy, version, second)
        toy.answers[f"POST /slurm/{version}/job/{first}"] = 500, json.dumps(REFUSED).encode()
        await scheduler_of(client).change(f"{waiting}", JobChange(name="x"), soon())
        assert updated(toy) == [second]
        with pytest.raises(Conflict, match="already finished"):
            await scheduler_of(client).change(f"{waiting}_0", JobChange(name="x"), soon())


def rows_of(version: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = body(version, "job-array")["jobs"]
    return found


async def test_each_refusal_is_told_when_all_were_asked() -> None:
    leader, second = HETEROGENEOUS["v0.0.42"]
    refused = {"errors": [{"error_number": 2066, "error": "Invalid qos specification"}]}
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        toy.play("v0.0.42", "job-hetjob")
        toy.answers[f"POST /slurm/v0.0.42/job/{leader}"] = 500, json.dumps(refused).encode()
        accept(toy, "v0.0.42", second)
        with pytest.raises(Invalid, match="Invalid qos"):
            await scheduler_of(client).change(f"{leader}", JobChange(qos="x"), soon())
        assert updated(toy) == [leader, second]


async def test_requeue_of_elements() -> None:
    """slurmrestd answers 200 without an error for elements that wait or do not exist."""
    waiting, _, _ = ARRAYS["v0.0.45"]
    async with slurmrestd() as toy, client_of(toy, "v0.0.45") as client:
        toy.play("v0.0.45", "job-array")
        unknown_in_the_history(toy, "v0.0.45", waiting)
        for element in (0, 1):
            toy.answers[f"GET /slurm/v0.0.45/job/{waiting}_{element}/requeue"] = 200, b"{}"
        scheduler = scheduler_of(client)
        await scheduler.act(f"{waiting}_[0-3]", JobAction.REQUEUE, soon())
        asked = [one.target.rpartition("job/")[2] for one in toy.asked if one.target.endswith("/requeue")]
        assert sorted(asked) == [f"{waiting}_0/requeue", f"{waiting}_1/requeue"]
        with pytest.raises(Conflict, match="pending"):
            await scheduler.act(f"{waiting}_2", JobAction.REQUEUE, soon())
        with pytest.raises(NotFound):
            await scheduler.act(f"{waiting}_9", JobAction.REQUEUE, soon())


async def test_old_versions_update_elements_by_their_names() -> None:
    rows = [{"job_id": 7, "array_job_id": 7, "array_task_string": "2-3", "job_state": "PENDING"}]
    async with slurmrestd() as toy, client_of(toy, "v0.0.38") as client:
        toy.answers["GET /slurm/v0.0.38/job/7"] = 200, json.dumps({"jobs": rows}).encode()
        toy.answers["POST /slurm/v0.0.38/job/7_2"] = 200, b"{}"
        await scheduler_of(client).act("7_2", JobAction.HOLD, soon())
        assert toy.asked[-1].target == "/slurm/v0.0.38/job/7_2"


@pytest.mark.parametrize("version", NEWER)
async def test_files_of_parts(version: str) -> None:
    waiting, first, second = ARRAYS[version]
    leader, component = HETEROGENEOUS[version]
    async with slurmrestd() as toy, client_of(toy, version) as client:
        toy.play(version, "job-array", "job-hetjob", "nodes")
        unknown_in_the_history(toy, version, waiting)
        unknown_in_the_history(toy, version, leader)
        scheduler = scheduler_of(client)
        for job_id, number in (
            (f"{waiting}_1", second), (f"{waiting}_0", first), (f"{leader}+1", component), (f"{leader}", leader),
        ):  # fmt: skip
            (found,) = await scheduler.metadata(job_id, soon())
            assert found.standard_output == f"/home/fireuser/rest-{number}.out"
        for job_id in (f"{waiting}_9", f"{waiting}+0", f"{leader}_1", f"{leader}+9"):
            with pytest.raises(NotFound):
                await scheduler.metadata(job_id, soon())


async def test_the_file_of_an_element_that_waits() -> None:
    """24.11 shows the number of no element in the path of those that wait."""
    row = {"job_id": 7, "array_job_id": 7, "array_task_string": "2-3", "standard_output": "/a/slurm-7_4294967294.out"}
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        toy.answers["GET /slurm/v0.0.42/job/7"] = 200, json.dumps({"jobs": [row]}).encode()
        (found,) = await scheduler_of(client).metadata("7_3", soon())
        assert (found.id, found.standard_output) == ("7_3", "/a/slurm-7_3.out")
        (found,) = await scheduler_of(client).metadata("7", soon())
        assert found.standard_output == "/a/slurm-7_%a.out"
