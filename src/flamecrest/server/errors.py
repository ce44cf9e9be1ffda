"""The errors of the gateway: the class is the kind, with one text for the caller and one for the log.

Errors know nothing of HTTP: the table from kind to status is in `http/core/errors.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Field:
    """An invalid field of a request."""

    location: str  # body, query, path or header
    name: str  # as on the wire
    message: str


class GatewayError(Exception):
    """Base class of all errors that are reported to the caller.

    `public` is sent to the caller and must contain no secret; `detail` goes to the log only.
    `retry_after` is the time in seconds after which a retry makes sense; None if it does not.
    `challenge` is the value of WWW-Authenticate; None: the default of the status.
    `refusal` is what a scheduler refuses a job for, as a word for programs, with the scheduler's text in `public`.
    `details` are values for programs, which the caller is shown beside the text.
    """

    retry_after: float | None = None
    challenge: str | None = None
    details: Mapping[str, Any] | None = None

    def __init__(
        self,
        public: str,
        *,
        detail: str | None = None,
        retry_after: float | None = None,
        fields: tuple[Field, ...] = (),
        refusal: str | None = None,
    ) -> None:
        super().__init__(public)
        self.public = public
        self.detail = detail
        self.fields = fields
        self.refusal = refusal
        if retry_after is not None:
            self.retry_after = retry_after


class Unauthenticated(GatewayError):
    """The request has no token, or an invalid one.

    `code` is that of RFC 6750, section 3.1, or RFC 9449, section 7.1; "" if the request has no token.
    """

    def __init__(self, public: str, *, detail: str | None = None, code: str = "") -> None:
        super().__init__(public, detail=detail)
        self.code = code


class Denied(GatewayError):
    """The caller is authenticated and lacks the permission (by a rule of the gateway, or on the cluster).

    `rule` is the name of the gateway's rule that has denied the request, for the log.
    """

    rule: str | None = None


class InsufficientScope(Denied):
    """The token lacks a scope that every request must have. `scopes` are all that are required."""

    def __init__(self, public: str, *, scopes: tuple[str, ...] = (), detail: str | None = None) -> None:
        super().__init__(public, detail=detail)
        self.scopes = scopes


class NotFound(GatewayError):
    """The resource does not exist."""


class Gone(NotFound):
    """The resource existed and will not exist again."""


class Conflict(GatewayError):
    """The state of the resource forbids the operation: it exists already, it is not empty."""


class PreconditionFailed(Conflict):
    """A condition of the request is not met: the resource exists already, or is not the expected version."""


class StaleState(Conflict):
    """The caller's view of the resource is out of date; reading its state again resolves this."""


class Invalid(GatewayError):
    """The request is invalid; repeating it unchanged cannot succeed."""


class KeyReused(Invalid):
    """The idempotency key of the request is that of an earlier, different request."""


class ChecksumMismatch(Invalid):
    """The checksum of the received bytes is not the one that the caller sent."""


class Unsupported(GatewayError):
    """This cluster or scheduler does not support the operation."""


class TooLarge(GatewayError):
    """The data exceeds a configured limit."""


class Busy(GatewayError):
    """The caller has reached a limit; the same request may succeed a little later."""

    retry_after = 1.0


class Locked(Busy):
    """Another request works on the same resource at the moment."""


class InProgress(Busy):
    """An earlier request with the same idempotency key is still being processed."""


class Unavailable(GatewayError):
    """A service behind the gateway is down or overloaded; nothing was done.

    `answers_nobody`: the service itself is down, for all users.
    """

    answers_nobody = False

    retry_after = 10.0


class Timeout(GatewayError):
    """The deadline passed. Whether a change was made is unknown unless the text says so.

    `by_request`: the caller has set the deadline, or was slow himself.
    """

    by_request = False


class Upstream(GatewayError):
    """A system behind the gateway failed: SSH, a program, a scheduler."""
