"""The interface of a workload, and what it gets to run on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.columns import GATEWAY, OTHER
from bench.contenders.openssh import OpenSsh
from bench.contenders.servers import Contender, Servers
from bench.results import Cell


@dataclass(frozen=True, slots=True)
class Bench:
    """The contenders that run, the files on the site, and how thoroughly to measure."""

    contenders: Mapping[str, Contender]
    servers: Servers  # starts further gateways
    files: Sequence[str]  # paths of files of 1 KB: the content of `folder`
    folder: str
    quick: bool
    shell: Callable[[str], Awaitable[str]]  # runs a shell command as the site's first user, returns its output
    ssh: OpenSsh
    scheduler: bool  # whether the site has Slurm
    sshd: int | None  # pid of the process that listens on the site's port, if it can be seen
    say: Callable[[str], None]  # prints a line about the progress
    clients: int = 1000  # of the soak
    soak_minutes: float | None = None  # None: as the workload says

    @property
    def gateways(self) -> list[str]:
        """The keys of this checkout's gateway and, in a comparison, of the other one's."""
        return [GATEWAY] if self.servers.other_checkout is None else [GATEWAY, OTHER]

    def runs(self, quick: int, full: int) -> int:
        """The number of runs. A comparison needs all of them, also a quick one."""
        return quick if self.quick and self.servers.other_checkout is None else full

    def has_no_scheduler(self, workload: str) -> bool:
        """Whether a workload that needs a scheduler must be skipped; says so."""
        if not self.scheduler:
            self.say(f"{workload}: skipped, the site has no scheduler")
        return not self.scheduler

    def measured(self, needs: Sequence[str]) -> list[str]:
        """The keys of the contenders that run: those of `needs`, and the gateway of the other checkout."""
        return [key for key in (*needs, OTHER) if key in self.contenders]

    def turn(self, keys: Sequence[str], number: int) -> list[Contender]:
        """The contenders in the order of that turn."""
        return [self.contenders[key] for key in rotated(keys, number)]


class Workload(Protocol):
    """One kind of load. `needs` are the keys of the contenders that it measures."""

    name: str
    title: str
    rows: str  # the unit of the cells' parameter
    needs: Sequence[str]

    async def run(self, bench: Bench) -> list[Cell]:
        """Measure and return the cells of the tables."""
        ...


def rotated(keys: Sequence[str], number: int) -> tuple[str, ...]:
    """The keys, rotated by `number`: a disturbance of the machine shall not always hit the same contender."""
    start = number % len(keys)
    return (*keys[start:], *keys[:start])
