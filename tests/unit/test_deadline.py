"""A deadline cancels a block in time with an error that names it, and does not swallow other cancellations."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Timeout

pytestmark = pytest.mark.anyio


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_block_in_time() -> None:
    async with Deadline.after(60).enforce("this"):
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("seconds", [-1, 0, 0.01])
async def test_a_block_that_takes_too_long(seconds: float) -> None:
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(Timeout, match="this did not finish in time") as error:
        async with Deadline.after(seconds).enforce("this"):
            await for_ever()
    assert error.value.__cause__ is None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # no cancellation is pending


async def test_a_block_that_does_not_wait_is_not_ended() -> None:
    async with Deadline.after(0).enforce("this"):
        done = True
    await asyncio.sleep(0)
    assert done


async def test_the_inner_of_two_tells() -> None:
    with pytest.raises(Timeout, match="inner"):
        async with Deadline.after(60).enforce("outer"), Deadline.after(0).enforce("inner"):
            await for_ever()


async def test_the_outer_of_two_tells() -> None:
    with pytest.raises(Timeout, match="outer"):
        async with Deadline.after(0).enforce("outer"), Deadline.after(60).enforce("inner"):
            await for_ever()


async def test_a_timeout_of_the_block_itself_is_passed_on() -> None:
    with pytest.raises(TimeoutError, match="its own"):
        async with Deadline.after(60).enforce("this"):
            raise TimeoutError("its own")


async def test_another_error_is_passed_on_even_late() -> None:
    with pytest.raises(KeyError):
        async with Deadline.after(0).enforce("this"):
            with contextlib.suppress(asyncio.CancelledError):
                await for_ever()
            raise KeyError


async def test_a_cancellation_by_others_is_passed_on() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with Deadline.after(60).enforce("this"):
            begun.set()
            await for_ever()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_by_others_counts_even_when_the_time_is_over_too() -> None:
    """A cancelled task ends with CancelledError, not with Timeout."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with Deadline.after(0).enforce("this"):
            begun.set()
            try:
                await for_ever()
            except asyncio.CancelledError:
                await cancelled.wait()
                raise

    task = asyncio.create_task(work())
    await begun.wait()
    await asyncio.sleep(0.01)  # the deadline passes
    asyncio.get_running_loop().call_soon(task.cancel)
    asyncio.get_running_loop().call_soon(cancelled.set)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_part_never_gets_more_time() -> None:
    deadline = Deadline.after(3600)
    assert deadline.sub(7200).at == deadline.at
    assert deadline.sub(1).at < deadline.at
    assert Deadline.after(-5).left() == 0
