"""Settings of authentication, authorization and SSH credentials."""

from __future__ import annotations

from pydantic import Field, model_validator

from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import FLAMECREST_ONLY, Seconds, Section, Word
from flamecrest.server.settings.use import ReadBy

from .authentication import AuthenticationSettings, IssuerSettings
from .authorization import AuthorizationSettings
from .probing import AuthProbingSettings
from .tokens import NarrowTokenSettings


class AuthSettings(Section):
    """Authentication and authorization."""

    USE = ReadBy("server.wiring")

    authentication: AuthenticationSettings = Field(
        description="Validation of access tokens.", examples=[{"issuer": "https://id.example.org/realms/hpc"}]
    )
    issuers: tuple[IssuerSettings, ...] = Field(
        default=(),
        description="Further trusted issuers. Each issuer, that of `authentication` too, then needs a different "
        "`issuer`: the rules and keys for a token are those of its issuer alone.",
        examples=[[{"issuer": "https://login.partner.example", "audience": "flamecrest"}]],
        json_schema_extra=FLAMECREST_ONLY,
    )
    tokens: NarrowTokenSettings | None = Field(
        default=None,
        description="Tokens of the gateway itself that can do less than their owner's. Not set: there are none.",
        examples=[{"folder": "/var/lib/flamecrest/tokens", "signing_key": "secret_file:/run/secrets/token_key"}],
        json_schema_extra=FLAMECREST_ONLY,
    )
    dpop_lifetime: Seconds = Field(
        default=60,
        description="How old a DPoP proof (RFC 9449) of a token that is bound to a key may be. Each is accepted once.",
        json_schema_extra=FLAMECREST_ONLY,
    )
    client_certificate_header: Word | None = Field(
        default=None,
        description="The header in which a proxy of `server.trusted_proxies` hands on the client's TLS certificate, "
        "for tokens that are bound to one (RFC 8705): PEM with percent escapes, base64, or as RFC 9440 says. The proxy "
        "must remove the header from what clients send. Not set: such tokens are refused.",
        examples=["client-cert"],
        json_schema_extra=FLAMECREST_ONLY,
    )
    authorization: AuthorizationSettings | None = Field(
        default=None,
        description="Who may do what. Not set: every user with a valid token may use every cluster.",
    )
    probing: AuthProbingSettings = Field(
        default=AuthProbingSettings(),
        description="Probes of the token issuers and of OpenFGA.",
        json_schema_extra=FLAMECREST_ONLY,
    )

    @model_validator(mode="after")
    def _issuers_differ(self) -> AuthSettings:
        everyone = [self.authentication, *self.issuers]
        named = [one.issuer for one in everyone]
        if self.issuers and None in named:
            raise InvalidSetting("needs `issuer` in `authentication` and in each of `issuers`", "name each issuer")
        if len(set(named)) < len(named):
            raise InvalidSetting("has the same issuer twice", "keep one")
        asked = [one.introspection for one in everyone if one.introspection is not None]
        if len([one for one in asked if one.tokens != "jwt"]) > 1:
            raise InvalidSetting(
                "has more than one issuer that introspects opaque tokens, which do not say who has issued them",
                "set `tokens: jwt` in the introspection of all but one",
            )
        return self
