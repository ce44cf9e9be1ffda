"""The Bulk port over folders of this machine, so that routes have something real behind them."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flamecrest.server.errors import NotFound, Unsupported
from flamecrest.server.files.archives.port import ArchiveFormat, PathFailure, Selection, UnpackResult
from flamecrest.server.files.archives.untar import ByteReader, TruncatedArchive, members

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline


class LocalBulk:
    """Plain tar only, and names without tricks."""

    async def select(self, paths: Sequence[str], base: str | None, deadline: Deadline) -> Selection:  # noqa: ARG002
        there = await asyncio.to_thread(lambda: [path for path in paths if Path(path).exists()])
        if not there:
            raise NotFound(f"{paths[0]}: No such file or directory")
        missing = tuple(PathFailure(path, "No such file or directory") for path in paths if path not in there)
        return Selection(base or "/", tuple(path.encode("utf-8", "surrogateescape") for path in there), missing)

    @asynccontextmanager
    async def pack(
        self,
        selection: Selection,
        form: ArchiveFormat,
        deadline: Deadline,  # noqa: ARG002
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if form != "tar":
            raise Unsupported("plain tar only")

        def packed() -> bytes:
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as archive:
                for name in selection.names:
                    archive.add(name.decode("utf-8", "surrogateescape"))
            return out.getvalue()

        async def chunks() -> AsyncIterator[bytes]:
            yield await asyncio.to_thread(packed)

        yield chunks()

    async def unpack(
        self,
        path: str,
        chunks: AsyncIterator[bytes],
        deadline: Deadline,  # noqa: ARG002
        *,
        setuid: bool = False,  # noqa: ARG002
    ) -> UnpackResult:
        if not await asyncio.to_thread(Path(path).is_dir):
            raise NotFound(f"{path}: No such file or directory")
        outcome, blocks = UnpackResult(), ByteReader(chunks)
        try:
            async for member in members(blocks):
                content = await blocks.exactly(member.stored)
                target = Path(path) / Path(member.name.decode()).name
                await asyncio.to_thread(target.write_bytes, content)
                outcome.created += 1
        except TruncatedArchive:
            outcome.complete = False
        return outcome
