"""The shell line that runs a command on a login node, and finding where the command's own output begins. No I/O.

Login scripts print text (module systems, quota warnings, `set -x`) into the same streams as the command. So the line
prints a mark right before the command starts, and readers drop everything up to the mark.
"""

from __future__ import annotations

import math
import secrets
import shlex
from typing import TYPE_CHECKING, Any

from flamecrest.server.errors import Invalid

if TYPE_CHECKING:
    from .command import Command

MAX_LINE = 128 * 1024 - 1  # bytes; Linux's MAX_ARG_STRLEN: sshd passes the line to the shell as one argument
REMOTE_GRACE = 5  # seconds after the deadline when `timeout` ends the command, in case the gateway cannot
MAX_PREAMBLE = 64 * 1024  # bytes before the mark that are kept: they may say why a command did not start

_WORD = secrets.token_hex(8)
# The mark is written with escapes, so that a shell that traces its commands does not print it.
_START = rf'printf "\036{_WORD}\036"; printf "\036{_WORD}\036" >&2; export LC_ALL=C; exec "$@"'
MARK = b"\x1e%s\x1e" % _WORD.encode()


def shell_line(command: Command[Any], seconds: float | None = None) -> bytes:
    """The line for the login shell, POSIX or not. With `seconds` the command is ended remotely soon after that time.

    Raises Invalid for a NUL byte and for a line that is too long.
    """
    for word in (*command.argv, *command.env.values()):
        if "\0" in word:
            raise Invalid("A value must not contain a NUL byte")
    guard = () if seconds is None else ("timeout", "-k", "2", str(math.ceil(seconds) + REMOTE_GRACE))
    variables = ("env", *(f"{name}={value}" for name, value in command.env.items())) if command.env else ()
    line = "exec " + shlex.join(("sh", "-c", _START, "sh", *guard, *variables, *command.argv))
    raw = line.encode("utf-8", "surrogateescape")
    if len(raw) > MAX_LINE:
        raise Invalid("A value is too long to be handed to a program on the cluster")
    return raw


class Preamble:
    """The beginning of a stream, before the mark. `ended` when the mark has come; until then `text` is what came."""

    __slots__ = ("ended", "text")

    def __init__(self) -> None:
        self.text = bytearray()
        self.ended = False

    def strip(self, data: bytes) -> bytes:
        """Take the next data of the stream; the part of it behind the mark."""
        if self.ended:
            return data
        text = self.text
        start = max(0, len(text) - len(MARK))
        text += data
        found = text.find(MARK, start)
        if found >= 0:
            self.ended = True
            rest = bytes(text[found + len(MARK) :])
            text.clear()
            return rest
        if len(text) > MAX_PREAMBLE:
            del text[: len(text) - MAX_PREAMBLE]
        return b""
