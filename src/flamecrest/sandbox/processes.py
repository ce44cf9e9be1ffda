"""Every process that a sandbox left behind, found by the mark in its environment, by session, or by record.

It knows the kernel's /proc; who started what is told to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROUNDS = 1000
MARK = "FLAMECREST_SANDBOX"  # a variable that holds the sandbox's root, in every process of a sandbox


def started(pid: int) -> int | None:
    """When the process began, in ticks since boot: with the number it names one process for ever. None: gone."""
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[19])


def end_all(root: Path, sessions: Iterable[tuple[int, int]] = ()) -> int:
    """Kill what carries the root's mark, and the given sessions (leader's pid, and when that began if it lives).

    Returns the number of processes killed; they are gone when this returns, but for what the kernel will not end.
    """
    leaders = dict(sessions)
    mark = f"{MARK}={root}".encode()
    killed = set()
    for _round in range(_ROUNDS):
        found = {pid for pid in _pids() if pid != os.getpid() and _belongs(pid, mark, leaders)}
        if not found:
            break
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
        time.sleep(0.002)  # what they were starting at this moment is found by the next round
    return len(killed)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are all that is wanted


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, parent, group, session, ... began (the 20th)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _belongs(pid: int, mark: bytes, leaders: dict[int, int]) -> bool:
    fields = _stat(pid)
    if fields is None or fields[0] == "Z":
        return False
    session = int(fields[3])
    if session in leaders and (began := _stat(session)) is not None and int(began[19]) == leaders[session]:
        return True
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
