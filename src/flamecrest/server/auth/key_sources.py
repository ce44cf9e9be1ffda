"""Where an issuer's keys are read from: a URL, a file, or what the issuer's discovery document names.

It reads bytes, in bounded time and size, and knows nothing of tokens; what it raises is fit for a log.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

import httpx

from .jws import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.parse import SplitResult

_MAX_DOCUMENT = 512 * 1024  # bytes
_TIMEOUT = 5.0  # seconds for one document
_URL = re.compile(r"[!-~]+", re.ASCII)


class Unreadable(Exception):
    """The document could not be had; the text says why, without anything that the other side sent."""


class KeySource(Protocol):
    """One place that keys come from."""

    name: str
    """For logs: where that is, without passwords or query."""
    exposed: bool
    """Whether others on the network could put their own keys in its place."""

    async def read(self) -> bytes:
        """The document of keys as it is now; Unreadable."""
        ...


def sources(public_certs: Sequence[str], issuer: str, http: httpx.AsyncClient) -> list[KeySource]:
    """The places named by the configuration, discovery where none is; ValueError says what is wrong with one."""
    if public_certs:
        return [_source(place, http) for place in public_certs]
    if not issuer:
        raise ValueError("neither the URLs of keys nor an issuer to discover them from are configured")
    return [DiscoveredKeys(issuer, http)]


def _source(place: str, http: httpx.AsyncClient) -> KeySource:
    url = urlsplit(place)
    if url.scheme == "file" and url.netloc in {"", "localhost"} and url.path.startswith("/"):
        return KeyFile(Path(unquote(url.path)))
    if place.startswith("/"):
        return KeyFile(Path(place))
    return KeyUrl(place, http)


class KeyFile:
    """Keys in a file."""

    exposed = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    async def read(self) -> bytes:
        """The file's content."""
        try:
            return await asyncio.to_thread(self._read)  # it may lie on a network file system
        except OSError as error:
            raise Unreadable(error.strerror or type(error).__name__) from None

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            content = file.read(_MAX_DOCUMENT + 1)
        if len(content) > _MAX_DOCUMENT:
            raise Unreadable("the file is too large")
        return content


class KeyUrl:
    """Keys behind a URL."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        parts = _web_url(url, "the URL of keys")
        self.name = _printable(parts)
        self.exposed = _is_exposed(parts)
        self._url = url
        self._http = http

    async def read(self) -> bytes:
        """What the server answers."""
        return await _get(self._http, self._url)


class DiscoveredKeys:
    """Keys at the place that the issuer's discovery document names (OpenID Connect Discovery 1.0)."""

    def __init__(self, issuer: str, http: httpx.AsyncClient) -> None:
        parts = _web_url(issuer, "the issuer")
        self.name = _printable(parts)
        self.exposed = _is_exposed(parts)
        self._issuer = issuer
        self._secure = parts.scheme == "https"
        self._http = http

    async def read(self) -> bytes:
        """The keys, once the document has said where; it is asked each time, for it may say another place."""
        document = await _get(self._http, self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            found = json.loads(document.decode("utf-8"))
        except (ValueError, RecursionError):
            raise Unreadable("the discovery document is not JSON") from None
        if not isinstance(found, dict) or found.get("issuer") != self._issuer:
            other = shown(found.get("issuer")) if isinstance(found, dict) else "nothing"
            raise Unreadable(f"the discovery document is that of {other}, not of the configured issuer")
        try:
            parts = _web_url(found.get("jwks_uri"), "jwks_uri")
        except ValueError as error:
            raise Unreadable(f"the discovery document is wrong: {error}") from None
        if self._secure and parts.scheme != "https":
            raise Unreadable("the discovery document names a place for the keys that is not https")
        return await _get(self._http, parts.geturl())


async def _get(http: httpx.AsyncClient, url: str) -> bytes:
    """The body of a 200 answer; redirects are not followed, compression (that could be a bomb) not accepted."""
    content = bytearray()
    try:
        async with (
            asyncio.timeout(_TIMEOUT),
            http.stream("GET", url, headers={"Accept-Encoding": "identity"}, follow_redirects=False) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise Unreadable(f"status {answer.status_code}")
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > _MAX_DOCUMENT:
                    raise Unreadable("the document is too large")
    except TimeoutError:
        raise Unreadable(f"no answer within {_TIMEOUT:.0f} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise Unreadable(type(error).__name__) from None
    return bytes(content)


def _web_url(url: object, what: str) -> SplitResult:
    """The parts of an http or https URL; ValueError."""
    if not isinstance(url, str):
        raise ValueError(f"{what} is missing")  # noqa: TRY004 - a value of the wrong kind in somebody's document
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and not parts.fragment
    except ValueError:  # a port or an address that is none
        good = False
    if not good or _URL.fullmatch(url) is None:
        raise ValueError(f"{what} must be an http or https URL (keys may also be file:///…), not {shown(url)}")
    return parts


def _printable(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _is_exposed(parts: SplitResult) -> bool:
    """Whether the way there is neither encrypted nor within this machine."""
    if parts.scheme == "https" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True
