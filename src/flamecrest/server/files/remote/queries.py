"""The FileQueries port over SSH: attributes, listings, text, checksums and disk space."""

from __future__ import annotations

import asyncio
import os
import stat as stat_bits
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Unsupported
from flamecrest.server.files.listing_filter import ALL_ENTRIES, ListingFilter
from flamecrest.server.files.port import Files
from flamecrest.server.files.remote import agent_requests
from flamecrest.server.files.remote.access import run, stat_path, stat_regular, use_sftp
from flamecrest.server.files.remote.changes import RemoteChanges
from flamecrest.server.files.remote.commands import command_errors, quota, space
from flamecrest.server.files.remote.commands.regular_files import path_command, regular_file_command
from flamecrest.server.files.remote.content import RemoteContent
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.listing import Listing
from flamecrest.server.files.remote.reading.download import UNSIZED_LIMIT
from flamecrest.server.files.remote.reading.tail import follow
from flamecrest.server.files.remote.reading.text import TextFile
from flamecrest.server.files.remote.times import local_time
from flamecrest.server.files.remote.writing import stall_timeout
from flamecrest.server.files.values import (
    DEFAULT_LISTING,
    ChecksumAlgorithm,
    DiskSpace,
    DiskUsage,
    FollowEvent,
    FollowPosition,
    ListingEntry,
    ListOptions,
    Stat,
    TextRange,
    kind_letter,
    permission_letters,
)
from flamecrest.server.ssh.channels.agent import stat_question
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, PERMISSION_DENIED, Attrs, SftpError
from flamecrest.server.ssh.errors import StatError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from datetime import tzinfo

    from flamecrest.server.auth.port import Identity
    from flamecrest.server.files.remote.cluster_facts import ClusterFacts, UserFacts
    from flamecrest.server.files.values import PathQuotas
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.command import Output
    from flamecrest.server.ssh.port import Session, Sessions

_CHECKSUM_PROGRAMS: Mapping[ChecksumAlgorithm, tuple[str, int]] = {  # program and number of hexadecimal digits
    "md5": ("md5sum", 32),
    "sha1": ("sha1sum", 40),
    "sha256": ("sha256sum", 64),
    "sha512": ("sha512sum", 128),
    "blake2b": ("b2sum", 128),
}


@dataclass(frozen=True, slots=True)
class RemoteQueries:
    """The FileQueries port of one user on one cluster."""

    session: Session
    _cluster: ClusterFacts
    _username: str

    @property
    def facts(self) -> UserFacts:
        """What this user's login has answered about the cluster. Most requests do not need it."""
        return self._cluster.of(self._username)

    async def stat(self, path: str, deadline: Deadline, *, follow: bool = False) -> Stat:
        try:  # inlined stat_path: the most frequent request
            return Stat(*await self.session.stat(path, deadline, follow=follow))
        except StatError as error:
            raise operation_error(error, f"stat: cannot statx '{path}'") from None

    async def entry(self, path: str, deadline: Deadline) -> ListingEntry:
        return await self._entry(path, deadline, DEFAULT_LISTING)

    async def ls(
        self,
        path: str,
        deadline: Deadline,
        options: ListOptions = DEFAULT_LISTING,
        *,
        listing_filter: ListingFilter = ALL_ENTRIES,
    ) -> list[ListingEntry]:
        if not options.recursive:
            found = await self._listed_by_agent(path, deadline, options)
            if found is not None:
                return await listing_filter.collect(_single_batch(found))

        async def use(sftp: Sftp) -> list[ListingEntry] | None:
            opening = await _open_directory(sftp, path, dereference=options.dereference)
            if opening is None:
                return None
            async with sftp.handle(opening) as handle:
                listing = self._listing(sftp, deadline, await self.facts.zone(sftp), options)
                async with aclosing(_batches(listing, handle, path)) as batches:
                    return await listing_filter.collect(batches)

        entries = await self.session.sftp(use, deadline, repeatable=True)
        if entries is None:
            return await listing_filter.collect(_single_batch([await self._entry(path, deadline, options)]))
        return entries

    @asynccontextmanager
    async def scan(
        self, path: str, deadline: Deadline, options: ListOptions = DEFAULT_LISTING
    ) -> AsyncIterator[AsyncIterator[Sequence[ListingEntry]]]:
        async with self.session.open_sftp(deadline) as sftp:
            async with deadline.enforce("Opening the directory"):
                opening = await _open_directory(sftp, path, dereference=options.dereference)
                zone = await self.facts.zone(sftp)
            if opening is None:
                yield _single_batch([await self._entry(path, deadline, options)])
                return
            async with sftp.handle(opening) as handle:
                listing = self._listing(sftp, None, zone, options)
                async with aclosing(_batches(listing, handle, path)) as batches:
                    yield batches

    async def file_type(self, path: str, deadline: Deadline) -> str:
        prefix = f"file: cannot open '{path}'"
        command = path_command(("file", "-b", "--"), path, command_errors.parse_file_type, prefix)
        return await run(self.session, command, deadline, "file")

    async def checksum(self, path: str, deadline: Deadline, *, algorithm: ChecksumAlgorithm = "sha256") -> str:
        program, digits = _CHECKSUM_PROGRAMS[algorithm]
        prefix = f"{program}: {path}"

        def parse(output: Output) -> str:
            return command_errors.parse_checksum(output, prefix, digits)

        command = regular_file_command((program, "-b", "--"), path, parse, prefix)
        return await run(self.session, command, deadline, "checksum")

    async def df(self, path: str, deadline: Deadline) -> DiskSpace:
        quotas = asyncio.create_task(self._quotas(path, deadline.sub(quota.TIMEOUT)))
        try:
            found = await self._space(path, deadline)
            return replace(found, quota=await quotas)
        finally:
            quotas.cancel()
            await asyncio.gather(quotas, return_exceptions=True)

    async def du(self, path: str, deadline: Deadline) -> DiskUsage:
        return await run(self.session, space.usage_command(path, f"du: cannot access '{path}'"), deadline, "du")

    async def head(self, path: str, deadline: Deadline, part: TextRange) -> str:
        async def use(text: TextFile) -> bytes:
            return await (text.head_bytes if part.unit == "bytes" else text.head_lines)(part.count, skip=part.skip)

        return await self._text(path, deadline, f"head: cannot open '{path}' for reading", part.limit, use)

    async def tail(self, path: str, deadline: Deadline, part: TextRange) -> str:
        async def use(text: TextFile) -> bytes:
            return await (text.tail_bytes if part.unit == "bytes" else text.tail_lines)(part.count, skip=part.skip)

        return await self._text(path, deadline, f"tail: cannot open '{path}' for reading", part.limit, use)

    async def view(self, path: str, deadline: Deadline, *, offset: int, size: int) -> str:
        async def use(text: TextFile) -> bytes:
            # Servers reject offsets far past the end. The size of a file of /proc is reported as 0.
            return await text.part(offset, size) if offset < max(text.size, UNSIZED_LIMIT) else b""

        return await self._text(path, deadline, f"view: cannot open '{path}'", size, use)

    def follow(
        self, path: str, deadline: Deadline, *, lines: int = 10, after: FollowPosition | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[FollowEvent | None]]:
        return follow(self.session, path, deadline, lines=lines, after=after)

    # --- helpers

    def _listing(self, sftp: Sftp, deadline: Deadline | None, zone: tzinfo, options: ListOptions) -> Listing:
        """Return a listing. Owners and targets are looked up until the deadline, or each in `stall_timeout` seconds."""

        def until() -> Deadline:
            return deadline or Deadline.after(self.session.stall_timeout)

        async def followed(path: bytes) -> Attrs | None:
            numbers = await self.session.ask(stat_question(path, follow=True), until())
            if numbers is None:
                return None
            found = Stat(*numbers)
            return Attrs(found.size, found.uid, found.gid, found.mode, found.atime, found.mtime)

        def owner(uid: int, gid: int) -> Awaitable[tuple[str, str]]:
            return self.facts.owner(self.session, uid, gid, until())

        return Listing(sftp, owner, self.facts.learn, followed, zone, options)

    async def _listed_by_agent(self, path: str, deadline: Deadline, options: ListOptions) -> list[ListingEntry] | None:
        """Return the entries of a directory if the agent can list it in one round trip, else None."""
        zone = await self._zone(deadline)
        return await self.session.ask(agent_requests.listing(os.fsencode(path), zone, options), deadline)

    async def _zone(self, deadline: Deadline) -> tzinfo:
        if (known := self.facts.known_zone) is not None:
            return known
        return await self.session.sftp(self.facts.zone, deadline, repeatable=True)

    async def _entry(self, path: str, deadline: Deadline, options: ListOptions) -> ListingEntry:
        prefix = f"ls: cannot access '{path}'"
        found, zone = await asyncio.gather(
            stat_path(self.session, path, deadline, prefix, follow=False), self._zone(deadline)
        )
        target = None
        if kind_letter(found.mode) == "l":
            followed = None
            if options.dereference:
                with suppress(StatError):  # a dangling link is listed itself
                    followed = Stat(*await self.session.stat(path, deadline, follow=True))
            if followed is None:
                names = await use_sftp(self.session, lambda sftp: sftp.readlink(os.fsencode(path)), deadline, prefix)
                target = os.fsdecode(names[0].name) if names else None
            found = followed or found
        user, group = str(found.uid), str(found.gid)
        if not options.numeric:
            user, group = await self.facts.owner(self.session, found.uid, found.gid, deadline)
        return ListingEntry(
            name=path,
            kind=kind_letter(found.mode),
            permissions=permission_letters(found.mode),
            user=user,
            group=group,
            size=found.size,
            modified=local_time(found.mtime, zone),
            link_target=target,
            mtime=found.mtime,
        )

    async def _text(
        self, path: str, deadline: Deadline, prefix: str, limit: int, use: Callable[[TextFile], Awaitable[bytes]]
    ) -> str:
        async def read(sftp: Sftp) -> bytes:
            found = await stat_regular(sftp, path, deadline, prefix)
            async with sftp.handle(sftp.open_file(os.fsencode(path), FLAG_READ)) as handle:
                return await use(TextFile(sftp, handle, found.size, limit))

        try:
            data = await self.session.sftp(read, deadline, repeatable=True)
        except SftpError as error:
            raise operation_error(error, prefix) from None
        return data.decode("utf-8", "replace")

    async def _quotas(self, path: str, deadline: Deadline) -> PathQuotas | None:
        try:
            return await self.session.run(quota.command(path), deadline)
        except GatewayError:
            return None  # the usage of the file system is valid without quotas

    async def _space(self, path: str, deadline: Deadline) -> DiskSpace:
        async def use(sftp: Sftp) -> DiskSpace:
            return space.from_statvfs(await sftp.statvfs(os.fsencode(path)))

        try:
            return await use_sftp(self.session, use, deadline, f"df: {path}")
        except Unsupported:
            return await run(self.session, space.command(path), deadline, "df")


def remote_files(sessions: Sessions, facts: ClusterFacts, identity: Identity) -> Files:
    """The Files port of one user. `facts` has those of all users of the cluster."""
    session = sessions.of(identity)
    return Files(
        RemoteQueries(session, facts, identity.username),
        RemoteContent(session, facts.path_locks, facts.read_ahead, identity.username),
        RemoteChanges(session),
    )


async def _open_directory(sftp: Sftp, path: str, *, dereference: bool) -> asyncio.Future[bytes] | None:
    """Return the finished request that opened a directory; None if the path itself is the listing's only entry."""
    name = os.fsencode(path)
    opening = sftp.opendir(name)
    itself, handle, inside = await asyncio.gather(
        sftp.lstat(name), opening, sftp.stat(name.rstrip(b"/") + b"/."), return_exceptions=True
    )
    if isinstance(itself, BaseException):
        _close(sftp, handle)
        raise _explained(itself, f"ls: cannot access '{path}'")
    link = kind_letter(itself.mode or 0) == "l" and not path.endswith("/") and not dereference
    if link or (isinstance(handle, SftpError) and not stat_bits.S_ISDIR(itself.mode or 0)):
        _close(sftp, handle)
        return None
    if isinstance(handle, BaseException):
        raise _explained(handle, f"ls: cannot open directory '{path}'")
    if isinstance(inside, SftpError) and inside.code == PERMISSION_DENIED:
        # it may be read but not entered: the server would leave out all entries, whose attributes it can't read
        _close(sftp, handle)
        raise _explained(inside, f"ls: cannot access '{path}'")
    return opening


async def _batches(listing: Listing, handle: bytes, path: str) -> AsyncGenerator[Sequence[ListingEntry], None]:
    """Yield the entries of an open directory in batches; raises Upstream when the server stops answering."""
    name = os.fsencode(path)
    entries = listing.tree if listing.options.recursive else listing.directory
    async with aclosing(entries(handle, name)) as batches:
        while True:
            try:
                async with stall_timeout(listing.sftp):
                    batch = await anext(batches, None)
            except SftpError as error:
                raise operation_error(error, f"ls: reading directory '{path}'") from None
            if batch is None:
                return
            yield batch


def _explained(error: BaseException, prefix: str) -> BaseException:
    return operation_error(error, prefix) if isinstance(error, SftpError) else error


def _close(sftp: Sftp, handle: bytes | BaseException) -> None:
    if isinstance(handle, bytes):
        sftp.forget(sftp.close_handle(handle))


async def _single_batch(entries: Sequence[ListingEntry]) -> AsyncGenerator[Sequence[ListingEntry], None]:
    yield entries
