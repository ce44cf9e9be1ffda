"""Questions to an issuer about single tokens (RFC 7662): what an opaque token says, and whether a token is revoked.

It bounds how much of this an attacker with made-up tokens can cause, and knows neither claims nor signatures.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import httpx

from flamecrest.server.auth.jws import strict_json
from flamecrest.server.auth.response_bodies import read_body
from flamecrest.server.auth.service_account import authenticate
from flamecrest.server.auth.single_flight import SingleFlight
from flamecrest.server.errors import Busy, Unavailable

from .turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from flamecrest.server.auth.service_account import AuthMethod
    from flamecrest.server.deadline import Deadline

log = logging.getLogger(__name__)

Tokens = Literal["opaque", "jwt", "all"]

_MAX_RESPONSE: Final = 64 * 1024  # bytes
_AT_ONCE: Final = 16  # requests to the issuer about tokens that nobody knows, and as many about others
_WAITING: Final = 240  # questions of each kind that wait; more are refused
_REMEMBERED: Final = 10_000  # tokens that were refused, and tokens that were accepted
_REFUSED_FOR: Final = 10.0  # seconds: it may become valid (nbf), or the issuer's replicas may not all know it yet
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds without a request after a failure
_FEW_FAILURES: Final = 3  # failures in succession before there is a pause


class Introspection:
    """The introspection endpoint of one issuer. Use it as a context manager: leaving it cancels requests in progress.

    Tokens that were active before, or whose signature is valid, never wait for others, and no failure that others
    cause keeps them from being asked for.

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
        self._made_up, self._known = _Lane(monotonic), _Lane(monotonic)
        self._refused: OrderedDict[bytes, float] = OrderedDict()  # digest to the end of memory
        self._accepted: OrderedDict[bytes, None] = OrderedDict()  # digests of tokens that were active

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for question in list(self._flights.values()):
            await question.flight.close()

    async def ask(
        self, token: str, deadline: Deadline, *, network: str = "", signed: bool = False
    ) -> dict[str, Any] | None:
        """The claims of an active token; None for any other.

        `network`: where the request comes from. `signed`: the token has a valid signature of the issuer.

        Raises Unavailable if the issuer does not say before the deadline, without a request if it has failed just now,
        and Busy if too many tokens are being asked for. Requests for the same token share one question.
        """
        now, digest = self._monotonic(), hashlib.sha256(token.encode()).digest()
        if (until := self._refused.get(digest)) is not None and now < until:
            return None
        lane = self._known if signed or digest in self._accepted else self._made_up
        lane.check()
        question = self._flights.get(token)
        if question is None:
            question = self._flights[token] = _Question(lane, network)
            question.flight = SingleFlight(partial(self._answer, token, digest, question))
        question.askers += 1
        try:
            ended = await question.flight.join(deadline.left())
        finally:
            question.askers -= 1
            if not question.askers and not question.asked:  # its turn has not come, and nobody waits for it any more
                self._forget(token, question)
                question.flight.cancel()
        if not ended:
            raise _unavailable("no answer before the deadline", 1.0)
        if question.full is not None:
            raise Busy(question.full.public, detail=question.full.detail, retry_after=1)
        if question.failure:
            raise _unavailable(question.failure, question.lane.pause())
        return question.claims

    async def _answer(self, token: str, digest: bytes, question: _Question) -> None:
        lane = question.lane
        try:
            await lane.turns.take(question.network)
            question.asked = True
            try:
                question.claims = await self._post(token)
            finally:
                lane.turns.done()
        except Busy as error:
            question.asked, question.full = True, error
        except _Failed as error:
            question.failure = str(error)
            lane.failed(question.failure)
        else:
            lane.succeeded()
            self._remember(digest, active=question.claims is not None)
        finally:
            self._forget(token, question)

    def _forget(self, token: str, question: _Question) -> None:
        if self._flights.get(token) is question:
            del self._flights[token]

    def _remember(self, digest: bytes, *, active: bool) -> None:
        self._refused.pop(digest, None)
        self._accepted.pop(digest, None)
        if active:
            self._accepted[digest] = None
        else:
            self._refused[digest] = self._monotonic() + _REFUSED_FOR
        for memory in (self._accepted, self._refused):
            while len(memory) > _REMEMBERED:
                memory.popitem(last=False)

    async def _post(self, token: str) -> dict[str, Any] | None:
        self.requests += 1
        form = {"token": token, "token_type_hint": "access_token"}
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        authenticate(headers, form, self._auth_method, self._client_id, self._secret)
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(
                    "POST",
                    self._url,
                    data=form,
                    headers=headers,
                    follow_redirects=False,
                    auth=None,
                    timeout=self._timeout,
                ) as answer,
            ):
                content = await read_body(answer, _MAX_RESPONSE)
        except TimeoutError:
            raise _Failed(f"no response within {self._timeout:.0f} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _Failed(type(error).__name__) from None
        if content is None:
            raise _Failed("the response is too large")
        return _active(answer.status_code, answer.headers.get("content-type", ""), content)

    def __repr__(self) -> str:
        return (
            f"<Introspection of {self.tokens} tokens, {self.requests} requests, "
            f"new: {self._made_up!r}, known: {self._known!r}>"
        )


class _Lane:
    """Turns at the endpoint for tokens of one kind, and the pause after some failures in succession.

    An issuer that is overloaded must not be asked for each token.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.turns = Turns(_AT_ONCE, _WAITING)
        self._monotonic = monotonic
        self._failures, self._retry_at, self._reason = 0, -inf, ""

    def check(self) -> None:
        """Raise Unavailable during a pause."""
        if self._monotonic() < self._retry_at:
            raise _unavailable(self._reason, self.pause())

    def pause(self) -> float:
        """Seconds after which a retry makes sense."""
        return max(1.0, self._retry_at - self._monotonic())

    def failed(self, reason: str) -> None:
        """Note that the issuer did not say."""
        self._failures = min(self._failures + 1, _FEW_FAILURES + 10)
        self._reason = reason
        if self._failures >= _FEW_FAILURES:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (self._failures - _FEW_FAILURES))
            self._retry_at = self._monotonic() + pause
        log.warning("cannot introspect a token: %s", reason)

    def succeeded(self) -> None:
        """Note an answer."""
        self._failures, self._retry_at = 0, -inf

    def __repr__(self) -> str:
        return f"{self.turns!r}, failing ({self._reason})" if self._failures else repr(self.turns)


class _Question:
    """A question to the issuer, and its answer."""

    flight: SingleFlight
    claims: dict[str, Any] | None = None
    failure = ""
    full: Busy | None = None  # there was no room for it
    askers = 0  # requests that wait for the answer
    asked = False  # it waits for the issuer, and no longer for its turn

    def __init__(self, lane: _Lane, network: str) -> None:
        self.lane = lane
        self.network = network


class _Failed(Exception):
    """The issuer did not say; the text may be logged."""


def _active(status: int, media_type: str, content: bytes) -> dict[str, Any] | None:
    """The claims of an active token, None for one that is not (RFC 7662, 2.2). Raises _Failed for anything else."""
    if status != httpx.codes.OK:
        raise _Failed(f"status {status}" + (", check client_id and secret" if status in {400, 401, 403} else ""))
    kind = media_type.partition(";")[0].strip().lower()
    answer = strict_json(content) if kind == "application/json" else None
    if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
        raise _Failed("the response is not that of an introspection endpoint")
    return answer if answer["active"] else None


def _unavailable(detail: str, seconds: float) -> Unavailable:
    return Unavailable(
        "The token issuer could not be asked about the token", detail=detail, retry_after=max(1.0, seconds)
    )
