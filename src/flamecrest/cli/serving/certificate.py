"""Reads the TLS certificate again while the server runs: when its files have changed, or when asked to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 60.0  # between two looks at the files

Version = list[tuple[int, int, int] | None]  # inode, time of change and size of each file; None: it is missing
Reload = Callable[[], Awaitable[None]]  # makes the HTTP server use the files for new connections

log = logging.getLogger("flamecrest.serve")


async def renew_certificate(
    files: tuple[str, str], used: Version, reload: Reload, asked: asyncio.Event, *, look_seconds: float = LOOK_SECONDS
) -> None:
    """Run until it is cancelled: reload when `asked` is set, and when the certificate or key on the disk has changed.

    used: the version of the files from before the server has read them, so that no change is missed.
    A certificate that cannot be read, or does not fit its key, is logged, and the one before stays in use.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(look_seconds):
                await asked.wait()
        found = await asyncio.to_thread(version_of, files)
        if found == used and not asked.is_set():
            continue
        asked.clear()
        used = found
        try:
            await asyncio.to_thread(server_context, files)
            await reload()
        except (OSError, ssl.SSLError) as error:
            log.error("the TLS certificate is not usable, the one before stays in use: %s", error)  # noqa: TRY400
        else:
            log.info("TLS certificate read again")


def server_context(files: tuple[str, str]) -> ssl.SSLContext:
    """A context with this certificate and key. Raises OSError and SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


def version_of(files: tuple[str, ...]) -> Version:
    """What changes when files are replaced or written."""
    found: Version = []
    for file in files:
        try:
            stat = Path(file).stat()
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return found
