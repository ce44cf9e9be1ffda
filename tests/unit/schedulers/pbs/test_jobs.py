"""Jobs in the output of qstat, as recorded, and in output that no version prints."""

from __future__ import annotations

import itertools
import json
import re
import time

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.schedulers.merging import JobRecord, merge
from flamecrest.server.schedulers.pbs import document
from flamecrest.server.schedulers.pbs.ids import PbsJobId
from flamecrest.server.schedulers.pbs.jobs import parse_jobs, parse_metadata, parse_size, parse_time
from flamecrest.server.schedulers.pbs.states import parse_job_state
from flamecrest.server.schedulers.pbs.submission import time_text
from flamecrest.server.schedulers.values import Job, Stage

from .recorded import VERSIONS, names, output

any_version = pytest.mark.parametrize("version", VERSIONS)
LISTINGS = r"qstat-.*f-json"


def records(name: str, version: str = "master") -> list[JobRecord]:
    return list(parse_jobs(output(name, version).stdout).records)


def job(name: str, version: str = "master") -> Job:
    [record] = records(name, version)
    return record.job


@any_version
def test_every_job_of_every_listing_is_read(version: str):
    for name in names(LISTINGS, version):
        printed = output(name, version).stdout
        snapshot = parse_jobs(printed)
        ids = re.findall(rb'^\s+"([0-9]+(?:\[[0-9]*\])?\.vm)":\s*\{', printed, re.MULTILINE)
        assert [record.job.id for record in snapshot.records] == [one.decode() for one in ids], name
        assert (snapshot.unreadable_rows, snapshot.unknown_states) == (0, ()), name
        jobs = [record.job for record in snapshot.records]
        assert all(job.user and job.partition and job.times.submit for job in jobs), name


@any_version
def test_the_line_reader_agrees_with_json(version: str):
    valid = 0
    for name in names(LISTINGS, version):
        text = output(name, version).stdout.decode("utf-8", "replace")
        try:
            whole = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
        except ValueError:  # invalid JSON: only the line reader can read it
            continue
        valid += 1
        lines = document._read_lines(text)
        assert lines.get("Jobs", {}).keys() == whole.get("Jobs", {}).keys(), name
        for job_id, entry in whole.get("Jobs", {}).items():
            for key in (
                "Job_Name",
                "Job_Owner",
                "job_state",
                "queue",
                "Resource_List",
                "resources_used",
                "Output_Path",
            ):
                assert lines["Jobs"][job_id].get(key) == entry.get(key), (name, job_id, key)
    assert valid > 100


@any_version
def test_a_listing_with_jobs_that_are_no_json_is_read_whole(version: str):
    found = records("qstat-x-f-json-all", version)
    assert len(found) > 50
    assert {record.job.user for record in found} >= {"fireuser"}


@any_version
def test_all_fields(version: str):
    one = job("qstat-f-json-all-options", version)
    assert (one.id, one.name, one.user, one.account, one.group) == ("14.vm", "opts", "fireuser", "acct1", "fireuser")
    assert (one.state, one.partition, one.cluster, one.nodes, one.node_count) == ("RUNNING", "workq", "vm", "vm", 1)
    assert (one.priority, one.cpus, one.times.limit, one.reason) == (100, 1, 60, None)
    assert one.standard_output == "/opt/pbs-test/work/fireuser/opts.o14"
    assert one.standard_error == "/opt/pbs-test/work/fireuser/opts.e14"
    assert one.times.submit == one.times.start == 1795294765


@any_version
@pytest.mark.parametrize(
    ("name", "state", "code", "signal"),
    [
        ("qstat-x-f-json-exit3", "FAILED", 3, 0),
        ("qstat-x-f-json-finished", "COMPLETED", 0, 0),
        ("qstat-x-f-json-deleted-running", "CANCELLED", 0, 15),
        ("qstat-x-f-json-deleted-queued", "CANCELLED", None, None),
        ("qstat-x-f-json-killed", "CANCELLED", 0, 15),
        ("qstat-x-f-json-end-cput", "FAILED", 0, 9),
        ("qstat-x-f-json-end-nointerp", "FAILED", 127, 0),
        ("qstat-x-f-json-end-exit255", "FAILED", 255, 0),
        ("qstat-x-f-json-undeliverable-finished", "COMPLETED", 0, 0),
        ("qstat-f-json-suspended", "SUSPENDED", None, None),
        ("qstat-f-json-held", "PENDING", None, None),
        ("qstat-f-json-waiting", "PENDING", None, None),
        ("qstat-f-json-being-deleted", "RUNNING", None, None),
        ("qstat-f-json-undeliverable-exiting", "RUNNING", None, None),
    ],
)
def test_states(version: str, name: str, state: str, code: int | None, signal: int | None):
    one = job(name, version)
    assert (one.state, one.exit_code, one.signal) == (state, code, signal)
    ended = state in {"COMPLETED", "FAILED", "CANCELLED"}
    assert (one.times.end is not None) == ended


def test_a_job_over_its_walltime_is_a_timeout():
    assert parse_job_state("F", substate=93, status=-29, started=True).state == "TIMEOUT"


@pytest.mark.parametrize("letter", ["", "Z", "RR", "\x00"])
def test_an_unknown_state_is_shown_as_unknown(letter: str):
    found = parse_job_state(letter, substate=None, status=None, started=False)
    assert (found.state, found.stage, found.known) == ("UNKNOWN", Stage.WAITING, False)


def test_reasons_are_those_of_waiting_and_ended_jobs():
    assert "Can Never Run" in (job("qstat-f-json-queued-never-fits").reason or "")
    assert job("qstat-f-json-fresh-queued").reason is None


@any_version
def test_an_array_and_its_elements(version: str):
    found = {record.job.id: record for record in records("qstat-x-t-f-json-array-finished", version)}
    assert list(found) == ["27[].vm", "27[1].vm", "27[2].vm", "27[3].vm"]
    assert {record.base_id for record in found.values()} == {"27"}
    assert [record.job.id for record in merge(found.values(), None)] == list(found)
    running = {record.job.id: record.job.state for record in records("qstat-t-f-json-array-step-limit", version)}
    assert running["28[].vm"] == "RUNNING"
    assert set(running.values()) <= {"RUNNING", "PENDING", "COMPLETED"}


def test_an_array_failed_if_one_element_failed():
    """PBS gives such an array the exit status 0."""
    states = {record.job.id: record.job.state for record in records("qstat-x-t-f-json-array-one-failed")}
    assert states["114[2].vm"] == "FAILED"
    assert states["114[].vm"] == "FAILED"


@any_version
def test_metadata(version: str):
    paths = parse_metadata(output("qstat-f-json-all-options", version).stdout, PbsJobId.parse("14"))
    assert paths is not None
    assert (paths.id, paths.script, paths.standard_input) == ("14.vm", None, None)
    assert paths.standard_output == "/opt/pbs-test/work/fireuser/opts.o14"
    assert parse_metadata(output("qstat-f-json-unknown", version).stdout, PbsJobId.parse("14")) is None


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("27", "27[].vm"), ("27[]", "27[].vm"), ("27.vm", "27[].vm"), ("27[2]", "27[2].vm"),
        ("27[2].vm.example.org", "27[2].vm"), ("027[2].VM", "27[2].vm"), ("27[9]", None), ("28", None),
        ("27.other", None),
    ],
)  # fmt: skip
def test_what_an_id_means(asked: str, meant: str | None):
    found = PbsJobId.parse(asked).select(records("qstat-x-t-f-json-array-finished"))
    assert (found and found.id) == meant


@pytest.mark.parametrize(
    "text", ["", "x", "27_2", "27[", "27[1-2]", "27;ls", "-1", "27.", "٢٧", "27\n", "1" * 40, "27.a b"]
)
def test_what_is_no_id(text: str):
    with pytest.raises(Invalid, match="Invalid job id"):
        PbsJobId.parse(text)


@pytest.mark.parametrize(
    "printed",
    [
        b"", b"{", b"[]", b"null", b'{"Jobs": 3}', b'{"Jobs": {"1.vm": 3}}', b'{"Jobs": []}', b"\xff\xfe",
        b"[" * 100_000, b'"a": {\n' * 1000, b'{"Jobs":{\n"1.vm":{\n"Job_Name": inf,\n', b"}\n" * 100,
    ],
)  # fmt: skip
def test_output_that_no_version_prints_is_no_crash(printed: bytes):
    assert len(parse_jobs(printed).records) <= 1


def test_values_of_unexpected_types_are_no_crash():
    keys = (
        "Job_Name",
        "job_state",
        "Resource_List",
        "resources_used",
        "Variable_List",
        "exec_host",
        "ctime",
        "substate",
    )
    for value in ("null", "true", "[1]", '{"a": {}}', "1e999", '"x"', "-1"):
        text = '{"Jobs": {"1.vm": {' + ",".join(f'"{key}": {value}' for key in keys) + "}}}"
        [record] = parse_jobs(text.encode()).records
        assert record.job.id == "1.vm"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"])
def test_times_do_not_depend_on_the_gateways_zone_nor_on_daylight_saving(zone: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        hours = [parse_time(f"Sun Oct 25 {hour:02}:30:00 2026") for hour in range(5)]
        assert [later - one for one, later in itertools.pairwise(hour or 0 for hour in hours)] == [3600] * 4
        assert [time_text(hour or 0) for hour in hours[:2]] == ["202610250030.00", "202610250130.00"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_sizes_and_times():
    assert [parse_size(text) for text in ("100mb", "102400kb", "1gb", "0kb", "1b", "1gw", "x", None)] == [
        100, 100, 1024, 0, 1, 8192, None, None,
    ]  # fmt: skip
    assert parse_time("Sat Nov  7 20:59:02 2026") == 1794085142
    assert parse_time("Sam Nov  7 20:59:02") is None
