"""The line that starts every program on a login node, and the text that the program is told over its input. No I/O.

The login shell may be any shell, so it gets one constant line, which starts /bin/sh. That greets, and only then is
anything of a request sent: as lines of sh on its standard input. A command's output comes between marks, and its exit
status behind them (ADR 0020).
"""

from __future__ import annotations

import math
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.errors import Invalid
from flamecrest.server.telemetry.trace import current_trace

from .environment import CLEAN_FOR_JOB, CLEAN_FOR_PROGRAM, FUNCTIONS

if TYPE_CHECKING:
    from .command import Command

_NEXT: Final = 'IFS= read -r FLAMECREST && eval "$FLAMECREST"'  # the next line of the input, as sh
# It means the same in sh, bash, dash, zsh, ksh, tcsh, fish and busybox: words, and a string in single quotes without
# backslash, exclamation mark, line end and single quote. A shell that prints its commands does not print the greeting:
# it ends with the number of the process. Functions of the user's (bash passes them on) must not stand for ours.
_INNER: Final = f"unset -f echo read command; unset FLAMECREST; set +aeuvx; {_NEXT}"
START_LINE: Final = b"exec /bin/sh -c '%s'" % _INNER.replace(_NEXT, f"echo flamecrest $$; {_NEXT}").encode()
GREETING: Final = re.compile(rb"flamecrest [0-9]+\n")
# Before the prelude where the login has been sent an SFTP client's first packet, which is thus a command not found
AFTER_PROBE: Final = b":; "
# Sent when the greeting has come; constant, too. A start-up file may have closed standard error: the first file that a
# program opens must not take its place.
PRELUDE: Final = f"{{ :; }} >&2 || exec 2>/dev/null; {FUNCTIONS}; {_NEXT}\n".encode()

MAX_ARGUMENT = 128 * 1024 - 1  # bytes; Linux's MAX_ARG_STRLEN
MAX_ARGUMENTS = 1024 * 1024  # bytes together; Linux takes 2 MiB with the environment
MAX_VARIABLES = 2 * 1024 * 1024  # bytes together
REMOTE_GRACE = 5  # seconds after the deadline when `timeout` ends the command, in case the gateway cannot
MAX_PREAMBLE = 64 * 1024  # bytes before a mark that are kept: they may say why a program did not start
MAX_NOISE = 1024 * 1024  # bytes that start-up files may print before the greeting

MAX_SERIES_INPUT = 24 * 1024  # bytes: /bin/sh reads the input of a command of a series with a call for each byte

REQUEST_ID: Final = "FLAMECREST_REQUEST_ID"  # the variable of the command with the id of the request that it serves
_SEARCH: Final = frozenset({"PATH", "EXECIGNORE"})  # variables that change where sh looks for a program
_CLEAN: Final = {True: CLEAN_FOR_JOB, False: CLEAN_FOR_PROGRAM}
_SERIES_NEWLINE: Final = "$1"
_WORD: Final = secrets.token_hex(8)  # no output of a command contains it
BEGIN: Final = f"\x1e{_WORD} begin\x1e"  # on standard output
BEGIN_ERRORS: Final = f"\x1e{_WORD} errors\x1e"  # on standard error
END_ERRORS: Final = f"\x1e{_WORD} no more errors\x1e"  # there as well, behind a command of a series
END: Final = f"\x1e{_WORD} end "  # the exit status follows, and \x1e
_END: Final = re.compile(re.escape(END.encode()) + rb"([0-9]{1,3})\x1e\n")
MAX_END: Final = len(END) + 5  # bytes


def command_text(command: Command[Any], seconds: float | None = None) -> bytes:
    """What /bin/sh is told to run a command. With `seconds` the command is ended there soon after that time.

    The command has the id of the request that is being served in its environment.

    Raises Invalid for a NUL byte and for arguments that are too long.
    """
    for words, most in ((command.argv, MAX_ARGUMENTS), (command.env.values(), MAX_VARIABLES)):
        total = 0
        for word in words:
            if "\0" in word:
                raise Invalid("A value must not contain a NUL byte")
            size = len(word.encode("utf-8", "surrogateescape"))
            total += size
            if size > MAX_ARGUMENT or total > most:
                raise Invalid("A value is too long to be handed to a program on the cluster")
    join = "exec 2>&1; " if command.joined else ""
    program, *arguments = map(_quoted, command.argv)
    variables = "".join(f"export {name}={_quoted(value)}; " for name, value in command.env.items())
    if (trace := current_trace.get()) is not None:
        variables += f"export {REQUEST_ID}={_quoted(trace.request_id)}; "
    if not _SEARCH.isdisjoint(command.env):  # the program is that of the login's PATH, and no function of the user's
        search = f"unset -f {program}; if FLAMECREST=$(command -v {program}); then"
        variables = f"{search} {variables}else FLAMECREST={program}; fi; "
        program = '"$FLAMECREST"'
    text = (
        f"{_CLEAN[command.for_job]}; {_limit(seconds)}{_NEXT}\n"
        f"unset FLAMECREST FLAMECREST_NEWLINE; FLAMECREST_NEWLINE=${{IFS#??}}; {variables}"
        f"echo '{BEGIN_ERRORS}' >&2; echo '{BEGIN}'; "
        f'({join}exec {" ".join((program, *arguments))}); echo "{END}$?\x1e"\n'
    )
    return text.encode("utf-8", "surrogateescape")


def _limit(seconds: float | None) -> str:
    """The program that ends what follows soon after that time. It starts another sh, which reads the next line."""
    if seconds is None:
        return ""
    timeout = f"exec timeout -k 2 {math.ceil(seconds) + REMOTE_GRACE} /bin/sh -c '{_INNER}'"
    return f"command -v timeout >/dev/null && {timeout}; "


def fits_series(command: Command[Any]) -> bool:
    """Whether the command can be one of a series: its input is short, and the shell finds its program as always."""
    return len(command.stdin or b"") <= MAX_SERIES_INPUT and _SEARCH.isdisjoint(command.env) and not command.joined


def series_text(seconds: float | None = None, *, for_job: bool) -> bytes:
    """What /bin/sh is told to run commands one after the other: each is a line of its input, with which it ends.

    A line that the connection breaks off is not run. With `seconds` all is ended soon after that time. Nothing is run
    where printf is a program: others would see its arguments. The shell reads its input with a call for each byte, so
    a line has only what is new: functions print the marks, `$1` is a newline, and `$2` the last input of a command.
    """
    return (
        f"{_CLEAN[for_job]}; {_limit(seconds)}{_NEXT}\n"
        'unset -f printf; test "$(command -v printf)" = printf || exit; unset FLAMECREST; set -- "${IFS#??}" ""; '
        f"fc_begin() {{ echo '{BEGIN}'; }}; "
        f"fc_end() {{ FLAMECREST=$?; echo '{END_ERRORS}' >&2; echo \"{END}$FLAMECREST\x1e\"; }}; "
        f"echo '{BEGIN_ERRORS}' >&2; while IFS= read -r FLAMECREST; do eval \"$FLAMECREST\"; done\n"
    ).encode()


def series_line(command: Command[Any], before: bytes = b"") -> bytes:
    """The line that runs a command of a series. `before`: the input of the last command that had one.

    Raises as `command_text`.
    """
    command_text(command)  # raises
    variables = "".join(f"export {name}={_quoted(value, _SERIES_NEWLINE)}; " for name, value in command.env.items())
    program = " ".join(_quoted(word, _SERIES_NEWLINE) for word in command.argv)
    if not command.stdin:
        text = f"fc_begin; ({variables}exec {program} </dev/null); fc_end\n"
    else:
        text = f'fc_begin; printf %s "$2" | ({variables}exec {program}); fc_end\n'
        if command.stdin != before:
            text = f'set -- "$1" {_quoted(command.stdin.decode("utf-8", "surrogateescape"), _SERIES_NEWLINE)}; {text}'
    return text.encode("utf-8", "surrogateescape")


def sh_text(line: str) -> bytes:
    """What /bin/sh is told to become a program: a line of sh that ends in `exec`."""
    return f"{CLEAN_FOR_PROGRAM}; {line}\n".encode()


def perl_text(source: str) -> bytes:
    """What /bin/sh is told to become perl with this source, in ASCII.

    Perl reads the source from its input: it appears in no list of processes, and sh would need a call for each byte.
    """
    size = len(source)
    boot = (
        f'my $source = ""; while (length $source < {size}) {{ '
        f"sysread STDIN, $source, {size} - length $source, length $source or exit 1 }} eval $source; die $@ if $@"
    )
    return sh_text(f"exec perl -e '{boot}'") + source.encode("ascii")


def _quoted(word: str, newline: str = "$FLAMECREST_NEWLINE") -> str:
    """The word in sh's quotes, on one line."""
    return "'" + word.replace("'", "'\\''").replace("\n", f"'\"{newline}\"'") + "'"


class Preamble:
    """The beginning of a stream, before a mark. `ended` when the mark has come; until then `text` is what came."""

    __slots__ = ("_mark", "ended", "text")

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode() + b"\n"
        self.text = bytearray()
        self.ended = False

    def strip(self, data: bytes) -> bytes:
        """Take the next data of the stream; the part of it behind the mark."""
        if self.ended:
            return data
        text = self.text
        start = max(0, len(text) - len(self._mark))
        text += data
        found = text.find(self._mark, start)
        if found >= 0:
            self.ended = True
            rest = bytes(text[found + len(self._mark) :])
            text.clear()
            return rest
        if len(text) > MAX_PREAMBLE:
            del text[: len(text) - MAX_PREAMBLE]
        return b""


def split_end(output: bytes) -> tuple[bytes, int] | None:
    """The output before the end mark, and the exit status that the mark has; None if there is no mark.

    What follows was printed by something that start-up files have left running.
    """
    at = output.rfind(END.encode())
    found = _END.match(output, at) if at >= 0 else None
    return (output[:at], int(found[1])) if found else None


def whole_end(held: bytes) -> bytes:
    """The end mark that the data begins with; b"" if it is not there, or not whole."""
    found = _END.match(held)
    return found[0] if found else b""


def may_end(data: bytes) -> int:
    """The offset in `data` of the end mark, or of what may be its beginning at the end; its length if nowhere."""
    mark = END.encode()
    if (at := data.find(mark)) >= 0:
        return at
    at = data.find(b"\x1e", max(0, len(data) - MAX_END))
    while at >= 0 and not mark.startswith(data[at : at + len(mark)]):
        at = data.find(b"\x1e", at + 1)
    return at if at >= 0 else len(data)


_ESCAPE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
MAX_WORDS: Final = 200  # characters


def login_words(*texts: bytes | bytearray) -> str:
    """The first line of the first text that has one, for an error message: clean and short."""
    for text in texts:
        for line in text.decode("utf-8", "replace").splitlines():
            words = _CONTROL.sub(" ", _ESCAPE.sub("", line)).strip()
            if words:
                return words[:MAX_WORDS]
    return ""
