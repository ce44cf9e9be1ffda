"""The JSON that the commands of OpenPBS print, read as text values.

The programs guess the type of a value from its text, and versions up to 23.06.06 print invalid JSON for some values of
users (`inf`, `.5`, backslashes, bytes that are not ASCII). One such job must not hide all others, so numbers are kept
as their text, and a document that is no JSON is read line by line: every version prints one key per line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Entry = Mapping[str, Any]  # a value is text, another Entry, or a list of texts

_LINE: Final = re.compile(r'^[ \t]*"(?P<key>(?:[^"\\]|\\.)*)"[ \t]*:[ \t]*(?P<value>.*?)\r?$', re.DOTALL)
_CLOSING: Final = re.compile(r"^[ \t]*[}\]],?\r?$")
_ITEM: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_MAX_DEPTH: Final = 20


def parse_section(printed: bytes, section: str) -> dict[str, Entry]:
    """The entries of a section (`Jobs`, `Queue`, `nodes`, `Server`) by their names; empty if it is missing."""
    text = printed.decode("utf-8", "replace")
    try:
        document = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        document = _read_lines(text)
    found = document.get(section) if isinstance(document, dict) else None
    if not isinstance(found, dict):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)}


def text_of(entry: Entry, key: str) -> str | None:
    """A value as text; None if it is missing or no single value."""
    value = entry.get(key)
    return value if isinstance(value, str) else None


def number_of(entry: Entry, key: str) -> int | None:
    """A value as an integer; None if it is missing or none."""
    value = text_of(entry, key)
    return int(value) if value is not None and re.fullmatch(r"-?[0-9]{1,18}", value) else None


def part_of(entry: Entry, key: str) -> Entry:
    """A value that has values of its own; empty if it is missing."""
    value = entry.get(key)
    return value if isinstance(value, dict) else {}


def _read_lines(text: str) -> dict[str, Any]:
    """Read one key per line; lines that are none belong to the value before and are dropped."""
    root: dict[str, Any] = {}
    stack = [root]
    for line in text.split("\n"):
        found = _LINE.match(line)
        if found is not None:
            value = found["value"].removesuffix(",")
            key = _unescape(found["key"])
            if value == "{":
                inner: dict[str, Any] = {}
                stack[-1][key] = inner
                if len(stack) < _MAX_DEPTH:
                    stack.append(inner)
            elif value.startswith("["):
                stack[-1][key] = list(_items(text, value, line))
            else:
                stack[-1][key] = _scalar(value)
        elif _CLOSING.match(line) and "}" in line and len(stack) > 1:
            stack.pop()
    return root


def _items(text: str, value: str, line: str) -> Iterator[str]:
    """The texts of a list, on one line or on several."""
    if not value.endswith("]"):
        start = text.find(line)
        value = text[start + line.find("[") : text.find("]", start)]
    return (_unescape(item) for item in _ITEM.findall(value))


def _scalar(value: str) -> Any:
    if value == "{}":
        return {}
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return _unescape(value[1:-1])
    return value


def _unescape(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        if found[1] is not None:
            return chr(int(found[1], 16))
        return _ESCAPES.get(found[2], found[2])

    return _ESCAPE.sub(one, text)
