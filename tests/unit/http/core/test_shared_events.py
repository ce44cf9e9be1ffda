"""Events of shared lists: many streams of one user make them once."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from flamecrest.server.http.core.shared_events import Events
from flamecrest.server.schedulers.values import SharedList

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Thing = tuple[str, str]


async def read() -> Sequence[Thing]:
    return []


async def wait(_: float) -> None:
    return


def test_streams_share_the_events_of_what_has_changed() -> None:
    shown: list[Thing] = []

    def show(thing: Thing) -> Mapping[str, str]:
        shown.append(thing)
        return {thing[0]: thing[1]}

    events = Events("thing", read, wait, lambda one: one[0], lambda one: one[1], show)
    before = SharedList([("a", "1"), ("b", "1")])
    now = SharedList([("a", "2"), ("b", "1"), ("c", "1")])
    first = events.news(before, now)
    assert [line for line in first.splitlines() if line.startswith(b"data")] == [b'data: {"a":"2"}', b'data: {"c":"1"}']
    assert events.news(before, now) is first
    assert shown == [("a", "2"), ("c", "1")]
    older = SharedList([("a", "2"), ("b", "1")])  # of a stream that has missed a list
    assert events.news(older, now).count(b"data: ") == 1
    assert events.news(now, now) == b""
    assert events.news(list(before), now).count(b"data: ") == 2
    del older
    gc.collect()
    assert now.news is not None
    assert now.news[0]() is None  # lists do not keep those before them
