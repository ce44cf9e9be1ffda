"""Settings of a cluster: login node, host keys, scheduler, file systems and health probes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flamecrest.server.settings.access.credentials import Credentials
from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import (
    FLAMECREST_ONLY,
    Count,
    Host,
    KnownHosts,
    Port,
    PublicKey,
    RemotePath,
    Seconds,
    SecondsOrNone,
    Section,
    Word,
    as_tuple,
    none_if_blank,
    off_is_a_word,
)
from flamecrest.server.settings.use import ReadBy

from .health import MaintenanceSettings, ProbingSettings, ServiceAccountSettings
from .nodes import LoginNodeSettings, each_once, host_of_first
from .schedulers import SchedulerSettings
from .transfers import DataOperationSettings


class HostKeysSettings(Section):
    """Verification of the cluster's SSH host keys.

    If no key is configured, OpenSSH's files are used: `~/.ssh/known_hosts` of the gateway's account and the system's.
    """

    USE = ReadBy("server.wiring")

    policy: Annotated[Literal["verify", "accept-new", "off"], BeforeValidator(off_is_a_word)] = Field(
        default="verify",
        description="`verify`: the host key must be known. `accept-new`: the key of an unknown host is accepted and "
        "remembered, a changed key is refused. `off`: host keys are not checked (never in production).",
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
        description="Accepted public keys of the cluster's hosts.",
        examples=[["ssh-ed25519 AAAAC3…"]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    certificate_authority: Annotated[tuple[PublicKey, ...], BeforeValidator(as_tuple)] = Field(
        default=(),
        description="Public keys of the authorities that sign the hosts' certificates.",
        examples=[["ssh-ed25519 AAAAC3…"]],
        json_schema_extra=FLAMECREST_ONLY,
    )


class SshTimeoutSettings(Section):
    """Timeouts of SSH connections."""

    USE = ReadBy("server.wiring")

    connection: Seconds = Field(default=5, description="Timeout for opening a connection.")
    login: Seconds = Field(
        default=5, description="Timeout for the login, and for the start of a shell or an SFTP server."
    )
    command_execution: Seconds = Field(default=5, description="Timeout for one command or file operation.")
    idle_timeout: Seconds = Field(default=60, description="An unused connection is closed after this time.")
    keep_alive: SecondsOrNone = Field(
        default=5,
        description="Interval of keep-alive messages on a silent connection; 0: none. If three in a row get no answer, "
        "the connection is closed after one more interval, and what is under way on it fails. New requests use another "
        "connection sooner. Transfers without any progress fail after 30 seconds, or six intervals if that is longer.",
    )


class SshSettings(Section):
    """SSH access to the cluster."""

    USE = ReadBy("server.wiring")

    host: Host = Field(
        description="The login node. A name with several addresses is one node for each of them. Not set with `hosts`.",
        examples=["login.example.org"],
    )
    port: Port = Field(default=22, description="The port of its SSH server.")
    hosts: Annotated[tuple[LoginNodeSettings, ...], AfterValidator(each_once)] = Field(
        default=(),
        description="The login nodes, instead of `host`. Connections are opened where there is most room; a node that "
        "does not answer or is slow gets no new work until it has recovered.",
        examples=[[{"host": "login1.example.org"}, {"host": "login2.example.org"}]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    zone: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="Where the gateway is. Login nodes of other zones get work only if those of this zone are busy.",
        examples=["east"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    proxy_host: Annotated[Host | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="A jump host in front of the login node.", examples=["jump.example.org"]
    )
    proxy_port: Port | None = Field(default=None, description="The jump host's port. Not set: 22.")
    proxy_user: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="The account on the jump host, with the key configured for it. Not set: the user of the request.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_clients: Count = Field(
        default=100,
        description="The maximum number of connections to this cluster; further users wait, and take turns.",
    )
    max_turn: Seconds = Field(
        default=60,
        description="If `max_clients` is reached and a user waits: a connection in use takes no new requests, followed "
        "files on it end, and after this time it is closed, with transfers and commands that still use it.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_waiting: Count = Field(
        default=1500,
        description="The maximum number of requests that wait for a channel or connection of this cluster. Beyond it, "
        "the newest of the user with most of them gets 503.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_waiting_per_user: Count = Field(
        default=1000,
        description="The maximum number of such requests of one user; further ones get 429.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    refuse_late: bool = Field(
        default=True,
        description="`true`: a request that would wait until after its deadline, by the rate at which others get their "
        "turn, gets 503 at once, with `Retry-After`. `false`: it waits.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_connections_per_user: Count = Field(
        default=2, description="The maximum number of connections of one user.", json_schema_extra=FLAMECREST_ONLY
    )
    max_sessions: Count | None = Field(
        default=None,
        description="The maximum number of channels on one connection (`MaxSessions` of the SSH server). Not set: "
        "detected.",
        examples=[10],
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_failed_logins: Count | None = Field(
        default=None,
        description="The maximum number of failed logins within 15 seconds; then first logins of other users wait. "
        "Not set: 3 where the login node runs OpenSSH 9.8 or newer, which drops all connections of an address after "
        "as many (`PerSourcePenalties`), else 10. Set it to a high value if the gateway's address is in "
        "`PerSourcePenaltyExemptList`.",
        examples=[100],
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_age: Seconds = Field(
        default=3600,
        description="The maximum age of a connection; then it is replaced, so that a disabled account loses access. "
        "What is under way on it may go on until `max_age_in_use`.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_age_in_use: Seconds = Field(
        default=86400,
        description="The maximum age of a connection that is in use; then it is closed, and transfers, followed files "
        "and commands on it break off. A request has at least the difference to `max_age`.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    accelerate: Annotated[Literal["auto", "off"], BeforeValidator(off_is_a_word)] = Field(
        default="auto",
        description="`auto`: use Flamecrest's faster replacements of parts of asyncssh, if they have been tested with "
        "the installed version of asyncssh. `off`: use asyncssh only.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    agent: Annotated[Literal["auto", "off"], BeforeValidator(off_is_a_word)] = Field(
        default="auto",
        description="`auto`: where the login node has perl, a small program of Flamecrest stays on a connection and "
        "answers questions about files. `off`: it is not started; SFTP and commands do the same, more slowly.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    timeout: SshTimeoutSettings = Field(default_factory=SshTimeoutSettings, description="Timeouts.")
    host_keys: HostKeysSettings = Field(
        default_factory=HostKeysSettings,
        description="Verification of host keys.",
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="before")
    @classmethod
    def _host_of_first(cls, data: Any) -> Any:
        return host_of_first(data)

    @model_validator(mode="after")
    def _proxy_is_whole(self) -> SshSettings:
        if self.proxy_host is None and (self.proxy_port is not None or self.proxy_user is not None):
            raise InvalidSetting("has settings of a jump host, but no `proxy_host`", "proxy_host: jump.example.org")
        return self

    @model_validator(mode="after")
    def _ages_fit(self) -> SshSettings:
        if self.max_age_in_use <= self.max_age:
            raise InvalidSetting("`max_age_in_use` is not greater than `max_age`", "max_age_in_use: 86400")
        return self


class FileSystemSettings(Section):
    """A file system of the cluster. Requests for paths outside all file systems are refused."""

    USE = ReadBy("server.wiring")

    path: RemotePath = Field(description="The mount point.", examples=["/home"])
    data_type: Literal["users", "store", "archive", "apps", "scratch", "project"] = Field(
        description="Its purpose, shown in `/status/systems`.", examples=["users"]
    )
    default_work_dir: bool = Field(
        default=False, description="Transfer jobs run here, in the user's own directory. One file system at most."
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
        raise InvalidSetting("cannot be part of a URL", "letters, digits, `.`, `_` and `-`, at most 64")
    return value.lower()


class ClusterSettings(Section):
    """One cluster."""

    USE = ReadBy("server.wiring")
    RENAMED: ClassVar[Mapping[str, str]] = {"probing_services": "probing"}
    IGNORED: ClassVar[Mapping[str, str]] = {
        "services_health": "it is a result, not a setting",
        "last_health_check": "it is a result, not a setting",
    }

    name: Annotated[Word, AfterValidator(_cluster_name)] = Field(
        description="The cluster's name in URLs. Case does not matter; it is shown in lower case.", examples=["daint"]
    )
    ssh: SshSettings = Field(description="SSH access.", examples=[{"host": "login.example.org", "port": 22}])
    ssh_credentials: Credentials | None = Field(
        default=None,
        description="The SSH credentials for this cluster. Not set: those at the root.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    scheduler: SchedulerSettings = Field(
        description="The scheduler.", examples=[{"type": "slurm", "version": "24.05.4"}]
    )
    service_account: ServiceAccountSettings | None = Field(
        default=None,
        description="The account of the health probes, which need it, and of the scheduler's answers for all users.",
    )
    probing: ProbingSettings = Field(default_factory=ProbingSettings, description="Health probes.")
    maintenance: tuple[MaintenanceSettings, ...] = Field(
        default=(),
        description="Times for which the cluster, or some of its services, are closed.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    file_systems: Annotated[tuple[FileSystemSettings, ...], AfterValidator(_each_once)] = Field(
        default=(),
        description="The file systems. Paths outside all of them are refused.",
        examples=[[{"path": "/home", "data_type": "users", "default_work_dir": True}]],
    )
    data_operation: DataOperationSettings = Field(
        default_factory=DataOperationSettings, description="Size limits and large transfers."
    )
    max_request_timeout: Seconds = Field(
        default=300,
        description="The maximum timeout that a caller may request (`timeout=`, `Request-Timeout`) for long "
        "operations: checksum, du, cp, rm, compress, extract; also for a change of a job (`wait=`).",
        json_schema_extra=FLAMECREST_ONLY,
    )
    datatransfer_jobs_directives: tuple[str, ...] = Field(
        default=(), description="Older form of `data_operation.datatransfer_jobs_directives`."
    )

    @model_validator(mode="after")
    def _local_jobs_have_one_node(self) -> ClusterSettings:
        if self.scheduler.type == "local" and len(self.ssh.hosts) > 1:
            raise InvalidSetting("runs jobs on the login node, and has several `ssh.hosts`", "one host")
        return self
