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


async def test_block_ends_before_the_deadline() -> None:
    async with Deadline.after(60).enforce("this"):
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("seconds", [-1, 0, 0.01])
async def test_expired_deadline_raises_timeout(seconds: float) -> None:
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(Timeout, match="this did not finish in time") as error:
        async with Deadline.after(seconds).enforce("this"):
            await for_ever()
    assert error.value.__cause__ is None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # no cancellation is pending


async def test_block_without_await_is_not_cancelled() -> None:
    async with Deadline.after(0).enforce("this"):
        done = True
    await asyncio.sleep(0)
    assert done


async def test_shorter_inner_deadline_is_reported() -> None:
    with pytest.raises(Timeout, match="inner"):
        async with Deadline.after(60).enforce("outer"), Deadline.after(0).enforce("inner"):
            await for_ever()


async def test_shorter_outer_deadline_is_reported() -> None:
    with pytest.raises(Timeout, match="outer"):
        async with Deadline.after(0).enforce("outer"), Deadline.after(60).enforce("inner"):
            await for_ever()


async def test_timeout_error_of_the_block_propagates() -> None:
    with pytest.raises(TimeoutError, match="its own"):
        async with Deadline.after(60).enforce("this"):
            raise TimeoutError("its own")


async def test_other_error_propagates_after_the_deadline() -> None:
    with pytest.raises(KeyError):
        async with Deadline.after(0).enforce("this"):
            with contextlib.suppress(asyncio.CancelledError):
                await for_ever()
            raise KeyError


async def test_external_cancellation_propagates() -> None:
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


async def test_external_cancellation_takes_precedence_over_timeout() -> None:
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


async def test_partial_deadline_is_never_later() -> None:
    deadline = Deadline.after(3600)
    assert deadline.sub(7200).at == deadline.at
    assert deadline.sub(1).at < deadline.at
    assert Deadline.after(-5).left() == 0
