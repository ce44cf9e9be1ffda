"""Commands that one shell runs one after the other, each with its own output and exit status."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.errors import NotStarted
from flamecrest.server.ssh.start_line import END_ERRORS, series_line, series_text, split_end

from .process import MARK_ENDS, RemoteProcess, Shell

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

_MARK: Final = END_ERRORS.encode()
_WHAT: Final = "The command on the cluster"
# The first command of a series: whether `timeout` can leave commands in the process group of the shell, which a signal
# to the channel reaches.
_FIRST: Final = Command(("timeout", "--foreground", "9", "true"), lambda output: output.status == 0)


class SeriesProcess(RemoteProcess):
    """One command of a series: its output ends with two marks. `whole`: both have come, so the shell can go on."""

    whole = False

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
        self._limits = False  # whether the programs on the login node limit the time of a command

    @property
    def usable(self) -> bool:
        """Whether it can run another command."""
        return self._usable and not self._shell.closed

    async def start(self, deadline: Deadline, *, for_job: bool) -> None:
        """Start the series. Raises NotStarted where the login cannot have one: its standard error is closed, say."""
        text = series_text(for_job=for_job) + series_line(_FIRST)
        self._limits = _FIRST.parse(await self._output(_FIRST, text, deadline))
        if not self.usable:
            raise NotStarted("The login on the cluster cannot run commands one after the other")

    async def run(self, command: Command[Any], deadline: Deadline) -> Output:
        """The output of the command; of one that goes on, as Command.is_enough says. Raises as Session.run."""
        return await self._output(command, series_line(command, deadline.left() if self._limits else None), deadline)

    async def _output(self, command: Command[Any], text: bytes, deadline: Deadline) -> Output:
        process = SeriesProcess(self._shell, command.max_output)
        process.is_enough = command.is_enough
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
