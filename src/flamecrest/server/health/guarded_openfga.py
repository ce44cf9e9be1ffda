"""A breaker in front of OpenFGA: while it does not answer, requests fail at once and do not wait for its timeout.

It stands behind the cache of answers: what is known is decided while OpenFGA is down.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from flamecrest.server.auth.authorization.openfga_api import unavailable
from flamecrest.server.errors import Unavailable

from .breaker import Breaker, BreakerPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flamecrest.server.auth.authorization.openfga_api import Check, OpenFgaApi

POLICY: Final = BreakerPolicy(retry=1.0, trial=5.0)  # a short pause: no request is served without an answer


class GuardedApi:
    """Asks another OpenFgaApi unless it has failed for several users."""

    def __init__(self, api: OpenFgaApi, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._monotonic = monotonic
        self._breaker = Breaker(POLICY)

    @property
    def requests(self) -> int:
        """See OpenFgaApi."""
        return self._api.requests

    @property
    def failures(self) -> int:
        """See OpenFgaApi."""
        return self._api.failures

    async def ask(self, checks: Sequence[Check], token: str, seconds: float) -> Mapping[Check, bool]:
        """See OpenFgaApi."""
        breaker = self._breaker
        if breaker.ask(self._monotonic()) is not None:
            raise unavailable("OpenFGA is not asked: it has failed for several users, and is tried again soon")
        try:
            answers = await self._api.ask(checks, token, seconds)
        except Unavailable:
            breaker.request_failed(checks[0].user, self._monotonic())
            raise
        except BaseException:
            breaker.trial_ended()
            raise
        if breaker.suspected:
            breaker.request_succeeded(self._monotonic())
        return answers
