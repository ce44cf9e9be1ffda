"""A DNS server of a test, which knows one name and can fall silent, for a process with a resolv.conf of its own."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

A, NOT_FOUND = 1, 3


class NameServer:
    """`enter`: the words before a command that make it ask this server."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.answers = True
        address = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
        resolv = folder / "resolv.conf"
        resolv.write_text(f"nameserver {address}\noptions timeout:1 attempts:1\n")
        mount = f'mount --bind {resolv} "$(realpath /etc/resolv.conf)" && exec "$@"'
        self.enter = ("unshare", "--mount", "sh", "-c", mount, "sh")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._socket.settimeout(0.1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                question, client = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            if self.answers:
                self._socket.sendto(self._answer(question), client)

    def _answer(self, query: bytes) -> bytes:
        """RFC 1035: the question again, and for an A question of our name one record, 127.0.0.1 for 0 seconds."""
        end = query.index(b"\0", 12) + 5
        question, (kind,) = query[12:end], struct.unpack("!H", query[end - 4 : end - 2])
        ours = question[:-5] == b"".join(bytes([len(one)]) + one for one in self.name.encode().split(b"."))
        found = ours and kind == A
        head = query[:2] + struct.pack("!5H", 0x8180 | (0 if ours else NOT_FOUND), 1, int(found), 0, 0)
        record = struct.pack("!HHHIH", 0xC00C, A, 1, 0, 4) + socket.inet_aton("127.0.0.1")
        return head + question + (record if found else b"")


@contextmanager
def name_server(name: str, folder: Path) -> Iterator[NameServer]:
    made = NameServer(name, folder)
    try:
        yield made
    finally:
        made.stop()
