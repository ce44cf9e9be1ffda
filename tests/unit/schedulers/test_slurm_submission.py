"""sbatch's options from a typed job, and what `sbatch --test-only` says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.schedulers.once.marked_paths import marker_in, tag_in
from flamecrest.server.schedulers.slurm import submission
from flamecrest.server.schedulers.values import (
    ArrayRequest,
    Dependency,
    DependencyKind,
    JobSpec,
    Mail,
    MailEvent,
    Resources,
    SubmissionCheck,
    WarningSignal,
)
from flamecrest.server.ssh.command import Output

SPEC = JobSpec("/w", script="#!/bin/sh\n")


def options(spec: JobSpec) -> list[str]:
    return list(submission.submit("sbatch", spec).argv)[2:]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"time_limit": 5400}, "--time=90:00"),
        ({"time_limit": 61}, "--time=1:01"),
        ({"qos": "long"}, "--qos=long"),
        ({"priority": 7}, "--priority=7"),
        ({"array": ArrayRequest("0-15:4", 2)}, "--array=0-15:4%2"),
        ({"array": ArrayRequest("1,3")}, "--array=1,3"),
        (
            {
                "dependencies": (
                    Dependency(DependencyKind.AFTER_OK, ("12", "13_1")),
                    Dependency(DependencyKind.SINGLETON),
                )
            },
            "--dependency=afterok:12:13_1,singleton",
        ),
        ({"hold": True}, "--hold"),
        ({"begin": 1795293308}, "--begin=uts1795293308"),
        ({"deadline": 1795293308}, "--deadline=uts1795293308"),
        ({"requeue": True}, "--requeue"),
        ({"requeue": False}, "--no-requeue"),
        ({"signal": WarningSignal("USR1", 90)}, "--signal=USR1@90"),
        ({"mail": Mail((MailEvent.END, MailEvent.FAIL))}, "--mail-type=END,FAIL"),
        ({"comment": "two words; $x"}, "--comment=two words; $x"),
        ({"licenses": "matlab:2"}, "--licenses=matlab:2"),
        ({"native": ("--overcommit",)}, "--overcommit"),
        ({"resources": Resources(nodes=2)}, "--nodes=2"),
        ({"resources": Resources(tasks=4)}, "--ntasks=4"),
        ({"resources": Resources(tasks_per_node=2)}, "--ntasks-per-node=2"),
        ({"resources": Resources(cpus_per_task=3)}, "--cpus-per-task=3"),
        ({"resources": Resources(memory=4096)}, "--mem=4096M"),
        ({"resources": Resources(memory_per_cpu=10)}, "--mem-per-cpu=10M"),
        ({"resources": Resources(gpus=4, gpu_type="a100")}, "--gpus=a100:4"),
        ({"resources": Resources(gpus_per_node=2)}, "--gpus-per-node=2"),
        ({"resources": Resources(exclusive=True)}, "--exclusive"),
        ({"resources": Resources(features="gpu&big")}, "--constraint=gpu&big"),
    ],
)
def test_a_field_becomes_one_option(fields: dict[str, Any], expected: str) -> None:
    assert options(replace(SPEC, **fields)) == ["--chdir=/w", expected]


@pytest.mark.parametrize(
    "fields",
    [
        {"native": ("script.sh",)},
        {"native": ("--",)},
        {"native": ("--comment=a\nb",)},
        {"dependencies": (Dependency(DependencyKind.AFTER_OK, ("1;rm",)),)},
        {"comment": "a\x00b"},
        {"mail": Mail((MailEvent.END,), "a\nb")},
    ],
)
def test_what_is_no_option_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        options(replace(SPEC, **fields))


def test_a_check_tells_when_and_where() -> None:
    command = submission.check("sbatch", replace(SPEC, env={"A": "b"}))
    assert command.env["SLURM_TIME_FORMAT"] == "%s"
    said = b"sbatch: Job 5 to start at 1795293308 using 1 processors on nodes nid004 in partition debug\n"
    assert command.parse(Output(0, stderr=said)) == SubmissionCheck(1795293308, "debug", "nid004", 1)


def test_a_check_of_a_quiet_sbatch_says_what_to_leave_out() -> None:
    with pytest.raises(Invalid, match="--quiet"):
        submission.check("sbatch", replace(SPEC, native=("-Q",))).parse(Output(0))


@pytest.mark.parametrize(
    "said",
    [
        b"allocation failure: Requested node configuration is not available\n",
        b"sbatch: error: invalid partition specified: nosuch\nallocation failure: Invalid partition name specified\n",
    ],
)
def test_a_refused_check_is_invalid_in_the_schedulers_words(said: bytes) -> None:
    with pytest.raises(Invalid, match=r"not available|Invalid partition name"):
        submission.check("sbatch", SPEC).parse(Output(1, stderr=said))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"begin": 5}, "begin"),
        ({"deadline": 999_999}, "deadline"),
        ({"resources": Resources(cpus_per_task=65538)}, "resources.cpusPerTask"),
        ({"resources": Resources(tasks_per_node=65534)}, "resources.tasksPerNode"),
    ],
)
def test_numbers_that_slurm_would_read_as_others_are_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(Invalid) as caught:
        submission.submit("sbatch", replace(SPEC, **fields))
    assert [one.name for one in caught.value.fields] == [name]


def test_times_of_many_digits() -> None:
    assert "--begin=uts253402300799" in options(replace(SPEC, begin=253402300799))


def test_a_refused_submission_names_the_field_of_the_request() -> None:
    refused = Output(1, b"", b"sbatch: error: Batch job submission failed: Invalid qos specification\n")
    for spec, names in ((replace(SPEC, qos="none"), ["qos"]), (SPEC, [])):
        for command in (submission.submit("sbatch", spec), submission.check("sbatch", spec)):
            with pytest.raises(Invalid) as caught:
                command.parse(refused)
            assert caught.value.refusal == "unknownQos"
            assert [one.name for one in caught.value.fields] == names


MARKER = "flamecrest-hqybe6r5vmc6oc3oxdwb-xcm6qsh3"


@pytest.mark.parametrize(
    ("job", "in_input"),
    [
        ({}, True),
        ({"standard_input": "/home/in"}, False),
        ({"script": "#!/bin/sh\n#SBATCH --input=/home/in\n"}, False),
        ({"script": "#!/bin/sh\n#SBATCH -p debug -Hi /home/in\n"}, False),
        ({"script": "#!/bin/sh\n#SBATCH --time=5\n"}, True),
        ({"native": ("--input=/home/in",)}, False),
        ({"native": ("-i/home/in",)}, False),
        ({"script": None, "script_path": "/home/job.sh"}, False),
    ],
)
def test_a_job_with_a_comment_has_its_marker_in_its_input_unless_it_has_one(job, in_input):
    given = options(replace(SPEC, comment="mine", marker=MARKER, **job))
    assert f"--chdir=/{MARKER}" in given
    inputs = [one for one in given if one.startswith("--input=/dev")]
    assert [marker_in(one.removeprefix("--input=")) for one in inputs] == ([MARKER] if in_input else [])
    if not in_input:
        keyed = options(replace(SPEC, comment="mine", marker=MARKER, idempotency_key="key", **job))
        assert [marker_in(one) for one in keyed if one.startswith("--chdir=/w")] == [MARKER]
        assert [tag_in(one) for one in given if one.startswith("--chdir=/w")] == [MARKER[: len("flamecrest-aaa")]]
    assert not in_input or Path(inputs[0].removeprefix("--input=")).resolve() == Path("/dev/null")
