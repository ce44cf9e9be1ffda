"""One cluster: where its login node is, whose host keys are trusted, its scheduler, file systems and probes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .problems import InvalidSetting
from .section import (
    FLAMECREST_ONLY,
    Count,
    Host,
    Kind,
    Port,
    RemotePath,
    Seconds,
    SecondsOrNone,
    Secret,
    Section,
    Url,
    Word,
    as_tuple,
    none_if_blank,
)
from .transfers import DataOperationSettings


def _existing(value: Path) -> Path:
    try:
        path = value.expanduser()
        found = path.is_file()
    except (ValueError, RuntimeError, OSError):
        raise InvalidSetting("is no path of a file that can be read") from None
    if not found:
        raise InvalidSetting(f"the file {path} does not exist", "a file in OpenSSH's known_hosts format")
    return path


def _public_key(value: str) -> str:
    parts = value.split()
    hint = "one line as in a .pub file: ssh-ed25519 AAAAC3…"
    if len(parts) < 2 or not re.fullmatch(r"(ssh|ecdsa|sk)-[A-Za-z0-9@.-]+", parts[0]):
        raise InvalidSetting("is no public key in OpenSSH's format", hint)
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSetting("is a public key that was cut or changed", hint) from None
    kind = parts[0].encode("ascii")
    if blob[: 4 + len(kind)] != len(kind).to_bytes(4, "big") + kind:
        raise InvalidSetting("is a public key that does not fit its own name", hint)
    return " ".join(parts[:2])


def _off_is_a_word(value: Any) -> Any:
    return "off" if value is False else value  # `off` is a truth value to YAML 1.1


PublicKey = Annotated[str, Kind("public key"), AfterValidator(_public_key)]
KnownHosts = Annotated[Path, Kind("path of a file"), AfterValidator(_existing)]


class HostKeysSettings(Section):
    """Which host keys are trusted.

    Without any key the OpenSSH files of the account that runs the gateway count (`~/.ssh/known_hosts` and the
    system's).
    """

    policy: Annotated[Literal["verify", "accept-new", "off"], BeforeValidator(_off_is_a_word)] = Field(
        default="verify",
        description="`verify`: a host must be known. `accept-new`: an unknown host is believed the first time it "
        "is seen, a changed key is refused. `off`: everything is believed (never in production).",
        json_schema_extra=FLAMECREST_ONLY,
    )
    known_hosts: Annotated[tuple[KnownHosts, ...], BeforeValidator(as_tuple)] = Field(
        default=(),
        description="Files in OpenSSH's known_hosts format; one path or a list.",
        examples=["/etc/flamecrest/known_hosts"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    pinned: Annotated[tuple[PublicKey, ...], BeforeValidator(as_tuple)] = Field(
        default=(),
        description="Public keys that the cluster's hosts may show.",
        examples=[["ssh-ed25519 AAAAC3…"]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    certificate_authority: Annotated[tuple[PublicKey, ...], BeforeValidator(as_tuple)] = Field(
        default=(),
        description="Public keys of authorities that sign the hosts' certificates.",
        examples=[["ssh-ed25519 AAAAC3…"]],
        json_schema_extra=FLAMECREST_ONLY,
    )


class SshTimeoutSettings(Section):
    """How long things over SSH may take."""

    connection: Seconds = Field(default=5, description="Opening the connection.")
    login: Seconds = Field(default=5, description="Logging in.")
    command_execution: Seconds = Field(default=5, description="Running one command or file operation.")
    idle_timeout: Seconds = Field(default=60, description="A connection that nobody uses is closed after this.")
    keep_alive: SecondsOrNone = Field(
        default=5, description="How often an open connection is asked whether it still lives; 0: never."
    )


class SshSettings(Section):
    """How the cluster is reached."""

    host: Host = Field(description="The login node.", examples=["login.example.org"])
    port: Port = Field(default=22, description="The port of its SSH server.")
    proxy_host: Annotated[Host | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="A jump host on the way there.", examples=["jump.example.org"]
    )
    proxy_port: Port | None = Field(default=None, description="The jump host's port; 22 if it is not set.")
    proxy_user: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="Log in to the jump host as this user, with the key configured for it. Not set: as the "
        "user of the request.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_clients: Count = Field(
        default=100, description="The most connections to this cluster at a time; more requests wait for their turn."
    )
    max_connections_per_user: Count = Field(
        default=2, description="The most connections of one user.", json_schema_extra=FLAMECREST_ONLY
    )
    max_sessions: Count | None = Field(
        default=None,
        description="The most channels on one connection (the server's `MaxSessions`). Not set: learned from the "
        "server.",
        examples=[10],
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_age: Seconds = Field(
        default=3600,
        description="A connection is replaced when it is older than this, so that a disabled account loses access.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    accelerate: Annotated[Literal["auto", "off"], BeforeValidator(_off_is_a_word)] = Field(
        default="auto",
        description="`auto`: use Flamecrest's faster replacements for parts of asyncssh where the installed version of "
        "asyncssh has been tested with them. `off`: use asyncssh alone.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    timeout: SshTimeoutSettings = Field(default_factory=SshTimeoutSettings, description="How long things may take.")
    host_keys: HostKeysSettings = Field(
        default_factory=HostKeysSettings, description="Which host keys are trusted.", json_schema_extra=FLAMECREST_ONLY
    )

    @model_validator(mode="after")
    def _proxy_is_whole(self) -> SshSettings:
        if self.proxy_host is None and (self.proxy_port is not None or self.proxy_user is not None):
            raise InvalidSetting("has settings of a jump host but no jump host", "proxy_host: jump.example.org")
        return self


class SchedulerSettings(Section):
    """The batch system."""

    type: Literal["slurm", "pbs"] = Field(description="Which batch system it is.", examples=["slurm"])
    version: Word = Field(description="Its version.", examples=["24.05.4"])
    connection_mode: Literal["ssh", "rest", "hybrid"] = Field(
        default="ssh", description="Ask it by its commands over SSH, by its REST service, or by both."
    )
    api_url: Annotated[Url | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The base URL of its REST service.", examples=["https://slurm.example.org:6820"]
    )
    api_version: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The version of its REST service.", examples=["0.0.42"]
    )
    timeout: Seconds = Field(default=10, description="How long one question to the scheduler may take.")
    bin_dir: RemotePath | None = Field(
        default=None,
        description="The directory of its commands on the login node, if they are not on the default PATH "
        "(no profile is read).",
        examples=["/opt/slurm/bin"],
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="after")
    def _mode_fits(self) -> SchedulerSettings:
        if self.type == "pbs" and self.connection_mode != "ssh":
            raise InvalidSetting("PBS has no REST service", "connection_mode: ssh")
        if self.connection_mode != "ssh" and self.api_url is None:
            raise InvalidSetting(
                f"connection_mode {self.connection_mode} needs `api_url`", "api_url: https://slurm.example.org:6820"
            )
        return self


class ServiceAccountSettings(Section):
    """The account whose token the probes work with."""

    client_id: Word = Field(description="Its client id.", examples=["health-check"])
    secret: Secret = Field(description="Its client secret.", examples=["secret_file:/run/secrets/health_check"])


class ProbedServiceSettings(Section):
    """One probe."""

    timeout: Seconds = Field(default=10, description="A probe that takes longer has failed.")


class ProbedServicesSettings(Section):
    """What is probed: a service that is named here, even without a value. The others are not."""

    RENAMED: ClassVar[Mapping[str, str]] = {"filesystems": "filesystem"}
    IGNORED: ClassVar[Mapping[str, str]] = {"exception": "a kind of result, no service"}
    EMPTY_IS_SET: ClassVar[bool] = True

    ssh: ProbedServiceSettings | None = Field(default=None, description="Log in.")
    scheduler: ProbedServiceSettings | None = Field(default=None, description="Ask whether the scheduler answers.")
    filesystem: ProbedServiceSettings | None = Field(default=None, description="Look at every configured file system.")
    storage: ProbedServiceSettings | None = Field(default=None, description="Another name of `s3`.")
    s3: ProbedServiceSettings | None = Field(default=None, description="Ask whether the object store answers.")


class ProbingSettings(Section):
    """How the cluster's services are watched."""

    RENAMED: ClassVar[Mapping[str, str]] = {"interval": "interval_check"}

    interval_check: Seconds = Field(default=120, description="The time between two probes of a service.")
    startup_grace_period: SecondsOrNone = Field(
        default=0, description="For this long after the start a failed probe shuts nobody out."
    )
    services: ProbedServicesSettings | None = Field(default=None, description="What is probed. Not set: nothing.")
    timeout: Seconds | None = Field(
        default=None,
        description="Older form: without `services`, probe ssh, scheduler and file systems with this timeout.",
    )

    def timeouts(self) -> dict[str, float]:
        """The services that are probed (ssh, scheduler, filesystem, s3) and how long each probe may take."""
        if self.services is None:
            older = self.timeout
            return {} if older is None else dict.fromkeys(("ssh", "scheduler", "filesystem"), older)
        named = self.services
        probes = {
            "ssh": named.ssh,
            "scheduler": named.scheduler,
            "filesystem": named.filesystem,
            "s3": named.s3 or named.storage,
        }
        return {name: probe.timeout for name, probe in probes.items() if probe is not None}


class FileSystemSettings(Section):
    """A file system of the cluster. Requests for paths outside all of them are refused."""

    path: RemotePath = Field(description="Where it is mounted.", examples=["/home"])
    data_type: Literal["users", "store", "archive", "apps", "scratch", "project"] = Field(
        description="What it is for.", examples=["users"]
    )
    default_work_dir: bool = Field(
        default=False, description="Jobs of the gateway itself (transfers) run here, in the user's own directory."
    )


def _each_once(value: tuple[FileSystemSettings, ...]) -> tuple[FileSystemSettings, ...]:
    paths = [system.path.rstrip("/") for system in value]
    for path in paths:
        if paths.count(path) > 1:
            raise InvalidSetting(f"{path or '/'} is listed twice", "list every path once")
    defaults = [system.path for system in value if system.default_work_dir]
    if len(defaults) > 1:
        raise InvalidSetting(
            f"{' and '.join(defaults)} are both the default work directory", "default_work_dir: true on one of them"
        )
    return value


def _cluster_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise InvalidSetting("is no name for a URL", "letters, digits, `.`, `_` and `-`, at most 64")
    return value.lower()


class ClusterSettings(Section):
    """One cluster."""

    RENAMED: ClassVar[Mapping[str, str]] = {"probing_services": "probing"}
    IGNORED: ClassVar[Mapping[str, str]] = {
        "services_health": "a result, no setting",
        "last_health_check": "a result, no setting",
    }

    name: Annotated[Word, AfterValidator(_cluster_name)] = Field(
        description="The cluster's name in URLs, in any case; shown in lower case.", examples=["daint"]
    )
    ssh: SshSettings = Field(
        description="How the cluster is reached.", examples=[{"host": "login.example.org", "port": 22}]
    )
    scheduler: SchedulerSettings = Field(
        description="Its batch system.", examples=[{"type": "slurm", "version": "24.05.4"}]
    )
    service_account: ServiceAccountSettings | None = Field(
        default=None, description="The account that probes work with; needed when anything is probed."
    )
    probing: ProbingSettings = Field(default_factory=ProbingSettings, description="How its services are watched.")
    file_systems: Annotated[tuple[FileSystemSettings, ...], AfterValidator(_each_once)] = Field(
        default=(),
        description="Its file systems.",
        examples=[[{"path": "/home", "data_type": "users", "default_work_dir": True}]],
    )
    data_operation: DataOperationSettings = Field(
        default_factory=DataOperationSettings, description="What may be done with its data."
    )
    max_request_timeout: Seconds = Field(
        default=300,
        description="The most seconds that a caller may ask for (`timeout=`, `Request-Timeout`) for a long operation: "
        "checksum, du, cp, rm, compress, extract.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    datatransfer_jobs_directives: tuple[str, ...] = Field(
        default=(), description="Older place of `data_operation.datatransfer_jobs_directives`."
    )
