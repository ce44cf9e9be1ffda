"""Recorded output of OpenPBS: of the client of 23.06.06, and of the newest state of the 23.06 line (`master`)."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from flamecrest.server.ssh.command import Output

FOLDER = Path(__file__).parents[3] / "recorded"
VERSIONS = ("23.06.06", "master")


@cache
def recordings(version: str) -> tuple[Path, ...]:
    """The commands of a version, in their order."""
    return tuple(sorted((FOLDER / f"openpbs-{version}").glob("*.cmd")))


def names(pattern: str, version: str) -> list[str]:
    """The names of the recordings that a regular expression is found in."""
    found = [path.stem for path in recordings(version) if re.search(pattern, path.stem)]
    assert found, pattern
    return found


def output(name: str, version: str = "master") -> Output:
    """The recording of this name, without its number or with it."""
    found = [path for path in recordings(version) if name in {path.stem, path.stem[4:]}]
    assert len(found) == 1, (name, found)
    path = found[0]
    status = re.search(r"^# exit status (\d+)$", path.read_text("utf-8", "replace"), re.MULTILINE)
    assert status, path
    return Output(int(status[1]), path.with_suffix(".out").read_bytes(), path.with_suffix(".stderr").read_bytes())
