"""Markers as parts of paths, which mean the same without them: schedulers show the paths of jobs as they were given.

Each bit is one more `/` (0) or `/.` (1) in the path. No I/O.
"""

from __future__ import annotations

import re
from typing import Final

from .submissions import MARKER

NULL: Final = "/dev/null"
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_NAME: Final = "flamecrest-"
_KEY_DIGITS, _DIGITS, _BITS = 20, 28, 5
_TAG_DIGITS: Final = 3
_SIGNS, _TAG_SIGNS = _DIGITS * _BITS, _TAG_DIGITS * _BITS  # the numbers of `/` and `/.`
_LAST: Final = "/."  # of a folder: Slurm puts no `/` between one that ends with it and the name of a file
_MARKED: Final = re.compile(rf"((?:/\.?){{{_SIGNS}}})(?:/\.)?(?=/|\Z)", re.ASCII)
_ANY: Final = re.compile(rf"(?:/\.?){{{_TAG_SIGNS},}}(?=/|\Z)", re.ASCII)
_END: Final = re.compile(r"(?:/\.?)+\Z", re.ASCII)
_SIGN: Final = re.compile(r"/\.?")
_MAX_PATH: Final = 4000  # bytes; Linux takes 4095


def null_path(marker: str) -> str | None:
    """The path of /dev/null that holds the marker; None for a text that is no marker."""
    return f"/dev{_signs(marker, _DIGITS)}/null" if MARKER.fullmatch(marker) else None


def marked_folder(folder: str, marker: str) -> str | None:
    """The path of the folder that holds the marker; None if it is too long, or for a text that is no marker."""
    if not MARKER.fullmatch(marker):
        return None
    path = _END.sub("", folder) + _signs(marker, _DIGITS) + _LAST
    return None if len(path.encode("utf-8", "replace")) > _MAX_PATH else path


def tagged_folder(folder: str, marker: str) -> str:
    """The path of the folder with the first digits of the marker only: it tells which marker a job may have.

    That of the folder itself for a text that is no marker.
    """
    if not MARKER.fullmatch(marker):
        return folder
    return _END.sub("", folder) + _signs(marker, _TAG_DIGITS) + _LAST


def marker_in(path: str) -> str | None:
    """The marker that the path holds, if it does."""
    found = _MARKED.search(path) if len(path) >= _SIGNS else None
    if found is None:
        return None
    digits = _digits(found[1])
    return f"{_NAME}{digits[:_KEY_DIGITS]}-{digits[_KEY_DIGITS:]}"


def tag_in(folder: str) -> str | None:
    """The beginning of the marker whose first digits the path of the folder holds, if it does."""
    found = _END.search(folder) if folder.endswith(_LAST) else None
    signs = [] if found is None else _SIGN.findall(found[0])
    return _NAME + _digits("".join(signs[:-1])) if len(signs) == _TAG_SIGNS + 1 else None


def without_marker(path: str) -> str:
    """The path as users see it."""
    if "//" not in path and "/./" not in path:  # most, and this is much faster
        return path
    return _ANY.sub("", path, count=1) or "/"


def _signs(marker: str, digits: int) -> str:
    first = marker.removeprefix(_NAME).replace("-", "")[:digits]
    bits = "".join(f"{_ALPHABET.index(digit):0{_BITS}b}" for digit in first)
    return "".join("/." if bit == "1" else "/" for bit in bits)


def _digits(signs: str) -> str:
    bits = "".join("1" if "." in one else "0" for one in _SIGN.findall(signs))
    return "".join(_ALPHABET[int(bits[at : at + _BITS], 2)] for at in range(0, len(bits), _BITS))
