"""Settings of authentication."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import (
    FLAMECREST_ONLY,
    FilledSecret,
    KeyUrl,
    Seconds,
    SecondsOrNone,
    Section,
    Url,
    Word,
    Words,
    as_tuple,
    none_if_blank,
)
from flamecrest.server.settings.use import ReadBy

from .accounts import ClusterAccountSettings, check_account_rules

DISCOVERY = "/.well-known/openid-configuration"

Algorithm = Literal[
    "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "ES256K", "PS256", "PS384", "PS512", "EdDSA", "Ed25519",
    "Ed448",
]  # fmt: skip

TokenTypes = Annotated[tuple[Literal["at+jwt", "JWT", ""], ...], BeforeValidator(as_tuple), Field(min_length=1)]


def _issuer(value: str) -> str:
    return value.removesuffix(DISCOVERY)


class IntrospectionSettings(Section):
    """The introspection endpoint of an issuer (RFC 7662)."""

    USE = ReadBy("server.wiring")

    url: Url = Field(
        description="The address of the endpoint (`introspection_endpoint` of the discovery document).",
        examples=["https://id.example.org/realms/hpc/protocol/openid-connect/token/introspect"],
    )
    client_id: Word = Field(description="The client as which the gateway authenticates there.", examples=["flamecrest"])
    secret: FilledSecret = Field(description="Its secret.", examples=["secret_file:/run/secrets/introspection"])
    auth_method: Literal["client_secret_basic", "client_secret_post"] = Field(
        default="client_secret_basic", description="How it authenticates: HTTP Basic, or in the request body."
    )
    tokens: Literal["opaque", "jwt", "all"] = Field(
        default="opaque",
        description="The tokens that the issuer is asked about: `opaque` ones, which say nothing themselves; `jwt`: "
        "signed tokens, after their validation, so that revoked ones are refused; or `all`.",
    )
    life: Seconds = Field(
        default=60,
        description="How long an answer is used. A revoked token is refused after this time at the latest.",
    )
    timeout: Seconds = Field(default=5, description="The timeout of a request. Without an answer the caller gets 503.")


class TokenSettings(Section):
    """Validation of the tokens of one issuer."""

    USE = ReadBy("server.wiring")

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

    token_types: TokenTypes = Field(
        default=("at+jwt", "JWT", ""),
        description="The accepted types of tokens (`typ` in the header): `at+jwt` (RFC 9068), `JWT`, and an empty text "
        "for tokens without a type. ID tokens are never accepted, whatever their type is.",
        examples=[["at+jwt"]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    required_scopes: Words = Field(
        default=(),
        description="Scopes that every token must have (`scope` or `scp`). A token without them is answered with 403.",
        examples=[["firecrest"]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    cluster_accounts: Mapping[Word, ClusterAccountSettings] = Field(
        default_factory=dict,
        description="Rules for accounts on single clusters, by the cluster's name, where accounts differ between "
        "clusters. They replace `username_claim`, `username_pattern`, `account_template` and `accounts` there.",
        examples=[{"daint": {"username_claim": "daint_account"}}],
        json_schema_extra=FLAMECREST_ONLY,
    )
    bound_tokens_only: bool = Field(
        default=False,
        description="Refuse tokens that are not bound to a key of their sender (`cnf`: DPoP, RFC 9449, or a TLS client "
        "certificate, RFC 8705). A token that is bound is always checked for that.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    introspection: IntrospectionSettings | None = Field(
        default=None,
        description="The issuer's introspection endpoint (RFC 7662), for opaque tokens and to notice that tokens were "
        "revoked. Not set: tokens are validated without the issuer, and opaque ones are refused.",
        examples=[{"url": "https://id.example.org/introspect", "client_id": "flamecrest", "secret": "secret_file:/s"}],
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="after")
    def _has_keys(self) -> TokenSettings:
        if not self.public_certs and self.issuer is None:
            raise InvalidSetting(
                "has no keys to validate tokens with",
                "set `issuer: https://id.example.org/realms/hpc` or `public_certs: [https://…/certs]`",
            )
        return self

    @model_validator(mode="after")
    def _maps_to_accounts(self) -> TokenSettings:
        check_account_rules(self.username_pattern, self.account_template, self.accounts)
        if self.id_token_claims and not self.audience:
            raise InvalidSetting("id_token_claims needs an audience", "set `audience` to the client id of this gateway")
        return self


class IssuerSettings(TokenSettings):
    """A further trusted issuer. Its keys are read from `public_certs` or, without any, discovered from `issuer`."""

    USE = ReadBy("server.wiring")


class AuthenticationSettings(TokenSettings):
    """Validation of access tokens. Keys are read from `public_certs` or, if that is empty, discovered from `issuer`."""

    scopes: Annotated[Mapping[str, str], ReadBy("server.app")] = Field(
        default_factory=dict,
        description="OAuth 2.0 scopes and their descriptions, shown in the OpenAPI document together with `token_url`. "
        "Tokens are not required to have them.",
        examples=[{"openid": "User identity"}],
    )
    docs_client_id: Annotated[Word | None, ReadBy("server.app")] = Field(
        default=None,
        description="The public client as which the page `/docs` logs users in at `issuer` (authorization code with "
        "PKCE), asking for `scopes`. Its redirect URI is `/docs/oauth2-redirect` of the API, and the issuer must allow "
        "the page's origin (CORS).",
        examples=["flamecrest-docs"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    authorization_url: Annotated[Url | None, ReadBy("server.app")] = Field(
        default=None,
        description="The authorization endpoint, to which the page `/docs` sends users who log in as `docs_client_id`. "
        "Required with `token_url` only if the browser cannot read the discovery document of `issuer`.",
        examples=["https://id.example.org/realms/hpc/protocol/openid-connect/auth"],
        json_schema_extra=FLAMECREST_ONLY,
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
