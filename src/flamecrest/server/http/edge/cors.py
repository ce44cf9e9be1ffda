"""Cross-origin requests of browsers (CORS): https://fetch.spec.whatwg.org/#http-cors-protocol. Knows no route.

Callers are identified by a bearer token that a page sends itself, never by cookies. So no response allows credentials,
and an origin that is allowed gains nothing but the responses to its own tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from flamecrest.server.http.core.methods import METHODS
from flamecrest.server.http.core.responses import add_response_headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

ANY_ORIGIN: Final = "*"
MAX_AGE: Final = 7200  # seconds for which a browser keeps the answer to a preflight; Chromium keeps none longer
# The response headers that a page may read. Browsers show a few others always (Content-Type, Last-Modified and so on).
EXPOSED: Final = (
    "Accept-Ranges", "Allow", "Content-Digest", "Content-Disposition", "Content-Length", "Content-Range", "ETag",
    "Location", "Repr-Digest", "Retry-After", "WWW-Authenticate",
    "RateLimit", "RateLimit-Limit", "RateLimit-Policy", "RateLimit-Remaining", "RateLimit-Reset",
    "Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version",
    "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Metadata", "Upload-Offset",
    "X-Correlation-ID", "X-Flamecrest-Missing", "X-Flamecrest-Missing-Paths", "X-Request-ID",
    "F7T-AppVersion", "F7T-AuthUsername", "F7T-Timestamp",
)  # fmt: skip

_NAMES: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]{0,4096}")
_VARY: Final = (b"vary", b"Origin")


class Cors:
    """An ASGI application that answers preflight requests and passes all others on.

    `origins` are serialized origins (`https://app.example.org`), or `*` for all. The headers of a response are set
    before the application runs, so errors have them, too.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode("ascii") for origin in origins)
        self._any = ANY_ORIGIN.encode() in self._origins
        self._exposed = (b"access-control-expose-headers", ", ".join(EXPOSED).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an HTTP request."""
        asked: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            if name == b"origin" or name.startswith(b"access-control-"):
                asked.setdefault(name, []).append(value)
        allowed = self._allowed(asked.get(b"origin", []))
        if not self._any:
            add_response_headers(scope, _VARY)
        if allowed is not None:
            add_response_headers(scope, (b"access-control-allow-origin", allowed))
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in asked:
                await _preflight_response(asked)(scope, receive, send)
                return
            add_response_headers(scope, self._exposed)
        await self._app(scope, receive, send)

    def _allowed(self, origins: list[bytes]) -> bytes | None:
        """The value of Access-Control-Allow-Origin; None for a request of no origin or one that is not allowed."""
        if len(origins) != 1:
            return None
        if self._any:
            return ANY_ORIGIN.encode()
        return origins[0] if origins[0] in self._origins else None


def _preflight_response(asked: dict[bytes, list[bytes]]) -> Response:
    """The answer to a preflight: every method, and every header that was asked for.

    The real request is then refused with 404 or 405, whose text the page can read, and not by the browser.
    """
    headers = {"Access-Control-Allow-Methods": ", ".join(METHODS), "Access-Control-Max-Age": str(MAX_AGE)}
    names = b", ".join(asked.get(b"access-control-request-headers", []))
    if names.strip() and _NAMES.fullmatch(names):
        headers["Access-Control-Allow-Headers"] = names.decode("ascii")
    headers["Vary"] = "Access-Control-Request-Method, Access-Control-Request-Headers"
    return Response(status_code=204, headers=headers)
