"""The line that runs a command on a login node, and where that command's own output begins; it knows no channel.

Login scripts print (module systems, quota warnings, `set -x`), and that goes where the command's output goes.
So the line has a mark printed right before the command starts, and readers drop everything up to it.
"""

from __future__ import annotations

import math
import secrets
import shlex
from typing import TYPE_CHECKING, Any

from flamecrest.server.errors import Invalid

if TYPE_CHECKING:
    from .command import Command

MAX_LINE = 128 * 1024 - 1  # bytes; Linux's MAX_ARG_STRLEN: sshd hands the line to the shell as one argument
FAR_GRACE = 5  # seconds after the deadline when the far side ends a command itself, should we be gone by then
MAX_NOISE = 64 * 1024  # bytes before the mark that are kept, to say why a command did not start

_WORD = secrets.token_hex(8)
# Written with escapes, so that a shell that shows what it runs does not print the mark itself.
_START = rf'printf "\036{_WORD}\036"; printf "\036{_WORD}\036" >&2; export LC_ALL=C; exec "$@"'
MARK = b"\x1e%s\x1e" % _WORD.encode()


def shell_line(command: Command[Any], seconds: float | None = None) -> bytes:
    """The line for the user's login shell, whatever shell that is; with `seconds` the far side ends it by itself."""
    for word in (*command.argv, *command.env.values()):
        if "\0" in word:
            raise Invalid("A value must not contain a NUL byte")
    guard = () if seconds is None else ("timeout", "-k", "2", str(math.ceil(seconds) + FAR_GRACE))
    variables = ("env", *(f"{name}={value}" for name, value in command.env.items())) if command.env else ()
    line = "exec " + shlex.join(("sh", "-c", _START, "sh", *guard, *variables, *command.argv))
    raw = line.encode("utf-8", "surrogateescape")
    if len(raw) > MAX_LINE:
        raise Invalid("A value is too long to be handed to a program on the cluster")
    return raw


class Preamble:
    """What a stream carries before the mark. `over` once that has come; until then `noise` is what was there."""

    __slots__ = ("noise", "over")

    def __init__(self) -> None:
        self.noise = bytearray()
        self.over = False

    def rest(self, data: bytes) -> bytes:
        """What of the next piece belongs to the command."""
        if self.over:
            return data
        noise = self.noise
        start = max(0, len(noise) - len(MARK))
        noise += data
        found = noise.find(MARK, start)
        if found >= 0:
            self.over = True
            rest = bytes(noise[found + len(MARK) :])
            noise.clear()
            return rest
        if len(noise) > MAX_NOISE:
            del noise[: len(noise) - MAX_NOISE]
        return b""
