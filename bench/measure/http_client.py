"""An HTTP client for one request at a time. It uses http.client, which copies less than httpx does."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, Protocol
from urllib.parse import urlsplit

from .load import Endpoint

BUFFER = 1024 * 1024
TIMEOUT = 300  # seconds without a byte


class Digest(Protocol):
    """A hash object of hashlib."""

    def update(self, data: memoryview, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Response:
    """A response: the seconds until its last byte, and the length of its body. `body` is empty unless it was kept."""

    seconds: float
    status: int
    length: int
    body: bytes


@dataclass(frozen=True, slots=True)
class EndpointClient:
    """An open connection to one endpoint."""

    connection: http.client.HTTPConnection
    path: str
    headers: Mapping[str, str]

    def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        keep: bool = False,
        digest: Digest | None = None,
    ) -> Response:
        """Send a request and read the response to its end."""
        kept, length, buffer = [], 0, memoryview(bytearray(BUFFER))
        start = time.perf_counter()
        self.connection.request(method, self.path + target, body=body, headers={**self.headers, **(headers or {})})
        response = self.connection.getresponse()
        while count := response.readinto(buffer):
            length += count
            if keep:
                kept.append(bytes(buffer[:count]))
            if digest is not None:
                digest.update(buffer[:count])
        return Response(time.perf_counter() - start, response.status, length, b"".join(kept))


@contextmanager
def client(endpoint: Endpoint) -> Iterator[EndpointClient]:
    """Connect to an endpoint."""
    parts = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=TIMEOUT, blocksize=BUFFER)
    with closing(connection):
        yield EndpointClient(connection, parts.path, {"Authorization": f"Bearer {endpoint.token}"})
