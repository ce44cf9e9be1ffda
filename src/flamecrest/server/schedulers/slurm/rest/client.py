"""HTTP requests to one slurmrestd: kept-open connections, limits of time and size, and the version of its API."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import httpcore
import orjson

from flamecrest.server.errors import GatewayError, Timeout, TooLarge, Unavailable, Upstream
from flamecrest.server.telemetry.trace import phase

from .errors import Reply, error_of
from .rows import RowSplitter, loads
from .versions import NEWEST, OLDEST, ApiVersion, newest_offered

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline

    from .tokens import Tokens

MAX_ANSWER: Final = 256 * 1024 * 1024  # bytes of an answer that is read as a whole
MAX_STREAMED: Final = 4096 * 1024 * 1024  # bytes of one that is read job by job: 10,000 jobs take 75 MB
LARGE_LIST: Final = 1024 * 1024  # bytes of a list of live jobs, some 200, for which there are faster ways
LARGE_FOR: Final = 600.0  # seconds for which later lists are taken as large, too
MAX_CONNECTIONS: Final = 20  # slurmrestd serves each with a thread
CONNECT: Final = 5.0  # seconds for a connection
DOWN_FOR: Final = 5.0  # seconds after a failed connection in which slurmrestd is taken as down, if there is another way
KEPT_OPEN: Final = 30.0  # seconds for which a connection is kept without use
MAX_SILENCE: Final = 300.0  # seconds; the deadline of each request ends it sooner
_MAX_INLINE: Final = 256 * 1024  # bytes of an answer that is parsed at once; a larger one is parsed in a thread
_MAX_SHOWN: Final = 200  # characters of an answer that is no JSON
_UNIX: Final = "unix:"
_JSON: Final = (b"Content-Type", b"application/json")
_WAITING: Final[dict[str, Any]] = {
    "timeout": {"connect": CONNECT, "read": MAX_SILENCE, "write": MAX_SILENCE, "pool": MAX_SILENCE}
}
# How a connection breaks before the answer.
_BROKEN: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)

_log: Final = logging.getLogger(__name__)

Query = Sequence[tuple[str, str]]


class NotSent(Unavailable):
    """No connection to slurmrestd: nothing was sent."""


def http_client(url: str) -> tuple[httpcore.AsyncConnectionPool, str]:
    """Connections to this slurmrestd (`http://…`, `https://…`, `unix:/path`), and the base URL of its requests.

    Without httpx above them, which costs as much as the rest of a submission.
    """
    socket = url.removeprefix(_UNIX).replace("//", "/") if url.startswith(_UNIX) else None
    pool = httpcore.AsyncConnectionPool(
        max_connections=MAX_CONNECTIONS,
        max_keepalive_connections=MAX_CONNECTIONS,
        keepalive_expiry=KEPT_OPEN,
        uds=socket,
    )
    return pool, "http://localhost" if socket is not None else url.rstrip("/")


class RestClient:
    """The slurmrestd of one cluster for all users. `version`: None to choose the newest that it offers."""

    def __init__(
        self, http: httpcore.AsyncConnectionPool, base: str, tokens: Tokens, version: ApiVersion | None = None
    ) -> None:
        self._http = http
        self._base = base
        self._tokens = tokens
        self._version = version
        self._asking = asyncio.Lock()
        self._failed = float("-inf")  # monotonic: the last failed connection
        self._large = float("-inf")  # monotonic: the last large list of live jobs

    @property
    def own_token(self) -> bool:
        """Whether requests are made with the caller's own token."""
        return self._tokens.own

    @property
    def known_version(self) -> ApiVersion:
        """The version in use; the newest until it is known."""
        return self._version or ApiVersion(NEWEST)

    @property
    def is_down(self) -> bool:
        """Whether the last connection failed, a moment ago."""
        return time.monotonic() - self._failed < DOWN_FOR

    @property
    def lists_are_large(self) -> bool:
        """Whether a list of the live jobs was large lately: slurmrestd gives those of all users, 7 KB each."""
        return time.monotonic() - self._large < LARGE_FOR

    def note_list(self, size: int) -> None:
        """Take note of the bytes that a list of the live jobs had."""
        self._large = time.monotonic() if size >= LARGE_LIST else float("-inf")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def version(self, identity: Identity, deadline: Deadline) -> ApiVersion:
        """The version in use. Raises Upstream if slurmrestd offers none that this adapter speaks."""
        if self._version is not None:
            return self._version
        async with deadline.enforce("slurmrestd"), self._asking:
            if self._version is None:
                status, document = await self._exchange("GET", "/openapi/v3", identity, None, deadline)
                if status != HTTPStatus.OK:
                    raise error_of(Reply(status, {}, _shown(document)), own_token=self.own_token)
                self._version = newest_offered(document)
            if self._version is None:
                known = f"v0.0.{OLDEST} to v0.0.{NEWEST}"
                raise Upstream(f"slurmrestd offers no version of its API that is supported ({known})")
            _log.info("slurmrestd at %s: using API version %s", self._base, self._version)
            return self._version

    async def request(
        self,
        method: str,
        path: Sequence[str],
        identity: Identity,
        deadline: Deadline,
        *,
        query: Query = (),
        body: Mapping[str, Any] | None = None,
        plugin: str = "slurm",
    ) -> Reply:
        """Make one request as the user and return what slurmrestd says, errors included.

        `path` are the parts behind the version; they are quoted. Raises NotSent, Unavailable, Timeout, TooLarge, and
        Upstream for an answer that is no JSON object.
        """
        version = await self.version(identity, deadline)
        place = "/".join(quote(part, safe="") for part in path)
        target = f"/{plugin}/{version}/{place}" + (f"?{urlencode(query)}" if query else "")
        content = None if body is None else orjson.dumps(body)
        async with deadline.enforce("slurmrestd"):
            status, answer = await self._exchange(method, target, identity, content, deadline)
            return await _reply(status, answer)

    async def stream(
        self,
        path: Sequence[str],
        identity: Identity,
        deadline: Deadline,
        rows: RowSplitter,
        *,
        query: Query = (),
        plugin: str = "slurm",
    ) -> Reply:
        """Ask for a list of jobs, which go to `rows` as they arrive; the reply has none. Raises as `request`."""
        version = await self.version(identity, deadline)
        target = f"/{plugin}/{version}/{'/'.join(path)}" + (f"?{urlencode(query)}" if query else "")
        try:
            status, beginning = await self._exchange("GET", target, identity, None, deadline, rows.feed)
        except ValueError as error:
            raise Upstream("slurmrestd gave an answer that is no JSON", detail=f"slurmrestd: {error}") from error
        return _checked(status, beginning, rows.finish)

    async def _exchange(
        self,
        method: str,
        target: str,
        identity: Identity,
        content: bytes | None,
        deadline: Deadline,
        feed: Callable[[bytes], None] | None = None,
    ) -> tuple[int, bytes]:
        """Status and answer; only the beginning of the answer if it goes to `feed`."""
        token = self._tokens.token(identity)
        headers = [
            (b"X-SLURM-USER-NAME", identity.username.encode()),
            (b"X-SLURM-USER-TOKEN", token.encode()),
            (b"Accept", b"application/json"),
        ]
        if content is not None:
            headers.append(_JSON)
        async with deadline.enforce("slurmrestd"):
            try:
                with phase("ssh"):  # the time on the cluster, whatever the way there is
                    url = f"{self._base}{target}"
                    sending = self._http.stream(method, url, headers=headers, content=content, extensions=_WAITING)
                    async with sending as answer:
                        self._failed = float("-inf")
                        taken = _read(answer) if feed is None else _feed(answer, feed)
                        return answer.status, await taken
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                self._failed = time.monotonic()
                raise _not_reached(error) from error
            except httpcore.PoolTimeout as error:
                raise NotSent("slurmrestd does not answer: no connection", detail=_safe(error)) from error
            except httpcore.TimeoutException as error:
                raise Timeout("slurmrestd did not answer in time", detail=_safe(error)) from error
            except _BROKEN as error:
                raise Upstream("The connection to slurmrestd broke before its answer", detail=_safe(error)) from error


def _not_reached(error: Exception) -> NotSent:
    found = NotSent("slurmrestd does not answer: no connection", detail=_safe(error))
    found.answers_nobody = True
    return found


async def _read(answer: httpcore.Response) -> bytes:
    parts, size = [], 0
    async for part in answer.aiter_stream():
        size += len(part)
        if size > MAX_ANSWER:
            raise TooLarge(f"The answer of slurmrestd is larger than {MAX_ANSWER >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


async def _feed(answer: httpcore.Response, feed: Callable[[bytes], None]) -> bytes:
    beginning, size = b"", 0
    async for part in answer.aiter_stream():
        size += len(part)
        if size > MAX_STREAMED:
            raise TooLarge(f"The answer of slurmrestd is larger than {MAX_STREAMED >> 20} MiB")
        beginning = beginning or part[:_MAX_SHOWN]
        feed(part)
    return beginning


async def _reply(status: int, answer: bytes) -> Reply:
    """The parsed answer."""
    if len(answer) <= _MAX_INLINE:
        return _checked(status, answer, lambda: loads(answer))
    return await asyncio.to_thread(_checked, status, answer, lambda: loads(answer))


def _checked(status: int, answer: bytes, parse: Callable[[], Any]) -> Reply:
    try:
        body = parse()
    except (ValueError, RecursionError) as error:
        if status >= HTTPStatus.BAD_REQUEST:  # `Authentication failure`, `Unable to parse query.` are plain text
            return Reply(status, {}, _shown(answer))
        raise _unreadable(status, answer) from error
    if not isinstance(body, dict) or HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise _unreadable(status, answer)
    return Reply(status, body)


def _unreadable(status: int, answer: bytes) -> GatewayError:
    return Upstream(
        f"slurmrestd gave an answer that is no JSON object (status {status}, {len(answer)} bytes)",
        detail=f"slurmrestd: status {status}: {_shown(answer)!r}",
    )


def _shown(answer: bytes) -> str:
    return answer[:_MAX_SHOWN].decode("utf-8", "replace")


def _safe(error: Exception) -> str:
    """The error for the log; it never contains a token: those are in headers only."""
    return f"slurmrestd: {type(error).__name__}: {str(error)[:_MAX_SHOWN]}"
