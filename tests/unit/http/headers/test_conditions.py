"""Lists of entity tags: what is read of them is bounded."""

from __future__ import annotations

import pytest

from flamecrest.server.http.headers.conditions import entity_tags


def test_a_list_of_tags() -> None:
    assert entity_tags('"a", W/"b" ,, "c,d"') == ['"a"', 'W/"b"', '"c,d"']
    assert entity_tags('"a", b, "c"') == ['"a"']
    assert entity_tags("*") == ["*"]


def test_what_is_beyond_the_limit_is_not_read() -> None:
    assert len(entity_tags('"a",' * 15_000)) == 2048
    assert entity_tags("," * 60_000 + '"a"') == []


@pytest.mark.parametrize("text", ["\n", ",\n", '"a"\n', " \t\n"])
def test_a_list_ends_at_a_line_feed(text: str) -> None:
    """HTTP servers let none through; it must not be taken for the end again and again."""
    assert entity_tags(text) == []
