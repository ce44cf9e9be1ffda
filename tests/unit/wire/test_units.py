"""Sizes, durations and times with units."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from flamecrest.wire.units import read_duration, read_size, read_time


@pytest.mark.parametrize(
    ("text", "mib"),
    [("4GiB", 4096), ("4G", 4096), ("4g", 4096), ("500MB", 477), ("1.5GiB", 1536), ("1 TiB", 1 << 20), ("1MiB", 1),
     ("1kB", 1), ("1B", 1), ("2097152B", 2), ("1GB", 954), ("0.5k", 1)],
)  # fmt: skip
def test_sizes(text: str, mib: int) -> None:
    assert read_size(text) == mib


@pytest.mark.parametrize(
    "value", ["4", 4096, 4.0, True, None, "", "GiB", "-1GiB", "4 Gi B", "4GiBs", "1e3MiB", "0GiB", "2EiB", "inf",
              "4iB", "\u0664GiB", "4GiB\n4", "9" * 50 + "G"],
)  # fmt: skip
def test_invalid_sizes(value: Any) -> None:
    with pytest.raises(PydanticCustomError):
        read_size(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1h30m", 5400), ("90min", 5400), ("90s", 90), ("2d", 172800), ("1d 2h", 93600), ("PT1H30M", 5400),
     ("P1DT12H", 129600), ("P2W", 1209600), ("01:30:00", 5400), ("1-12:00:00", 129600), (90, 90),
     ("100:00:00", 360000), ("1h\n", 3600)],
)  # fmt: skip
def test_durations(value: Any, seconds: int) -> None:
    assert read_duration(value) == seconds


@pytest.mark.parametrize(
    "value", ["1:2:3:4:5", "1:30", "90", "", "P", "PT", "P1DT", "P1M", "-1h", -1, 0, "0s", 1.5, True, None, "1h30",
              "30m1h", "1:60:00", "99999d", 10**12, "infinite", "UNLIMITED", ["1h"], "1" * 99 + "s"],
)  # fmt: skip
def test_invalid_durations(value: Any) -> None:
    with pytest.raises(PydanticCustomError):
        read_duration(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("2027-01-31T08:00:00Z", 1801382400), ("2027-01-31T09:00+01:00", 1801382400), (1801382400, 1801382400),
     ("2027-01-31 03:00:00.5-0500", 1801382400)],
)  # fmt: skip
def test_times(value: Any, seconds: int) -> None:
    assert read_time(value) == seconds


@pytest.mark.parametrize(
    "value", ["2027-01-31T08:00:00", "2027-02-30T08:00:00Z", "now+1hour", "tomorrow", "", 0, -5, 10**15, True, None,
              1.5, "0001-01-01T00:00:00+23:59", "1801382400"],
)  # fmt: skip
def test_invalid_times(value: Any) -> None:
    with pytest.raises(PydanticCustomError):
        read_time(value)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text(max_size=3), max_size=2)))
def test_any_value_is_read_or_refused(value: Any) -> None:
    for read in (read_size, read_duration, read_time):
        try:
            assert read(value) > 0
        except PydanticCustomError as error:
            assert error.message()  # noqa: PT017 -- either is right
