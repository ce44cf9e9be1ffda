"""What the logins of users could not do lately, so that it is not tried, and waited for, with every request."""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import NoCommands, NotStarted

NO_AGENT_SECONDS = 300.0  # for which the agent is not started again where it did not start
SILENT_SECONDS = 30.0  # for which a login that said nothing is not tried again
NO_SHELL_SECONDS = 300.0  # for which what SFTP can do, too, is not tried by a command
NO_COMMANDS_SECONDS = 600.0  # for which a login that offers SFTP only is taken to do so
REFUSED_SECONDS = 30.0  # the same where the server refuses commands: to find that out takes no time


class LoginMemory:
    """By user name: logins without the agent, without commands, and those that start no shell and do not end either."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, agent: bool = True) -> None:
        self._agent = agent  # False: no login has it
        self._clock = clock
        self._no_agent: dict[str, float] = {}  # until when
        self._no_shell: dict[str, float] = {}
        self._no_commands: dict[str, float] = {}
        self._silent: dict[str, tuple[float, NotStarted]] = {}

    def without_agent(self, user: str) -> bool:
        """Whether the agent is not to be started now."""
        return not self._agent or self._no_agent.get(user, 0.0) > self._clock() or self._runs_none(user)

    def note_no_agent(self, user: str) -> None:
        """Remember that the agent did not start."""
        self._no_agent = _fresh(self._no_agent, self._clock())
        self._no_agent[user] = self._clock() + NO_AGENT_SECONDS

    def without_shell(self, user: str) -> bool:
        """Whether no command could be started lately."""
        return self._no_shell.get(user, 0.0) > self._clock() or self._runs_none(user)

    def note_no_shell(self, user: str) -> None:
        """Remember that a command could not be started."""
        self._no_shell = _fresh(self._no_shell, self._clock())
        self._no_shell[user] = self._clock() + NO_SHELL_SECONDS

    def _runs_none(self, user: str) -> bool:
        return self._no_commands.get(user, 0.0) > self._clock()

    def note_no_commands(self, user: str, *, refused: bool = False) -> None:
        """Remember a login that offers SFTP only, or with `refused` one whose server refuses commands."""
        self._no_commands = _fresh(self._no_commands, self._clock())
        self._no_commands[user] = self._clock() + (REFUSED_SECONDS if refused else NO_COMMANDS_SECONDS)

    def check(self, user: str) -> None:
        """Raise NoCommands for a login that offers SFTP only, the NotStarted of a silent login."""
        if self._runs_none(user):
            raise NoCommands
        until, error = self._silent.get(user, (0.0, None))
        if error is not None and until > self._clock():
            raise NotStarted(error.public, detail=error.detail)

    def note_silent(self, user: str, error: NotStarted) -> None:
        """Remember a login that has not greeted in time."""
        now = self._clock()
        self._silent = {name: one for name, one in self._silent.items() if one[0] > now}
        self._silent[user] = (now + SILENT_SECONDS, error)

    def note(self, user: str, error: BaseException) -> None:
        """Remember a login that offers SFTP only, or that has not greeted in time."""
        if isinstance(error, NoCommands):
            self.note_no_commands(user)
        elif isinstance(error, NotStarted) and error.silent:
            self.note_silent(user, error)

    def note_greeting(self, user: str) -> None:
        """Forget that the login did not start a shell."""
        self._silent.pop(user, None)
        self._no_shell.pop(user, None)


def _fresh(until: dict[str, float], now: float) -> dict[str, float]:
    return {name: at for name, at in until.items() if at > now}
