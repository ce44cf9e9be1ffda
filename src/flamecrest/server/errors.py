"""The one tree of errors: what went wrong, in words for the caller and in words for the log.

An error knows its kind and nothing of HTTP; `http/problems.py` holds the one table from kind to status.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request that is wrong: where it stands, its wire name, and what is wrong with it."""

    location: str  # body, query, path or header
    name: str
    message: str


class GatewayError(Exception):
    """Base of all errors that a caller may be told about.

    `public` goes to the caller and must hold no secret; `detail` goes to the log only.
    `retry_after` (seconds) says when trying again makes sense.
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
    """No token, or one that is not accepted."""


class Denied(GatewayError):
    """The caller is known and may not do this (by rule, or by the permissions of the cluster)."""


class NotFound(GatewayError):
    """The thing asked for does not exist."""


class Gone(NotFound):
    """It did exist, and will not again."""


class Conflict(GatewayError):
    """The thing is in a state that forbids the operation (it exists already, it is not empty)."""


class Unmet(Conflict):
    """A condition that the caller set does not hold: the thing is there, or is not the one that the caller knows."""


class OutOfStep(Conflict):
    """The caller believes the thing to be in another state than it is in; looking again tells."""


class Invalid(GatewayError):
    """The request can never work as it is written."""


class Corrupt(Invalid):
    """The bytes that arrived are not those that were sent: their checksum is another."""


class Unsupported(GatewayError):
    """This cluster or scheduler cannot do that at all."""


class TooLarge(GatewayError):
    """More bytes than the configuration allows."""


class Busy(GatewayError):
    """The caller's own share is used up; the same request will work a little later."""

    retry_after = 1.0


class Locked(Busy):
    """Somebody else works on the same thing at this moment."""


class Unavailable(GatewayError):
    """A service behind the gateway is down, or full; nothing was done."""

    retry_after = 10.0


class Timeout(GatewayError):
    """The deadline passed first. Whether a change was made is not known unless the text says so."""


class Upstream(GatewayError):
    """The machine behind the gateway failed (SSH, a program, a scheduler)."""
