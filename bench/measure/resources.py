"""Resource analysis: processor time and memory of a server and of sshd, from /proc.

A server is one process. sshd is a tree: the process that listens on the site's port, and its descendants. The
processor time of a tree is the sum of utime, stime, cutime and cstime over its running processes, so ended commands
and connections are included. The time of a process whose parent did not wait for it is lost. The resolution is one
clock tick of the kernel (10 ms). The memory of sshd is the sum of proportional set sizes: shared pages count once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.results import SERVER_TIME

TICK = 1 / os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources used during a burst: processor time in milliseconds per request, memory in MiB at its middle."""

    server_ms: float
    sshd_ms: float | None
    server_mib: float
    sshd_mib: float | None

    def quantities(self) -> Iterator[tuple[str, float]]:
        """The measured values with their names in the tables."""
        yield SERVER_TIME, self.server_ms
        if self.sshd_ms is not None:
            yield "ms of processor a request, sshd", self.sshd_ms
        yield "MiB, server", self.server_mib
        if self.sshd_mib is not None:
            yield "MiB, sshd", self.sshd_mib


class Meter:
    """Measures one burst: create it before, call `sample_memory` in the middle, and `usage` afterwards."""

    def __init__(self, server: int, sshd: int | None) -> None:
        self._server, self._sshd = server, sshd
        self._memory: tuple[float, float | None] = (0.0, None)
        self._start = self._spent()

    def sample_memory(self) -> None:
        self._memory = (resident(self._server), None if self._sshd is None else proportional(tree(self._sshd)))

    def usage(self, requests: int) -> Usage:
        """The resources used since the meter was created."""
        spent = zip(self._spent(), self._start, strict=True)
        server, sshd = (1000 * max(0.0, now - then) / requests for now, then in spent)
        return Usage(server, None if self._sshd is None else sshd, *self._memory)

    def processor_ms(self, per: str, count: float) -> Iterator[tuple[str, float]]:
        """The processor time used since the meter was created in milliseconds, divided by `count`, by name."""
        names = ("server",) if self._sshd is None else ("server", "sshd")
        for name, now, then in zip(names, self._spent(), self._start, strict=False):
            yield f"ms of processor {per}, {name}", 1000 * max(0.0, now - then) / count

    def processor_seconds(self) -> float:
        """The processor time of server and sshd together, since they started."""
        return sum(self._spent())

    def _spent(self) -> tuple[float, float]:
        return processor([self._server]), 0.0 if self._sshd is None else processor(tree(self._sshd))


def resident(pid: int) -> float:
    """The resident memory of a process, in MiB."""
    return _status(pid, "VmRSS:")


class Growth:
    """The growth of a process's resident memory after this object was created, in MiB."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        (PROC / f"{pid}/clear_refs").write_text("5", "ascii")  # resets VmHWM
        self._before = resident(pid)

    def peak(self) -> float:
        """The peak until now, minus the memory at the beginning."""
        return max(0.0, _status(self._pid, "VmHWM:") - self._before)


def listener(port: int) -> int | None:
    """The oldest process that listens on a TCP port; None if it cannot be seen by this account."""
    sockets = set()
    for name in ("tcp", "tcp6"):
        for line in (PROC / "net" / name).read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    holders = [pid for pid in _pids() if sockets and _holds(pid, sockets)]
    return min(holders, key=_started, default=None)


def tree(root: int) -> list[int]:
    """A process and all its running descendants."""
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
    """The processor time in seconds of the processes and of the children that they have waited for."""
    return sum(sum(map(int, _stat(pid)[11:15])) for pid in pids) * TICK


def proportional(pids: Iterable[int]) -> float:
    """The proportional set sizes of the processes, added, in MiB."""
    total = 0
    for pid in pids:
        try:
            lines = (PROC / f"{pid}/smaps_rollup").read_text("ascii").splitlines()
        except OSError:  # the process has ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _status(pid: int, name: str) -> float:
    for line in (PROC / f"{pid}/status").read_text("ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the program's name; empty if the process has ended."""
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
    except OSError:  # another account's process, or it has ended
        return False
