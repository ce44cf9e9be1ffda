r"""Splits a long answer of slurmrestd into its jobs as it arrives: 10,000 jobs are 75 MB of JSON. No I/O.

The objects in the list of jobs all begin with the same key, so the next one is found by that key: no string can contain
it, because quotes in strings are written `\"`, and no list inside of a job has objects that begin with it. What is left
at the end is read by a JSON decoder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import orjson

_LIST: Final = re.compile(rb'"jobs"\s*:\s*\[\s*')
_FIRST: Final = re.compile(rb'\{\s*("[^"\\]{1,100}"\s*:)')
_KEY: Final = b'"user_name"'
_USER: Final = re.compile(rb'"user_name"\s*:\s*"([^"\\]*)"')
_MAX_GAP: Final = 200  # bytes of a delimiter between two objects, white space included
_MAX_OBJECT: Final = 64 * 1024 * 1024  # bytes of one job, or of what comes before the list
_DECODER: Final = json.JSONDecoder()
_SPACE: Final = " \t\r\n"


class RowSplitter:
    """Takes the bytes of an answer, and calls `take` for each job in it; see `finish` for the rest.

    With `user`, jobs of other users (`user_name`) are left out, most of them without reading them.
    """

    def __init__(self, take: Callable[[dict[str, Any]], None], user: str | None = None) -> None:
        self.size = 0  # bytes so far
        self._take = take
        self._user = None if user is None else user.encode()
        self._head: bytes | None = None  # all before the first job
        self._buffer = b""
        self._start = 0  # of the first object that is not complete
        self._searched = 0
        self._next: re.Pattern[bytes] | None = None

    def feed(self, part: bytes) -> None:
        """More bytes. Raises ValueError for an object that is no JSON."""
        self.size += len(part)
        if len(self._buffer) - self._start > _MAX_OBJECT:
            raise ValueError("no job ends")
        self._buffer = self._buffer[self._start :] + part
        self._searched -= self._start
        self._start = 0
        if self._head is None and (found := _LIST.search(self._buffer)) is not None:
            self._head, self._start = self._buffer[: found.end()], found.end()
        if self._head is None:
            return
        if self._next is None:
            first = _FIRST.match(self._buffer, self._start)
            if first is None:
                return
            self._next = re.compile(rb"\}(\s*,\s*)\{\s*" + re.escape(first[1]))
            self._searched = self._start
        for found in self._next.finditer(self._buffer, max(self._start, self._searched - _MAX_GAP)):
            self._row(self._buffer[self._start : found.start() + 1])
            self._start = found.end(1)
        self._searched = len(self._buffer)

    def finish(self) -> Any:
        """The answer with an empty list of jobs. Raises ValueError if it is no JSON."""
        if self._head is None:
            return loads(self._buffer)
        text = self._buffer[self._start :].decode("utf-8", "replace")
        return loads(self._head + text[self._decode(text) :].encode())

    def _row(self, raw: bytes) -> None:
        if self._user is not None and raw.count(_KEY) == 1:
            found = _USER.match(raw, raw.find(_KEY))
            if found is not None and found[1] and found[1] != self._user:
                return
        try:
            self._given(orjson.loads(raw))
        except orjson.JSONDecodeError:  # not UTF-8, or several objects whose first keys differ
            text = raw.decode("utf-8", "replace")
            if self._decode(text) < len(text):
                raise

    def _decode(self, text: str) -> int:
        """Read the objects in the text, and return the place behind them."""
        place = _skip(text, 0)
        while text[place : place + 1] == "{":
            row, place = _DECODER.raw_decode(text, place)
            self._given(row)
            place = _skip(text, place)
            if text[place : place + 1] == ",":
                place = _skip(text, place + 1)
        return place

    def _given(self, row: dict[str, Any]) -> None:
        user = row.get("user_name")
        if self._user is None or not isinstance(user, str) or user.encode("utf-8", "replace") in (b"", self._user):
            self._take(row)


def loads(answer: bytes) -> Any:
    """Parsed JSON. Bytes that are not UTF-8 (of a job's name) are replaced, instead of losing all jobs."""
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError:
        return orjson.loads(answer.decode("utf-8", "replace"))


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in _SPACE:
        place += 1
    return place
