"""One request at a time by http.client, which copies little: for answers whose size matters, and sequences of calls.

It knows URLs and tokens, and measures; who asks checks the answers.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, Protocol
from urllib.parse import urlsplit

from .load import Caller

BUFFER = 1024 * 1024
PATIENCE = 300  # seconds without a byte


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, data: memoryview, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: seconds until its last byte, how long its body was, and the body where it was to be kept."""

    seconds: float
    status: int
    length: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Client:
    """A kept connection to one contender."""

    connection: http.client.HTTPConnection
    path: str
    headers: Mapping[str, str]

    def ask(
        self,
        method: str,
        target: str,
        *,
        body: bytes | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        keep: bool = False,
        digest: Digest | None = None,
    ) -> Answer:
        """Send a request and read its answer to the end."""
        kept, length, buffer = [], 0, memoryview(bytearray(BUFFER))
        start = time.perf_counter()
        self.connection.request(method, self.path + target, body=body, headers={**self.headers, **(headers or {})})
        answer = self.connection.getresponse()
        while count := answer.readinto(buffer):
            length += count
            if keep:
                kept.append(bytes(buffer[:count]))
            if digest is not None:
                digest.update(buffer[:count])
        return Answer(time.perf_counter() - start, answer.status, length, b"".join(kept))


@contextmanager
def client(caller: Caller) -> Iterator[Client]:
    """Connect to a contender."""
    parts = urlsplit(caller.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE, blocksize=BUFFER)
    with closing(connection):
        yield Client(connection, parts.path, {"Authorization": f"Bearer {caller.token}"})
