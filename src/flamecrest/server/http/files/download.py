"""The response of a download: sends a file or parts of it in bounded memory. Knows the Files port, no adapter."""

from __future__ import annotations

import posixpath
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from flamecrest.server.errors import Unsupported
from flamecrest.server.files.settling import wait_until_settled
from flamecrest.server.http.core.errors import envelope
from flamecrest.server.http.headers import digests
from flamecrest.server.http.headers.content_disposition import attachment_header
from flamecrest.server.http.headers.ranges import ByteRange, MultipartRanges

from .download_plan import BUFFERED, READ_HEADERS, DownloadPlan, select_headers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.port import Files, Reader

_TYPE: Final = "application/octet-stream"
# Without it browsers derive from the file's age how long they use a copy.
_REVALIDATE: Final = (b"cache-control", b"private, no-cache")

Headers = list[tuple[bytes, bytes]]
KnownDigests = dict[tuple[digests.DigestName, str], bytes]  # by algorithm and ETag


class DownloadResponse(Response):
    """Sends a file of at most `limit` bytes, or with `limits_parts` as many bytes of a file.

    It is opened before the headers are sent, so an error can be the response.
    """

    def __init__(
        self, files: Files, path: str, deadline: Deadline, limit: int | None, *, limits_parts: bool = False
    ) -> None:
        self._files = files
        self._path = path
        self._deadline = deadline
        self._limit = limit
        self._limits_parts = limits_parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file. If reading fails half-way the response stays incomplete, which clients notice."""
        head = scope["method"] == "HEAD"
        given = select_headers(scope["headers"], READ_HEADERS)
        plan = DownloadPlan(given, head=head, limit=self._limit, limits_parts=self._limits_parts)
        known = await self._cluster_digests(plan) if plan.repr_digest or plan.content_digest else {}
        async with self._files.content.download(self._path, self._deadline, choose_start=plan.decide) as reader:
            if reader.stat.size != plan.size:
                plan.replace_size(reader.stat)
            if plan.status == 416:
                refusal = {"Content-Range": f"bytes */{plan.size}", "Accept-Ranges": "bytes"}
                await envelope(416, "The file has no such part", headers=refusal)(scope, receive, send)
            elif plan.status == 304:
                await send(
                    {"type": "http.response.start", "status": 304, "headers": [*plan.validator_headers(), _REVALIDATE]}
                )
                await send({"type": "http.response.body"})
            else:
                await self._send(_DownloadBody(reader, plan, self._path, known), send, head=head)

    @staticmethod
    async def _send(content: _DownloadBody, send: Send, *, head: bool) -> None:
        if content.plan.buffers:
            await content.buffer()
        start = {"type": "http.response.start", "status": content.plan.status}
        whole = b"" if head else content.body
        if whole is not None:
            await send({**start, "headers": content.headers()})
            await send({"type": "http.response.body", "body": whole})
            return
        async with aclosing(content.chunks()) as chunks:
            chunk = await anext(chunks, b"")  # before the headers: an error can still be the response
            await send({**start, "headers": content.headers()})
            sent = len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": sent < content.size})
            while sent < content.size:
                chunk = await anext(chunks)
                sent += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": sent < content.size})

    async def _cluster_digests(self, plan: DownloadPlan) -> KnownDigests:
        """The digests that the cluster must compute, each with the ETag of the file it was computed for."""
        stat = await self._files.queries.stat(self._path, self._deadline, follow=True)
        if await wait_until_settled(stat):
            stat = await self._files.queries.stat(self._path, self._deadline, follow=True)
        plan.decide(stat)
        etag = plan.validators.etag
        if plan.status not in {200, 206} or plan.buffers or not stat.size or etag is None or etag.startswith("W/"):
            return {}
        content = plan.content_digest if plan.status == 200 else None
        known = {}
        for name in {plan.repr_digest, content} - {None}:
            assert name is not None  # noqa: S101 -- mypy does not see it
            program = digests.PROGRAMS[name]
            try:
                found = await self._files.queries.checksum(self._path, self._deadline, algorithm=program)
            except Unsupported:  # Want-Repr-Digest is a preference
                continue
            known[name, etag] = bytes.fromhex(found)
        return known


class _DownloadBody:
    """The body: an open file, a range of it, or several ranges."""

    def __init__(
        self, reader: Reader, plan: DownloadPlan, path: str, known: dict[tuple[digests.DigestName, str], bytes]
    ) -> None:
        self.plan = plan
        self._reader = reader
        self._path = path
        self._known = known
        self._whole = reader.content
        spans = plan.spans or [ByteRange(0, plan.size)]
        self._spans = spans
        self.body: bytes | None = None  # the whole body, if it is in memory
        self._many = MultipartRanges(spans, plan.size, _TYPE) if len(spans) > 1 else None
        self.size = self._many.size if self._many is not None else spans[0].size
        if self._whole is not None and self._many is None:
            self.body = self._whole[spans[0].start : spans[0].end]

    async def buffer(self) -> None:
        """Read the whole file, and make the body if that is small, too."""
        self._whole = b"".join([chunk async for chunk in self._reader.chunks()])
        if self.size <= BUFFERED:
            self.body = b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body, chunk by chunk."""
        for number, span in enumerate(self._spans):
            if self._many is not None:
                yield self._many.heads[number]
            if self._whole is not None:
                yield self._whole[span.start : span.end]
                continue
            async for chunk in self._reader.chunks(span.start, span.end):
                yield chunk
        if self._many is not None:
            yield self._many.tail

    def headers(self) -> Headers:
        """The response headers."""
        plan = self.plan
        kind = _TYPE if self._many is None else self._many.content_type
        found = [
            (b"content-length", b"%d" % self.size),
            (b"content-type", kind.encode("ascii")),
            (b"content-disposition", attachment_header(posixpath.basename(self._path)).encode("ascii")),
            (b"accept-ranges", b"bytes"),
            _REVALIDATE,
            *plan.validator_headers(),
        ]
        if plan.status == 206 and self._many is None:
            found.append((b"content-range", self._spans[0].content_range(plan.size).encode("ascii")))
        if plan.repr_digest is not None:
            self._add(found, b"repr-digest", plan.repr_digest, self._whole)
        if plan.content_digest is not None:
            self._add(found, b"content-digest", plan.content_digest, self.body)
        return found

    def _add(self, found: Headers, header: bytes, name: digests.DigestName, data: bytes | None) -> None:
        etag = self.plan.validators.etag
        digest = self._known.get((name, etag)) if etag is not None else None
        if header == b"content-digest" and self.plan.status != 200:
            digest = None
        if data is not None:
            digest = digests.compute_digest(name, data)
        if digest is not None:
            found.append((header, digests.digest_field(name, digest).encode("ascii")))
