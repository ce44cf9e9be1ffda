"""Patterns of names that are included or excluded. No I/O.

A pattern without a slash is compared with the name, one with a slash with the path below the root. `*`, `?` and `[…]`
match within a name, `**` any number of folders. One that ends with a slash matches folders only.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_ANY: Final = None  # **
MOST_ANY: Final = 8  # separate ** of a pattern
# Of all patterns of one list: the time to parse them grows with the wildcards, that to match a name with the length.
MOST_WILDCARDS: Final = 1000  # `*` and `[`
MOST_CHARACTERS: Final = 8192
States = frozenset[int]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern: an automaton whose states are places in `parts`. It reads a path name by name."""

    parts: tuple[re.Pattern[str] | None, ...]
    folders_only: bool

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Parse a pattern. Raises ValueError for one with more than MOST_ANY separate `**`."""
        body = text.rstrip("/")
        names = body.lstrip("/").split("/")
        if "/" not in body:
            names = ["**", *names]
        kept = [name for number, name in enumerate(names) if name != "**" or names[number - 1 : number] != ["**"]]
        if kept.count("**") > MOST_ANY:
            raise ValueError(f"The pattern {text} has too many `**`: {MOST_ANY} are possible")
        parts = tuple(_ANY if name == "**" else re.compile(fnmatch.translate(name)) for name in kept)
        return cls(parts, text.endswith("/"))

    @property
    def is_name(self) -> bool:
        """Whether it matches names, in any folder."""
        return len(self.parts) == 2 and self.parts[0] is _ANY and self.parts[1] is not _ANY

    def after(self, states: States, name: str) -> States:
        """The states after one more name; there are at most two for each `**`."""
        found = set()
        for place in states:
            if place < len(self.parts):
                part = self.parts[place]
                if part is _ANY:
                    found.add(place)
                elif part.match(name):
                    found.add(place + 1)
        return self._closed(found)

    def begin(self) -> States:
        """The states before the first name."""
        return self._closed({0})

    def matches(self, states: States, *, folder: bool) -> bool:
        """Whether the path that has led to these states matches."""
        return len(self.parts) in states and (folder or not self.folders_only)

    def _closed(self, places: set[int]) -> States:
        """The places, and those behind every `**`, which may stand for nothing."""
        for place in list(places):
            if place < len(self.parts) and self.parts[place] is _ANY:
                places.add(place + 1)
        return frozenset(places)


class Matcher:
    """Some patterns, of which one has to match. The states in each folder above the last path are kept.

    Entries come folder by folder, so each folder's name is read once.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        """Parse the patterns. Raises ValueError for one that Pattern refuses, and if they are too long together."""
        if sum(map(len, patterns)) > MOST_CHARACTERS:
            raise ValueError(f"The patterns are too long: {MOST_CHARACTERS} characters together are possible")
        if sum(text.count("*") + text.count("[") for text in patterns) > MOST_WILDCARDS:
            raise ValueError(f"The patterns have too many wildcards: {MOST_WILDCARDS} together are possible")
        parsed = [Pattern.of(text) for text in patterns]
        self._slow = [one for one in parsed if not one.is_name]
        # most patterns are those of names: all of them are one expression
        names = [one for one in parsed if one.is_name]
        self._names = (_joined(one for one in names if not one.folders_only), _joined(names))  # for files, for folders
        self._folders: list[tuple[str, Sequence[States]]] = [("", [one.begin() for one in self._slow])]

    def matches(self, path: bytes, *, folder: bool) -> bool:
        """Whether one of the patterns matches a path."""
        *above, last = os.fsdecode(path).split("/")
        names = self._names[folder]
        if names is not None and names.match(last):
            return True
        states = self._enter(above)
        return any(
            one.matches(one.after(before, last), folder=folder) for one, before in zip(self._slow, states, strict=True)
        )

    def _enter(self, names: Sequence[str]) -> Sequence[States]:
        """The states in a folder."""
        folders, same = self._folders, 0
        if not self._slow:
            return ()
        while same < min(len(names), len(folders) - 1) and folders[same + 1][0] == names[same]:
            same += 1
        del folders[same + 1 :]
        for name in names[same:]:
            before = folders[-1][1]
            folders.append((name, [one.after(was, name) for one, was in zip(self._slow, before, strict=True)]))
        return folders[-1][1]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries take part: none that is excluded; with `include` only files that it matches."""

    include: Matcher | None = None
    exclude: Matcher | None = None

    @classmethod
    def of(cls, include: Sequence[str], exclude: Sequence[str]) -> Filter:
        """Parse the patterns. Raises ValueError, see Matcher."""
        return cls(Matcher(include) if include else None, Matcher(exclude) if exclude else None)

    def __bool__(self) -> bool:
        return self.include is not None or self.exclude is not None

    def takes(self, path: bytes, *, folder: bool) -> bool:
        """Whether an entry takes part. Nothing below an excluded folder does: it is not asked for."""
        if self.exclude is not None and self.exclude.matches(path, folder=folder):
            return False
        return folder or self.include is None or self.include.matches(path, folder=False)


def _joined(patterns: Iterable[Pattern]) -> re.Pattern[str] | None:
    """One expression for patterns of names; None without any."""
    texts = [part.pattern for one in patterns if (part := one.parts[1]) is not None]
    return re.compile("|".join(texts)) if texts else None
