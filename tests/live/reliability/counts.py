"""What a gateway and a login node hold while nobody asks for anything: counted before and after a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.live import faults
from tests.live.faults import Sshd, until

KEPT_ALIVE = 8  # connections to the issuer and to OpenFGA, which are kept for the next request
MEMORY = 64 * 1024  # KiB by which the memory of a gateway may differ: it grows with the first requests of each kind


@dataclass(frozen=True, slots=True)
class Counts:
    """`connections` are the processes of sshd for them, `programs` what runs below these: a channel has one or more.

    The others are the gateway's own: open descriptors, sockets among them, child processes, resident memory in KiB.
    """

    connections: int
    programs: int
    descriptors: int
    sockets: int
    children: int
    memory: int

    def is_at_most(self, other: Counts) -> bool:
        pairs = (
            (self.connections, other.connections),
            (self.programs, other.programs),
            (self.descriptors, other.descriptors + KEPT_ALIVE),
            (self.sockets, other.sockets + KEPT_ALIVE),
            (self.children, other.children),
            (self.memory, other.memory + MEMORY),
        )
        return all(mine <= theirs for mine, theirs in pairs)


def count(gateway: int, nodes: Iterable[Sshd]) -> Counts:
    """Count now. `gateway` is a pid; 0 if it has ended."""
    below = [faults.children(node.process.pid) for node in nodes if node.process is not None]
    sessions = [pid for node in nodes for pid in node.sessions()]
    return Counts(
        connections=len(sessions),
        programs=len({pid for some in below for pid in some} - set(sessions)),
        descriptors=len(_links(gateway)),
        sockets=sum(link.startswith("socket:") for link in _links(gateway)),
        children=len(faults.children(gateway)) if gateway else 0,
        memory=_memory(gateway),
    )


def at_rest(gateway: Callable[[], int], nodes: Iterable[Sshd], most: Counts | None = None) -> Counts:
    """The counts when idle connections to the login nodes are closed, and no count is above that of `most`."""
    nodes = list(nodes)

    def rests() -> bool:
        now = count(gateway(), nodes)
        return not now.connections and not now.programs and (most is None or now.is_at_most(most))

    try:
        until(rests, "nothing is left")
    except AssertionError as error:
        raise AssertionError(f"left: {count(gateway(), nodes)}; before: {most}; {_links(gateway())}") from error
    return count(gateway(), nodes)


def _links(pid: int) -> list[str]:
    found = []
    for one in Path(f"/proc/{pid}/fd").glob("*") if pid else ():
        try:
            found.append(str(one.readlink()))
        except OSError:
            continue
    return found


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text() if pid else ""
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
