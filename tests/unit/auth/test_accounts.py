"""User names of tokens and the accounts that they become, by pattern, template and table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.auth.accounts import AccountRules, check_account
from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.errors import Denied, Unauthenticated
from tests.unit.auth.world import AUDIENCE, ask, refusal

if TYPE_CHECKING:
    import httpx

    from tests.faulty_issuer import FaultyIssuer
    from tests.unit.auth.world import Clock

pytestmark = pytest.mark.anyio

MAILS = AccountRules(pattern=r"(?P<name>[a-z][a-z0-9]*)@uni\.example", template="{name}")
ANYTHING = AccountRules(pattern=r"(?s:.*)")
TABLE = {"alice@uni.example": "alice", "100234": "bob"}


@pytest.mark.parametrize(
    ("rules", "name", "account"),
    [
        (MAILS, "alice@uni.example", "alice"),
        (AccountRules(pattern=r"[a-z]+@uni\.example"), "alice@uni.example", "alice@uni.example"),
        (AccountRules(pattern=r"[0-9][a-z]+"), "4wuser", "4wuser"),
        (AccountRules(pattern=r"[0-9]{6}"), "100234", "100234"),
        (AccountRules(pattern=r"[0-9]{6}", template="u{value}"), "100234", "u100234"),
        (AccountRules(pattern=r"(?P<n>[a-z]+)@(?P<o>[a-z]+)\.edu", template="{o}_{n}"), "ann@phys.edu", "phys_ann"),
        (AccountRules(pattern=None, table=TABLE), "alice@uni.example", "alice"),
        (AccountRules(table=TABLE), "100234", "bob"),
        (AccountRules(table=TABLE), "carl", "carl"),
    ],
)
def test_accounts(rules: AccountRules, name: str, account: str):
    assert rules.account(name) == account


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        (MAILS, "alice"),
        (MAILS, "alice@uni.example.evil.org"),
        (MAILS, "x@evil.org\nalice@uni.example"),
        (MAILS, "alice@uni.example\n"),
        (MAILS, "alice@uniXexample"),
        (MAILS, "Alice@uni.example"),
        (AccountRules(pattern=None, table=TABLE), "bob"),
        (AccountRules(pattern=None, table=TABLE), "ALICE@uni.example"),
        (AccountRules(), "alice@uni.example"),
        (AccountRules(), "4wuser"),
        (AccountRules(), "100234"),
    ],
)
def test_names_that_are_not_accepted(rules: AccountRules, name: str):
    with pytest.raises(Unauthenticated):
        rules.account(name)


HOSTILE = [
    "", "-rf", "--all", ".ssh", "..", "a..b", "a/b", "/etc", "a b", "a\n", "a\0", "a\tb", "a:b", "a,b", "a;b", "$(id)",
    "a'b", 'a"b', "a\\b", "%41", "*", "~a", "@uni", "+x", "x" * 65, "x" * 256, "x" * 100_000,
    "\N{CYRILLIC SMALL LETTER A}nn",
    "\N{ARABIC-INDIC DIGIT ONE}", "\ud800", None, 7, True, ["a"], {"a": "a"},
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_pattern_can_allow_what_is_dangerous(name: Any):
    with pytest.raises(Unauthenticated):
        ANYTHING.account(name)


@pytest.mark.parametrize("name", ["root", "ROOT", "0", "000"])
def test_root_is_refused_after_the_mapping(name: str):
    with pytest.raises(Denied):
        ANYTHING.account(name)
    with pytest.raises(Denied):
        AccountRules(pattern=r"(?P<name>.*)@uni", template="{name}").account(f"{name}@uni")


@given(st.text(max_size=80))
def test_what_becomes_an_account_is_harmless(name: str):
    try:
        account = ANYTHING.account(name)
    except (Unauthenticated, Denied):
        return
    assert account == name == check_account(name)
    assert account.isascii()
    assert account[0].isalnum() or account[0] == "_"
    assert not set(account) & set("/\\'\"$`;:,*?!&|<>(){}[]~#%^= \n\t\0")


@pytest.mark.parametrize(
    "wrong",
    [
        {"pattern": "("},
        {"template": "{name}"},
        {"template": "{value.__class__}"},
        {"template": "{value[0]}"},
        {"template": "{value!r}"},
        {"template": "{value:>9}"},
        {"template": "{}"},
        {"template": "{0}"},
        {"template": "{value"},
        {"table": {"a": "root"}},
        {"table": {"a": "../x"}},
        {"table": {"a": ""}},
    ],
)
def test_rules_that_cannot_be_used(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=r"\w"):
        AccountRules(**wrong)


async def test_the_authenticator_maps_and_caches_accounts(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock):
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url, audience=frozenset({AUDIENCE}), accounts=MAILS),
        http=http,
        clock=clock,
        monotonic=clock,
    ) as gate:
        token = issuer.mint("alice@uni.example")
        assert [(await ask(gate, token)).username for _ in range(2)] == ["alice", "alice"]
        for other in ("alice", "alice@evil.example"):
            with pytest.raises(Unauthenticated):
                await ask(gate, issuer.mint(other))


async def test_access_tokens_that_look_like_id_tokens_need_a_setting(
    issuer: FaultyIssuer, http: httpx.AsyncClient, gate: OidcAuthenticator, clock: Clock, caplog
):
    looks: dict[str, Any] = {
        "at_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng",
        "nonce": "n",
        "omit": ["scope"],
        "headers": {"typ": "JWT"},
    }
    await refusal(gate, issuer.mint("ann", **looks), caplog)
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url, audience=frozenset({AUDIENCE}), id_token_claims=True),
        http=http,
        clock=clock,
        monotonic=clock,
    ) as dex:
        assert (await ask(dex, issuer.mint("ann", **looks))).username == "ann"
        others: list[dict[str, Any]] = [
            {"typ": "ID"},
            {"token_use": "id"},
            {"events": {}},
            {"cnf": {}},
            {"aud": "another"},
        ]
        for other in others:
            await refusal(dex, issuer.mint("ann", **{**looks, **other}), caplog)
