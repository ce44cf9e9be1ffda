"""A marker as a part of a path, which means the same without it: schedulers show the paths of jobs as they were given.

Each bit of the marker is one more `/` (0) or `/.` (1) in the path. No I/O.
"""

from __future__ import annotations

import re
from typing import Final

from .submissions import MARKER

NULL: Final = "/dev/null"
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_KEY_DIGITS, _DIGITS, _BITS = 20, 28, 5
_SIGNS: Final = _DIGITS * _BITS  # `/` or `/.`
_LAST: Final = "/."  # of a folder: Slurm puts no `/` between one that ends with it and the name of a file
_MARKED: Final = re.compile(rf"((?:/\.?){{{_SIGNS}}})(?:/\.)?(?=/|\Z)", re.ASCII)
_END: Final = re.compile(r"(?:/\.?)+\Z", re.ASCII)
_MAX_PATH: Final = 4000  # bytes; Linux takes 4095


def null_path(marker: str) -> str | None:
    """The path of /dev/null that holds the marker; None for a text that is no marker."""
    signs = _signs(marker)
    return None if signs is None else f"/dev{signs}/null"


def marked_folder(folder: str, marker: str) -> str | None:
    """The path of the folder that holds the marker; None if it is too long, or for a text that is no marker."""
    signs = _signs(marker)
    path = None if signs is None else _END.sub("", folder) + signs + _LAST
    return None if path is None or len(path.encode("utf-8", "replace")) > _MAX_PATH else path


def _signs(marker: str) -> str | None:
    if not MARKER.fullmatch(marker):
        return None
    digits = "".join(marker.split("-")[1:])
    bits = "".join(f"{_ALPHABET.index(digit):0{_BITS}b}" for digit in digits)
    return "".join("/." if bit == "1" else "/" for bit in bits)


def marker_in(path: str) -> str | None:
    """The marker that the path holds, if it does."""
    found = _MARKED.search(path) if len(path) >= _SIGNS else None
    if found is None:
        return None
    bits = "".join("1" if "." in one else "0" for one in re.findall(r"/\.?", found[1]))
    digits = "".join(_ALPHABET[int(bits[at : at + _BITS], 2)] for at in range(0, len(bits), _BITS))
    return f"flamecrest-{digits[:_KEY_DIGITS]}-{digits[_KEY_DIGITS:]}"


def without_marker(path: str) -> str:
    """The path as users see it."""
    if len(path) < _SIGNS:
        return path
    return _MARKED.sub("", path, count=1) or "/"
