"""Toy sinfo: shows nodes and partitions."""

from __future__ import annotations

import os
import time

from flamecrest.sandbox.slurm import cluster
from flamecrest.sandbox.slurm.formats import (
    CommandFailedError,
    format_duration,
    format_node_list,
    format_short_duration,
    format_time,
    write_output,
)
from flamecrest.sandbox.slurm.options import MAYBE, NO, YES, Options

from .columns import Column, parse_format, parse_long_format
from .program import require_controller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.sandbox.slurm.store import Store

_FLAGS = (
    "all dead exact federation future help hide json list-reasons local long Node noconvert noheader reservation "
    "responding summarize usage version yaml"
)
_VALUES = "clusters cluster Format format iterate nodes partition sort states"
OPTIONS = Options(
    "sinfo",
    {**dict.fromkeys(_FLAGS.split(), NO), **dict.fromkeys(_VALUES.split(), YES), "verbose": MAYBE},
    {
        "a": "all", "d": "dead", "e": "exact", "F": "future", "h": "noheader", "i": "iterate", "l": "long",
        "M": "clusters", "n": "nodes", "N": "Node", "o": "format", "O": "Format", "p": "partition", "r": "responding",
        "R": "list-reasons", "s": "summarize", "S": "sort", "t": "states", "T": "reservation", "V": "version",
    },
)  # fmt: skip
_STANDARD = "%9P %.5a %.10l %.6D %.6t %N"
_SUMMARY = "%9P %.5a %.10l %.16F %N"
_NODES = "%N  %.6D %.9P %6t"
_LONG_NODES = "%N  %.6D %.9P %.11T %4c %.8z %.6m %.8d %.6w %.8f %20E"
SHORT = {"idle": "idle", "reserved": "resv", "mixed": "mix", "allocated": "alloc"}


class NodeGroup:
    """Nodes of a partition with the same state: one row of the output."""

    def __init__(self, partition: cluster.PartitionConfig, nodes: list[tuple[str, int, str]], cpus: int) -> None:
        self.partition = partition
        self.nodes = nodes
        self.cpus = cpus
        self.used = sum(used for _, used, _ in nodes)

    @property
    def state(self) -> str:
        return self.nodes[0][2]

    def states(self) -> tuple[int, int, int, int]:
        """The numbers of nodes: allocated, idle, other, total."""
        busy = sum(1 for _, used, _ in self.nodes if used)
        return busy, len(self.nodes) - busy, 0, len(self.nodes)


def main(store: Store, words: Sequence[str]) -> int:
    options, _ = OPTIONS.read(words, mixed=True)
    if "version" in options:
        write_output(f"slurm-wlm {cluster.VERSION}\n")
        return 0
    if "json" in options or "yaml" in options:
        raise CommandFailedError("sinfo: error: the toy Slurm has no serializer plugins")
    require_controller(store, "slurm_load_partitions: {}")
    if "reservation" in options:
        _reservations(store)
        return 0
    before, columns = _columns(options)
    lines = _groups(store, options, columns)
    if "long" in options:
        write_output(time.strftime("%a %b %d %H:%M:%S %Y\n"))
    rows = [] if "noheader" in options else [[column.title for column in columns]]
    rows += [[column.cell(line) for column in columns] for line in lines]
    width = max(
        (len(row[at]) for row in rows for at, column in enumerate(columns) if column.title == "NODELIST"), default=0
    )
    for row in rows:
        cells = (column.show(_wide(column, text, width, options)) for column, text in zip(columns, row, strict=True))
        write_output(before + "".join(cells) + "\n")
    return 0


def _wide(column: Column, text: str, width: int, options: dict[str, str]) -> str:
    """In the standard node format the node list is as wide as its longest value."""
    standard = "Node" in options and not options.keys() & {"format", "Format"} and column.title == "NODELIST"
    return text.ljust(max(width, 8)) if standard else text


def _columns(options: dict[str, str]) -> tuple[str, list[Column]]:
    if "Format" in options:
        return "", parse_long_format("sinfo", options["Format"], NAMES)
    form = options.get("format")
    if form is None and "Node" in options:
        form = _LONG_NODES if "long" in options else _NODES
    return parse_format(form or (_SUMMARY if "summarize" in options else _STANDARD), CODES)


def _groups(store: Store, options: dict[str, str], columns: list[Column]) -> list[NodeGroup]:
    """One group per set of equal nodes; with --Node one per node and partition."""
    cpus = int(store.setting("cpus"))
    partitions = [one for one in cluster.PARTITIONS if not one.hidden or "all" in options or "partition" in options]
    if "partition" in options:
        partitions = [one for one in partitions if one.name in options["partition"].split(",")]
    nodes = cluster.node_states(store)
    if "nodes" in options:
        nodes = [node for node in nodes if node[0] in options["nodes"].split(",")]
    if "states" in options:
        wanted = options["states"].lower().split(",")
        nodes = [node for node in nodes if node[2] in wanted or SHORT[node[2]] in wanted]
    if "Node" in options:
        lines = [NodeGroup(one, [node], cpus) for node in nodes for one in partitions if node[0] in one.nodes]
        by_partition = any(column.title == "PARTITION" for column in columns)
        return lines if by_partition else list({line.nodes[0][0]: line for line in lines}.values())
    lines = []
    for one in partitions:
        groups: dict[object, list[tuple[str, int, str]]] = {}
        for node in (node for node in nodes if node[0] in one.nodes):
            alike = [column.cell(NodeGroup(one, [node], cpus)) for column in columns if column.title in _GROUPING]
            groups.setdefault("all" if "summarize" in options else tuple(alike), []).append(node)
        # Slurm's order of states
        ordered = sorted(
            groups.values(), key=lambda group: ("reserved", "mixed", "allocated", "idle").index(group[0][2])
        )
        lines += [NodeGroup(one, group, cpus) for group in ordered]
    return lines


def _reservations(store: Store) -> None:
    start = reserved_from(store)
    seconds = cluster.RESERVED_SECONDS
    span = f"{format_time(start)}  {format_time(start + seconds)}  {format_duration(seconds)}"
    write_output("RESV_NAME     STATE           START_TIME             END_TIME     DURATION  NODELIST\n")
    write_output(f"{cluster.RESERVATION:<10}  ACTIVE  {span}  {cluster.RESERVED}\n")


def reserved_from(store: Store) -> int:
    """The start of the reservation: that of the cluster."""
    return int(store.setting("began"))


def _partition_name(line: NodeGroup) -> str:
    return line.partition.name + ("*" if line.partition.default else "")


def _limit(line: NodeGroup) -> str:
    return format_short_duration(line.partition.max_time * 60)


def _load(_line: NodeGroup) -> str:
    return f"{os.getloadavg()[0]:.2f}"


def free_memory() -> int:
    """The free memory of this machine in MiB."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2


def host() -> str:
    return os.uname().nodename.partition(".")[0]


def _cpu_states(line: NodeGroup) -> str:
    total = line.cpus * len(line.nodes)
    return f"{line.used}/{total - line.used}/0/{total}"


def _node_states(line: NodeGroup) -> str:
    return "/".join(str(count) for count in line.states())


# The code of -o, the name of -O, the title, and the function that formats a group.
_COLUMNS = (
    ("P", "Partition", "PARTITION", _partition_name),
    ("R", "PartitionName", "PARTITION", lambda line: line.partition.name),
    ("a", "Available", "AVAIL", lambda _line: "up"),
    ("l", "Time", "TIMELIMIT", _limit),
    ("D", "Nodes", "NODES", lambda line: str(len(line.nodes))),
    ("t", "StateCompact", "STATE", lambda line: SHORT[line.state]),
    ("T", "StateLong", "STATE", lambda line: line.state),
    ("N", "NodeList", "NODELIST", lambda line: format_node_list([name for name, _, _ in line.nodes])),
    ("n", "NodeHost", "HOSTNAMES", lambda _line: host()),
    ("o", "NodeAddr", "NODE_ADDR", lambda _line: "127.0.0.1"),
    ("z", "SocketCoreThread", "S:C:T", lambda line: f"{line.cpus}:1:1"),
    ("X", "Sockets", "SOCKETS", lambda line: str(line.cpus)),
    ("Y", "Cores", "CORES", lambda _line: "1"),
    ("Z", "Threads", "THREADS", lambda _line: "1"),
    ("c", "CPUs", "CPUS", lambda line: str(line.cpus)),
    ("C", "CPUsState", "CPUS(A/I/O/T)", _cpu_states),
    ("O", "CPUsLoad", "CPU_LOAD", _load),
    ("e", "FreeMem", "FREE_MEM", lambda _line: str(free_memory())),
    ("", "AllocMem", "ALLOCMEM", lambda line: str(100 * line.used)),
    ("m", "Memory", "MEMORY", lambda _line: str(cluster.MEMORY)),
    ("d", "Disk", "TMP_DISK", lambda _line: "0"),
    ("w", "Weight", "WEIGHT", lambda _line: "1"),
    ("f", "Features", "AVAIL_FEATURES", lambda _line: cluster.FEATURE),
    ("b", "features_act", "ACTIVE_FEATURES", lambda _line: cluster.FEATURE),
    ("G", "Gres", "GRES", lambda _line: "(null)"),
    ("v", "Version", "VERSION", lambda _line: cluster.VERSION),
    ("E", "Reason", "REASON", lambda _line: "none"),
    ("F", "NodeAIOT", "NODES(A/I/O/T)", _node_states),
    ("V", "Cluster", "CLUSTER", lambda _line: cluster.CLUSTER),
)
CODES = {code: (title, cell) for code, _, title, cell in _COLUMNS if code}
NAMES = {name.lower(): (title, cell) for _, name, title, cell in _COLUMNS}
_GROUPING = {"STATE", "CPUS", "CPUS(A/I/O/T)"}  # nodes with different values have separate rows
