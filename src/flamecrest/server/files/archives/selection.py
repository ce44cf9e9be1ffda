"""Select what an archive will contain: look up paths and expand patterns over SFTP.

Patterns are those of a shell: `*`, `?` and `[...]` within a name, `**` for any number of directories (it does not
follow links); a leading dot matches a dot only. An existing path is never treated as a pattern.
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import posixpath
import re
import stat as stat_bits
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Invalid, NotFound, TooLarge
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.ssh.channels.sftp_packets import NO_SUCH_FILE, Attrs, SftpError

from .port import PathFailure, Selection

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp

WINDOW: Final = 256  # requests in flight
MAX_MATCHES: Final = 100_000
MAX_BYTES: Final = 32 * 1024 * 1024  # of all matches
MAX_FOLDERS: Final = 10_000  # directories that are read for one pattern
MAX_ENTRIES: Final = 1_000_000  # of all these directories
BATCH: Final = 2000  # entries that are matched before other tasks run
_MAGIC: Final = re.compile(rb"[*?[]")

FoundPaths = dict[bytes, bool]  # whether each path is a directory


def tidy(path: str, name: str = "paths") -> bytes:
    """Return the path without doubled slashes and dots; raises Invalid for `..`, which an archive cannot contain."""
    parts = [part for part in os.fsencode(path).split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise Invalid(f"`{name}` must not hold `..`")
    return b"/" + b"/".join(parts)


def anchor(path: bytes, *, literal: bool) -> bytes:
    """Return the directory to which a path is relative: its parent, or that of a pattern's first wildcard."""
    parts = path.split(b"/")[1:]
    wild = len(parts) - 1
    if not literal:
        wild = next((n for n, part in enumerate(parts) if _MAGIC.search(part)), wild)
    return b"/" + b"/".join(parts[:wild])


def relative(path: bytes, base: bytes) -> bytes:
    """Return the path relative to the base, as tar reads it; raises Invalid if it is not below the base."""
    if path == base:
        return b"."
    start = base.rstrip(b"/") + b"/"
    if not path.startswith(start):
        raise Invalid(f"'{os.fsdecode(path)}' is not below `base`")
    name = path[len(start) :]
    return b"./" + name if name.startswith(b"-") else name


def uncovered(found: FoundPaths) -> list[bytes]:
    """Return the paths that are not below another one of them."""
    covered = set()
    folder = None
    for path in sorted(found, key=_as_folder):  # all paths below a directory follow it
        if folder is not None and path.startswith(folder):
            covered.add(path)
        elif found[path]:
            folder = _as_folder(path)
    return [path for path in found if path not in covered]


def _as_folder(path: bytes) -> bytes:
    return path.rstrip(b"/") + b"/"


async def select(sftp: Sftp, paths: Sequence[str], base: str | None) -> Selection:
    """Look up all paths; raises NotFound if none exists."""
    asked = list(dict.fromkeys(tidy(path) for path in paths))
    root = None if base is None else tidy(base, "base")
    if root is not None:
        for path in asked:
            relative(path, root)
    found: FoundPaths = {}
    anchors, missing = [], []
    for path, answer in zip(asked, await lstats(sftp, asked), strict=True):
        wild = bool(_MAGIC.search(path))
        there = isinstance(answer, Attrs)
        anchors.append(anchor(path, literal=there or not wild))
        if isinstance(answer, Attrs):
            found[path] = _is_folder(answer)
        elif answer.code == NO_SUCH_FILE and wild:
            matches = await expand(sftp, path)
            found |= matches
            if not matches:
                missing.append(PathFailure(os.fsdecode(path), "Nothing matches the pattern"))
        else:
            missing.append(PathFailure(os.fsdecode(path), _reason(answer)))
        check_size(found)
    if not found:
        raise NotFound(f"{missing[0].path}: {missing[0].message}")
    if root is None:
        root = posixpath.commonpath(anchors)
    names = tuple(relative(path, root) for path in uncovered(found))
    return Selection(os.fsdecode(root), names, tuple(missing))


async def lstats(sftp: Sftp, paths: Sequence[bytes]) -> list[Attrs | SftpError]:
    """Return the attributes or the error of each path, in order."""
    answers: list[Attrs | SftpError] = []
    for start in range(0, len(paths), WINDOW):
        asked = (sftp.lstat(path) for path in paths[start : start + WINDOW])
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if not isinstance(answer, Attrs | SftpError):
                raise answer
            answers.append(answer)
    return answers


async def expand(sftp: Sftp, pattern: bytes) -> FoundPaths:
    """Return what a pattern matches. Unreadable directories match nothing."""
    top = anchor(pattern, literal=False)
    parts = pattern[len(top.rstrip(b"/")) + 1 :].split(b"/")
    budget = Budget()
    places: FoundPaths = {top: True}
    for n, part in enumerate(parts):
        last = n == len(parts) - 1
        if part == b"**":
            places = await _below(sftp, places, budget)
            if last:
                places.pop(top, None)
        elif _MAGIC.search(part):
            places = await _matching(sftp, places, part, budget, last=last)
        else:
            places = dict.fromkeys((place.rstrip(b"/") + b"/" + part for place in places), True)
            if last:
                answers = await lstats(sftp, list(places))
                pairs = zip(places, answers, strict=True)
                places = {path: _is_folder(found) for path, found in pairs if isinstance(found, Attrs)}
        check_size(places)
    return places


def check_size(found: FoundPaths) -> None:
    if len(found) > MAX_MATCHES:
        raise TooLarge(f"The patterns match more than {MAX_MATCHES} files")
    if sum(map(len, found)) > MAX_BYTES:
        raise TooLarge(f"The names that the patterns match have more than {MAX_BYTES} bytes")


class Budget:
    """The number of directories, and of their entries, that may still be read."""

    def __init__(self) -> None:
        self.folders = MAX_FOLDERS
        self.entries = MAX_ENTRIES

    def spend(self, *, folders: int = 0, entries: int = 0) -> None:
        self.folders -= folders
        self.entries -= entries
        if self.folders < 0:
            raise TooLarge(f"A pattern searches more than {MAX_FOLDERS} folders")
        if self.entries < 0:
            raise TooLarge(f"A pattern searches more than {MAX_ENTRIES} files")


async def _matching(sftp: Sftp, places: FoundPaths, part: bytes, budget: Budget, *, last: bool) -> FoundPaths:
    matches = re.compile(fnmatch.translate(os.fsdecode(part))).match
    found: FoundPaths = {}
    for place, entries in (await _read(sftp, places, budget)).items():
        for number, (name, attrs) in enumerate(entries):
            if number % BATCH == 0:
                await asyncio.sleep(0)
            if (name.startswith(b".") and not part.startswith(b".")) or not matches(os.fsdecode(name)):
                continue
            if last or _is_folder(attrs) or stat_bits.S_ISLNK(attrs.mode or 0):
                found[place.rstrip(b"/") + b"/" + name] = _is_folder(attrs)
    return found


async def _below(sftp: Sftp, places: FoundPaths, budget: Budget) -> FoundPaths:
    """Return the directories and all directories below them."""
    found, level = dict(places), places
    while level:
        deeper: FoundPaths = {}
        for place, entries in (await _read(sftp, level, budget)).items():
            names = (name for name, attrs in entries if _is_folder(attrs) and not name.startswith(b"."))
            deeper |= dict.fromkeys((place.rstrip(b"/") + b"/" + name for name in names), True)
        found |= deeper
        level = deeper
    return found


async def _read(sftp: Sftp, places: Iterable[bytes], budget: Budget) -> dict[bytes, list[tuple[bytes, Attrs]]]:
    paths = list(places)
    budget.spend(folders=len(paths))
    entries: dict[bytes, list[tuple[bytes, Attrs]]] = {}
    for start in range(0, len(paths), 32):
        group = paths[start : start + 32]
        found = await asyncio.gather(*(_folder(sftp, path, budget) for path in group))
        entries |= dict(zip(group, found, strict=True))
    return entries


async def _folder(sftp: Sftp, path: bytes, budget: Budget) -> list[tuple[bytes, Attrs]]:
    entries: list[tuple[bytes, Attrs]] = []
    try:
        async with sftp.handle(sftp.opendir(path)) as handle:
            while names := await sftp.readdir(handle):
                entries += [(one.name, one.attrs) for one in names if one.name not in {b".", b".."}]
                budget.spend(entries=len(names))
                if len(entries) > MAX_MATCHES:
                    raise TooLarge(f"A folder that a pattern searches has more than {MAX_MATCHES} entries")
    except SftpError:
        return []
    return sorted(entries, key=lambda entry: entry[0])


def _is_folder(attrs: Attrs) -> bool:
    return stat_bits.S_ISDIR(attrs.mode or 0)


def _reason(error: SftpError) -> str:
    return operation_error(error, "").public.removeprefix(": ")
