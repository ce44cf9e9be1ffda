"""Requests that the agent answers in one round trip: read or write a small file, list a directory. No I/O.

The agent declines what fails, is large or unusual; then nothing was changed, and SFTP is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from flamecrest.server.files.remote.times import local_time
from flamecrest.server.files.values import ListingEntry, Stat, kind_letter, permission_letters
from flamecrest.server.ssh.channels.agent import Question, stat_numbers
from flamecrest.server.ssh.channels.sftp_packets import make

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import tzinfo

    from flamecrest.server.files.values import ListOptions

SMALL = 64 * 1024  # bytes; the agent reads and writes files up to this size
LISTED = 4000  # entries; the agent lists directories up to this size


class SmallFile(NamedTuple):
    """A regular file: its attributes, and its content if it has at most SMALL bytes."""

    stat: Stat
    data: bytes | None


class MemoryReader:
    """The Reader of a file that is in memory already."""

    def __init__(self, found: Stat, data: bytes) -> None:
        self.stat = found
        self.content = data

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to `end`."""
        if part := self.content[start:end]:
            yield part


class WriteReply(NamedTuple):
    """The result of a write: whether no file existed before, and the new attributes."""

    created: bool
    stat: Stat


def read(path: bytes) -> Question[SmallFile]:
    """Request a regular file."""
    return Question(b"r", b"%d\0%b" % (SMALL, path), _small)


def _small(answer: bytes) -> SmallFile:
    words, found, data = answer.partition(b"\0")
    return SmallFile(Stat(*stat_numbers(words)), data if found else None)


async def buffer_small(chunks: AsyncIterator[bytes]) -> tuple[bytes, bool, AsyncIterator[bytes]]:
    """Read up to SMALL bytes ahead. Returns them if they are everything, whether they are, and all chunks again."""
    pieces: list[bytes] = []
    size, ended = 0, False
    while size <= SMALL and not ended:
        piece = await anext(chunks, None)
        if piece is None:
            ended = True
        else:
            pieces.append(piece)
            size += len(piece)

    async def again() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        pieces.clear()
        async for piece in chunks:
            yield piece

    return b"".join(pieces) if ended else b"", ended and size <= SMALL, again()


def write(path: bytes, temporary: bytes, data: bytes, mode: int | None) -> Question[WriteReply]:
    """Request to write a temporary file and rename it; without `mode` it gets that of the replaced file."""
    bits = b"" if mode is None else b"%d" % mode
    return Question(b"w", b"\0".join((bits, temporary, path, data)), _written, repeatable=False)


def _written(answer: bytes) -> WriteReply:
    created, _, words = answer.partition(b" ")
    return WriteReply(created == b"1", Stat(*stat_numbers(words)))


def create(what: Literal["file", "directory", "directories"], path: bytes) -> Question[bool]:
    """Request to create an empty file, a directory, or a directory with its parents, with the mode of the umask.

    The answer is False if the path exists (a directory that may exist counts as created), StatError if its parent does
    not.
    """
    letter = {"file": b"f", "directory": b"d", "directories": b"p"}[what]
    return Question(b"m", letter + b"\0" + path, lambda answer: answer == b"1", repeatable=False, required=True)


def listing(path: bytes, zone: tzinfo, options: ListOptions) -> Question[list[ListingEntry]]:
    """Request the entries of a directory, unsorted. The same request waiting twice gets one shared answer."""
    how = b"h" * options.hidden + b"f" * options.dereference + b"n" * options.numeric
    text = b"%b\0%d\0%b" % (how, LISTED, path)
    return Question(b"d", text, lambda answer: _entries(answer, zone, numeric=options.numeric), slow=True)


def _entries(answer: bytes, zone: tzinfo, *, numeric: bool) -> list[ListingEntry]:
    users, groups, stat_numbers, *names = answer.decode("utf-8", "surrogateescape").split("\0")
    words = stat_numbers.split()
    # by columns, as most work is needed once per distinct value only
    modes, uids, gids, sizes, mtimes = (words[at::5] for at in range(5))
    letters = {mode: _letters(int(mode)) for mode in set(modes)}
    user, group = _named(uids, users, numeric=numeric), _named(gids, groups, numeric=numeric)
    times = {mtime: local_time(int(mtime), zone) for mtime in set(mtimes)}
    kinds = [letters[mode][0] for mode in modes]
    targets = _targets(names, kinds) if "l" in kinds else [None] * len(kinds)
    if len(names) != len(kinds) + 1 or len(mtimes) != len(kinds):
        raise ValueError("entries without their names")
    return [
        make(ListingEntry, entry)
        for entry in zip(
            names,
            kinds,
            [letters[mode][1] for mode in modes],
            [user[uid] for uid in uids],
            [group[gid] for gid in gids],
            map(int, sizes),
            [times[mtime] for mtime in mtimes],
            targets,
            map(int, mtimes),
            strict=False,  # an empty string follows the last name
        )
    ]


def _targets(names: list[str], kinds: Sequence[str]) -> list[str | None]:
    """Remove the targets of links from `names` and return them."""
    rest = iter(names[:])
    names.clear()
    targets: list[str | None] = []
    for kind in kinds:
        names.append(next(rest, ""))
        targets.append((next(rest, "") or None) if kind == "l" else None)
    names += rest
    return targets


def _named(ids: Sequence[str], pairs: str, *, numeric: bool) -> dict[str, str]:
    """Return the names of users or groups; their numbers if they have none."""
    called = {number: number for number in set(ids)}
    if not numeric:
        words = pairs.split(":")
        called.update(zip(words[::2], words[1::2], strict=False))
    return called


def _letters(mode: int) -> tuple[str, str]:
    mode &= 0o177777  # ignore further bits
    return kind_letter(mode), permission_letters(mode)
