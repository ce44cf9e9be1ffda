"""Slurm's values: parsing and formatting."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flamecrest.sandbox.slurm import formats
from flamecrest.sandbox.slurm.cluster import NODES
from flamecrest.sandbox.slurm.options import MAYBE, NO, YES, Options


@given(st.sets(st.integers(0, 1000), min_size=1), st.integers(0, 50))
def test_array_expression_round_trip(numbers: set[int], limit: int) -> None:
    assert formats.parse_array(formats.format_array(sorted(numbers), limit)) == (sorted(numbers), limit)


@pytest.mark.parametrize(
    ("text", "elements", "limit"),
    [("0-4%2", [0, 1, 2, 3, 4], 2), ("1-7:3", [1, 4, 7], 0), ("[3,1]", [1, 3], 0), ("5", [5], 0)],
)
def test_array_expressions(text: str, elements: list[int], limit: int) -> None:
    assert formats.parse_array(text) == (elements, limit)


@given(st.text("0123456789-,%:[]x", max_size=12))
@example("0:-1")
@example("0:0")
def test_invalid_array_expression_is_refused(text: str) -> None:
    try:
        elements, _ = formats.parse_array(text)
    except ValueError:
        return
    assert elements
    assert max(elements) <= 1000


@given(st.sets(st.sampled_from(NODES), min_size=1))
def test_node_expression_round_trip(names: set[str]) -> None:
    assert formats.parse_node_list(formats.format_node_list(sorted(names))) == sorted(names)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("5", 5),
        ("5:30", 6),
        ("1:00:00", 60),
        ("1:00:01", 61),
        ("1-0", 1440),
        ("1-2:3", 1563),
        ("2-0:0:0", 2880),
        ("UNLIMITED", 0),
    ],
)
def test_time_limits(text: str, minutes: int) -> None:
    assert formats.parse_time_limit(text) == minutes


@given(st.integers(0, 10**7))
def test_duration_round_trip(seconds: int) -> None:
    for shown in (formats.format_duration(seconds), formats.format_short_duration(seconds)):
        days, _, clock = shown.rpartition("-")
        parts = [int(part) for part in clock.split(":")]
        total = int(days or 0) * 86400 + sum(part * 60**at for at, part in enumerate(reversed(parts)))
        assert total == seconds


@given(st.integers(0, 255), st.integers(0, 64))
def test_exit_codes(code: int, number: int) -> None:
    assert formats.format_exit_code(code << 8 | number) == f"{code}:{number}"


def test_times() -> None:
    for text, seconds in (
        ("now", 0),
        ("now-24hours", -86400),
        ("now-90seconds", -90),
        ("now+2days", 172800),
        ("now-5", -5),
    ):
        before = int(time.time())
        assert before <= formats.parse_time(text) - seconds <= time.time()
    assert formats.parse_time("1795293563") == 1795293563
    at = time.localtime(1795293563)
    assert formats.parse_time(time.strftime("%Y-%m-%dT%H:%M:%S", at)) == 1795293563
    assert formats.format_time(0) == "Unknown"
    os.environ.pop("SLURM_TIME_FORMAT", None)
    assert formats.parse_time(formats.format_time(1795293563)) == 1795293563


PARSER = Options(
    "tool", {"flag": NO, "value": YES, "maybe": MAYBE, "verbose": NO, "version": NO}, {"f": "flag", "v": "value"}
)


@pytest.mark.parametrize(
    ("line", "options", "rest"),
    [
        ("--flag --value=1 x --flag", {"flag": "", "value": "1"}, ["x", "--flag"]),
        ("--value 1 -- --flag", {"value": "1"}, ["--flag"]),
        ("-fv1", {"flag": "", "value": "1"}, []),
        ("-v 1 -f -", {"value": "1", "flag": ""}, ["-"]),
        ("--val=1 --may --maybe=2", {"value": "1", "maybe": "2"}, []),
        ("--value=1 --value=2", {"value": "2"}, []),
    ],
)
def test_command_lines(line: str, options: dict[str, str], rest: list[str]) -> None:
    assert PARSER.read(line.split()) == (options, rest)


def test_options_between_other_arguments() -> None:
    assert PARSER.read(["a", "--flag", "b", "--", "-c"], mixed=True) == ({"flag": ""}, ["a", "b", "-c"])


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("--nosuch=1", "unrecognized option '--nosuch=1'"),
        ("--ver", "option '--ver' is ambiguous; possibilities: '--verbose' '--version'"),
        ("--flag=1", "option '--flag' doesn't allow an argument"),
        ("--value", "option '--value' requires an argument"),
        ("-v", "option requires an argument -- 'v'"),
        ("-fx", "invalid option -- 'x'"),
    ],
)
def test_invalid_command_lines(line: str, result: str) -> None:
    with pytest.raises(formats.CommandFailedError) as refused:
        PARSER.read(line.split())
    assert refused.value.lines == (f"tool: {result}", 'Try "tool --help" for more information')
