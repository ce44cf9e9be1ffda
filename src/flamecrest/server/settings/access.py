"""Who may come in and how the gateway logs in for them: tokens, authorization, SSH credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .problems import InvalidSetting
from .section import (
    FLAMECREST_ONLY,
    CountOrNone,
    FilledSecret,
    KeyUrl,
    Seconds,
    SecondsOrNone,
    Secret,
    Section,
    Url,
    Word,
    Words,
    none_if_blank,
)

DISCOVERY = "/.well-known/openid-configuration"

Algorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "ES256K", "PS256", "PS384", "PS512", "EdDSA"]


def _issuer(value: str) -> str:
    return value.removesuffix(DISCOVERY)


class AuthenticationSettings(Section):
    """How access tokens are validated. Keys come from `public_certs`, from `issuer` by discovery, or both."""

    scopes: Mapping[str, Any] = Field(
        default_factory=dict, description="OAuth2 scopes and what they are for; shown in the API's documentation."
    )
    token_url: Url | None = Field(
        default=None,
        description="Where the service accounts of the probes get their tokens. FirecREST requires it; here it is "
        "needed only when something is probed.",
        examples=["https://id.example.org/realms/hpc/protocol/openid-connect/token"],
    )
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post"] = Field(
        default="client_secret_basic", description="How a service account shows its secret at `token_url`."
    )
    public_certs: tuple[KeyUrl, ...] = Field(
        default=(),
        description="URLs of key sets (JWKS) whose keys are trusted to sign tokens.",
        examples=[["https://id.example.org/realms/hpc/protocol/openid-connect/certs"]],
    )
    username_claim: Word = Field(
        default="preferred_username", description="The claim of the token that holds the user's name on the clusters."
    )
    jwk_algorithm: Annotated[Algorithm | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The algorithm of keys whose key set does not name one (`alg`)."
    )
    min_token_ttl: SecondsOrNone = Field(
        default=30, description="A token that expires sooner than this is refused, so that it outlives its request."
    )
    issuer: Annotated[Url, AfterValidator(_issuer)] | None = Field(
        default=None,
        description="The issuer that tokens must name (`iss`). Its discovery document "
        "(`/.well-known/openid-configuration`) tells the keys when `public_certs` is empty.",
        examples=["https://id.example.org/realms/hpc"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    audience: Words = Field(
        default=(),
        description="The audience that tokens must name (`aud`); with a list, one of them is enough. "
        "Empty: not checked.",
        examples=["flamecrest"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=(),
        description="Accept only these algorithms. Empty: whatever the trusted keys are made for; "
        "`none` and shared secrets (HS256 …) never.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    leeway: SecondsOrNone = Field(
        default=5, description="How far the issuer's clock may be off.", json_schema_extra=FLAMECREST_ONLY
    )

    @model_validator(mode="after")
    def _has_keys(self) -> AuthenticationSettings:
        if not self.public_certs and self.issuer is None:
            raise InvalidSetting(
                "names no keys to validate tokens with",
                "set `issuer: https://id.example.org/realms/hpc` or `public_certs: [https://…/certs]`",
            )
        return self


class OpenFgaSettings(Section):
    """An OpenFGA server that is asked whether a user may use a cluster."""

    url: Url = Field(
        description="The base URL of the OpenFGA store.", examples=["https://fga.example.org/stores/01ARZ3"]
    )
    timeout: Seconds = Field(default=1, description="How long one question may take.")
    max_connections: CountOrNone = Field(default=100, description="The most connections to the server.")


class AuthSettings(Section):
    """Who may come in."""

    authentication: AuthenticationSettings = Field(
        description="How access tokens are validated.", examples=[{"issuer": "https://id.example.org/realms/hpc"}]
    )
    authorization: OpenFgaSettings | None = Field(
        default=None, description="Ask OpenFGA who may use which cluster. Without it, everybody with a valid token may."
    )


class UserKeysSettings(Section):
    """The key that the gateway logs in with as one user."""

    private_key: FilledSecret = Field(
        description="The private key in OpenSSH or PEM format.", examples=["secret_file:/run/secrets/alice_key"]
    )
    public_cert: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The certificate of the key, if the cluster wants one."
    )
    passphrase: Annotated[Secret | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The passphrase of the key, if it has one."
    )


class StaticKeysSettings(Section):
    """One configured key for every user (for tests, small groups and service accounts)."""

    TAG: ClassVar[str | None] = "type"

    type: Literal["SSHStaticKeys"] = Field(description="Where keys come from.", examples=["SSHStaticKeys"])
    keys: Mapping[Word, UserKeysSettings] = Field(
        description="The keys, by the user's name on the clusters.",
        examples=[{"alice": {"private_key": "secret_file:/run/secrets/alice_key"}}],
    )


class KeyServiceSettings(Section):
    """What the services that hand out keys have in common."""

    TAG: ClassVar[str | None] = "type"

    url: Url = Field(description="The base URL of the service.", examples=["https://keys.example.org"])
    max_connections: CountOrNone = Field(default=100, description="The most connections to the service.")


class SshServiceSettings(KeyServiceSettings):
    """A service that hands out short-lived keys for a user's access token."""

    type: Literal["SSHService"] = Field(description="Where keys come from.", examples=["SSHService"])


class SshCaSettings(KeyServiceSettings):
    """A certificate authority that signs keys for a user's access token."""

    type: Literal["SSHCA"] = Field(description="Where keys come from.", examples=["SSHCA"])


def credentials_type(keys: Mapping[str, Any]) -> str | None:
    """The type that a form without `type` means; None when it is written. FirecREST 2.2 and before had no types."""
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
    Annotated[StaticKeysSettings | SshServiceSettings | SshCaSettings, Field(discriminator="type")],
    BeforeValidator(_typed),
]
