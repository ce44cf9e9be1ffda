"""Messages of `/status`: liveness, nodes, partitions, reservations, the caller; systems are in systems.py."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from .casing import WireModel
from .systems import (
    HEALTH_OF,
    BackendServiceType,
    DataOperation,
    FileSystem,
    FileSystemDataType,
    FilesystemServiceHealth,
    GetSystemsResponse,
    HealthCheckException,
    HPCCluster,
    ProbingService,
    ProbingServices,
    S3DataTransfer,
    S3ServiceHealth,
    Scheduler,
    SchedulerConnectionMode,
    SchedulerServiceHealth,
    SchedulerType,
    ServiceHealth,
    SSHClientPool,
    SSHServiceHealth,
    SSHTimeouts,
    StreamerDataTransfer,
    WormholeDataTransfer,
)


class GetLiveness(WireModel):
    """When each system was probed last, and how many seconds ago the oldest of these was."""

    healthcheck_runs: dict[str, datetime] = Field(default_factory=dict)
    last_update: int = 0


class NodeState(StrEnum):
    """The states of a node that the wire knows."""

    IDLE = "IDLE"
    ALLOCATED = "ALLOCATED"
    MIXED = "MIXED"
    DOWN = "DOWN"
    DRAIN = "DRAIN"
    OFFLINE = "OFFLINE"
    RESERVED = "RESERVED"
    COMPLETING = "COMPLETING"
    BUSY = "BUSY"
    POWERING_DOWN = "POWERING_DOWN"
    POWERING_UP = "POWERING_UP"
    UNKNOWN = "UNKNOWN"


class NodeModel(WireModel):
    """A compute node; memory in MiB."""

    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None
    cpus: int
    cpu_load: float | None = None
    free_memory: int | None = None
    features: str | list[str] | None = None
    name: str
    address: str | None = None
    hostname: str | None = None
    state: list[NodeState]
    partitions: list[str] | None = None
    weight: int | None = None
    alloc_memory: int | None = None
    alloc_cpus: int | None = None
    idle_cpus: int | None = None


class GetNodesResponse(WireModel):
    """All nodes of a system."""

    nodes: list[NodeModel]


class PartitionModel(WireModel):
    """A partition or queue; `partition` is its state."""

    name: str
    cpus: int | None = None
    total_nodes: int | None = None
    partition: str | list[str]


class GetPartitionsResponse(WireModel):
    """The partitions of a system."""

    partitions: list[PartitionModel]


class ReservationModel(WireModel):
    """A reservation; times in seconds since the epoch."""

    name: str
    node_list: str
    end_time: int
    start_time: int
    features: str | None = None
    state: str | None = None


class GetReservationsResponse(WireModel):
    """The reservations of a system."""

    reservations: list[ReservationModel]


class GetCapabilitiesResponse(WireModel):
    """What a system's scheduler can do, for callers that write a job once for many systems."""

    fields: list[str] = Field(description="Optional fields of a job that it takes: `timeLimit`, `resources.gpus`")
    changes: list[str] = Field(description="Fields of a job that `PATCH` can change")
    operations: list[str] = Field(description="Operations of jobs and lists: `hold`, `signal`, `check` (validate)")


class PosixIdentified(WireModel):
    """A user or group; the id is a number as text."""

    id: str
    name: str


class AccountsModel(WireModel):
    """An account that the caller may charge."""

    name: str
    default: bool


class UserInfoResponse(WireModel):
    """The caller's user and groups on a system. `accounts` is null if the scheduler has none or is down."""

    user: PosixIdentified
    group: PosixIdentified
    groups: list[PosixIdentified]
    accounts: list[AccountsModel] | None = None


__all__ = [
    "HEALTH_OF",
    "AccountsModel",
    "BackendServiceType",
    "DataOperation",
    "FileSystem",
    "FileSystemDataType",
    "FilesystemServiceHealth",
    "GetLiveness",
    "GetNodesResponse",
    "GetPartitionsResponse",
    "GetReservationsResponse",
    "GetSystemsResponse",
    "HPCCluster",
    "HealthCheckException",
    "NodeModel",
    "NodeState",
    "PartitionModel",
    "PosixIdentified",
    "ProbingService",
    "ProbingServices",
    "ReservationModel",
    "S3DataTransfer",
    "S3ServiceHealth",
    "SSHClientPool",
    "SSHServiceHealth",
    "SSHTimeouts",
    "Scheduler",
    "SchedulerConnectionMode",
    "SchedulerServiceHealth",
    "SchedulerType",
    "ServiceHealth",
    "StreamerDataTransfer",
    "UserInfoResponse",
    "WormholeDataTransfer",
]
