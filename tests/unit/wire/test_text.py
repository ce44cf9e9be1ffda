"""Encoding of arbitrary byte names in JSON."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from flamecrest.wire.text import PATH_BYTES, check_name, is_plain, percent_decode, percent_encode


@given(st.binary(min_size=1, max_size=64))
def test_any_name_round_trips(raw: bytes) -> None:
    name = os.fsdecode(raw)
    written = percent_encode(name)
    assert is_plain(written)
    assert os.fsencode(percent_decode(written)) == raw


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=64))
def test_encoded_text_is_valid_and_readable(name: str) -> None:
    assert is_plain(name)
    assert percent_encode(name) == name.replace("%", "%25")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=64))
def test_decoding_any_text_gives_a_name_or_value_error(text: str) -> None:
    try:
        percent_decode(text).encode("utf-8", "surrogateescape")
    except UnicodeError:
        raise
    except ValueError:
        pass


@pytest.mark.parametrize("text", ["%", "a%2", "%zz", "%%41", "100%", "%2\u00b2"])
def test_incomplete_escape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        percent_decode(text)


def test_impossible_names_are_refused() -> None:
    longest = "/" + "\u00e9" * ((PATH_BYTES - 1) // 2) + "x"
    assert check_name(longest) == longest
    for name in ["a\0b", longest + "x", "x" * 10_000_000]:
        with pytest.raises(PydanticCustomError):
            check_name(name)
