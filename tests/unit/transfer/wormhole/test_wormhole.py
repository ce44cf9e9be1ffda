"""What a job does with magic-wormhole, and what it leaves behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.transfer.jobs.script import TransferJob, job_script
from flamecrest.server.transfer.programs.script import program_environment, python_script
from flamecrest.server.transfer.wormhole.codes import check_code, new_code
from flamecrest.server.transfer.wormhole.methods import PROGRAM

TOY = Path(__file__).parent / "toy"
CODE = "7-secret-words"


@dataclass
class Job:
    process: subprocess.Popen[bytes]
    place: Path  # of the other side

    def ended(self) -> tuple[int, str]:
        """The exit status, and both logs."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, (out + err).decode()

    def wait_for(self, path: Path) -> None:
        until = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < until
            assert self.process.poll() is None, self.ended()
            time.sleep(0.02)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []
    place = tmp_path / "wormholes" / CODE
    place.mkdir(parents=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "temporary").mkdir()

    def start(path: Path, *, receive: bool, toy: bool = True, **options: Any) -> Job:
        given = {
            "receive": receive, "code": CODE, "mailbox": "ws://mailbox/v1", "relay": "tcp:relay:1", "wait_timeout": 60,
            "python": sys.executable, "install": False, "index": None, **options,
        }  # fmt: skip
        script = python_script(sys.executable, *PROGRAM)
        job = TransferJob("x", script, "Started", "File was successfully moved.", "Unable to do it")
        (tmp_path / "script").write_text(job_script("", str(tmp_path / "work"), job))
        variables = {"TOY_WORMHOLES": str(tmp_path / "wormholes"), "TMPDIR": str(tmp_path / "temporary")}
        if toy:
            variables["PYTHONPATH"] = str(TOY)
        process = subprocess.Popen(
            ["bash", tmp_path / "script"],
            cwd=tmp_path / "work",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": str(programs(tmp_path / "bin")), **variables, **program_environment(str(path), given)},
            start_new_session=True,
        )
        jobs.append(Job(process, place))
        return jobs[-1]

    yield start
    for job in jobs:
        if job.process.poll() is None:
            os.killpg(job.process.pid, signal.SIGKILL)
        job.process.communicate()


def programs(folder: Path) -> Path:
    """A folder with what a job script runs, and without Python and magic-wormhole, which this machine may have."""
    folder.mkdir(exist_ok=True)
    for name in ("bash", "date", "find", "timeout", "id"):
        found = shutil.which(name)
        assert found
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(found)
    return folder


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_upload(run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    target = tmp_path / "data" / "it's"
    target.write_bytes(b"old")
    target.chmod(0o640)
    job = run(target, receive=True)
    (job.place / "offer").write_bytes(b"new")
    status, logged = job.ended()
    assert (status, "File was successfully moved." in logged) == (0, True), logged
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", 0o640)
    assert listed(tmp_path / "data") == ["it's"]
    assert CODE not in logged
    assert CODE.encode() not in (job.place / "arguments").read_bytes()


def test_download(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    job = run(tmp_path / "file", receive=False)
    (job.place / "accept").touch()
    status, logged = job.ended()
    assert (status, "File was successfully moved." in logged) == (0, True), logged
    assert (job.place / "arrived").read_bytes() == b"abc"
    assert CODE not in logged
    assert CODE.encode() not in (job.place / "arguments").read_bytes()


@pytest.mark.parametrize(
    ("prepare", "options", "reason"),
    [
        (lambda place: (place / "offer").mkdir(), {}, "The sender offers a folder."),
        (lambda place: place.rmdir(), {}, "Mailbox is crowded"),
        (lambda _: None, {"wait_timeout": 0.1}, "Nobody has come in time."),
        (lambda _: None, {"toy": False}, "magic-wormhole is not installed on this node."),
    ],
    ids=["folder", "refused", "alone", "missing"],
)
def test_a_failure_leaves_the_old_file(run, tmp_path: Path, prepare, options, reason: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"old")
    prepare(tmp_path / "wormholes" / CODE)
    status, logged = run(tmp_path / "data" / "file", receive=True, **options).ended()
    assert (status, reason in logged, "successfully" in logged) == (1, True, False), logged
    assert (tmp_path / "data" / "file").read_bytes() == b"old"
    assert listed(tmp_path / "data") == ["file"]


# of magic-wormhole 0.12
FULL = "Error: insufficient free space (4190208B) for file (6291456B)\nTransferError: transfer rejected"
WRONG = """ERROR:  Key confirmation failed. Either you or your correspondent
typed the code wrong, or a would-be man-in-the-middle attacker guessed
incorrectly. You could try again, giving both your correspondent and
the attacker another chance."""


@pytest.mark.parametrize(
    ("printed", "reason"), [(FULL, "No space left on device"), (WRONG, "The code is not that of the other side")]
)
def test_why_it_has_failed_is_the_last_line(run, tmp_path: Path, printed: str, reason: str) -> None:
    (tmp_path / "wormholes" / CODE / "fails").write_text(printed)
    (tmp_path / "data").mkdir()
    status, logged = run(tmp_path / "data" / "file", receive=True).ended()
    assert (status, reason in logged.splitlines()[-2]) == (1, True), logged
    assert listed(tmp_path / "data") == []


@pytest.mark.parametrize("path", ["none/file", "."])
def test_a_target_that_cannot_be_written(run, tmp_path: Path, path: str) -> None:
    status, logged = run(tmp_path / path, receive=True).ended()
    assert status == 1
    assert ("No such file or directory" if "none" in path else "Is a directory") in logged


@pytest.mark.parametrize("folder", ["data", "renamed"])
def test_a_cancelled_job_leaves_nothing(run, tmp_path: Path, folder: str) -> None:
    (tmp_path / "data").mkdir()
    job = run(tmp_path / "data" / "file", receive=True)
    (job.place / "stall").touch()
    (job.place / "offer").write_bytes(b"new")
    until = time.monotonic() + 30
    while not any(name.endswith(".tmp") for name in listed(tmp_path / "data")):
        assert time.monotonic() < until
        time.sleep(0.02)
    (tmp_path / "data").rename(tmp_path / folder)  # meanwhile
    os.killpg(job.process.pid, signal.SIGTERM)  # as schedulers cancel a job
    job.process.wait(30)
    while listed(tmp_path / folder):  # bash has ended before its program
        assert time.monotonic() < until
        time.sleep(0.02)


def test_codes() -> None:
    codes = {new_code() for _ in range(100)}
    assert len(codes) == 100
    assert all(re.fullmatch(r"[1-9][0-9]{5}(-[a-z]{5}){3}", code) for code in codes)
    assert check_code("7-crossword-clockwork") == "7-crossword-clockwork"
    for wrong in (None, "", "crossword", "7", "7-", "7-a b", "--help", "7-a\nb", "7-\u00fc"):
        with pytest.raises(Invalid, match="wormhole send"):
            check_code(wrong)
