"""Many short commands of one user in a row: one shell runs them, so each costs a round trip and its own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from flamecrest.server.telemetry.trace import phase

from .channels.series import SeriesShell
from .start_line import fits_series

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

    from .channels.process import Shell
    from .command import Command

T = TypeVar("T")


class Series:
    """Commands one after the other, over one channel, which is leased until `close`. Not for two at once."""

    def __init__(self, shell: Shell, close: Callable[[], None], *, for_job: bool) -> None:
        self._end = close
        self._commands = SeriesShell(shell)
        self._for_job = for_job

    @classmethod
    async def start(cls, shell: Shell, close: Callable[[], None], deadline: Deadline, *, for_job: bool) -> Self:
        """Take over a shell that has greeted; `close` ends it. Raises NotStarted, and as Session.run."""
        series = cls(shell, close, for_job=for_job)
        try:
            await series._commands.start(deadline, for_job=for_job)
        except BaseException:
            series.close()
            raise
        return series

    @property
    def usable(self) -> bool:
        """Whether it can run another command: all before have ended as they should."""
        return self._commands.usable

    def lasts(self, deadline: Deadline) -> bool:
        """Whether the login node lets a command run until then."""
        return self._commands.lasts(deadline)

    def takes(self, command: Command[Any]) -> bool:
        """Whether this command can be one of the series."""
        return command.for_job == self._for_job and fits_series(command)

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        """Run a command that it `takes`, and return the value of its parser. Raises as Session.run; not repeated."""
        with phase("ssh"):
            output = await self._commands.run(command, deadline)
        return command.parse(output)

    def close(self) -> None:
        """End the shell and what it runs, and give the channel back."""
        self._end()
