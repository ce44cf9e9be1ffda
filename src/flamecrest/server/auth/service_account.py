"""Tokens for the gateway's own service account (OAuth 2.0 client credentials), as health probes need them.

It knows the token endpoint alone: neither what the token is used for nor how it is validated.
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

from .jws import MAX_TOKEN, shown
from .single_flight import Flight

if TYPE_CHECKING:
    from collections.abc import Callable

    from flamecrest.server.deadline import Deadline

log = logging.getLogger(__name__)

AuthMethod = Literal["client_secret_post", "client_secret_basic"]

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750, b64token
_MAX_ANSWER = 64 * 1024  # bytes
_TIMEOUT = 10.0  # seconds for one exchange
_PAUSE = 5.0  # seconds before an endpoint that has failed is asked again
_LIFE = 60.0  # seconds that a token is kept whose life the issuer does not tell
_EARLY = 30.0  # seconds before its end that a token is replaced (for short ones: a quarter of their life)


class ClientCredentials:
    """One service account. Use it as a context manager: leaving it ends an exchange under way."""

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
        self._flight = Flight(self._exchange)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._flight.close()

    async def token(self, deadline: Deadline) -> str:
        """A token with some life left, kept until shortly before its end.

        Unavailable when there is none to be had, at once when the endpoint has failed a moment ago.
        """
        now = self._monotonic()
        if now < self._until:
            return self._token
        if now >= self._retry_at and not await self._flight.join(deadline.left()):
            raise _unavailable("the token endpoint did not answer before the deadline", 1.0)
        if self._failure:
            raise _unavailable(self._failure, self._retry_at - self._monotonic())
        return self._token

    async def _exchange(self) -> None:
        try:
            token, life = _granted(*await self._post())
        except _Failed as error:
            self._failure, self._retry_at = str(error), self._monotonic() + _PAUSE
            log.warning("no token for the service account: %s", self._failure)
        else:
            self._failure, self._retry_at = "", -inf
            self._token, self._until = token, self._monotonic() + life - min(_EARLY, life / 4)

    async def _post(self) -> tuple[int, bytes]:
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._auth_method == "client_secret_basic":
            pair = f"{quote_plus(self._client_id)}:{quote_plus(self._secret)}"  # RFC 6749, 2.3.1
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form |= {"client_id": self._client_id, "client_secret": self._secret}
        request = self._http.build_request("POST", self._token_url, data=form, headers=headers)
        content = bytearray()
        try:
            async with asyncio.timeout(_TIMEOUT):
                answer = await self._http.send(request, stream=True, follow_redirects=False, auth=None)
                try:
                    async for chunk in answer.aiter_raw():
                        content += chunk
                        if len(content) > _MAX_ANSWER:
                            raise _Failed("the answer is too large")
                finally:
                    await answer.aclose()
        except TimeoutError:
            raise _Failed(f"no answer within {_TIMEOUT:.0f} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _Failed(type(error).__name__) from None
        return answer.status_code, bytes(content)

    def __repr__(self) -> str:
        state = "with a token" if self._token else "without a token"
        return f"<ClientCredentials {self._client_id!r}, {state}{', failing' if self._failure else ''}>"


class _Failed(Exception):
    """No token came; the text is fit for a log."""


def _granted(status: int, content: bytes) -> tuple[str, float]:
    """The token and its life in seconds (RFC 6749, 5.1); the error code where there is one (5.2)."""
    answer: Any = None
    try:
        answer = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _Failed(f"status {status}, and not a JSON object")
    if status != httpx.codes.OK:
        raise _Failed(f"status {status}, error {shown(answer.get('error'))}")
    token, kind, life = answer.get("access_token"), answer.get("token_type"), answer.get("expires_in", _LIFE)
    if not isinstance(token, str) or len(token) > MAX_TOKEN or _TOKEN.fullmatch(token) is None:
        raise _Failed("an answer without a token that can be used")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _Failed(f"a token of the type {shown(kind)}")
    return token, _seconds(life)


def _seconds(life: object) -> float:
    """`expires_in`, which some servers send as text; what is no sensible number counts as not told."""
    try:
        seconds = float(life) if isinstance(life, int | float | str) else _LIFE
    except (ValueError, OverflowError):
        return _LIFE
    return seconds if 0 < seconds < inf else _LIFE


def _unavailable(detail: str, seconds: float) -> Unavailable:
    return Unavailable(
        "The token issuer gave no token for the service account", detail=detail, retry_after=max(1.0, seconds)
    )
