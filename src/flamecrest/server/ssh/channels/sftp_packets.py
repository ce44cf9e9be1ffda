"""SFTP version 3 packets: constants, attributes, and parsers for answers. Pure: bytes in, values out.

The protocol is draft-ietf-secsh-filexfer-02 with OpenSSH's extensions (its PROTOCOL file).
"""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple

# packet types
INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = range(1, 11)
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = range(11, 21)
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED, EXTENDED_REPLY = 101, 102, 103, 104, 105, 200, 201

HELLO: Final = b"\0\0\0\x05\x01\0\0\0\x03"  # what a client sends first: INIT, protocol version 3
SERVER_HELLO: Final = re.compile(rb"\0\0[\0-\x03].\x02\0\0\0[\x03-\x06]", re.DOTALL)  # VERSION, without its extensions

# open flags
FLAG_READ, FLAG_WRITE, FLAG_APPEND, FLAG_CREATE, FLAG_TRUNCATE, FLAG_EXCLUSIVE = 1, 2, 4, 8, 16, 32

# status codes
(
    OK,
    EOF,
    NO_SUCH_FILE,
    PERMISSION_DENIED,
    FAILURE,
    BAD_MESSAGE,
    NO_CONNECTION,
    CONNECTION_LOST,
    UNSUPPORTED,
) = range(9)

READ_SIZE = 32768  # bytes that every server must be able to send in one answer
MAX_PACKET = 1 << 20  # bytes; a longer packet comes from a broken or hostile server

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_ALL_FLAGS = b"\0\0\0\x0f"  # all attributes of version 3, as OpenSSH sends them
make = tuple.__new__  # faster than the constructor of a NamedTuple, which is a Python function
_ALL = struct.Struct(">4xQIIIII")  # size, uid, gid, mode, atime, mtime


class SftpError(Exception):
    """A STATUS packet other than OK. Decisions go by `code`; `message` is the server's text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Attrs(NamedTuple):
    """The attributes of version 3; None where the server did not send one."""

    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    atime: int | None = None
    mtime: int | None = None

    def packed(self) -> bytes:
        flags, out = 0, b""
        if self.size is not None:
            flags |= 1
            out += _U64.pack(self.size)
        if self.uid is not None and self.gid is not None:
            flags |= 2
            out += struct.pack(">II", self.uid, self.gid)
        if self.mode is not None:
            flags |= 4
            out += _U32.pack(self.mode)
        if self.atime is not None and self.mtime is not None:
            flags |= 8
            out += struct.pack(">II", self.atime, self.mtime)
        return _U32.pack(flags) + out


class Name(NamedTuple):
    """One entry of a directory: its name, the server's `ls -l` line, and its own attributes (not a link target's)."""

    name: bytes
    longname: bytes
    attrs: Attrs


NO_ATTRS = Attrs()


# --- parsing answers


def string(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data


def take(packet: bytes, at: int) -> tuple[bytes, int]:
    size = _U32.unpack_from(packet, at)[0]
    end = at + 4 + size
    if end > len(packet):
        raise IndexError("string runs over the packet")
    return packet[at + 4 : end], end


def _raise(packet: bytes) -> None:
    """Raise SftpError for a STATUS packet, IndexError for any other unexpected packet."""
    if packet[0] != STATUS:
        raise IndexError(f"unexpected packet type {packet[0]}")
    code = _U32.unpack_from(packet, 5)[0]
    message = take(packet, 9)[0].decode("utf-8", "replace") if len(packet) > 9 else ""
    raise SftpError(code, message)


def status_reply(packet: bytes) -> None:
    if packet[0] != STATUS or packet[5:9] != b"\0\0\0\0":
        _raise(packet)


def handle_reply(packet: bytes) -> bytes:
    if packet[0] != HANDLE:
        _raise(packet)
    return take(packet, 5)[0]


def data_reply(packet: bytes) -> bytes:
    if packet[0] == DATA:
        return take(packet, 5)[0]
    if packet[0] == STATUS and _U32.unpack_from(packet, 5)[0] == EOF:
        return b""
    _raise(packet)
    return b""


def attrs_reply(packet: bytes) -> Attrs:
    if packet[0] != ATTRS:
        _raise(packet)
    return _attrs(packet, 5)[0]


def names_reply(packet: bytes) -> list[Name]:
    if packet[0] == STATUS and _U32.unpack_from(packet, 5)[0] == EOF:
        return []
    if packet[0] != NAME:
        _raise(packet)
    count, at, names = _U32.unpack_from(packet, 5)[0], 9, []
    end, length = len(packet), _U32.unpack_from  # large directories are parsed here, so as few calls as possible
    for _ in range(count):
        start = at + 4
        at = start + length(packet, at)[0]
        name = packet[start:at]
        start = at + 4
        at = start + length(packet, at)[0]
        longname = packet[start:at]
        if at + _ALL.size <= end and packet[at : at + 4] == _ALL_FLAGS:
            attrs = make(Attrs, _ALL.unpack_from(packet, at))
            at += _ALL.size
        else:
            attrs, at = _attrs(packet, at)
        names.append(make(Name, (name, longname, attrs)))
    return names


def _attrs(packet: bytes, at: int) -> tuple[Attrs, int]:
    flags = _U32.unpack_from(packet, at)[0]
    at += 4
    size = uid = gid = mode = atime = mtime = None
    if flags & 1:
        size = _U64.unpack_from(packet, at)[0]
        at += 8
    if flags & 2:
        uid, gid = struct.unpack_from(">II", packet, at)
        at += 8
    if flags & 4:
        mode = _U32.unpack_from(packet, at)[0]
        at += 4
    if flags & 8:
        atime, mtime = struct.unpack_from(">II", packet, at)
        at += 8
    if flags & 0x80000000:
        count = _U32.unpack_from(packet, at)[0]
        at += 4
        for _ in range(count * 2):
            at = take(packet, at)[1]
    return Attrs(size, uid, gid, mode, atime, mtime), at


def statvfs_reply(packet: bytes) -> tuple[int, ...]:
    """The numbers of statvfs@openssh.com: bsize frsize blocks bfree bavail files ffree favail fsid flag namemax."""
    if packet[0] != EXTENDED_REPLY:
        _raise(packet)
    return struct.unpack_from(">11Q", packet, 5)


def owner_names_reply(packet: bytes) -> tuple[str, str]:
    """The answer to users-groups-by-id@openssh.com about one user and one group."""
    if packet[0] != EXTENDED_REPLY:
        _raise(packet)
    users, at = take(packet, 5)
    user, group = take(users, 0)[0], take(take(packet, at)[0], 0)[0]
    return user.decode("utf-8", "replace"), group.decode("utf-8", "replace")


def extensions(packet: bytes) -> dict[bytes, bytes]:
    at, found = 5, {}
    while at < len(packet):
        name, at = take(packet, at)
        value, at = take(packet, at)
        found[name] = value
    return found


def limits_reply(packet: bytes) -> tuple[int, int, int, int]:
    """Largest packet, read and write, and number of open handles: limits@openssh.com."""
    if packet[0] != EXTENDED_REPLY:
        _raise(packet)
    values = struct.unpack_from(">QQQQ", packet, 5)
    return values[0], values[1], values[2], values[3]
