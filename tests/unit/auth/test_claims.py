"""Correctly signed tokens with wrong claims: other audience, expired, not an access token, invalid user name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.errors import Denied
from tests.faulty_issuer import FaultyIssuer
from tests.unit.auth.world import AUDIENCE, ask, refusal

if TYPE_CHECKING:
    import httpx

    from tests.unit.auth.world import Clock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("claims", "public"),
    [
        ({"expires": -11}, "Access token is expired."),
        ({"expires": -1_000_000}, "Access token is expired."),
        ({"exp": 0}, "Access token is expired."),
        ({"omit": ["exp"]}, "Access token is invalid."),
        ({"exp": None}, "Access token is invalid."),
        ({"exp": "9999999999"}, "Access token is invalid."),
        ({"exp": True}, "Access token is invalid."),
        ({"exp": [9999999999]}, "Access token is invalid."),
        ({"exp": -1}, "Access token is invalid."),
        ({"exp": 10**400}, "Access token is invalid."),
        ({"exp": 1e300}, "Access token is invalid."),
        ({"exp": float("inf")}, "Access token is invalid."),
        ({"exp": float("nan")}, "Access token is invalid."),
        ({"nbf": time.time() + 3600}, "Access token is invalid."),
        ({"nbf": "soon"}, "Access token is invalid."),
        ({"nbf": None}, "Access token is invalid."),
        ({"iat": time.time() + 3600}, "Access token is invalid."),
        ({"iat": "now"}, "Access token is invalid."),
        ({"iss": "http://evil.example.org"}, "Access token is invalid."),
        ({"iss": None}, "Access token is invalid."),
        ({"iss": ["a"]}, "Access token is invalid."),
        ({"omit": ["iss"]}, "Access token is invalid."),
        ({"aud": "another"}, "Access token is invalid."),
        ({"aud": ["another", "third"]}, "Access token is invalid."),
        ({"aud": AUDIENCE.upper()}, "Access token is invalid."),
        ({"aud": {AUDIENCE: 1}}, "Access token is invalid."),
        ({"aud": [[AUDIENCE]]}, "Access token is invalid."),
        ({"aud": ""}, "Access token is invalid."),
        ({"aud": []}, "Access token is invalid."),
        ({"omit": ["aud"]}, "Access token is invalid."),
        ({"sub": 7}, "Access token is invalid."),
        ({"sub": "x" * 256}, "Access token is invalid."),
        ({"sub": "line\nbreak"}, "Access token is invalid."),
        ({"azp": "\ud800"}, "Access token is invalid."),
        ({"typ": "ID"}, "Access token is invalid."),
        ({"typ": "Refresh"}, "Access token is invalid."),
        ({"typ": "Offline"}, "Access token is invalid."),
        ({"typ": "Logout"}, "Access token is invalid."),
        ({"typ": 1}, "Access token is invalid."),
        ({"token_use": "id"}, "Access token is invalid."),
        ({"token_use": None}, "Access token is invalid."),
        ({"at_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng"}, "Access token is invalid."),
        ({"c_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng", "nonce": "n"}, "Access token is invalid."),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, "Access token is invalid."),
        ({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}, "Access token is invalid."),
        ({"nonce": "n", "omit": ["scope"], "headers": {"typ": "JWT"}}, "Access token is invalid."),
    ],
)
async def test_claims_that_are_not_for_us(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog, claims, public: str):
    error = await refusal(gate, issuer.mint("ann", **claims), caplog)
    assert error.public == public


async def test_claims_at_the_edge_that_are_good(issuer: FaultyIssuer, gate: OidcAuthenticator):
    for claims in (
        {"expires": -9},
        {"nbf": time.time() + 5},
        {"nbf": 0},
        {"iat": time.time() + 100},
        {"aud": ["another", AUDIENCE]},
        {"typ": "Bearer", "nonce": "of an old Keycloak"},
        {"token_use": "access"},
        {"omit": ["sub", "azp", "client_id", "iat", "jti"]},
    ):
        assert (await ask(gate, issuer.mint("ann", **claims))).username == "ann"


async def test_another_tenant_of_the_same_keys(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock, caplog):
    async with OidcAuthenticator(
        ClaimRules(issuer=f"{issuer.url}/tenant-a"),
        http=http,
        public_certs=[issuer.jwks_url],
        clock=clock,
        monotonic=clock,
    ) as gate:
        await ask(gate, issuer.mint("ann", iss=f"{issuer.url}/tenant-a"))
        for other in (f"{issuer.url}/tenant-b", f"{issuer.url}/tenant-a/", issuer.url, f"{issuer.url}/TENANT-A"):
            await refusal(gate, issuer.mint("ann", iss=other), caplog)


NAMES = [
    "../x",
    "a/b",
    "/etc",
    ".",
    "..",
    ".ssh",
    "a..b",
    "-rf",
    "--",
    "a;b",
    "a b",
    " ann",
    "ann ",
    "ann\n",
    "\nann",
    "ann\0",
    "user@host",
    "DOMAIN\\user",
    "$(id)",
    "`id`",
    "a&b",
    "a|b",
    "a'b",
    'a"b',
    "a*b",
    "~ann",
    "a:b",
    "a%41",
    "0",
    "1001",
    "#1001",
    "",
    "x" * 65,
    "x" * 10_000,
    "\N{CYRILLIC SMALL LETTER A}nn",
    "ann\N{ZERO WIDTH SPACE}",
    "\N{FULLWIDTH LATIN SMALL LETTER R}oot",
    "\N{RIGHT-TO-LEFT OVERRIDE}nna",
    "ro\N{COMBINING ACUTE ACCENT}ot",
    "\N{LATIN SMALL LETTER LONG S}rv",
    "\ud800",
    None,
    0,
    True,
    ["ann"],
    {"ann": "ann"},
]


@pytest.mark.parametrize("name", NAMES)
async def test_names_that_no_account_has(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog, name: Any):
    await refusal(gate, issuer.mint(name), caplog)


async def test_a_token_without_a_name(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog):
    await refusal(gate, issuer.mint("ann", omit=["preferred_username"]), caplog)


@pytest.mark.parametrize("name", ["root", "Root", "ROOT"])
async def test_root_is_denied_and_never_cached(issuer: FaultyIssuer, gate: OidcAuthenticator, name: str):
    before = gate.stats()
    for _ in range(2):
        with pytest.raises(Denied):
            await ask(gate, issuer.mint(name))
    assert gate.stats().cached == before.cached


@pytest.mark.parametrize("name", ["ann", "Ann_B", "_svc", "a.b-c_d", "x" * 64, "u1", "rooty"])
async def test_names_that_accounts_have(issuer: FaultyIssuer, gate: OidcAuthenticator, name: str):
    assert (await ask(gate, issuer.mint(name))).username == name
