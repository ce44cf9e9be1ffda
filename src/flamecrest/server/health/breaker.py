"""The circuit breaker of one service: from the outcomes of probes and users' requests to open or closed. Pure, no I/O.

The time is an argument: monotonic, in seconds. The rules are in docs/operators/health.md.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum

PER_USER = 2  # failed requests of one user that count: one user with a problem of his own closes no service


class BreakerState(StrEnum):
    """Closed: requests use the service. Open: they are refused. Half open: one request tries it."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and when it lets a request through to try the service. Times in seconds.

    probes: failed probes in a row, at least 2. requests: failed requests of users within `window`, with at most
    PER_USER of one user, and no success in between. retry: pause before a request may try. trial: the longest time for
    which a trial without a result keeps others back. trust: for so long after a user's request was served, failed
    probes do not count.
    """

    probes: int = 2
    requests: int = 4
    window: float = 30.0
    retry: float = 5.0
    trial: float = 30.0
    trust: float = 120.0


class Breaker:
    """The breaker of one service. Users' requests count for more than probes.

    A user's request that is served closes it. A successful probe closes it if probes opened it; if users' requests
    did, it allows a trial at once.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._probes = 0  # failed since the last success
        self._requests: deque[tuple[float, str]] = deque(maxlen=PER_USER * max(1, policy.requests) * 8)
        self._served: float | None = None  # when a user's request was served last, while there were failures
        self._open = False
        self._by_requests = False  # what opened it
        self._next = 0.0  # no trial before
        self._trial_until: float | None = None  # a trial is under way, or was never heard of
        self._tried_by: str | None = None  # the user of the last trial
        self._others_ask = False  # another user was refused since

    @property
    def is_open(self) -> bool:
        """Whether requests are refused, apart from trials."""
        return self._open

    @property
    def suspected(self) -> bool:
        """Whether there are failures that a success would remove."""
        return self._open or self._probes > 0 or bool(self._requests)

    def state(self, now: float) -> BreakerState:
        """The state."""
        if not self._open:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._trying(now) else BreakerState.OPEN

    def ask(self, now: float, user: str = "") -> float | None:
        """None: the request may use the service; it is a trial if the breaker is open. Else the seconds to wait.

        While others ask, the user of the last trial leaves the next one to them for one `retry`: somebody whose
        requests always fail, and who sends many, would else be the only one to try a service that works again.
        """
        if not self._open:
            return None
        if self._trying(now):
            free = self._trial_until or now
        else:
            yields = self._others_ask and user == self._tried_by
            free = max(self._next, self._trial_until or 0.0) + (self._policy.retry if yields else 0.0)
            if now >= free:
                self._tried_by, self._others_ask = user, False
                self._trial_until, self._next = now + self._policy.trial, now + self._policy.retry
                return None
        self._others_ask |= user != self._tried_by
        return min(self._policy.retry, free - now)

    def probe_succeeded(self, now: float) -> None:
        """A probe found the service working."""
        self._probes = 0
        if not self._open:
            return
        if self._by_requests:
            self._next = now
        else:
            self._close()

    def probe_failed(self, now: float) -> None:
        """A probe found the service failing."""
        if self._served is not None and now - self._served < self._policy.trust:
            return
        self._probes += 1
        if not self._open and self._probes >= max(2, self._policy.probes):
            self._opened(now, by_requests=False)

    def request_succeeded(self, now: float) -> None:
        """A user's request was served."""
        if self.suspected:
            self._served = now
        self._probes = 0
        self._requests.clear()
        self._close()

    def request_failed(self, user: str, now: float) -> None:
        """A user's request failed because of the service."""
        self._trial_until = None
        if self._open:
            self._next = now + self._policy.retry
            return
        while self._requests and self._requests[0][0] < now - self._policy.window:
            self._requests.popleft()
        mine = [one for one in self._requests if one[1] == user]
        if len(mine) >= PER_USER:  # further ones of the same user must not push out those of others
            self._requests.remove(mine[0])
        self._requests.append((now, user))
        by_user = Counter(user for _, user in self._requests)
        if sum(min(PER_USER, count) for count in by_user.values()) >= self._policy.requests:
            self._opened(now, by_requests=True)

    def trial_ended(self) -> None:
        """The trial ended and says nothing about the service."""
        self._trial_until = None

    def _trying(self, now: float) -> bool:
        return self._trial_until is not None and now < self._trial_until

    def _opened(self, now: float, *, by_requests: bool) -> None:
        self._open, self._by_requests = True, by_requests
        self._next, self._trial_until, self._served = now + self._policy.retry, None, None

    def _close(self) -> None:
        self._open, self._by_requests, self._trial_until, self._tried_by = False, False, None, None

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"<Breaker {state}: {self._probes} failed probes, {len(self._requests)} failed requests>"
