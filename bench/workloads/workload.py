"""What a workload is, and what it is given. It knows no workload and measures nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bench.results import Cell

if TYPE_CHECKING:
    from bench.contenders.openssh import OpenSsh
    from bench.contenders.servers import Contender, Crowd


@dataclass(frozen=True, slots=True)
class Bench:
    """Who is measured, on which files, and how thoroughly."""

    contenders: Mapping[str, Contender]
    files: Sequence[str]  # of 1 KB, all that is in `folder`
    folder: str
    quick: bool
    crowd: Callable[[int], AbstractContextManager[Crowd]]  # starts a gateway on a site with so many users
    fresh: Callable[[], AbstractContextManager[Contender]]  # starts another gateway, that nobody has used yet
    shell: Callable[[str], Awaitable[str]]  # runs a command on the site as the user, and says what it prints
    ssh: OpenSsh
    sshd: int | None  # the process that listens on the site's port, where we may see it
    say: Callable[[str], None]  # progress, for people

    def turn(self, keys: Sequence[str], number: int) -> list[Contender]:
        """The contenders in the order of that turn."""
        return [self.contenders[key] for key in rotated(keys, number)]


class Workload(Protocol):
    """One kind of load. `needs` names the contenders that it is run on."""

    name: str
    title: str
    rows: str  # what the parameter of its cells counts
    needs: Sequence[str]

    async def run(self, bench: Bench) -> list[Cell]:
        """Measure."""
        ...


def rotated(keys: Sequence[str], number: int) -> tuple[str, ...]:
    """The keys, beginning with another one each turn: what disturbs the machine disturbs all of them."""
    start = number % len(keys)
    return (*keys[start:], *keys[:start])
