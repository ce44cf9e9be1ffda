"""Download: a file on its way out, in bounded memory and never in part; knows the Reader port and no adapter."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from starlette.responses import Response

from flamecrest.server.errors import TooLarge

from .disposition import attachment

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files import Files


class Download(Response):
    """Sends a file. It is opened before the first header goes, so that what is wrong with it is a proper error."""

    def __init__(self, files: Files, path: str, deadline: Deadline, limit: int | None) -> None:
        super().__init__()
        self._files = files
        self._path = path
        self._deadline = deadline
        self._limit = limit

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the file; if it breaks off the answer stays unfinished, which no client can take for the whole."""
        async with self._files.download(self._path, self._deadline) as reader:
            size = reader.stat.size
            if self._limit is not None and size > self._limit:
                message = f"The file has {size} bytes; at most {self._limit} can be downloaded directly"
                raise TooLarge(message)
            chunks = reader.chunks()
            first = await anext(chunks, b"") if size else b""
            await send({"type": "http.response.start", "status": 200, "headers": self._headers_for(size)})
            sent = len(first)
            await send({"type": "http.response.body", "body": first, "more_body": sent < size})
            while sent < size:
                chunk = await anext(chunks)
                sent += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": sent < size})

    def _headers_for(self, size: int) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-length", b"%d" % size),
            (b"content-type", b"application/octet-stream"),
            (b"content-disposition", attachment(posixpath.basename(self._path)).encode("ascii")),
            (b"x-content-type-options", b"nosniff"),
        ]
