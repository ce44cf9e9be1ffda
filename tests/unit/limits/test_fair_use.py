"""The rules of fair use: rates, numbers in flight, transfers, bytes, and whom they apply to; in memory."""

from __future__ import annotations

import asyncio

import pytest

from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.errors import Busy
from flamecrest.server.limits.buckets import MemoryBuckets
from flamecrest.server.limits.fair_use import FREE_REFUSALS, Admission, FairUse
from flamecrest.server.limits.values import Allowance, Rate, VerbLimits

pytestmark = pytest.mark.anyio

SLOW = 1 / 3600  # tokens a second: none comes back during a test
MB = 1_000_000


def identity(user: str = "alice", client: str = "", **claims: object) -> Identity:
    return Identity(user, client=client, claims=claims)


def limits(*users: Allowance, clients: tuple[Allowance, ...] = ()) -> FairUse:
    return FairUse(users, clients, MemoryBuckets())


async def admit(fair_use: FairUse, caller: Identity) -> Admission:
    admission = fair_use.begin(caller)
    try:
        await fair_use.admit(admission)
    except Busy:
        admission.end(0)
        raise
    return admission


async def request(fair_use: FairUse, caller: Identity, size: int = 0) -> None:
    (await admit(fair_use, caller)).end(size)


async def test_a_burst_and_no_more() -> None:
    fair_use = limits(Allowance("user0", requests=Rate(SLOW, 3)))
    for _ in range(3):
        await request(fair_use, identity())
    with pytest.raises(Busy) as refused:
        await request(fair_use, identity())
    assert refused.value.retry_after == pytest.approx(3600, rel=0.1)
    await request(fair_use, identity("bob"))


async def test_tokens_come_back() -> None:
    fair_use = limits(Allowance("user0", requests=Rate(50, 1)))
    await request(fair_use, identity())
    async with asyncio.timeout(20):
        while True:
            try:
                await request(fair_use, identity())
            except Busy as refused:
                await asyncio.sleep(refused.retry_after or 0)
            else:
                break


async def test_requests_in_flight() -> None:
    fair_use = limits(Allowance("user0", in_flight=2))
    first, second = await admit(fair_use, identity()), await admit(fair_use, identity())
    with pytest.raises(Busy, match="2 open requests"):
        await admit(fair_use, identity())
    bob = await admit(fair_use, identity("bob"))
    first.end(0)
    third = await admit(fair_use, identity())
    for one in (second, third, bob):
        one.end(0)
    await admit(fair_use, identity())


async def test_many_refusals_are_held_back_and_count_no_longer() -> None:
    fair_use = limits(Allowance("user0", in_flight=5))
    admissions = [await admit(fair_use, identity()) for _ in range(5)]
    held = [asyncio.create_task(fair_use.hold(one)) for one in admissions for _ in range(12)]
    await asyncio.sleep(0)
    assert FREE_REFUSALS <= sum(task.done() for task in held) < 2 * FREE_REFUSALS + 1  # a second may have ended
    await fair_use.hold(fair_use.begin(identity("bob")))  # others are not
    for one in [await admit(fair_use, identity()) for _ in range(5)]:
        one.end(0)
    for task in held:
        task.cancel()
    for one in admissions:
        one.end(0)  # not twice
    assert not fair_use._in_flight


async def test_a_client_has_limits_of_all_its_users() -> None:
    fair_use = limits(clients=(Allowance("client0", requests=Rate(SLOW, 2)),))
    await request(fair_use, identity("alice", "portal"))
    await request(fair_use, identity("bob", "portal"))
    with pytest.raises(Busy):
        await request(fair_use, identity("carol", "portal"))
    await request(fair_use, identity("carol", "cli"))
    await request(fair_use, identity("carol"))


async def test_the_first_allowance_that_matches_the_claims_applies() -> None:
    staff = Allowance("user0", {"groups": frozenset({"staff", "ops"})}, requests=Rate(SLOW, 2))
    robots = Allowance("user1", {"scope": frozenset({"robot"}), "org.unit": frozenset({"7"})}, requests=Rate(SLOW, 1))
    fair_use = limits(staff, robots, Allowance("user2", in_flight=1))
    for caller, allowed in (
        (identity("a", groups=["users", "ops"]), 2),
        (identity("b", groups="staff"), 2),
        (identity("c", scope="openid robot", org={"unit": 7}), 1),
        (identity("d", scope="openid robot", org={"unit": "8"}), 5),
        (identity("e", groups=["stafff"], org="x"), 5),
        (identity("f", groups={"staff": True}), 5),
    ):
        passed = 0
        for _ in range(5):
            try:
                await request(fair_use, caller)
            except Busy:
                break
            passed += 1
        assert (caller.username, passed) == (caller.username, allowed)


async def test_limits_of_a_verb() -> None:
    submitting = {Verb.JOBS_SUBMIT: VerbLimits(Rate(SLOW, 1), in_flight=1)}
    fair_use = limits(Allowance("user0", verbs=submitting))
    first = await admit(fair_use, identity())
    await fair_use.verb(first, Verb.JOBS_SUBMIT, starts=False)
    second = await admit(fair_use, identity())
    await fair_use.verb(second, Verb.JOBS_READ, starts=False)
    with pytest.raises(Busy, match="1 open requests"):
        await fair_use.verb(second, Verb.JOBS_SUBMIT, starts=False)
    first.end(0)
    with pytest.raises(Busy, match="too many requests"):
        await fair_use.verb(second, Verb.JOBS_SUBMIT, starts=False)


async def test_transfers_that_are_started() -> None:
    fair_use = limits(Allowance("user0", transfers=Rate(SLOW, 1)))
    admission = await admit(fair_use, identity())
    await fair_use.verb(admission, Verb.TRANSFER, starts=True)
    await fair_use.verb(admission, Verb.TRANSFER, starts=False)
    with pytest.raises(Busy, match="too many transfers"):
        await fair_use.verb(admission, Verb.TRANSFER, starts=True)


async def charged(fair_use: FairUse, caller: Identity, size: int) -> None:
    """A request of this size, and its charge."""
    await request(fair_use, caller, size)
    while fair_use._charging:
        await asyncio.sleep(0)


async def test_bytes_beyond_the_bucket_are_a_debt() -> None:
    fair_use = limits(Allowance("user0", bytes=Rate(1000, 10 * MB)))
    await charged(fair_use, identity(), 6 * MB)
    await charged(fair_use, identity(), 14 * MB)  # let in: the bucket was not empty
    with pytest.raises(Busy, match="bytes") as refused:
        await request(fair_use, identity())
    assert refused.value.retry_after == pytest.approx(10_000, rel=0.05)
    await request(fair_use, identity("bob"))


async def test_a_debt_is_paid_by_time() -> None:
    fair_use = limits(Allowance("user0", bytes=Rate(50 * MB, MB)))
    await charged(fair_use, identity(), 2 * MB)
    async with asyncio.timeout(20):
        while True:
            try:
                await request(fair_use, identity())
            except Busy:
                await asyncio.sleep(0.01)
            else:
                break
    assert not fair_use._debts


async def test_small_requests_count_as_no_bytes() -> None:
    fair_use = limits(Allowance("user0", bytes=Rate(1, 1)))
    for _ in range(3):
        await charged(fair_use, identity(), 60_000)


async def test_without_an_allowance_there_is_no_limit() -> None:
    fair_use = limits(Allowance("user0", {"groups": frozenset({"staff"})}, in_flight=1))
    for _ in range(3):
        await admit(fair_use, identity())
