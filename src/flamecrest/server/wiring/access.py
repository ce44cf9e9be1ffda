"""Chooses how callers are authenticated and authorized, and with which SSH credentials they log in."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from flamecrest.server.auth.accounts import PORTABLE_NAMES, AccountRules
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.settings import OpenFgaSettings, SshCaSettings, SshServiceSettings, StaticKeysSettings
from flamecrest.server.ssh.credentials import Credentials, StaticCredentials, StaticKey

if TYPE_CHECKING:
    import httpx

    from flamecrest.server.auth.port import Authorizer
    from flamecrest.server.settings import Settings


def make_authenticator(settings: Settings, http: httpx.AsyncClient) -> OidcAuthenticator:
    """The authenticator; the caller enters and leaves it."""
    tokens = settings.auth.authentication
    return OidcAuthenticator(
        http=http,
        public_certs=tokens.public_certs,
        issuer=tokens.issuer or "",
        audience=tokens.audience,
        username_claim=tokens.username_claim,
        algorithms=tokens.algorithms or None,
        jwk_algorithm=tokens.jwk_algorithm,
        leeway=tokens.leeway,
        min_token_ttl=tokens.min_token_ttl,
        max_key_age=tokens.max_key_age,
        accounts=AccountRules(
            pattern=tokens.username_pattern or (None if tokens.accounts else PORTABLE_NAMES),
            template=tokens.account_template,
            table=dict(tokens.accounts),
        ),
        id_token_claims=tokens.id_token_claims,
    )


def choose_authorizer(settings: Settings) -> Authorizer | None:
    """The authorizer of all clusters; None allows every operation."""
    authorization = settings.auth.authorization
    match authorization:
        case None:
            return None
        case OpenFgaSettings():
            raise NotImplementedError("authorization")  # refused by require_supported
        case _:
            assert_never(authorization)


def choose_credentials(settings: Settings) -> Credentials:
    """The source of the users' SSH credentials."""
    source = settings.ssh_credentials
    match source:
        case StaticKeysSettings():
            return StaticCredentials(
                {
                    user: StaticKey(
                        key.private_key.get_secret_value(),
                        key.public_cert.get_secret_value() if key.public_cert else None,
                        key.passphrase.get_secret_value() if key.passphrase else None,
                    )
                    for user, key in source.keys.items()
                }
            )
        case SshServiceSettings() | SshCaSettings():
            raise NotImplementedError(source.type)  # refused by require_supported
        case _:
            assert_never(source)
