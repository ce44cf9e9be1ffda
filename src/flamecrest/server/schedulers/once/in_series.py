"""Runs the submissions of a request for many jobs: one after the other in a few shells of the login node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from flamecrest.server.errors import GatewayError
from flamecrest.server.schedulers.cli_reader import CommandRunner
from flamecrest.server.ssh.errors import NO_PROGRAM

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.command import Command

T = TypeVar("T")


class CommandSeries(Protocol):
    """Commands one after the other; an SSH Series is one."""

    @property
    def usable(self) -> bool:
        """Whether it can run another command."""
        ...

    def lasts(self, deadline: Deadline) -> bool:
        """Whether a command can run until then."""
        ...

    def takes(self, command: Command[Any]) -> bool:
        """Whether this command can be one of the series."""
        ...

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        """Run a command that it `takes`."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@runtime_checkable
class OpensSeries(Protocol):
    """A runner that can open a series; an SSH Session is one."""

    async def series(self, deadline: Deadline, *, for_job: bool = False) -> CommandSeries:
        """Open a series."""
        ...


class SeriesRunner:
    """A CommandRunner for many commands of one user; `close` ends its shells.

    It has as many series as commands are run at the same time. A command that no series takes, and every command where
    the login node cannot have a series, is run by itself.
    """

    def __init__(self, runner: CommandRunner) -> None:
        self._runner = runner
        self._opens = runner if isinstance(runner, OpensSeries) else None
        self._idle: list[CommandSeries] = []

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        """Run the command; see Session.run. Commands that can be repeated are not repeated in a series."""
        series = await self._series(command, deadline)
        if series is None:
            return await self._runner.run(command, deadline)
        try:
            return await (
                series.run(command, deadline) if series.takes(command) else self._runner.run(command, deadline)
            )
        finally:
            self._put_back(series)

    async def _series(self, command: Command[T], deadline: Deadline) -> CommandSeries | None:
        while self._idle:
            if (series := self._idle.pop()).usable and series.lasts(deadline):
                return series
            series.close()
        if self._opens is None:
            return None
        try:
            return await self._opens.series(deadline, for_job=command.for_job)
        except NO_PROGRAM:
            self._opens = None
            return None
        except GatewayError:  # the command by itself says why
            return None

    def _put_back(self, series: CommandSeries) -> None:
        if series.usable:
            self._idle.append(series)
        else:
            series.close()

    def close(self) -> None:
        """End the shells. No command runs any more."""
        for series in self._idle:
            series.close()
        self._idle.clear()
