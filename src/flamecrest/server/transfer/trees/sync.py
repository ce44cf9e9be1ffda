"""Makes one folder like another, on the same cluster or on two: compares their lists, and carries out the steps.

Files go straight from folder to folder on one cluster, and through the gateway, in bounded memory, between two.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, GatewayError, Invalid, NotFound, Upstream
from flamecrest.server.transfer.trees import program
from flamecrest.server.transfer.trees.compare import CompareOptions, Comparison, Step
from flamecrest.server.transfer.trees.program import BAD, EndedEarly, Entry, Records

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.stream import RemoteStream
    from flamecrest.server.ssh.command import Command
    from flamecrest.server.ssh.port import Session

START: Final = 60.0  # seconds for a program to start
STALL: Final = 24 * 3600.0  # seconds without output or input: a large file system, or the other side, is slow
MOST_SHOWN: Final = 1000  # errors that are kept
AHEAD: Final = 64  # files that are asked for before they are written
_MISSING: Final = {b"No such file or directory", b"Not a directory"}


@dataclass(frozen=True, slots=True)
class Place:
    """A folder on a cluster, as one user. `path` is absolute."""

    session: Session
    path: bytes
    cluster: str = ""


@dataclass(slots=True)
class Report:
    """What a synchronization has done so far."""

    compared: bool = False  # all entries were compared: the totals are final
    total: int = 0  # bytes
    done: int = 0  # bytes of files that are in place
    under_way: int = 0  # bytes of the file that is being written
    files: int = 0  # files and links that were written
    folders: int = 0  # folders that were made
    deleted: int = 0
    changed: int = 0  # entries of which only mode or time was set
    skipped: int = 0  # entries that are no file, folder or link
    failed: int = 0
    errors: list[str] = field(default_factory=list)  # the first ones

    def fail(self, path: bytes, reason: str) -> None:
        """Note an entry that could not be made like its source."""
        self.failed += 1
        if len(self.errors) < MOST_SHOWN:
            self.errors.append(f"{os.fsencode(path).decode('utf-8', 'replace') or '.'}: {reason}")


@asynccontextmanager
async def steps(
    source: Place, target: Place, options: CompareOptions, *, sweep: bool
) -> AsyncIterator[AsyncIterator[Step]]:
    """The steps that make the target like the source.

    Raises NotFound, Denied, Invalid if the source is no folder, Invalid if one of the folders contains the other.
    """
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(_listed(source, "source", checksum=options.checksum, sweep=False))
        there = await stack.enter_async_context(_listed(target, "target", checksum=options.checksum, sweep=sweep))
        first = await anext(here, None)
        if first is None or first.kind == "!":
            raise root_error("sync", source.path, b"" if first is None else first.text)
        root = await anext(there, None)
        if root is not None and root.kind == "!":
            if root.text not in _MISSING:
                raise root_error("sync", target.path, root.text)
            same_cluster = source.cluster == target.cluster
            if contains(first.text, root.around, same_cluster=same_cluster):
                raise Invalid("`targetPath`: one of the folders contains the other")
            there, root = _none(), None
        if root is not None and overlap(first.text, root.text, same_cluster=source.cluster == target.cluster):
            raise Invalid("`targetPath`: one of the folders contains the other, or they are the same")
        async with aclosing(Comparison(here, there, options).steps()) as found:
            yield found


def overlap(source: bytes, target: bytes, *, same_cluster: bool) -> bool:
    """Whether one folder is in the other, or is the other, by another name: see `identities` in tree.pl."""
    return contains(source, target, same_cluster=same_cluster) or contains(target, source, same_cluster=same_cluster)


def contains(folder: bytes, chain: bytes, *, same_cluster: bool) -> bool:
    """Whether the first of the identities `folder` is among those of `chain`.

    Numbers of devices say nothing about the folders of another cluster.
    """
    root, others = ([one.split(b":") for one in text.split(b" ") if one.count(b":") == 2] for text in (folder, chain))
    for device, inode, changed in root[:1]:
        for other in others:
            if inode == other[1] and (changed == other[2] or (same_cluster and device == other[0])):
                return True
    return False


def root_error(verb: str, path: bytes, reason: bytes) -> GatewayError:
    """The error for a folder that cannot be opened."""
    text = f"{verb}: {path.decode('utf-8', 'replace')}: {reason.decode('utf-8', 'replace') or 'it cannot be listed'}"
    match reason:
        case b"No such file or directory":
            return NotFound(text)
        case b"Permission denied":
            return Denied(text)
        case b"Not a directory":
            return Invalid(text)
    return Upstream(text)


async def _none() -> AsyncIterator[Entry]:
    nothing: tuple[Entry, ...] = ()
    for one in nothing:
        yield one


@asynccontextmanager
async def _running(session: Session, command: Command[Any]) -> AsyncIterator[tuple[RemoteStream, Records]]:
    """Start tree.pl."""
    async with session.stream(command, Deadline.after(START)) as stream:
        await stream.write(program.SOURCE, STALL)
        async with aclosing(stream.chunks(STALL)) as chunks:  # type: ignore[type-var]
            yield stream, Records(chunks)


@asynccontextmanager
async def _listed(place: Place, name: str, *, checksum: bool, sweep: bool) -> AsyncIterator[AsyncIterator[Entry]]:
    command = program.list_folder(place.path, checksum=checksum, sweep=sweep)
    async with _running(place.session, command) as (stream, records):
        stream.send_eof()
        async with aclosing(_entries(stream, records, name)) as entries:
            yield entries


async def _entries(stream: RemoteStream, records: Records, name: str) -> AsyncGenerator[Entry]:
    try:
        while (found := await records.record()) is not None:
            yield program.entry(*found)
    except EndedEarly:
        output = await stream.wait(START)
        output.check_installed()
        raise Upstream(f"The list of the {name} folder ended early", detail=output.errors()[:500]) from None


class Synchronization:
    """Carries the steps out. It can be run again after any failure: what is done is not done again."""

    def __init__(self, source: Place, target: Place, options: CompareOptions, *, same_cluster: bool) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._same = same_cluster
        self.report = Report()

    async def run(self) -> Report:
        """Make the target like the source. Raises the reason if it cannot go on; entries that fail are reported."""
        async with AsyncExitStack() as stack:
            found = await stack.enter_async_context(steps(self._source, self._target, self._options, sweep=True))
            command = program.apply(self._target.path, self._source.path if self._same else None)
            writer, results = await stack.enter_async_context(_running(self._target.session, command))
            await self._opened(writer, results, self._target.path)
            carrier: _Carrier | None = None
            if not self._same:
                sender, content = await stack.enter_async_context(
                    _running(self._source.session, program.send(self._source.path))
                )
                await self._opened(sender, content, self._source.path)
                carrier = _Carrier(sender, content, writer, self.report)
                stack.push_async_callback(carrier.close)
            reading = asyncio.create_task(self._read_results(writer, results))
            try:
                await self._write_steps(found, writer, carrier, reading)
                writer.send_eof()
                await reading
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        return self.report

    @staticmethod
    async def _opened(stream: RemoteStream, records: Records, path: bytes) -> None:
        try:
            first = await records.record()
        except EndedEarly:
            output = await stream.wait(START)
            output.check_installed()
            raise Upstream("The program on the cluster ended early", detail=output.errors()[:500]) from None
        if first is None or first[0].startswith(b"!"):
            raise root_error("sync", path, b"" if first is None else first[2])

    async def _write_steps(
        self, found: AsyncIterator[Step], writer: RemoteStream, carrier: _Carrier | None, reading: asyncio.Task[None]
    ) -> None:
        report = self.report
        async for step in found:
            if reading.done():
                await reading
            if step.verb == "!":
                report.fail(step.path, step.reason)
            elif step.verb == "o":
                report.skipped += 1
            elif step.verb == "f":
                report.total += step.entry.size
                if carrier is None:
                    await writer.write(_line(b"f", step.path), STALL)
                else:
                    await carrier.file(step.path)
            else:
                line = _step_line(step)
                await (writer.write(line, STALL) if carrier is None else carrier.line(line))
        if carrier is not None:
            await carrier.finish()
        report.compared = True

    async def _read_results(self, writer: RemoteStream, results: Records) -> None:
        report = self.report
        try:
            while (found := await results.record()) is not None:
                self._take(*found)
        except EndedEarly:
            output = await writer.wait(START)
            raise Upstream("The program that writes to the target ended early", detail=output.errors()[:500]) from None
        report.under_way = 0

    def _take(self, head: bytes, path: bytes, text: bytes) -> None:
        report = self.report
        kind, *rest = head.split(b" ")
        if kind == b"!":
            report.under_way = 0
            report.fail(path, text.decode("utf-8", "replace"))
        elif kind == b"%":
            report.under_way = int(rest[0])
        elif kind == b"+":
            verb, size = rest
            report.under_way = 0
            report.done += int(size)
            report.files += verb in b"frl"
            report.folders += verb == b"d"
            report.deleted += verb == b"x"
            report.changed += verb == b"m"


class _Carrier:
    """Carries files from the program that sends to the one that writes, in the order of the steps."""

    def __init__(self, sender: RemoteStream, content: Records, writer: RemoteStream, report: Report) -> None:
        self._sender = sender
        self._content = content
        self._writer = writer
        self._report = report
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(AHEAD)
        self._task = asyncio.create_task(self._carry())
        self._pending: list[bytes] = []

    async def file(self, path: bytes) -> None:
        """Ask for a file; it is written when it comes."""
        await self._sender.write(_line(b"s", path), STALL)
        await self._put(b"\0" + path)

    async def line(self, line: bytes) -> None:
        """Write a record, behind the files before it."""
        await self._put(line)

    async def finish(self) -> None:
        """Wait until all is written."""
        self._sender.send_eof()
        await self._put(None)
        await self._task

    async def close(self) -> None:
        """Stop."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _put(self, item: bytes | None) -> None:
        if not self._queue.full() and not self._task.done():
            self._queue.put_nowait(item)
            return
        putting = asyncio.create_task(self._queue.put(item))
        try:
            await asyncio.wait([putting, self._task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
        if self._task.done():
            await self._task

    async def _carry(self) -> None:
        while (item := await self._queue.get()) is not None:
            if item[:1] == b"\0":
                await self._carry_file(item[1:])
            else:
                await self._writer.write(item, STALL)

    async def _carry_file(self, path: bytes) -> None:
        found = await self._content.record()
        if found is None or found[1] != path:
            raise Upstream("The program that reads the source wrote something unexpected")
        if found[0].startswith(b"!"):
            self._report.fail(path, found[2].decode("utf-8", "replace"))
            return
        await self._writer.write(b"\0".join(found) + b"\0", STALL)
        while True:
            chunk = await self._content.content()
            await self._writer.write(chunk, STALL)
            if len(chunk) == 4 or int.from_bytes(chunk[:4]) == BAD:
                return


def _line(head: bytes, path: bytes, text: bytes = b"") -> bytes:
    return b"\0".join((head, path, text)) + b"\0"


def _step_line(step: Step) -> bytes:
    one = step.entry
    match step.verb:
        case "m":
            mode = one.mode & (0o3777 if one.kind == "d" else 0o777)
            return _line(b"m %o %d" % (mode, one.mtime), step.path)
        case "l":
            return _line(b"l", step.path, one.text)
    return _line(step.verb.encode(), step.path)
