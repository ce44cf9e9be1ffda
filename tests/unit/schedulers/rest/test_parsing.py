"""Jobs, nodes, partitions, reservations and accounts in slurmrestd's recorded answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flamecrest.server.schedulers.merging import JobRecord
from flamecrest.server.schedulers.slurm.ids import SlurmJobId
from flamecrest.server.schedulers.slurm.rest import fields, resources
from flamecrest.server.schedulers.slurm.rest.jobs import (
    parse_history,
    parse_live,
    parse_metadata,
    parse_recorded_metadata,
)
from flamecrest.server.schedulers.slurm.rest.versions import ApiVersion, newest_offered, parse_version
from flamecrest.server.schedulers.slurm.tres import parse_tres
from flamecrest.server.schedulers.values import Account, JobMetadata, Partition, Stage

from .toy_slurmrestd import VERSIONS, body, recorded

NOW = 1_795_853_740.0
NEWER = VERSIONS[1:]


def live(version: str, name: str, now: float = NOW) -> list[JobRecord]:
    snapshot = parse_live(body(version, name)["jobs"], now)
    assert (snapshot.unreadable_rows, snapshot.unknown_states) == (0, ())
    return list(snapshot.records)


def history(version: str, name: str) -> list[JobRecord]:
    snapshot = parse_history(body(version, name)["jobs"])
    assert (snapshot.unreadable_rows, snapshot.unknown_states) == (0, ())
    return list(snapshot.records)


@pytest.mark.parametrize("version", VERSIONS)
def test_running_job(version: str) -> None:
    (record,) = live(version, "job")
    job = record.job
    assert (job.state, job.user, job.partition, job.account) == ("RUNNING", "fireuser", "debug", "test")
    assert (job.name, job.nodes, job.node_count, job.qos) == ("rest job", "nid004", 1, "normal")
    assert (job.exit_code, job.signal, job.times.limit, job.times.end) == (0, 0, 300, None)
    assert job.times.submit is not None
    assert job.times.start is not None
    assert 0 <= job.times.start - job.times.submit <= 1
    assert (record.stage, record.base_id, record.raw_id) == (Stage.RUNNING, job.id, job.id)


@pytest.mark.parametrize("version", NEWER)
def test_array(version: str) -> None:
    records = live(version, "job-array")
    (group,) = [record for record in records if record.is_group]
    assert group.job.id == f"{group.base_id}_[2-3%2]"
    assert sorted(record.job.id for record in records if not record.is_group) == [
        f"{group.base_id}_0",
        f"{group.base_id}_1",
    ]
    past = history(version, "slurmdb-job-array")
    assert {f"{group.base_id}_0", f"{group.base_id}_1"} <= {record.job.id for record in past}


@pytest.mark.parametrize("version", ["v0.0.42", "v0.0.45"])
def test_heterogeneous_job(version: str) -> None:
    for records in (live(version, "job-hetjob"), history(version, "slurmdb-job-hetjob")):
        assert [record.component for record in records] == [0, 1]
        assert [record.job.id for record in records] == [f"{records[0].base_id}+{n}" for n in (0, 1)]


@pytest.mark.parametrize("version", ["v0.0.42", "v0.0.45"])
def test_failed_job(version: str) -> None:
    (record,) = live(version, "job-failed")
    job = record.job
    assert (job.state, job.exit_code, job.signal, job.reason) == ("FAILED", 3, 0, "NonZeroExitCode")
    assert record.stage is Stage.ENDED
    assert job.times.end is not None
    (past,) = history(version, "slurmdb-job-failed")
    assert (past.job.state, past.job.exit_code, past.job.signal) == ("FAILED", 3, 0)
    assert [step.id for step in past.job.steps] == [f"{past.job.id}.batch"]


def test_a_held_job_waits() -> None:
    (record,) = live("v0.0.42", "job-held")
    assert (record.job.state, record.job.reason, record.job.exit_code) == ("PENDING", "JobHeldUser", None)
    assert record.stage is Stage.WAITING


def test_array_of_the_accounting_in_22_05() -> None:
    records = history("v0.0.38", "slurmdb-array-job")
    assert {record.job.state for record in records} == {"COMPLETED", "FAILED"}
    assert {record.base_id for record in records} == {"14"}
    assert all(record.job.user == "fireuser" for record in records)
    ends = {record.job.state: (record.job.exit_code, record.job.signal) for record in records}
    assert ends == {"COMPLETED": (0, 0), "FAILED": (None, 0)}, "it says 0 of each"
    assert all(step.exit_code is None for record in records for step in record.job.steps if step.state == "FAILED")


@pytest.mark.parametrize(
    ("status", "state", "expected"),
    [
        ({"status": "SUCCESS", "return_code": 0}, "COMPLETED", (0, 0)),
        ({"status": "SUCCESS", "return_code": 0}, "RUNNING", (0, 0)),
        ({"status": "SUCCESS", "return_code": 0}, "FAILED", (None, 0)),
        ({"status": "SUCCESS", "return_code": 0}, "CANCELLED", (None, 0)),
        ({"status": "SIGNALED", "return_code": None, "signal": {"signal_id": 9, "name": "Killed"}}, "FAILED", (0, 9)),
    ],
)
def test_exit_of_a_job_in_the_accounting_of_22_05(
    status: dict[str, Any], state: str, expected: tuple[int | None, int]
) -> None:
    """The first three are what slurmrestd said of jobs that have exited with 0, run, and exited with 3."""
    row = {"job_id": 7, "name": "x", "partition": "debug", "exit_code": status, "state": {"current": state}}
    (record,) = parse_history([row]).records
    assert (record.job.exit_code, record.job.signal) == expected


@pytest.mark.parametrize(("bitmap", "shown"), [("0xF", "0-3"), ("0xC%2", "2-3"), ("[0-3%1]", "0-3%1")])
def test_waiting_elements_in_the_accounting(bitmap: str, shown: str) -> None:
    row = {"job_id": 7, "array": {"job_id": 7, "task_id": None, "task": bitmap}, "state": {"current": "PENDING"}}
    (record,) = parse_history([row]).records
    assert record.job.id == f"7_[{shown}]"


def test_states_with_flags() -> None:
    shown = {
        ("COMPLETING", "CANCELLED"): "RUNNING",
        ("PENDING", "REQUEUED"): "PENDING",
        ("RUNNING", "CONFIGURING"): "PENDING",
        ("RUNNING", "SIGNALING"): "RUNNING",
        ("COMPLETED",): "COMPLETED",
    }
    for found, state in shown.items():
        (record,) = parse_live([{"job_id": 1, "job_state": list(found)}], NOW).records
        assert record.job.state == state, found


@pytest.mark.parametrize("row", [{}, {"job_id": None}, {"job_id": "x"}, {"job_id": {"set": False, "number": 3}}])
def test_rows_without_an_id_are_counted(row: dict[str, object]) -> None:
    assert parse_live([row], NOW).unreadable_rows == 1
    assert parse_history([row]).unreadable_rows == 1


def test_values_of_wrong_types_are_no_error() -> None:
    row = {"job_id": 5, "name": ["x"], "job_state": 7, "exit_code": "0", "nodes": {}, "time_limit": "long", "steps": 3}
    (record,) = parse_live([row], NOW).records
    assert (record.job.id, record.job.name, record.job.times.limit) == ("5", "", None)
    row |= {"time": [], "array": None, "het": 3, "state": "x", "steps": [None]}
    assert len(parse_history([row]).records) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_paths_of_a_job(version: str) -> None:
    (row,) = body(version, "job")["jobs"]
    number = fields.number(row["job_id"])
    found = parse_metadata([row], SlurmJobId(str(number)))
    assert found is not None
    assert found.standard_output == f"/home/fireuser/rest-{number}.out"
    assert found.standard_error == found.standard_output
    assert found.standard_input == "/dev/null"


@pytest.mark.parametrize("version", VERSIONS)
def test_resources_and_files_of_a_live_job(version: str) -> None:
    (record,) = live(version, "job")
    job = record.job
    assert (job.cpus, job.memory, job.gpus, job.usage) == (1, 100, None, None)
    assert job.standard_output == f"/home/fireuser/rest-{job.id}.out"
    assert job.standard_error == job.standard_output


@pytest.mark.parametrize("version", NEWER)
def test_files_of_an_array_and_of_its_elements(version: str) -> None:
    (group, *elements) = sorted(live(version, "job-array"), key=lambda record: not record.is_group)
    for record in elements:
        assert record.job.standard_output == f"/home/fireuser/rest-{record.raw_id}.out"
    row = {"job_id": 7, "array_job_id": 7, "array_task_string": "2-3", "standard_output": "/a/%A_4294967294-%j"}
    (waiting,) = parse_live([row], NOW).records
    assert (waiting.is_group, waiting.job.standard_output) == (group.is_group, "/a/7_%a-%j")


@pytest.mark.parametrize(
    ("version", "seconds", "memory"), [("v0.0.38", 4.496, 234), ("v0.0.42", 3.751, 234), ("v0.0.45", 4.249, 121)]
)
def test_usage_of_an_ended_job(version: str, seconds: float, memory: int) -> None:
    (record,) = history(version, "slurmdb-job-usage")
    job = record.job
    assert job.usage is not None
    assert job.usage.cpu_seconds == pytest.approx(seconds, abs=0.001)  # as sacct shows them: TotalCPU, MaxRSS
    assert job.usage.max_memory == memory
    assert (job.cpus, job.memory, job.gpus) == (2, 200, None)
    if version != "v0.0.38":
        assert (job.standard_output, job.standard_error) == (f"/tmp/sr-{job.id}.out",) * 2


def test_gpus() -> None:
    assert parse_tres("cpu=4,mem=1.5G,node=2,billing=4,gres/gpu=3,gres/gpu:a100=3") == (4, 1536, 3)
    assert parse_tres("gres/gpu:a100=2,gres/gpu:v100=1,mem=512K") == (None, 0, 3)
    assert parse_tres("cpu=x,mem=,gres/gpu=\u0663,x") == (None, None, None)
    entries = [{"type": "gres", "name": "gpu", "count": 2}, {"type": "gres", "name": "gpu:a100", "count": 2}]
    row = {"job_id": 5, "tres": {"allocated": [*entries, {"type": "mem", "count": -2}, {"type": "cpu", "count": 8}]}}
    (record,) = parse_history([row]).records
    assert (record.job.cpus, record.job.memory, record.job.gpus) == (8, None, 2)


@pytest.mark.parametrize("version", ["v0.0.42", "v0.0.45"])
def test_files_of_a_job_that_only_the_accounting_knows(version: str) -> None:
    rows = body(version, "slurmdb-job-usage")["jobs"]
    number = str(rows[0]["job_id"])
    found = parse_recorded_metadata(rows, SlurmJobId.parse(number))
    assert (found.id, found.standard_output) == (number, f"/tmp/sr-{number}.out")
    assert parse_recorded_metadata(rows, SlurmJobId.parse("999")) == JobMetadata("999")
    array = body(version, "slurmdb-job-array")["jobs"]
    base = array[0]["array"]["job_id"]
    assert parse_recorded_metadata(array, SlurmJobId.parse(str(base))).standard_output is None
    number = next(row["job_id"] for row in array if row["array"]["task_id"]["number"] == 1)
    element = parse_recorded_metadata(array, SlurmJobId.parse(f"{base}_1"))
    assert element.standard_output == f"/home/fireuser/rest-{number}.out"


@pytest.mark.parametrize("version", VERSIONS)
def test_nodes(version: str) -> None:
    nodes = resources.parse_nodes(body(version, "nodes")["nodes"])
    assert [node.name for node in nodes] == ["nid001", "nid002", "nid003", "nid004"]
    first = nodes[0]
    assert (first.states, first.cpus, first.sockets, first.cores, first.threads) == (("IDLE",), 8, 8, 1, 1)
    assert (first.partitions, first.features, first.address) == (("debug", "long"), "fake", "127.0.0.1")
    assert None not in (first.free_memory, first.cpu_load, first.idle_cpus, first.allocated_cpus)


def test_node_states() -> None:
    def states(*found: str) -> tuple[str, ...]:
        (node,) = resources.parse_nodes([{"name": "a", "state": list(found)}])
        return tuple(node.states)

    assert states("IDLE", "DRAIN") == ("DRAIN",)
    assert states("DOWN", "NOT_RESPONDING") == ("DOWN", "OFFLINE")
    assert states("MIXED", "DRAIN") == ("MIXED", "DRAIN")
    assert states("ALLOCATED", "COMPLETING") == ("ALLOCATED", "COMPLETING")
    assert states() == ("UNKNOWN",)


@pytest.mark.parametrize("version", VERSIONS)
def test_partitions_and_reservations(version: str) -> None:
    partitions = resources.parse_partitions(body(version, "partitions")["partitions"], hidden=False)
    assert partitions == [Partition("debug", "UP", 32, 4), Partition("long", "UP", 32, 4)]
    (found,) = resources.parse_reservations(body(version, "reservations")["reservations"], NOW)
    assert (found.name, found.nodes, found.state) == ("testres", "nid004", "active")


def test_hidden_partitions() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a", "flags": ["hidden"], "state": "UP"},
        {"name": "b", "partition": {"state": ["DOWN"]}},
    ]
    assert [one.name for one in resources.parse_partitions(rows, hidden=False)] == ["b"]
    assert [(one.name, one.state) for one in resources.parse_partitions(rows, hidden=True)] == [
        ("a", "UP"),
        ("b", "DOWN"),
    ]


@pytest.mark.parametrize("version", ["v0.0.38", "v0.0.42", "v0.0.45"])
def test_accounts(version: str) -> None:
    rows = body(version, "slurmdb-associations-user")["associations"]
    found = resources.parse_accounts(rows, "fireuser")
    assert Account("test", default=True) in found
    assert Account("other", default=False) in found


@pytest.mark.parametrize("version", VERSIONS)
def test_pings(version: str) -> None:
    assert resources.is_controller_up(body(version, "ping"))
    if version in {"v0.0.42", "v0.0.45"}:
        assert not resources.is_controller_up(body(version, "ctld-down-ping"))


def test_names_that_are_no_text() -> None:
    assert fields.text("a\ud800") == "a?"
    assert fields.text(None) == ""
    assert fields.number(0xFFFFFFFE) is None
    assert fields.number(True) is None
    assert fields.exit_status(256) == (1, 0)
    assert fields.exit_status({"return_code": {"set": False}, "signal": {"id": {"set": True, "number": 9}}}) == (0, 9)


def test_versions() -> None:
    document = json.dumps({"paths": {f"/slurm/v0.0.{n}/jobs": {} for n in (36, 38, 42, 46, 137)}})
    assert newest_offered(document.encode()) == ApiVersion(42)
    assert newest_offered(document.replace("/", "\\/").encode()) == ApiVersion(42)
    assert newest_offered(b'{"paths": {"/slurm/v0.0.37/jobs": {}}}') is None
    assert newest_offered(b"") is None
    assert str(parse_version("0.0.40")) == "v0.0.40"
    assert parse_version("v0.0.45") == ApiVersion(45)
    assert parse_version("0.0.37") is None
    assert parse_version("1.0.40") is None
    assert recorded("v0.0.42", "ping")[0] == 200
