"""Builds the authenticator: the issuers that are trusted, how they are asked, and what clients may know of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flamecrest.server.auth.accounts import PORTABLE_NAMES, AccountRules
from flamecrest.server.auth.claims import ClaimRules, ClusterAccounts
from flamecrest.server.auth.introspection.endpoint import Introspection
from flamecrest.server.auth.issuers import TrustedIssuers
from flamecrest.server.auth.narrow.authorizer import RestrictingAuthorizer
from flamecrest.server.auth.narrow.store import TokenFolder
from flamecrest.server.auth.narrow.tokens import NarrowTokens, WithNarrowTokens
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.auth.possession import Possession
from flamecrest.server.auth.resource import ProtectedResource

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from flamecrest.server.auth.port import Authenticator, Authorizer
    from flamecrest.server.settings import ClusterAccountSettings, IntrospectionSettings, Settings, TokenSettings


def make_authenticator(settings: Settings, http: httpx.AsyncClient) -> OidcAuthenticator | TrustedIssuers:
    """The authenticator; the caller enters and leaves it."""
    auth = settings.auth
    possession = Possession(max_age=auth.dpop_lifetime, clock=time.time)
    first = _issuer(auth.authentication, http, possession)
    if not auth.issuers:
        return first
    more = {one.issuer or "": _issuer(one, http, possession) for one in auth.issuers}
    return TrustedIssuers({auth.authentication.issuer or "": first, **more}, possession)


def issuers_of(authenticator: OidcAuthenticator | TrustedIssuers) -> Sequence[OidcAuthenticator]:
    """The authenticators of each issuer."""
    return authenticator.all if isinstance(authenticator, TrustedIssuers) else [authenticator]


def make_narrow_tokens(settings: Settings) -> NarrowTokens | None:
    """The gateway's own tokens; None if they are not configured."""
    tokens = settings.auth.tokens
    if tokens is None:
        return None
    key = tokens.signing_key.get_secret_value().encode()
    return NarrowTokens(TokenFolder(tokens.folder), key, longest=tokens.max_lifetime, most=tokens.max_per_user)


def accepting(issuers: Authenticator, tokens: NarrowTokens | None, settings: Settings) -> Authenticator:
    """The authenticator of requests: for the gateway's own tokens, too, if there are any."""
    if tokens is None:
        return issuers
    return WithNarrowTokens(issuers, tokens, Possession(max_age=settings.auth.dpop_lifetime, clock=time.time))


def restricted(owner: Authorizer | None, tokens: NarrowTokens | None, *, links: bool) -> Authorizer | None:
    """The authorizer of requests, which also obeys the limits of the gateway's own tokens, if there are any.

    `links`: the owner's rules about paths are applied to what links lead to.
    """
    return owner if tokens is None else RestrictingAuthorizer(owner, links=links)


def protected_resource(settings: Settings) -> ProtectedResource:
    """What clients may know of how they are authenticated."""
    auth = settings.auth
    issuers = [auth.authentication, *auth.issuers]
    scopes = [*auth.authentication.scopes, *(scope for one in issuers for scope in one.required_scopes)]
    header = auth.client_certificate_header
    return ProtectedResource(
        issuers=tuple(one.issuer for one in issuers if one.issuer is not None),
        scopes=tuple(dict.fromkeys(scopes)),
        bound_only=all(one.bound_tokens_only for one in issuers),
        client_certificate_header=None if header is None else header.lower(),
    )


def _issuer(tokens: TokenSettings, http: httpx.AsyncClient, possession: Possession) -> OidcAuthenticator:
    return OidcAuthenticator(
        _rules(tokens),
        http=http,
        public_certs=tokens.public_certs,
        algorithms=tokens.algorithms or None,
        jwk_algorithm=tokens.jwk_algorithm,
        max_key_age=tokens.max_key_age,
        introspection=None if tokens.introspection is None else make_introspection(tokens.introspection, http),
        possession=possession,
    )


def _rules(tokens: TokenSettings) -> ClaimRules:
    return ClaimRules(
        issuer=tokens.issuer or "",
        audience=frozenset(tokens.audience),
        username_claim=tokens.username_claim,
        leeway=tokens.leeway,
        min_token_ttl=tokens.min_token_ttl,
        accounts=_accounts(tokens),
        id_token_claims=tokens.id_token_claims,
        types=frozenset(name.lower() for name in tokens.token_types),
        scopes=frozenset(tokens.required_scopes),
        bound=tokens.bound_tokens_only,
        clusters={
            name.lower(): ClusterAccounts(_accounts(rules), rules.username_claim)
            for name, rules in tokens.cluster_accounts.items()
        },
    )


def _accounts(rules: TokenSettings | ClusterAccountSettings) -> AccountRules:
    return AccountRules(
        pattern=rules.username_pattern or (None if rules.accounts else PORTABLE_NAMES),
        template=rules.account_template,
        table=dict(rules.accounts),
    )


def make_introspection(endpoint: IntrospectionSettings, http: httpx.AsyncClient) -> Introspection:
    """The introspection endpoint of an issuer."""
    return Introspection(
        endpoint.url,
        endpoint.client_id,
        endpoint.secret.get_secret_value(),
        http=http,
        auth_method=endpoint.auth_method,
        tokens=endpoint.tokens,
        life=endpoint.life,
        timeout=endpoint.timeout,
    )
