"""Settings of what one user, and one client, may ask of the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import (
    FLAMECREST_ONLY,
    Bytes,
    Count,
    PerSecond,
    Secret,
    Section,
    Word,
    Words,
    none_if_blank,
)
from flamecrest.server.settings.use import ReadBy

_SCHEMES = ("redis://", "rediss://", "unix://")

VerbName = Literal["status", "jobs:read", "jobs:submit", "files:read", "files:write", "transfer"]


def _store(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not value.get_secret_value().startswith(_SCHEMES):
        raise InvalidSetting("is not the URL of a Redis or Valkey server", "redis://valkey.example.org:6379/0")
    return value


class RequestLimitSettings(Section):
    """Limits of requests."""

    USE = ReadBy("server.wiring")

    requests_per_second: PerSecond | None = Field(
        default=None,
        description="Requests a second, on average (a token bucket). Not set: no limit.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    burst: Count | None = Field(
        default=None,
        description="Requests that may come at once after a pause. Default: those of one second, at least 1.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    in_flight: Count | None = Field(
        default=None,
        description="The greatest number of open requests, in each process. Not set: no limit.",
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="after")
    def _burst_has_a_rate(self) -> RequestLimitSettings:
        if self.burst is not None and self.requests_per_second is None:
            raise InvalidSetting("has `burst` without `requests_per_second`", "set both")
        return self


class VerbLimitSettings(RequestLimitSettings):
    """Limits of the requests of one kind, beside the limits of all requests."""


class AllowanceSettings(RequestLimitSettings):
    """Limits of each user, or each client, whose tokens have these claims."""

    claims: Mapping[Word, Words] = Field(
        default_factory=dict,
        description="To whom the entry applies: for each claim (a dotted path for a nested one), the accepted values. "
        "All claims must match; of a claim with several values, one must. Empty: to all.",
        examples=[{"groups": ["staff"]}],
        json_schema_extra=FLAMECREST_ONLY,
    )
    when: Word | None = Field(
        default=None,
        description="A condition in the Common Expression Language that must hold, too. Variables: `claims`, `user`, "
        "`subject`, `issuer`, `client`. Needs the extra `cel`.",
        examples=["has(claims.level) && claims.level >= 3"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    transfers_per_hour: PerSecond | None = Field(
        default=None,
        description="Transfers that may be started an hour, on average. Not set: no limit.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    transfers_burst: Count | None = Field(
        default=None,
        description="Transfers that may be started at once after a pause. Default: those of one hour, at least 1.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    bytes_per_second: PerSecond | None = Field(
        default=None,
        description="Bytes of requests and responses a second, on average. They are counted when a request has ended, "
        "if it has more than 64 KiB. Not set: no limit.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    bytes_burst: Bytes | None = Field(
        default=None,
        description="Bytes that may be used at once after a pause. Default: those of one hour.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    verbs: Mapping[VerbName, VerbLimitSettings] = Field(
        default_factory=dict,
        description="Further limits for single kinds of requests.",
        examples=[{"jobs:submit": {"requests_per_second": 1, "burst": 20}}],
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="after")
    def _bursts_have_rates(self) -> AllowanceSettings:
        for burst, rate in (("transfers_burst", "transfers_per_hour"), ("bytes_burst", "bytes_per_second")):
            if getattr(self, burst) is not None and getattr(self, rate) is None:
                raise InvalidSetting(f"has `{burst}` without `{rate}`", "set both")
        return self


class LimitsSettings(Section):
    """Limits of what one user, and one client, may ask for. Of each list, the first entry that applies counts."""

    USE = ReadBy("server.wiring")

    store: Annotated[Secret | None, BeforeValidator(none_if_blank), AfterValidator(_store)] = Field(
        default=None,
        description="The URL of a Redis or Valkey server in which all replicas count together: "
        "`redis://[USER:PASSWORD@]HOST:PORT/DATABASE`, `rediss://…` with TLS, or `unix://PATH`. "
        "Not set: each process counts in its memory.",
        examples=["secret_file:/run/secrets/limits_store_url"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    users: tuple[AllowanceSettings, ...] = Field(
        default=(),
        description="Limits of each user (account on the clusters), whichever tokens it uses.",
        examples=[[{"requests_per_second": 20, "burst": 100}]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    clients: tuple[AllowanceSettings, ...] = Field(
        default=(),
        description="Limits of each OAuth 2.0 client (`azp` or `client_id` of the token): of all its users together.",
        examples=[[{"claims": {"azp": ["portal"]}, "requests_per_second": 200}]],
        json_schema_extra=FLAMECREST_ONLY,
    )
