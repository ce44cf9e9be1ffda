"""Settings of authentication, authorization and SSH credentials."""

from __future__ import annotations

import re
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
from .use import NotSupported, ReadBy

DISCOVERY = "/.well-known/openid-configuration"

Algorithm = Literal[
    "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "ES256K", "PS256", "PS384", "PS512", "EdDSA", "Ed25519",
    "Ed448",
]  # fmt: skip

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_ACCOUNT = re.compile(r"(?!root\Z|0+\Z)[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", re.ASCII | re.IGNORECASE)


def _issuer(value: str) -> str:
    return value.removesuffix(DISCOVERY)


class AuthenticationSettings(Section):
    """Validation of access tokens. Keys are read from `public_certs` or, if that is empty, discovered from `issuer`."""

    USE = ReadBy("server.wiring")

    scopes: Annotated[Mapping[str, str], ReadBy("server.app")] = Field(
        default_factory=dict,
        description="OAuth 2.0 scopes and their descriptions, shown in the OpenAPI document together with `token_url`. "
        "Tokens are not required to have them.",
        examples=[{"openid": "User identity"}],
    )
    token_url: Url | None = Field(
        default=None,
        description="The token endpoint: health probes get the tokens of their service accounts here. "
        "Required only for probes and `scopes` (FirecREST always requires it).",
        examples=["https://id.example.org/realms/hpc/protocol/openid-connect/token"],
    )
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post"] = Field(
        default="client_secret_basic",
        description="How service accounts authenticate at `token_url`: HTTP Basic, or in the request body.",
    )
    public_certs: tuple[KeyUrl, ...] = Field(
        default=(),
        description="URLs of key sets (JWKS) with the keys that sign tokens.",
        examples=[["https://id.example.org/realms/hpc/protocol/openid-connect/certs"]],
    )
    username_claim: Word = Field(
        default="preferred_username",
        description="The claim with the user's account on the clusters; a dotted path for a nested claim.",
    )
    username_pattern: Word | None = Field(
        default=None,
        description="A regular expression that the whole user name in the token must match. Not set: POSIX portable "
        "names (letters, digits, `_`, `.`, `-`; not beginning with a digit, `.` or `-`) or, with `accounts`, only the "
        "names that are listed there.",
        examples=[r"(?P<name>[a-z][a-z0-9]{1,30})@uni\.example"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    account_template: Word = Field(
        default="{value}",
        description="The user's account on the clusters, made from the user name: `{value}` is the whole name, "
        "`{name}` the group `(?P<name>…)` of `username_pattern`. Accounts have up to 64 letters, digits, `_`, `.`, "
        "`@`, `+` and `-` and begin with a letter, a digit or `_`; `root` is always refused.",
        examples=["{name}"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    accounts: Mapping[str, str] = Field(
        default_factory=dict,
        description="Accounts of single users, by the user name in the token; they win over `account_template`.",
        examples=[{"alice@uni.example": "alice"}],
        json_schema_extra=FLAMECREST_ONLY,
    )
    id_token_claims: bool = Field(
        default=False,
        description="Accept access tokens with claims of ID tokens (`at_hash`, `c_hash`, `nonce`), as Dex issues them. "
        "ID tokens of the issuer for the same audience are then accepted as well, so `audience` must be set.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    max_key_age: Seconds = Field(
        default=86400,
        description="How long keys are trusted that cannot be read again because the issuer does not answer. Keys that "
        "the issuer no longer publishes are not trusted from the next reading on (10 minutes at most).",
        json_schema_extra=FLAMECREST_ONLY,
    )
    jwk_algorithm: Annotated[Algorithm | None, BeforeValidator(none_if_blank)] = Field(
        default=None, description="The algorithm of keys that do not name one themselves (`alg`)."
    )
    min_token_ttl: SecondsOrNone = Field(
        default=30, description="A token that expires in less time is refused, so that it stays valid for the request."
    )
    issuer: Annotated[Url, AfterValidator(_issuer)] | None = Field(
        default=None,
        description="The required issuer of tokens (`iss`). If `public_certs` is empty, the keys are taken from its "
        "discovery document (`/.well-known/openid-configuration`).",
        examples=["https://id.example.org/realms/hpc"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    audience: Words = Field(
        default=(),
        description="The required audience of tokens (`aud`); of a list, one is enough. Empty: not checked.",
        examples=["flamecrest"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=(),
        description="The accepted algorithms. Empty: all algorithms of the keys. `EdDSA` includes `Ed25519` and "
        "`Ed448`. `none` and shared secrets (HS256 …) are never accepted.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    leeway: SecondsOrNone = Field(
        default=5, description="The accepted deviation of the issuer's clock.", json_schema_extra=FLAMECREST_ONLY
    )

    @model_validator(mode="after")
    def _has_keys(self) -> AuthenticationSettings:
        if not self.public_certs and self.issuer is None:
            raise InvalidSetting(
                "has no keys to validate tokens with",
                "set `issuer: https://id.example.org/realms/hpc` or `public_certs: [https://…/certs]`",
            )
        return self

    @model_validator(mode="after")
    def _maps_to_accounts(self) -> AuthenticationSettings:
        try:
            groups = {} if self.username_pattern is None else re.compile(self.username_pattern, re.ASCII).groupindex
        except re.error as error:
            raise InvalidSetting(f"username_pattern is no regular expression: {error}", "correct it") from None
        names = _PLACEHOLDER.findall(self.account_template)
        rest = _PLACEHOLDER.sub("", self.account_template)
        if "{" in rest or "}" in rest or not {*names} <= {"value", *groups}:
            possible = ", ".join(f"{{{name}}}" for name in ("value", *groups))
            raise InvalidSetting("account_template has a placeholder that is unknown", f"possible: {possible}")
        for account in self.accounts.values():
            if _ACCOUNT.fullmatch(account) is None or ".." in account:
                raise InvalidSetting(f"accounts has {account!r}, which cannot be an account", "correct it")
        if self.id_token_claims and not self.audience:
            raise InvalidSetting("id_token_claims needs an audience", "set `audience` to the client id of this gateway")
        return self


class OpenFgaSettings(Section):
    """An OpenFGA server that decides which users may use a cluster."""

    USE = NotSupported("remove the section")

    url: Url = Field(
        description="The base URL of the OpenFGA store.", examples=["https://fga.example.org/stores/01ARZ3"]
    )
    timeout: Seconds = Field(default=1, description="The timeout of a request.")
    max_connections: CountOrNone = Field(default=100, description="The maximum number of connections to the server.")


class AuthSettings(Section):
    """Authentication and authorization."""

    USE = ReadBy("server.wiring")

    authentication: AuthenticationSettings = Field(
        description="Validation of access tokens.", examples=[{"issuer": "https://id.example.org/realms/hpc"}]
    )
    authorization: Annotated[OpenFgaSettings | None, NotSupported("remove the section")] = Field(
        default=None,
        description="Authorization by OpenFGA. Not set: every user with a valid token may use every cluster.",
    )


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
    USE = NotSupported("use SSHStaticKeys")

    url: Url = Field(description="The base URL of the service.", examples=["https://keys.example.org"])
    max_connections: CountOrNone = Field(default=100, description="The maximum number of connections to the service.")


class SshServiceSettings(KeyServiceSettings):
    """A service that issues short-lived keys for a user's access token."""

    type: Literal["SSHService"] = Field(description="The source of keys.", examples=["SSHService"])


class SshCaSettings(KeyServiceSettings):
    """A certificate authority that signs keys for a user's access token."""

    type: Literal["SSHCA"] = Field(description="The source of keys.", examples=["SSHCA"])


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
    Annotated[StaticKeysSettings | SshServiceSettings | SshCaSettings, Field(discriminator="type")],
    BeforeValidator(_typed),
]
