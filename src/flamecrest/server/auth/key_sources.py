"""Sources of an issuer's keys: a URL, a file, or the `jwks_uri` of the issuer's discovery document.

A source returns bytes, within limits of time and size, and knows nothing of tokens. Its errors may be logged.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

import httpx

from .jws import loggable
from .response_bodies import read_body

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.parse import SplitResult

_MAX_DOCUMENT = 512 * 1024  # bytes
_TIMEOUT = 5.0  # seconds for one document
_URL = re.compile(r"[!-~]+", re.ASCII)


class Unreadable(Exception):
    """The document could not be read; the text says why and contains nothing that the server has sent."""


class KeySource(Protocol):
    """One document of keys."""

    name: str
    """Its location as it may be logged: without password and query."""

    async def read(self) -> bytes:
        """Read the document; raises Unreadable. Can be repeated."""
        ...


def configured_sources(public_certs: Sequence[str], issuer: str, http: httpx.AsyncClient) -> list[KeySource]:
    """The configured sources; without `public_certs`, discovery from the issuer. Raises ValueError for a wrong URL."""
    if public_certs:
        return [_source(place, http) for place in public_certs]
    if not issuer:
        raise ValueError("neither URLs of keys nor an issuer are configured")
    return [DiscoveredKeys(issuer, http)]


def _source(place: str, http: httpx.AsyncClient) -> KeySource:
    url = urlsplit(place)
    if url.scheme == "file" and url.netloc in {"", "localhost"} and url.path.startswith("/"):
        return KeyFile(Path(unquote(url.path)))
    if place.startswith("/"):
        return KeyFile(Path(place))
    return KeyUrl(place, http)


class KeyFile:
    """A file of keys."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    async def read(self) -> bytes:
        """Read the file."""
        try:
            return await asyncio.to_thread(self._read)  # may block: the file may be on a network file system
        except OSError as error:
            raise Unreadable(error.strerror or type(error).__name__) from None

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            content = file.read(_MAX_DOCUMENT + 1)
        if len(content) > _MAX_DOCUMENT:
            raise Unreadable("the file is too large")
        return content


class KeyUrl:
    """A document of keys at a URL."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.name = _printable(_web_url(url, "the URL of keys"))
        self._url = url
        self._http = http

    async def read(self) -> bytes:
        """Fetch the document."""
        return await _get(self._http, self._url)


class DiscoveredKeys:
    """Keys at the `jwks_uri` of the issuer's discovery document (OpenID Connect Discovery 1.0)."""

    def __init__(self, issuer: str, http: httpx.AsyncClient) -> None:
        parts = _web_url(issuer, "the issuer")
        self.name = _printable(parts)
        self._issuer = issuer
        self._secure = parts.scheme == "https"
        self._http = http

    async def read(self) -> bytes:
        """Fetch the discovery document, then the keys. The document is fetched each time: `jwks_uri` may change."""
        document = await _get(self._http, self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            found = json.loads(document.decode("utf-8"))
        except (ValueError, RecursionError):
            raise Unreadable("the discovery document is not JSON") from None
        if not isinstance(found, dict) or found.get("issuer") != self._issuer:
            other = loggable(found.get("issuer")) if isinstance(found, dict) else "nothing"
            raise Unreadable(f"the discovery document names the issuer {other}, not the configured one")
        try:
            parts = _web_url(found.get("jwks_uri"), "jwks_uri")
        except ValueError as error:
            raise Unreadable(f"the discovery document is invalid: {error}") from None
        if self._secure and parts.scheme != "https":
            raise Unreadable("the jwks_uri of the discovery document is not an https URL")
        return await _get(self._http, parts.geturl())


async def _get(http: httpx.AsyncClient, url: str) -> bytes:
    """The body of a 200 response. Redirects are not followed; compression is not accepted (decompression bombs)."""
    try:
        async with (
            asyncio.timeout(_TIMEOUT),
            http.stream("GET", url, headers={"Accept-Encoding": "identity"}, follow_redirects=False) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise Unreadable(f"status {answer.status_code}")
            content = await read_body(answer, _MAX_DOCUMENT)
    except TimeoutError:
        raise Unreadable(f"no response within {_TIMEOUT:.0f} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise Unreadable(type(error).__name__) from None
    if content is None:
        raise Unreadable("the document is too large")
    return content


def _web_url(url: object, what: str) -> SplitResult:
    """Split an http or https URL; raises ValueError for anything else."""
    if not isinstance(url, str):
        raise ValueError(f"{what} is missing")  # noqa: TRY004 - the value is from a remote document
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and not parts.fragment
    except ValueError:  # invalid port or IPv6 address
        good = False
    if not good or _URL.fullmatch(url) is None:
        raise ValueError(f"{what} must be an http or https URL (keys may also be file:///…), not {loggable(url)}")
    return parts


def _printable(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
