"""Errors of programs on the cluster, from their exit status and messages.

Programs run in the C locale: their messages end in the English text of strerror(3); there are no codes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Invalid, Upstream
from flamecrest.server.files.remote.errors import reason_kind

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Output

_INVALID: Final = re.compile(
    r"(chown|chmod): invalid|cp: cannot (overwrite|copy a directory, .* into itself)", re.DOTALL
)


def check_success(output: Output) -> None:
    """Return if the program has succeeded, else raise its error."""
    if output.status == 0:
        return
    output.check_installed()
    said = output.errors().splitlines()
    first = said[0] if said else f"exit status {output.status}"
    if _INVALID.match(output.errors()):
        raise Invalid(first)
    # the first line that ends in a reason; names before it may contain newlines
    for end, line in enumerate(said):
        kind = reason_kind(line.rpartition(": ")[2])
        if kind not in {None, Upstream}:
            raise kind("\n".join(said[: end + 1])[:2000], detail=output.errors()[:2000])
    raise Upstream(first, detail=output.errors()[:2000])


def parse_file_type(output: Output) -> str:
    """Return the output of `file -b`."""
    output.check_installed()
    text = output.stdout.decode("utf-8", "replace").strip()
    if output.status != 0 or not text:
        raise Upstream("The cluster's `file` failed", detail=f"{output.status}: {output.errors()[:200]}")
    return text


def parse_checksum(output: Output, words: str, digits: int) -> str:
    """Return the checksum, `digits` hexadecimal digits, in the output of sha256sum and the like."""
    if output.status == 0:
        # the line starts with a backslash if the name contains a newline or backslash
        found = re.match(rb"\\?([0-9a-f]{%d}) " % digits, output.stdout)
        if found:
            return found[1].decode("ascii")
    output.check_installed()
    why = output.errors().rpartition(": ")[2]
    raise (reason_kind(why) or Upstream)(f"{words}: {why or 'failed'}", detail=f"exit status {output.status}")
