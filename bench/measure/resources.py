"""Resource analysis: processor time and memory of a server and of sshd, from /proc.

A server is one process. sshd is a tree: the process that listens on the site's port and all its descendants. Its
processor time is the sum over the living ones of their own time and of that of the children that they have waited
for (utime, stime, cutime, cstime), so that commands and connections that are over count too; what ends without its
parent having waited is lost. Time has the grain of the kernel's clock ticks (10 ms), so only bursts are measured.
sshd's memory is the sum of proportional set sizes, so that shared pages count once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Load:
    """What a burst took: processor time in milliseconds per request, memory in MiB in the middle of it."""

    server_ms: float
    sshd_ms: float | None
    server_mib: float
    sshd_mib: float | None

    def quantities(self) -> Iterator[tuple[str, float]]:
        """What was measured, under its name in the tables."""
        yield "ms of processor a request, server", self.server_ms
        if self.sshd_ms is not None:
            yield "ms of processor a request, sshd", self.sshd_ms
        yield "MiB, server", self.server_mib
        if self.sshd_mib is not None:
            yield "MiB, sshd", self.sshd_mib


class Meter:
    """Measures one burst: made before it, looked at in its middle, asked after it."""

    def __init__(self, server: int, sshd: int | None) -> None:
        self._server, self._sshd = server, sshd
        self._memory: tuple[float, float | None] = (0.0, None)
        self._start = self._spent()

    def look(self) -> None:
        """Take the memory as it is now."""
        self._memory = (resident(self._server), None if self._sshd is None else proportional(tree(self._sshd)))

    def load(self, requests: int) -> Load:
        """What was taken since the meter was made."""
        spent = zip(self._spent(), self._start, strict=True)
        mine, theirs = (1000 * max(0.0, now - then) / requests for now, then in spent)
        return Load(mine, None if self._sshd is None else theirs, *self._memory)

    def spent(self) -> float:
        """Seconds of processor time until now, of both together."""
        return sum(self._spent())

    def _spent(self) -> tuple[float, float]:
        return processor([self._server]), 0.0 if self._sshd is None else processor(tree(self._sshd))


def resident(pid: int) -> float:
    """The resident memory of a process, in MiB."""
    return _status(pid, "VmRSS:")


class Growth:
    """How far a process grows at most over what it has when this is made, in MiB."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        (PROC / f"{pid}/clear_refs").write_text("5", "ascii")  # the peak begins anew
        self._before = resident(pid)

    def peak(self) -> float:
        """The growth until now."""
        return max(0.0, _status(self._pid, "VmHWM:") - self._before)


def listener(port: int) -> int | None:
    """The oldest process that listens on that port of loopback or of everywhere; None when we may not see it."""
    sockets = set()
    for name in ("tcp", "tcp6"):
        for line in (PROC / "net" / name).read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    holders = [pid for pid in _pids() if sockets and _holds(pid, sockets)]
    return min(holders, key=_started, default=None)


def tree(root: int) -> list[int]:
    """A process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def processor(pids: Iterable[int]) -> float:
    """Seconds that the processes, and the children that they have waited for, have spent on processors."""
    return sum(sum(map(int, _stat(pid)[11:15])) for pid in pids) * TICK


def proportional(pids: Iterable[int]) -> float:
    """The memory of several processes together, in MiB."""
    total = 0
    for pid in pids:
        try:
            lines = (PROC / f"{pid}/smaps_rollup").read_text("ascii").splitlines()
        except OSError:  # has ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _status(pid: int, name: str) -> float:
    for line in (PROC / f"{pid}/status").read_text("ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")


def _stat(pid: int) -> list[str]:
    """The fields after the program's name, which may hold anything; none when the process has ended."""
    try:
        return (PROC / f"{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[19]) if fields else 2**63


def _pids() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _holds(pid: int, sockets: set[str]) -> bool:
    try:
        return any(os.readlink(link) in sockets for link in (PROC / f"{pid}/fd").iterdir())  # noqa: PTH115 - not a path
    except OSError:  # somebody else's, or it has ended
        return False
