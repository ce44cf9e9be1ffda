"""The memory of one user's requests is limited: slow readers of large responses do not fill that of the gateway."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import Busy, Unavailable
from flamecrest.server.http.core.user_memory import COUNTED, SMALL, UserMemory
from tests.unit.http.world import World

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

UNIT = SMALL + 1
STEPS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0, 1, SMALL, UNIT, 2 * UNIT, 5 * UNIT])), max_size=30)


def request(user: str = "alice") -> dict[str, Any]:
    return {COUNTED: user}


@given(STEPS)
def test_the_requests_of_a_user_hold_no_more_than_the_limit(steps: list[tuple[int, int]]) -> None:
    memory, held = UserMemory(4 * UNIT), dict.fromkeys(range(5), 0)
    scopes = {number: request() for number in held}
    for number, size in steps:
        counted = size if size > SMALL else 0
        others = sum(held.values()) - held[number]
        try:
            memory.hold(scopes[number], size)
        except Busy:
            assert others
            assert others + counted > 4 * UNIT
        else:
            held[number] = counted
        assert sum(held.values()) <= max(4 * UNIT, *held.values())
    memory.hold(request("bob"), 4 * UNIT)  # others are not concerned
    for number, scope in scopes.items():
        memory.end(scope)
        held[number] = 0
    memory.hold(request(), 4 * UNIT)
    with pytest.raises(Busy):
        memory.hold(request(), UNIT)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc"), st.sampled_from([0, UNIT, 2 * UNIT, 5 * UNIT]))),
)
def test_all_requests_hold_no_more_than_the_total_and_nobody_is_kept_out(steps: list[tuple[int, str, int]]) -> None:
    total = 12 * UNIT
    memory = UserMemory(100 * UNIT, total)
    held: dict[tuple[int, str], int] = {}
    scopes: dict[tuple[int, str], dict[str, Any]] = {}
    for number, user, size in steps:
        key = number, user
        others = sum(held.values()) - held.get(key, 0)
        mine = sum(size for (_, name), size in held.items() if name == user) - held.get(key, 0)
        try:
            memory.hold(scopes.setdefault(key, request(user)), size)
        except Busy:
            users = {name for (_, name), size in held.items() if size} | {user}
            assert mine, "a user who holds nothing else is not above a share"
            assert mine + size > total / 2 / len(users)
            assert others + size > total / 2
        except Unavailable:
            assert others + size > total
        else:
            held[key] = size
        assert sum(held.values()) <= total
        if len({name for (_, name), size in held.items() if size}) == 1 and len(held) > 1:
            assert sum(held.values()) <= total / 2 + 5 * UNIT, "half of it is left to others"
    for scope in scopes.values():
        memory.end(scope)
    memory.hold(request(), 20 * UNIT)  # alone


async def test_who_waits_for_memory_of_others_goes_on_when_they_end() -> None:
    memory = UserMemory(total=4 * UNIT)
    first = request("bob")
    memory.hold(first, 4 * UNIT)
    waiting = asyncio.create_task(memory.reserve(request(), 2 * UNIT))
    with pytest.raises(Unavailable):
        memory.hold(request("cyd"), UNIT)
    assert not waiting.done()
    memory.end(first)
    async with asyncio.timeout(30):
        await waiting


async def test_reservations_are_made_in_order_when_there_is_room() -> None:
    memory, order = UserMemory(4 * UNIT), list[int]()
    first = request()
    memory.hold(first, 3 * UNIT)

    async def reserve(number: int, size: int) -> dict[str, Any]:
        scope = request()
        await memory.reserve(scope, size)
        order.append(number)
        return scope

    waiting = [asyncio.create_task(reserve(number, size)) for number, size in enumerate((2 * UNIT, UNIT, 4 * UNIT))]
    cancelled = asyncio.create_task(reserve(3, UNIT))
    await asyncio.sleep(0)
    assert order == []
    await memory.reserve(request("bob"), 4 * UNIT)
    cancelled.cancel()
    memory.end(first)
    async with asyncio.timeout(20):
        scopes = [await one for one in waiting[:2]]
        assert order == [0, 1]
        for scope in scopes:
            memory.end(scope)
        await waiting[2]


async def test_large_responses_wait_for_those_that_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x" * 2 * UNIT)
    for number in range(1000):
        (tmp_path / f"entry-{number}").touch()
    world = World(str(tmp_path))
    app = world.app()
    app.users.memory = UserMemory(8 * 1024 * 1024)
    unread = {COUNTED: "fireuser"}
    view = ("/filesystem/toy/ops/view", {"path": f"{tmp_path}/file"})
    async with world.client(app=app) as client:
        app.users.memory.hold(unread, 8 * 1024 * 1024)
        waiting = asyncio.create_task(client.get(view[0], params=view[1]))
        listed = await client.get("/filesystem/toy/ops/ls", params={"path": str(tmp_path)})
        assert (listed.status_code, "retry-after" in listed.headers) == (429, True)
        stat = await client.get("/filesystem/toy/ops/stat", params={"path": str(tmp_path)})
        assert stat.status_code == 200
        assert not waiting.done()
        app.users.memory.end(unread)
        assert (await waiting).status_code == 200
        listed = await client.get("/filesystem/toy/ops/ls", params={"path": str(tmp_path)})
        assert len(listed.json()["output"]) == 1001
        app.users.memory.hold(unread, 8 * 1024 * 1024)  # what the responses have held is free again


async def test_large_bodies_count_while_they_arrive(tmp_path: Path) -> None:
    world = World(str(tmp_path))
    app = world.app()
    app.users.memory = UserMemory(2 * UNIT)
    app.users.memory.hold({COUNTED: "fireuser"}, 2 * UNIT)
    async with world.client(app=app) as client:
        items = [{"path": f"{tmp_path}/{'n' * 200}", "dereference": True}] * 5000
        assert (await client.post("/filesystem/toy/bulk/stat", json={"items": items})).status_code == 429
        assert (await client.post("/filesystem/toy/bulk/stat", json={"items": items[:10]})).status_code == 200
