"""A test of a login node that is down: whether its SSH server sends its identification. No login is made."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flamecrest.server.ssh.pool.host import Host

LONGEST: Final = 8192  # bytes before the identification (RFC 4253, section 4.2, allows lines of text)


async def identifies(host: Host, seconds: float) -> bool:
    """Whether the server sends an SSH identification within that time.

    OpenSSH 9.8 counts a second of penalty for it, so it is made rarely, and of nodes only that are down.
    """
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host.address or host.host, host.port)
            text = b""
            while len(text) < LONGEST and (data := await reader.read(1024)):
                text += data
                if b"\nSSH-" in b"\n" + text:
                    return True
    except (OSError, TimeoutError, UnicodeError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with suppress(OSError):
                writer.transport.abort()
    return False
