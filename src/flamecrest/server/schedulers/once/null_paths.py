"""A marker as a path of /dev/null: squeue shows a job's standard input at once, and the path needs no file. No I/O.

Each bit of the marker is one more `/` (0) or `/.` (1) between `/dev` and `/null`, which change nothing about the path.
"""

from __future__ import annotations

import re
from typing import Final

from .submissions import MARKER

NULL: Final = "/dev/null"
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_KEY_DIGITS, _DIGITS, _BITS = 20, 28, 5
_PATH: Final = re.compile(rf"/dev((?:/\.?){{{_DIGITS * _BITS}}})/null", re.ASCII)


def null_path(marker: str) -> str | None:
    """The path that holds the marker; None for a text that is no marker."""
    if not MARKER.fullmatch(marker):
        return None
    digits = "".join(marker.split("-")[1:])
    bits = "".join(f"{_ALPHABET.index(digit):0{_BITS}b}" for digit in digits)
    return "/dev" + "".join("/." if bit == "1" else "/" for bit in bits) + "/null"


def marker_in(path: str) -> str | None:
    """The marker that the path holds, if it does."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    bits = "".join("1" if "." in one else "0" for one in re.findall(r"/\.?", found[1]))
    digits = "".join(_ALPHABET[int(bits[at : at + _BITS], 2)] for at in range(0, len(bits), _BITS))
    return f"flamecrest-{digits[:_KEY_DIGITS]}-{digits[_KEY_DIGITS:]}"


def without_marker(path: str | None) -> str | None:
    """The path as users see it."""
    return NULL if path is not None and marker_in(path) is not None else path
