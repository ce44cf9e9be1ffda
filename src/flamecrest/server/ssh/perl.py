"""Our programs for the login node's perl, as one line that every login shell takes in single quotes."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def one_line(name: str) -> str:
    """The source of a program of this package, as one line (sftp_server.pl says what it may hold)."""
    source = resources.files(__package__).joinpath(name).read_text(encoding="ascii")
    lines = (line.strip() for line in source.splitlines())
    return " ".join(line for line in lines if line and not line.startswith("#"))
