"""Recordings of a real Slurm 22.05, played to the toy: the same line, and what must be the same in the answer.

Those of tests/recorded, and beside this file a few more that only the toy is measured by.
"""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .conftest import Said, Shell

FOLDERS = (Path(__file__).parents[2] / "recorded" / "slurm-22.05", Path(__file__).parent / "recorded")
MARK = "\x1f0a1b2c3d"
HOST = os.uname().nodename.partition(".")[0]
_HOME = "/home/fireuser"
# Columns whose values are of the moment, and what becomes of them.
_MOMENTS = {"SubmitTime", "StartTime", "EndTime", "Submit", "Start", "End"}
_LENGTHS = {"TimeUsed", "ElapsedRaw"}


@dataclass
class Recording:
    line: str
    user: str
    stdin: str
    said: Said


def recording(number: int) -> Recording:
    (path,) = (found for folder in FOLDERS for found in folder.glob(f"{number:03}-*.cmd"))
    line, _, rest = path.read_bytes().decode("utf-8", "surrogateescape").partition("\n# run as ")
    status = re.search(r"# exit status (\d+)", rest)
    given = re.search(r"# standard input:(.*)", rest, re.DOTALL)
    stdin = given[1] if given else ""
    # either as it is, on the lines that follow, or as a literal
    stdin = stdin[1:] if stdin.startswith("\n") else ast.literal_eval(stdin.strip()) if stdin.strip() else ""
    err = path.with_suffix(".err")
    assert status
    texts = (
        one.read_bytes().decode("utf-8", "surrogateescape") if one.exists() else ""
        for one in (path.with_suffix(".out"), err)
    )
    return Recording(line, rest.partition(" ")[0], stdin, Said(int(status[1]), *texts))


def play(shell: Shell, number: int, line: str | None = None) -> tuple[Said, Said]:
    """The recorded answer and the toy's, both without what is of the moment, the machine and the place."""
    recorded = recording(number)
    home, theirs = str(shell.users["fireuser"].home), str(shell.users["user01"].home)
    asked = (line or recorded.line).replace("/home/user01", theirs).replace(_HOME, home)
    said = shell.run(asked, recorded.user, recorded.stdin)
    said = Said(said.status, said.out.replace(home, _HOME), said.err.replace(home, _HOME))
    return _settled(recorded.said, recorded.line), _settled(said, recorded.line)


def _settled(said: Said, line: str) -> Said:
    err = re.sub(r"nid00\d", "NODE", said.err).replace("127.0.0.1:6898", "127.0.0.1:6819")
    err = re.sub(r"Job \d+ to start at \S+", "Job N to start at T", err)
    if MARK in line:
        return Said(said.status, "\n".join(_rows(said.out, line)), err)
    out = re.sub(rf"\bat (?:vm|{re.escape(HOST)}) is", "at HOST is", said.out)
    if "scontrol show job" in line:
        out = _job(out)
    return Said(said.status, out, err)


def _rows(out: str, line: str) -> list[str]:
    """The rows of marked output, sorted: the order of equals is chance."""
    found = re.search(r"--[fF]ormat=([^' ]+)", line)
    assert found
    columns = [column.partition(":")[0] for column in found[1].split(",")]
    cells = out.split(MARK)[:-1]
    rows = []
    for at in range(0, len(cells), len(columns)):
        row = dict(zip(columns, cells[at : at + len(columns)], strict=True))
        for column, value in row.items():
            if column in _MOMENTS and value.isdecimal():
                row[column] = "T"
            elif column in _LENGTHS:
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
