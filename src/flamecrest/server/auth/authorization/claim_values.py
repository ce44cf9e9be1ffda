"""Reads the values of claims that rules are about: roles, groups, scopes, and any other claim. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Where issuers put roles, groups and scopes: names of claims, or dotted paths to nested ones."""

    roles: Sequence[str] = ("roles", "realm_access.roles")
    groups: Sequence[str] = ("groups",)
    scopes: Sequence[str] = ("scope", "scp")


def claim_values(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """The values of a claim as text; of a list, each of its items. Empty if the token does not have the claim.

    `name` is the claim's name or, if there is no claim of that name, a dotted path to a nested one. Numbers and
    booleans are written as in JSON; objects have no value.
    """
    value = claims.get(name)
    if value is None and "." in name:
        value = _nested(claims, name)
    items = value if isinstance(value, list) else [value]
    return frozenset(text for item in items if (text := _text(item)) is not None)


def all_values(claims: Mapping[str, Any], names: Iterable[str]) -> frozenset[str]:
    """The values of several claims together."""
    return frozenset().union(*(claim_values(claims, name) for name in names))


def scopes(claims: Mapping[str, Any], names: Iterable[str]) -> frozenset[str]:
    """The scopes of a token: a claim with one text holds several, with spaces between them (RFC 6749, 3.3)."""
    return frozenset(scope for text in all_values(claims, names) for scope in text.split(" ") if scope)


def _nested(claims: Mapping[str, Any], path: str) -> object:
    """A nested claim. Names of clients have dots themselves: the longest key that fits is taken."""
    value: object = claims
    parts = path.split(".")
    while parts:
        if not isinstance(value, dict) and value is not claims:
            return None
        for count in range(len(parts), 0, -1):
            key = ".".join(parts[:count])
            if key in value:
                value, parts = value[key], parts[count:]
                break
        else:
            return None
    return value


def _text(item: object) -> str | None:
    match item:
        case bool():
            return "true" if item else "false"
        case str():
            return item
        case int() | float():
            return str(item)
        case _:
            return None
