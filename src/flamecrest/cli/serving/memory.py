"""Configuration of the C library's memory allocator."""

from __future__ import annotations

import asyncio
import ctypes
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT: Final = 16 * 1024 * 1024  # maximum free bytes at the end of the heap that are not returned to the system
RETURNED_EVERY: Final = 60.0  # seconds
LEFT: Final = 4 * 1024 * 1024  # free bytes at the end of the heap that stay when memory is returned
LARGE: Final = 4 * 1024 * 1024  # bytes from which on a block is mapped on its own, outside the heap


def keep_freed_memory() -> None:
    """Make the C library keep freed memory instead of returning it to the system, if it is glibc.

    By default glibc returns blocks from 128 KiB on. Transfers allocate and free larger blocks thousands of times a
    second, and the system calls would cost more than the transfer itself.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_MMAP_THRESHOLD, LARGE)


async def return_freed_memory(seconds: float) -> None:
    """Return unused pages to the system every so many seconds, until cancelled, if the C library is glibc.

    A burst of requests leaves free pages between blocks that stay. They would be kept for ever, and with every greater
    burst there would be more of them. The pages at the end of the heap, which transfers use again and again, are few
    after a minute: to get those again takes some milliseconds.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(trim, ctypes.c_size_t(LEFT))
