"""The identity of a file: its inode and its time of birth, as the inode of a removed file is soon used again."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from flamecrest.server.errors import NotFound
from flamecrest.server.files.remote.access import stat_path
from flamecrest.server.ssh.channels.agent import Question
from flamecrest.server.ssh.errors import StatError

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.port import Session


class FoundFile(NamedTuple):
    """A file: its inode, its size, and the nanosecond in which it was created (0: the file system does not tell)."""

    ino: int
    size: int
    born: int = 0

    @property
    def identity(self) -> int:
        """64 bits that no other file has, also none that gets the inode later; not 0."""
        return int.from_bytes(hashlib.sha256(b"%d %d" % (self.ino, self.born)).digest()[:8]) or 1


def _question(path: bytes) -> Question[FoundFile]:
    return Question(b"b", path, lambda answer: FoundFile(*map(int, answer.split(b" "))))


async def find_file(session: Session, path: bytes, deadline: Deadline) -> FoundFile:
    """Look for the file at a path, behind a link; raises NotFound."""
    try:
        found = await session.ask(_question(path), deadline)
    except StatError:
        raise NotFound("There is no such file") from None
    if found is not None:
        return found
    stat = await stat_path(session, os.fsdecode(path), deadline, "upload", follow=True)
    return FoundFile(stat.ino, stat.size)
