"""Directory listings over SFTP: entries are read in bulk, links resolved together. One bad entry fails no listing."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flamecrest.server.files.remote.times import local_time, whole_time
from flamecrest.server.files.values import ListingEntry, kind_letter, permission_letters
from flamecrest.server.ssh.channels.sftp_packets import Attrs, Name, SftpError, make

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from datetime import tzinfo

    from flamecrest.server.files.values import ListOptions
    from flamecrest.server.ssh.channels.sftp import Sftp

AHEAD = 2  # READDIR requests in flight
AHEAD_MORE = 8  # the same in a large directory
KEPT_TIMES = 1024  # formatted times in the cache: files written together share few times


@dataclass(frozen=True, slots=True)
class Listing:
    """One listing: the options, and what many entries share, which is computed once."""

    sftp: Sftp
    owner: Callable[[int, int], Awaitable[tuple[str, str]]]  # looks up the names of a uid and a gid
    learn: Callable[[int, int, tuple[str, str]], None]  # caches names that the server sent
    followed: Callable[[bytes], Awaitable[Attrs | None]]  # a link's target by the agent, None if there is none
    zone: tzinfo
    options: ListOptions
    _letters: dict[int, tuple[str, str]] = field(default_factory=dict)  # by mode
    _times: dict[tuple[int, bytes], tuple[int, str]] = field(default_factory=dict)  # by 32 bits and end of the date
    _owners: dict[tuple[int | None, int | None], tuple[str, str]] = field(default_factory=dict)  # by uid and gid

    async def directory(self, handle: bytes, path: bytes, prefix: str = "") -> AsyncGenerator[list[ListingEntry], None]:
        """Yield the entries of an open directory in batches; `prefix` is put before each name."""
        async with aclosing(_batches(self.sftp, handle)) as batches:
            async for batch in batches:
                if self.options.hidden:
                    shown = [name for name in batch if name.name not in {b".", b".."}]
                else:
                    shown = [name for name in batch if not name.name.startswith(b".")]
                if shown:
                    yield await self._entries(shown, path, prefix)

    async def tree(self, handle: bytes, path: bytes) -> AsyncGenerator[list[ListingEntry], None]:
        """Yield the entries of a directory tree. Links are not followed; unreadable directories are omitted."""
        folders: list[str] = []
        async with aclosing(self.directory(handle, path)) as batches:
            async for batch in batches:
                folders += [entry.name for entry in batch if entry.kind == "d"]
                yield batch
        while folders:
            name = folders.pop()
            async with aclosing(self._deeper(path.rstrip(b"/") + b"/" + os.fsencode(name), name)) as batches:
                async for batch in batches:
                    folders += [entry.name for entry in batch if entry.kind == "d"]
                    yield batch

    async def _deeper(self, path: bytes, name: str) -> AsyncGenerator[list[ListingEntry], None]:
        with suppress(SftpError):
            if self.options.dereference and kind_letter((await self.sftp.lstat(path)).mode or 0) == "l":
                return
            async with (
                self.sftp.handle(self.sftp.opendir(path)) as handle,
                aclosing(self.directory(handle, path, name + "/")) as batches,
            ):
                async for batch in batches:
                    yield batch

    async def _entries(self, names: Sequence[Name], path: bytes, prefix: str) -> list[ListingEntry]:
        if not self.options.numeric:
            # one entry of each owner is enough
            for ids, name in {name.attrs[1:3]: name for name in names}.items():
                if ids not in self._owners:
                    self._owners[ids] = _named(name)
                    self.learn(*_ids(name.attrs), self._owners[ids])
        links = [name for name in names if stat.S_ISLNK(name.attrs.mode or 0)]
        base = path.rstrip(b"/") + b"/"
        followed: dict[bytes, Attrs] = {}
        targets: dict[bytes, str] = {}
        owners: dict[tuple[int, int], tuple[str, str]] = {}
        if links and self.options.dereference:
            answers = await asyncio.gather(*(self._target(base + link.name) for link in links), return_exceptions=True)
            followed = {link.name: a for link, a in zip(links, answers, strict=True) if isinstance(a, Attrs)}
            if not self.options.numeric:
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
        if not links:
            return [self._entry(name, name.attrs, None, None, prefix) for name in names]
        return [
            self._entry(name, attrs, owners.get(_ids(attrs)), targets.get(name.name), prefix)
            for name in names
            for attrs in (followed.get(name.name, name.attrs),)
        ]

    def _entry(
        self, name: Name, attrs: Attrs, owner: tuple[str, str] | None, target: str | None, prefix: str
    ) -> ListingEntry:
        # positional arguments and few calls: this runs for each of 100,000 entries
        size, uid, gid, mode, _, mtime = attrs
        if attrs is not name.attrs and owner:
            user, group = owner
        elif self.options.numeric or attrs is not name.attrs:
            user, group = str(uid or 0), str(gid or 0)
        else:
            user, group = self._owners[uid, gid]
        kind, permissions = self._letters.get(mode or 0) or self._lettered(mode or 0)
        when = (mtime or 0, name.longname[-6 - len(name.name) : -1 - len(name.name)] if attrs is name.attrs else b"")
        mtime, modified = self._times.get(when) or self._timed(when)
        shown = prefix + name.name.decode("utf-8", "surrogateescape")
        return make(ListingEntry, (shown, kind, permissions, user, group, size or 0, modified, target, mtime))

    async def _target(self, path: bytes) -> Attrs:
        found = await self.followed(path)
        return await self.sftp.stat(path) if found is None else found

    def _lettered(self, mode: int) -> tuple[str, str]:
        letters = self._letters[mode] = (kind_letter(mode), permission_letters(mode))
        return letters

    def _timed(self, when: tuple[int, bytes]) -> tuple[int, str]:
        if len(self._times) >= KEPT_TIMES:
            self._times.clear()
        seconds = whole_time(*when)
        timed = self._times[when] = (seconds, local_time(seconds, self.zone))
        return timed


def _named(name: Name) -> tuple[str, str]:
    """Return user and group from the server's `ls -l` line of the entry."""
    words = name.longname.split(None, 4)
    if len(words) < 5:
        uid, gid = _ids(name.attrs)
        return str(uid), str(gid)
    return words[2].decode("utf-8", "replace"), words[3].decode("utf-8", "replace")


def _ids(attrs: Attrs) -> tuple[int, int]:
    return attrs.uid or 0, attrs.gid or 0


async def _batches(sftp: Sftp, handle: bytes) -> AsyncGenerator[list[Name], None]:
    """Yield the answers to READDIR until the end of the directory, with some requests ahead."""
    ahead = AHEAD
    asked = [sftp.readdir(handle) for _ in range(ahead)]
    try:
        while asked:
            batch = await asked.pop(0)
            if not batch:
                return
            asked += [sftp.readdir(handle) for _ in range(ahead - len(asked))]
            ahead = AHEAD_MORE
            yield batch
    finally:
        for future in asked:
            sftp.forget(future)
