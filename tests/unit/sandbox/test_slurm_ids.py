"""Job ids of every kind, valid and invalid, compared with recorded output of Slurm 22.05.

The recordings were made with 959, an ended job, 960, an array whose first task is running, and, for scancel, 962 and
963, an array and a job that are held. The programs run in this process, because starting hundreds takes long.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.sandbox.slurm import ids
from flamecrest.sandbox.slurm.commands import program
from flamecrest.sandbox.slurm.formats import CommandFailedError

from .conftest import CommandResult, ToyShell, _users, eventually, running

FOLDER = Path(__file__).parent / "recorded"
ASKED, CANCELLED = (json.loads((FOLDER / f"ids-{name}.json").read_text()) for name in ("asked", "cancelled"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyShell]:
    with running(_users(tmp_path_factory.mktemp("ids"))) as shell:
        shell.toy.set(first_id=959)
        assert shell.submit("true") == "959"
        shell.wait("959")
        assert shell.submit("sleep 1000", "--array=0-3%1") == "960"
        shell.wait("960_0", "RUNNING")
        yield shell


@pytest.fixture
def run(world: ToyShell, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]):
    """Run a program as fireuser; return its lines, sorted, up to a job's name."""

    def run(argv: list[str]) -> CommandResult:
        monkeypatch.setenv("USER", "fireuser")
        monkeypatch.setattr("sys.argv", ["slurm", argv[0], str(world.toy.folder), *argv[1:]])
        status = program.main()
        out, err = (text.decode() for text in capfdbinary.readouterr())
        return CommandResult(status, lines(out), lines(err))

    return run


def lines(text: str) -> str:
    return "\n".join(sorted(line.partition(" JobName=")[0].rstrip() for line in text.splitlines()))


@pytest.mark.parametrize(("command", "count"), [("sacct", 108), ("squeue", 57), ("scontrol", 57)])
def test_queries_by_id(run, command: str, count: int) -> None:
    asked = [one for one in ASKED if one[0][0] == command]
    assert len(asked) == count
    for argv, out, err, status in asked:
        assert run(argv) == CommandResult(status, lines("\n".join(out)), lines("\n".join(err))), argv


def test_cancelling_by_id(world: ToyShell, run) -> None:
    held = [world.submit("sleep 1000", options) for options in ("--hold --array=0-9", "--hold")]
    assert held == ["962", "963"]
    for argv, out, err, status in CANCELLED:
        if argv == ["scancel", "-v", "959,960"]:  # running tasks need time to end
            world.wait("960_0", "CANCELLED")
        assert run(argv) == CommandResult(status, lines("\n".join(out)), lines("\n".join(err))), argv


@given(st.text("0123456789_[]-+,.:%* x\u0663\0é", max_size=14))
def test_arbitrary_ids_do_not_break_a_command(text: str) -> None:
    for read, refusals in (
        (ids.parse_squeue_ids, ValueError),
        (ids.parse_sacct_ids, CommandFailedError),
        (ids.parse_scontrol_id, ValueError),
        (lambda name: ids.parse_scancel_ids([name]), CommandFailedError),
    ):
        try:
            read(text)
        except refusals:
            continue


def test_single_step_is_cancelled(shell: ToyShell) -> None:
    job = shell.submit("srun sleep 1000\nsleep 1000")
    shell.wait(job, "RUNNING")
    assert eventually(lambda: f"{job}.0|RUNNING" in shell.run(f"sacct -n -P -j {job}.0 --format=JobID,State").out)
    assert shell.run(f"scancel {job}.0").status == 0
    assert eventually(lambda: "RUNNING" not in shell.run(f"sacct -n -P -j {job}.0 --format=JobID,State").out)
    assert shell.state(job) == "RUNNING"
