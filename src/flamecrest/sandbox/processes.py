"""Processes of a sandbox, found in /proc by the mark in their environment, by their session or by their pid.

The toy Slurm's executables import this module: it loads what they do not need when it is needed.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # typing takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ROUNDS = 1000
_PIECE = 65536  # bytes
MARK = "FLAMECREST_SANDBOX"  # a variable that holds the sandbox's root, in every process of a sandbox


def started(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if it does not exist or is a zombie.

    The pid and this time together identify a process, also after the pid has been used again.
    """
    fields = _stat(pid)
    return None if fields is None or fields[0] == b"Z" else int(fields[19])


def end_all(root: Path, sessions: Iterable[tuple[int, int]] = ()) -> int:
    """Kill the processes that carry the root's mark, and those of the given sessions; return their number.

    A session is the pid of its leader and the time when the leader started, as `started` returns it. The
    processes are gone on return, except for those that this account may not kill.
    """
    import signal  # noqa: PLC0415 - takes 3 ms to import
    from contextlib import suppress  # noqa: PLC0415 - so does this

    leaders = dict(sessions)
    mark = f"{MARK}={root}".encode()
    killed = set()
    for _round in range(_ROUNDS):
        found = {pid for pid in _pids() if pid != os.getpid() and _belongs(pid, mark, leaders)}
        if not found:
            break
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
        time.sleep(0.002)  # the next round finds what they were starting at this moment
    return len(killed)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - only names are needed


def _read(path: str) -> bytes | None:
    """The content of a file below /proc; None if its process is gone or belongs to another account."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a third of the time of open(), for every process
    except OSError:
        return None
    try:
        content = b""
        while piece := os.read(descriptor, _PIECE):
            content += piece
    except OSError:
        return None
    else:
        return content
    finally:
        os.close(descriptor)


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat after the name: state, parent, group, session, ..., start time (the 20th)."""
    content = _read(f"/proc/{pid}/stat")
    return None if content is None else content.rpartition(b")")[2].split()


def _belongs(pid: int, mark: bytes, leaders: dict[int, int]) -> bool:
    environment = _read(f"/proc/{pid}/environ")  # empty for a zombie
    if environment and mark in environment and mark in environment.split(b"\0"):
        return True
    if not leaders or (fields := _stat(pid)) is None or fields[0] == b"Z":
        return False
    session = int(fields[3])
    return session in leaders and (leader := _stat(session)) is not None and int(leader[19]) == leaders[session]
