"""Questions to an issuer about single tokens (RFC 7662): what an opaque token says, and whether a token is revoked.

It bounds how much of this an attacker with made-up tokens can cause, and knows neither claims nor signatures.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Self

import httpx

from flamecrest.server.errors import Busy, Unavailable

from .response_bodies import read_body
from .service_account import authenticate
from .single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from flamecrest.server.deadline import Deadline

    from .service_account import AuthMethod

log = logging.getLogger(__name__)

Tokens = Literal["opaque", "jwt", "all"]

_MAX_RESPONSE = 64 * 1024  # bytes
_AT_ONCE = 16  # requests to the issuer
_WAITING = 256  # tokens that are asked for or wait; more are refused
_REFUSED = 10_000  # refused tokens that are remembered
_REFUSED_FOR = 60.0  # seconds: a token that is not active does not become active
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds without a request after a failure
_FEW_FAILURES = 3  # failures in succession before there is a pause


class Introspection:
    """The introspection endpoint of one issuer. Use it as a context manager: leaving it cancels requests in progress.

    url: the endpoint; client_id, secret, auth_method: how the gateway authenticates there.
    tokens: `opaque` for tokens that are no JWT, `jwt` for JWTs, whose revocation is noticed by that, `all` for both.
    life: seconds for which an answer is used.
    timeout: seconds for one request.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        secret: str,
        *,
        http: httpx.AsyncClient,
        auth_method: AuthMethod = "client_secret_basic",
        tokens: Tokens = "opaque",
        life: float = 60.0,
        timeout: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tokens = tokens
        self.life = life
        self.requests = 0  # sent so far
        self._url, self._client_id, self._secret = url, client_id, secret
        self._http = http
        self._auth_method = auth_method
        self._timeout = timeout
        self._monotonic = monotonic
        self._flights: dict[str, _Question] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._refused: OrderedDict[bytes, float] = OrderedDict()  # digest to the end of memory
        self._failures, self._retry_at, self._reason = 0, -inf, ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for question in list(self._flights.values()):
            await question.flight.close()

    async def ask(self, token: str, deadline: Deadline) -> dict[str, Any] | None:
        """The claims of an active token; None for any other.

        Raises Unavailable if the issuer does not say before the deadline, without a request if it has failed just now,
        and Busy if too many tokens are being asked for. Requests for the same token share one question.
        """
        now, digest = self._monotonic(), hashlib.sha256(token.encode()).digest()
        if (until := self._refused.get(digest)) is not None and now < until:
            return None
        if now < self._retry_at:
            raise _unavailable(self._reason, self._retry_at - now)
        question = self._flights.get(token)
        if question is None:
            if len(self._flights) >= _WAITING:
                raise Busy("Too many new tokens at the moment", detail="too many tokens to introspect", retry_after=1)
            question = self._flights[token] = _Question()
            question.flight = SingleFlight(partial(self._answer, token, digest, question))
        if not await question.flight.join(deadline.left()):
            raise _unavailable("no answer before the deadline", 1.0)
        if question.failure:
            raise _unavailable(question.failure, max(1.0, self._retry_at - self._monotonic()))
        return question.claims

    async def _answer(self, token: str, digest: bytes, question: _Question) -> None:
        try:
            async with self._at_once:
                question.claims = await self._post(token)
        except _Failed as error:
            question.failure = str(error)
            self._failed(question.failure)
        else:
            self._failures, self._retry_at = 0, -inf
            if question.claims is None:
                self._refused[digest] = self._monotonic() + _REFUSED_FOR
                while len(self._refused) > _REFUSED:
                    self._refused.popitem(last=False)
        finally:
            self._flights.pop(token, None)

    def _failed(self, reason: str) -> None:
        """Pause after some failures in succession: an issuer that is overloaded must not be asked for each token."""
        self._failures = min(self._failures + 1, _FEW_FAILURES + 10)
        self._reason = reason
        if self._failures >= _FEW_FAILURES:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (self._failures - _FEW_FAILURES))
            self._retry_at = self._monotonic() + pause
        log.warning("cannot introspect a token: %s", reason)

    async def _post(self, token: str) -> dict[str, Any] | None:
        self.requests += 1
        form = {"token": token, "token_type_hint": "access_token"}
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        authenticate(headers, form, self._auth_method, self._client_id, self._secret)
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(
                    "POST", self._url, data=form, headers=headers, follow_redirects=False, auth=None
                ) as answer,
            ):
                content = await read_body(answer, _MAX_RESPONSE)
        except TimeoutError:
            raise _Failed(f"no response within {self._timeout:.0f} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _Failed(type(error).__name__) from None
        if content is None:
            raise _Failed("the response is too large")
        return _active(answer.status_code, content)

    def __repr__(self) -> str:
        state = f", failing ({self._reason})" if self._failures else ""
        return f"<Introspection of {self.tokens} tokens, {self.requests} requests{state}>"


class _Question:
    """A question to the issuer that is being asked, and its answer."""

    flight: SingleFlight
    claims: dict[str, Any] | None = None
    failure = ""


class _Failed(Exception):
    """The issuer did not say; the text may be logged."""


def _active(status: int, content: bytes) -> dict[str, Any] | None:
    """The claims of an active token, None for one that is not (RFC 7662, 2.2). Raises _Failed for anything else."""
    if status != httpx.codes.OK:
        raise _Failed(f"status {status}" + (", check client_id and secret" if status in {400, 401, 403} else ""))
    try:
        answer = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
        raise _Failed("the response is not that of an introspection endpoint")
    return answer if answer["active"] else None


def _unavailable(detail: str, seconds: float) -> Unavailable:
    return Unavailable(
        "The token issuer could not be asked about the token", detail=detail, retry_after=max(1.0, seconds)
    )
