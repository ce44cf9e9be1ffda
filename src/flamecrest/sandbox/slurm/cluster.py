"""The nodes, partitions and the reservation of the toy cluster, and the rules for jobs on them."""

from __future__ import annotations

from .formats import format_node_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .store import Store, StoredJob

CLUSTER = "cluster"
VERSION = "22.05.8"
NODES = ("nid001", "nid002", "nid003", "nid004")
MEMORY = 16000  # MiB of a node
FEATURE = "fake"


class PartitionConfig:
    """A partition. Times are in minutes."""

    def __init__(
        self,
        name: str,
        default_time: int,
        max_time: int,
        *,
        factor: int,
        nodes: tuple[str, ...] = NODES,
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.default_time = default_time
        self.max_time = max_time
        self.factor = factor
        self.nodes = nodes
        self.hidden = hidden

    @property
    def default(self) -> bool:
        return self.name == "debug"


PARTITIONS = (
    PartitionConfig("debug", 10, 60, factor=10),
    PartitionConfig("long", 60, 7 * 1440, factor=1),
    PartitionConfig("service", 10, 60, factor=1, nodes=("nid003",), hidden=True),
)
RESERVATION = "testres"
RESERVED = "nid004"
RESERVED_FOR = ("fireuser", "firesrv")
RESERVED_SECONDS = 365 * 86400
ACCOUNTS = ("test", "other")
QOS_MINUTES = {"normal": 0, "high": 30}  # MaxWall; 0: no limit


def partition(name: str) -> PartitionConfig | None:
    return next((one for one in PARTITIONS if one.name == name), None)


def used_cpus(jobs: Iterable[StoredJob]) -> dict[str, int]:
    """The CPUs on each node that are allocated to jobs."""
    cpus = dict.fromkeys(NODES, 0)
    for job in jobs:
        names = job.nodelist.split(",") if job.nodelist and not job.finished else []
        for name in names:
            cpus[name] += -(-job.cpus // len(names))
    return cpus


def _eligible_nodes(job: StoredJob) -> list[str]:
    """The nodes that the job may use: those of its reservation, or all others of its partition."""
    found = partition(job.partition)
    return [name for name in (found.nodes if found else ()) if (name == RESERVED) == bool(job.reservation)]


def find_nodes(job: StoredJob, used: dict[str, int], cpus: int) -> str:
    """The nodes with enough free CPUs for the job, separated by commas; "" if there are too few."""
    each = -(-job.cpus // job.nodes)
    free = [name for name in _eligible_nodes(job) if used[name] + each <= cpus]
    return ",".join(free[: job.nodes]) if len(free) >= job.nodes else ""


def permanent_reason(job: StoredJob, cpus: int) -> str:
    """The reason why the job can never start; "" if it can."""
    found = partition(job.partition)
    most = QOS_MINUTES.get(job.qos, 0)
    if job.nodes > len(_eligible_nodes(job)) or -(-job.cpus // job.nodes) > cpus:
        return "PartitionConfig"
    if found is not None and (job.minutes == 0 or job.minutes > found.max_time):
        return "PartitionTimeLimit"
    return "QOSMaxWallDurationPerJobLimit" if most and (job.minutes == 0 or job.minutes > most) else ""


def node_states(store: Store) -> list[tuple[str, int, str]]:
    """Each node with its allocated CPUs and its state in lower case."""
    cpus = int(store.setting("cpus"))
    used = used_cpus(store.jobs("ended = 0 AND nodelist != ''"))

    def state(name: str) -> str:
        if used[name]:
            return "allocated" if used[name] >= cpus else "mixed"
        return "reserved" if name == RESERVED else "idle"

    return [(name, used[name], state(name)) for name in NODES]


def node_expression(job: StoredJob) -> str:
    """A job's nodes as a Slurm node expression."""
    return format_node_list(job.nodelist.split(",")) if job.nodelist else ""
