"""Times beyond 32 bits."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.files.remote.times import local_time, whole_time


@given(st.integers(min_value=-60_000_000_000, max_value=250_000_000_000))
def test_the_year_tells_the_era(seconds: int) -> None:
    year = local_time(seconds, ZoneInfo("Pacific/Kiritimati")).partition("-")[0]
    assert whole_time(seconds & 0xFFFFFFFF, year.rjust(5).encode()) == seconds


@pytest.mark.parametrize("when", [b"", b"10:30", b"abcde", b"12345", b"    7", b"\xff\xff\xff\xff\xff"])
def test_other_texts_change_nothing(when: bytes) -> None:
    assert whole_time(1_700_000_000, when) == 1_700_000_000


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "1970-01-01T00:00:00"),
        (-315446400, "1960-01-03T00:00:00"),
        (253402300799, "9999-12-31T23:59:59"),
        (253402300800, "10000-01-01T00:00:00"),
        (1 << 40, "36812-02-20T00:36:16"),
        (-62135596800, "0001-01-01T00:00:00"),
        (-62135596801, "0000-12-31T23:59:59"),
    ],
)
def test_any_time_can_be_shown(seconds: int, expected: str) -> None:
    assert local_time(seconds, UTC) == expected
