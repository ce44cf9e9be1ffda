"""Settings of how user names become accounts on clusters."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field, model_validator

from flamecrest.server.settings.problems import InvalidSetting
from flamecrest.server.settings.section import Section, Word
from flamecrest.server.settings.use import ReadBy

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_ACCOUNT = re.compile(r"(?!root\Z|0+\Z)[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", re.ASCII | re.IGNORECASE)


def check_account_rules(pattern: str | None, template: str, accounts: Mapping[str, str]) -> None:
    """Raise InvalidSetting for a pattern, a template or an account that cannot be used."""
    try:
        groups = {} if pattern is None else re.compile(pattern, re.ASCII).groupindex
    except re.error as error:
        raise InvalidSetting(f"username_pattern is no regular expression: {error}", "correct it") from None
    names = _PLACEHOLDER.findall(template)
    rest = _PLACEHOLDER.sub("", template)
    if "{" in rest or "}" in rest or not {*names} <= {"value", *groups}:
        possible = ", ".join(f"{{{name}}}" for name in ("value", *groups))
        raise InvalidSetting("account_template has a placeholder that is unknown", f"possible: {possible}")
    for account in accounts.values():
        if _ACCOUNT.fullmatch(account) is None or ".." in account:
            raise InvalidSetting(f"accounts has {account!r}, which cannot be an account", "correct it")


class ClusterAccountSettings(Section):
    """How user names become accounts on one cluster. A user without an account there is answered with 403 there."""

    USE = ReadBy("server.wiring")

    username_claim: Word | None = Field(
        default=None, description="The claim with the user name. Not set: that of the issuer.", examples=["account"]
    )
    username_pattern: Word | None = Field(
        default=None,
        description="As `username_pattern` of the issuer. Not set: POSIX portable names or, with `accounts`, only the "
        "names that are listed there.",
        examples=[r"(?P<name>[a-z]+)@uni\\.example"],
    )
    account_template: Word = Field(
        default="{value}", description="As `account_template` of the issuer.", examples=["x_{value}"]
    )
    accounts: Mapping[str, str] = Field(
        default_factory=dict,
        description="Accounts of single users, by the user name in the token.",
        examples=[{"alice@uni.example": "alice"}],
    )

    @model_validator(mode="after")
    def _maps_to_accounts(self) -> ClusterAccountSettings:
        check_account_rules(self.username_pattern, self.account_template, self.accounts)
        return self
