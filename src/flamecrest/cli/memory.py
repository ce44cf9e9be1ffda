"""How the C library keeps the process's memory; knows nothing of what is in it."""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT: Final = 16 * 1024 * 1024  # bytes at the heap's end, at most, that are not given back to the system
LARGE: Final = 4 * 1024 * 1024  # bytes in one block, from which on it is not of the heap


def keep_freed() -> None:
    """Have what is freed stay with the process, where the C library can be told.

    glibc gives back memory from 128 KiB on. What goes through a transfer is more, freed and taken again thousands of
    times a second: the system's work for that can be more than all of ours.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_MMAP_THRESHOLD, LARGE)
