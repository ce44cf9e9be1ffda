"""Tokens of the gateway itself: what they allow, that they cannot be forged, and when they end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.auth.narrow.restriction import Restriction
from flamecrest.server.auth.narrow.store import TokenFolder
from flamecrest.server.auth.narrow.tokens import NarrowTokens, WithNarrowTokens
from flamecrest.server.auth.port import AccessRequest, Confirmation, Identity, RequestProof, Verb
from flamecrest.server.auth.possession import Possession
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy, Denied, NotFound, Unauthenticated, Unavailable
from tests.unit.auth.test_possession import CERTIFICATE, URL, Sender, x5t
from tests.unit.auth.world import Clock

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

KEY = b"k" * 32
ANN = Identity("ann", "sub-1", "https://id.example.org", "portal", claims={"jti": "t1", "groups": ["staff"]})
ALL = Restriction(frozenset(Verb))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path, clock: Clock) -> NarrowTokens:
    return NarrowTokens(TokenFolder(tmp_path / "tokens"), KEY, longest=3600, most=5, clock=clock)


async def make(tokens: NarrowTokens, restriction: Restriction = ALL, **options: Any) -> tuple[str, str]:
    """The id of a new token of Ann's, and the token."""
    made, token = await tokens.issue(
        ANN, restriction, **{"life": 600, "uses": None, "description": "workflow", **options}
    )
    return made.id, token


async def test_token_stands_for_its_owner_within_its_limits(tokens: NarrowTokens) -> None:
    limits = Restriction(frozenset({Verb.FILES_READ}), ("daint",), ("/home/ann",))
    name, token = await make(tokens, limits)
    found = await tokens.identity(token)
    assert (found.username, found.subject, found.client) == ("ann", "sub-1", "portal")
    assert found.restriction == limits
    assert found.claims["groups"] == ["staff"]
    assert found.claims["jti"] == f"t1/{name}"
    assert found.token == ""
    assert token not in repr(found)


async def test_replicas_share_tokens_by_key_and_folder(tmp_path: Path, tokens: NarrowTokens, clock: Clock) -> None:
    _, token = await make(tokens)
    replica = NarrowTokens(TokenFolder(tmp_path / "tokens"), KEY, longest=3600, most=5, clock=clock)
    assert (await replica.identity(token)).username == "ann"
    other = NarrowTokens(TokenFolder(tmp_path / "tokens"), b"x" * 32, longest=3600, most=5, clock=clock)
    with pytest.raises(Unauthenticated):
        await other.identity(token)


async def test_forged_tokens(tmp_path: Path, tokens: NarrowTokens) -> None:
    _, token = await make(tokens)
    _, other = await make(tokens)
    owner, name, mac = token.removeprefix("fct_").split(".")
    bad = [
        f"fct_{owner}.{name}.{'A' * 43}",
        f"fct_{owner}.{name}.{other.rpartition('.')[2]}",
        f"fct_{owner}.{name}",
        f"fct_{owner}.{name}.{mac}.x",
        f"fct_../../../etc.{name}.{mac}",
        f"fct_{owner}.../{name}.{mac}",
        "fct_",
        "fct_" + "a" * 5000,
        f"fct_{owner}.{'A' * 22}.{mac}",
    ]
    for one in bad:
        with pytest.raises(Unauthenticated):
            await tokens.identity(one)
    record = next((tmp_path / "tokens").glob(f"*/{name}/record"))
    record.write_bytes(record.read_bytes().replace(b'"ann"', b'"bob"'))
    with pytest.raises(Unauthenticated):
        await tokens.identity(token)
    assert (await tokens.identity(other)).username == "ann"


async def test_the_folder_is_private(tmp_path: Path, tokens: NarrowTokens) -> None:
    await make(tokens)
    assert all(place.stat().st_mode & 0o077 == 0 for place in (tmp_path / "tokens").rglob("*") if place.is_dir())
    assert (tmp_path / "tokens").stat().st_mode & 0o077 == 0


async def test_expiry_and_the_longest_life(tokens: NarrowTokens, clock: Clock) -> None:
    _, token = await make(tokens, life=10)
    _, longer = await make(tokens, life=10**6)
    clock.advance(11)
    with pytest.raises(Unauthenticated, match="expired"):
        await tokens.identity(token)
    await tokens.identity(longer)
    clock.advance(3600)
    with pytest.raises(Unauthenticated):
        await tokens.identity(longer)


async def test_revoked_by_its_owner_only(tokens: NarrowTokens) -> None:
    name, token = await make(tokens)
    for stranger in (Identity("bob"), Identity("ann", "sub-2", "https://id.example.org"), Identity("ann", "sub-1")):
        with pytest.raises(NotFound):
            await tokens.revoke(stranger, name)
        assert await tokens.owned(stranger) == []
    await tokens.identity(token)
    for _ in range(2):
        await tokens.revoke(ANN, name)
    with pytest.raises(Unauthenticated):
        await tokens.identity(token)
    assert [one.revoked for one in await tokens.owned(ANN)] == [True]
    for wrong in ("x", "../../etc", "A" * 22):
        with pytest.raises(NotFound):
            await tokens.revoke(ANN, wrong)


async def test_uses_are_counted_exactly(tokens: NarrowTokens) -> None:
    _, token = await make(tokens, uses=3)
    ended = await asyncio.gather(*(tokens.identity(token) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(one, Identity) for one in ended) == 3
    assert sum(isinstance(one, Unauthenticated) for one in ended) == 7
    assert [one.used for one in await tokens.owned(ANN)] == [3]


async def test_number_of_tokens_and_removal_of_old_ones(tmp_path: Path, tokens: NarrowTokens, clock: Clock) -> None:
    names = [(await make(tokens))[0] for _ in range(5)]
    with pytest.raises(Busy):
        await make(tokens)
    await tokens.revoke(ANN, names[0])
    await make(tokens)
    clock.advance(601)
    assert await tokens.owned(ANN) == []
    await make(tokens)
    assert len(list((tmp_path / "tokens").glob("*/*/record"))) == 1


async def test_narrow_token_makes_no_tokens(tokens: NarrowTokens) -> None:
    name, token = await make(tokens)
    narrow = await tokens.identity(token)
    with pytest.raises(Denied):
        await tokens.issue(narrow, ALL, life=600, uses=None, description="")
    with pytest.raises(Denied):
        await tokens.owned(narrow)
    with pytest.raises(Denied):
        await tokens.revoke(narrow, name)


async def test_a_folder_that_cannot_be_used_is_unavailable(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").touch()
    tokens = NarrowTokens(TokenFolder(tmp_path / "file"), KEY, longest=3600, most=5, clock=clock)
    with pytest.raises(Unavailable):
        await make(tokens)


def asked(verb: Verb, *paths: str, **more: Any) -> AccessRequest:
    return AccessRequest(ANN, verb, more.pop("cluster", "Daint"), paths, **more)


READ = frozenset({Verb.FILES_READ})
TRANSFER = frozenset({Verb.TRANSFER, Verb.FILES_READ})


@pytest.mark.parametrize(
    ("limits", "request_", "allowed"),
    [
        (ALL, asked(Verb.JOBS_SUBMIT), True),
        (Restriction(READ), asked(Verb.FILES_READ, "/x"), True),
        (Restriction(READ), asked(Verb.FILES_WRITE, "/x"), False),
        (Restriction(READ), asked(Verb.JOBS_READ), False),
        (Restriction(READ, ("daint",)), asked(Verb.FILES_READ, "/x"), True),
        (Restriction(READ, ("eiger",)), asked(Verb.FILES_READ, "/x"), False),
        (Restriction(READ, (), ("/home/ann",)), asked(Verb.FILES_READ, "/home/ann"), True),
        (Restriction(READ, (), ("/home/ann",)), asked(Verb.FILES_READ, "/home/ann/a/b"), True),
        (Restriction(READ, (), ("/home/ann",)), asked(Verb.FILES_READ, "/home//ann/./a"), True),
        (Restriction(READ, (), ("/home/ann",)), asked(Verb.FILES_READ, "/home/annette"), False),
        (Restriction(READ, (), ("/home/ann",)), asked(Verb.FILES_READ, "/home/ann/../bob"), False),
        (Restriction(READ, (), ("/home/ann",)), asked(Verb.FILES_READ, "/home/Ann/a"), False),
        (Restriction(READ, (), ("/home/ann",)), asked(Verb.FILES_READ, "/home/ann/a", "/home/bob"), False),
        (Restriction(READ, (), ("/home/ann",)), asked(Verb.FILES_READ, "home/ann/a"), False),
        (Restriction(READ, (), ("/home/ann",)), asked(Verb.FILES_READ), False),
        (Restriction(READ, (), ("/",)), asked(Verb.FILES_READ, "/x"), True),
        (Restriction(READ, (), ("/a",)), asked(Verb.FILES_READ, "/a", tree=True), True),
        (Restriction(READ, (), ("/a",)), asked(Verb.FILES_READ, "/a", tree=True, through_links=True), False),
        (Restriction(READ), asked(Verb.FILES_READ, "/a", tree=True, through_links=True), True),
        (Restriction(TRANSFER, (), ("/a",)), asked(Verb.TRANSFER, "/a/x", sources=("/a/y",)), True),
        (Restriction(TRANSFER, (), ("/a",)), asked(Verb.TRANSFER, "/a/x", sources=("/b/y",)), False),
        (Restriction(frozenset({Verb.TRANSFER})), asked(Verb.TRANSFER, "/a/x", sources=("/b/y",)), False),
        (Restriction(frozenset(Verb), (), ("/a",)), asked(Verb.JOBS_SUBMIT), False),
        (Restriction(frozenset(Verb), (), ("/a",), ("7",)), asked(Verb.JOBS_SUBMIT, jobs=("7",)), False),
        (Restriction(frozenset(Verb), (), (), ("7",)), asked(Verb.JOBS_READ, jobs=("7",)), True),
        (Restriction(frozenset(Verb), (), (), ("7",)), asked(Verb.JOBS_SUBMIT, jobs=("7",)), True),
        (Restriction(frozenset(Verb), (), (), ("7",)), asked(Verb.JOBS_READ, jobs=("7", "8")), False),
        (Restriction(frozenset(Verb), (), (), ("7",)), asked(Verb.JOBS_READ), False),
        (Restriction(frozenset(Verb), (), (), ("7",)), asked(Verb.JOBS_SUBMIT), False),
        (Restriction(frozenset(Verb), (), (), ("7",)), asked(Verb.FILES_READ, "/x"), True),
    ],
)
def test_decisions(limits: Restriction, request_: AccessRequest, allowed: bool) -> None:
    decision = limits.decide(request_)
    assert decision.allowed is allowed
    assert decision.rule == "narrow-token"
    assert Restriction.read(limits.shown()) == limits


async def test_a_token_of_a_bound_one_is_bound_to_the_same_key(tokens: NarrowTokens, clock: Clock) -> None:
    sender, thief = Sender("ES256", clock), Sender("ES256", clock)
    bound = replace(ANN, confirmation=Confirmation(key=sender.cnf["jkt"], certificate=x5t(CERTIFICATE)))
    _, token = await tokens.issue(bound, ALL, life=600, uses=2, description="")
    gate = WithNarrowTokens(NobodyElse(), tokens, Possession(max_age=60.0, clock=clock))

    async def send(scheme: str, *proofs: str, certificate: bytes | None = CERTIFICATE) -> Identity:
        shown = RequestProof("GET", (URL,), proofs, certificate)
        return await gate.authenticate(f"{scheme} {token}", Deadline.after(20), lambda: shown)

    once = sender.proof(token)
    for scheme, proofs, certificate in (
        ("Bearer", (), CERTIFICATE),
        ("Bearer", (sender.proof(token),), CERTIFICATE),
        ("DPoP", (), CERTIFICATE),
        ("DPoP", (thief.proof(token),), CERTIFICATE),
        ("DPoP", (sender.proof("another"),), CERTIFICATE),
        ("DPoP", (sender.proof(token),), None),
        ("DPoP", (sender.proof(token),), b"another"),
    ):
        with pytest.raises(Unauthenticated):
            await send(scheme, *proofs, certificate=certificate)
    with pytest.raises(Unauthenticated):
        await gate.authenticate(f"DPoP {token}", Deadline.after(20))
    with pytest.raises(Unauthenticated):
        await tokens.identity(token)
    assert [one.used for one in await tokens.owned(bound)] == [0]
    assert (await send("DPoP", once)).confirmation == bound.confirmation
    with pytest.raises(Unauthenticated):
        await send("DPoP", once)


async def test_a_token_without_a_key_is_no_dpop_token(tokens: NarrowTokens, clock: Clock) -> None:
    _, token = await make(tokens)
    gate = WithNarrowTokens(NobodyElse(), tokens, Possession(max_age=60.0, clock=clock))
    with pytest.raises(Unauthenticated):
        await gate.authenticate(f"DPoP {token}", Deadline.after(20))
    assert (await gate.authenticate(f"Bearer {token}", Deadline.after(20))).username == "ann"


class NobodyElse:
    """An authenticator that refuses every token."""

    async def authenticate(self, *_: object) -> Identity:
        raise Unauthenticated("no")
