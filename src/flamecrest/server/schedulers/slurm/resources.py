"""Parsers of what sinfo, scontrol and sacctmgr print about nodes, partitions, reservations, accounts and daemons."""

from __future__ import annotations

import re
from dataclasses import replace

from flamecrest.server.schedulers.reading.sharing import EVERYTHING, Kind
from flamecrest.server.schedulers.values import Account, Node, Partition, Reservation

from .fields import Rows, count, decimal, epoch, text
from .states import parse_node_states

SINFO_COLUMNS = (
    "NodeList", "StateLong", "CPUs", "CPUsState", "Sockets", "Cores", "Threads", "CPUsLoad", "FreeMem", "AllocMem",
    "Weight", "NodeHost", "NodeAddr", "PartitionName", "Features",
)  # fmt: skip

_NAME = re.compile(r"\S+")
_KEY = re.compile(r"(?:^| )([A-Za-z/:]+)=(\S*)")
_MCS = re.compile(r"^MCSParameters\s*=\s*(.*)$", re.MULTILINE)
_PRIVATE = re.compile(r"^PrivateData\s*=\s*(\S+)\s*$", re.MULTILINE)
_RESERVATION = re.compile(r"ReservationName=(.*?) StartTime=(\S+) EndTime=(\S+) .*", re.DOTALL)


def parse_nodes(output: str, separator: str) -> list[Node]:
    """Parse sinfo's rows, one for each pair of node and partition, into nodes with all their partitions."""
    found: dict[str, Node] = {}
    for row in Rows(output, separator, SINFO_COLUMNS, _NAME):
        name, partition = row["NodeList"], row["PartitionName"]
        if name not in found:
            found[name] = _node(row)
        elif partition not in found[name].partitions:
            found[name] = replace(found[name], partitions=tuple(sorted((*found[name].partitions, partition))))
    return [found[name] for name in sorted(found)]


def parse_private(output: str) -> frozenset[Kind]:
    """What PrivateData in the output of `scontrol show config` keeps from users; everything if it is not there.

    sinfo prints nodes with their partitions: private ones make nodes private. Accounts are those of a user. With
    `privatedata` in MCSParameters, jobs are shown to those who may use their label.
    """
    found = _PRIVATE.search(output)
    if found is None:
        return EVERYTHING
    words = set(found[1].lower().split(","))
    private = {kind for kind in EVERYTHING if kind.value in words}
    if Kind.PARTITIONS in private:
        private.add(Kind.NODES)
    if (mcs := _MCS.search(output)) is None or "privatedata" in mcs[1].lower():
        private.add(Kind.JOBS)
    return frozenset({Kind.ACCOUNTS, *private})


def _node(row: dict[str, str]) -> Node:
    allocated, idle, *_ = (*row["CPUsState"].split("/"), "", "")
    return Node(
        name=row["NodeList"],
        states=parse_node_states(row["StateLong"]),
        cpus=count(row["CPUs"]) or 0,
        partitions=(row["PartitionName"],) if row["PartitionName"] else (),
        sockets=count(row["Sockets"]),
        cores=count(row["Cores"]),
        threads=count(row["Threads"]),
        cpu_load=decimal(row["CPUsLoad"]),
        free_memory=count(row["FreeMem"]),
        allocated_memory=count(row["AllocMem"]),
        allocated_cpus=count(allocated),
        idle_cpus=count(idle),
        features=text(row["Features"]) or None,
        address=text(row["NodeAddr"]) or None,
        hostname=text(row["NodeHost"]) or None,
        weight=count(row["Weight"]),
    )


def parse_partitions(output: str) -> list[Partition]:
    """Parse the lines of `scontrol --oneliner show partitions`."""
    found = []
    for line in output.splitlines():
        keys = dict(_KEY.findall(line))
        if name := keys.get("PartitionName"):
            state = keys.get("State") or "UNKNOWN"
            found.append(Partition(name, state, count(keys.get("TotalCPUs", "")), count(keys.get("TotalNodes", ""))))
    return found


def parse_reservations(output: str) -> list[Reservation]:
    """Parse the lines of `scontrol --oneliner show reservations`; lines without times are skipped.

    A name may contain spaces and ends where StartTime begins.
    """
    found = []
    for line in output.splitlines():
        match = _RESERVATION.fullmatch(line)
        start, end = (epoch(match[2]), epoch(match[3])) if match else (None, None)
        if match is None or start is None or end is None:
            continue
        keys = dict(
            reversed(_KEY.findall(line[match.end(3) :]))
        )  # the first value of each key: lines about CoreIDs repeat some
        found.append(
            Reservation(
                name=match[1],
                nodes=text(keys.get("Nodes", "")),
                start=start,
                end=end,
                state=keys.get("State", "").lower() or None,
                features=text(keys.get("Features", "")) or None,
            )
        )
    return found


def parse_accounts(output: str) -> list[Account]:
    """Parse `user|default|account|cluster` lines; an account has one line for each partition and cluster."""
    rows = [cells for line in output.splitlines() if len(cells := line.split("|")) == 4 and cells[2]]
    found: dict[str, bool] = {}
    for _, default, account, _ in rows:
        found[account] = found.get(account, False) or account == default
    return [Account(name, default) for name, default in found.items()]


def is_controller_up(output: str) -> bool:
    """Whether `scontrol ping` reports one of the controllers as UP."""
    return any(re.search(r"\bUP\b", line.rpartition(" is ")[2]) for line in output.splitlines())
