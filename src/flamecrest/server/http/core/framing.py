"""What HTTP requires of the head of a request, for what the HTTP server does not check. Knows ASGI and no route."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import GatewayError, Invalid, Unsupported
from flamecrest.server.telemetry.trace import Trace

from .forwarded import FORWARDED

if TYPE_CHECKING:
    from starlette.types import Scope

_VALID_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@\-]{1,128}")
_VALID_HOST: Final = re.compile(  # RFC 3986, 3.2.2 and 3.2.3
    rb"(\[[0-9A-Fa-f:.]+\]|([A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(:[0-9]{0,5})?"
)
_NOTED: Final = FORWARDED | {
    b"host", b"transfer-encoding", b"content-length", b"expect", b"x-request-id", b"x-correlation-id",
}  # fmt: skip
_NEVER_READ: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})  # methods whose body no handler reads
_HTTP_1_0: Final = frozenset({"1.0", "1"})  # as the servers write it


class RequestHead:
    """The head of one request, read once.

    length: bytes of the body by Content-Length; -1 if it is not declared.
    has_body: whether the handler may have a body to read.
    expects: whether the client waits for 100 Continue before it sends the body.
    forwarded: whether there are headers of a proxy.
    trace: the valid ids of the request; made if they are missing.
    """

    __slots__ = ("_coding", "_hosts", "_old", "expects", "forwarded", "has_body", "length", "trace")

    def __init__(self, scope: Scope) -> None:
        self._hosts: list[bytes] = []
        self._coding = b""
        self.length = -1
        self.expects = self.forwarded = False
        ids: dict[bytes, str] = {}
        for name, value in scope["headers"]:
            if name in _NOTED:
                self._note(name, value, ids)
        self._old = scope.get("http_version") in _HTTP_1_0
        self.has_body = (self.length > 0 or self._coding != b"") and scope["method"] not in _NEVER_READ
        request_id = ids.get(b"x-request-id") or f"{random.getrandbits(128):032x}"  # not a secret
        self.trace = Trace(request_id, ids.get(b"x-correlation-id") or request_id, scope["method"])

    def _note(self, name: bytes, value: bytes, ids: dict[bytes, str]) -> None:
        if name == b"host":
            self._hosts.append(value)
        elif name == b"content-length":
            self.length = int(value) if value.isdigit() else -1
        elif name == b"transfer-encoding":
            self._coding += b"," + value if self._coding else value
        elif name == b"expect":
            self.expects = value.lower() == b"100-continue"
        elif name in FORWARDED:
            self.forwarded = True
        elif _VALID_ID.fullmatch(value):
            ids[name] = value.decode()

    def error(self) -> GatewayError | None:
        """The error of a request that must be refused: RFC 9112, 3.2 (Host) and 6.1 (Transfer-Encoding)."""
        if self._coding and self._coding.strip().lower() != b"chunked":
            return Unsupported("Transfer-Encoding: only `chunked` is supported")
        if len(self._hosts) > 1:
            return Invalid("The request has more than one Host header")
        host = self._hosts[0] if self._hosts else b""
        if not host and self._old:
            return None
        if not _VALID_HOST.fullmatch(host):
            return Invalid("The request has no valid Host header")
        return None
