"""Several trusted issuers: each token is validated by the rules and keys of its own issuer only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.auth.accounts import AccountRules
from flamecrest.server.auth.claims import ClaimRules, ClusterAccounts
from flamecrest.server.auth.introspection.endpoint import Introspection
from flamecrest.server.auth.issuers import TrustedIssuers
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.auth.possession import Possession
from flamecrest.server.errors import Denied, InsufficientScope, Unauthenticated
from tests.faulty_issuer import Fault, FaultyIssuer
from tests.unit.auth.world import AUDIENCE, ask, b64, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from tests.unit.auth.world import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def partner(anyio_backend: str) -> AsyncIterator[FaultyIssuer]:
    key = SigningKey.generate("ES256", "rsa-1")  # the id of the other issuer's key
    async with FaultyIssuer(keys=[key], audience="partner-audience") as running:
        yield running


@pytest.fixture
async def both(
    issuer: FaultyIssuer, partner: FaultyIssuer, http: httpx.AsyncClient, clock: Clock
) -> AsyncIterator[TrustedIssuers]:
    possession = Possession(max_age=60, clock=clock)
    first = OidcAuthenticator(
        ClaimRules(issuer=issuer.url, audience=frozenset({AUDIENCE})), http=http, clock=clock, monotonic=clock
    )
    second = OidcAuthenticator(
        ClaimRules(
            issuer=partner.url,
            audience=frozenset({"partner-audience"}),
            accounts=AccountRules(pattern="(?P<name>[a-z]+)", template="p_{name}"),
        ),
        http=http,
        clock=clock,
        monotonic=clock,
    )
    async with TrustedIssuers({issuer.url: first, partner.url: second}, possession) as gate:
        yield gate


async def test_each_issuer_has_its_own_rules(issuer: FaultyIssuer, partner: FaultyIssuer, both: TrustedIssuers):
    for _ in range(2):  # new, then cached
        assert (await ask(both, issuer.mint("ann"))).username == "ann"
        found = await ask(both, partner.mint("ann"))
        assert (found.username, found.issuer) == ("p_ann", partner.url)
    token = partner.mint("bob")
    assert await ask(both, token) is await ask(both, token)
    assert both.stats().accepted == 5
    assert both.stats().hits == 1


async def test_another_issuer_cannot_speak_for_this_one(
    issuer: FaultyIssuer, partner: FaultyIssuer, both: TrustedIssuers, caplog
):
    await ask(both, issuer.mint("ann"))
    await ask(both, partner.mint("ann"))
    ours, theirs = issuer.keys[-1], partner.keys[-1]
    for token in (
        issuer.mint("ann", key=theirs),  # our issuer's name, the partner's key with the same id
        partner.mint("ann", key=ours),
        partner.mint("ann", iss=issuer.url),
        partner.mint("ann", iss=issuer.url, aud=AUDIENCE),
        partner.mint("ann", aud=AUDIENCE),  # the audience of the other issuer
        issuer.mint("ann", aud="partner-audience"),
        issuer.mint("ann", iss=issuer.url + "/tenant-2"),
        issuer.mint("ann", iss=issuer.url + "/"),
        issuer.mint("ann", iss=[issuer.url]),
        issuer.mint("ann", omit=["iss"]),
        "opaque-token",
    ):
        await refusal(both, token, caplog)


async def test_an_issuer_that_is_down_stops_its_own_tokens_only(
    issuer: FaultyIssuer, partner: FaultyIssuer, both: TrustedIssuers
):
    partner.fault = Fault.ERROR
    from flamecrest.server.errors import Unavailable

    with pytest.raises(Unavailable):
        await ask(both, partner.mint("ann"))
    assert (await ask(both, issuer.mint("ann"))).username == "ann"


async def test_one_issuer_alone_may_be_shown_opaque_tokens(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock):
    def one() -> OidcAuthenticator:
        asks = Introspection(f"{issuer.url}/introspect", "robot", "robot-secret", http=http)
        return OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http, introspection=asks)

    with pytest.raises(ValueError, match="more than one issuer"):
        TrustedIssuers({"a": one(), "b": one()}, Possession(max_age=60, clock=clock))


async def test_accounts_on_single_clusters(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock):
    rules = {
        "daint": ClusterAccounts(AccountRules(pattern="[a-z]+", template="d_{value}")),
        "eiger": ClusterAccounts(AccountRules(), "eiger.account"),
        "tiny": ClusterAccounts(AccountRules(pattern=None, table={"ann": "ann2"})),
    }
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url, clusters=rules), http=http, clock=clock, monotonic=clock
    ) as gate:
        ann = await ask(gate, issuer.mint("ann", eiger={"account": "e1"}))
        assert [ann.on(name).username for name in ("Daint", "EIGER", "tiny", "other")] == ["d_ann", "e1", "ann2", "ann"]
        assert ann.on("daint").on("other").username == "ann"
        assert ann.on("daint").on("tiny").claims is ann.claims
        for account in ("root", "../x", "a;b", 7, None):
            bob = await ask(gate, issuer.mint("bob", eiger={"account": account}))
            for cluster in ("eiger", "tiny"):
                with pytest.raises(Denied, match="no account on this system"):
                    bob.on(cluster)
            assert bob.on("daint").username == "d_bob"


async def test_required_scopes_and_types(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock, caplog):
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url, scopes=frozenset({"firecrest", "jobs"}), types=frozenset({"at+jwt"})),
        http=http,
        clock=clock,
        monotonic=clock,
    ) as gate:
        good: tuple[dict[str, Any], ...] = (
            {"scope": "openid jobs firecrest"},
            {"scp": ["firecrest", "jobs"], "omit": ["scope"]},
            {"scp": "jobs firecrest", "omit": ["scope"]},
        )
        for claims in good:
            assert (await ask(gate, issuer.mint("ann", **claims))).username == "ann"
        bad: list[Any] = ["openid", "firecrest", "FIRECREST jobs", ["firecrest", 7], {"jobs": 1, "firecrest": 1}]
        for scope in bad:
            with pytest.raises(InsufficientScope) as caught:
                await ask(gate, issuer.mint("ann", scope=scope))
            assert caught.value.scopes == ("firecrest", "jobs")
        for typ in ("JWT", None):
            await refusal(gate, issuer.mint("ann", headers={"typ": typ}, **good[0]), caplog)


async def test_tokens_without_a_binding_are_refused_if_it_is_required(
    issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock
):
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url, bound=True), http=http, clock=clock, monotonic=clock
    ) as gate:
        with pytest.raises(Unauthenticated) as caught:
            await ask(gate, issuer.mint("ann"))
        assert "not bound" in (caught.value.detail or "")


async def test_ten_thousand_distinct_bad_tokens_cost_no_memory_and_no_requests(
    issuer: FaultyIssuer, partner: FaultyIssuer, both: TrustedIssuers
):
    await ask(both, issuer.mint("ann"))
    await ask(both, partner.mint("ann"))
    before = issuer.fetched.total() + partner.fetched.total()
    good = [issuer.mint("ann", expires=3600).split("."), partner.mint("ann", expires=3600).split(".")]
    stranger = SigningKey.generate("EdDSA")
    for number in range(10_000):
        header, claims, signature = good[number % 2]
        match number % 5:
            case 0:  # another signature
                token = f"{header}.{claims}.{b64(number.to_bytes(len(signature) * 3 // 4))}"
            case 1:  # an issuer that is not trusted
                token = f"{header}.{b64({'iss': f'https://tenant-{number}'})}.{signature}"
            case 2:  # an unknown key
                token = issuer.mint("ann", key=stranger, headers={"kid": f"k{number}"}, expires=3600)
            case 3:
                token = f"opaque-{number}"
            case _:
                token = f"{b64({'alg': 'none', 'n': number})}.{claims}."
        with pytest.raises(Unauthenticated):
            await ask(both, token)
    assert both.stats().cached == 2
    assert issuer.fetched.total() + partner.fetched.total() <= before + 2  # one reading for unknown key ids
    assert (await ask(both, issuer.mint("ann"))).username == "ann"


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a;b",
        "user@host",
        "a b",
        "$(id)",
        "-rf",
        "\N{CYRILLIC SMALL LETTER A}nn",
        "ann\u200b",
        "ANN\n",
        "",
        ".",
        "..",
        "a/b",
        "%41nn",
        "a" * 65,
    ],
)
async def test_hostile_user_names_of_a_partner(partner: FaultyIssuer, both: TrustedIssuers, caplog, name: str):
    await refusal(both, partner.mint(name), caplog)


@pytest.mark.parametrize("name", ["root", "ROOT", "Root", "0", "00"])
async def test_root_is_denied_whatever_the_rules_are(issuer: FaultyIssuer, http, clock: Clock, name: str):
    rules = AccountRules(pattern=".*", template="{value}")
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url, accounts=rules), http=http, clock=clock, monotonic=clock
    ) as gate:
        with pytest.raises(Denied):
            await ask(gate, issuer.mint(name))
