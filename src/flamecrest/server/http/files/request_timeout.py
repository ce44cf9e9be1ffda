"""The time limit that a caller sets for a long operation, and the advice in the error when it was too short."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Query

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Field, Invalid, Timeout
from flamecrest.server.http.core.caller_deadline import number

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
        description="Greatest duration of the request in seconds, up to the system's max_request_timeout. The header "
        "`Request-Timeout` means the same; this parameter takes precedence.",
    ),
]


class RequestTimeout:
    """The deadline of one long operation. `instead` is the request that runs the same operation as a job."""

    def __init__(self, call: Call, seconds: float | None, instead: str | None = None) -> None:
        self._greatest = call.cluster.limits.longest
        name, location = "timeout", "query"
        if seconds is None and HEADER in call.headers:
            name, location = "Request-Timeout", "header"
            seconds = number(call.headers[HEADER])
        if seconds is not None and not 0 < seconds <= self._greatest:
            message = f"must be a number of seconds, greater than 0 and at most {self._greatest:g}"
            raise Invalid(f"`{name}` {message}", fields=(Field(location, name, message),))
        self._deadline = call.deadline if seconds is None else Deadline.after(seconds)
        system = call.cluster.name.lower()
        self._instead = (
            f"submit it as a job: {instead.format(system=system)}"
            if instead
            else f"run it in a job of your own: POST /compute/{system}/jobs"
        )

    @asynccontextmanager
    async def enforce(self) -> AsyncIterator[Deadline]:
        """Yield the deadline; a Timeout of the block gets advice what to do instead."""
        try:
            yield self._deadline
        except Timeout as error:
            message = f"{error.public}. Give it more time (timeout=, at most {self._greatest:g} s) or {self._instead}"
            late = Timeout(message, detail=error.detail)
            late.by_request = True
            raise late from None
