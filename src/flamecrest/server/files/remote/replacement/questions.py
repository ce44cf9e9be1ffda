"""Questions to the agent about the target of a write: look at it, and replace it by a temporary file. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from flamecrest.server.files.values import Stat
from flamecrest.server.ssh.channels.agent import Question, stat_numbers


class Target(NamedTuple):
    """The file that a write creates or replaces: the file behind a link, instead of the link."""

    path: bytes
    existing: Stat | None = None  # None: there is no such file; SFTP knows only a part of the attributes
    owned: bool = True  # the file belongs to the user; True if that is not known
    umask: int | None = None  # the user's, for new files; None: unknown, or an ACL of the folder counts in its place

    @property
    def new_mode(self) -> int | None:
        """The mode of a new file; None: that which the server creates it with."""
        return None if self.umask is None else 0o666 & ~self.umask


def target(path: bytes) -> Question[Target]:
    """Look at the file at `path`. The answer is a StatError if the user may not write it."""
    return Question(b"t", path, _target, required=True)


def _target(answer: bytes) -> Target:
    umask, path, owned, numbers = answer.split(b"\0")
    return Target(
        path,
        Stat(*stat_numbers(numbers)) if numbers else None,
        owned != b"0",
        int(umask) if umask else None,
    )


def replace(temporary: bytes, path: bytes, mode: int | None) -> Question[Stat | None]:
    """Give a temporary file the rights of the file at `path`, and rename it to that.

    The answer is its attributes; None if a rename would lose something (or there is no agent), with nothing renamed.
    Without `mode` it gets that of the replaced file.
    """
    bits = b"" if mode is None else b"%d" % mode
    return Question(b"e", b"\0".join((bits, temporary, path)), _replaced, repeatable=False, required=True)


def _replaced(answer: bytes) -> Stat | None:
    done, _, numbers = answer.partition(b" ")
    return Stat(*stat_numbers(numbers)) if done == b"1" else None
