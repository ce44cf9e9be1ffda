"""The commands of the PBS dialect, on recorded output: submission, changes, nodes, queues, reservations, failures."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.errors import Conflict, Denied, GatewayError, Invalid, NotFound, Unavailable, Upstream
from flamecrest.server.schedulers.dialect import CancelOutcome, JobQuery
from flamecrest.server.schedulers.once.marked_jobs import MarkedJobs
from flamecrest.server.schedulers.pbs.dialect import Pbs
from flamecrest.server.schedulers.pbs.submission import complete_script
from flamecrest.server.schedulers.reading.sharing import Kind
from flamecrest.server.schedulers.values import (
    ArrayRequest,
    Dependency,
    DependencyKind,
    JobAction,
    JobChange,
    JobSpec,
    Mail,
    MailEvent,
    Resources,
)
from flamecrest.server.ssh.command import Command, Output

from .recorded import VERSIONS, names, output

pbs = Pbs(bin_dir="/opt/pbs/bin/")
OK = Dependency(DependencyKind.AFTER_OK, ("1", "2.vm"))
SPEC = JobSpec("/work", script="#!/bin/sh\ndate\n")
any_version = pytest.mark.parametrize("version", VERSIONS)


def options(spec: JobSpec) -> list[str]:
    """The options of qsub, without those that every submission has."""
    argv = list(pbs.submit(spec).argv)
    assert argv[:7] == ["sh", "-c", argv[2], "sh", "/work", "/opt/pbs/bin/qsub", "-f"]
    return argv[7:]


# submission


def test_a_job_is_submitted():
    assert pbs.submit(SPEC).parse(output("qsub-all-options")) == "14.vm"
    assert pbs.submit(SPEC).parse(output("qsub-array-default-out")) == "28[].vm"
    assert options(SPEC) == ["-k", "oed"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "n", "account": "a", "partition": "q"}, ["-N", "n", "-A", "a", "-q", "q"]),
        ({"reservation": "R1"}, ["-q", "R1"]),
        ({"time_limit": 90061}, ["-l", "walltime=25:01:01"]),
        ({"priority": -3, "hold": True, "requeue": False}, ["-p", "-3", "-h", "-r", "n"]),
        ({"hold": False, "requeue": True}, ["-r", "y"]),
        ({"array": ArrayRequest("1-9:4", 2)}, ["-J", "1-9:4%2"]),
        ({"begin": 1795294765}, ["-a", "202611212059.25"]),
        ({"mail": Mail((MailEvent.ALL,), "a@b.org")}, ["-m", "abe", "-M", "a@b.org"]),
        (
            {"dependencies": (OK, Dependency(DependencyKind.AFTER, ("3[]",)))},
            ["-W", "depend=afterok:1:2.vm,after:3[]"],
        ),
        ({"resources": Resources(nodes=2, tasks_per_node=4, cpus_per_task=2, memory=2048)},
         ["-l", "select=2:ncpus=8:mpiprocs=4:mem=2048mb", "-l", "place=scatter"]),
        ({"resources": Resources(tasks=6, memory_per_cpu=100)}, ["-l", "select=6:ncpus=1:mpiprocs=1:mem=100mb"]),
        ({"resources": Resources(nodes=2, gpus=4, exclusive=True)},
         ["-l", "select=2:ncpus=1:ngpus=2", "-l", "place=scatter:excl"]),
        ({"resources": Resources(exclusive=True)}, ["-l", "place=excl"]),
        ({"resources": Resources(exclusive=False)}, []),
        ({"marker": "a_b-1"}, ["-v", "FLAMECREST_MARKER=a_b-1"]),
        ({"native": ("-lplace=free", "-Pproj")}, ["-k", "oed", "-lplace=free", "-Pproj"]),
    ],
)  # fmt: skip
def test_options(change: dict[str, Any], expected: list[str]):
    spec = replace(SPEC, **change)
    pbs.capabilities.check_fields(spec, "pbs")
    assert [one for one in options(spec) if one not in {"-k", "oed"}] == [
        one for one in expected if one not in {"-k", "oed"}
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"array": ArrayRequest("1,3")}, "array"), ({"array": ArrayRequest("5-5")}, "array"),
        ({"array": ArrayRequest("1-2 -k n")}, "array"),
        ({"dependencies": (Dependency(DependencyKind.SINGLETON),)}, "dependencies"),
        ({"dependencies": (Dependency(DependencyKind.AFTER_OK, ("1;ls",)),)}, "dependencies"),
        ({"partition": "a", "reservation": "b"}, "reservation"),
        ({"resources": Resources(nodes=2, tasks=5)}, "tasks"), ({"resources": Resources(nodes=2, gpus=3)}, "gpus"),
        ({"resources": Resources(tasks=4, memory=100)}, "memory"),
        ({"resources": Resources(nodes=1, memory=100, memory_per_cpu=1)}, "memory"),
        ({"mail": Mail((MailEvent.REQUEUE,))}, "mail"), ({"begin": 10**18}, "begin"),
        ({"native": ("/bin/sh",)}, "native"), ({"native": ("--", "x")}, "native"), ({"name": "a\nb"}, "name"),
        ({"working_directory": "work"}, "workingDirectory"), ({"script": "a\r\nb"}, "script"),
        ({"script": None}, "script"), ({"marker": "a,b"}, "marker"),
        ({"env": {"A=": "x"}}, "env"), ({"env": {"A": "\0"}}, "env"),
    ],
)  # fmt: skip
def test_what_pbs_cannot_submit_names_the_field(change: dict[str, Any], field: str):
    with pytest.raises(Invalid) as caught:
        pbs.submit(replace(SPEC, **change))
    assert field in str([one.name for one in caught.value.fields]) or field in caught.value.public


@pytest.mark.parametrize(
    "change",
    [{"qos": "x"}, {"comment": "x"}, {"constraints": "x"}, {"licenses": "x"}, {"container": "x"}, {"deadline": 1},
     {"standard_input": "x"}, {"resources": Resources(gpu_type="x")}, {"resources": Resources(features="x")}],
)  # fmt: skip
def test_fields_that_pbs_lacks_are_refused(change: dict[str, Any]):
    with pytest.raises(Invalid, match="pbs has no such field"):
        pbs.capabilities.check_fields(replace(SPEC, **change), "pbs")


# the script


def run(script: str, folder: Path) -> str:
    """Run a script as a job's shell does, in another directory than the one it is to change to."""
    (folder / "job").write_text(script)
    (folder / "job").chmod(0o700)
    done = subprocess.run([folder / "job"], cwd="/", capture_output=True, text=True, check=False, timeout=20)
    assert not done.stderr
    return done.stdout


PYTHON = """#!/usr/bin/env python3
#PBS -N x
import os
print(os.getcwd())
print(*(f"<{os.environ[name]}>" for name in "ABCD"), sep="", end="")"""
NASTY = {"A": 'it\'s "q" \\ $HOME `id`', "B": "l1\nl2\n", "C": "", "D": "ü,=;&"}


@pytest.mark.parametrize(
    "script",
    [
        '#!/bin/sh\n#PBS -N x\npwd; printf \'<%s>\' "$A" "$B" "$C" "$D"',
        '#!/bin/bash -e\n\n# text\npwd; printf \'<%s>\' "$A" "$B" "$C" "$D"\n',
        PYTHON,
    ],
)
def test_variables_and_directory_reach_the_script(script: str, tmp_path: Path):
    folder = tmp_path / 'it\'s "here"'
    folder.mkdir()
    written = complete_script(replace(SPEC, script=script, env=NASTY, working_directory=str(folder)))
    assert run(written, tmp_path) == f"{folder}\n" + "".join(f"<{value}>" for value in NASTY.values())


def test_directives_stay_before_the_first_command():
    script = "#!/usr/bin/perl\n#PBS -N x\n\n#PBS -l walltime=60\nprint 1;\n#PBS -N late\n"
    lines = complete_script(replace(SPEC, script=script)).splitlines()
    assert lines[:5] == ["#!/bin/sh", "#PBS -N x", "", "#PBS -l walltime=60", "cd /work || exit"]


def test_a_job_exits_if_its_directory_is_gone(tmp_path: Path):
    script = complete_script(replace(SPEC, script="#!/bin/sh\necho run\n", working_directory="/nonexistent"))
    (tmp_path / "job").write_text(script)
    done = subprocess.run(["sh", tmp_path / "job"], capture_output=True, check=False, timeout=20)
    assert (done.returncode != 0, done.stdout) == (True, b"")


def test_the_marker_joins_variables_of_the_script():
    script = '#!/bin/sh\n#PBS -N x -v "A=b",C\ndate\n'
    spec = replace(SPEC, script=script, marker="m1")
    assert "-v" not in options(spec)
    assert '#PBS -N x -v "FLAMECREST_MARKER=m1,A=b",C' in complete_script(spec)


# failures of qsub


def test_every_failed_submission_is_an_error_in_the_words_of_pbs():
    recorded = {name: output(name) for name in names(r"qsub", "master")}
    failures = {name: failed for name, failed in recorded.items() if failed.status and failed.stderr}
    assert len(failures) > 50
    for name, failed in failures.items():
        with pytest.raises(GatewayError) as caught:
            pbs.submit(SPEC).parse(failed)
        assert "usage:" not in caught.value.public or "qsub" in failed.errors()[:6], name
        assert type(caught.value) in {Invalid, Denied, Unavailable}, name


@pytest.mark.parametrize(
    ("stderr", "status", "kind"),
    [
        (b"qsub: Unknown queue\n", 170, Invalid),
        (b"qsub: Unauthorized Request  \n", 159, Denied),
        (b"Connection refused\nqsub: cannot connect to server vm (errno=15010)\n", 162, Unavailable),
        (b"pbsconf error: pbs conf variables not found: \n", 255, Upstream),
        (b"sh: 1: /opt/pbs/bin/qsub: not found\n", 127, Upstream),
        (b"sh: 1: cd: can't cd to /nope\n", 2, Invalid),
        (b"sh: line 1: cd: /nope: No such file or directory\n", 1, Invalid),
    ],
)
def test_kinds_of_failed_submissions(stderr: bytes, status: int, kind: type[GatewayError]):
    with pytest.raises(kind):
        pbs.submit(SPEC).parse(Output(status, b"", stderr))


@pytest.mark.parametrize(
    ("stderr", "kind", "field"),
    [
        ("Unknown queue", "unknownPartition", "partition"),
        ("Queue is not enabled", "partitionUnavailable", "partition"),
        ("Job violates queue and/or server resource limits", "quota", None),
        ("Illegal attribute or resource value Resource_List.walltime", "invalidTimeLimit", "timeLimit"),
        ("Illegal attribute or resource value Resource_List.ncpus", "impossibleResources", "resources.cpusPerTask"),
        ("Unknown resource Resource_List.nosuch", "invalidOption", None),
        ("illegal -J value", "invalidArray", "array"),
        ("script contains cr, lf", "invalidScript", "script"),
        ("Unauthorized Request ", "notPermitted", None),
        ("Error (15002) submitting job", None, None),
    ],
)
def test_refusals_have_kinds_and_name_the_fields_of_the_request(stderr: str, kind: str | None, field: str | None):
    spec = replace(SPEC, partition="x", time_limit=60, resources=Resources(cpus_per_task=4), array=ArrayRequest("0-3"))
    with pytest.raises((Invalid, Denied)) as caught:
        pbs.submit(spec).parse(Output(1, b"", f"qsub: {stderr}\n".encode()))
    assert caught.value.refusal == kind
    assert [one.name for one in caught.value.fields] == ([] if field is None else [field])
    assert caught.value.public == stderr.strip()


@pytest.mark.parametrize("stdout", [b"", b"hello\n", b"12\n", b"\xff.vm\n", b"qsub.1\n"])
def test_a_submission_without_an_id_may_have_submitted(stdout: bytes):
    with pytest.raises(Upstream, match="may have been submitted"):
        pbs.submit(SPEC).parse(Output(0, stdout))


def test_the_id_is_found_among_other_lines():
    assert (
        pbs.submit(SPEC).parse(Output(0, b"quota: 3 GB.left\n123.pbs01.example.org\nbye\n")) == "123.pbs01.example.org"
    )


# questions about jobs


def test_what_is_asked():
    ask = ["/opt/pbs/bin/qstat", "-E", "-x", "-f", "-F", "json"]
    assert list(pbs.live(JobQuery(job_id="12")).argv) == [*ask, "12", "12[]"]
    assert list(pbs.live(JobQuery(job_ids=("12.vm", "27[2].vm"))).argv) == [*ask, "12.vm", "12[].vm", "27[2].vm"]
    assert pbs.live(JobQuery(user="u")).argv[3:] == ("sh", "/opt/pbs/bin/qselect", "u", "/opt/pbs/bin/qstat")
    assert pbs.live(JobQuery()).argv[0] == "/opt/pbs/bin/qstat"
    assert pbs.live(JobQuery()).env == {"TZ": "UTC"}
    assert pbs.history(JobQuery(user="u")) is None


@any_version
def test_an_unknown_job_is_no_failure(version: str):
    found = pbs.live(JobQuery(job_id="999999")).parse(output("qstat-f-json-unknown", version))
    assert found.records == ()


@any_version
@pytest.mark.parametrize("name", ["server-down-qstat-f-json"])
def test_a_server_that_is_down(version: str, name: str):
    commands: list[Command[Any]] = [pbs.live(JobQuery(job_id="1")), pbs.live(JobQuery()), pbs.ping()]
    for command in (*commands, pbs.partitions(hidden=True)):
        with pytest.raises(Unavailable, match="does not answer"):
            command.parse(output(name, version))
    with pytest.raises(Unavailable):
        pbs.nodes().parse(output("server-down-pbsnodes-json", version))
    changes: list[Command[Any]] = [pbs.cancel("1"), pbs.act("1", JobAction.HOLD), pbs.signal("1", "USR1")]
    for command in changes:
        with pytest.raises(Unavailable):
            command.parse(output("server-down-qdel"))


def test_a_marked_job_is_found():
    [command] = pbs.marked("fireuser")

    def first(printed: str) -> str | None:
        found: MarkedJobs = command.parse(Output(0, printed.encode()))
        return found.first("m-1")

    listing = '{"Jobs": {"1.vm": {"Variable_List": {"A": "", "B": ",FLAMECREST_MARKER=m-1"}}, "2.vm": {}}}'
    assert first(listing) == "1.vm"
    assert first(listing.replace("m-1", "m-12")) == "1.vm"  # it begins so
    assert first(listing.replace("m-1", "x-m-1")) is None
    assert first('{"Jobs": {"3.vm": {"Submit_arguments": "-v FLAMECREST_MARKER=m-1 x"}}}') == "3.vm"
    assert first("") is None


# changes


@pytest.mark.parametrize(
    ("job_id", "name", "outcome"),
    [
        ("14.vm", "qdel-own-running", CancelOutcome.DONE),
        ("8[].vm", "qdel-finished", CancelOutcome.ENDED),
        ("999999[]", "qdel-unknown", CancelOutcome.UNKNOWN),
        ("115[2].vm", "qdel-subjob-deleted-again", CancelOutcome.ENDED),
    ],
)
def test_cancelling(job_id: str, name: str, outcome: CancelOutcome):
    assert pbs.cancel(job_id).parse(output(name)) is outcome


def test_a_number_alone_may_be_an_array():
    assert list(pbs.cancel("27").argv) == ["/opt/pbs/bin/qdel", "27", "27[]"]
    unknown = b"qdel: Unknown Job Id 27.vm\n"
    assert pbs.cancel("27").parse(Output(153, b"", unknown)) is CancelOutcome.DONE
    both = unknown + b"qdel: Unknown Job Id 27[].vm\n"
    assert pbs.cancel("27").parse(Output(153, b"", both)) is CancelOutcome.UNKNOWN
    pbs.act("27", JobAction.HOLD).parse(Output(153, b"", unknown))
    with pytest.raises(NotFound):
        pbs.act("27", JobAction.HOLD).parse(Output(153, b"", both))


def test_a_failure_without_a_word_is_no_success():
    for command in (pbs.cancel("27"), pbs.act("27", JobAction.HOLD)):
        with pytest.raises(GatewayError):
            command.parse(Output(1))


def test_anothers_job_is_not_cancelled():
    with pytest.raises(Denied, match="Unauthorized"):
        pbs.cancel("26[].vm").parse(output("qdel-other-users"))


CHANGE = JobChange(name="n", time_limit=60, priority=5)


@pytest.mark.parametrize(
    ("command", "name", "kind"),
    [
        (pbs.act("1[]", JobAction.HOLD), "qhold-unknown", NotFound),
        (pbs.act("1[]", JobAction.HOLD), "qhold-system-as-user", Denied),
        (pbs.act("1[]", JobAction.REQUEUE), "qrerun-as-user", Denied),
        (pbs.act("1[]", JobAction.SUSPEND), "qsig-suspend-as-user", Denied),
        (pbs.signal("1[]", "USR1"), "qsig-queued", Conflict),
        (pbs.signal("1[]", "USR1"), "qsig-bad", Conflict),
        (pbs.change("1[]", CHANGE), "qalter-unknown", NotFound),
        (pbs.change("1[]", CHANGE), "qalter-other-users", Denied),
    ],
)
def test_refused_changes(command: Command[None], name: str, kind: type[GatewayError]):
    with pytest.raises(kind):
        command.parse(output(name))


def test_a_refused_change_names_the_field_of_the_request():
    refusal = b"qalter: Illegal attribute or resource value Resource_List.walltime 1[].vm\n"
    with pytest.raises(Invalid) as caught:
        pbs.change("1[]", CHANGE).parse(Output(14, b"", refusal))
    assert (caught.value.refusal, [one.name for one in caught.value.fields]) == ("invalidTimeLimit", ["timeLimit"])


def test_changes():
    pbs.act("24[]", JobAction.HOLD).parse(output("qhold-queued"))
    pbs.change("24[]", CHANGE).parse(output("qalter-walltime"))
    assert list(pbs.change("24[]", CHANGE).argv)[1:] == ["-N", "n", "-p", "5", "-l", "walltime=0:01:00", "24[]"]
    assert list(pbs.signal("24[]", "sigusr1").argv)[1:] == ["-s", "SIGUSR1", "24[]"]
    for name in ("suspend", "admin-suspend", "-9", "0", "USR1 x", ""):
        with pytest.raises(Invalid, match="signal"):
            pbs.signal("24[]", name)
    for change in (JobChange(), JobChange(dependencies=())):
        with pytest.raises(Invalid):
            pbs.change("24[]", change)


# nodes, queues, reservations


@any_version
def test_nodes(version: str):
    [node] = pbs.nodes().parse(output("pbsnodes-a-json-custom", version))
    assert (node.name, node.states, node.cpus, node.allocated_cpus, node.idle_cpus) == ("vm", ("MIXED",), 8, 7, 1)
    assert (node.free_memory, node.allocated_memory) == (16284, 100)
    [offline] = pbs.nodes().parse(output("pbsnodes-a-json-offline", version))
    assert offline.states == ("OFFLINE",)
    [down] = pbs.nodes().parse(output("pbsnodes-a-json-mom-down", version))
    assert set(down.states) <= {"DOWN", "UNKNOWN"}
    assert len(pbs.nodes().parse(output("pbsnodes-av-json-vnodes", version))) > 1
    assert pbs.nodes().parse(output("pbsnodes-unknown", version)) == []


@any_version
def test_queues(version: str):
    states = {one.name: one.state for one in pbs.partitions(hidden=False).parse(output("qstat-Q-f-json", version))}
    assert states["workq"] == "UP"
    assert states["closed"] == "INACTIVE"
    reserved = output("qstat-Q-f-json-resv-queue", version)
    assert pbs.partitions(hidden=False).parse(reserved) == []
    assert [one.name for one in pbs.partitions(hidden=True).parse(reserved)] == ["R102"]
    pbs.ping().parse(output("qstat-B-f-json", version))
    assert Kind.NODES not in pbs.private().parse(output("qstat-B-f-json", version))
    hidden = output("qstat-B-f-json", version).stdout.replace(b"query_other_jobs", b"x")
    assert Kind.NODES in pbs.private().parse(Output(0, hidden))


def test_reservations():
    found = pbs.reservations().parse(output("pbs_rstat-f-standing"))
    assert [(one.name, one.nodes, one.state) for one in found] == [
        ("R102.vm", "vm", "CONFIRMED"),
        ("S104.vm", "vm", "CONFIRMED"),
    ]
    assert (found[0].start, found[0].end) == (1795295340, 1795295940)
    assert pbs.reservations().parse(Output(0)) == []
    assert pbs.reservations().parse(Output(0, b"Resv ID: R1\nreserve_start = x\n\xff")) == []


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"script_name": "it's run.sh"}, "it_s_run.sh"),
        ({"script_name": "x" * 255}, "x" * 230),
        ({"script_name": "run.sh", "name": "own"}, "own"),
        ({"script_name": "run.sh", "script": "#!/bin/sh\n#PBS -N directive\n"}, None),
        ({"script_name": "run.sh", "native": ("-Nnative",)}, None),
        ({}, None),
    ],
)
def test_a_job_has_the_name_of_its_script(more: dict[str, Any], name: str | None) -> None:
    argv = list(Pbs().submit(JobSpec("/work", **{"script": "#!/bin/sh\n", **more})).argv)
    assert (argv[argv.index("-N") + 1] if "-N" in argv else None) == name
