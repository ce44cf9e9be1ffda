"""The whole configuration, what it asks for that this version has not, and what in it deserves a warning."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from .access import AuthSettings, Credentials, StaticKeysSettings
from .clusters import ClusterSettings
from .problems import InvalidSetting
from .section import FLAMECREST_ONLY, Port, Seconds, Section, StoredSecret, Word
from .transfers import DataOperationSettings, S3TransferSettings, StorageSettings


def _loggable(value: str) -> str:
    if value.lower() in ("authorization", "proxy-authorization", "cookie"):
        raise InvalidSetting("holds a secret and is never logged", "another header")
    return value


class LoggableHeaderSettings(Section):
    """A request header that goes into the log."""

    input: Annotated[Word, AfterValidator(_loggable)] = Field(
        description="The name of the header.", examples=["user-agent"]
    )
    output: Word = Field(description="The name of the field in the log.", examples=["user_agent"])


class LoggerSettings(Section):
    """What is logged of a request."""

    RENAMED: ClassVar[Mapping[str, str]] = {"request_headers_to_trace": "loggable_request_headers"}

    enable_tracing_log: bool = Field(
        default=False, description="Log the headers listed in `loggable_request_headers` with every request."
    )
    loggable_request_headers: tuple[LoggableHeaderSettings, ...] = Field(
        default=(), description="Which request headers are logged, and as what."
    )


class ServerSettings(Section):
    """The HTTP server itself."""

    host: Word = Field(default="127.0.0.1", description="The address to listen on.", json_schema_extra=FLAMECREST_ONLY)
    port: Port = Field(default=8000, description="The port to listen on.", json_schema_extra=FLAMECREST_ONLY)
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info", description="The least important messages that are logged.", json_schema_extra=FLAMECREST_ONLY
    )
    access_log: bool = Field(
        default=True,
        description="Log one line for every request; `false`: only for those that failed (5xx).",
        json_schema_extra=FLAMECREST_ONLY,
    )
    shutdown_timeout: Seconds = Field(
        default=30,
        description="When the server is told to stop, requests under way have this long to finish.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    header_timeout: Seconds = Field(
        default=30,
        description="How long a client may take to send the head of a request; then the connection is closed.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    trusted_proxies: tuple[Word, ...] = Field(
        default=("127.0.0.1",),
        description="Addresses and networks of reverse proxies whose `X-Forwarded-*` headers are believed.",
        json_schema_extra=FLAMECREST_ONLY,
    )


def first_duplicate(names: Sequence[str]) -> str | None:
    """The first name that stands twice, in any case."""
    folded = [name.lower() for name in names]
    return next((name for at, name in enumerate(folded) if name in folded[:at]), None)


def duplicate_name(name: str) -> InvalidSetting:
    """What is wrong when two clusters have one name."""
    return InvalidSetting(f"two clusters are called {name} (case does not matter)", "another name for one of them")


def _named_once(value: tuple[ClusterSettings, ...]) -> tuple[ClusterSettings, ...]:
    name = first_duplicate([cluster.name for cluster in value])
    if name is not None:
        raise duplicate_name(name)
    return value


class Settings(Section):
    """The configuration of a gateway: a FirecREST v2 configuration, and more."""

    IGNORED: ClassVar[Mapping[str, str]] = {"app_version": "FirecREST's own"}

    app_debug: bool = Field(default=False, description="Log at level debug, whatever `server.log_level` says.")
    apis_root_path: str = Field(
        default="", description="The path below which a reverse proxy shows the API.", examples=["/firecrest/v2"]
    )
    doc_servers: tuple[Mapping[str, Any], ...] = Field(
        default=(),
        description="The servers that the API's documentation offers (`servers` of OpenAPI).",
        examples=[[{"url": "https://api.example.org", "description": "Production"}]],
    )
    auth: AuthSettings = Field(
        description="Who may come in.", examples=[{"authentication": {"issuer": "https://id.example.org/realms/hpc"}}]
    )
    ssh_credentials: Credentials = Field(
        description="The keys that the gateway logs in with on the users' behalf; `type` says where they come from. "
        "Without `type`, a mapping of users to keys, or `url` of a key service.",
        examples=[{"type": "SSHStaticKeys", "keys": {"alice": {"private_key": "secret_file:/run/secrets/alice"}}}],
    )
    clusters: Annotated[tuple[ClusterSettings, ...], AfterValidator(_named_once)] = Field(
        default=(),
        description="The clusters; or `path:/a/directory`, where every `.yaml` and `.yml` file is one cluster.",
        examples=["path:/etc/flamecrest/clusters"],
    )
    storage: StorageSettings | None = Field(
        default=None, description="Older place of `data_operation.data_transfer`, one S3 store for all clusters."
    )
    data_operation: DataOperationSettings | None = Field(
        default=None, description="Older place of `data_operation`, for clusters that have none of their own."
    )
    logger: LoggerSettings = Field(default_factory=LoggerSettings, description="What is logged of a request.")
    server: ServerSettings = Field(
        default_factory=ServerSettings, description="The HTTP server itself.", json_schema_extra=FLAMECREST_ONLY
    )

    @property
    def log_level(self) -> str:
        """The least important level that is logged."""
        return "debug" if self.app_debug else self.server.log_level

    def operations(self, cluster: ClusterSettings) -> DataOperationSettings:
        """What counts for a cluster, once the older places are taken into account: its own setting goes first."""
        own, shared, storage = cluster.data_operation, self.data_operation or DataOperationSettings(), self.storage
        size = own.max_ops_file_size or shared.max_ops_file_size
        transfer = own.data_transfer or shared.data_transfer
        if storage is not None:
            size = size or storage.max_ops_file_size
            transfer = transfer or _as_transfer(storage)
        return DataOperationSettings(
            max_ops_file_size=size,
            datatransfer_jobs_directives=own.datatransfer_jobs_directives
            or cluster.datatransfer_jobs_directives
            or shared.datatransfer_jobs_directives,
            data_transfer=transfer,
        )

    def unsupported(self) -> list[str]:
        """What is configured but not built yet in this version: a gateway must not start with it."""
        found = []
        if not isinstance(self.ssh_credentials, StaticKeysSettings):
            found.append(
                f"ssh_credentials.type {self.ssh_credentials.type} is not built yet in this version: use SSHStaticKeys"
            )
        if self.auth.authorization is not None:
            found.append("auth.authorization (OpenFGA) is not built yet in this version: remove the section")
        for cluster in self.clusters:
            scheduler, where = cluster.scheduler, f"cluster {cluster.name}: scheduler"
            if scheduler.type != "slurm":
                found.append(f"{where}.type {scheduler.type} is not built yet in this version: use slurm")
            if scheduler.connection_mode != "ssh":
                found.append(
                    f"{where}.connection_mode {scheduler.connection_mode} is not built yet in this version: use ssh"
                )
        return found

    def warnings(self) -> list[str]:
        """What works but should be looked at, for every start."""
        found = [*_token_warnings(self)]
        if not self.clusters:
            found.append("clusters: none is configured")
        for cluster in self.clusters:
            found += _cluster_warnings(cluster)
            if cluster.probing.timeouts() and self.auth.authentication.token_url is None:
                found.append(f"cluster {cluster.name}: probing needs auth.authentication.token_url; nothing is probed")
            transfer = self.operations(cluster).data_transfer
            if transfer is not None:
                found.append(
                    f"cluster {cluster.name}: data_transfer {transfer.service_type} is not built yet in this version: "
                    "transfer/upload and transfer/download answer 400"
                )
        if isinstance(self.ssh_credentials, StaticKeysSettings) and not self.ssh_credentials.keys:
            found.append("ssh_credentials: no user has a key, so nobody can work")
        inline = list(_inline_secrets(self, ""))
        if inline:
            found.append(f"secrets stand in the configuration itself, better use secret_file: {', '.join(inline)}")
        return found


def _as_transfer(storage: StorageSettings) -> S3TransferSettings:
    shared = {
        name: getattr(storage, name) for name in S3TransferSettings.model_fields if name in StorageSettings.model_fields
    }
    return S3TransferSettings(service_type="s3", **shared)


def _token_warnings(settings: Settings) -> Iterator[str]:
    tokens = settings.auth.authentication
    if tokens.issuer is None:
        yield "auth.authentication.issuer is not set: a token of any issuer that shares the keys is accepted"
    if not tokens.audience:
        yield "auth.authentication.audience is not set: tokens that were made for other services are accepted"
    urls = {"issuer": [tokens.issuer], "token_url": [tokens.token_url], "public_certs": tokens.public_certs}
    for key, values in urls.items():
        for url in values:
            host = urlsplit(url or "").hostname or ""
            if (url or "").startswith("http://") and not _is_loopback(host):
                yield f"auth.authentication.{key}: http://{host} is not encrypted, whoever is in between can forge it"


def _cluster_warnings(cluster: ClusterSettings) -> Iterator[str]:
    where = f"cluster {cluster.name}"
    if cluster.ssh.host_keys.policy == "off":
        yield f"{where}: ssh.host_keys.policy is off: whoever is in between can read and change everything"
    if not cluster.file_systems:
        yield f"{where}: no file_systems are configured, so every path is refused"
    if cluster.probing.timeouts() and cluster.service_account is None:
        yield f"{where}: probing needs a service_account; nothing is probed"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _inline_secrets(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, SecretStr):
        if (
            not isinstance(value, StoredSecret)
            and value.get_secret_value()
            and where.rpartition(".")[2] != "private_url"
        ):
            yield where
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from _inline_secrets(getattr(value, name), f"{where}.{name}" if where else name)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _inline_secrets(item, f"{where}.{name}")
    elif isinstance(value, tuple):
        for at, item in enumerate(value):
            name = item.name if isinstance(item, ClusterSettings) else str(at)
            yield from _inline_secrets(item, f"{where}[{name}]")
