"""Locks of paths: one write after another, and no user is kept waiting by another one's write that hangs."""

from __future__ import annotations

import asyncio

import pytest

from flamecrest.server.files.remote.replacement.path_locks import PathLocks

pytestmark = pytest.mark.anyio


async def write(locks: PathLocks, user: str, done: list[str], end: asyncio.Event, name: str = "") -> None:
    async with locks.hold(b"/shared/file", user):
        done.append(name or user)
        await end.wait()


async def test_writes_of_all_users_are_made_one_after_another():
    locks, begun, end = PathLocks(60.0), list[str](), asyncio.Event()
    first = asyncio.create_task(write(locks, "ann", begun, end))
    await asyncio.sleep(0)
    others = [asyncio.create_task(write(locks, user, begun, asyncio.Event(), user)) for user in ("bob", "ann")]
    await asyncio.sleep(0.05)
    assert begun == ["ann"]
    end.set()
    await first
    while len(begun) < 2:
        await asyncio.sleep(0)
    assert begun == ["ann", "bob"]
    for one in others:
        one.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def test_a_write_of_another_user_that_hangs_is_not_waited_for():
    locks, begun, never = PathLocks(0.05), list[str](), asyncio.Event()
    hanging = [asyncio.create_task(write(locks, "mallory", begun, never)) for _ in range(3)]
    await asyncio.sleep(0)
    bob = asyncio.create_task(write(locks, "bob", begun, never))
    while "bob" not in begun:
        await asyncio.sleep(0.01)
    assert begun.count("mallory") == 1, "a user waits for that user's own writes"
    for one in (*hanging, bob):
        one.cancel()
    await asyncio.gather(*hanging, bob, return_exceptions=True)
