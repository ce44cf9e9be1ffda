"""Symbolic modes of chmod(1), as far as they depend on nothing but the present mode. No I/O."""

from __future__ import annotations

import re
import stat as stat_bits
from typing import Final

_CLAUSE: Final = re.compile(r"([ugoa]+)((?:[-+=](?:[ugo]|[rwxXst]*))+)", re.ASCII)
_ACTION: Final = re.compile(r"([-+=])([ugo]|[rwxXst]*)", re.ASCII)
_WHO: Final = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}  # the bits of each
_SHIFT: Final = {"u": 6, "g": 3, "o": 0}


def changed_mode(symbolic: str, mode: int) -> int | None:
    """The permission bits that `chmod symbolic` gives a file that has `mode`.

    None if that depends on the user's umask (a clause without `u`, `g`, `o` or `a`), or for `=` on a directory whose
    set-id bits chmod(1) keeps.
    """
    folder = stat_bits.S_ISDIR(mode)
    bits = stat_bits.S_IMODE(mode)
    for text in symbolic.split(","):
        clause = _CLAUSE.fullmatch(text)
        if clause is None:
            return None
        who = 0
        for letter in clause[1]:
            who |= _WHO[letter]
        for sign, what in _ACTION.findall(clause[2]):
            if sign == "=" and folder:
                return None
            wanted = _wanted(what, bits, folder=folder) & who
            if sign == "+":
                bits |= wanted
            elif sign == "-":
                bits &= ~wanted
            else:
                bits = bits & ~who | wanted
    return bits


def _wanted(what: str, bits: int, *, folder: bool) -> int:
    if what in _SHIFT:
        return (bits >> _SHIFT[what] & 7) * 0o111
    wanted = 0
    for letter in what:
        if letter == "X":
            wanted |= 0o111 if folder or bits & 0o111 else 0
        else:
            wanted |= {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}[letter]
    return wanted
