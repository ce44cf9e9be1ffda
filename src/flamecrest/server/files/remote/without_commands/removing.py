"""Remove a directory tree over SFTP, where nobody else can put a link in the way meanwhile.

SFTP knows paths only: a directory that another user replaces by a link would lead the removal elsewhere. rm(1) works on
open directories, which cannot be replaced. So a tree is removed here only if every directory above it belongs to the
user or root and cannot be changed by others, and those within it belong to the user; their rights are narrowed first.
"""

from __future__ import annotations

import asyncio
import secrets
import stat as stat_bits
from typing import TYPE_CHECKING

from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.ssh.channels.sftp_packets import Attrs, SftpError

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp

OTHERS_WRITE = stat_bits.S_IWGRP | stat_bits.S_IWOTH


class Unsafe(Exception):
    """Other users could lead the removal elsewhere. What was removed until then is gone."""


async def remove_tree(sftp: Sftp, path: bytes) -> None:
    """Remove a directory tree. Raises Unsafe, or the error of the first entry that cannot be removed."""
    above, _, name = path.rpartition(b"/")
    try:
        above = (await sftp.realpath(above or b"/"))[0].name.rstrip(b"/")
        me = await _own_uid(sftp, above)
        await _check_above(sftp, above, me)
        root = above + b"/" + name
        attrs = await sftp.lstat(root)
    except SftpError as error:
        raise _refused(error, path) from None
    tree = _Tree(sftp, me)
    try:
        await tree.remove(root, attrs)
    finally:
        tree.restore()


async def _own_uid(sftp: Sftp, folder: bytes) -> int | None:
    """The user's id, which SFTP shows in what the user creates."""
    probe = folder + b"/.flamecrest-upload-" + secrets.token_hex(8).encode()
    await sftp.mkdir(probe, Attrs(mode=0o700))
    found, _ = await asyncio.gather(sftp.lstat(probe), sftp.rmdir(probe))
    return found.uid


async def _check_above(sftp: Sftp, folder: bytes, me: int | None) -> None:
    parts = folder.split(b"/")
    places = [b"/".join(parts[: n + 1]) or b"/" for n in range(len(parts))]
    for attrs in await asyncio.gather(*map(sftp.lstat, places)):
        mode = attrs.mode or 0
        changeable = mode & OTHERS_WRITE and not mode & stat_bits.S_ISVTX
        if not stat_bits.S_ISDIR(mode) or attrs.uid not in {0, me} or changeable:
            raise Unsafe


class _Tree:
    """The directories of one removal: those that are open, innermost last, and the modes of those that were changed."""

    def __init__(self, sftp: Sftp, me: int | None) -> None:
        self._sftp = sftp
        self._me = me
        self._modes: dict[bytes, int] = {}

    async def remove(self, root: bytes, attrs: Attrs) -> None:
        left: list[tuple[bytes, Attrs | None]] = [(root, attrs)]
        while left:
            path, found = left.pop()
            if found is None:  # it is empty now
                await self._done(self._sftp.rmdir(path), path)
                self._modes.pop(path, None)
            elif found.uid == self._me:
                left.append((path, None))
                left += await self._emptied(path, found)
            else:
                try:
                    await self._sftp.rmdir(path)
                except SftpError:
                    raise Unsafe from None

    async def _emptied(self, path: bytes, attrs: Attrs) -> list[tuple[bytes, Attrs]]:
        """Remove what is in a directory; returns the directories in it, which are left."""
        mode = stat_bits.S_IMODE(attrs.mode or 0)
        if mode & OTHERS_WRITE:
            self._modes[path] = mode
            await self._done(self._sftp.setstat(path, Attrs(mode=mode & ~OTHERS_WRITE)), path)
        folders: list[tuple[bytes, Attrs]] = []
        others: list[bytes] = []
        try:
            async with self._sftp.handle(self._sftp.opendir(path)) as handle:
                while batch := await self._sftp.readdir(handle):
                    for entry in batch:
                        if entry.name in {b".", b".."}:
                            continue
                        inner = path + b"/" + entry.name
                        if stat_bits.S_ISDIR(entry.attrs.mode or 0):
                            folders.append((inner, entry.attrs))
                        else:
                            others.append(inner)
        except SftpError as error:
            raise _refused(error, path) from None
        for at in range(0, len(others), 256):
            part = others[at : at + 256]
            results = await asyncio.gather(*map(self._sftp.remove, part), return_exceptions=True)
            for inner, result in zip(part, results, strict=True):
                if isinstance(result, BaseException):
                    raise _refused(result, inner) from None
        return folders

    async def _done(self, request: asyncio.Future[None], path: bytes) -> None:
        try:
            await request
        except SftpError as error:
            raise _refused(error, path) from None

    def restore(self) -> None:
        """Give the directories that stay their modes again. Does not wait: the caller may be cancelled."""
        for path, mode in self._modes.items():
            self._sftp.forget(self._sftp.setstat(path, Attrs(mode=mode)))


def _refused(error: BaseException, path: bytes) -> BaseException:
    if not isinstance(error, SftpError):
        return error
    return operation_error(error, f"rm: cannot remove '{path.decode('utf-8', 'replace')}'")
