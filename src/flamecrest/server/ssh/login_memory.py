"""What the logins of users could not do lately, so that it is not tried, and waited for, with every request."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from .errors import NoCommands, NotStarted

T = TypeVar("T")

NO_AGENT_SECONDS = 300.0  # for which the agent is not started again where it did not start
NO_SHELL_SECONDS = 300.0  # for which what SFTP can do, too, is not tried by a command where there is no agent at all
DOUBTED_SECONDS = 86400.0  # for which no request waits for what has not started, unless it has started meanwhile
NO_COMMANDS_SECONDS = 600.0  # for which a login that offers SFTP only is taken to do so
REFUSED_SECONDS = 30.0  # the same where the server refuses commands: to find that out takes no time
HUNG_PAUSES: Final = (5.0, 10.0, 20.0, 40.0, 80.0, 120.0)  # seconds until a login that hung is tried again
KEPT = 600.0  # seconds after the pause for which the number of failures is remembered
REMEMBERED = 10_000  # users, at most


class Expiring(Generic[T]):
    """Values by user name, each until a time. The one that was set first is dropped for a new one beyond `most`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = REMEMBERED) -> None:
        self._clock = clock
        self._most = most
        self._values: dict[str, tuple[float, T]] = {}

    def set(self, user: str, value: T, seconds: float) -> None:
        """Remember the value for that many seconds."""
        now = self._clock()
        self._values.pop(user, None)
        if len(self._values) >= self._most:
            self._values = {name: one for name, one in self._values.items() if one[0] > now}
        if len(self._values) >= self._most:
            del self._values[next(iter(self._values))]
        self._values[user] = (now + seconds, value)

    def get(self, user: str) -> T | None:
        """The value, if its time has not passed."""
        found = self._values.get(user)
        return found[1] if found is not None and found[0] > self._clock() else None

    def forget(self, user: str) -> None:
        """Forget the value."""
        self._values.pop(user, None)

    def __contains__(self, user: str) -> bool:
        return self.get(user) is not None

    def __len__(self) -> int:
        return len(self._values)


class HungLogins:
    """Logins that started nothing in time: by user, with a pause that grows with each failure."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: Expiring[tuple[NotStarted, int, float]] = Expiring(clock)  # error, failures, end of the pause

    def check(self, user: str) -> None:
        """Raise the last NotStarted during the pause."""
        found = self._last.get(user)
        if found is not None and found[2] > self._clock():
            raise NotStarted(found[0].public, detail=found[0].detail)

    def words(self, user: str) -> NotStarted | None:
        """The last error, if it has words of the login."""
        found = self._last.get(user)
        return found[0] if found is not None and found[0].said else None

    def note(self, user: str, error: NotStarted) -> None:
        """Remember a failure. One that ends during the pause began before it, and makes it no longer."""
        now = self._clock()
        before = self._last.get(user)
        count, until = (before[1], before[2]) if before is not None else (0, 0.0)
        if until <= now:
            count += 1
            until = now + HUNG_PAUSES[min(count, len(HUNG_PAUSES)) - 1]
        elif before is not None and before[0].said:
            return
        self._last.set(user, (error, count, until), until - now + KEPT)

    def forget(self, user: str) -> None:
        """Forget the user's failures."""
        self._last.forget(user)


class LoginMemory:
    """By user name: logins without the agent, without commands, and those that start no shell or no SFTP server."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, agent: bool = True) -> None:
        self._agent = agent  # False: no login has it
        self._no_agent: Expiring[bool] = Expiring(clock)
        self._doubted: Expiring[bool] = Expiring(clock)
        self._no_shell: Expiring[bool] = Expiring(clock)
        self._no_commands: Expiring[bool] = Expiring(clock)
        self._hung = HungLogins(clock)
        self._hung_sftp = HungLogins(clock)

    def without_agent(self, user: str) -> bool:
        """Whether the agent is not to be started now."""
        return not self._agent or user in self._no_agent or user in self._no_commands

    def doubts_agent(self, user: str) -> bool:
        """Whether it did not start when it was started last: no request is to wait for it."""
        return user in self._doubted

    def note_no_agent(self, user: str) -> None:
        """Remember that the agent did not start."""
        self._no_agent.set(user, value=True, seconds=NO_AGENT_SECONDS)
        self._doubted.set(user, value=True, seconds=DOUBTED_SECONDS)

    def note_agent(self, user: str) -> None:
        """Forget that the agent did not start: it has."""
        self._no_agent.forget(user)
        self._doubted.forget(user)
        self.note_greeting(user)

    def without_shell(self, user: str) -> bool:
        """Whether no command could be started lately."""
        return user in self._no_shell or user in self._no_commands

    def note_no_shell(self, user: str) -> None:
        """Remember that a command could not be started."""
        self._no_shell.set(user, value=True, seconds=DOUBTED_SECONDS if self._agent else NO_SHELL_SECONDS)

    def note_no_commands(self, user: str, *, refused: bool = False) -> None:
        """Remember a login that offers SFTP only, or with `refused` one whose server refuses commands."""
        self._no_commands.set(user, value=True, seconds=REFUSED_SECONDS if refused else NO_COMMANDS_SECONDS)
        self._doubted.set(user, value=True, seconds=DOUBTED_SECONDS)
        self.note_no_shell(user)

    def check(self, user: str) -> None:
        """Raise NoCommands for a login that offers SFTP only, the NotStarted of one that hung."""
        if user in self._no_commands:
            raise NoCommands
        self._hung.check(user)

    def check_sftp(self, user: str) -> None:
        """Raise the NotStarted of a login that hung when SFTP was opened."""
        self._hung_sftp.check(user)

    def note(self, user: str, error: BaseException) -> None:
        """Remember a login that offers SFTP only, or that hung."""
        if isinstance(error, NoCommands):
            self.note_no_commands(user)
        elif isinstance(error, NotStarted) and error.hung:
            self._hung.note(user, error)

    def note_sftp(self, user: str, error: NotStarted) -> NotStarted:
        """Remember a login that hung when SFTP was opened; the error to raise, with the words of its shell."""
        if not error.hung:
            return error
        if not error.said:  # OpenSSH drops what a subsystem prints on standard error
            error = self._hung.words(user) or error
        self._hung_sftp.note(user, error)
        return error

    def note_greeting(self, user: str) -> None:
        """Forget that the login did not start a shell: it has started one."""
        self._hung.forget(user)
        self._hung_sftp.forget(user)
        self._no_shell.forget(user)
        self._no_commands.forget(user)

    def note_sftp_opened(self, user: str) -> None:
        """Forget that the login did not start an SFTP server."""
        self._hung_sftp.forget(user)
