"""A host of its own: a network namespace that is reached over a link that delays, loses, or is cut.

The kernels of the machines that run tests often lack `tc netem`, so the link is in this process: it carries IP packets
between two TUN devices, one of which is in the namespace.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count

import pytest

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET = 65536  # bytes


class Link:
    """Carries packets between two descriptors. `delay` is in seconds each way, `loss` a share of the packets."""

    def __init__(self, ends: tuple[int, int]) -> None:
        self.delay = self.loss = 0.0
        self.cut = False
        self.lost = 0
        self._other = {ends[0]: ends[1], ends[1]: ends[0]}
        self._due: list[tuple[float, int, int, bytes]] = []
        self._number = count()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _carry(self) -> None:
        while not self._over.is_set():
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 0.1
            for end in select.select(list(self._other), [], [], min(wait, 0.1))[0]:
                with suppress(BlockingIOError):
                    self._take(end, os.read(end, PACKET))
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(self._due)
                with suppress(OSError):  # its queue is full: lost, as on a real link
                    os.write(end, packet)

    def _take(self, end: int, packet: bytes) -> None:
        if self.cut or random.random() < self.loss:
            self.lost += 1
            return
        heapq.heappush(self._due, (time.monotonic() + self.delay, next(self._number), self._other[end], packet))


class RemoteHost:
    """Its address, the link to it, and the words before a command that run it there."""

    def __init__(self, address: str, enter: Sequence[str], link: Link) -> None:
        self.address = address
        self.enter = enter
        self.link = link


@contextmanager
def remote_host() -> Iterator[RemoteHost]:
    """Make one; skips where the kernel or the rights do not allow it."""
    number = os.getpid() % 16384 * 4  # of a subnet of 198.18.0.0/16, which is for tests of networks
    ours, theirs = (f"198.18.{number >> 8}.{(number & 255) + host}" for host in (1, 2))
    name = f"fc{os.getpid()}"
    with ExitStack() as stack:
        try:
            ends = (_tun(stack, f"{name}a"), _tun(stack, f"{name}b"))
            _run("ip", "netns", "add", name)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespace or TUN device here: {error}")
        stack.callback(_run, "ip", "netns", "del", name)
        _run("ip", "link", "set", f"{name}b", "netns", name)
        _run("ip", "addr", "add", f"{ours}/30", "dev", f"{name}a")
        _run("ip", "link", "set", f"{name}a", "up")
        for words in (
            ("addr", "add", f"{theirs}/30", "dev", f"{name}b"),
            ("link", "set", f"{name}b", "up"),
            ("link", "set", "lo", "up"),
        ):
            _run("ip", "-n", name, *words)
        link = Link(ends)
        link.start()
        stack.callback(link.stop)
        yield RemoteHost(theirs, ("nsenter", f"--net=/run/netns/{name}"), link)


def _tun(stack: ExitStack, name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    stack.callback(os.close, end)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return end


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
