"""A network of its own for programs, with a link of limited rate to this machine, as root (Linux, iproute2)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

HERE: Final = "198.18.0.1"  # this machine's end of the link; RFC 2544: addresses for benchmarks
THERE: Final = "198.18.0.2"


def can_limit() -> bool:
    """Whether such networks can be made."""
    return os.geteuid() == 0 and all(map(shutil.which, ("ip", "tc")))


@contextmanager
def limited_network(rate: str) -> Iterator[Sequence[str]]:
    """A network with a link of that rate in both directions, as `tc` writes it (`1gbit`). It is removed at the end.

    Yields what begins the argument list of a program that shall run there. It reaches this machine as HERE.
    Raises CalledProcessError if the kernel lacks network namespaces, veth or the token bucket filter.
    """
    name = f"flamecrest-bench-{os.getpid()}"
    here, there = f"fcb{os.getpid() % 10**7}a", f"fcb{os.getpid() % 10**7}b"  # 15 characters at most
    inside = ("ip", "netns", "exec", name)
    bucket = ("root", "tbf", "rate", rate, "burst", "1mb", "latency", "50ms")
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _run("ip", "address", "add", f"{HERE}/30", "dev", here)
        _run("ip", "link", "set", here, "up")
        _run("tc", "qdisc", "add", "dev", here, *bucket)
        _run(*inside, "ip", "address", "add", f"{THERE}/30", "dev", there)
        _run(*inside, "ip", "link", "set", there, "up")
        _run(*inside, "tc", "qdisc", "add", "dev", there, *bucket)
        yield inside
    finally:
        _run("ip", "netns", "delete", name)  # and the link with it


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
