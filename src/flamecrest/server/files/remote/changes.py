"""The FileChanges port over SSH: modes, owners, names, directories, links, copies and archives on the cluster."""

from __future__ import annotations

import os
import re
import stat as stat_bits
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flamecrest.server.errors import Denied, Invalid, NotFound, TooLarge, Upstream
from flamecrest.server.files.remote.access import check_writable, create, run, stat_path, use_sftp
from flamecrest.server.files.remote.commands import archive, command_errors
from flamecrest.server.files.remote.commands.copying import copy
from flamecrest.server.files.remote.directories import explain_not_created, make_directories
from flamecrest.server.files.remote.rename import rename
from flamecrest.server.files.remote.times import U32_TIMES
from flamecrest.server.files.remote.without_commands.modes import changed_mode
from flamecrest.server.files.remote.without_commands.removing import Unsafe, remove_tree
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.files.values import DEFAULT_COMPRESSION, Compression, CompressOptions
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
from flamecrest.server.ssh.errors import NO_PROGRAM

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

_EXISTS = SftpError(FAILURE, "Failure")  # as the server answers where a path exists
_OCTAL = re.compile(r"0*[0-7]{1,4}", re.ASCII)
_SYMBOLIC = re.compile(r"(?:[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+,?)+(?<!,)", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\+-]{0,127}\$?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RemoteChanges:
    """The FileChanges port of one user on one cluster."""

    session: Session

    async def chmod(self, path: str, mode: str, deadline: Deadline) -> None:
        prefix = f"chmod: changing permissions of '{path}'"
        if _OCTAL.fullmatch(mode):
            name, attrs = os.fsencode(path), Attrs(mode=int(mode, 8))
            await use_sftp(self.session, lambda sftp: sftp.setstat(name, attrs), deadline, prefix, changes=name)
        elif len(mode) <= 256 and _SYMBOLIC.fullmatch(mode):
            # their result depends on the user's umask on the cluster, so chmod(1) applies them
            command = Command(("chmod", "--", mode, path), command_errors.check_success)
            try:
                await run(self.session, command, deadline, f"chmod {mode}")
            except NO_PROGRAM as error:
                if not await use_sftp(self.session, lambda sftp: _chmod(sftp, path, mode), deadline, prefix):
                    raise error from None
        else:
            raise Invalid("`mode` must be octal (as 644) or symbolic (as u+x,g-w)")

    async def chown(self, path: str, owner: str, group: str, deadline: Deadline) -> None:
        for name, value in (("owner", owner), ("group", group)):
            if value and not _OWNER.fullmatch(value):
                raise Invalid(f"`{name}` is not a name or number")
        if owner or group:
            spec = f"{owner}:{group}" if group else owner
            command = Command(("chown", "--", spec, path), command_errors.check_success)
            await run(self.session, command, deadline, "chown")
        else:
            await stat_path(self.session, path, deadline, f"chown: cannot access '{path}'", follow=True)

    async def mkdir(self, path: str, deadline: Deadline, *, parents: bool = False, exist_ok: bool = False) -> None:
        async def use(sftp: Sftp) -> None:
            try:
                await sftp.mkdir(name)
            except SftpError as error:
                if error.code == NO_SUCH_FILE and parents:
                    await make_directories(sftp, name, prefix)
                    return
                await explain_not_created(sftp, name, prefix, error, may_exist=parents or exist_ok)

        prefix = f"mkdir: cannot create directory '{path}'"
        name = os.fsencode(path.rstrip("/") or "/")
        created = await create(self.session, "directories" if parents else "directory", name, prefix, deadline)
        if created is None:
            await self.session.sftp(use, deadline)
        elif not created:
            await self.session.sftp(
                lambda sftp: explain_not_created(sftp, name, prefix, _EXISTS, may_exist=exist_ok), deadline
            )

    async def symlink(self, target: str, link: str, deadline: Deadline) -> None:
        async def use(sftp: Sftp) -> None:
            try:
                await sftp.symlink(os.fsencode(target), os.fsencode(link))
            except SftpError as error:
                await explain_not_created(sftp, os.fsencode(link), prefix, error)

        prefix = f"ln: failed to create symbolic link '{link}'"
        await self.session.sftp(use, deadline)

    async def rm(self, path: str, deadline: Deadline) -> None:
        prefix = f"rm: cannot remove '{path}'"
        plain = path.rstrip("/") or "/"
        if plain.rpartition("/")[2] in {"", ".", ".."}:
            raise Invalid(f"{prefix}: Invalid argument")

        name = os.fsencode(plain)

        async def use(sftp: Sftp) -> bool:
            attrs = await sftp.lstat(name)
            if stat_bits.S_ISDIR(attrs.mode or 0):
                return True
            if plain != path:
                raise Invalid(f"{prefix}: Not a directory")  # rm(1) would empty the directory behind a link
            await sftp.remove(name)
            return False

        above = name.rpartition(b"/")[0] or b"/"  # a link may lead to another file system
        if await use_sftp(self.session, use, deadline, prefix, changes=above):
            # without the slash: a link that takes the directory's place now is removed itself
            command = Command(("rm", "-r", "--interactive=never", "--", plain), command_errors.check_success)
            try:
                await run(self.session, command, deadline, "rm of a directory that other users could change meanwhile")
            except NO_PROGRAM as error:
                try:
                    await self.session.sftp(lambda sftp: remove_tree(sftp, name), deadline)
                except Unsafe:
                    raise error from None

    async def mv(self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False) -> None:
        prefix = f"mv: cannot move '{source}' to '{target}'"

        async def use(sftp: Sftp) -> str | None:
            return await rename(sftp, source, target, overwrite=overwrite, same_file=same_file)

        async def same_file() -> bool | None:
            old, new = (path.rstrip("/") or "/" for path in (source, target))
            here, there = [await stat_path(self.session, path, deadline, prefix, follow=False) for path in (old, new)]
            if stat_bits.S_ISLNK(here.mode):
                with suppress(NotFound, Denied):  # it leads nowhere
                    behind = await stat_path(self.session, old, deadline, prefix, follow=True)
                    if behind.ino and (behind.dev, behind.ino) == (there.dev, there.ino):
                        return True
            return (here.dev, here.ino) == (there.dev, there.ino) if here.ino else None

        refused = await use_sftp(self.session, use, deadline, prefix)
        if refused is None:
            return
        here = await stat_path(self.session, source, deadline, prefix, follow=False)
        there = await stat_path(self.session, os.path.dirname(target.rstrip("/")), deadline, prefix, follow=True)  # noqa: PTH120
        if here.dev != there.dev:
            raise Invalid(f"{prefix}: they are on different file systems; copy it, or use /transfer/mv")
        raise Upstream(f"{prefix}: the cluster refused", detail=refused)

    async def cp(
        self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False, dereference: bool = False
    ) -> None:
        command = copy(source, target, overwrite=overwrite, dereference=dereference)
        await run(self.session, command, deadline, "cp")

    async def touch(self, path: str, deadline: Deadline, *, mtime: int | None = None) -> None:
        prefix, name = f"touch: cannot touch '{path}'", os.fsencode(path)
        by_sftp = mtime is None or mtime in U32_TIMES
        new = Attrs(atime=mtime, mtime=mtime) if by_sftp and mtime is not None else None
        created = await create(self.session, "file", name, prefix, deadline)
        if created is None:
            created = await use_sftp(self.session, lambda sftp: _touched(sftp, name, new, prefix), deadline, prefix)
        elif created and new is not None:
            await use_sftp(self.session, lambda sftp: sftp.setstat(name, new), deadline, prefix)
        elif not created:
            await use_sftp(self.session, lambda sftp: _existing(sftp, name, prefix, _EXISTS), deadline, prefix)
        if created and by_sftp:
            return
        when: tuple[str, ...] = ()  # the current time of the cluster's clock
        if mtime is not None:
            atime = (await stat_path(self.session, path, deadline, prefix, follow=True)).atime
            if by_sftp and atime in U32_TIMES:
                attrs = Attrs(atime=atime, mtime=mtime)
                await use_sftp(self.session, lambda sftp: sftp.setstat(name, attrs), deadline, prefix, changes=name)
                return
            when = ("-m", "-d", f"@{mtime}")  # SFTP has 32 bits, and can't set the one without the other
        command = Command(("touch", "-c", *when, "--", path), command_errors.check_success)
        try:
            await run(self.session, command, deadline, "touch with this time")
        except NO_PROGRAM:
            if mtime is not None:
                raise
            now = int(time.time())  # of the gateway
            attrs = Attrs(atime=now, mtime=now)
            await use_sftp(self.session, lambda sftp: sftp.setstat(name, attrs), deadline, prefix, changes=name)

    async def truncate(self, path: str, size: int, deadline: Deadline) -> None:
        async def use(sftp: Sftp) -> None:
            found = require_regular(prefix, await sftp.stat(name))
            try:
                await sftp.setstat(name, Attrs(size=size))
            except SftpError as error:
                if error.code != FAILURE or size <= found.size:
                    raise
                with suppress(SftpError):
                    await check_writable(sftp, name, prefix)
                # version 3 has no code for it, and a writable file that only grows can fail for no other reason
                larger = f"truncate: cannot make '{path}' {size} bytes large"
                raise TooLarge(f"{larger}: more than the file system or your quota takes") from None

        prefix, name = f"truncate: cannot open '{path}' for writing", os.fsencode(path)
        await use_sftp(self.session, use, deadline, prefix, changes=name)

    async def compress(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        options: CompressOptions = DEFAULT_COMPRESSION,
    ) -> None:
        script = archive.compress(source, target, options)
        await run(self.session, Command(script.argv, archive.finished), deadline, "compress")

    async def extract(self, source: str, target: str, deadline: Deadline, *, compression: Compression = "gzip") -> None:
        script = archive.extract(source, target, compression=compression)
        await run(self.session, Command(script.argv, archive.finished), deadline, "extract")


async def _chmod(sftp: Sftp, path: str, symbolic: str) -> bool:
    """Apply a symbolic mode; False if that depends on more than the present mode."""
    name = os.fsencode(path)
    mode = changed_mode(symbolic, (await sftp.stat(name)).mode or 0)
    if mode is None:
        return False
    await sftp.setstat(name, Attrs(mode=mode))
    return True


async def _touched(sftp: Sftp, name: bytes, new: Attrs | None, prefix: str) -> bool:
    """Create an empty file; False if it exists."""
    try:
        # exclusive: an existing path is not opened, as it may be a FIFO
        async with sftp.handle(sftp.open_file(name, FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE)) as handle:
            if new is not None:
                await sftp.fsetstat(handle, new)
    except SftpError as error:
        await _existing(sftp, name, prefix, error)
        return False
    return True


async def _existing(sftp: Sftp, path: bytes, prefix: str, error: SftpError) -> None:
    """Return if a path exists that could not be created; else raise the reason."""
    try:
        await sftp.stat(path)
    except SftpError as nothing:
        if nothing.code != NO_SUCH_FILE:
            raise
        await explain_not_created(sftp, path, prefix, error)
        raise error from None
