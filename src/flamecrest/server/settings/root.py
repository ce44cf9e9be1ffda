"""The root of the configuration, with the settings of the server and the log."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from .access import AuthSettings
from .access.audit import AuditSettings
from .access.credentials import Credentials
from .access.limits import LimitsSettings
from .cluster.clusters import ClusterSettings
from .cluster.transfers import DataOperationSettings, S3TransferSettings, StorageSettings, TransferSettings
from .problems import InvalidSetting
from .section import FLAMECREST_ONLY, Section, Url, Word, none_if_blank
from .server import MetricsSettings, ServerSettings, TracingSettings
from .use import ReadBy

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110, 5.1
_SECRET_HEADER = re.compile(
    r"authoriz|authenti|cookie|token|secret|passw|(api|access|private)[._-]?key|credential|signature|session|jwt|bearer"
    r"|assertion|^x-auth$",
    re.IGNORECASE,
)


def _loggable_header(value: str) -> str:
    if _HEADER_NAME.fullmatch(value) is None:
        raise InvalidSetting("is not the name of a header")
    if _SECRET_HEADER.search(value):
        raise InvalidSetting("may contain a secret and is never logged", "another header")
    return value


def _root_path(value: str) -> str:
    if value and (not value.startswith("/") or value.startswith("//")):
        raise InvalidSetting("must begin with one slash", "/firecrest/v2")
    return value


def _doc_server(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(value.get("url"), str):
        raise InvalidSetting("needs the text `url`", "{url: https://api.example.org}")
    if not isinstance(value.get("description", ""), str):
        raise InvalidSetting("has a `description` that is not a text")
    return value


DocServer = Annotated[Mapping[str, Any], AfterValidator(_doc_server)]


class LoggableHeaderSettings(Section):
    """A request header that is logged."""

    USE = ReadBy("server.app")

    input: Annotated[Word, AfterValidator(_loggable_header)] = Field(
        description="The name of the header. Headers that may contain secrets are refused.", examples=["user-agent"]
    )
    output: Word = Field(
        description="The name in the object `headers` of the access log's line.", examples=["user_agent"]
    )


def _unique_inputs(value: tuple[LoggableHeaderSettings, ...]) -> tuple[LoggableHeaderSettings, ...]:
    name = first_duplicate([header.input for header in value])
    if name is not None:
        raise InvalidSetting(f"the header {name} is given twice (case does not matter)", "keep one")
    return value


class LoggerSettings(Section):
    """Request headers in the access log."""

    USE = ReadBy("server.app")
    RENAMED: ClassVar[Mapping[str, str]] = {"request_headers_to_trace": "loggable_request_headers"}

    enable_tracing_log: bool = Field(
        default=False, description="Add the headers of `loggable_request_headers` to the access log."
    )
    loggable_request_headers: Annotated[tuple[LoggableHeaderSettings, ...], AfterValidator(_unique_inputs)] = Field(
        default=(), description="The request headers to log, if `enable_tracing_log` is true."
    )


def first_duplicate(names: Sequence[str]) -> str | None:
    """The first name that occurs twice, in lower case; case does not matter."""
    folded = [name.lower() for name in names]
    return next((name for at, name in enumerate(folded) if name in folded[:at]), None)


def duplicate_name(name: str) -> InvalidSetting:
    """The error for two clusters of one name."""
    return InvalidSetting(f"two clusters are named {name} (case does not matter)", "rename one of them")


def _unique_names(value: tuple[ClusterSettings, ...]) -> tuple[ClusterSettings, ...]:
    name = first_duplicate([cluster.name for cluster in value])
    if name is not None:
        raise duplicate_name(name)
    return value


def _all_have_credentials(value: tuple[ClusterSettings, ...], info: ValidationInfo) -> tuple[ClusterSettings, ...]:
    """Refuse clusters without credentials; those at the root come first in `info`, and are not there if invalid."""
    if info.data.get("ssh_credentials", value) is None:
        for cluster in value:
            if cluster.ssh_credentials is None:
                raise _no_credentials(cluster.name)
    return value


def _no_credentials(cluster: str) -> InvalidSetting:
    return InvalidSetting(
        f"the cluster {cluster} has no `ssh_credentials`, and there are none at the root",
        "for example `ssh_credentials: {type: SSHStaticKeys, keys: "
        "{alice: {private_key: secret_file:/run/secrets/alice}}}`",
    )


class Settings(Section):
    """The configuration of a gateway: a FirecREST v2 configuration with additional keys."""

    USE = ReadBy("server.wiring")
    IGNORED: ClassVar[Mapping[str, str]] = {"app_version": "it is the version of FirecREST"}

    app_debug: Annotated[bool, ReadBy("cli")] = Field(
        default=False, description="Log at level debug, whatever `server.log_level` says."
    )
    apis_root_path: Annotated[str, AfterValidator(_root_path), ReadBy("server.app")] = Field(
        default="", description="The path prefix of the API behind a reverse proxy.", examples=["/firecrest/v2"]
    )
    doc_servers: Annotated[tuple[DocServer, ...], ReadBy("server.app")] = Field(
        default=(),
        description="The servers in the OpenAPI document (`servers`).",
        examples=[[{"url": "https://api.example.org", "description": "Production"}]],
    )
    documentation_url: Annotated[Url | None, BeforeValidator(none_if_blank), ReadBy("server.app")] = Field(
        default=None,
        description="The URL of your guide for users, which the pages `/docs` and `/redoc`, and `/`, link to.",
        examples=["https://docs.example.org/hpc-api"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    auth: AuthSettings = Field(
        description="Authentication and authorization.",
        examples=[{"authentication": {"issuer": "https://id.example.org/realms/hpc"}}],
    )
    ssh_credentials: Credentials | None = Field(
        default=None,
        description="The SSH keys of the users; `type` selects their source. Without `type`: a mapping of users to "
        "keys, or the `url` of a key service. Not set: each cluster needs its own.",
        examples=[{"type": "SSHStaticKeys", "keys": {"alice": {"private_key": "secret_file:/run/secrets/alice"}}}],
    )
    clusters: Annotated[
        tuple[ClusterSettings, ...], AfterValidator(_unique_names), AfterValidator(_all_have_credentials)
    ] = Field(
        default=(),
        description="The clusters; or `path:/a/directory` with one `.yaml` or `.yml` file per cluster.",
        examples=["path:/etc/flamecrest/clusters"],
    )
    storage: StorageSettings | None = Field(
        default=None, description="Older form of `data_operation.data_transfer`: one S3 store for all clusters."
    )
    data_operation: DataOperationSettings | None = Field(
        default=None, description="Older form of `clusters[].data_operation`: the default for all clusters."
    )
    transfers: TransferSettings = Field(
        default_factory=TransferSettings,
        description="Transfers of large files through the gateway itself.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    limits: LimitsSettings | None = Field(
        default=None,
        description="Limits of what one user, and one client, may ask for.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    audit: AuditSettings | None = Field(
        default=None, description="The audit log. Not set: none is written.", json_schema_extra=FLAMECREST_ONLY
    )
    metrics: Annotated[MetricsSettings | None, ReadBy("cli")] = Field(
        default=None,
        description="Metrics for Prometheus and `flamecrest top`, on a port of their own. Not set: none.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    tracing: TracingSettings | None = Field(
        default=None,
        description="Traces for OpenTelemetry. Not set: none are made. Needs the extra `otel`.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    logger: Annotated[LoggerSettings, ReadBy("server.app")] = Field(
        default_factory=LoggerSettings, description="Request headers in the access log."
    )
    server: Annotated[ServerSettings, ReadBy("cli")] = Field(
        default_factory=ServerSettings, description="The HTTP server.", json_schema_extra=FLAMECREST_ONLY
    )

    @property
    def log_level(self) -> str:
        """The lowest level that is logged."""
        return "debug" if self.app_debug else self.server.log_level

    def credentials(self, cluster: ClusterSettings) -> Credentials:
        """The SSH credentials of a cluster: its own, else those at the root."""
        found = cluster.ssh_credentials or self.ssh_credentials
        if found is None:
            raise _no_credentials(cluster.name)
        return found

    def operations(self, cluster: ClusterSettings) -> DataOperationSettings:
        """The data operation settings of a cluster: its own, else those in the older places."""
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


def _as_transfer(storage: StorageSettings) -> S3TransferSettings:
    shared = {
        name: getattr(storage, name) for name in S3TransferSettings.model_fields if name in StorageSettings.model_fields
    }
    return S3TransferSettings(service_type="s3", **shared)
