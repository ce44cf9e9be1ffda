"""Settings of the gateway's own tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import Count, FilledSecret, Kind, Seconds, Section
from flamecrest.server.settings.use import ReadBy


def _folder(value: Path) -> Path:
    if not value.is_absolute():
        raise InvalidSetting("must be an absolute path", "/var/lib/flamecrest/tokens")
    return value


def _strong(value: FilledSecret) -> FilledSecret:
    if len(value.get_secret_value()) < 32:
        raise InvalidSetting("is too short", "at least 32 characters: openssl rand -hex 32")
    return value


class NarrowTokenSettings(Section):
    """Tokens of the gateway that can do less than their owner's (`POST /tokens`)."""

    USE = ReadBy("server.wiring")

    folder: Annotated[Path, Kind("path of a folder"), AfterValidator(_folder)] = Field(
        description="Where records, uses and revocations of tokens are kept. Replicas need the same folder.",
        examples=["/var/lib/flamecrest/tokens"],
    )
    signing_key: Annotated[FilledSecret, AfterValidator(_strong)] = Field(
        description="The key that signs tokens, of at least 32 characters. Replicas need the same key; another key "
        "ends all tokens.",
        examples=["secret_file:/run/secrets/token_key"],
    )
    max_lifetime: Seconds = Field(default=7 * 86400, description="The longest time until a token expires.")
    max_per_user: Count = Field(default=100, description="How many tokens a user may have that have not expired.")
