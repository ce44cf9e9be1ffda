"""Compares two folders and says what makes the one like the other: both lists are read once, in order. No I/O."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Final, Literal

from .patterns import Filter
from .program import Entry

Verb = Literal["d", "f", "l", "m", "x", "k", "!", "o"]
AT_ONCE: Final = 0.005  # seconds of comparing before other requests go on
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """`checksum`: compare content, not times. `delete`: remove what the source lacks."""

    checksum: bool = False
    delete: bool = False
    filter: Filter = field(default_factory=Filter)


@dataclass(frozen=True, slots=True)
class Step:
    """A change of the target: the letters of tree.pl, `k` remove a folder that is empty, `!` an error, `o` skipped."""

    verb: Verb
    path: bytes
    entry: Entry  # that of the source; of x and k that of the target
    new: bool = False  # there is no such entry in the target
    reason: str = ""


class _Side:
    """The entries of one side in order, without what is skipped."""

    def __init__(self, entries: AsyncIterator[Entry]) -> None:
        self._entries = entries
        self._skipped: bytes | None = None
        self.current: Entry | None = None

    async def advance(self) -> None:
        """Go to the next entry."""
        async for one in self._entries:
            if self._skipped is not None and one.path.startswith(self._skipped):
                continue
            self.current = one
            return
        self.current = None

    async def skip_below(self, path: bytes) -> None:
        """Skip what is in a folder, and the folder if it is the current entry."""
        self._skipped = path + b"/" if path else b""
        while self.current is not None and (self.current.path == path or self.current.path.startswith(self._skipped)):
            await self.advance()


class Comparison:
    """The steps that make a target like a source. Memory does not grow with the number of entries."""

    def __init__(self, source: AsyncIterator[Entry], target: AsyncIterator[Entry], options: CompareOptions) -> None:
        self._source = _Side(source)
        self._target = _Side(target)
        self._options = options
        self._folders: list[tuple[Step, bool]] = []  # open ones, and whether they must be done at their end

    async def steps(self) -> AsyncGenerator[Step]:
        """The steps in the order in which they can be made."""
        source, target = self._source, self._target
        await source.advance()
        await target.advance()
        until = time.monotonic() + AT_ONCE
        while True:
            if time.monotonic() > until:
                await asyncio.sleep(0)
                until = time.monotonic() + AT_ONCE
            here, there = source.current, target.current
            if here is not None and (there is None or here.key <= there.key):
                matching = there if there is not None and there.path == here.path else None
                before, steps = self._closed(here.path), await self._source_entry(here, matching)
            elif there is not None:
                before, steps = self._closed(there.path), await self._extra(there)
            else:
                break
            for step in (*before, *steps):
                yield step
        for step in self._closed(None):
            yield step

    def _closed(self, path: bytes | None) -> list[Step]:
        """What is left to do for folders that the path is not in."""
        steps = []
        while self._folders and (path is None or not path.startswith(self._folders[-1][0].path + b"/")):
            step, due = self._folders.pop()
            if due:
                steps.append(step)
        return steps

    def _changed(self, steps: list[Step]) -> list[Step]:
        """Note that a folder has changed: its time has to be set again."""
        if self._folders and any(step.verb in "dflx" for step in steps):
            self._folders[-1] = (self._folders[-1][0], True)
        return steps

    async def _source_entry(self, here: Entry, there: Entry | None) -> list[Step]:
        path = here.path
        if here.kind == "!" or (there is not None and there.kind == "!"):
            reason = (here if here.kind == "!" or there is None else there).text.decode("utf-8", "replace")
            await self._source.skip_below(path)
            await self._target.skip_below(path)
            return [Step("!", path, here, reason=reason)]
        if path and not self._options.filter.takes(path, folder=here.kind == "d"):
            await self._source.skip_below(path)
            await self._target.skip_below(path)
            return []
        await self._source.advance()
        if here.kind == "o":
            await self._target.skip_below(path)
            return [Step("o", path, here, reason="not a file, folder or link")]
        if there is not None and there.kind == "d" and here.kind != "d":
            await self._target.skip_below(path)
            if not self._options.delete or self._options.filter:
                return [Step("!", path, here, reason="a folder is in the way: it is replaced only with `delete`")]
            return self._changed([Step("x", path, there), self._put(here, new=True)])
        if there is not None:
            await self._target.advance()
        if here.kind == "d":
            return self._folder(here, there)
        return self._changed(self._file(here, there))

    def _folder(self, here: Entry, there: Entry | None) -> list[Step]:
        if not here.path:
            return []
        steps = []
        if there is not None and there.kind != "d":
            steps = [Step("x", here.path, there)]
        new = there is None or there.kind != "d"
        if new:
            steps.append(Step("d", here.path, here, new=True))
        due = there is None or new or not _same_time(here, there) or (here.mode ^ there.mode) & 0o3777 != 0
        self._changed(steps)
        self._folders.append((Step("m", here.path, here, new=new), due))
        return steps

    def _file(self, here: Entry, there: Entry | None) -> list[Step]:
        if there is None or there.kind != here.kind:
            return [self._put(here, new=there is None)]
        if here.kind == "l":
            return [] if here.text == there.text else [self._put(here)]
        same_time = _same_time(here, there)
        same = here.size == there.size and (here.sha256 == there.sha256 if self._options.checksum else same_time)
        if not same:
            return [self._put(here)]
        if not same_time or (here.mode ^ there.mode) & 0o777:
            return [Step("m", here.path, here)]
        return []

    @staticmethod
    def _put(here: Entry, *, new: bool = False) -> Step:
        return Step("l" if here.kind == "l" else "f", here.path, here, new=new)

    async def _extra(self, there: Entry) -> list[Step]:
        """An entry that the source does not have."""
        folder, path = there.kind == "d", there.path
        wanted = self._options.delete and self._options.filter.takes(path, folder=folder)
        if there.kind == "!" or not wanted:
            await self._target.skip_below(path)
            return []
        if folder and self._options.filter:  # it may contain what is excluded
            await self._target.advance()
            self._folders.append((Step("k", path, there), True))
            return []
        await self._target.skip_below(path)
        return self._changed([Step("x", path, there)])


def _same_time(here: Entry, there: Entry) -> bool:
    """Whether two times are equal, as far as both file systems keep them."""
    if abs(here.mtime - there.mtime) <= 1:
        return True
    whole = here.mtime % _SECOND == 0 or there.mtime % _SECOND == 0
    return whole and here.mtime // _SECOND == there.mtime // _SECOND
