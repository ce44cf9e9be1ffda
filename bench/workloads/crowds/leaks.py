"""What a gateway and the users' logins hold: counted before a load and after it, it must be the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from bench.contenders.servers import Contender
from bench.measure import counters
from bench.measure.resources import PROC, listener, tree

PATIENCE = 60  # seconds for what is unused to be closed; the gateway's idle timeout is much shorter


@dataclass(frozen=True, slots=True)
class Held:
    """Numbers of one moment: of the gateway's process, of its SSH pool, and of the users on the login node."""

    descriptors: int
    children: int
    connections: int  # to the cluster, those that are being opened included
    channels: int  # on them, all uses of shared ones included
    waiting: int  # requests that wait for a connection
    processes: int  # of the users on the login node, or of the sandbox

    def more_than(self, before: Held) -> Iterator[tuple[str, int]]:
        """The differences to an earlier moment, by name."""
        return ((one.name, getattr(self, one.name) - getattr(before, one.name)) for one in fields(self))


@dataclass(frozen=True, slots=True)
class Holder:
    """Counts what a gateway holds. `uids` are the users that only its clients log in as.

    Without `uids`, the SSH server on `port` is a sandbox that serves nobody else.
    """

    gateway: Contender
    uids: Collection[int]
    port: int

    async def held(self) -> Held:
        pid, log = self.gateway.pid, self.gateway.log
        assert pid is not None
        assert log is not None
        pool = await counters.read_counters(pid, log, counters.GAUGES) or {}
        return Held(
            descriptors=len(list((PROC / f"{pid}/fd").iterdir())),
            children=len(tree(pid)) - 1,
            connections=pool.get("connections", 0) + pool.get("dialing", 0),
            channels=sum(pool.get(name, 0) for name in ("channels", "ahead", "shared")),
            waiting=pool.get("waiting", 0),
            processes=await asyncio.to_thread(self._processes),
        )

    async def settled(self, before: Held | None = None) -> Held:
        """What is held when unused connections are closed and their processes have ended.

        At most what was held before, or, when it was waited for long enough, what is left over.
        """
        until = time.monotonic() + PATIENCE
        while True:
            now = await self.held()
            calm = now.connections == 0 and now.processes == 0
            if (
                calm and (before is None or all(more <= 0 for _, more in now.more_than(before)))
            ) or time.monotonic() > until:
                return now
            await asyncio.sleep(1)

    def left(self) -> list[str]:
        """The beginnings of the command lines of the users' processes."""
        return sorted({_command(pid) for pid in self._pids()})

    def _processes(self) -> int:
        return len(self._pids())

    def _pids(self) -> list[int]:
        """The users' processes."""
        if self.uids:
            return [int(path.name) for path in PROC.iterdir() if path.name.isdigit() and _uid(path) in self.uids]
        server = listener(self.port)
        return [] if server is None else tree(server)[1:]


def _command(pid: int) -> str:
    """The beginning of its command line; empty if it has ended."""
    try:
        return (PROC / f"{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:80]
    except OSError:
        return ""


def _uid(path: Path) -> int | None:
    """The owner of a process; None if it has ended."""
    try:
        return path.stat().st_uid
    except OSError:
        return None
