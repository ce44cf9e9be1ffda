"""A large script is submitted whole or not at all: what the shell on the login node does with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flamecrest.server.schedulers.slurm import submission
from flamecrest.server.schedulers.values import JobSpec

LARGE = "#!/bin/sh\n" + "# é \\n %s '\"$HOME`\n" * 5000


@pytest.fixture
def sbatch(tmp_path: Path) -> Path:
    """A program in sbatch's place, which keeps its arguments and its input."""
    program = tmp_path / "sbatch"
    program.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/arguments\ncat > {tmp_path}/input\necho 315\n')
    program.chmod(0o755)
    return program


def run(sbatch: Path, sent: bytes, spec: JobSpec, folder: str) -> subprocess.CompletedProcess[bytes]:
    argv = submission.submit(str(sbatch), spec).argv
    return subprocess.run(
        argv, input=sent, capture_output=True, check=False, env={"TMPDIR": folder, "PATH": "/bin:/usr/bin"}
    )


@pytest.mark.parametrize("folder", ["tmp", "missing"])
def test_a_large_script_arrives_as_it_is(sbatch: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "tmp").mkdir()
    spec = JobSpec("/w", script=LARGE)
    done = run(sbatch, LARGE.encode(), spec, str(tmp_path / folder))
    assert done.stdout == b"315\n"
    assert (tmp_path / "input").read_bytes() == LARGE.encode()
    assert (tmp_path / "arguments").read_text() == "--parsable --chdir=/w\n"
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("missing", [1, 100, len(LARGE.encode())])
def test_a_part_of_a_script_is_not_submitted(sbatch: Path, tmp_path: Path, missing: int) -> None:
    done = run(sbatch, LARGE.encode()[:-missing], JobSpec("/w", script=LARGE), str(tmp_path))
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"not arrived whole" in done.stderr
    assert not (tmp_path / "input").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["sbatch"]


def test_small_scripts_and_jobs_with_another_path_go_to_sbatch_at_once() -> None:
    for spec in (JobSpec("/w", script="#!/bin/sh\n"), JobSpec("/w", script=LARGE, env={"PATH": "/x"})):
        assert submission.submit("sbatch", spec).argv[0] == "sbatch"
