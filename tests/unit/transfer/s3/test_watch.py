"""Work on transfers in the background."""

from __future__ import annotations

import asyncio
import logging

import pytest

from flamecrest.server.errors import Conflict, Unavailable
from flamecrest.server.transfer.s3 import watch as module
from flamecrest.server.transfer.s3.watch import Watch


async def until_idle(watch: Watch) -> None:
    async with asyncio.timeout(40):
        while len(watch):
            await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_looks_until_there_is_nothing_to_wait_for() -> None:
    watch, looks = Watch(), []

    async def look() -> bool:
        looks.append(1)
        if len(looks) == 1:
            raise Unavailable("later")
        return True

    watch.follow("transfer", look)
    await until_idle(watch)
    assert len(looks) == 2


@pytest.mark.anyio
async def test_a_damaged_record_ends_the_wait() -> None:
    watch = Watch()

    async def look() -> bool:
        raise Conflict("damaged")

    watch.follow("transfer", look)
    await until_idle(watch)


@pytest.mark.anyio
async def test_works_on_a_transfer_once_at_a_time() -> None:
    watch, begun, go_on = Watch(), [], asyncio.Event()

    async def work() -> None:
        begun.append(1)
        await go_on.wait()

    for _ in range(3):
        watch.run("transfer", work)
        await asyncio.sleep(0)
    assert len(begun) == 1
    go_on.set()
    await until_idle(watch)
    watch.run("transfer", work)
    await until_idle(watch)
    assert len(begun) == 2


@pytest.mark.anyio
async def test_no_task_dies_silently(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()

    async def work() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, module.__name__):
        watch.run("transfer", work)
        await until_idle(watch)
    assert "was given up" in caplog.text


@pytest.mark.anyio
async def test_all_ends_with_the_gateway() -> None:
    watch = Watch()

    async def never() -> None:
        await asyncio.Event().wait()

    async def not_yet() -> bool:
        return False

    watch.run("one", never)
    watch.follow("two", not_yet)
    watch.run("three", never)
    await watch.stop("three")
    await watch.close()
    await until_idle(watch)


@pytest.mark.anyio
async def test_the_last_error_is_known_until_the_work_succeeds() -> None:
    watch = Watch()

    async def fails() -> None:
        raise Unavailable("later")

    async def works() -> None:
        pass

    for number in range(module.MOST_FAILED):
        watch.run(f"transfer {number}", fails)
    watch.run("other", works)
    await until_idle(watch)
    assert [watch.failed(one) for one in ("transfer 0", "transfer 1", "other")] == ["later", "later", None]
    watch.run("other", fails)
    await until_idle(watch)
    assert (watch.failed("other"), watch.failed("transfer 0")) == ("later", None)  # the oldest is forgotten
    watch.run("other", works)
    await until_idle(watch)
    await watch.stop("transfer 1")
    assert (watch.failed("other"), watch.failed("transfer 1")) == (None, None)
