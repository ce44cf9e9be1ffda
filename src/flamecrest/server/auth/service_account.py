"""Tokens for the gateway's service account by the OAuth 2.0 client credentials grant (RFC 6749, 4.4).

It knows the token endpoint only: neither what the token is used for nor how it is validated.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote_plus

import httpx

from flamecrest.server.errors import Unavailable

from .jws import MAX_TOKEN, loggable
from .response_bodies import read_body
from .single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from flamecrest.server.deadline import Deadline

log = logging.getLogger(__name__)

AuthMethod = Literal["client_secret_post", "client_secret_basic"]

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750, b64token
_MAX_RESPONSE = 64 * 1024  # bytes
_TIMEOUT = 10.0  # seconds for one request
_RETRY_AFTER = 5.0  # seconds before an endpoint that has failed is asked again
_DEFAULT_LIFETIME = 60.0  # seconds, if the response has no `expires_in`
_EARLY = 30.0  # seconds before it expires that a token is replaced; for short lifetimes, a quarter of them


class NoToken(Unavailable):
    """The issuer gave no token for the service account."""


class ClientCredentials:
    """One service account. Use it as a context manager: leaving it cancels a request in progress."""

    def __init__(
        self,
        token_url: str,
        client_id: str,
        secret: str,
        *,
        http: httpx.AsyncClient,
        auth_method: AuthMethod = "client_secret_post",
        scope: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_url = token_url
        self._client_id = client_id
        self._secret = secret
        self._http = http
        self._auth_method = auth_method
        self._scope = scope
        self._monotonic = monotonic
        self._token, self._until = "", -inf
        self._failure, self._retry_at = "", -inf
        self._flight = SingleFlight(self._refresh)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._flight.close()

    async def token(self, deadline: Deadline) -> str:
        """A token that is still valid for a while; cached until shortly before it expires.

        Raises NoToken if no token can be fetched, without a request if the endpoint has failed recently.
        """
        now = self._monotonic()
        if now < self._until:
            return self._token
        if now >= self._retry_at and not await self._flight.join(deadline.left()):
            raise _unavailable("no response from the token endpoint before the deadline", 1.0)
        if self._failure:
            raise _unavailable(self._failure, self._retry_at - self._monotonic())
        return self._token

    async def _refresh(self) -> None:
        try:
            token, lifetime = _granted(*await self._post())
        except _TokenError as error:
            self._failure, self._retry_at = str(error), self._monotonic() + _RETRY_AFTER
            log.warning("cannot get a token for the service account: %s", self._failure)
        else:
            self._failure, self._retry_at = "", -inf
            self._token, self._until = token, self._monotonic() + lifetime - min(_EARLY, lifetime / 4)

    async def _post(self) -> tuple[int, bytes]:
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        authenticate(headers, form, self._auth_method, self._client_id, self._secret)
        request = self._http.build_request("POST", self._token_url, data=form, headers=headers)
        try:
            async with asyncio.timeout(_TIMEOUT):
                response = await self._http.send(request, stream=True, follow_redirects=False, auth=None)
                try:
                    content = await read_body(response, _MAX_RESPONSE)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise _TokenError(f"no response within {_TIMEOUT:.0f} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _TokenError(type(error).__name__) from None
        if content is None:
            raise _TokenError("the response is too large")
        return response.status_code, content

    def __repr__(self) -> str:
        state = "with a token" if self._token else "without a token"
        return f"<ClientCredentials {self._client_id!r}, {state}{', failing' if self._failure else ''}>"


class _TokenError(Exception):
    """The endpoint returned no token; the text may be logged."""


def _granted(status: int, content: bytes) -> tuple[str, float]:
    """The token and its lifetime in seconds (RFC 6749, 5.1); raises _TokenError with the error code (5.2)."""
    answer: Any = None
    try:
        answer = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _TokenError(f"status {status}, the body is not a JSON object")
    if status != httpx.codes.OK:
        raise _TokenError(f"status {status}, error {loggable(answer.get('error'))}")
    token, kind = answer.get("access_token"), answer.get("token_type")
    if not isinstance(token, str) or len(token) > MAX_TOKEN or _TOKEN.fullmatch(token) is None:
        raise _TokenError("the response has no valid `access_token`")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _TokenError(f"the token type is {loggable(kind)}, not Bearer")
    return token, _lifetime(answer.get("expires_in"))


def _lifetime(expires_in: object) -> float:
    """`expires_in` in seconds; some servers send it as a string. The default if it is missing or invalid."""
    try:
        seconds = float(expires_in) if isinstance(expires_in, int | float | str) else _DEFAULT_LIFETIME
    except (ValueError, OverflowError):
        return _DEFAULT_LIFETIME
    return seconds if 0 < seconds < inf else _DEFAULT_LIFETIME


def _unavailable(detail: str, seconds: float) -> NoToken:
    return NoToken(
        "The token issuer gave no token for the service account", detail=detail, retry_after=max(1.0, seconds)
    )


def authenticate(
    headers: dict[str, str], form: dict[str, str], method: AuthMethod, client_id: str, secret: str
) -> None:
    """Add a client's id and secret to the headers or to the form of a request to an issuer."""
    if method == "client_secret_basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"  # RFC 6749, 2.3.1
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        form |= {"client_id": client_id, "client_secret": secret}
