"""Messages of `/status/systems`: configuration without secrets, and health."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from .casing import WireModel


class BackendServiceType(StrEnum):
    """The probed services of a system."""

    S3 = "s3"
    FILESYSTEM = "filesystem"
    SSH = "ssh"
    SCHEDULER = "scheduler"
    EXCEPTION = "exception"


class SchedulerType(StrEnum):
    """The batch systems."""

    SLURM = "slurm"
    PBS = "pbs"
    LOCAL = "local"


class SchedulerConnectionMode(StrEnum):
    """How the scheduler is reached."""

    HYBRID = "hybrid"
    REST = "rest"
    SSH = "ssh"


class FileSystemDataType(StrEnum):
    """What a file system is for."""

    USERS = "users"
    STORE = "store"
    ARCHIVE = "archive"
    APPS = "apps"
    SCRATCH = "scratch"
    PROJECT = "project"


class SSHTimeouts(WireModel):
    """Limits of SSH connections, in seconds."""

    connection: int = 5
    login: int = 5
    command_execution: int = 5
    idle_timeout: int = 60
    keep_alive: int = 5


class LoginNode(WireModel):
    """One of several login nodes; `state` is up, returning, slow or down, since `since`, because of `reason`."""

    host: str
    port: int
    address: str | None = None
    zone: str | None = None
    weight: float = 1.0
    state: Literal["up", "returning", "slow", "down"]
    since: datetime
    reason: str | None = None
    connections: int = 0


class SSHClientPool(WireModel):
    """Address and connection limits of a system's login nodes."""

    host: str
    port: int
    proxy_host: str | None = None
    proxy_port: int | None = None
    max_clients: int = 100
    timeout: SSHTimeouts = Field(default_factory=SSHTimeouts)
    nodes: list[LoginNode] | None = Field(default=None, description="The login nodes, if there are several")


class Scheduler(WireModel):
    """A system's batch system; `timeout` in seconds."""

    type: SchedulerType
    connection_mode: SchedulerConnectionMode | None = SchedulerConnectionMode.SSH
    version: str
    api_url: str | None = None
    api_version: str | None = None
    timeout: int = 10


class ServiceHealth(WireModel):
    """What the last probe and users' requests say about one service; `latency` in seconds.

    `since` is the start of the current state, healthy or not.
    """

    service_type: BackendServiceType
    last_checked: datetime | None = None
    latency: float | None = None
    healthy: bool = False
    message: str | None = None
    since: datetime | None = None


class SchedulerServiceHealth(ServiceHealth):
    """The scheduler's health."""


class FilesystemServiceHealth(ServiceHealth):
    """A file system's health; `path` is that of an entry of fileSystems."""

    path: str | None = None


class SSHServiceHealth(ServiceHealth):
    """The login nodes' health."""


class S3ServiceHealth(ServiceHealth):
    """The object store's health."""


class HealthCheckException(ServiceHealth):
    """A probe that failed by itself."""


HEALTH_OF: dict[BackendServiceType, type[ServiceHealth]] = {
    BackendServiceType.SCHEDULER: SchedulerServiceHealth,
    BackendServiceType.FILESYSTEM: FilesystemServiceHealth,
    BackendServiceType.SSH: SSHServiceHealth,
    BackendServiceType.S3: S3ServiceHealth,
    BackendServiceType.EXCEPTION: HealthCheckException,
}

AnyHealth = SchedulerServiceHealth | FilesystemServiceHealth | SSHServiceHealth | S3ServiceHealth | HealthCheckException


class ProbingService(WireModel):
    """How one kind of service is probed; `timeout` in seconds."""

    timeout: int | None = 10


class ProbingServices(WireModel):
    """How often services are probed (seconds), and which."""

    interval_check: int = 120
    services: dict[BackendServiceType, ProbingService] | None = None


class FileSystem(WireModel):
    """A file system that the gateway gives access to."""

    path: str
    data_type: FileSystemDataType
    default_work_dir: bool = False


class MultipartUpload(BaseModel):
    """How large files are split for the object store (snake_case on the wire, as in FirecREST)."""

    use_split: bool = False
    max_part_size: int = 2 * 1024 * 1024 * 1024
    parallel_runs: int = 3
    tmp_folder: str = "tmp"


class BucketLifecycleConfiguration(BaseModel):
    """After how many days objects are deleted."""

    days: int = 10


_SECRETS = ("privateUrl", "accessKeyId", "secretAccessKey")


def _name_secrets(schema: dict[str, Any]) -> None:
    """Add the fields of FirecREST's schema that no response contains."""
    for name in _SECRETS:
        schema["properties"][name] = {"type": "string", "format": "password", "writeOnly": True}
    schema["required"] = [*schema["required"], *_SECRETS]


class S3DataTransfer(WireModel):
    """The object store for transfers. It has no fields for keys, so they cannot be shown."""

    model_config = ConfigDict(json_schema_extra=_name_secrets)

    service_type: Literal["s3"]
    name: str
    public_url: str
    region: str
    ttl: int
    tenant: str | None = None
    multipart: MultipartUpload = Field(default_factory=MultipartUpload)
    bucket_lifecycle_configuration: BucketLifecycleConfiguration = Field(default_factory=BucketLifecycleConfiguration)


class WormholeDataTransfer(WireModel):
    """Transfers by magic-wormhole."""

    service_type: Literal["wormhole"]
    pypi_index_url: str | None = None
    mailbox_url: str | None = Field(default=None, description="What clients set as WORMHOLE_RELAY_URL")
    transit_relay: str | None = Field(default=None, description="What clients set as WORMHOLE_TRANSIT_HELPER")


class StreamerDataTransfer(WireModel):
    """Transfers by firecrest-streamer; `inbound_transfer_limit` in bytes, `wait_timeout` in seconds."""

    service_type: Literal["streamer"]
    pypi_index_url: str | None = None
    host: str | None = None
    port_range: tuple[int, int] = (5665, 5675)
    public_ips: list[str] | None = None
    wait_timeout: int = 86400
    inbound_transfer_limit: int = 5 * 1024 * 1024 * 1024
    require_tls: bool = Field(default=False, description="Whether the job refuses clients without TLS")


DataTransfer = Annotated[
    S3DataTransfer | WormholeDataTransfer | StreamerDataTransfer, Field(discriminator="service_type")
]


class DataOperation(BaseModel):
    """Limits of direct operations (bytes) and how transfers run (snake_case on the wire, as in FirecREST)."""

    max_ops_file_size: int = 5 * 1024 * 1024
    datatransfer_jobs_directives: list[str] = Field(default_factory=list)
    data_transfer: DataTransfer | None = None


class TransferMethod(WireModel):
    """A method of transfer/upload and transfer/download. Sizes in bytes, times in seconds; null: no limit, or none."""

    name: Literal["s3", "direct", "streamer", "wormhole"] = Field(description="`transferMethod` of a request")
    through: Literal["gateway", "store", "node"] = Field(description="What the data goes through")
    public_url: str | None = Field(default=None, description="Where clients send data; null: the address of the API")
    max_size: int | None = Field(default=None, description="Of a file")
    max_parts: int | None = None
    part_size: int | None = Field(default=None, description="Of a part; larger where there would be too many")
    lifetime: int | None = Field(default=None, description="Of the URLs")
    wait_timeout: int | None = Field(default=None, description="How long a job waits for its client")
    ports: tuple[int, int] | None = Field(default=None, description="The first and the last one that a client needs")
    public_addresses: list[str] | None = None


class ServiceAccount(WireModel):
    """The account that probes run as. Part of the contract's schema only: no response contains it."""

    client_id: str
    secret: SecretStr


class HPCCluster(WireModel):
    """One system: access, services, file systems, health."""

    name: str
    ssh: SSHClientPool
    scheduler: Scheduler
    services_health: list[AnyHealth] = Field(default_factory=list)
    probing: ProbingServices
    last_health_check: datetime | None = None
    file_systems: list[FileSystem] = Field(default_factory=list)
    data_operation: DataOperation = Field(default_factory=DataOperation)
    transfer_methods: list[TransferMethod] = Field(default_factory=list)


class GetSystemsResponse(WireModel):
    """All systems of the centre."""

    systems: list[HPCCluster]
