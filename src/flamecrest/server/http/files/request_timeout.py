"""Patience: how long a caller wants to wait for a long operation, and what to do instead when that is not enough."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Query

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Field, Invalid, Timeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flamecrest.server.http.core.route import Call

HEADER: Final = "request-timeout"

TimeoutSeconds = Annotated[
    float | None,
    Query(
        alias="timeout",
        gt=0,
        allow_inf_nan=False,
        description="Seconds that this may take, up to the system's max_request_timeout. The header "
        "`Request-Timeout` says the same; this parameter goes before it.",
    ),
]


class RequestTimeout:
    """The deadline of one long operation. `instead` is the request that does the same as a job."""

    def __init__(self, call: Call, seconds: float | None, instead: str | None = None) -> None:
        self._most = call.cluster.limits.longest
        name, location = "timeout", "query"
        if seconds is None and HEADER in call.headers:
            name, location = "Request-Timeout", "header"
            seconds = _number(call.headers[HEADER])
        if seconds is not None and not 0 < seconds <= self._most:
            message = f"must be a number of seconds, greater than 0 and at most {self._most:g}"
            raise Invalid(f"`{name}` {message}", fields=(Field(location, name, message),))
        self._deadline = call.deadline if seconds is None else Deadline.after(seconds)
        system = call.cluster.name.lower()
        self._instead = (
            f"submit it as a job: {instead.format(system=system)}"
            if instead
            else f"run it in a job of your own: POST /compute/{system}/jobs"
        )

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[Deadline]:
        """The deadline; a Timeout of the block is told with what to do instead."""
        try:
            yield self._deadline
        except Timeout as error:
            message = f"{error.public}. Give it more time (timeout=, at most {self._most:g} s) or {self._instead}"
            raise Timeout(message, detail=error.detail) from None


def _number(text: str) -> float:
    try:
        return float(text) if text.isascii() and len(text) <= 20 else math.nan
    except ValueError:
        return math.nan
