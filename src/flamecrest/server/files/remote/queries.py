"""Looking at files without changing them: listings, attributes, text, checksums, space. It streams nothing out."""

from __future__ import annotations

import asyncio
import os
import stat as stat_bits
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Unsupported
from flamecrest.server.files.listing_filter import ALL_ENTRIES, ListingFilter
from flamecrest.server.files.remote import agent_requests
from flamecrest.server.files.remote.access import Access, close, explained
from flamecrest.server.files.remote.cluster_facts import local_time
from flamecrest.server.files.remote.commands import command_errors, quota, space
from flamecrest.server.files.remote.listing import Listing
from flamecrest.server.files.remote.reading import UNSIZED_LIMIT
from flamecrest.server.files.remote.tail import follow
from flamecrest.server.files.remote.text import TextFile
from flamecrest.server.files.remote.writing import STALL_TIMEOUT, require_regular, stall_timeout
from flamecrest.server.files.values import (
    ChecksumAlgorithm,
    DiskSpace,
    DiskUsage,
    FollowEvent,
    FollowPosition,
    ListingEntry,
    Stat,
    kind_letter,
    permission_letters,
)
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, Attrs, SftpError
from flamecrest.server.ssh.command import Command

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from datetime import tzinfo

    from flamecrest.server.files.values import PathQuotas
    from flamecrest.server.ssh.channels.sftp import Sftp

_SUMS: Mapping[ChecksumAlgorithm, tuple[str, int]] = {  # program and number of hexadecimal digits
    "md5": ("md5sum", 32),
    "sha1": ("sha1sum", 40),
    "sha256": ("sha256sum", 64),
    "sha512": ("sha512sum", 128),
    "blake2b": ("b2sum", 128),
}


class RemoteQueries(Access):
    """What can be asked about files."""

    async def ls(
        self,
        path: str,
        deadline: Deadline,
        *,
        hidden: bool = False,
        numeric: bool = False,
        recursive: bool = False,
        dereference: bool = False,
        choice: ListingFilter = ALL_ENTRIES,
    ) -> list[ListingEntry]:
        if not recursive:
            found = await self._listed(path, deadline, hidden=hidden, numeric=numeric, dereference=dereference)
            if found is not None:
                return await choice.collect(_once(found))

        async def use(sftp: Sftp) -> list[ListingEntry] | None:
            opening = await _opening(sftp, path, dereference=dereference)
            if opening is None:
                return None
            async with sftp.handle(opening) as handle:
                zone = await self._site.zone(sftp)
                listing = Listing(sftp, self._owner(deadline), self._site.learn, zone, hidden, numeric, dereference)
                async with aclosing(_batches(listing, handle, path, recursive=recursive)) as batches:
                    return await choice.collect(batches)

        entries = await self._session.sftp(use, deadline, repeatable=True)
        if entries is None:
            words = f"ls: cannot access '{path}'"
            itself = await self._entry(path, deadline, follow=dereference, numeric=numeric, words=words)
            return await choice.collect(_once([itself]))
        return entries

    @asynccontextmanager
    async def scan(
        self,
        path: str,
        deadline: Deadline,
        *,
        hidden: bool = False,
        numeric: bool = False,
        recursive: bool = False,
        dereference: bool = False,
    ) -> AsyncIterator[AsyncIterator[Sequence[ListingEntry]]]:
        async def owner(uid: int, gid: int) -> tuple[str, str]:
            return await self._site.owner(self._session, uid, gid, Deadline.after(STALL_TIMEOUT))

        async with self._session.open_sftp(deadline) as sftp:
            async with deadline.enforce("Opening the directory"):
                opening = await _opening(sftp, path, dereference=dereference)
                zone = await self._site.zone(sftp)
            if opening is None:
                words = f"ls: cannot access '{path}'"
                itself = await self._entry(path, deadline, follow=dereference, numeric=numeric, words=words)
                yield _once([itself])
                return
            async with sftp.handle(opening) as handle:
                listing = Listing(sftp, owner, self._site.learn, zone, hidden, numeric, dereference)
                async with aclosing(_batches(listing, handle, path, recursive=recursive)) as batches:
                    yield batches

    async def entry(self, path: str, deadline: Deadline) -> ListingEntry:
        return await self._entry(path, deadline, follow=False, numeric=False, words=f"ls: cannot access '{path}'")

    async def stat(self, path: str, deadline: Deadline, *, follow: bool = False) -> Stat:
        return await self._stat(path, deadline, f"stat: cannot statx '{path}'", follow=follow)

    async def kind(self, path: str, deadline: Deadline) -> str:
        words = f"file: cannot open '{path}'"
        await self._stat(path, deadline, words, follow=False)
        return await self._session.run(
            Command(("file", "-b", "--", path), command_errors.parse_file_type, repeatable=True), deadline
        )

    async def checksum(self, path: str, deadline: Deadline, *, algorithm: ChecksumAlgorithm = "sha256") -> str:
        program, digits = _SUMS[algorithm]
        words = f"{program}: {path}"
        found = await self._stat(path, deadline, words, follow=True)
        require_regular(words, Attrs(mode=found.mode))
        argv = (program, "-b", "--", path)
        command = Command(argv, lambda output: command_errors.parse_checksum(output, words, digits), repeatable=True)
        return await self._session.run(command, deadline)

    async def df(self, path: str, deadline: Deadline) -> DiskSpace:
        asked = asyncio.create_task(self._quotas(path, deadline.sub(quota.PATIENCE)))
        try:
            found = await self._space(path, deadline)
            return replace(found, quota=await asked)
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    async def _quotas(self, path: str, deadline: Deadline) -> PathQuotas | None:
        try:
            return await self._session.run(quota.command(path), deadline)
        except GatewayError:
            return None  # how full it is, is true without it

    async def _space(self, path: str, deadline: Deadline) -> DiskSpace:
        async def use(sftp: Sftp) -> DiskSpace:
            return space.of_numbers(await sftp.statvfs(os.fsencode(path)))

        try:
            return await self._sftp(use, deadline, f"df: {path}")
        except Unsupported:
            return await self._session.run(space.command(path), deadline)

    async def du(self, path: str, deadline: Deadline) -> DiskUsage:
        await self._stat(path, deadline, f"du: cannot access '{path}'", follow=False)
        return await self._session.run(space.usage_command(path), deadline)

    # --- reading text

    async def head(
        self, path: str, deadline: Deadline, *, count: int, unit: Literal["bytes", "lines"], skip: bool, limit: int
    ) -> str:
        async def use(text: TextFile) -> bytes:
            return await (text.head_bytes if unit == "bytes" else text.head_lines)(count, skip=skip)

        return await self._text(path, deadline, f"head: cannot open '{path}' for reading", limit, use)

    async def tail(
        self, path: str, deadline: Deadline, *, count: int, unit: Literal["bytes", "lines"], skip: bool, limit: int
    ) -> str:
        async def use(text: TextFile) -> bytes:
            return await (text.tail_bytes if unit == "bytes" else text.tail_lines)(count, skip=skip)

        return await self._text(path, deadline, f"tail: cannot open '{path}' for reading", limit, use)

    async def view(self, path: str, deadline: Deadline, *, offset: int, size: int) -> str:
        async def use(text: TextFile) -> bytes:
            # far behind the end servers refuse to look; a file of /proc does not say where its end is
            return await text.part(offset, size) if offset < max(text.size, UNSIZED_LIMIT) else b""

        return await self._text(path, deadline, f"view: cannot open '{path}'", size, use)

    def follow(
        self, path: str, deadline: Deadline, *, lines: int = 10, after: FollowPosition | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[FollowEvent | None]]:
        return follow(self._session, path, deadline, lines=lines, after=after)

    # --- the ways to ask

    async def _listed(
        self, path: str, deadline: Deadline, *, hidden: bool, numeric: bool, dereference: bool
    ) -> list[ListingEntry] | None:
        """The entries of a directory, if one round trip brings them."""
        zone = self._site.known_zone
        if zone is None:
            zone = await self._session.sftp(self._site.zone, deadline, repeatable=True)
        name = os.fsencode(path)
        question = agent_requests.listing(name, zone, hidden=hidden, numeric=numeric, dereference=dereference)
        return await self._session.ask(question, deadline)

    async def _entry(self, path: str, deadline: Deadline, *, follow: bool, numeric: bool, words: str) -> ListingEntry:
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
        return ListingEntry(
            name=path,
            kind=kind_letter(mode),
            permissions=permission_letters(mode),
            user=user,
            group=group,
            size=attrs.size or 0,
            modified=local_time(attrs.mtime or 0, zone),
            link_target=target,
            mtime=attrs.mtime or 0,
        )

    async def _text(
        self, path: str, deadline: Deadline, words: str, limit: int, use: Callable[[TextFile], Awaitable[bytes]]
    ) -> str:
        async def read(sftp: Sftp) -> bytes:
            found = await self._regular(sftp, path, words, deadline)
            async with sftp.handle(sftp.open_file(os.fsencode(path), FLAG_READ)) as handle:
                return await use(TextFile(sftp, handle, found.size, limit))

        try:
            data = await self._session.sftp(read, deadline, repeatable=True)
        except SftpError as error:
            raise error.explained(words) from None
        return data.decode("utf-8", "replace")


async def _opening(sftp: Sftp, path: str, *, dereference: bool) -> asyncio.Future[bytes] | None:
    """An open directory as a request that is answered; None when the path is to be listed itself."""
    name = os.fsencode(path)
    opening = sftp.opendir(name)
    found = await asyncio.gather(sftp.lstat(name), opening, return_exceptions=True)
    itself, handle = found
    if isinstance(itself, BaseException):
        close(sftp, handle)
        raise explained(itself, f"ls: cannot access '{path}'")
    link = kind_letter(itself.mode or 0) == "l" and not path.endswith("/") and not dereference
    if link or (isinstance(handle, SftpError) and not stat_bits.S_ISDIR(itself.mode or 0)):
        close(sftp, handle)
        return None
    if isinstance(handle, BaseException):
        raise explained(handle, f"ls: cannot open directory '{path}'")
    return opening


async def _batches(
    listing: Listing, handle: bytes, path: str, *, recursive: bool
) -> AsyncGenerator[Sequence[ListingEntry], None]:
    """The batches of a listing, its failures in its own words; given up when the server stops answering."""
    name = os.fsencode(path)
    async with aclosing((listing.tree if recursive else listing.directory)(handle, name)) as batches:
        while True:
            try:
                async with stall_timeout():
                    batch = await anext(batches, None)
            except SftpError as error:
                raise error.explained(f"ls: reading directory '{path}'") from None
            if batch is None:
                return
            yield batch


async def _once(entries: Sequence[ListingEntry]) -> AsyncGenerator[Sequence[ListingEntry], None]:
    yield entries
