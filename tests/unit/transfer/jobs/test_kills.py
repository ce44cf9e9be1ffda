"""A transfer job that is killed at any moment leaves the old target or the whole new one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flamecrest.server.files.remote.commands import archive
from flamecrest.server.files.remote.commands.archive import Script
from flamecrest.server.files.remote.commands.copying import copy_script
from flamecrest.server.files.remote.commands.moving import move_script
from flamecrest.server.files.values import CompressOptions
from flamecrest.server.transfer.jobs.script import TransferJob, job_script

FILES = 200
TEMPORARY = re.compile(r"\.f7t_(copy|extract|archive)_[A-Za-z0-9]{10}(\.list)?")
SHARED_MEMORY = Path("/dev/shm")


class Case:
    """Folders `near` and `far`, on two file systems if this machine has them; `near/tree` is what is worked on."""

    def __init__(self, near: Path, far: Path) -> None:
        self.near, self.far = near, far
        self.tree, self.target = near / "tree", far / "target"
        for folder in (near, far):
            folder.mkdir(parents=True)
        self.tree.mkdir()
        for number in range(FILES):
            (self.tree / str(number)).write_text(str(number))
        (near / "old").write_text("old")
        with tarfile.open(near / "packed.tar", "w") as packed:
            packed.add(self.tree, "tree")

    def whole(self, folder: Path) -> bool:
        return {path.name: path.read_text() for path in folder.iterdir()} == {str(n): str(n) for n in range(FILES)}

    def run(self, script: Script, seconds: float | None) -> tuple[float, bool]:
        """Run the job and kill all of it after `seconds`. How long it ran, and whether it said that all was done."""
        job = TransferJob.of("do", "done", script)
        with (self.near / "out").open("wb") as out, (self.near / "err").open("wb") as err:
            began = time.monotonic()
            process = subprocess.Popen(
                ["bash", "-c", job_script("", str(self.near), job)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            took = time.monotonic() - began
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return took, "Files were successfully done." in (self.near / "out").read_text()


def copies(case: Case) -> tuple[Script, Callable[[], bool]]:
    script = copy_script(str(case.tree), str(case.target), overwrite=True, dereference=False, into=True)
    return script, lambda: case.target.exists() and case.whole(case.target)


def replaces(case: Case) -> tuple[Script, Callable[[], bool]]:
    case.target.write_bytes(b"before")
    (case.near / "old").write_bytes(b"after" * 100_000)
    script = copy_script(str(case.near / "old"), str(case.target), overwrite=True, dereference=False, into=True)

    def done() -> bool:
        content = case.target.read_bytes()
        assert content in (b"before", b"after" * 100_000)
        return content != b"before"

    return script, done


def moves(case: Case) -> tuple[Script, Callable[[], bool]]:
    def done() -> bool:
        moved = case.target.exists() and case.whole(case.target)
        assert moved or case.whole(case.tree)
        return moved

    return move_script(str(case.tree), str(case.target)), done


def packs(case: Case) -> tuple[Script, Callable[[], bool]]:
    case.target.write_bytes(b"before")

    def done() -> bool:
        if case.target.read_bytes() == b"before":
            return False
        with tarfile.open(case.target) as packed:
            assert len(packed.getnames()) == FILES + 1
        return True

    return archive.compress(str(case.tree), str(case.target), CompressOptions("gzip")), done


def unpacks(case: Case) -> tuple[Script, Callable[[], bool]]:
    script = archive.extract(str(case.near / "packed.tar"), str(case.target), compression="none")
    return script, lambda: case.target.exists() and case.whole(case.target / "tree")


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    place = SHARED_MEMORY if SHARED_MEMORY.is_dir() else tmp_path
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as far:
        yield tmp_path, Path(far)


@pytest.mark.parametrize("points", [2, pytest.param(12, marks=pytest.mark.live)])
@pytest.mark.parametrize("work", [copies, replaces, moves, packs, unpacks])
def test_killed_job(
    folders: tuple[Path, Path], work: Callable[[Case], tuple[Script, Callable[[], bool]]], points: int
) -> None:
    near, far = folders
    case = Case(near / "first", far / "first")
    script, done = work(case)
    took, said = case.run(script, None)
    assert said
    assert done()
    for point in range(points):
        case = Case(near / str(point), far / str(point))
        script, done = work(case)
        _, said = case.run(script, took * (point + 0.5) / points)
        existed = case.target.exists()
        whole = done()
        assert whole or not said
        if work in (copies, moves, unpacks):
            assert whole or not existed
        left = {path.name for path in case.far.iterdir()} - {"target"}
        assert all(TEMPORARY.fullmatch(name) for name in left), left  # the next job that works there removes it
