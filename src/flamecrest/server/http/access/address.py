"""The address of the API for the caller of a request, and the request's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from starlette.requests import Request

    from flamecrest.server.cluster import Gateway

FORWARDED_HOST: Final = "flamecrest.forwarded_host"  # key of a scope: the host that a trusted proxy was asked for
FROM_PROXY: Final = "flamecrest.from_proxy"  # key of a scope that a trusted proxy has sent
WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"  # RFC 9728


def public_url(request: Request) -> str:
    """The configured address of the API, else that which the request was sent to; without a slash at the end."""
    gateway: Gateway = request.scope["app"].gateway
    if gateway.public_url is not None:
        return gateway.public_url.rstrip("/")
    return _origin(request) + quote(request.scope.get("root_path", ""))


def request_urls(request: Request) -> tuple[str, ...]:
    """The URLs that the client may have sent the request to, without the query.

    A proxy may have removed the prefix of the path. Without a configured address, both forms are possible.
    """
    scope = request.scope
    gateway: Gateway = scope["app"].gateway
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    path, prefix = raw.partition(b"?")[0].decode("latin-1"), quote(scope.get("root_path", ""))
    inner = path.removeprefix(prefix) if prefix and path.startswith(f"{prefix}/") else path
    urls = [public_url(request) + inner]
    if gateway.public_url is None and inner == path and prefix:
        urls.append(_origin(request) + path)
    return tuple(urls)


def metadata_url(request: Request) -> str:
    """Where the API's metadata is: the well-known path before the path of the API (RFC 9728, section 3.1)."""
    base = public_url(request)
    path = urlsplit(base).path
    return f"{base.removesuffix(path)}{WELL_KNOWN}{path}"


def _origin(request: Request) -> str:
    host = request.scope.get(FORWARDED_HOST) or request.headers.get("host", "")
    return f"{request.scope.get('scheme', 'http')}://{host}"
