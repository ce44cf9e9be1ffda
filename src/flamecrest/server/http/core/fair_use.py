"""Admits requests within the limits of their users and clients, and says in the response how much is left.

The header fields are those of https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ (draft 10:
RateLimit, RateLimit-Policy), and of its drafts up to 7, which most clients know (RateLimit-Limit and so on).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Busy

from .responses import ADDED_HEADERS, add_response_headers

if TYPE_CHECKING:
    from starlette.types import Scope

    from flamecrest.server.auth.port import Identity, Verb
    from flamecrest.server.limits.buckets import Level
    from flamecrest.server.limits.fair_use import Admission, FairUse

ADMISSION: Final = "flamecrest.admission"  # key of a scope: the admission of its request
_NAMES: Final = b"ratelimit"  # with which the names of these headers begin


async def admit(fair_use: FairUse, identity: Identity, scope: Scope) -> None:
    """Let a request in. Raises Busy."""
    admission = scope[ADMISSION] = fair_use.begin(identity)
    try:
        await fair_use.admit(admission)
    except Busy:
        await fair_use.hold(admission)
        raise
    finally:
        _show(admission, scope)


async def admit_verb(verb: Verb, scope: Scope) -> None:
    """Count a request that was let in for its verb, and as a transfer if it starts one. Raises Busy."""
    admission: Admission = scope[ADMISSION]
    try:
        await admission.fair_use.verb(admission, verb, starts=verb == "transfer" and scope["method"] == "POST")
    except Busy:
        await admission.fair_use.hold(admission)
        raise
    finally:
        _show(admission, scope)


def _show(admission: Admission, scope: Scope) -> None:
    """Set the headers of the response."""
    added = [one for one in scope.get(ADDED_HEADERS, ()) if not one[0].startswith(_NAMES)]
    scope[ADDED_HEADERS] = added
    if not admission.levels:
        return
    levels = admission.levels.items()
    least = min(admission.levels.values(), key=lambda one: one.remaining)
    add_response_headers(
        scope,
        (
            b"ratelimit-policy",
            ", ".join(f'"{name}";q={one.rate.burst};w={_window(one)}' for name, one in levels).encode(),
        ),
        (b"ratelimit", ", ".join(f'"{name}";r={one.remaining};t={_reset(one)}' for name, one in levels).encode()),
        (b"ratelimit-limit", b"%d" % least.rate.burst),
        (b"ratelimit-remaining", b"%d" % least.remaining),
        (b"ratelimit-reset", b"%d" % _reset(least)),
    )


def _window(level: Level) -> int:
    """Seconds in which an empty bucket is filled."""
    return max(1, math.ceil(round(level.rate.burst / level.rate.per_second, 3)))


def _reset(level: Level) -> int:
    """Seconds until the bucket is full again; if it was empty, until it has enough for this request."""
    return math.ceil(round(level.retry_after or level.reset_after, 3))  # times since the epoch differ by less
