"""Parsers of nodes, partitions, reservations, accounts and pings in slurmrestd's answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from flamecrest.server.schedulers.slurm.states import NODE_STATES
from flamecrest.server.schedulers.values import Account, Node, Partition, Reservation

from .fields import items, mapping, moment, number, text, words

_LOAD: Final = 100  # slurmrestd gives the load of a node in hundredths
# A flag of a node's state -> an additional NodeState; flags in no table add nothing.
_FLAGS: Final = {
    "NOT_RESPONDING": "OFFLINE",
    "COMPLETING": "COMPLETING",
    "DRAIN": "DRAIN",
    "DRAINING": "DRAIN",
    "FAIL": "DRAIN",
    "MAINTENANCE": "RESERVED",
    "RESERVED": "RESERVED",
    "POWERED_DOWN": "OFFLINE",
    "POWERING_DOWN": "POWERING_DOWN",
    "POWER_DOWN": "POWERING_DOWN",
    "POWERING_UP": "POWERING_UP",
    "POWER_UP": "POWERING_UP",
    "REBOOT_ISSUED": "DOWN",
    "BLOCKED": "BUSY",
}


def parse_nodes(rows: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The nodes, sorted by name."""
    return sorted((_node(row) for row in rows if text(row.get("name"))), key=lambda node: node.name)


def _node(row: Mapping[str, Any]) -> Node:
    load = number(row.get("cpu_load"))
    return Node(
        name=text(row.get("name")),
        states=_node_states([*words(row.get("state")), *words(row.get("state_flags"))]),
        cpus=number(row.get("cpus")) or 0,
        partitions=tuple(sorted(words(row.get("partitions")))),
        sockets=number(row.get("sockets")),
        cores=number(row.get("cores")),
        threads=number(row.get("threads")),
        cpu_load=None if load is None else load / _LOAD,
        free_memory=number(row.get("free_mem", row.get("free_memory"))),
        allocated_memory=number(row.get("alloc_memory")),
        allocated_cpus=number(row.get("alloc_cpus")),
        idle_cpus=number(row.get("alloc_idle_cpus", row.get("idle_cpus"))),
        features=",".join(words(row.get("features"))) or None,
        address=text(row.get("address")) or None,
        hostname=text(row.get("hostname")) or None,
        weight=number(row.get("weight")),
    )


def _node_states(found: list[str]) -> tuple[str, ...]:
    """NodeStates of the wire: the state of the node, then those of its flags."""
    first, flags = (found[0] if found else "UNKNOWN"), [one.upper() for one in found[1:]]
    shown = [NODE_STATES.get(first.lower(), "UNKNOWN")]
    shown += [_FLAGS[flag] for flag in flags if flag in _FLAGS]
    if "DRAIN" in shown and shown[0] == "IDLE":  # as sinfo shows it: drained
        shown = shown[1:]
    if "RESERVED" in shown and shown[0] == "IDLE":
        shown = shown[1:]
    return tuple(dict.fromkeys(shown))


def parse_partitions(rows: Iterable[Mapping[str, Any]], *, hidden: bool) -> list[Partition]:
    """The partitions in Slurm's order; hidden ones only if `hidden`."""
    return list(_partitions(rows, hidden=hidden))


def _partitions(rows: Iterable[Mapping[str, Any]], *, hidden: bool) -> Iterator[Partition]:
    for row in rows:
        name, inner = text(row.get("name")), mapping(row.get("partition"))
        flags = {flag.lower() for flag in (*words(row.get("flags")), *words(inner.get("flags")))}
        if not name or ("hidden" in flags and not hidden):
            continue
        state = [*words(row.get("state")), *words(inner.get("state")), "UNKNOWN"][0]
        cpus = number(row.get("total_cpus", mapping(row.get("cpus")).get("total")))
        nodes = row.get("nodes")
        total = number(row.get("total_nodes", nodes.get("total") if isinstance(nodes, dict) else None))
        yield Partition(name, state.upper(), cpus, total)


def parse_reservations(rows: Iterable[Mapping[str, Any]], now: float) -> list[Reservation]:
    """The reservations; rows without times are skipped. `now` (seconds since the epoch) tells which are active."""
    found = []
    for row in rows:
        name, start, end = text(row.get("name")), moment(row.get("start_time")), moment(row.get("end_time"))
        if name and start is not None and end is not None:
            features = ",".join(words(row.get("features"))) or None
            state = "active" if start <= now < end else "inactive"
            found.append(Reservation(name, text(row.get("node_list")), start, end, state, features))
    return found


def parse_accounts(rows: Iterable[Mapping[str, Any]], user: str) -> list[Account]:
    """The accounts in the user's associations."""
    found: dict[str, bool] = {}
    for row in rows:
        account = text(row.get("account"))
        if account and text(row.get("user")) == user:
            default = bool(row.get("is_default")) or "DEFAULT" in words(row.get("flags"))
            found[account] = found.get(account, False) or default
    return [Account(name, default) for name, default in found.items()]


def is_controller_up(body: Mapping[str, Any]) -> bool:
    """Whether one of the controllers answers."""
    pings = items(body.get("pings"))
    return any(one.get("responding") is True or text(one.get("ping", one.get("pinged"))) == "UP" for one in pings)
