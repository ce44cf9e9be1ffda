"""Settings of the probes of token issuers and OpenFGA."""

from __future__ import annotations

from pydantic import Field

from flamecrest.server.settings.section import FLAMECREST_ONLY, Seconds, SecondsOrNone, Section
from flamecrest.server.settings.use import ReadBy


class AuthProbingSettings(Section):
    """Probes of the token issuers and of OpenFGA, for operators. Their results refuse no request."""

    USE = ReadBy("server.wiring")

    interval_check: SecondsOrNone = Field(
        default=120,
        description="The interval between two probes of a service. 0: none is probed.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    retry_interval: Seconds = Field(
        default=5,
        description="The interval between two probes of a service that fails.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    timeout: Seconds = Field(
        default=10, description="The time that a probe may take.", json_schema_extra=FLAMECREST_ONLY
    )
