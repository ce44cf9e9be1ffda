"""Questions to the agent about the target of a write: look at it, and replace it by a temporary file. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flamecrest.server.files.values import Stat
from flamecrest.server.ssh.channels.agent import Question, stat_numbers

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp_packets import Attrs


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


class Replacement(NamedTuple):
    """The result of a replacement: the new attributes, or why nothing was renamed."""

    stat: Stat | None
    changed: bool = False  # the existing file is not the known one; else a rename would lose something
    swapped: bool = False  # another file is in the place of the temporary one


class Made(NamedTuple):
    """What identifies a file that was written completely, as far as SFTP shows it."""

    path: bytes
    uid: int | None
    size: int
    mtime: int  # seconds since the epoch


def made(path: bytes, attrs: Attrs) -> Made:
    """The identity of the open file that has these attributes."""
    return Made(path, attrs.uid, attrs.size or 0, attrs.mtime or 0)


NEW: Final = b"new"  # as `known`: there must be no file


def known(stat: Stat | None) -> bytes:
    """What identifies the file that is to be replaced. None: there must be no file."""
    return NEW if stat is None else b" ".join(b"%d" % number for number in stat.version)


def replace(temporary: Made, path: bytes, mode: int | None, known: bytes = b"") -> Question[Replacement]:
    """Give a temporary file the rights of the file at `path`, and rename it to that, in one step for other agents.

    Without `mode` it gets that of the replaced file. With `known` only that file is replaced.
    """
    bits = b"" if mode is None else b"%d" % mode
    made = b"%d %d %d" % (temporary.uid or 0, temporary.size, temporary.mtime)
    return Question(
        b"e", b"\0".join((bits, temporary.path, path, known, made)), _replaced, repeatable=False, required=True
    )


def _replaced(answer: bytes) -> Replacement:
    done, _, numbers = answer.partition(b" ")
    return Replacement(
        Stat(*stat_numbers(numbers)) if done == b"1" else None, changed=done == b"2", swapped=done == b"3"
    )
