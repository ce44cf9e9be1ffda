"""The same commands on every recorded version of Slurm: all are understood, and mean the same."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from flamecrest.server.errors import GatewayError
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.slurm.dialect import Slurm
from flamecrest.server.schedulers.slurm.jobs import parse_sacct, parse_squeue
from flamecrest.server.schedulers.values import Job, JobSpec
from flamecrest.server.ssh.command import Command

from .recorded import FOLDER, SEP, VERSIONS, RecordedSession, both, output, recording, recordings, scheduler, soon

OLDEST, *NEWER = VERSIONS
slurm = Slurm(separator=lambda: SEP, details=False)
any_version = pytest.mark.parametrize("version", VERSIONS)
newer_version = pytest.mark.parametrize("version", NEWER)

NAMES = [one.name for one in recordings("[0-9]*", OLDEST)]
FAILURES = [
    name
    for name in NAMES
    if re.search(r"ERR|down|hangs|no-accounting|unknown|nobody|cancel|attach", name)
    and name != "134-scontrol-show-partition-ERR-unknown"  # the dialect does not ask for one partition
]
# Jobs whose program itself ended in another way when it was recorded: exit code and signal.
ENDED_OTHERWISE = {("failed", "24.11"): (3, 0), ("failed", "26.05"): (3, 0), ("time-limit-over", "24.11"): (143, 0)}
READS: dict[str, Command[Any]] = {
    "submit": slurm.submit(JobSpec("/", script="x")),
    "live": slurm.live(JobQuery(job_id="1")),
    "history": slurm.history(JobQuery(job_id="1")),
    "metadata": slurm.metadata("1"),
    "script": slurm.scripts("1")[1],
    "cancel": slurm.cancel("1"),
    "attach": slurm.attach("1", "x"),
    "nodes": slurm.nodes(),
    "partitions": slurm.partitions(hidden=True),
    "reservations": slurm.reservations(),
    "accounts": slurm.accounts("u"),
    "ping": slurm.ping(),
}
PROGRAMS = {  # what a command line has in it, the most telling first
    "sbatch": "submit",
    "squeue": "live",
    "batch-script": "script",
    "batch_script": "script",
    "sacctmgr": "accounts",
    "sacct": "history",
    " job ": "metadata",
    "scancel": "cancel",
    "srun": "attach",
    "sinfo": "nodes",
    "partitions": "partitions",
    "reservations": "reservations",
    "ping": "ping",
}


def outcome(name: str, version: str) -> str:
    """The kind of error that the dialect makes of a recording, or "value"."""
    one = recording(name, version)
    command = READS[next(kind for text, kind in PROGRAMS.items() if text in one.line)]
    try:
        command.parse(one.output)
    except GatewayError as error:
        return type(error).__name__
    return "value"


def job_of(name: str, version: str) -> str:
    """The job id in the recorded command line: the numbers differ from version to version."""
    found = re.search(r"--jobs=(\S+)", recording(name, version).line)
    assert found, name
    return found[1]


def test_the_recordings_are_of_the_versions_that_are_claimed():
    assert sorted(path.name for path in FOLDER.glob("slurm-*")) == [f"slurm-{version}" for version in VERSIONS]
    requirements = (FOLDER.parents[1] / "docs" / "operators" / "install.md").read_text()
    claimed = re.search(r"Slurm's commands \(tested with ([^)]+)\)", requirements)
    assert claimed is not None
    for text in (claimed[1], Slurm.__doc__ or ""):
        assert re.findall(r"[0-9]+\.[0-9]+", text) == list(VERSIONS)


@any_version
def test_every_row_of_a_job_is_readable_and_every_state_known(version):
    for one in [*recordings("[5-6]??-*-live", version), *recordings("[5-6]??-*-history", version)]:
        if one.output.status == 0:
            reader = parse_squeue if one.name.endswith("live") else parse_sacct
            snapshot = reader(one.output.stdout.decode("utf-8", "replace"), SEP)
            assert (snapshot.unreadable_rows, snapshot.unknown_states) == (0, ()), one.name


@newer_version
def test_the_same_commands_were_recorded(version):
    """So that what is tested for one version (every command is one that was recorded) holds for all."""

    def shape(line: str) -> str:
        return re.sub(r"[0-9]+", "0", line)

    assert [one.name for one in recordings("[0-9]*", version)] == NAMES
    for name in NAMES:
        if name not in {"601-submit-ERR-name-too-long", "663-files-accounting"}:  # 22.05 has fewer columns
            assert shape(recording(name, version).line) == shape(recording(name, OLDEST).line)


@newer_version
def test_a_failure_is_of_the_same_kind(version):
    assert {name: outcome(name, version) for name in FAILURES} == {name: outcome(name, OLDEST) for name in FAILURES}


@any_version
@pytest.mark.parametrize(
    ("name", "state", "code", "signal"),
    [
        ("running", "RUNNING", 0, 0),
        ("done", "COMPLETED", 0, 0),
        ("failed", "FAILED", 7, 0),
        ("killed", "FAILED", 0, 9),
        ("cancelled", "CANCELLED", 0, 15),
        ("time-limit-over", "TIMEOUT", 0, 15),
        ("held", "PENDING", None, None),
        ("held-cancelled", "CANCELLED", 0, 0),
        ("suspended", "SUSPENDED", 0, 0),
        ("array-mixed", "RUNNING", 0, 0),
        ("array-done", "FAILED", 1, 0),
        ("array-element-waiting", "PENDING", None, None),
        ("array-element", "RUNNING", 0, 0),
        ("het", "RUNNING", 0, 0),
        ("het-component", "RUNNING", 0, 0),
    ],
)
@pytest.mark.anyio
async def test_states(name, state, code, signal, version):
    code, signal = ENDED_OTHERWISE.get((name, version), (code, signal))
    job_id = job_of(f"{name}-live", version)
    (found,) = await scheduler(RecordedSession(both(name), version=version)).job(job_id, soon())
    assert (found.id, found.state, found.exit_code, found.signal) == (job_id, state, code, signal)


@any_version
def test_names_times_and_steps(version):
    live, history = (
        reader(output(f"done-{source}", version).text(), SEP).records[0].job
        for reader, source in ((parse_squeue, "live"), (parse_sacct, "history"))
    )
    assert (live.name, history.name) == ('my "job" | é', "my `job` | é")
    for one in (live, history):
        assert (one.user, one.group, one.account, one.partition) == ("fireuser", "fireuser", "test", "debug")
        assert (one.cluster, one.nodes, one.node_count, one.priority) == ("cluster", "nid004", 1, 100)
        assert (one.times.limit, one.times.elapsed) == (600, length(one))
    assert (live.times.suspended, history.times.suspended) == (None, 0)
    assert [step.name for step in history.steps] == ["batch", "bash", "bash"]


def length(job: Job) -> int:
    return (job.times.end or 0) - (job.times.start or 0)


@any_version
def test_paths(version):
    found = slurm.metadata(job_of("running-live", version)).parse(output("live-metadata", version))
    assert found is not None
    number = job_of("running-live", version)
    assert (found.standard_input, found.standard_output, found.standard_error) == (
        "/dev/null",
        f"/home/fireuser/o {number}.txt",
        '/home/fireuser/e my "job" | é.txt',
    )


@any_version
def test_errors_go_to_the_output_file_unless_told_otherwise(version):
    """26.05 leaves StdErr empty then."""
    found = slurm.metadata("1").parse(output("030-scontrol-show-job-running", version))
    assert found is not None
    assert (found.standard_output or "").startswith("/home/fireuser/slurm-")
    assert found.standard_error == found.standard_output
    element = slurm.metadata("1_1").parse(output("array-element-metadata", version))
    assert element is not None
    assert element.standard_error == element.standard_output


@any_version
def test_scripts(version):
    """22.05 puts a line end of its own behind a stored script, the newer versions do not."""
    written = output("034-scontrol-write-batch-script", version).text()
    assert written.startswith("#!/bin/bash\n")
    assert written.endswith("\n")
    assert slurm.scripts("1")[0].parse(output("034-scontrol-write-batch-script", version)) == written
    assert slurm.scripts("1")[1].parse(output("045-sacct-firecrest-batch-script", version)) == written


@any_version
def test_nodes_partitions_reservations_and_accounts(version):
    nodes = slurm.nodes().parse(output("nodes", version))
    assert [(node.name, node.cpus, node.partitions) for node in nodes][:1] == [("nid001", 8, ("debug", "long"))]
    assert [one.name for one in slurm.partitions(hidden=True).parse(output("partitions-hidden", version))] == [
        one.name for one in slurm.partitions(hidden=True).parse(output("partitions-hidden", OLDEST))
    ]
    assert [one.name for one in slurm.reservations().parse(output("reservations", version))] == ["testres"]
    accounts = slurm.accounts("fireuser").parse(output("accounts", version))
    assert [(one.name, one.default) for one in accounts or ()] == [("other", False), ("test", True)]
    slurm.ping().parse(output("ping", version))


@any_version
def test_of_several_users_each_job_has_its_user_and_unknown_ones_are_named(version):
    found = slurm.live_of(["nosuch", "user17", "user18"]).parse(output("several-users", version))
    assert [(one.job.user, one.job.name, one.job.state) for one in found.records] == [
        ("user17", "user18", "CANCELLED"),
        ("user18", "wrap", "PENDING"),
        ("user17", "a,b user18 | x", "PENDING"),
    ]
    assert (found.unknown_users, found.unreadable_rows) == (frozenset({"nosuch"}), 0)


@any_version
@pytest.mark.parametrize("line", ["squeue: error: Unable to read a part", "slurm_load_jobs error: Unexpected message"])
def test_of_several_users_an_error_beside_jobs_is_an_error(version, line):
    said = output("several-users", version)
    with pytest.raises(GatewayError):
        slurm.live_of(["user17", "user18"]).parse(replace(said, stderr=said.stderr + line.encode() + b"\n"))
