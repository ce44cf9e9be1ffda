"""Changing files: modes, owners, names, folders, links, copies and archives. It moves no content through here."""

from __future__ import annotations

import asyncio
import os
import re
import stat as stat_bits
from typing import TYPE_CHECKING

from flamecrest.server.errors import Conflict, Invalid, TooLarge, Upstream
from flamecrest.server.files.remote.access import Access
from flamecrest.server.files.remote.commands import archive, command_errors
from flamecrest.server.files.remote.commands.copying import copy
from flamecrest.server.files.remote.rename import rename
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.files.values import Compression
from flamecrest.server.ssh.channels.sftp_packets import (
    FAILURE,
    FLAG_CREATE,
    FLAG_EXCLUSIVE,
    FLAG_WRITE,
    NO_SUCH_FILE,
    Attrs,
    SftpError,
)
from flamecrest.server.ssh.command import Command

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp

_OCTAL = re.compile(r"0*[0-7]{1,4}", re.ASCII)
_SYMBOLIC = re.compile(r"(?:[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+,?)+(?<!,)", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\+-]{0,127}\$?", re.ASCII)


class RemoteChanges(Access):
    """What can be done to files."""

    async def chmod(self, path: str, mode: str, deadline: Deadline) -> None:
        words = f"chmod: changing permissions of '{path}'"
        if _OCTAL.fullmatch(mode):
            attrs = Attrs(mode=int(mode, 8))
            await self._sftp(lambda sftp: sftp.setstat(os.fsencode(path), attrs), deadline, words)
        elif len(mode) <= 256 and _SYMBOLIC.fullmatch(mode):
            # the umask has a say in these: the cluster's own, so its own chmod
            await self._session.run(Command(("chmod", "--", mode, path), command_errors.check_success), deadline)
        else:
            raise Invalid("`mode` must be octal (as 644) or symbolic (as u+x,g-w)")

    async def chown(self, path: str, owner: str, group: str, deadline: Deadline) -> None:
        for name, value in (("owner", owner), ("group", group)):
            if value and not _OWNER.fullmatch(value):
                raise Invalid(f"`{name}` is not a name or number")
        if owner or group:
            spec = f"{owner}:{group}" if group else owner
            await self._session.run(Command(("chown", "--", spec, path), command_errors.check_success), deadline)
        else:
            await self._stat(path, deadline, f"chown: cannot access '{path}'", follow=True)

    async def mkdir(self, path: str, deadline: Deadline, *, parents: bool = False, exist_ok: bool = False) -> None:
        async def use(sftp: Sftp) -> None:
            try:
                await sftp.mkdir(name)
            except SftpError as error:
                if error.code == NO_SUCH_FILE and parents:
                    await _make_parents(sftp, name, words)
                    return
                await _why_not_made(sftp, name, words, error, may_exist=parents or exist_ok)

        words = f"mkdir: cannot create directory '{path}'"
        name = os.fsencode(path.rstrip("/") or "/")
        await self._session.sftp(use, deadline)

    async def symlink(self, target: str, link: str, deadline: Deadline) -> None:
        async def use(sftp: Sftp) -> None:
            try:
                await sftp.symlink(os.fsencode(target), os.fsencode(link))
            except SftpError as error:
                await _why_not_made(sftp, os.fsencode(link), words, error)

        words = f"ln: failed to create symbolic link '{link}'"
        await self._session.sftp(use, deadline)

    async def rm(self, path: str, deadline: Deadline) -> None:
        async def use(sftp: Sftp) -> bool:
            name = os.fsencode(path)
            attrs = await sftp.lstat(name)
            if stat_bits.S_ISDIR(attrs.mode or 0):
                return True
            await sftp.remove(name)
            return False

        if await self._sftp(use, deadline, f"rm: cannot remove '{path}'"):
            command = Command(("rm", "-r", "--interactive=never", "--", path), command_errors.check_success)
            await self._session.run(command, deadline)

    async def mv(self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False) -> None:
        async def use(sftp: Sftp) -> str | None:
            return await rename(sftp, source, target, overwrite=overwrite)

        words = f"mv: cannot move '{source}' to '{target}'"
        refused = await self._sftp(use, deadline, words)
        if refused is None:
            return
        here = await self._stat(source, deadline, words, follow=False)
        there = await self._stat(os.path.dirname(target.rstrip("/")), deadline, words, follow=True)  # noqa: PTH120
        if here.dev != there.dev:
            raise Invalid(f"{words}: they are on different file systems; copy it, or use /transfer/mv")
        raise Upstream(f"{words}: the cluster refused", detail=refused)

    async def cp(
        self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False, dereference: bool = False
    ) -> None:
        await self._session.run(copy(source, target, overwrite=overwrite, dereference=dereference), deadline)

    async def touch(self, path: str, deadline: Deadline, *, mtime: int | None = None) -> None:
        async def use(sftp: Sftp) -> bool:
            name = os.fsencode(path)
            try:
                # exclusive: what is there is not opened, it might be a FIFO
                opening = sftp.open_file(name, FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE)
                async with sftp.handle(opening) as handle:
                    if mtime is not None:
                        await sftp.fsetstat(handle, Attrs(atime=mtime, mtime=mtime))
            except SftpError as error:
                found = await _existing(sftp, name, words, error)
                if mtime is not None:
                    await sftp.setstat(name, Attrs(atime=found.atime or 0, mtime=mtime))
                return mtime is not None
            return True

        words = f"touch: cannot touch '{path}'"
        if not await self._sftp(use, deadline, words):
            # now is what the cluster's own clock says
            await self._session.run(Command(("touch", "-c", "--", path), command_errors.check_success), deadline)

    async def truncate(self, path: str, size: int, deadline: Deadline) -> None:
        async def use(sftp: Sftp) -> None:
            name = os.fsencode(path)
            found = require_regular(words, await sftp.stat(name))
            try:
                await sftp.setstat(name, Attrs(size=size))
            except SftpError as error:
                if error.code != FAILURE or size <= found.size:
                    raise
                # version 3 has no code for it; what else can be wrong with a file that may be written and only grows?
                larger = f"truncate: cannot make '{path}' {size} bytes large"
                raise TooLarge(f"{larger}: more than the file system or your quota takes") from None

        words = f"truncate: cannot open '{path}' for writing"
        await self._sftp(use, deadline, words)

    async def compress(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        compression: Compression = "gzip",
        pattern: str | None = None,
        dereference: bool = False,
    ) -> None:
        script = archive.compress(source, target, compression=compression, pattern=pattern, dereference=dereference)
        await self._session.run(Command(script.argv, archive.finished), deadline)

    async def extract(self, source: str, target: str, deadline: Deadline, *, compression: Compression = "gzip") -> None:
        script = archive.extract(source, target, compression=compression)
        await self._session.run(Command(script.argv, archive.finished), deadline)


async def _existing(sftp: Sftp, path: bytes, words: str, error: SftpError) -> Attrs:
    """What is at a path where no new file could be made; raises why not when there is nothing."""
    try:
        return await sftp.stat(path)
    except SftpError as nothing:
        if nothing.code != NO_SUCH_FILE:
            raise
    await _why_not_made(sftp, path, words, error)
    raise error


async def _make_parents(sftp: Sftp, path: bytes, words: str) -> None:
    """Make a directory and those above it that are missing, from the top, all asked for together."""
    parts = path.split(b"/")
    steps = [b"/".join(parts[: n + 1]) for n in range(1, len(parts)) if parts[n]]
    results = await asyncio.gather(*(sftp.mkdir(step) for step in steps), return_exceptions=True)
    if isinstance(results[-1], SftpError):
        await _why_not_made(sftp, path, words, results[-1], may_exist=True)
    elif isinstance(results[-1], BaseException):
        raise results[-1]


async def _why_not_made(sftp: Sftp, path: bytes, words: str, error: SftpError, *, may_exist: bool = False) -> None:
    """Find out why something could not be made: version 3 says `Failure` to most reasons."""
    try:
        existing = await sftp.lstat(path)
    except SftpError:
        existing = None
    if existing is not None:
        if may_exist and stat_bits.S_ISDIR((await sftp.stat(path)).mode or 0):
            return
        raise Conflict(f"{words}: File exists")
    if error.code != FAILURE:
        raise error.explained(words)
    try:
        above = await sftp.stat(path.rpartition(b"/")[0] or b"/")
    except SftpError as missing:
        raise missing.explained(words) from None
    if not stat_bits.S_ISDIR(above.mode or 0):
        raise Invalid(f"{words}: Not a directory")
    raise Upstream(f"{words}: the cluster refused (disk full, quota, or a read-only file system)", detail=error.message)
