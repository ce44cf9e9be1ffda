"""Cells and rows of Slurm's output."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.schedulers.slurm.fields import (
    Rows,
    count,
    decimal,
    display,
    epoch,
    exit_status,
    minutes,
    seconds,
    text,
)
from flamecrest.server.ssh.command import Output

from .recorded import output

NOTHING = [
    "",
    "UNLIMITED",
    "Partition_Limit",
    "N/A",
    "Unknown",
    "None",
    "NOT_SET",
    "INVALID",
    "(null)",
    "x",
    "1:2:3:4:5",
]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("0:00", 0),
        ("0:30", 30),
        ("10:00", 600),
        ("00:00:04", 4),
        ("1:00:00", 3600),
        ("1-02:03:04", 93784),
        ("365-00:00:00", 31536000),
        ("00:01.250", 1),
        *((cell, None) for cell in NOTHING),
    ],
)
def test_durations(cell, expected):
    assert seconds(cell) == expected


def test_durations_of_the_recorded_accounting():
    rows = output("105-sacct-cancelled-failed-dependency").text().splitlines()
    cells = [row.split("|") for row in rows[1:]]
    assert [seconds(row[-1]) for row in cells] == [600] * 6 + [120] + [600] * 2
    assert [seconds(row[6]) for row in cells] == [3, 1, 0, 0, 0, 1, 0, 1, 0]


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_is_what_it_says(days, hours, mins, secs):
    expected = ((days * 24 + hours) * 60 + mins) * 60 + secs
    assert seconds(f"{days}-{hours:02}:{mins:02}:{secs:02}") == expected
    assert days or seconds(f"{hours:02}:{mins:02}:{secs:02}") == expected


@given(st.text())
def test_no_cell_breaks_anything(cell):
    for reader in (seconds, minutes, epoch, count, decimal):
        value = reader(cell)
        assert value is None or value >= 0
    assert all(part is None or part >= 0 for part in exit_status(cell))


@pytest.mark.parametrize(("cell", "expected"), [("10", 600), ("0", 0), *((cell, None) for cell in NOTHING)])
def test_minutes(cell, expected):
    assert minutes(cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"), [("1795298291", 1795298291), ("0", None), ("2026-11-21T20:39:36", None), ("Unknown", None)]
)
def test_points_in_time(cell, expected):
    assert epoch(cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("0:0", (0, 0)),
        ("7:0", (7, 0)),
        ("0:15", (0, 15)),
        ("0", (0, 0)),
        ("1792", (7, 0)),  # squeue prints what wait(2) says
        ("9", (0, 9)),
        ("137", (0, 9)),  # with a core dump
        ("", (None, None)),
        ("N/A", (None, None)),
        ("1:x", (None, None)),
    ],
)
def test_exit_codes(cell, expected):
    assert exit_status(cell) == expected


def test_numbers_and_text():
    assert [count(cell) for cell in ("8", "1-4", " 3", "N/A", "")] == [8, 1, 3, None, None]
    assert [decimal(cell) for cell in ("0.45", "N/A", "nan", "inf", "-1")] == [0.45, None, None, None, None]
    assert [text(cell) for cell in ("a b", "(null)", "None assigned", "N/A", "None")] == ["a b", "", "", "", "None"]


SEP = "\x1fm"
ID = re.compile(r"[0-9]+")
names = st.text(max_size=12).filter(lambda name: SEP not in name)


def rows(output: str, piece: int = 65536) -> tuple[list[list[str]], int]:
    found = Rows(output, SEP, ("id", "name", "end"), ID, piece=piece)
    return [list(row.values()) for row in found], found.unreadable_rows


def lines(table: list[list[str]]) -> str:
    return "".join("".join(cell + SEP for cell in row) + "\n" for row in table)


@given(st.lists(st.tuples(st.integers(0, 999).map(str), names, names).map(list), max_size=6))
def test_no_name_breaks_a_row(table):
    assert rows(lines(table)) == (table, 0)


def test_a_talkative_shell_does_no_harm():
    assert rows("Welcome!\nto 7\n" + lines([["1", "a", "b"]])) == ([["1", "a", "b"]], 0)


@pytest.mark.parametrize("broken", [["9"], ["9", "x"], ["9", "x", "y", "z"], ["not a number", "x", "y"], ["", "", ""]])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_that_does_not_add_up_costs_only_itself(broken, place):
    good = [["1", "a", "b"], ["2", "c\n2", "d"]]
    table = [*good[:place], broken, *good[place:]]
    assert rows(lines(table)) == (good, 1)


@pytest.mark.parametrize("cut", range(1, 12))
def test_output_that_is_cut_loses_its_last_row_only(cut):
    whole = lines([["1", "a", "b"], ["2", "cc", "dd"]])
    found, unread = rows(whole[:-cut])
    assert found[0] == ["1", "a", "b"]
    assert (len(found), unread) == ((2, 0) if cut == 1 else (1, 1))


@given(st.text(alphabet="12\n\x1fm ab", max_size=60))
def test_rows_of_any_text(output):
    found, unread = rows(output)
    assert all(ID.fullmatch(row[0]) for row in found)
    assert unread >= 0


@given(st.text(alphabet="12\n\x1fm ab", max_size=60), st.integers(0, 20))
def test_rows_do_not_depend_on_the_pieces_that_are_split_at_a_time(output, piece):
    assert rows(output, piece) == rows(output)


@given(st.lists(st.lists(st.sampled_from(["1", "2", "a", "\nb", ""]), max_size=5), max_size=6), st.integers(0, 20))
def test_malformed_rows_do_not_depend_on_the_pieces(table, piece):
    assert rows(lines(table), piece) == rows(lines(table))


def test_equal_texts_of_different_jobs_are_one_object():
    first, second = (b"/home/alice".decode() for _ in range(2))
    assert first is not second
    assert text(first) is text(second)


def test_no_output_is_kept_after_it_was_parsed():
    stdout = b"x" * 5000
    before = sys.getrefcount(stdout)
    assert display(Output(0, stdout, b"")) == "x" * 5000
    assert sys.getrefcount(stdout) == before
