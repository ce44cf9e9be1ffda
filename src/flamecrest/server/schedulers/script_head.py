"""The head of a job script: the lines before its first command, in which schedulers look for directives. No I/O.

A script may be hostile and have megabytes: all here takes time in proportion to its size.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Only a line feed ends a line. str.splitlines() also splits at form feeds, U+2028 and others, which are text for sh.
_COMMAND: Final = re.compile(r"^[ \t\r\f\v]*[^\s#]", re.MULTILINE | re.ASCII)


def split_head(script: str) -> tuple[str, str]:
    """The head, and the rest, which begins with the first line that is neither empty nor a comment."""
    found = _COMMAND.search(script)
    end = len(script) if found is None else found.start()
    return script[:end], script[end:]


def directive_lines(script: str, words: str) -> Iterator[tuple[str, str]]:
    """Word and options of each directive in the head. `words`: those that mark one, as in `SBATCH|PBS`."""
    head, _ = split_head(script)
    for found in re.finditer(rf"^#({words})(?=[ \t\r\f\v\n]|\Z)([^\n]*)", head, re.MULTILINE):
        yield found[1], found[2].strip()
