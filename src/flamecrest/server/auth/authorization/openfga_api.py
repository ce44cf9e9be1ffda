"""The two ways in which an OpenFGA server is asked: the API of OpenFGA itself, and the single address of FirecREST.

It knows the requests and the answers, no cache and no decision. An answer that does not say is Unavailable.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

import httpx

from flamecrest.server.auth.response_bodies import read_body
from flamecrest.server.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_CHECKS: Final = 50  # of a BatchCheck: the server's limit
MAX_RESPONSE: Final = 1024 * 1024  # bytes
_RETRY_AFTER: Final = 2.0  # seconds
_NO_BATCH: Final = frozenset({404, 405, 501})  # the answers of a server that is older than BatchCheck (1.8)
_NO_BATCH_SECONDS: Final = 300.0  # for which such a server is not asked for a BatchCheck again
_AT_ONCE: Final = 10  # checks in place of a BatchCheck
_NO: Final = frozenset({401, 403, 404})  # of FirecREST's address: the caller has no access


@dataclass(frozen=True, slots=True)
class Check:
    """One question; also its key in a cache. `tuples` are relations and objects that the token's claims state."""

    user: str
    relation: str
    object: str
    tuples: tuple[tuple[str, str], ...] = ()

    def key(self) -> dict[str, str]:
        """User, relation and object."""
        return {"user": self.user, "relation": self.relation, "object": self.object}

    def body(self) -> dict[str, Any]:
        """The question as Check and BatchCheck have it."""
        context = {"current_time": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
        body: dict[str, Any] = {"tuple_key": self.key(), "context": context}
        if self.tuples:
            stated = [{"user": self.user, "relation": relation, "object": one} for relation, one in self.tuples]
            body["contextual_tuples"] = {"tuple_keys": stated}
        return body


class OpenFgaApi(Protocol):
    """How checks are asked. `requests` and `failures` count."""

    @property
    def requests(self) -> int:
        """How many were sent."""
        ...

    @property
    def failures(self) -> int:
        """How many of them had no usable answer."""
        ...

    async def ask(self, checks: Sequence[Check], token: str, seconds: float) -> Mapping[Check, bool]:
        """The answers to checks, which differ. `token` is sent if it is not empty. Raises Unavailable."""


class _Client:
    """POST requests of JSON."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.requests = self.failures = 0

    async def _post(self, url: str, body: dict[str, Any], token: str, seconds: float) -> tuple[int, bytes]:
        """Status and body of an answer. A connection that was closed in between is replaced once."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._once(url, body, headers)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    self.failures += 1
                    return await self._once(url, body, headers)
        except TimeoutError:
            raise self.failed(f"no answer within {seconds:.1f} s") from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self.failed(type(error).__name__) from None

    async def _once(self, url: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, bytes]:
        self.requests += 1
        async with self._http.stream("POST", url, json=body, headers=headers, timeout=None) as response:
            content = await read_body(response, MAX_RESPONSE)
        if content is None:
            raise self.failed("the answer is too large")
        return response.status_code, content

    def failed(self, detail: str) -> Unavailable:
        """The error for a request without a usable answer, which is counted."""
        self.failures += 1
        return unavailable(f"OpenFGA: {detail}")


class StoreApi(_Client):
    """The API of an OpenFGA server (https://openfga.dev/api/service).

    store_url: the address of the store, which ends in `/stores/ID`. model: id of the authorization model; None is the
    latest. consistency: as in the API.
    """

    def __init__(
        self,
        store_url: str,
        http: httpx.AsyncClient,
        *,
        model: str | None = None,
        consistency: str = "MINIMIZE_LATENCY",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(http)
        self._monotonic = monotonic
        self._single_until = -inf  # until when several questions are Checks
        self._url = store_url.rstrip("/").removesuffix("/check")
        self._common: dict[str, Any] = {"consistency": consistency}
        if model is not None:
            self._common["authorization_model_id"] = model

    async def ask(self, checks: Sequence[Check], token: str, seconds: float) -> dict[Check, bool]:
        """One question is a Check, several are BatchChecks, one after the other; see OpenFgaApi.

        A server without BatchCheck is asked by as many Checks.
        """
        found: dict[Check, bool] = {}
        for start in range(0, len(checks), MAX_CHECKS):
            some = checks[start : start + MAX_CHECKS]
            if len(some) > 1 and self._monotonic() >= self._single_until:
                try:
                    found |= await self._batch(some, token, seconds)
                except _NoBatch:
                    self._single_until = self._monotonic() + _NO_BATCH_SECONDS
                else:
                    continue
            found |= await self._singly(some, token, seconds)
        return found

    async def _singly(self, checks: Sequence[Check], token: str, seconds: float) -> dict[Check, bool]:
        """A Check for each question, some of them at the same time. Raises Unavailable if one has no answer."""
        waiting, found = iter(checks), dict[Check, bool]()

        async def work() -> None:
            for check in waiting:
                found[check] = is_allowed(await self._object("check", check.body(), token, seconds))

        workers = [asyncio.ensure_future(work()) for _ in range(min(_AT_ONCE, len(checks)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return found

    async def _batch(self, checks: Sequence[Check], token: str, seconds: float) -> dict[Check, bool]:
        asked = [{**one.body(), "correlation_id": str(number)} for number, one in enumerate(checks)]
        answer = await self._object("batch-check", {"checks": asked}, token, seconds)
        results = answer.get("result")
        if not isinstance(results, dict):
            raise unavailable("OpenFGA's answer to a BatchCheck has no results")
        return {one: is_allowed(results.get(str(number))) for number, one in enumerate(checks)}

    async def _object(self, what: str, body: dict[str, Any], token: str, seconds: float) -> dict[str, Any]:
        status, content = await self._post(f"{self._url}/{what}", {**body, **self._common}, token, seconds)
        found = _parsed(content)
        if status == httpx.codes.OK and isinstance(found, dict):
            return found
        if what == "batch-check" and status in _NO_BATCH and _code(found) != " (store_id_not_found)":
            raise _NoBatch
        raise self.failed(f"it answers {what} with {status}{_code(found)}")


class _NoBatch(Exception):
    """The server has no BatchCheck."""


class SingleAddressApi(_Client):
    """The request of FirecREST: user, relation and object are sent to one address, which is no store's.

    A status of 401, 403 or 404 is a no; with 200, `allowed` in the answer says it.
    """

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        super().__init__(http)
        self._url = url

    async def ask(self, checks: Sequence[Check], token: str, seconds: float) -> dict[Check, bool]:
        """All questions at the same time; see OpenFgaApi."""
        answers = await asyncio.gather(*(self._one(check, token, seconds) for check in checks))
        return dict(zip(checks, answers, strict=True))

    async def _one(self, check: Check, token: str, seconds: float) -> bool:
        status, content = await self._post(self._url, dict(check.key()), token, seconds)
        if status in _NO:
            return False
        if status != httpx.codes.OK:
            raise self.failed(f"it answers with {status}")
        return is_allowed(_parsed(content))


def is_allowed(result: object) -> bool:
    """The answer of one check. Raises Unavailable if it is none: only a plain `true` allows, only `false` denies."""
    allowed = result.get("allowed") if isinstance(result, dict) else None
    if isinstance(result, dict) and "error" not in result:
        if isinstance(allowed, bool):
            return allowed
        if allowed is None and result.keys() <= {"resolution"}:  # protobuf's JSON may leave out false
            return False
    raise unavailable("OpenFGA's answer does not say whether it is allowed")


def unavailable(detail: str) -> Unavailable:
    """The error for a decision that cannot be made now."""
    return Unavailable("Authorization is not available at the moment", detail=detail, retry_after=_RETRY_AFTER)


def _parsed(content: bytes) -> object:
    try:
        found: object = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return found


def _code(answer: object) -> str:
    """OpenFGA's word for an error, which names no tuple."""
    code = answer.get("code") if isinstance(answer, dict) else None
    return f" ({code})" if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,60}", code) else ""
