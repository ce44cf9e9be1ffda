"""Parsers of pbsnodes, `qstat -Q`, `qstat -B` and pbs_rstat. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from flamecrest.server.schedulers.values import Node, Partition, Reservation

from .document import Entry, number_of, parse_section, part_of, text_of
from .jobs import parse_size, parse_time
from .states import parse_node_states

_OF_RESERVATION: Final = re.compile(r"[RSM][0-9]+")  # the name of a queue that PBS has made for a reservation
_RESERVED_NODE: Final = re.compile(r"\(([^:()\s]+):")
_BLOCK: Final = re.compile(r"^Resv ID: ", re.MULTILINE)
_FIELD: Final = re.compile(r"^\s*([\w.]+) = (.*)$", re.MULTILINE)


def parse_nodes(printed: bytes) -> list[Node]:
    """The nodes, sorted by name. An entry without a state is an error message about an unknown node."""
    found = parse_section(printed, "nodes").items()
    return sorted((_node(name, entry) for name, entry in found if "state" in entry), key=lambda node: node.name)


def _node(name: str, entry: Entry) -> Node:
    available, assigned = part_of(entry, "resources_available"), part_of(entry, "resources_assigned")
    cpus = number_of(available, "ncpus") or 0
    used = number_of(assigned, "ncpus") or 0
    memory, taken = parse_size(text_of(available, "mem")), parse_size(text_of(assigned, "mem"))
    queue = text_of(entry, "queue")
    return Node(
        name=name,
        states=parse_node_states(text_of(entry, "state") or "", used=used > 0),
        cpus=cpus,
        partitions=(queue,) if queue else (),
        free_memory=None if memory is None else memory - (taken or 0),
        allocated_memory=taken,
        allocated_cpus=used,
        idle_cpus=max(0, cpus - used),
        address=text_of(entry, "Mom"),
        hostname=text_of(available, "host"),
    )


def parse_queues(printed: bytes, *, hidden: bool) -> list[Partition]:
    """The queues; those of reservations only if `hidden`."""
    return [
        Partition(name, _queue_state(entry))
        for name, entry in parse_section(printed, "Queue").items()
        if hidden or not _OF_RESERVATION.fullmatch(name)
    ]


def _queue_state(entry: Entry) -> str:
    """The state in Slurm's words: `enabled` queues take jobs, `started` ones run them."""
    takes, runs = (text_of(entry, key) == "True" for key in ("enabled", "started"))
    if takes:
        return "UP" if runs else "DOWN"
    return "DRAIN" if runs else "INACTIVE"


def parse_reservations(printed: str) -> list[Reservation]:
    """The reservations of `pbs_rstat -f`, whose times are in UTC."""
    return list(_reservations(printed))


def _reservations(printed: str) -> Iterator[Reservation]:
    for block in _BLOCK.split(printed)[1:]:
        name, _, rest = block.partition("\n")
        fields = {found[1]: found[2].strip() for found in _FIELD.finditer(rest)}
        start, end = parse_time(fields.get("reserve_start")), parse_time(fields.get("reserve_end"))
        if start is None or end is None:
            continue
        nodes = dict.fromkeys(_RESERVED_NODE.findall(fields.get("resv_nodes", "")))
        state = fields.get("reserve_state", "").removeprefix("RESV_") or None
        yield Reservation(name.strip(), ",".join(nodes), start, end, state)


def shows_other_jobs(printed: bytes) -> bool:
    """Whether `qstat -B` says that users may see each other's jobs (query_other_jobs)."""
    servers = parse_section(printed, "Server").values()
    return bool(servers) and all(text_of(entry, "query_other_jobs") == "True" for entry in servers)


def is_server_up(printed: bytes) -> bool:
    """Whether a server has answered `qstat -B`."""
    return bool(parse_section(printed, "Server"))
