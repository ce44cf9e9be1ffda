"""Submission programs that still run on the login node, found by the marker among their arguments. No I/O."""

from __future__ import annotations

from typing import Final

from flamecrest.server.errors import Timeout
from flamecrest.server.ssh.command import Command, Output

# The marker is in a variable: an argument of this program would be found, too. Without pgrep nothing is waited for.
_WAIT: Final = 'while pgrep -u "$(id -u)" -f -- "$FLAMECREST_MARKER" >/dev/null 2>&1; do sleep 0.1; done'
_ENDED_BY_TIMEOUT: Final = 124
_SIGNALS: Final = range(129, 255)


def is_unclear(output: Output) -> bool:
    """Whether a submission program may have submitted a job, though its output has no id.

    It says that it succeeded, or its time limit or a signal has ended it. Not for programs whose statuses exceed 123.
    """
    return output.status in {0, _ENDED_BY_TIMEOUT} or output.status in _SIGNALS


def submission_ended(marker: str) -> Command[None]:
    """The command that ends when no program of the user has an argument with this text, or with one of several.

    The texts are letters, digits and `-`, with `|` between them.
    """

    def parse(output: Output) -> None:
        if output.status == _ENDED_BY_TIMEOUT:
            raise Timeout("An earlier submission is still under way on the cluster")

    return Command(("sh", "-c", _WAIT), parse, env={"FLAMECREST_MARKER": marker}, repeatable=True)
