"""An SFTP server as a process, asked packet by packet over pipes."""

from __future__ import annotations

import os
import select
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flamecrest.server.ssh.channels import sftp_packets as p
from flamecrest.server.ssh.channels.sftp_packets import Attrs, SftpError, string
from flamecrest.server.ssh.channels.sftp_program import PROGRAM

OURS = ("perl", "-e", PROGRAM)
OPENSSH = ("/usr/lib/openssh/sftp-server",)
# requests that change files: their paths must be inside the server's directory
CHANGING = {p.OPEN, p.SETSTAT, p.REMOVE, p.MKDIR, p.RMDIR, p.RENAME, p.SYMLINK, p.EXTENDED}
PATIENCE = 60  # seconds without a byte after which a server counts as stuck


def inside(path: bytes) -> bool:
    """Whether a path, as written, does not lead above its start."""
    return not path.startswith(b"/") and b".." not in path.split(b"/")


def _check(kind: int, body: bytes) -> None:
    """Refuse a request that could change files other than the test's own."""
    at = 0
    for _ in range(3 if kind in CHANGING else 0):
        try:
            path, at = p.take(body, at)
        except (struct.error, IndexError):
            return
        assert inside(path), f"request {kind} for {path!r}"


class Speaker:
    """Sends packets and reads answers in order. Requests raise SftpError for a status other than OK."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        self.process = process
        self._in = process.stdin
        self._out = process.stdout
        self._number = 0

    def send(self, data: bytes) -> None:
        self._in.write(data)

    def ended(self) -> tuple[int, bytes]:
        """End its input; its exit status and the rest of its output."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out

    def packet(self) -> bytes:
        """The next packet, without its length."""
        return self._exactly(struct.unpack(">I", self._exactly(4))[0])

    def hello(self) -> dict[bytes, bytes]:
        self.send(struct.pack(">IBI", 5, p.INIT, 3))
        packet = self.packet()
        assert packet[:5] == struct.pack(">BI", p.VERSION, 3)
        return p.extensions(packet)

    def raw(self, kind: int, body: bytes) -> bytes:
        """The answer to a request."""
        _check(kind, body)
        self._number += 1
        self.send(struct.pack(">IBI", len(body) + 5, kind, self._number) + body)
        packet = self.packet()
        assert struct.unpack_from(">I", packet, 1)[0] == self._number
        return packet

    def do(self, kind: int, *parts: bytes) -> None:
        """A request whose answer is a status."""
        p.status_reply(self.raw(kind, b"".join(parts)))

    def extended(self, name: bytes, *parts: bytes) -> None:
        self.do(p.EXTENDED, string(name), *parts)

    def open(self, path: bytes, flags: int, attrs: Attrs = p.NO_ATTRS) -> bytes:
        return p.handle_reply(self.raw(p.OPEN, string(path) + struct.pack(">I", flags) + attrs.packed()))

    def opendir(self, path: bytes) -> bytes:
        return p.handle_reply(self.raw(p.OPENDIR, string(path)))

    def close(self, handle: bytes) -> None:
        self.do(p.CLOSE, string(handle))

    def read(self, handle: bytes, offset: int, size: int) -> bytes:
        return p.data_reply(self.raw(p.READ, string(handle) + struct.pack(">QI", offset, size)))

    def write(self, handle: bytes, offset: int, data: bytes) -> None:
        self.do(p.WRITE, string(handle), struct.pack(">Q", offset), string(data))

    def attrs(self, kind: int, path: bytes) -> Attrs:
        return p.attrs_reply(self.raw(kind, string(path)))

    def names(self, kind: int, path: bytes) -> list[p.Name]:
        return p.names_reply(self.raw(kind, string(path)))

    def folder(self, path: bytes) -> list[p.Name]:
        """All entries of a directory."""
        handle, found = self.opendir(path), []
        while batch := self.names(p.READDIR, handle):
            found += batch
        self.close(handle)
        return found

    def file(self, path: bytes, content: bytes = b"") -> bytes:
        handle = self.open(path, p.FLAG_WRITE | p.FLAG_CREATE | p.FLAG_TRUNCATE)
        self.write(handle, 0, content)
        self.close(handle)
        return path

    def code(self, kind: int, *parts: bytes) -> int:
        """The status code of the answer; -1 if it is not a STATUS packet."""
        packet = self.raw(kind, b"".join(parts))
        return int(struct.unpack_from(">I", packet, 5)[0]) if packet[0] == p.STATUS else -1

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            ready, _, _ = select.select([self._out], [], [], PATIENCE)
            assert ready, "the server says nothing"
            more = os.read(self._out.fileno(), size - len(data))
            assert more, "the server has ended"
            data += more
        return data


@contextmanager
def speaking(argv: Sequence[str], folder: Path, **environment: str) -> Iterator[Speaker]:
    """A server that runs in a directory until the block ends."""
    pipe: Any = subprocess.PIPE
    with subprocess.Popen(
        argv,
        cwd=folder,
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env=dict(os.environ) | environment,
        umask=0o027,
    ) as process:
        try:
            yield Speaker(process)
        finally:
            if process.stdin and not process.stdin.closed:
                process.stdin.close()
            process.kill()


def packets(stream: bytes) -> list[bytes]:
    """Cut a server's output into packets, which must be whole."""
    found, at = [], 0
    while at < len(stream):
        size = struct.unpack_from(">I", stream, at)[0]
        packet = stream[at + 4 : at + 4 + size]
        assert len(packet) == size
        found.append(packet)
        at += 4 + size
    return found


__all__ = ["OPENSSH", "OURS", "SftpError", "Speaker", "inside", "packets", "speaking"]
