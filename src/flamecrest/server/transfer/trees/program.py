"""Commands that run tree.pl, and what it writes: entries of a folder, and results. No I/O.

tree.pl itself says what its records are.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.command import Command

BAD: Final = 0xFFFFFFFF  # the length that ends content which is of no use
MOST: Final = 1024 * 1024  # bytes of a record, and of a chunk of content
_BOOT: Final = (
    'my $size = shift; my $source = ""; while (length $source < $size) { '
    "sysread STDIN, $source, $size - length $source, length $source or exit 1 } eval $source; die $@ if $@"
)


_FILE: Final = resources.files(__package__).joinpath("programs", "tree.pl")
SOURCE: Final = _FILE.read_text(encoding="ascii").encode()  # is sent before all else


def _command(mode: str, root: bytes, *rest: str) -> Command[Any]:
    return Command(("perl", "-e", _BOOT, str(len(SOURCE)), mode, os.fsdecode(root), *rest), lambda output: output)


def list_folder(root: bytes, *, checksum: bool, sweep: bool) -> Command[Any]:
    """Lists a folder; with `sweep` it also removes the user's temporary files that are older than a day."""
    return _command("list", root, str(int(checksum)), str(int(sweep)))


def apply(root: bytes, source_root: bytes | None) -> Command[Any]:
    """Changes a folder; files are copied from `source_root`, or come over the input."""
    return _command("apply", root, os.fsdecode(source_root or b""))


def send(root: bytes) -> Command[Any]:
    """Writes the content of files of a folder."""
    return _command("send", root)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a folder. `kind`: d folder, f file, l link, o other, ! an entry that could not be read."""

    kind: str
    path: bytes  # relative to the root; empty: the root
    mode: int = 0
    size: int = 0  # bytes
    mtime: int = 0  # microseconds since the epoch
    sha256: str = ""
    text: bytes = b""  # the target of a link, or the reason of an error
    around: bytes = b""  # of a root that does not exist: the identities of the folder that it will be in

    @property
    def key(self) -> list[bytes]:
        """The order of entries: a folder is directly followed by what is in it."""
        return self.path.split(b"/")


def entry(head: bytes, path: bytes, text: bytes) -> Entry:
    """Parse a record of a list. Raises Upstream for anything else: no path leads out of the root."""
    kind, *rest = head.decode("ascii", "replace").split(" ")
    try:
        if kind == "!":
            return Entry("!", path, text=text, around=" ".join(rest[1:]).encode())
        mode, size, mtime, _, sha256 = rest
        if kind not in "dflo" or (path and not {b"", b".", b".."}.isdisjoint(path.split(b"/"))):
            raise ValueError(path)
        return Entry(kind, path, int(mode, 8), int(size), int(mtime), sha256.strip("-"), text)
    except ValueError as error:
        raise Upstream("The list of a folder on the cluster was damaged", detail=repr(error)) from None


class Records:
    """Reads records, and content between them, from the output of tree.pl."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._data = b""
        self._at = 0

    async def record(self) -> tuple[bytes, bytes, bytes] | None:
        """The next record; None at the end. Raises Upstream if the output ends early, or is no record."""
        data = self._data
        first = data.find(b"\0", self._at)
        second = data.find(b"\0", first + 1) if first >= 0 else -1
        third = data.find(b"\0", second + 1) if second >= 0 else -1
        while third < 0:
            if len(data) - self._at > MOST:
                raise Upstream("The program on the cluster wrote something unexpected")
            await self._more()
            data, first = self._data, self._data.find(b"\0")
            second = data.find(b"\0", first + 1) if first >= 0 else -1
            third = data.find(b"\0", second + 1) if second >= 0 else -1
        found = data[self._at : first], data[first + 1 : second], data[second + 1 : third]
        self._at = third + 1
        return None if found[0] == b"z" else found

    async def content(self) -> bytes:
        """The next chunk of content, with its length before it. Raises Upstream if there is none."""
        while len(self._data) - self._at < 4:
            await self._more()
        size = int.from_bytes(self._data[self._at : self._at + 4])
        end = 4 if size == BAD else 4 + size
        if end > 4 + MOST:
            raise Upstream("The program on the cluster wrote something unexpected")
        while len(self._data) - self._at < end:
            await self._more()
        self._at += end
        return self._data[self._at - end : self._at]

    async def _more(self) -> None:
        chunk = await anext(self._chunks, b"")
        if not chunk:
            raise EndedEarly
        self._data = self._data[self._at :] + chunk
        self._at = 0


class EndedEarly(Upstream):
    """The program has ended before it was ready."""

    def __init__(self) -> None:
        super().__init__("The program on the cluster ended early")
