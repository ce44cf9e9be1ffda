"""What limits keep in memory has a bound, however many users come; and conditions of allowances."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.errors import Busy
from flamecrest.server.limits.buckets import MemoryBuckets
from flamecrest.server.limits.fair_use import FREE_BYTES, MAX_DEBTS, FairUse
from flamecrest.server.limits.values import Allowance, Rate
from flamecrest.server.settings import LimitsSettings, SettingsError
from flamecrest.server.wiring.limits import allowances

pytestmark = pytest.mark.anyio

SLOW = 1 / 3600


async def request(fair_use: FairUse, user: str, size: int = 0) -> None:
    admission = fair_use.begin(Identity(user))
    try:
        await fair_use.admit(admission)
    finally:
        admission.end(size)


def counted(fair_use: FairUse, what: str) -> int:
    found = re.search(rf"(\d+) {what}", repr(fair_use))
    assert found is not None
    return int(found[1])


async def test_buckets_of_many_users_are_bounded() -> None:
    """The bucket that was used least recently gives way; those of users who come often stay."""
    fair_use = FairUse([Allowance("user0", requests=Rate(SLOW, 1000), in_flight=5)], [], MemoryBuckets(size=500))
    for number in range(5000):
        await request(fair_use, f"user{number}")
        if number % 100 == 0:
            await request(fair_use, "frequent")
    assert (counted(fair_use, "of 500 buckets"), counted(fair_use, "in flight")) == (500, 0)
    admission = fair_use.begin(Identity("frequent"))
    await fair_use.admit(admission)
    assert admission.levels["user"].remaining == 1000 - 51


async def test_debts_of_many_users_are_bounded() -> None:
    """Users who owe bytes and never come back are forgotten, the oldest first; a debt that grows is not old."""
    fair_use = FairUse([Allowance("user0", bytes=Rate(1, FREE_BYTES))], [], MemoryBuckets(size=500))
    await request(fair_use, "first", 10 * FREE_BYTES)
    for number in range(MAX_DEBTS + 500):
        fair_use.end(fair_use.begin(Identity(f"user{number}")), 10 * FREE_BYTES)
        if number % 1000 == 0:
            await asyncio.sleep(0)
            fair_use.end(fair_use.begin(Identity("first")), 10 * FREE_BYTES)
    async with asyncio.timeout(50):
        while counted(fair_use, "charging"):
            await asyncio.sleep(0.01)
    assert counted(fair_use, "debts") == MAX_DEBTS
    with pytest.raises(Busy):
        await request(fair_use, "first")
    await request(fair_use, "user0")  # forgotten


def conditions(*texts: str) -> LimitsSettings:
    return LimitsSettings.model_validate({"users": [{"when": text, "in_flight": 1} for text in texts]})


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (Identity("alice", claims={"level": 3}), "user0"),
        (Identity("alice", claims={"level": 2}), "user2"),
        (Identity("alice", claims={"level": "many"}), "user2"),  # cannot be compared
        (Identity("alice", claims={"level": 10**40}), "user0"),
        (Identity("alice"), "user2"),
        (Identity("bob", client="portal"), "user1"),
    ],
)
async def test_conditions(caller: Identity, expected: str) -> None:
    users, _ = allowances(conditions("claims.level >= 3", "user == 'bob' && client == 'portal'", "true"))
    fair_use = FairUse(users, [], MemoryBuckets())
    (party,) = fair_use.begin(caller).parties
    assert party.allowance.name == expected
    assert fair_use.begin(caller).parties is fair_use.begin(caller).parties  # decided once for a token


async def test_claims_and_condition_must_both_hold() -> None:
    settings = LimitsSettings.model_validate(
        {"clients": [{"claims": {"azp": ["portal"]}, "when": "claims.level > 1", "in_flight": 1}]}
    )
    _, clients = allowances(settings)
    claims: list[dict[str, Any]] = [{"azp": "portal", "level": 2}, {"azp": "portal"}, {"azp": "x", "level": 2}]
    found = [FairUse([], clients, MemoryBuckets()).begin(Identity("a", client="c", claims=one)) for one in claims]
    assert [len(one.parties) for one in found] == [1, 0, 0]


@pytest.mark.parametrize("text", ["verb == 'status'", "path == '/'", "claims.level", "1 + 1", "user ==", "x" * 5000])
async def test_conditions_that_cannot_be_used_are_named(text: str) -> None:
    """The request is not known when a limit is chosen; of `claims.level` the type is known with the token only."""
    if text == "claims.level":
        users, _ = allowances(conditions(text))
        assert not users[0].matches(Identity("alice", claims={"level": "yes"}))
        return
    with pytest.raises(SettingsError) as refused:
        allowances(conditions("true", text))
    assert "limits.users[1].when" in str(refused.value)
