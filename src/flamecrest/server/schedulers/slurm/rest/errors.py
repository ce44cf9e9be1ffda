"""From slurmrestd's errors to gateway errors.

An error may come with status 200, and a successful submission with an entry in `errors`. So the numbers count
(slurm_errno.h), then Slurm's messages, which are those of its commands, and the HTTP status last.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from flamecrest.server.errors import Conflict, Denied, GatewayError, Invalid, Timeout, Unavailable, Upstream
from flamecrest.server.schedulers.job_errors import (
    job_not_found,
    maybe_submitted,
    one_line,
    refusal_kind,
    refused,
    scheduler_down,
    scheduler_unavailable,
)
from flamecrest.server.schedulers.slurm.errors import REFUSALS, is_passing, is_unanswered

from .fields import items, mapping, text

UNKNOWN_JOB: Final = 2017
ENDED: Final = 2021
_FINISHED: Final = 2084
NOTHING_FOUND: Final = 9003
_NOT_PARSED: Final = 9001  # the request; the errors beside it, which say of what, have the number of any failure, -1

_DENIED: Final = frozenset({2002, 2010})
_CONFLICT: Final = frozenset({2020, 2021, 2024, 2026, 2073, 2084, 2108})
_AUTHENTICATION: Final = frozenset({1007, 2203})
# -1 and 1 are what some versions report when the controller does not answer
_DOWN: Final = frozenset({-1, 1, 1001, 1800, 2019, 7000})
_NOBODY: Final = frozenset({1001, 1800})  # no connection to the controller, for no user
_UNANSWERED: Final = frozenset({1002, 1003, 1801, 1802, 1803, 5004, 5005})
_REQUESTS: Final = range(2000, 3000)  # what Slurm says about requests
_FAILED_UPDATE: Final = re.compile(r"job (?:array )?update from \S+ failed")  # v0.0.38; names the gateway's address
_UPDATED: Final = "job array update from "  # v0.0.38: an array that was updated, without a number and an error
_MAX_TEXT: Final = 1000  # characters of a message that callers are shown
_UNAUTHORIZED: Final = frozenset({401, 403, 511})
_SERVER_ERROR: Final = 500
_DOWN_STATUS: Final = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class RestError:
    """One entry of `errors`, or the error in one of `status`."""

    number: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of slurmrestd: the HTTP status, and the JSON object; `text` is an answer that is no JSON."""

    status: int
    body: dict[str, Any]
    text: str = ""

    @property
    def errors(self) -> list[RestError]:
        """The errors that it reports, those of each job included."""
        return list(_errors(self.body))

    @property
    def named(self) -> frozenset[str]:
        """The ids of the jobs whose outcome it tells, as Slurm's commands print them."""
        return frozenset(text(one.get("step_id")) for one in items(self.body.get("status")))

    @property
    def warnings(self) -> list[str]:
        """What it warns of, such as fields that it has ignored."""
        return [text(one.get("description")) for one in items(self.body.get("warnings"))]


def _errors(body: dict[str, Any]) -> Iterator[RestError]:
    for one in items(body.get("errors")):
        code = next(
            (one[key] for key in ("error_number", "error_code", "errno") if isinstance(one.get(key), int)), None
        )
        if code == 0:  # `Unknown signal (null)`, `No error`
            code = None
        description, error = text(one.get("description")), text(one.get("error"))
        if code == NOTHING_FOUND or (code is None and not error and description.startswith(_UPDATED)):
            continue
        yield RestError(code, _message(description, error))
    for one in items(body.get("status")):
        outcome = mapping(one.get("error"))
        number = outcome.get("code")
        if isinstance(number, int) and number:
            yield RestError(number, _message("", text(outcome.get("message")) or text(outcome.get("string"))))


def _message(description: str, error: str) -> str:
    if error and _FAILED_UPDATE.fullmatch(description):
        return one_line(error)
    both = f"{description}: {error}" if description and error and error not in description else description or error
    return one_line(both) or "no message"


def is_failure(reply: Reply) -> bool:
    """Whether the request has failed, whatever its status."""
    return reply.status >= 400 or bool(reply.errors)


def is_about_ended(reply: Reply) -> bool:
    """Whether it only says that jobs have ended: of an array, those elements that have, and nothing of the others."""
    return bool(reply.errors) and all(error.number in {ENDED, _FINISHED} for error in reply.errors)


def error_of(reply: Reply, *, own_token: bool, submits: bool = False, given: Collection[str] = ()) -> GatewayError:
    """The error for a failed request. `own_token`: it was made with the caller's own token.

    `given`: the fields that the request sets, by their names on the wire.
    """
    found = reply.errors
    number = _decisive(reply)
    message = "; ".join(dict.fromkeys(one.message for one in found))[:_MAX_TEXT]
    message = message or _message("", reply.text or f"status {reply.status}")
    detail = f"slurmrestd: status {reply.status}: {[(one.number, one.message[:200]) for one in found]}"
    if reply.status in _UNAUTHORIZED or number in _AUTHENTICATION:
        kind = Denied if own_token else Unavailable
        return kind(f"slurmrestd does not accept the user's token: {message}", detail=detail)
    if number == UNKNOWN_JOB:
        return job_not_found(message)
    if number in _DENIED:
        return Denied(message, detail=detail, refusal=refusal_kind(message, REFUSALS))
    if submits and (number in _UNANSWERED or is_unanswered(message)):
        return maybe_submitted(Timeout(f"The scheduler did not answer: {message}", detail=detail))
    if number in _DOWN or number in _UNANSWERED or is_passing(message) or is_unanswered(message):
        return (scheduler_down if number in _NOBODY else scheduler_unavailable)(message, detail)
    if number in _CONFLICT and not submits:
        return Conflict(message, detail=detail)
    if number in _REQUESTS or (number is not None and number >= 9000 and reply.status < 500):
        return refused(message, REFUSALS, given, detail=detail)
    if reply.status in _DOWN_STATUS:
        return scheduler_down(message, detail)
    if reply.status in {400, 422} or (number is not None and number >= 9000):
        return Invalid(f"slurmrestd refuses the request: {message}", detail=detail)
    return Upstream(f"slurmrestd failed: {message}", detail=detail)


def _decisive(reply: Reply) -> int | None:
    """The number that tells what has failed."""
    numbers = [one.number for one in reply.errors if one.number is not None]
    if _NOT_PARSED in numbers and reply.status < _SERVER_ERROR:
        return _NOT_PARSED
    return numbers[0] if numbers else None
