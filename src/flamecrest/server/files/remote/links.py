"""Resolves symbolic links in paths, for rules about paths. It knows no rules."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from flamecrest.server.files.remote.access import use_sftp
from flamecrest.server.ssh.channels.sftp_packets import NO_SUCH_FILE, SftpError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

_DEEPEST: Final = 128  # folders of a path that may be missing


async def resolve_links(session: Session, paths: Sequence[str], deadline: Deadline) -> list[str]:
    """Each path without symbolic links. Of a path that does not exist, the folder that exists is resolved.

    All paths together are one round trip if they exist. Raises the errors of SSH, Denied for a folder that the user
    may not search.
    """

    async def use(sftp: Sftp) -> list[bytes]:
        return list(await asyncio.gather(*(_resolved(sftp, os.fsencode(path)) for path in paths)))

    return [os.fsdecode(path) for path in await use_sftp(session, use, deadline, "resolving links")]


async def _resolved(sftp: Sftp, path: bytes) -> bytes:
    rest: list[bytes] = []
    for _ in range(_DEEPEST):
        try:
            found = (await sftp.realpath(path or b"/"))[0].name
        except SftpError as error:
            if error.code != NO_SUCH_FILE or path in {b"", b"/"}:
                raise
            path, _, name = path.rstrip(b"/").rpartition(b"/")
            rest.insert(0, name)
        else:
            return b"/".join([found.rstrip(b"/"), *rest]) or b"/"
    raise SftpError(NO_SUCH_FILE, "too many missing folders")
