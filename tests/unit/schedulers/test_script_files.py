"""Scripts that are read for batch systems which take texts only: each file is a text or a clear error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.errors import Invalid, TooLarge
from flamecrest.server.schedulers.job_errors import Refusal
from flamecrest.server.schedulers.script_files import LIMIT, read_script
from flamecrest.server.schedulers.slurm import submission
from flamecrest.server.schedulers.values import JobSpec
from flamecrest.server.ssh.command import Command, Output


def read(path: str) -> str:
    command = read_script(path)
    done = subprocess.run(command.argv, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"})
    return command.parse(Output(done.returncode, done.stdout, done.stderr))


@pytest.mark.parametrize("name", ["job.sh", "-rf", "it's $(id) é", "two words"])
@pytest.mark.parametrize("text", ["", "#!/bin/sh\ntrue\n", "#!/bin/sh\r\necho 'é 漢'"])
def test_a_text_is_read_unchanged(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, newline="")
    assert read(f"{tmp_path}/{name}") == text


def test_what_is_no_text_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"#!/bin/sh\n# \xe9\n")
    (tmp_path / "large").write_bytes(b"x" * (LIMIT + 1))
    os.mkfifo(tmp_path / "fifo")
    for path, reason in (
        (f"{tmp_path}/missing", "cannot be read: No such file or directory"),
        (str(tmp_path), "cannot be read: Is a directory"),
        (f"{tmp_path}/fifo", "cannot be read: Not a regular file"),
        (f"{tmp_path}/latin", "no text in UTF-8"),
        ("job.sh", "absolute"),
        ("/a\nb", "scriptPath"),
    ):
        with pytest.raises(Invalid, match=reason) as caught:
            read(path)
        assert [one.name for one in caught.value.fields] == ["scriptPath"]
    with pytest.raises(TooLarge, match="larger than 16 MiB"):
        read(f"{tmp_path}/large")
    for path in ("/dev/zero", "/dev/null"):
        with pytest.raises(Invalid, match="cannot be read: Not a regular file"):
            read(path)


def submitted(tmp_path: Path, path: str, *, check: bool = False) -> str:
    """What sbatch has been started with, or the error; `check`: of a validation."""
    program = tmp_path / "sbatch"
    prints = "echo 'sbatch: Job 1 to start at 1795853800' >&2" if check else "echo 315"
    program.write_text(f'#!/bin/sh\n{prints}\necho "$*" > "$0.said"\n')
    program.chmod(0o755)
    make: Callable[[str, JobSpec], Command[Any]] = submission.check if check else submission.submit
    command = make(str(program), JobSpec("/w", script_path=path))
    done = subprocess.run(command.argv, capture_output=True, check=False, env={"PATH": os.defpath})
    command.parse(Output(done.returncode, done.stdout, done.stderr))
    return (tmp_path / "sbatch.said").read_text()


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("name", ["job.sh", "-rf", "it's $(id) é", "two words", "missing", "empty"])
def test_a_path_is_given_to_sbatch_as_it_is(tmp_path: Path, name: str, check: bool) -> None:
    if name != "missing":
        (tmp_path / name).write_text("" if name == "empty" else "#!/bin/sh\ntrue\n")
    assert submitted(tmp_path, f"{tmp_path}/{name}", check=check).endswith(f" --chdir=/w -- {tmp_path}/{name}\n")


@pytest.mark.parametrize("check", [False, True])
def test_sbatch_is_not_started_for_what_it_would_read_without_end(tmp_path: Path, check: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/zero")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(900 * 10**9)
    for path, reason in (
        ("/dev/zero", "is not a regular file"),
        (f"{tmp_path}/fifo", "is not a regular file"),
        (f"{tmp_path}/folder", "is not a regular file"),
        (f"{tmp_path}/link", "is not a regular file"),
        (f"{tmp_path}/sparse", "is larger than 512 MiB"),
    ):
        with pytest.raises(Invalid, match=reason) as caught:
            submitted(tmp_path, path, check=check)
        assert [one.name for one in caught.value.fields] == ["scriptPath"]
        assert caught.value.refusal is Refusal.SCRIPT
    assert not (tmp_path / "sbatch.said").exists()
