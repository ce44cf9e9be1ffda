"""Recordings of a real Slurm 22.05, replayed with the toy: command lines and their output.

They are in tests/recorded, and a few more that only these tests use are in `recorded` beside this file.
"""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .conftest import CommandResult, ToyShell

FOLDERS = (Path(__file__).parents[2] / "recorded" / "slurm-22.05", Path(__file__).parent / "recorded")
MARK = "\x1f0a1b2c3d"
HOST = os.uname().nodename.partition(".")[0]
_HOME = "/home/fireuser"
# Columns with times and durations, which differ between runs.
_TIMES = {"SubmitTime", "StartTime", "EndTime", "Submit", "Start", "End"}
_DURATIONS = {"TimeUsed", "ElapsedRaw"}


@dataclass
class SlurmRecording:
    line: str
    user: str
    stdin: str
    result: CommandResult


def recording(number: int) -> SlurmRecording:
    (path,) = (found for folder in FOLDERS for found in folder.glob(f"{number:03}-*.cmd"))
    line, _, rest = path.read_bytes().decode("utf-8", "surrogateescape").partition("\n# run as ")
    status = re.search(r"# exit status (\d+)", rest)
    given = re.search(r"# standard input:(.*)", rest, re.DOTALL)
    stdin = given[1] if given else ""
    # as plain text on the following lines, or as a Python literal
    stdin = stdin[1:] if stdin.startswith("\n") else ast.literal_eval(stdin.strip()) if stdin.strip() else ""
    err = path.with_suffix(".err")
    assert status
    texts = (
        one.read_bytes().decode("utf-8", "surrogateescape") if one.exists() else ""
        for one in (path.with_suffix(".out"), err)
    )
    return SlurmRecording(line, rest.partition(" ")[0], stdin, CommandResult(int(status[1]), *texts))


def replay(shell: ToyShell, number: int, line: str | None = None) -> tuple[CommandResult, CommandResult]:
    """The recorded result and the toy's, both without times, host names and paths."""
    recorded = recording(number)
    home, theirs = str(shell.users["fireuser"].home), str(shell.users["user01"].home)
    asked = (line or recorded.line).replace("/home/user01", theirs).replace(_HOME, home)
    result = shell.run(asked, recorded.user, recorded.stdin)
    result = CommandResult(result.status, result.out.replace(home, _HOME), result.err.replace(home, _HOME))
    return _normalised(recorded.result, recorded.line), _normalised(result, recorded.line)


def _normalised(result: CommandResult, line: str) -> CommandResult:
    err = re.sub(r"nid00\d", "NODE", result.err).replace("127.0.0.1:6898", "127.0.0.1:6819")
    err = re.sub(r"Job \d+ to start at \S+", "Job N to start at T", err)
    if MARK in line:
        return CommandResult(result.status, "\n".join(_rows(result.out, line)), err)
    out = re.sub(rf"\bat (?:vm|{re.escape(HOST)}) is", "at HOST is", result.out)
    if "scontrol show job" in line:
        out = _job(out)
    return CommandResult(result.status, out, err)


def _rows(out: str, line: str) -> list[str]:
    """The rows of output with separators, sorted, because the order of equal rows is arbitrary."""
    found = re.search(r"--[fF]ormat=([^' ]+)", line)
    assert found
    columns = [column.partition(":")[0] for column in found[1].split(",")]
    cells = out.split(MARK)[:-1]
    rows = []
    for at in range(0, len(cells), len(columns)):
        row = dict(zip(columns, cells[at : at + len(columns)], strict=True))
        for column, value in row.items():
            if column in _TIMES and value.isdecimal():
                row[column] = "T"
            elif column in _DURATIONS:
                row[column] = "D"
            elif column == "NodeList" and value.startswith("nid"):
                row[column] = "NODE"
        rows.append("|".join(value.strip("\n") for value in row.values()))
    return sorted(rows)


def _job(out: str) -> str:
    for pattern, instead in (
        (r"\b(\w+Time|LastSchedEval)=(?:\d{4}-\d\d-\d\dT[\d:]+|Unknown)", r"\1=T"),
        (r"RunTime=[\d:]+", "RunTime=D"),
        (r"Scheduler=\w+", "Scheduler=S"),
        (r"localhost:\d+", "localhost:N"),
        (r"nid00\d", "NODE"),
    ):
        out = re.sub(pattern, instead, out)
    return out
