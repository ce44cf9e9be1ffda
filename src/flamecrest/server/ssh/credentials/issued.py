"""Credentials that a service issues: fetched once for all of a user's logins, and renewed before they end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.errors import CredentialsFailed, CredentialsRefused

from .authority import pairs
from .certificates import Certificate, inspect
from .key_services import Issued, ServiceDown
from .port import Credential, fingerprint

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline

logger = logging.getLogger(__name__)

REUSE = 300.0  # seconds for which further logins of a user use the same credential, at most
MARGIN = 15.0  # seconds before its end from which a certificate is not used for a login
SKEW = 5.0  # seconds by which the clock of the service may be ahead
REFUSED_PAUSE = 15.0  # seconds for which a refusal of one token is remembered
DOWN_PAUSE = 2.0  # seconds without requests after the service did not answer
FAILED_PAUSE = 5.0  # seconds without a renewal after one failed
REMEMBERED = 10_000  # users and refusals, at most


class KeyService(Protocol):
    """A service that issues keys."""

    async def issue(self, identity: Identity) -> Issued:
        """A key and its certificate. Raises CredentialsRefused, CredentialsUnavailable and CredentialsFailed."""
        ...


@dataclass(slots=True)
class _Held:
    """The credential of one user; times are monotonic."""

    credential: Credential
    lasts: float  # seconds from its issue until its end
    renew_after: float = 0.0  # a renewal has failed

    def usable(self, now: float, max_age: float) -> bool:
        age = now - self.credential.obtained
        return age <= min(max_age, REUSE) and self.lasts - age >= min(MARGIN, self.lasts / 4)

    def due(self, now: float) -> bool:
        """Whether half of its time is over."""
        return now - self.credential.obtained >= self.lasts / 2 and now >= self.renew_after


@dataclass(slots=True)
class _Flight:
    """A request to the service that is under way."""

    token: str = field(repr=False)
    task: asyncio.Task[Credential] = field(repr=False)


class IssuedCredentials:
    """What a service has issued, by user. An async context manager that ends its requests."""

    def __init__(
        self, service: KeyService, *, ends_connections: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._service = service
        self._ends_connections = ends_connections
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._flights: dict[str, _Flight] = {}
        self._refusals: dict[bytes, tuple[float, CredentialsRefused]] = {}  # by user and token
        self._down: tuple[float, GatewayError] | None = None

    async def __aenter__(self) -> IssuedCredentials:
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._held.clear()

    async def obtain(self, identity: Identity, deadline: Deadline, max_age: float) -> Credential:
        """See port.Credentials. Of requests of one user at the same time, one asks the service."""
        user, now = identity.username, time.monotonic()
        held = self._held.get(user)
        if held is not None and held.usable(now, max_age):
            if held.due(now):
                self._renew(identity)
            return held.credential
        while True:
            self._raise_remembered(identity)
            flight = self._flights.get(user) or self._start(identity)
            try:
                async with deadline.enforce("The SSH key service"):
                    return await asyncio.shield(flight.task)
            except CredentialsRefused as error:
                if flight.token == identity.token:
                    raise copy(error) from None
            except GatewayError as error:
                raise copy(error) from None
            # the refused token was another one of the same user

    def _renew(self, identity: Identity) -> None:
        """Ask for a new credential while the current one is used."""
        if identity.username in self._flights or self._remembered(identity) is not None:
            return
        self._start(identity)

    def _start(self, identity: Identity) -> _Flight:
        task = asyncio.create_task(self._fetch(identity), name="SSH key service")
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # its waiters may have gone
        flight = self._flights[identity.username] = _Flight(identity.token, task)
        return flight

    async def _fetch(self, identity: Identity) -> Credential:
        user = identity.username
        try:
            held = self._hold(await self._service.issue(identity))
        except GatewayError as error:
            self._note(identity, error)
            raise
        finally:
            self._flights.pop(user, None)
        self._down = None
        self._held.pop(user, None)
        if len(self._held) >= REMEMBERED:
            del self._held[next(iter(self._held))]
        self._held[user] = held
        return held.credential

    def _hold(self, issued: Issued) -> _Held:
        """Check what was issued. Raises CredentialsFailed."""
        try:
            certificate = inspect(issued.certificate)
        except ValueError as error:
            text = "The certificate of the SSH key service can't be used"
            raise CredentialsFailed(text, detail=f"{error}") from None
        lasts = certificate.valid_before - self._clock()
        if lasts <= 0 or certificate.valid_after > self._clock() + SKEW:
            raise CredentialsFailed(
                "The certificate of the SSH key service is not valid now; do the clocks differ?",
                detail=_validity(certificate),
            )
        now = time.monotonic()
        ends = now + lasts if self._ends_connections else float("inf")
        keys = pairs(issued.private_key, issued.certificate)
        return _Held(Credential(keys, fingerprint(certificate.permits()), now, certificate, ends), lasts)

    def _note(self, identity: Identity, error: GatewayError) -> None:
        """Remember a failure: a refusal for its token, silence of the service for all."""
        now = time.monotonic()
        if isinstance(error, ServiceDown):
            self._down = (now + DOWN_PAUSE, error)
        elif isinstance(error, CredentialsRefused):
            self._held.pop(identity.username, None)  # the service no longer trusts the user
            self._refusals = {key: value for key, value in self._refusals.items() if value[0] > now}
            if len(self._refusals) < REMEMBERED:
                self._refusals[_key(identity)] = (now + REFUSED_PAUSE, error)
        if (held := self._held.get(identity.username)) is not None:
            held.renew_after = now + FAILED_PAUSE
        fields = {"user": identity.username, "reason": error.public, "detail": error.detail}
        logger.warning("no SSH key issued", extra={"fields": fields})

    def _remembered(self, identity: Identity) -> tuple[float, GatewayError] | None:
        """The seconds left of a pause and its reason, if there is one."""
        now = time.monotonic()
        for until, error in filter(None, (self._down, self._refusals.get(_key(identity)))):
            if until > now:
                return until - now, error
        return None

    def _raise_remembered(self, identity: Identity) -> None:
        if (found := self._remembered(identity)) is not None:
            left, error = found
            raise type(error)(error.public, detail=error.detail, retry_after=left)


def copy(error: GatewayError) -> GatewayError:
    """The same error for one more request: a traceback belongs to one."""
    return type(error)(error.public, detail=error.detail, retry_after=error.retry_after)


def _key(identity: Identity) -> bytes:
    return hashlib.sha256(f"{identity.username}\0{identity.token}".encode()).digest()


def _validity(certificate: Certificate) -> str:
    return f"valid from {certificate.valid_after:.0f} to {certificate.valid_before:.0f} (seconds since 1970)"
