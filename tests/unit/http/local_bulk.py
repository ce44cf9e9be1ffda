"""The Bulk port on the local disk: plain tar only, no patterns. It runs the contract suite of the port."""

# ruff: noqa: ARG002, PTH118 -- the port's arguments; Path normalizes names

from __future__ import annotations

import asyncio
import io
import os
import posixpath
import stat
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flamecrest.server.errors import Invalid, NotFound, Unsupported
from flamecrest.server.files.archives import packing
from flamecrest.server.files.archives.entry_names import EntryRefused, entry_path
from flamecrest.server.files.archives.port import ArchiveFormat, PathFailure, Selection, UnpackResult
from flamecrest.server.files.archives.selection import relative, tidy
from flamecrest.server.files.archives.untar import ByteReader, TruncatedArchive, members

from .local_operations import do

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline


class LocalBulk:
    """One user's archives."""

    async def select(self, paths: Sequence[str], base: str | None, deadline: Deadline) -> Selection:
        there = await asyncio.to_thread(lambda: [path for path in paths if os.path.lexists(tidy(path))])
        found = {path: tidy(path) for path in there}
        missing = tuple(PathFailure(path, "No such file or directory") for path in paths if path not in found)
        root = tidy(base, "base") if base is not None else None
        if not found:
            raise NotFound(f"{paths[0]}: No such file or directory")
        if root is None:
            root = posixpath.commonpath([posixpath.dirname(path) for path in found.values()])
        return Selection(os.fsdecode(root), tuple(relative(path, root) for path in found.values()), missing)

    @asynccontextmanager
    async def pack(
        self, selection: Selection, form: ArchiveFormat, deadline: Deadline
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if form != "tar":
            raise Unsupported("plain tar only")

        def packed() -> bytes:
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
                for name in map(os.fsdecode, selection.names):
                    archive.add(os.path.join(selection.base, name), name.removeprefix("./"))
                end = archive.offset
            return out.getvalue()[:end]

        async def chunks() -> AsyncIterator[bytes]:
            yield await asyncio.to_thread(packed)
            yield packing.ending(selection.missing, "tar")

        yield chunks()

    async def unpack(
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, *, setuid: bool = False
    ) -> UnpackResult:
        if not stat.S_ISDIR((await do(f"bulk upload: {path}", os.stat, path)).st_mode):
            raise Invalid(f"bulk upload: {path}: Not a directory")
        outcome, blocks = UnpackResult(), ByteReader(chunks)
        try:
            async for member in members(blocks):
                content = await blocks.exactly(member.stored)
                try:
                    target = Path(path, os.fsdecode(entry_path(member.name)))
                except EntryRefused as refused:
                    outcome.fail(os.fsdecode(member.name), str(refused))
                    continue
                await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
                await asyncio.to_thread(target.write_bytes, content)
                outcome.created += 1
        except TruncatedArchive:
            outcome.complete = False
        return outcome
