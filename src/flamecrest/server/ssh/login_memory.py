"""What the logins of users could not do lately, so that it is not tried, and waited for, with every request."""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import NotStarted

NO_AGENT_SECONDS = 300.0  # for which the agent is not started again where it did not start
SILENT_SECONDS = 30.0  # for which a login that said nothing is not tried again


class LoginMemory:
    """By user name: logins without the agent, and logins that start no shell and do not end either."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._no_agent: dict[str, float] = {}  # until when
        self._silent: dict[str, tuple[float, NotStarted]] = {}

    def without_agent(self, user: str) -> bool:
        """Whether the agent is not to be started now."""
        return self._no_agent.get(user, 0.0) > self._clock()

    def note_no_agent(self, user: str) -> None:
        """Remember that the agent did not start."""
        self._no_agent = _fresh(self._no_agent, self._clock())
        self._no_agent[user] = self._clock() + NO_AGENT_SECONDS

    def check(self, user: str) -> None:
        """Raise the NotStarted of a silent login."""
        until, error = self._silent.get(user, (0.0, None))
        if error is not None and until > self._clock():
            raise NotStarted(error.public, detail=error.detail)

    def note_silent(self, user: str, error: NotStarted) -> None:
        """Remember a login that has not greeted in time."""
        now = self._clock()
        self._silent = {name: one for name, one in self._silent.items() if one[0] > now}
        self._silent[user] = (now + SILENT_SECONDS, error)

    def note_greeting(self, user: str) -> None:
        """Forget that the login was silent."""
        self._silent.pop(user, None)


def _fresh(until: dict[str, float], now: float) -> dict[str, float]:
    return {name: at for name, at in until.items() if at > now}
