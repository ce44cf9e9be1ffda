"""Settings of the health of a cluster: probes, the account that makes them, and maintenance windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from flamecrest.server.settings.access.authorization import Moment
from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import (
    FLAMECREST_ONLY,
    Count,
    RemotePath,
    Seconds,
    SecondsOrNone,
    Secret,
    Section,
    Word,
    as_tuple,
)
from flamecrest.server.settings.use import ReadBy


class ServiceAccountSettings(Section):
    """The OAuth 2.0 client that the probes log in as."""

    USE = ReadBy("server.wiring")

    client_id: Word = Field(description="The client id.", examples=["health-check"])
    secret: Secret = Field(description="The client secret.", examples=["secret_file:/run/secrets/health_check"])


class ProbedServiceSettings(Section):
    """A probe of one service."""

    USE = ReadBy("server.wiring")

    timeout: Seconds = Field(default=10, description="Timeout of the probe; a slower service counts as unhealthy.")


class ProbedServicesSettings(Section):
    """The services to probe. A service is probed if its key is present, even without a value."""

    USE = ReadBy("server.wiring")
    RENAMED: ClassVar[Mapping[str, str]] = {"filesystems": "filesystem"}
    IGNORED: ClassVar[Mapping[str, str]] = {"exception": "it is a kind of result, not a service"}
    EMPTY_IS_SET: ClassVar[bool] = True

    ssh: ProbedServiceSettings | None = Field(default=None, description="Probe the SSH login.")
    scheduler: ProbedServiceSettings | None = Field(default=None, description="Probe the scheduler.")
    filesystem: ProbedServiceSettings | None = Field(default=None, description="Probe every configured file system.")
    storage: ProbedServiceSettings | None = Field(default=None, description="Another name of `s3`.")
    s3: ProbedServiceSettings | None = Field(default=None, description="Probe the object store.")


class ProbingSettings(Section):
    """Health probes of the cluster's services."""

    USE = ReadBy("server.wiring")
    RENAMED: ClassVar[Mapping[str, str]] = {"interval": "interval_check"}

    interval_check: Seconds = Field(default=120, description="The interval between two probes of a service.")
    failures: int = Field(
        default=2,
        ge=2,
        description="Requests for a service are refused after so many failed probes in a row. A probe that could not "
        "be made (no token for the service account, its key refused) does not count.",
    )
    failed_requests: Count = Field(
        default=4,
        description="Requests for a service are refused after so many of the users' requests have failed because of it "
        "within 30 seconds, and none was served. Of one user two count.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    retry_interval: Seconds = Field(
        default=5,
        description="The interval between two probes of a service that fails, and after which one request may try it.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    startup_grace_period: SecondsOrNone = Field(
        default=0, description="Time after the start during which a failed probe does not block requests."
    )
    services: ProbedServicesSettings | None = Field(
        default=None, description="The services to probe. Not set: none, unless `timeout` is set."
    )
    timeout: Seconds | None = Field(
        default=None,
        description="Older form: without `services`, ssh, scheduler and file systems are probed with this timeout.",
    )

    def timeouts(self) -> dict[str, float]:
        """The probed services (ssh, scheduler, filesystem, s3) with the timeout of their probes in seconds."""
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


class MaintenanceSettings(Section):
    """A maintenance window: requests are answered with 503 and the time of its end."""

    USE = ReadBy("server.wiring")

    start: Moment | None = Field(
        default=None,
        description="Its start. Not set: it has begun.",
        examples=["2026-03-02T08:00:00+01:00"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    end: Moment | None = Field(
        default=None,
        description="Its end. Not set: until the configuration is changed.",
        examples=["2026-03-02T18:00:00+01:00"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    services: Annotated[tuple[Literal["ssh", "scheduler", "filesystem", "s3"], ...], BeforeValidator(as_tuple)] = Field(
        default=(),
        description="The services that are closed. Not set: all.",
        examples=[["scheduler"]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    paths: Annotated[tuple[RemotePath, ...], BeforeValidator(as_tuple)] = Field(
        default=(),
        description="The file systems that are closed, with `services: filesystem`. Not set: all.",
        examples=[["/scratch"]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    message: str = Field(
        default="",
        description="A text for users, shown in errors and in `/status/systems`.",
        examples=["New disks are installed"],
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> MaintenanceSettings:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise InvalidSetting("ends before it starts", "end: 2026-03-02T18:00:00+01:00")
        if self.paths and tuple(self.services) != ("filesystem",):
            raise InvalidSetting("has `paths`, but not `services: filesystem` alone", "services: filesystem")
        return self
