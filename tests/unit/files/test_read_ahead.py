"""The limits of reading ahead of slow clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import Busy
from flamecrest.server.files.read_ahead import LEAST, MOST_PER_USER, ReadAhead, Window

steps = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.integers(0, 5 * 2**20)), max_size=60)


@given(steps, st.integers(0, 16 * 2**20), st.integers(0, 32 * 2**20))
def test_no_history_exceeds_the_limits(history, per_user, total):
    whole = ReadAhead(per_user=per_user, total=total)
    windows: dict[tuple[str, int], tuple[Window, int]] = {}
    for user, number, wanted in history:
        window, before = windows.get((user, number)) or (whole.window(user), LEAST)
        if not wanted:
            window.close()
            window.close()
            windows.pop((user, number), None)
            continue
        size = window.grow(wanted)
        assert before <= size <= max(LEAST, wanted, before)
        windows[user, number] = window, size
        assert whole.used == sum(whole.used_by.values()) <= total
        assert max(whole.used_by.values(), default=0) <= per_user
    for window, _ in windows.values():
        window.close()
    assert (whole.used, +whole.used_by, +whole.transfers) == (0, {}, {})


def test_stalled_transfers_of_one_user_leave_room_to_others():
    whole = ReadAhead(per_user=4 * 2**20, total=16 * 2**20)
    for _ in range(100):
        whole.window("ann").grow(2**20)
    assert whole.used <= 4 * 2**20
    assert whole.window("bob").grow(2**20) == 2**20


def test_a_user_has_so_many_transfers_at_the_same_time():
    whole = ReadAhead()
    windows = [whole.window("ann") for _ in range(MOST_PER_USER)]
    with pytest.raises(Busy):
        whole.window("ann")
    whole.window("bob")
    windows[0].close()
    whole.window("ann")
