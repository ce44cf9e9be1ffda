"""Directory listings over SFTP: entries asked for in bulk, links resolved together, nothing lost for one bad entry."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flamecrest.server.files import Entry, kind_letter, permission_letters
from flamecrest.server.files.site import local_time
from flamecrest.server.ssh.sftp_packets import Attrs, Name, SftpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from datetime import tzinfo

    from flamecrest.server.ssh.sftp import Sftp

AHEAD = 2  # READDIR requests under way at once


@dataclass(frozen=True, slots=True)
class Listing:
    """How to list: with hidden names, ids as numbers, links followed for their attributes."""

    sftp: Sftp
    owner: Callable[[int, int], Awaitable[tuple[str, str]]]  # names for a uid and a gid
    learn: Callable[[int, int, tuple[str, str]], None]  # names that the server brought along
    zone: tzinfo
    hidden: bool
    numeric: bool
    dereference: bool

    async def directory(self, handle: bytes, path: bytes, prefix: str = "") -> list[Entry]:
        """The entries of an open directory, by name; `prefix` stands before each name."""
        entries: list[Entry] = []
        async for batch in _batches(self.sftp, handle):
            shown = [n for n in batch if n.name not in {b".", b".."} and (self.hidden or not n.name.startswith(b"."))]
            entries += await self._entries(shown, path, prefix)
        entries.sort(key=lambda entry: os.fsencode(entry.name))
        return entries

    async def tree(self, handle: bytes, path: bytes) -> list[Entry]:
        """The entries of a directory and of all below it. Links are not entered; what may not be read is left out."""
        entries = await self.directory(handle, path)
        folders = [entry.name for entry in reversed(entries) if entry.kind == "d"]
        while folders:
            name = folders.pop()
            below = path.rstrip(b"/") + b"/" + os.fsencode(name)
            try:
                if self.dereference and kind_letter((await self.sftp.lstat(below)).mode or 0) == "l":
                    continue
                async with self.sftp.handle(self.sftp.opendir(below)) as deeper:
                    found = await self.directory(deeper, below, name + "/")
            except SftpError:
                continue
            entries += found
            folders += [entry.name for entry in reversed(found) if entry.kind == "d"]
        entries.sort(key=lambda entry: os.fsencode(entry.name).split(b"/"))
        return entries

    async def _entries(self, names: Sequence[Name], path: bytes, prefix: str) -> list[Entry]:
        if not self.numeric:
            # one name of each owner is enough
            for attrs, name in {_ids(name.attrs): (name.attrs, name) for name in names}.values():
                self.learn(*_ids(attrs), self._owner(name, attrs))
        links = [name for name in names if kind_letter(name.attrs.mode or 0) == "l"]
        base = path.rstrip(b"/") + b"/"
        followed: dict[bytes, Attrs] = {}
        targets: dict[bytes, str] = {}
        owners: dict[tuple[int, int], tuple[str, str]] = {}
        if links and self.dereference:
            answers = await asyncio.gather(
                *(self.sftp.stat(base + link.name) for link in links), return_exceptions=True
            )
            followed = {link.name: a for link, a in zip(links, answers, strict=True) if isinstance(a, Attrs)}
            if not self.numeric:
                owners = {ids: await self.owner(*ids) for ids in {_ids(attrs) for attrs in followed.values()}}
        if rest := [link for link in links if link.name not in followed]:
            found = await asyncio.gather(
                *(self.sftp.readlink(base + link.name) for link in rest), return_exceptions=True
            )
            targets = {
                link.name: os.fsdecode(f[0].name)
                for link, f in zip(rest, found, strict=True)
                if isinstance(f, list) and f
            }
        return [
            self._entry(name, attrs, owners.get(_ids(attrs)), targets.get(name.name), prefix)
            for name in names
            for attrs in (followed.get(name.name, name.attrs),)
        ]

    def _entry(self, name: Name, attrs: Attrs, owner: tuple[str, str] | None, target: str | None, prefix: str) -> Entry:
        mode = attrs.mode or 0
        user, group = (attrs is not name.attrs and owner) or self._owner(name, attrs)
        return Entry(
            name=prefix + os.fsdecode(name.name),
            kind=kind_letter(mode),
            permissions=permission_letters(mode),
            user=user,
            group=group,
            size=attrs.size or 0,
            modified=local_time(attrs.mtime or 0, self.zone),
            link_target=target,
        )

    def _owner(self, name: Name, attrs: Attrs) -> tuple[str, str]:
        uid, gid = _ids(attrs)
        # the server's `ls -l` line: mode, links, user, group, ...; it is the entry's own, not its target's
        words = () if self.numeric else name.longname.split(None, 4)
        if len(words) < 5 or attrs is not name.attrs:
            return str(uid), str(gid)
        return words[2].decode("utf-8", "replace"), words[3].decode("utf-8", "replace")


def _ids(attrs: Attrs) -> tuple[int, int]:
    return attrs.uid or 0, attrs.gid or 0


async def _batches(sftp: Sftp, handle: bytes) -> AsyncIterator[list[Name]]:
    """The answers to READDIR until the directory's end, some of them asked for ahead."""
    asked = [sftp.readdir(handle) for _ in range(AHEAD)]
    try:
        while asked:
            batch = await asked.pop(0)
            if not batch:
                return
            asked.append(sftp.readdir(handle))
            yield batch
    finally:
        for future in asked:
            sftp.forget(future)
