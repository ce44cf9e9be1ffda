"""A gateway that appends to an upload without end, to be suspended: `python -m tests.live.suspended_upload ID`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from flamecrest.server.errors import Locked
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.files.resumable.state import UploadKey
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from tests.contract.files.places import on_site, soon
from tests.live.site import Site


async def endless() -> AsyncIterator[bytes]:
    while True:
        for _ in range(50):
            yield b"L" * 65536
        await asyncio.sleep(0.1)  # so that it is suspended before the file is complete


async def main() -> int:
    """Return 0 if the upload was taken over."""
    async with on_site(Site.from_environment(), SftpOpener()) as place:
        try:
            await RemoteUploads(place.session).append(UploadKey.parse(sys.argv[1]), 0, endless(), soon())
        except Locked:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
