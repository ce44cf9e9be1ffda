"""The errors of the gateway: the class is the kind, with one text for the caller and one for the log.

Errors know nothing of HTTP: the table from kind to status is in `http/core/errors.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    """

    retry_after: float | None = None

    def __init__(
        self,
        public: str,
        *,
        detail: str | None = None,
        retry_after: float | None = None,
        fields: tuple[Field, ...] = (),
    ) -> None:
        super().__init__(public)
        self.public = public
        self.detail = detail
        self.fields = fields
        if retry_after is not None:
            self.retry_after = retry_after


class Unauthenticated(GatewayError):
    """The request has no token, or an invalid one."""


class Denied(GatewayError):
    """The caller is authenticated and lacks the permission (by a rule of the gateway, or on the cluster)."""


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


class Unavailable(GatewayError):
    """A service behind the gateway is down or overloaded; nothing was done."""

    retry_after = 10.0


class Timeout(GatewayError):
    """The deadline passed. Whether a change was made is unknown unless the text says so."""


class Upstream(GatewayError):
    """A system behind the gateway failed: SSH, a program, a scheduler."""
