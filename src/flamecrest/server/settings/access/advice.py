"""Warnings about rules, secrets and bound tokens of a valid configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from flamecrest.server.settings.section import Section, StoredSecret
from flamecrest.server.settings.shape import one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from . import AuthSettings


def rule_warnings(auth: AuthSettings, clusters: Sequence[str]) -> Iterator[str]:
    """Patterns of clusters in rules that match no cluster."""
    authorization = auth.authorization
    for rule in () if authorization is None else (*authorization.rules, *authorization.rules_file):
        for pattern in rule.clusters:
            if not any(fnmatchcase(name.lower(), pattern.lower()) for name in clusters):
                hint = f" ({one_of(clusters, pattern)})" if clusters else ""
                yield f"{rule.place('clusters')}: rule {rule.name}: `{pattern}` matches no cluster{hint}"


def bound_token_warnings(auth: AuthSettings, public_url: str | None) -> Iterator[str]:
    """Proofs of DPoP contain the URL of the request, which only a configured address makes certain."""
    if public_url is None and any(one.bound_tokens_only for one in (auth.authentication, *auth.issuers)):
        yield (
            "transfers.public_url is not set: the URL that a DPoP proof must contain (`htu`) is taken from the Host "
            "header of the request, so a proof that was made for another host name is accepted"
        )


def readable_secrets(value: Any) -> Iterator[str]:
    """The secret files in a value that every account of the host can read."""
    if isinstance(value, StoredSecret):
        if value.readable_file is not None:
            yield value.readable_file
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from readable_secrets(getattr(value, name))
    elif isinstance(value, Mapping | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from readable_secrets(item)
