"""The Files port over SSH: SFTP for everything it can do, commands only for what the cluster itself computes."""

from __future__ import annotations

import asyncio
import os
import re
import stat as stat_bits
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import tzinfo
from typing import TYPE_CHECKING, Literal, TypeVar

from flamecrest.server.errors import Conflict, Denied, Invalid, NotFound, Unsupported, Upstream
from flamecrest.server.files import Compression, Entry, Stat, archive, kind_letter, permission_letters
from flamecrest.server.files.listing import Listing
from flamecrest.server.files.site import Site, local_time
from flamecrest.server.files.streams import OpenDownload, regular, upload
from flamecrest.server.files.text import OpenText
from flamecrest.server.ssh import Command, Output
from flamecrest.server.ssh.sftp_packets import FAILURE, FLAG_READ, NO_SUCH_FILE, Attrs, SftpError
from flamecrest.server.ssh.stat_agent import StatError

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh import Session
    from flamecrest.server.ssh.sftp import Sftp

T = TypeVar("T")

_OCTAL = re.compile(r"0*[0-7]{1,4}", re.ASCII)
_SYMBOLIC = re.compile(r"(?:[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+,?)+(?<!,)", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\+-]{0,127}\$?", re.ASCII)


class RemoteFiles:
    """One user's files on one cluster."""

    def __init__(self, session: Session, site: Site) -> None:
        self._session = session
        self._site = site

    # --- looking

    async def ls(
        self,
        path: str,
        deadline: Deadline,
        *,
        hidden: bool = False,
        numeric: bool = False,
        recursive: bool = False,
        dereference: bool = False,
    ) -> list[Entry]:
        async def use(sftp: Sftp) -> list[Entry] | None:
            name = os.fsencode(path)
            opening = sftp.opendir(name)
            found = await asyncio.gather(sftp.lstat(name), opening, return_exceptions=True)
            itself, handle = found
            if isinstance(itself, BaseException):
                self._close(sftp, handle)
                raise _explained(itself, f"ls: cannot access '{path}'")
            link = kind_letter(itself.mode or 0) == "l" and not path.endswith("/") and not dereference
            if link or (isinstance(handle, SftpError) and not stat_bits.S_ISDIR(itself.mode or 0)):
                self._close(sftp, handle)
                return None
            if isinstance(handle, BaseException):
                raise _explained(handle, f"ls: cannot open directory '{path}'")
            async with sftp.handle(opening):
                listing = Listing(
                    sftp,
                    self._owner(deadline),
                    self._site.learn,
                    await self._site.zone(sftp),
                    hidden,
                    numeric,
                    dereference,
                )
                return await (listing.tree if recursive else listing.directory)(handle, name)

        entries = await self._session.sftp(use, deadline, repeatable=True)
        if entries is None:
            return [
                await self._entry(
                    path, deadline, follow=dereference, numeric=numeric, words=f"ls: cannot access '{path}'"
                )
            ]
        return entries

    async def entry(self, path: str, deadline: Deadline) -> Entry:
        return await self._entry(path, deadline, follow=False, numeric=False, words=f"ls: cannot access '{path}'")

    async def stat(self, path: str, deadline: Deadline, *, follow: bool = False) -> Stat:
        return await self._stat(path, deadline, f"stat: cannot statx '{path}'", follow=follow)

    async def kind(self, path: str, deadline: Deadline) -> str:
        words = f"file: cannot open '{path}'"
        await self._stat(path, deadline, words, follow=False)
        return await self._session.run(Command(("file", "-b", "--", path), _kind, repeatable=True), deadline)

    async def checksum(self, path: str, deadline: Deadline) -> str:
        words = f"sha256sum: {path}"
        found = await self._stat(path, deadline, words, follow=True)
        regular(words, Attrs(mode=found.mode))
        command = Command(("sha256sum", "-b", "--", path), lambda output: _checksum(output, words), repeatable=True)
        return await self._session.run(command, deadline)

    # --- reading

    async def head(
        self, path: str, deadline: Deadline, *, count: int, unit: Literal["bytes", "lines"], skip: bool, limit: int
    ) -> str:
        async def use(text: OpenText) -> bytes:
            return await (text.head_bytes if unit == "bytes" else text.head_lines)(count, skip=skip)

        return await self._text(path, deadline, f"head: cannot open '{path}' for reading", limit, use)

    async def tail(
        self, path: str, deadline: Deadline, *, count: int, unit: Literal["bytes", "lines"], skip: bool, limit: int
    ) -> str:
        async def use(text: OpenText) -> bytes:
            return await (text.tail_bytes if unit == "bytes" else text.tail_lines)(count, skip=skip)

        return await self._text(path, deadline, f"tail: cannot open '{path}' for reading", limit, use)

    async def view(self, path: str, deadline: Deadline, *, offset: int, size: int) -> str:
        async def use(text: OpenText) -> bytes:
            return await text.part(offset, size)

        return await self._text(path, deadline, f"view: cannot open '{path}'", size, use)

    @asynccontextmanager
    async def download(self, path: str, deadline: Deadline) -> AsyncIterator[OpenDownload]:
        words = f"download: {path}"
        async with self._session.open_sftp(deadline) as sftp:
            found = await self._regular(sftp, path, words, deadline)
            try:
                async with sftp.handle(sftp.open_file(os.fsencode(path), FLAG_READ)) as handle:
                    reader = OpenDownload(sftp, handle, found)
                    await reader.prime(deadline)
                    yield reader
            except SftpError as error:
                raise error.explained(words) from None

    async def upload(self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline) -> None:
        async with self._session.open_sftp(deadline) as sftp:
            words = f"upload: {path}"
            try:
                await upload(sftp, os.fsencode(path), words, chunks, deadline)
            except SftpError as error:
                raise error.explained(words) from None

    # --- changing

    async def chmod(self, path: str, mode: str, deadline: Deadline) -> None:
        words = f"chmod: changing permissions of '{path}'"
        if _OCTAL.fullmatch(mode):
            attrs = Attrs(mode=int(mode, 8))
            await self._sftp(lambda sftp: sftp.setstat(os.fsencode(path), attrs), deadline, words)
        elif len(mode) <= 256 and _SYMBOLIC.fullmatch(mode):
            # the umask has a say in these: the cluster's own, so its own chmod
            await self._session.run(Command(("chmod", "--", mode, path), _done), deadline)
        else:
            raise Invalid("`mode` must be octal (as 644) or symbolic (as u+x,g-w)")

    async def chown(self, path: str, owner: str, group: str, deadline: Deadline) -> None:
        for name, value in (("owner", owner), ("group", group)):
            if value and not _OWNER.fullmatch(value):
                raise Invalid(f"`{name}` is not a name or number")
        if owner or group:
            spec = f"{owner}:{group}" if group else owner
            await self._session.run(Command(("chown", "--", spec, path), _done), deadline)
        else:
            await self._stat(path, deadline, f"chown: cannot access '{path}'", follow=True)

    async def mkdir(self, path: str, deadline: Deadline, *, parents: bool = False) -> None:
        async def use(sftp: Sftp) -> None:
            try:
                await sftp.mkdir(name)
            except SftpError as error:
                if error.code == NO_SUCH_FILE and parents:
                    await _make_parents(sftp, name, words)
                    return
                await _why_not_made(sftp, name, words, error, may_exist=parents)

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
            await self._session.run(Command(("rm", "-r", "--interactive=never", "--", path), _done), deadline)

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

    # --- the ways to ask

    async def _sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, words: str) -> T:
        try:
            return await self._session.sftp(use, deadline)
        except SftpError as error:
            if error.code == FAILURE:
                # version 3 has no codes for most reasons: stat(2) knows some of them
                raise Upstream(f"{words}: the cluster refused", detail=error.message) from None
            raise error.explained(words) from None

    async def _stat(self, path: str, deadline: Deadline, words: str, *, follow: bool) -> Stat:
        try:
            numbers = await self._session.stat(path, deadline, follow=follow)
        except StatError as error:
            raise error.explained(words) from None
        dev, ino, mode, nlink, uid, gid, _, size, atime, mtime, ctime = numbers
        return Stat(mode, uid, gid, size, atime, mtime, ctime, ino, dev, nlink)

    async def _entry(self, path: str, deadline: Deadline, *, follow: bool, numeric: bool, words: str) -> Entry:
        async def use(sftp: Sftp) -> tuple[Attrs, str | None, tzinfo]:
            name = os.fsencode(path)
            zone = await self._site.zone(sftp)
            attrs = await sftp.lstat(name)
            if kind_letter(attrs.mode or 0) != "l":
                return attrs, None, zone
            if follow:
                with suppress(SftpError):  # a link that leads nowhere is still there itself
                    return await sftp.stat(name), None, zone
            names = await sftp.readlink(name)
            return attrs, os.fsdecode(names[0].name) if names else None, zone

        attrs, target, zone = await self._sftp(use, deadline, words)
        mode, uid, gid = attrs.mode or 0, attrs.uid or 0, attrs.gid or 0
        user, group = str(uid), str(gid)
        if not numeric:
            user, group = await self._site.owner(self._session, uid, gid, deadline)
        return Entry(
            name=path,
            kind=kind_letter(mode),
            permissions=permission_letters(mode),
            user=user,
            group=group,
            size=attrs.size or 0,
            modified=local_time(attrs.mtime or 0, zone),
            link_target=target,
        )

    async def _text(
        self, path: str, deadline: Deadline, words: str, limit: int, use: Callable[[OpenText], Awaitable[bytes]]
    ) -> str:
        async def read(sftp: Sftp) -> bytes:
            found = await self._regular(sftp, path, words, deadline)
            async with sftp.handle(sftp.open_file(os.fsencode(path), FLAG_READ)) as handle:
                return await use(OpenText(sftp, handle, found.size, limit))

        try:
            data = await self._session.sftp(read, deadline, repeatable=True)
        except SftpError as error:
            raise error.explained(words) from None
        return data.decode("utf-8", "replace")

    async def _regular(self, sftp: Sftp, path: str, words: str, deadline: Deadline) -> Stat:
        try:
            async with deadline.enforce("Opening the file"):
                return regular(words, await sftp.stat(os.fsencode(path)))
        except SftpError as error:
            raise error.explained(words) from None

    def _owner(self, deadline: Deadline) -> Callable[[int, int], Awaitable[tuple[str, str]]]:
        return lambda uid, gid: self._site.owner(self._session, uid, gid, deadline)

    @staticmethod
    def _close(sftp: Sftp, handle: bytes | BaseException) -> None:
        if isinstance(handle, bytes):
            sftp.forget(sftp.close_handle(handle))


def _explained(error: BaseException, words: str) -> BaseException:
    return error.explained(words) if isinstance(error, SftpError) else error


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


# --- what programs say; they run in the C locale, where a message ends in strerror's English words

_REASONS = {
    "No such file or directory": NotFound,
    "Permission denied": Denied,
    "Operation not permitted": Denied,
    "Not a directory": Invalid,
    "Is a directory": Invalid,
    "File name too long": Invalid,
    "Too many levels of symbolic links": Invalid,
    "Directory not empty": Conflict,
}


def _done(output: Output) -> None:
    if output.status == 0:
        return
    _missing(output)
    said = output.errors().splitlines()
    first = said[0] if said else f"exit status {output.status}"
    if first.startswith(("chown: invalid", "chmod: invalid")):
        raise Invalid(first)
    raise _REASONS.get(first.rpartition(": ")[2], Upstream)(first, detail=output.errors()[:2000])


def _missing(output: Output) -> None:
    if output.status in {126, 127}:
        raise Unsupported("The program that this needs is not installed on the cluster", detail=output.errors()[:200])


def _kind(output: Output) -> str:
    _missing(output)
    text = output.stdout.decode("utf-8", "replace").strip()
    if output.status != 0 or not text:
        raise Upstream("The cluster's `file` failed", detail=f"{output.status}: {output.errors()[:200]}")
    return text


def _checksum(output: Output, words: str) -> str:
    if output.status == 0:
        # a name with a newline or backslash makes the line start with a backslash
        found = re.match(rb"\\?([0-9a-f]{64}) ", output.stdout)
        if found:
            return found[1].decode("ascii")
    _missing(output)
    reason = output.errors().rpartition(": ")[2]
    raise _REASONS.get(reason, Upstream)(f"{words}: {reason or 'failed'}", detail=f"exit status {output.status}")
