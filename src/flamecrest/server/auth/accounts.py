"""From the user name in a token to the account on the clusters: pattern, template and table of the issuer. No I/O.

Only accounts that `check_account` accepts reach logins, paths and commands, whatever the settings are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter

from flamecrest.server.errors import Denied, Unauthenticated

from .jws import invalid_token, loggable

PORTABLE_NAMES = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
"""Portable user names of POSIX, in upper or lower case, up to 64 characters."""
VALUE = "value"
"""The placeholder of a template that stands for the whole user name of the token."""

_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", re.ASCII)
_MAX_VALUE = 255  # characters of the claim


def check_account(name: str) -> str:
    """Return the name if it can be an account; the outer limit of what settings can allow.

    Up to 64 ASCII letters, digits, `_`, `.`, `@`, `+` and `-`, beginning with a letter, a digit or `_`, without `..`.
    Raises Unauthenticated for any other name; Denied for root and for 0, which programs take for its uid.
    """
    if _ACCOUNT.fullmatch(name) is None or ".." in name:
        raise invalid_token(f"{loggable(name)} is not a valid account name")
    if name.lower() == "root" or not name.strip("0"):
        raise Denied("This account may not use the gateway", detail="the token names root")
    return name


@dataclass(frozen=True, slots=True)
class AccountRules:
    """How the user names of an issuer become accounts.

    A name in `table` becomes the account beside it. Any other must match the whole `pattern` (None: no other name is
    accepted); its account is `template`, in which `{group}` stands for a named group of the pattern and `{value}` for
    the name.

    Raises ValueError for a pattern, a template or an account that cannot be used.
    """

    pattern: str | None = PORTABLE_NAMES
    template: str = f"{{{VALUE}}}"
    table: Mapping[str, str] = field(default_factory=dict)
    _compiled: re.Pattern[str] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            compiled = None if self.pattern is None else re.compile(self.pattern, re.ASCII)
        except re.error as error:
            raise ValueError(f"the pattern of user names is no regular expression: {error}") from None
        object.__setattr__(self, "_compiled", compiled)
        known = {VALUE, *(compiled.groupindex if compiled is not None else ())}
        if wrong := [name for name in _placeholders(self.template) if name not in known]:
            raise ValueError(f"the template of accounts has {{{wrong[0]}}}, which is no named group of the pattern")
        for account in self.table.values():
            try:
                check_account(account)
            except (Denied, Unauthenticated):
                raise ValueError(f"{account!r} in the table of accounts cannot be an account") from None

    def account(self, name: object) -> str:
        """The account of a user name. Raises Unauthenticated for a name that is not accepted, Denied for root."""
        if not isinstance(name, str) or len(name) > _MAX_VALUE:
            raise invalid_token(f"the user name is {loggable(name) if not isinstance(name, str) else 'too long'}")
        if (account := self.table.get(name)) is not None:
            return check_account(account)
        found = None if self._compiled is None else self._compiled.fullmatch(name)
        if found is None:
            raise invalid_token(f"the user name {loggable(name)} is not one that is accepted")
        groups = {group: text or "" for group, text in found.groupdict().items()}
        return check_account(self.template.format_map({**groups, VALUE: name}))


def _placeholders(template: str) -> list[str]:
    """The names between braces. Raises ValueError for anything else that str.format would evaluate."""
    names = []
    for _, name, spec, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            raise ValueError(f"the template of accounts has {{{name}}}: only {{group}} and {{{VALUE}}} are possible")
        names.append(name)
    return names
