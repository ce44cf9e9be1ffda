"""What HTTP requires of the head of a request, for what the HTTP server does not check. Knows ASGI and no route."""

from __future__ import annotations

import re
from typing import Final

from starlette.exceptions import HTTPException

from flamecrest.server.errors import GatewayError, Invalid, Unsupported

from .forwarded import FORWARDED

VALID_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@\-]{1,128}")
VALID_HOST: Final = re.compile(  # RFC 3986, 3.2.2 and 3.2.3
    rb"(\[[0-9A-Fa-f:.]+\]|([A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(:[0-9]{0,5})?"
)
HTTP_1_0: Final = frozenset({"1.0", "1"})  # as the servers write it
MAX_HEADERS: Final = 64 * 1024  # bytes of all names and values of the headers
NEVER_READ: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})  # methods whose body no handler reads
NOTED: Final = FORWARDED | {
    b"host", b"transfer-encoding", b"content-length", b"expect", b"x-request-id", b"x-correlation-id",
    b"request-timeout",
}  # fmt: skip


def head_error(
    hosts: list[bytes], coding: bytes, length: int, version: str, size: int
) -> GatewayError | HTTPException | None:
    """The error of a request that must be refused: RFC 9112, 3.2 (Host) and 6.1 (Transfer-Encoding); RFC 9110, 15.6.6.

    hosts: the values of all Host headers. coding: the value of Transfer-Encoding; empty without one. length: bytes of
    the body by Content-Length; -1 without one. version: of HTTP, as the server writes it. size: bytes of the headers.
    """
    if size > MAX_HEADERS:
        return HTTPException(431, "The headers of the request are too large")
    if version[:1] != "1":
        return HTTPException(505, "HTTP Version Not Supported")
    if coding and (length >= 0 or version in HTTP_1_0):  # others may see another end of the body
        return Invalid("The request has Transfer-Encoding beside Content-Length, or in HTTP/1.0")
    if coding and coding.strip().lower() != b"chunked":
        return Unsupported("Transfer-Encoding: only `chunked` is supported")
    if len(hosts) > 1:
        return Invalid("The request has more than one Host header")
    if version in HTTP_1_0 and hosts in ([], [b""]):
        return None
    if not hosts or VALID_HOST.fullmatch(hosts[0]) is None:
        return Invalid("The request has no valid Host header")
    return None
