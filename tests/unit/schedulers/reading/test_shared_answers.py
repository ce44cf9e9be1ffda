"""Shared answers: who asks, who joins, what is kept, and what cancelled askers leave to others."""

from __future__ import annotations

import asyncio

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Timeout, Upstream
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.reading.shared_answers import SharedAnswers
from flamecrest.server.ssh.errors import NoCommands

pytestmark = pytest.mark.anyio


class Clerk:
    """Answers with the number of the question once `hold` is set."""

    def __init__(self) -> None:
        self.hold = asyncio.Event()
        self.asked = 0
        self.cancelled = 0

    async def __call__(self, deadline: Deadline) -> int:
        self.asked += 1
        number = self.asked
        try:
            async with deadline.enforce("The question"):
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return number


def answers(life: float = 60.0, max_weight: int = 100, **more) -> SharedAnswers[int]:
    return SharedAnswers("toy", SchedulerCounters(), life=life, max_weight=max_weight, **more)


def soon(seconds: float = 30.0) -> Deadline:
    return Deadline.after(seconds)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_question_serves_all_and_its_answer_is_kept():
    clerk, shared = Clerk(), answers()
    asking = [asyncio.create_task(shared.ask("alice", "q", clerk, soon())) for _ in range(50)]
    await turns()
    clerk.hold.set()
    assert {one.value for one in await asyncio.gather(*asking)} == {1}
    assert (await shared.ask("alice", "q", clerk, soon())).value == 1
    assert (await shared.ask("alice", "another", clerk, soon())).value == 2
    assert (await shared.ask("bob", "q", clerk, soon())).value == 3


async def test_an_answer_lives_for_its_time_and_without_one_for_those_who_wait():
    clerk, shared = Clerk(), answers(life=0.01)
    clerk.hold.set()
    assert (await shared.ask("alice", "q", clerk, soon())).value == 1
    await asyncio.sleep(0.03)
    assert (len(shared), shared.peek("alice", "q")) == (0, None)
    assert (await shared.ask("alice", "q", clerk, soon())).value == 2
    none = answers(life=0.0)
    assert [(await none.ask("alice", "q", clerk, soon())).value for _ in range(2)] == [3, 4]


async def test_a_cancelled_asker_fails_nobody_else():
    clerk, shared = Clerk(), answers()
    asking = [asyncio.create_task(shared.ask("alice", "q", clerk, soon())) for _ in range(3)]
    await turns()
    asking[0].cancel()  # the one that has asked
    await turns()
    clerk.hold.set()
    assert [one.value for one in await asyncio.gather(*asking[1:])] == [1, 1]
    assert asking[0].cancelled()


async def test_a_question_that_nobody_waits_for_is_cancelled_and_asked_again():
    clerk, shared = Clerk(), answers()
    asking = [asyncio.create_task(shared.ask("alice", "q", clerk, soon())) for _ in range(2)]
    await turns()
    for one in asking:
        one.cancel()
    await turns(1)
    again = asyncio.create_task(shared.ask("alice", "q", clerk, soon()))
    await turns()
    clerk.hold.set()
    assert (await again).value == 2
    assert clerk.cancelled == 1


async def test_the_short_deadline_of_an_asker_is_not_that_of_others():
    clerk, shared = Clerk(), answers()
    hasty = asyncio.create_task(shared.ask("alice", "q", clerk, soon(0.03)))
    await turns()
    patient = asyncio.create_task(shared.ask("alice", "q", clerk, soon()))
    with pytest.raises(Timeout):
        await hasty
    await turns()
    clerk.hold.set()
    assert (await patient).value == 2


async def test_the_error_of_a_question_that_ends_at_the_deadline_is_that_of_its_asker():
    async def question(deadline: Deadline) -> int:
        await asyncio.sleep(deadline.left())
        await turns()  # to end the wait for a channel takes some
        raise Upstream("The login node opens no channel")

    with pytest.raises(Upstream, match="opens no channel"):
        await answers().ask("alice", "q", question, soon(0.05))


async def test_a_deadline_of_ones_own_ends_the_wait_for_anothers_question():
    clerk, shared = Clerk(), answers()
    patient = asyncio.create_task(shared.ask("alice", "q", clerk, soon()))
    await turns()
    with pytest.raises(Timeout):
        await shared.ask("alice", "q", clerk, soon(0.01))
    clerk.hold.set()
    assert (await patient).value == 1


async def test_a_question_from_before_a_write_answers_only_those_who_had_asked():
    clerk, shared = Clerk(), answers()
    early = asyncio.create_task(shared.ask("alice", "q", clerk, soon()))
    await turns()
    shared.drop("alice")
    late = asyncio.create_task(shared.ask("alice", "q", clerk, soon()))
    await turns()
    clerk.hold.set()
    assert ((await early).value, (await late).value) == (1, 2)
    kept = shared.peek("alice", "q")
    assert kept is not None
    assert kept.value == 2


async def test_a_write_drops_the_answers_of_one_user():
    clerk, shared = Clerk(), answers()
    clerk.hold.set()
    for user in ("alice", "bob"):
        for key in ("q", "r"):
            await shared.ask(user, key, clerk, soon())
    shared.drop("alice")
    assert [shared.peek(user, "q") is None for user in ("alice", "bob")] == [True, False]
    assert len(shared) == 2


@pytest.mark.parametrize("error", [Upstream("broken", detail="why"), NoCommands(detail="why")])
async def test_a_failure_is_shared_and_not_kept(error):
    clerk, shared = Clerk(), answers()

    async def broken(_: Deadline) -> int:
        clerk.asked += 1
        await clerk.hold.wait()
        raise error

    asking = [asyncio.create_task(shared.ask("alice", "q", broken, soon())) for _ in range(3)]
    await turns()
    clerk.hold.set()
    raised = await asyncio.gather(*asking, return_exceptions=True)
    assert [(type(one), str(one), getattr(one, "detail", "")) for one in raised] == [
        (type(error), str(error), "why")
    ] * 3
    assert len({id(one) for one in raised}) == 3
    with pytest.raises(type(error)):
        await shared.ask("alice", "q", broken, soon())
    assert clerk.asked == 2


async def test_what_is_kept_is_bounded():
    clerk, shared = Clerk(), answers(max_weight=10, weigh=lambda _: 3)
    clerk.hold.set()
    for number in range(20):
        await shared.ask(f"user{number}", "q", clerk, soon())
    assert len(shared) == 3
    assert shared.peek("user19", "q") is not None
    heavy = answers(max_weight=10, weigh=lambda _: 11)
    await heavy.ask("alice", "q", clerk, soon())
    assert len(heavy) == 0
