"""Settings of a cluster's scheduler."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import (
    FLAMECREST_ONLY,
    ApiUrl,
    Bytes,
    Count,
    KeyFile,
    RemotePath,
    Seconds,
    SecondsOrNone,
    Section,
    Word,
    none_if_blank,
)
from flamecrest.server.settings.use import ReadBy

SchedulerName = Literal["slurm", "pbs", "local"]  # FirecREST has the first two
_API_VERSION: Final = re.compile(r"v?0\.0\.(?:3[89]|4[0-5])")  # those of schedulers/slurm/rest/versions.py


class SharedReadsSettings(Section):
    """Answers of the scheduler that requests share."""

    USE = ReadBy("server.wiring")

    life: SecondsOrNone = Field(
        default=1,
        description="How long requests use an answer of the scheduler; users see their own changes at once. An answer "
        "that is used again and again is renewed a little before. 0: not.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    together: bool = Field(
        default=True,
        description="Read the queues of several users by one `squeue` of the cluster's `service_account`, where Slurm "
        "shows jobs to all users. Needs a `service_account` and `connection_mode: ssh`.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    history_interval: Seconds = Field(
        default=10,
        description="The least time between two lists of one user that are read from the accounting.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_jobs: Count = Field(
        default=50000,
        description="The maximum number of jobs of the cluster that are remembered: about 3 KB each.",
        json_schema_extra=FLAMECREST_ONLY,
    )


def _state_folder(value: str) -> str:
    if value.startswith("/") or not value.strip("/") or ".." in value.split("/"):
        raise InvalidSetting("must be a path below the home directory", ".local/state/flamecrest")
    return value


class LocalSettings(Section):
    """Limits of `type: local`: what the jobs of one user may use together on the machine."""

    USE = ReadBy("server.wiring")

    cpus: Count | None = Field(
        default=None, description="CPUs. Not set: all of the machine.", json_schema_extra=FLAMECREST_ONLY, examples=[16]
    )
    memory: Bytes | None = Field(
        default=None,
        description="Memory. Not set: all of the machine.",
        json_schema_extra=FLAMECREST_ONLY,
        examples=[64 * 1024**3],
    )
    memory_per_job: Bytes | None = Field(
        default=None,
        description="Memory of a job that does not ask for any. Not set: it has no limit of its own.",
        json_schema_extra=FLAMECREST_ONLY,
        examples=[2 * 1024**3],
    )
    time_limit: Seconds | None = Field(
        default=None,
        description="Time limit of a job that does not ask for one. Not set: `longest_time_limit`, or none.",
        json_schema_extra=FLAMECREST_ONLY,
        examples=[3600],
    )
    longest_time_limit: Seconds | None = Field(
        default=None,
        description="The longest time limit that a job may ask for. Not set: any.",
        json_schema_extra=FLAMECREST_ONLY,
        examples=[86400],
    )
    max_jobs: Count = Field(
        default=10_000,
        description="The maximum number of jobs and elements of arrays that have not ended.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    kill_wait: Seconds = Field(
        default=30,
        description="The time between SIGTERM and SIGKILL when a job is cancelled or reaches its time limit.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    remember: Seconds = Field(
        default=7 * 86400,
        description="How long a job that has ended is remembered, with its script.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    state_folder: Annotated[Word, AfterValidator(_state_folder)] = Field(
        default=".local/state/flamecrest",
        description="The folder below the home directory in which the queue is kept.",
        json_schema_extra=FLAMECREST_ONLY,
    )


class SchedulerSettings(Section):
    """The scheduler."""

    USE = ReadBy("server.wiring")

    type: SchedulerName = Field(
        description="The scheduler's type; `pbs` is OpenPBS, `local` is for a machine without a scheduler.",
        examples=["slurm"],
    )
    version: Word = Field(
        description="Its version, shown in `/status/systems`; the gateway does not depend on it.", examples=["24.05.4"]
    )
    connection_mode: Literal["ssh", "rest", "hybrid"] = Field(
        default="ssh",
        description="Access by commands over SSH, by the REST API (slurmrestd), or by both: `hybrid` takes the REST "
        "API for what it can do and commands for the rest. Transfer jobs need `ssh` or `hybrid`.",
    )
    api_url: Annotated[ApiUrl | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="The base URL of its REST API, or `unix:/path` for a socket on the gateway's machine. With "
        "`connection_mode: ssh`, it is only shown in `/status/systems`.",
        examples=["https://slurm.example.org:6820"],
    )
    api_version: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="The version of its REST API, 0.0.38 to 0.0.45. Not set: the newest that it offers. With "
        "`connection_mode: ssh`, it is only shown in `/status/systems`.",
        examples=["0.0.42"],
    )
    jwt_key: Annotated[KeyFile | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="The file with Slurm's key (`jwt_key=` in slurm.conf). The gateway makes the users' tokens for the "
        "REST API with it. Not set: the caller's own token is used; slurmrestd must trust its issuer.",
        examples=["/etc/flamecrest/jwt_hs256.key"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    timeout: Seconds = Field(default=10, description="Timeout of one request to the scheduler.")
    bin_dir: RemotePath | None = Field(
        default=None,
        description="The directory of its commands on the login node. Not set: they are on the default PATH. "
        "Profile files of the shell are not read.",
        examples=["/opt/slurm/bin"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    shared_reads: SharedReadsSettings = Field(
        default_factory=SharedReadsSettings, description="Shared answers.", json_schema_extra=FLAMECREST_ONLY
    )
    local: LocalSettings = Field(
        default_factory=LocalSettings, description="Limits of `type: local`.", json_schema_extra=FLAMECREST_ONLY
    )

    @model_validator(mode="after")
    def _mode_fits(self) -> SchedulerSettings:
        if self.type != "slurm" and self.connection_mode != "ssh":
            raise InvalidSetting(
                f"{'PBS' if self.type == 'pbs' else 'the local scheduler'} has no REST API", "connection_mode: ssh"
            )
        if self.connection_mode != "ssh" and self.api_version and not _API_VERSION.fullmatch(self.api_version):
            raise InvalidSetting(f"the API version {self.api_version} is not supported", "api_version: 0.0.42")
        if self.connection_mode != "ssh" and self.api_url is None:
            raise InvalidSetting(
                f"connection_mode {self.connection_mode} needs `api_url`", "api_url: https://slurm.example.org:6820"
            )
        return self
