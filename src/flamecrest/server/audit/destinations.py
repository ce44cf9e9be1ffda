"""Where audit lines go: a file, standard output, a syslog server. All calls block; the writer's thread makes them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from .chain import hash_of

TAIL: Final = 64 * 1024  # bytes at the end of a file in which its last line is looked for
NOTICE: Final = 13 * 8 + 5  # syslog's priority: facility "log audit", severity "notice"
SEND_TIMEOUT: Final = 5.0  # seconds for a syslog server
OWNER_ONLY: Final = 0o600
SHORT: Final = 256  # characters of a text that is sent of a line that is too long


class Destination(Protocol):
    """Takes whole lines."""

    def write(self, lines: Sequence[bytes]) -> int:
        """Write lines durably; returns how many, from the first on. Raises an error if none could be written."""
        ...

    def close(self) -> None:
        """Release resources."""
        ...


class FileDestination:
    """A file that is only appended to. Several processes may share it: a lock file beside it keeps them apart.

    max_size: bytes beyond which the file is renamed, with the time in its name, and a new one begun (None: never).
    keep: how many renamed files are kept (None: all). A file that another program has renamed is begun anew.
    """

    def __init__(self, path: Path, *, max_size: int | None = None, keep: int | None = None) -> None:
        self._path = path
        self._max_size = max_size
        self._keep = keep
        self._fd = -1

    def last_hash(self) -> str:
        """The hash of the last line in the file; empty if there is none."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
            for line in reversed(stream.read(TAIL).split(b"\n")):
                if (found := hash_of(line)) is not None:
                    return found
        return ""

    def write(self, lines: Sequence[bytes]) -> int:
        """See Destination. All lines are written, or none. A line that a killed process has not ended is ended."""
        data = b"".join(lines)
        try:
            with self._locked():
                self._open()
                size = os.fstat(self._fd).st_size
                if self._max_size is not None and size and size + len(data) > self._max_size:
                    self._rotate()
                if self._unfinished():
                    data = b"\n" + data
                self._append(data)
        except BaseException:
            self.close()  # the next attempt begins anew: it may be the descriptor that is of no use
            raise
        return len(lines)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _append(self, data: bytes) -> None:
        size = os.fstat(self._fd).st_size
        try:
            while data:
                data = data[os.write(self._fd, data) :]
            os.fdatasync(self._fd)
        except OSError:
            if os.fstat(self._fd).st_size > size:  # another program may have cut it shorter
                os.ftruncate(self._fd, size)
            raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, OWNER_ONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _open(self) -> None:
        """Open the file, again if it was renamed or removed."""
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._fd), self._path.stat()):
                    return
            self.close()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, OWNER_ONLY)

    def _unfinished(self) -> bool:
        size = os.fstat(self._fd).st_size
        return size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    def _rotate(self) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._path.rename(self._path.with_name(f"{self._path.name}.{stamp}"))
        if self._keep is not None:
            for old in sorted(self._path.parent.glob(f"{self._path.name}.2*Z"))[: -self._keep]:
                old.unlink()
        self._open()


class StdoutDestination:
    """Standard output. A line of which a part was taken before an error is ended first."""

    def __init__(self) -> None:
        self._taken = 0  # bytes of the first line that waits

    def write(self, lines: Sequence[bytes]) -> int:
        """See Destination."""
        sys.stdout.flush()
        fd = sys.stdout.fileno()
        for count, line in enumerate(lines):
            try:
                while self._taken < len(line):
                    self._taken += os.write(fd, line[self._taken :])
            except OSError:
                if not count:
                    raise
                return count
            self._taken = 0
        return len(lines)

    def close(self) -> None:
        """Nothing is open."""


class SyslogDestination:
    """A syslog server: `unix:PATH` (the local one), `udp://HOST:PORT`, or `tcp://HOST:PORT`.

    Over the network: RFC 5424; over TCP with octet counting (RFC 6587, 3.4.1). Local daemons take the older form.
    Of a line that is too long for a datagram, the members that are short are sent.
    """

    def __init__(self, address: str) -> None:
        self._kind, _, rest = address.partition(":")
        self._path = rest
        host, _, port = rest.removeprefix("//").rpartition(":")
        self._host = host.strip("[]")
        self._port = port
        self._socket: socket.socket | None = None

    def write(self, lines: Sequence[bytes]) -> int:
        """See Destination. Lines that the system has taken can be lost on the way to the server."""
        sent = 0
        try:
            if self._socket is None:
                self._socket = self._connect()
            for line in lines:
                self._send(self._socket, line.rstrip(b"\n"))
                sent += 1
        except OSError:
            self.close()
            if not sent:
                raise
        return sent

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, to: socket.socket, line: bytes) -> None:
        try:
            to.sendall(self._message(line))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            to.sendall(self._message(_shortened(line)))  # one that can never be sent must not stop all others

    def _connect(self) -> socket.socket:
        if self._kind == "unix":
            local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            local.settimeout(SEND_TIMEOUT)
            local.connect(self._path)
            return local
        if self._kind == "tcp":
            return socket.create_connection((self._host, int(self._port)), timeout=SEND_TIMEOUT)
        family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
        remote = socket.socket(family, kind, protocol)
        remote.connect(address)
        return remote

    def _message(self, line: bytes) -> bytes:
        pid = os.getpid()
        if self._kind == "unix":
            return b"<%d>flamecrest[%d]: %b" % (NOTICE, pid, line)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        head = f"<{NOTICE}>1 {now} {socket.gethostname()} flamecrest {pid} audit - "
        message = head.encode() + line
        return b"%d %b" % (len(message), message) if self._kind == "tcp" else message


def _shortened(line: bytes) -> bytes:
    """The members of a line that are numbers or short texts, and how long it was."""
    record = json.loads(line)
    short = {name: one for name, one in record.items() if not isinstance(one, list | dict) and len(f"{one}") <= SHORT}
    return json.dumps({**short, "cut_from_bytes": len(line)}, separators=(",", ":")).encode()
