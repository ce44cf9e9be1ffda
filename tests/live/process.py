"""Servers as child processes: started, awaited until they respond, ended by pid."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent  # of the environment that this process runs in


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its base URL, its process, and its log file."""

    url: str
    pid: int
    log: Path


def free_port() -> int:
    """A loopback port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(argv: Sequence[str], log: Path, ready: Callable[[], bool], seconds: float = 50) -> Iterator[int]:
    """Run a program for the duration of the block. Yields its pid once `ready` returns true.

    It gets none of our FLAMECREST_* variables: they would change its configuration.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("FLAMECREST_", "YAML_CONFIG"))}
    with log.open("ab") as out:
        process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environ)
    try:
        until = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                happened = "does not answer" if process.returncode is None else f"ended with {process.returncode}"
                raise RuntimeError(f"{argv[0]} {happened}; it says:\n{log.read_text('utf-8', 'replace')[-4000:]}")
            time.sleep(0.02)
        yield process.pid
    finally:
        _end(process)


def answers(url: str) -> bool:
    """Whether an HTTP server responds."""
    try:
        httpx.get(url, trust_env=False, timeout=5, verify=False)
    except httpx.TransportError:
        return False
    return True


@contextmanager
def serving(argv: Sequence[str], port: int, log: Path) -> Iterator[Server]:
    """Run a program that speaks HTTP on that port of loopback."""
    url = f"http://127.0.0.1:{port}"
    with running(argv, log, lambda: answers(url + "/status/liveness")) as pid:
        yield Server(url, pid, log)


@contextmanager
def gateway(config: Path, log: Path, programs: Path = PROGRAMS) -> Iterator[Server]:
    """Run `flamecrest serve` from a directory of programs, with a configuration file.

    It chooses a free port and logs it.
    """
    argv = [str(programs / "flamecrest"), "serve", "--config", str(config), "--host", "127.0.0.1", "--port", "0"]
    before = log.stat().st_size if log.exists() else 0

    def url() -> str:
        found = re.search(rb" listens on (https?://\S+) ", log.read_bytes()[before:])
        return found[1].decode() if found else ""

    with running(argv, log, lambda: bool(url())) as pid:
        yield Server(url(), pid, log)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
