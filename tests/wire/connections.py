"""The TCP connections of this machine over IPv4, from the kernel's socket diagnostics (sock_diag(7)).

/proc/net/tcp says the same, but also lists the thousands of connections that have ended (TIME_WAIT) in a row of tests.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

DIAGNOSTICS = 4  # NETLINK_SOCK_DIAG
BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
ERROR, DONE = 2, 3
STATES = 1 << 1 | 1 << 8  # established, or closed by the other side
HEAD = struct.Struct("=IHHII")  # of a message: length, type, flags, number, port
ROW = struct.Struct(">4xHH")  # ports after family, state and timer
INODE = struct.Struct("=I")
INODE_AT = 68  # bytes after the head
# a row of /proc/net/tcp in these states: port, remote port and inode
LINE = re.compile(r"[0-9A-F]{8}:([0-9A-F]{4}) [0-9A-F]{8}:([0-9A-F]{4}) 0[18] \S+ \S+ \S+ +\d+ +\d+ (\d+)")


def connected() -> list[tuple[int, int]]:
    """The local and the remote port of every connection that a process has open."""
    try:
        return list(_from_diagnostics())
    except OSError:  # a kernel without them
        found = LINE.findall(Path("/proc/net/tcp").read_text())
        return [(int(local, 16), int(remote, 16)) for local, remote, inode in found if inode != "0"]


def _from_diagnostics() -> Iterator[tuple[int, int]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, DIAGNOSTICS) as kernel:
        body = struct.pack("=BBBBI48x", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, STATES)
        kernel.send(HEAD.pack(HEAD.size + len(body), BY_FAMILY, DUMP, 1, 0) + body)
        while True:
            data = kernel.recv(1 << 16)
            while data:
                length, kind, *_ = HEAD.unpack_from(data)
                if kind == DONE:
                    return
                if kind == ERROR:
                    raise OSError("no socket diagnostics")
                if INODE.unpack_from(data, HEAD.size + INODE_AT)[0]:
                    yield ROW.unpack_from(data, HEAD.size)
                data = data[(length + 3) & ~3 :]
