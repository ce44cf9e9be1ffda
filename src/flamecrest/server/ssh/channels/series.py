"""Commands that one shell runs one after the other, each with its own output and exit status."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.errors import NotStarted
from flamecrest.server.ssh.start_line import END_ERRORS, series_line, series_text, split_end

from .process import MARK_ENDS, RemoteProcess, Shell

_MARK: Final = END_ERRORS.encode()
_WHAT: Final = "The command on the cluster"
_FIRST: Final = Command(("true",), lambda _: None)  # whether the marks come


class SeriesProcess(RemoteProcess):
    """One command of a series: its output ends with two marks. `whole`: both have come, so the shell can go on."""

    whole = False

    def take_errors(self) -> None:
        """Take all of standard error: only the first command of a series has a mark before it there."""
        self._preambles[1].ended = True

    def data_received(self, data: bytes, datatype: int | None) -> None:
        super().data_received(data, datatype)
        printed = self._stderr if datatype is not None else self._stdout
        if self.finished.done() or (MARK_ENDS if datatype is None else b"\x1e") not in b"".join(printed[-2:]):
            return
        if (found := split_end(b"".join(self._stdout))) is not None and _MARK in (errors := b"".join(self._stderr)):
            self.whole = True
            self.finished.set_result(Output(found[1], found[0], errors))


class SeriesShell:
    """A shell that runs commands one after the other. `usable` until one of them has not ended as it should."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._usable = True
        self._until = Deadline.after(0.0)  # when the login node ends it
        self._input = b""  # of the last command that had one: the shell remembers it
        self._noise = True  # whether start-up files may have printed errors before

    @property
    def usable(self) -> bool:
        """Whether it can run another command."""
        return self._usable and not self._shell.closed

    def lasts(self, deadline: Deadline) -> bool:
        """Whether the login node lets a command run until then."""
        return self._until.left() >= deadline.left()

    async def start(self, deadline: Deadline, *, for_job: bool) -> None:
        """Start the series, which is ended on the login node when twice the time of a command is over.

        Raises NotStarted where the login cannot have one: its standard error is closed, say.
        """
        seconds = 2 * deadline.left()
        self._until = Deadline.after(seconds)
        await self._output(_FIRST, series_text(seconds, for_job=for_job) + series_line(_FIRST), deadline)
        self._noise = False
        if not self.usable:
            raise NotStarted("The login on the cluster cannot run commands one after the other")

    async def run(self, command: Command[Any], deadline: Deadline) -> Output:
        """The output of the command; of one that goes on, as Command.is_enough says. Raises as Session.run."""
        text = series_line(command, self._input)
        self._input = command.stdin or self._input
        return await self._output(command, text, deadline)

    async def _output(self, command: Command[Any], text: bytes, deadline: Deadline) -> Output:
        process = SeriesProcess(self._shell, command.max_output)
        process.is_enough = command.is_enough
        if not self._noise:
            process.take_errors()
        try:
            self._shell.run(process, text)
            async with deadline.enforce(_WHAT):
                output = await process.finished
        except GatewayError:
            if (output_so_far := process.result_so_far()) is None:
                raise
            output = output_so_far
        finally:
            self._usable = process.whole
            process.drop()
        return replace(output, stderr=output.stderr.partition(_MARK)[0])
