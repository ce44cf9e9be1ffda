"""Reads behind answers begin one after another, and no slow one holds up the others for long."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise

import pytest

from flamecrest.server.schedulers.reading.behind import ReadsBehind

from .virtual_time import now, run

PATIENCE = 2.5


class Reads:
    """Reads that take `seconds`, and when each began."""

    def __init__(self, seconds: float) -> None:
        self.behind = ReadsBehind(PATIENCE)
        self.seconds = seconds
        self.began: dict[str, float] = {}
        self.most = self._running = 0

    def add(self, user: str) -> None:
        self.behind.add(user, partial(self._read, user))

    async def _read(self, user: str) -> None:
        assert user not in self.began
        self.began[user] = now()
        self._running += 1
        self.most = max(self.most, self._running)
        await asyncio.sleep(self.seconds)
        self._running -= 1


USERS = [f"user{number}" for number in range(20)]


def test_reads_that_are_due_at_the_same_time_follow_each_other():
    async def main() -> None:
        reads = Reads(0.1)
        for user in USERS:
            reads.add(user)
        await asyncio.sleep(60)
        assert [*reads.began] == USERS
        assert reads.most == 1

    run(main())


@pytest.mark.parametrize("count", [2, 20, 1000])
def test_slow_reads_begin_evenly_within_the_patience(count: int):
    async def main() -> None:
        reads = Reads(60)
        for number in range(count):
            reads.add(f"user{number}")
        await asyncio.sleep(59)
        times = [*reads.began.values()]
        assert len(times) == count
        assert times[-1] <= PATIENCE + 0.001
        paces = [after - before for before, after in pairwise(times)]
        assert max(paces) - min(paces) < 0.001

    run(main())


def test_one_that_comes_while_a_slow_one_is_alone_waits_no_longer_than_the_patience():
    async def main() -> None:
        reads = Reads(60)
        reads.add("slow")
        await asyncio.sleep(0.1)
        reads.add("other")
        await asyncio.sleep(59)
        assert reads.began["other"] <= PATIENCE + 0.001

    run(main())


def test_a_user_waits_once_and_again_when_the_read_has_ended():
    async def main() -> None:
        reads = Reads(1)
        for _ in range(3):
            reads.add("alice")
        await asyncio.sleep(0.5)
        reads.add("alice")
        await asyncio.sleep(1)
        assert reads.began.pop("alice") == 0
        reads.add("alice")
        await asyncio.sleep(1)
        assert [*reads.began] == ["alice"]

    run(main())
