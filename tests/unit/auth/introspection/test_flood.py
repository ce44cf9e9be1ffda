"""Floods of made-up opaque tokens: whoever sends them waits, known tokens and other networks do not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.introspection.endpoint import Introspection
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.auth.port import RequestProof
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy, Unauthenticated, Unavailable
from tests.unit.auth.introspection.endpoint import Endpoint, active, endpoint
from tests.unit.auth.world import AUDIENCE, Clock, http_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx

    from flamecrest.server.auth.port import Identity

pytestmark = pytest.mark.anyio

AT_ONCE, WAITING = 16, 240


@pytest.fixture
async def issuer(anyio_backend: str) -> AsyncIterator[Endpoint]:
    async with endpoint() as running:
        yield running


@pytest.fixture
async def gate(issuer: Endpoint, http: httpx.AsyncClient, clock: Clock) -> AsyncIterator[OidcAuthenticator]:
    asks = Introspection(issuer.url, "robot", "secret", http=http, tokens="opaque", timeout=50, monotonic=clock)
    async with OidcAuthenticator(
        ClaimRules(issuer="https://id.example.org", audience=frozenset({AUDIENCE})),
        http=http,
        introspection=asks,
        clock=clock,
    ) as running:
        yield running


async def ask(gate: OidcAuthenticator, token: str, network: str = "192.0.2.1") -> Identity:
    proof = RequestProof("GET", (), network=network)
    return await gate.authenticate(f"Bearer {token}", Deadline.after(50), lambda: proof)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(50):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def flood(gate: OidcAuthenticator, issuer: Endpoint, count: int) -> AsyncIterator[list[asyncio.Task[Identity]]]:
    """As many made-up tokens of one network, while the issuer answers none."""
    asked = [asyncio.create_task(ask(gate, f"held-{number}", "192.0.2.66")) for number in range(count)]
    try:
        await until(lambda: len(issuer.held) == min(count, AT_ONCE))
        yield asked
    finally:
        issuer.release()
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_known_tokens_do_not_wait_behind_made_up_ones(
    gate: OidcAuthenticator, issuer: Endpoint, clock: Clock
) -> None:
    issuer.answers["good"] = active()
    await ask(gate, "good")
    clock.advance(61)  # the answer is too old, so that the issuer has to be asked again
    async with flood(gate, issuer, AT_ONCE + WAITING):
        assert (await ask(gate, "good", "192.0.2.66")).username == "ann"
    assert issuer.asked["good"] == 2


async def test_another_network_has_its_turn_next(gate: OidcAuthenticator, issuer: Endpoint) -> None:
    issuer.answers["good"] = active()
    async with flood(gate, issuer, AT_ONCE + WAITING) as asked:
        with pytest.raises(Busy):  # of their own network there is no room for more
            await ask(gate, "further", "192.0.2.66")
        waits = asyncio.create_task(ask(gate, "good"))
        await until(lambda: sum(one.done() for one in asked) == 1)
        gave_way = next(one.exception() for one in asked if one.done())
        assert isinstance(gave_way, Busy)  # the newest of those that had no turn yet
        issuer.held["held-0"].set()  # one more of the flood has its turn, and then the other network
        issuer.held["held-1"].set()
        assert (await waits).username == "ann"
        assert issuer.order.index("good") <= AT_ONCE + 1


async def test_what_nobody_waits_for_any_more_is_not_asked(gate: OidcAuthenticator, issuer: Endpoint) -> None:
    issuer.answers["good"] = active()
    async with flood(gate, issuer, AT_ONCE + WAITING) as asked:
        for one in asked[AT_ONCE:]:
            one.cancel()
        await asyncio.gather(*asked[AT_ONCE:], return_exceptions=True)
        issuer.release()
        assert (await ask(gate, "good", "192.0.2.66")).username == "ann"
    assert len(issuer.order) == AT_ONCE + 1
    assert "16 free, 0 of 0 networks wait" in repr(gate.introspection)


async def test_tokens_for_which_the_issuer_fails_do_no_harm_to_known_ones(
    gate: OidcAuthenticator, issuer: Endpoint, clock: Clock
) -> None:
    issuer.answers |= {"good": active()} | {f"bad-{n}": http_answer("", "500 Oops") for n in range(20)}
    await ask(gate, "good")
    clock.advance(61)
    for number in range(20):
        with pytest.raises(Unavailable):
            await ask(gate, f"bad-{number}")
    assert issuer.asked.total() == 4
    assert (await ask(gate, "good")).username == "ann"


async def test_one_network_alone_has_all_the_room(gate: OidcAuthenticator, issuer: Endpoint) -> None:
    """A portal sends the tokens of all its users from one address."""
    tokens = [f"user-{number}" for number in range(AT_ONCE + WAITING)]
    issuer.answers |= {token: active(sub=token) for token in tokens}
    found = await asyncio.gather(*(ask(gate, token) for token in tokens))
    assert [one.subject for one in found] == tokens


async def test_many_networks_are_refused_in_the_end(gate: OidcAuthenticator, issuer: Endpoint) -> None:
    async with flood(gate, issuer, AT_ONCE):
        others = [asyncio.create_task(ask(gate, f"held-of-{n}", f"192.0.3.{n}")) for n in range(WAITING)]
        await until(lambda: f"{WAITING} of {WAITING} networks" in repr(gate.introspection))
        with pytest.raises(Busy):
            await ask(gate, "another", "192.0.4.1")
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    with pytest.raises(Unauthenticated):
        await ask(gate, "another", "192.0.4.1")


def _values() -> list[Any]:
    deep = "[" * 20_000 + "]" * 20_000
    return [
        '{"active": false, "active": true}',
        '{"active": true, "exp": NaN}',
        '{"active": true, "x": ' + "9" * 5_000 + "}",
        '{"active": true, "x": ' + deep + "}",
        '{"active": 1}',
        '{"Active": true}',
        '\ufeff{"active": true}',
    ]


@pytest.mark.parametrize("body", _values(), ids=range(len(_values())))
async def test_answers_that_are_not_clear_let_nobody_in(gate: OidcAuthenticator, issuer: Endpoint, body: str) -> None:
    issuer.answers["some"] = http_answer(body, "200 OK", "Content-Type: application/json")
    with pytest.raises(Unavailable):
        await ask(gate, "some")


@pytest.mark.parametrize(
    "kind", ["text/html", "application/token-introspection+jwt", "", "text/plain; application/json"]
)
async def test_an_answer_of_another_type_lets_nobody_in(gate: OidcAuthenticator, issuer: Endpoint, kind: str) -> None:
    issuer.answers["some"] = active().replace(b"application/json", kind.encode())
    with pytest.raises(Unavailable):
        await ask(gate, "some")


@pytest.mark.parametrize(
    "claims", [{"exp": 1e400}, {"exp": "soon"}, {"exp": True}, {"exp": 1}, {"exp": -1}, {"aud": {}}]
)
async def test_claims_that_make_no_sense_let_nobody_in(
    gate: OidcAuthenticator, issuer: Endpoint, claims: dict[str, Any]
) -> None:
    issuer.answers["some"] = active(**claims).replace(b"Infinity", b"1e400")
    with pytest.raises((Unauthenticated, Unavailable)):
        await ask(gate, "some")


async def test_tokens_that_differ_in_case_or_spaces_are_others(gate: OidcAuthenticator, issuer: Endpoint) -> None:
    issuer.answers["Good-Token"] = active()
    assert (await ask(gate, " Good-Token ")).token == "Good-Token"
    for other in ("good-token", "GOOD-TOKEN", "Good-Token=", "Good-Token/", "Good-Token\t", "Good-Token\x00"):
        with pytest.raises(Unauthenticated):
            await ask(gate, other)
    for other in ("good-token", "Good-Token"):  # nor does a refusal of one count for the other
        issuer.answers["Good-Token"] = active()
        if other == "Good-Token":
            assert (await ask(gate, other)).username == "ann"
    assert issuer.asked["Good-Token"] == 1


async def test_a_token_may_become_active(gate: OidcAuthenticator, issuer: Endpoint, clock: Clock) -> None:
    """The issuer's replicas learn of a new token one after the other."""
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await ask(gate, "new")
    assert issuer.asked["new"] == 1
    issuer.answers["new"] = active()
    clock.advance(11)
    assert (await ask(gate, "new")).username == "ann"


async def test_an_answer_counts_from_the_question(gate: OidcAuthenticator, issuer: Endpoint, clock: Clock) -> None:
    """A token that is revoked while a slow issuer answers is not used for longer than any other."""
    issuer.answers["held"] = active()
    asked = asyncio.create_task(ask(gate, "held"))
    await until(lambda: "held" in issuer.held)
    clock.advance(40)
    issuer.release()
    assert (await asked).username == "ann"
    del issuer.answers["held"]
    clock.advance(15)
    assert (await ask(gate, "held")).username == "ann"
    clock.advance(10)
    with pytest.raises(Unauthenticated):
        await ask(gate, "held")


async def test_an_answer_that_drips_is_given_up(issuer: Endpoint, http: httpx.AsyncClient, clock: Clock) -> None:
    asks = Introspection(issuer.url, "robot", "secret", http=http, timeout=0.2, monotonic=clock)
    async with OidcAuthenticator(
        ClaimRules(issuer="https://id.example.org"), http=http, introspection=asks, clock=clock
    ) as gate:
        with pytest.raises(Unavailable) as caught:
            await ask(gate, "held")
    assert caught.value.detail == "no response within 0 s"
    issuer.release()
