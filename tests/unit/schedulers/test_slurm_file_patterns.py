"""The patterns in the names of a job's files, compared with the files that real Slurm has created."""

from __future__ import annotations

import pytest

from flamecrest.server.schedulers.reading.host_in_paths import with_host
from flamecrest.server.schedulers.slurm.file_patterns import JobFiles, ListedJob
from flamecrest.server.schedulers.slurm.jobs import (
    SACCT_DETAILS,
    SQUEUE_DETAILS,
    parse_job_paths,
    parse_sacct,
    parse_squeue,
)
from flamecrest.server.schedulers.values import Node
from tests.contract.gateways import soon

from .recorded import SEP, VERSIONS, output

RECORDED = pytest.mark.parametrize("version", ["22.05", "24.11"])
VALUES = {"A": "529", "a": "4", "j": "530", "J": "530", "n": "0", "s": "batch", "t": "0", "u": "alice", "x": "run"}


def shown(text: str) -> tuple[str, str]:
    """The number of the job, and the output of scontrol as text."""
    return text.partition(" ")[0].removeprefix("JobId="), text


@RECORDED
def test_paths_are_those_of_the_files_that_slurm_creates(version):
    created = {f"/home/fireuser/hjr/{name}" for name in output("patterns-files", version).text().splitlines()}
    number, text = shown(output("patterns-metadata", version).text())
    found = parse_job_paths(text, number, "")
    assert found.standard_output in created
    if version == "22.05":  # a later scontrol prints %5j for %%5j, which could be that pattern of an earlier one
        assert found.standard_error in created


@RECORDED
def test_paths_of_an_element_are_those_of_the_files(version):
    created = {f"/home/fireuser/hjr/{name}" for name in output("patterns-element-files", version).text().splitlines()}
    number, text = shown(output("patterns-element-metadata", version).text())
    found = parse_job_paths(text, number, "13")
    assert found.standard_output in created
    if version == "22.05":  # scontrol 24.11 replaces %5j in spite of the backslash, slurmd does not
        assert found.standard_error in created


def test_a_whole_array_keeps_what_differs_between_its_elements():
    number, text = shown(output("patterns-array-metadata").text())
    assert parse_job_paths(text, number, "").standard_output == "/home/fireuser/hjr/o-%5j-424-%4a-%J-%a-424.txt"


@pytest.mark.anyio
async def test_the_host_is_known_when_the_job_has_started():
    number, text = shown(output("patterns-metadata").text())
    running = parse_job_paths(text.replace("StdOut=", "StdOut=/%N/"), number, "")
    for hostname, host in (("vm.example.org", "vm"), (None, "nid004")):

        async def nodes(_, known=hostname):
            return [Node("nid004", ["IDLE"], 1, hostname=known)]

        assert ((await with_host(running, nodes, soon())).standard_output or "").startswith(f"/{host}/")
    waiting = parse_job_paths(text.replace("StdOut=", "StdOut=/%N/").replace("   BatchHost=nid004\n", ""), number, "")
    assert ((await with_host(waiting, nodes, soon())).standard_output or "").startswith("/%N/")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("o-%5j.txt", "o-00530.txt"),
        ("o-%5J.txt", "o-00530.txt"),
        ("%A_%a", "529_4"),
        ("%4A_%3a", "0529_004"),
        ("%0j%1j%010j", "5305300000000530"),
        ("%12j", "0000000530"),
        ("%99999999999j", "0000000530"),
        ("%u-%9u-%x-%9x", "alice-alice-run-run"),
        ("%s-%4s-%t-%3t-%n-%2n", "batch-batch-0-000-0-00"),
        ("100%%-%%j-%5%", "100%-%j-5%"),
        ("%N-%y-%-%b-%5", "%N-%y-%-%b-%5"),
        ("plain", "plain"),
        ("%", "%"),
        ("", ""),
        (r"a\%j-%5j", "a%j-%5j"),
        (r"a\\b", r"a\b"),
        ("a\\", "a"),
    ],
)
def test_patterns(pattern, path):
    assert JobFiles(VALUES).path(pattern) == path


def test_patterns_in_the_name_of_the_job_are_text():
    files = JobFiles({**VALUES, "x": "n%j%5a"}, name="n%j%5a")
    assert files.path("n%j%5a-%5j-%5x") == "n%j%5a-00530-n%j%5a"


def test_what_scontrol_has_replaced_already_stays():
    files = JobFiles(VALUES, expanded=True)
    assert files.path("%j-100%-%x-%5j") == "%j-100%-%x-00530"
    assert files.path("%J-%t-%s-%3n") == "530-0-batch-000"


@pytest.mark.parametrize("version", VERSIONS)
def test_files_of_listed_jobs(version):
    queue = parse_squeue(output("files-queue", version).text(), SEP, SQUEUE_DETAILS).records
    columns = SACCT_DETAILS[:6] if version == "22.05" else SACCT_DETAILS  # 22.05 does not have the others
    past = parse_sacct(output("files-accounting", version).text(), SEP, columns).records
    assert len(queue) == len(past) == 7
    for one in (*queue, *past):
        job, element = one.job, one.job.id.partition("_")[2]
        given = f"out dir/{job.name}-{one.raw_id}-{element.zfill(5) if element else 4294967294}.out", "fireuser.err"
        end = f"_{'%a' if '[' in element else element}" if element else ""
        default = f"slurm-{one.base_id}{end}.out"
        expected = given if job.name in {"files-ended", "files-array"} else (default, default)
        known = (job.standard_output, job.standard_error)
        if version == "22.05" and job.source == "history":
            assert known == (None, None)
        else:
            assert known == tuple(f"/home/fireuser/{path}" for path in expected)


@pytest.mark.parametrize(
    ("job_id", "given", "shown"),
    [
        ("14", "", None),  # an interactive job
        ("14", "/out/%x", "/out/50%j done"),  # a name is no pattern
        ("14_3", "/w/slurm-15.out", "/w/slurm-14_3.out"),
        ("14_[3-4%1]", "/w/%j-%a-%A", "/w/%j-%a-14"),
        ("14", "/w/slurm-15.out", "/w/slurm-15.out"),
        ("14+1", "%j", "/w/15"),
        ("14", r"\%j", "/w/%j"),
        ("what", "/out", None),
    ],
)
def test_files_of_a_listed_job(job_id, given, shown):
    assert ListedJob(job_id, "15", "alice", "50%j done", "/w").files(given, "") == (shown, shown)


def test_one_file_for_both_outputs_is_one_text():
    stdout, stderr = ListedJob("72", "72", "fireuser", "hello", "/home/fireuser").files("%x.log", "%x.log")
    assert stdout == "/home/fireuser/hello.log"
    assert stderr is stdout
