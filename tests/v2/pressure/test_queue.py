"""More requests than the channels of a login node can take in time, as clients see it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter

import pytest

from .place import ONE, OTHER, Place

pytestmark = [pytest.mark.anyio, pytest.mark.live, pytest.mark.timeout(170)]


async def test_a_crowd_is_told_at_once_what_cannot_be_in_time(place: Place) -> None:
    warm = await asyncio.gather(*(place.command(ONE) for _ in range(14)))
    assert [one.status_code for one in warm] == [200] * 14, "a first crowd waits: nothing is known"
    assert await place.refused("late") == 0
    begun = time.monotonic()
    await asyncio.gather(*(place.command(ONE) for _ in range(14)))
    turn = (time.monotonic() - begun) / 14  # seconds
    seconds = max(2.0, 40 * turn)
    many = min(900, math.ceil(4 * seconds / turn))  # four times as many as can be served in that time
    crowd = [asyncio.create_task(place.command(ONE, seconds)) for _ in range(many)]
    await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
    others = await asyncio.gather(*(place.get(OTHER, operation, "large") for operation in ("stat", "ls", "file")))
    assert [one.status_code for one in others] == [200] * 3, "another user's requests do not wait"
    answers = await asyncio.gather(*crowd)
    found = Counter(one.status_code for one in answers)
    # until its deadline, the login node may refuse the channels of one: those before are not closed there yet
    refused = "The login node opens no channel on your connection"
    wrong = {one.text for one in answers if one.status_code not in {200, 503, 429, 408} and refused not in one.text}
    assert not wrong, (found, wrong)
    assert found[200] >= 1, found
    late = [one for one in answers if one.status_code == 503]
    assert 1 <= len(late) <= await place.refused("late")
    for one in late:
        assert 1 <= int(one.headers["retry-after"]) <= 60
        assert one.json()["data"]["reason"] == "late"
        assert one.json()["data"]["expectedWait"] > 0
        assert "requests of yours wait already" in one.json()["message"]
    assert (await place.command(ONE)).status_code == 200, "afterwards it is as before"
