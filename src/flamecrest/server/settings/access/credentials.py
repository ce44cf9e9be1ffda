"""Settings of SSH credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from flamecrest.server.settings.section import (
    FLAMECREST_ONLY,
    CountOrNone,
    FilledSecret,
    Seconds,
    Secret,
    Section,
    Url,
    Word,
    none_if_blank,
)
from flamecrest.server.settings.use import ReadBy

from .certificates import END_CONNECTIONS, CertificatesSettings


class UserKeysSettings(Section):
    """The SSH key of one user."""

    USE = ReadBy("server.wiring")

    private_key: FilledSecret = Field(
        description="The private key in OpenSSH or PEM format.", examples=["secret_file:/run/secrets/alice_key"]
    )
    public_cert: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The certificate of the key, if the cluster requires one."
    )
    passphrase: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The passphrase of the private key, if it has one."
    )


class StaticKeysSettings(Section):
    """One configured key per user, for tests, small groups and service accounts."""

    TAG: ClassVar[str | None] = "type"
    USE = ReadBy("server.wiring")

    type: Annotated[Literal["SSHStaticKeys"], ReadBy("server.settings")] = Field(
        description="The source of keys.", examples=["SSHStaticKeys"]
    )
    keys: Mapping[Word, UserKeysSettings] = Field(
        description="The keys, by the user's account on the clusters.",
        examples=[{"alice": {"private_key": "secret_file:/run/secrets/alice_key"}}],
    )


class KeyServiceSettings(Section):
    """Common settings of services that issue keys."""

    TAG: ClassVar[str | None] = "type"
    USE = ReadBy("server.wiring")

    url: Url = Field(description="The base URL of the service.", examples=["https://keys.example.org"])
    max_connections: CountOrNone = Field(default=100, description="The maximum number of connections to the service.")
    timeout: Seconds = Field(default=5, description="The timeout of a request.", json_schema_extra=FLAMECREST_ONLY)
    end_connections: bool = Field(default=False, description=END_CONNECTIONS, json_schema_extra=FLAMECREST_ONLY)


class SshServiceSettings(KeyServiceSettings):
    """A service that issues short-lived keys for a user's access token."""

    type: Annotated[Literal["SSHService"], ReadBy("server.settings")] = Field(
        description="The source of keys.", examples=["SSHService"]
    )
    duration: Word = Field(
        default="1min",
        description="How long the keys are to be valid, in the words of the service.",
        json_schema_extra=FLAMECREST_ONLY,
    )


class SshCaSettings(KeyServiceSettings):
    """A certificate authority (SSHCA of DeiC) that signs keys for a user's access token."""

    type: Annotated[Literal["SSHCA"], ReadBy("server.settings")] = Field(
        description="The source of keys.", examples=["SSHCA"]
    )
    resource: Annotated[Word | None, BeforeValidator(none_if_blank)] = Field(
        default=None,
        description="Which of the user's resources the certificate is for, where the service asks for it.",
        examples=["hpc.example.org"],
        json_schema_extra=FLAMECREST_ONLY,
    )


def credentials_type(keys: Mapping[str, Any]) -> str | None:
    """The type of a section without `type`; None if it has one. FirecREST 2.2 and older have no types."""
    if "type" in keys:
        return None
    return "SSHService" if "url" in keys else "SSHStaticKeys"


def _typed(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    meant = credentials_type(value)
    if meant is None:
        return value
    if meant == "SSHStaticKeys" and "keys" not in value:
        return {"type": meant, "keys": value}
    return {"type": meant, **value}


Credentials = Annotated[
    Annotated[
        StaticKeysSettings | SshServiceSettings | SshCaSettings | CertificatesSettings, Field(discriminator="type")
    ],
    BeforeValidator(_typed),
]
