"""Our perl programs for login nodes, each as one line that every login shell accepts in single quotes."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def one_line(name: str) -> str:
    """The source of a program of this package, behind common.pl, as one line (see sftp_server.pl)."""
    folder = resources.files(__package__)
    sources = (folder.joinpath(file).read_text(encoding="ascii") for file in ("common.pl", name))
    lines = (line.strip() for source in sources for line in source.splitlines())
    return " ".join(line for line in lines if line and not line.startswith("#"))
