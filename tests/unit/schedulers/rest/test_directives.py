"""The `#SBATCH` lines of scripts that go to slurmrestd."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.schedulers.slurm.rest.directives import has_directives, with_directives
from flamecrest.server.schedulers.slurm.rest.option_values import moment, seconds, size, typed_count
from flamecrest.server.schedulers.slurm.rest.submission import body
from flamecrest.server.schedulers.slurm.rest.versions import ApiVersion
from flamecrest.server.schedulers.values import ArrayRequest, JobSpec, Mail, MailEvent, Resources, WarningSignal

NOW, NEW = 1_900_000_000.0, ApiVersion(42)


def merged(*lines: str, **request: Any) -> tuple[JobSpec, dict[str, Any]]:
    script = "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), "true", "#SBATCH --wait", ""])
    spec = JobSpec("/work", script=script, **request)
    found, more = with_directives(spec, NOW, NEW)
    assert (found.script, found.working_directory) == (script, "/work")
    return replace(found, script=None), more


FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("--job-name=it", {"name": "it"}),
    ("-J 'a b' # a comment", {"name": "a b"}),
    (r'-J "say \"hi\""x\ y', {"name": 'say "hi"x y'}),
    ("-Aproject -p debug", {"account": "project", "partition": "debug"}),
    ("--output out-%j --error=err", {"standard_output": "out-%j", "standard_error": "err"}),
    ("-t 1-02:03:04", {"time_limit": 93784}),
    ("--time=90", {"time_limit": 5400}),
    ("--hold --priority=7", {"hold": True, "priority": 7}),
    ("-H", {"hold": True}),
    ("--array=1,3-9:2%4", {"array": ArrayRequest("1,3-9:2", 4)}),
    ("--begin=now+2hours", {"begin": 1_900_007_200}),
    ("--requeue", {"requeue": True}),
    ("--requeue --no-requeue", {"requeue": False}),
    ("--signal=SIGUSR1@90", {"signal": WarningSignal("USR1", 90)}),
    ("--mail-type=END,fail --mail-user=a@b", {"mail": Mail((MailEvent.END, MailEvent.FAIL), "a@b")}),
    ("--mail-type=NONE --export=NONE -D /else --parsable -Q", {}),
    ("-C 'a&b' --comment=x", {"constraints": "a&b", "comment": "x"}),
    ("--qos high -L matlab", {"qos": "high", "licenses": "matlab"}),
    ("--get-user-env --export=NONE", {"env": {"SLURM_GET_USER_ENV": "1"}}),
    ("--get-user-env=10L", {"env": {"SLURM_GET_USER_ENV": "1"}}),
]  # fmt: skip
RESOURCES = [
    ("-N2 -n 4 --ntasks-per-node=2 -c 3", Resources(nodes=2, tasks=4, tasks_per_node=2, cpus_per_task=3)),
    ("--mem=4G --exclusive", Resources(memory=4096, exclusive=True)),
    ("--mem-per-cpu 100", Resources(memory_per_cpu=100)),
    ("--gpus=a100:2", Resources(gpus=2, gpu_type="a100")),
    ("--gres=gpu:v100:3", Resources(gpus_per_node=3, gpu_type="v100")),
    ("--gpus-per-node 1", Resources(gpus_per_node=1)),
]


def test_a_job_that_is_not_to_be_requeued() -> None:
    """Slurm 22.05 passes over `"requeue": false`."""
    spec, _ = with_directives(JobSpec("/work", script="#!/bin/sh\n#SBATCH --no-requeue\n"), NOW, ApiVersion(38))
    assert body(spec, "ann", ApiVersion(38))["job"]["no_requeue"] is True
    assert body(spec, "ann", NEW)["job"]["requeue"] is False
    assert body(replace(spec, requeue=True), "ann", ApiVersion(38))["job"]["requeue"] is True


def test_the_environment_of_a_login_has_no_defaults_of_the_gateway_over_it() -> None:
    spec, _ = with_directives(JobSpec("/work", script="#!/bin/sh\n#SBATCH --get-user-env\n", env={"A": "b"}), NOW, NEW)
    assert body(spec, "ann", NEW)["job"]["environment"] == ["SLURM_GET_USER_ENV=1", "A=b"]
    assert "PATH=/usr/local/bin:/usr/bin:/bin" in body(replace(spec, env={}), "ann", NEW)["job"]["environment"]


@pytest.mark.parametrize(("line", "fields"), FIELDS)
def test_lines_fill_the_fields_of_the_job(line: str, fields: dict[str, Any]) -> None:
    assert merged(line) == (JobSpec("/work", **fields), {})


@pytest.mark.parametrize(("line", "resources"), RESOURCES)
def test_lines_ask_for_resources(line: str, resources: Resources) -> None:
    assert merged(line) == (JobSpec("/work", resources=resources), {})


def test_options_that_only_slurmrestd_has() -> None:
    job, more = merged("-w nid001 --exclude=nid[002-003] --wckey=k", "-N 2-4 -d afterok:1:2 --threads-per-core=1")
    assert job == JobSpec("/work")
    assert more == {
        "required_nodes": ["nid001"],
        "excluded_nodes": ["nid[002-003]"],
        "wckey": "k",
        "nodes": "2-4",
        "dependency": "afterok:1:2",
        "threads_per_core": 1,
    }


def test_the_later_line_wins_and_the_request_over_all() -> None:
    assert merged("--qos=a", "-q b")[0].qos == "b"
    lines = ("-J x -t 5 -N 3 --mem=1G --gpus=2 -C a --hold --requeue", "--mail-type=END -a 1-3 -n 2")
    request: dict[str, Any] = {
        "name": "mine",
        "time_limit": 60,
        "hold": False,
        "requeue": False,
        "mail": Mail((MailEvent.FAIL,)),
        "array": ArrayRequest("0"),
        "resources": Resources(nodes=1, memory_per_cpu=5, gpus_per_node=1, features="b"),
    }
    job, _ = merged(*lines, **request)
    assert job == JobSpec("/work", **(request | {"resources": replace(request["resources"], tasks=2)}))


@pytest.mark.parametrize(
    "line",
    [
        "--wait", "-W", "--clusters=west", "-M west", "--begin=16:00", "--deadline=2030-01-01T00:00:00", "hetjob",
        "--nodes=two", "--mem=lots", "--time=1:2:3:4:5", "--gres=disk:5", "--exclusive=user", "--export=A=b",
        "--signal=B:USR1@5", "--mail-type=TIME_LIMIT", "--array=1-3%x", "-HN2", "--time", "-J 'open", "--job", "-",
        "--gpus=a:b:c", "--priority=TOP", "--unknown=1", "--hold=1", "--get-user-env=x",
    ],
)  # fmt: skip
def test_what_slurmrestd_cannot_do_is_refused_with_the_words_of_the_line(line: str) -> None:
    with pytest.raises(Invalid) as caught:
        merged(line)
    assert "#SBATCH" in caught.value.public
    assert re.split("[= ]", line)[0] in caught.value.public
    assert caught.value.fields[0].name == "script"


def test_lines_of_other_schedulers_are_refused() -> None:
    for line in ("#PBS -l nodes=2", "#BSUB -n 4"):
        with pytest.raises(Invalid, match=line[:5]):
            with_directives(JobSpec("/", script=f"#!/bin/sh\n{line}\n"), NOW, NEW)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("#!/bin/sh\n\n# text\n#SBATCH -N2\n", True),
        ("#!/bin/sh\n#PBS -V\n", True),
        ("#!/bin/sh\ntrue\n#SBATCH -N2\n", False),
        ("#!/bin/sh\n#SBATCHES -N2\n ##SBATCH -N2\n", False),
        ("", False),
    ],
)
def test_where_lines_are_looked_for(script: str, found: bool) -> None:
    assert has_directives(script) is found


def test_values_of_options() -> None:
    durations = {"5": 300, "5:30": 330, "1:02:03": 3723, "2-3": 183600, "2-3:4": 183840, "1-2-3": None, "x": None}
    assert {text: seconds(text) for text in durations} == durations
    sizes = {"100": 100, "1K": 1, "1025k": 2, "2GB": 2048, "1T": 1048576, "1.5G": None, "": None, "1P": None}
    assert {text: size(text) for text in sizes} == sizes
    moments = {"now": 100, "now+5": 105, "NOW+1week": 604900, "uts7": 7, "tomorrow": None, "now+1year": None}
    assert {text: moment(text, 100.9) for text in moments} == moments
    counts = {"2": ("", 2), "a:2": ("a", 2), "a": ("a", 1), "a:b:2": None, "": None, "-1": None}
    assert {text: typed_count(text) for text in counts} == counts


def test_lines_that_22_05_cannot_follow() -> None:
    for line in ("-w nid001", "--exclude=nid001"):
        with pytest.raises(Invalid, match="#SBATCH"):
            with_directives(JobSpec("/", script=f"#!/bin/sh\n#SBATCH {line}\n"), NOW, ApiVersion(38))
