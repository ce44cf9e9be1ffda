"""What is remembered of logins: the failures of each user, and how a login node treats the gateway's address.

Pure, without I/O: the time is an argument (monotonic, seconds). The rules are in docs/developers/pool.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flamecrest.server.errors import GatewayError

    from .host import Host

REFUSED_PAUSES = (5.0, 10.0, 20.0, 40.0, 80.0, 120.0)  # seconds until refused credentials are tried again
TIMEOUT_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds until a login that got no answer is tried again
DROP_PAUSES = (0.1, 0.3, 0.9, 2.0, 4.0)  # seconds without logins after the node dropped a connection
PENALTY_PAUSES = (1.0, 2.0, 4.0, 8.0)  # the same after a penalty, which lasts for 15 seconds or longer
DROPS_BORNE, PENALTIES_BORNE = 4, 2  # pauses that a request waits for; after more it fails at once
KEPT = 600.0  # seconds after the pause for which a failure is remembered
REMEMBERED = 10_000  # failures, at most

FAST_DIALS = 8  # young logins at once: sshd's MaxStartups (10:30:100 by default) drops some beyond ten
SLOW_DIALS = 64  # logins at once, with those that take longer than usual
REPEATED_DIALS = 8  # logins at once of users whose last login got no answer
SHORT_LOGIN, LONG_LOGIN = 0.3, 3.0  # seconds after which a login counts as slow, at least and at most

# PerSourcePenalties of OpenSSH by default: 5 s for each failed login, 1 s for a login that was not attempted; all
# connections are dropped from a sum of 15 s on, which decreases by 1 s per second. From 9.8 on.
FAILED_COST, UNTRIED_COST = 5.0, 1.0
MARGIN = 1.0  # seconds between our sum and the node's
PENALISING, OTHERS = 3, 10  # failed logins in a short time, at most, at a node that may punish them, and at others


class Outcome(Enum):
    """How a login ended."""

    SUCCEEDED = auto()
    REFUSED = auto()
    UNTRIED = auto()  # after the server's identification, before its decision
    OTHER = auto()  # the node was not reached


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed login of one user on one node."""

    credentials: bytes  # their fingerprint
    error: GatewayError
    count: int
    until: float  # not tried again before
    timeout: bool  # no answer, instead of a refusal


class FailedLogins:
    """The last failed login of each user on each node."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, Host], Failure] = {}

    def last(self, user: str, host: Host, credentials: bytes) -> Failure | None:
        """The last failure, if it was with the same credentials."""
        found = self._failures.get((user, host))
        return found if found is not None and found.credentials == credentials else None

    def add(
        self, user: str, host: Host, credentials: bytes, error: GatewayError, now: float, *, timeout: bool
    ) -> Failure:
        """Remember a failure; the pause grows while the same credentials fail."""
        before = self.last(user, host, credentials)
        count = before.count + 1 if before is not None and before.timeout == timeout else 1
        pauses = TIMEOUT_PAUSES if timeout else REFUSED_PAUSES
        found = Failure(credentials, error, count, now + nth(pauses, count), timeout)
        if len(self._failures) >= REMEMBERED:
            del self._failures[next(iter(self._failures))]
        self._failures[user, host] = found
        return found

    def forget(self, user: str, host: Host) -> None:
        """The user has logged in."""
        self._failures.pop((user, host), None)

    def prune(self, now: float) -> None:
        """Forget old failures."""
        for key in [key for key, failure in self._failures.items() if failure.until + KEPT < now]:
            del self._failures[key]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known of a login before it is made."""

    proven: bool = False  # the same credentials have logged in before
    failed: bool = False  # the user's last login with these credentials was refused
    unanswered: bool = False  # the user's last login got no answer


@dataclass(slots=True, eq=False)
class Dial:
    """A login under way."""

    attempt: Attempt
    started: float


@dataclass(slots=True)
class LoginNode:
    """One login node: the logins under way, its pauses, and the penalty that failed logins have cost there.

    `max_failed`: failed logins in a short time; None: PENALISING or OTHERS, by the version of its server.
    """

    max_failed: int | None = None
    version: str | None = None  # the server's SSH identification
    drops: int = 0  # pauses without a login in between
    paused_until: float = 0.0
    cause: GatewayError | None = None  # of the pause
    penalty_paused: bool = False  # the cause is a penalty of the node
    dials: set[Dial] = field(default_factory=set)
    _usual: float = 0.1  # seconds that a login takes, a moving average
    _penalty: float = 0.0
    _penalty_at: float = 0.0

    def wait(self, attempt: Attempt, now: float) -> float:
        """Seconds until the login may begin, as far as that is known; 0: now."""
        if now < self.paused_until:
            return self.paused_until - now
        young = [dial for dial in self.dials if now - dial.started < self._slow and not dial.attempt.unanswered]
        if self.drops:
            most = 1  # one login shows whether the node takes connections again
        elif attempt.unanswered:
            most = FAST_DIALS + 1 if self._unanswered < REPEATED_DIALS else 0
        else:
            most = FAST_DIALS if len(self.dials) < SLOW_DIALS else 0
        if len(young) >= most:
            return min((dial.started + self._slow - now for dial in young), default=1.0)
        return 0.0 if attempt.proven else self._wait_for_penalty(attempt, now)

    def identified(self, version: str) -> None:
        """The server has sent its SSH identification."""
        self.version = version

    def closed(self, now: float) -> bool:
        """Whether a login fails at once: connections were dropped again and again, and the pause lasts."""
        return now < self.paused_until and self.drops > (PENALTIES_BORNE if self.penalty_paused else DROPS_BORNE)

    def begin(self, attempt: Attempt, now: float) -> Dial:
        """A login begins."""
        dial = Dial(attempt, now)
        self.dials.add(dial)
        return dial

    def end(self, dial: Dial, outcome: Outcome, now: float) -> None:
        """A login has ended. After a dropped connection `drop` is called, too."""
        self.dials.discard(dial)
        match outcome:
            case Outcome.SUCCEEDED:
                self.drops, self.cause = 0, None
                self._usual += (now - dial.started - self._usual) / 8
            case Outcome.REFUSED | Outcome.UNTRIED:
                if outcome is Outcome.REFUSED:  # how long one that hangs was waited for says nothing about the node
                    self._usual += (now - dial.started - self._usual) / 8
                self._penalty = self.penalty(now) + (FAILED_COST if outcome is Outcome.REFUSED else UNTRIED_COST)
                self._penalty_at = now
                self.drops = 0  # it took the connection
            case Outcome.OTHER:
                pass

    def drop(self, dial: Dial, cause: GatewayError, now: float, *, penalty: bool) -> bool:
        """The node dropped a connection: pause. False if the login began before the last pause, which stays."""
        if self.drops and dial.started < self.paused_until and now < self.paused_until:
            return False
        self.drops += 1
        self.cause = cause
        self.penalty_paused = penalty
        self.paused_until = now + nth(PENALTY_PAUSES if penalty else DROP_PAUSES, self.drops)
        return True

    def penalty(self, now: float) -> float:
        """Seconds of penalty that the node may count against the gateway's address."""
        return max(0.0, self._penalty - (now - self._penalty_at))

    @property
    def penalises(self) -> bool:
        """Whether the node may punish failed logins: OpenSSH 9.8 or newer, or not known yet."""
        return self.version is None or ((found := openssh_version(self.version)) is not None and found >= (9, 8))

    @property
    def _slow(self) -> float:
        return min(LONG_LOGIN, max(SHORT_LOGIN, 3 * self._usual))

    @property
    def _unanswered(self) -> int:
        return sum(dial.attempt.unanswered for dial in self.dials)

    def _wait_for_penalty(self, attempt: Attempt, now: float) -> float:
        """Seconds until the login may fail without harm to others.

        A login whose credentials were refused before leaves room for one more failure, of somebody else.
        """
        most = self.max_failed or (PENALISING if self.penalises else OTHERS)
        unproven = sum(not dial.attempt.proven for dial in self.dials if now - dial.started < self._slow)
        spare = FAILED_COST if attempt.failed and most > 2 else 0.0
        room = FAILED_COST * (most - 1) - (MARGIN if most > 1 else 0.0)
        return max(0.0, self.penalty(now) + FAILED_COST * unproven + spare - room)


def nth(pauses: Sequence[float], count: int) -> float:
    """The pause after that many failures."""
    return pauses[min(count, len(pauses)) - 1]


def openssh_version(identification: str) -> tuple[int, int] | None:
    """The version in an SSH identification ("SSH-2.0-OpenSSH_9.2p1 Debian-2"); None: not OpenSSH."""
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", identification)
    return (int(found[1]), int(found[2])) if found else None
