"""Servers as child processes: started, awaited until they respond, ended by pid."""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Protocol

import httpx

from . import fork_server

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent  # of the environment that this process runs in


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its base URL, its process, and its log file."""

    url: str
    pid: int
    log: Path


class Process(Protocol):
    """A process that has been started."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


Start = Callable[[Sequence[str], Mapping[str, str], IO[bytes]], Process]  # arguments, environment, log


def free_port() -> int:
    """A loopback port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _executed(argv: Sequence[str], environ: Mapping[str, str], log: IO[bytes]) -> Process:
    """A process that executes a program."""
    return subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ)


class Forked:
    """A gateway that the fork server has started. What its exit status was, it does not tell."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], log: IO[bytes]) -> None:
        server = _fork_server()
        socket.send_fds(server, [json.dumps({"argv": argv, "environ": dict(environ)}).encode()], [log.fileno()])
        answer, (self._descriptor,), _, _ = socket.recv_fds(server, 64, 1)
        self.pid = int(answer)

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("flamecrest", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def _ended(self, timeout: float | None) -> int | None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return 0 if poll.poll(None if timeout is None else timeout * 1000) else None


@cache
def _fork_server() -> socket.socket:
    """The connection to the fork server that several processes share, or to this process's own, which ends with it."""
    if (address := os.environ.get(fork_server.ADDRESS)) is not None:
        shared = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        atexit.register(shared.close)
        shared.connect(address)
        return shared
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        argv = [sys.executable, "-m", fork_server.__name__, str(theirs.fileno())]
        null = subprocess.DEVNULL
        server = subprocess.Popen(argv, cwd=ROOT, stdin=null, stdout=null, env=_environ(), pass_fds=[theirs.fileno()])

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def _environ() -> dict[str, str]:
    """Our environment without the variables that would change a gateway's configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("FLAMECREST_", "YAML_CONFIG"))}


@contextmanager
def running(
    argv: Sequence[str], log: Path, ready: Callable[[], bool], seconds: float = 50, start: Start = _executed
) -> Iterator[int]:
    """Run a program for the duration of the block. Yields its pid once `ready` returns true.

    It gets none of our FLAMECREST_* variables: they would change its configuration.
    """
    with log.open("ab") as out:
        process = start(argv, _environ(), out)
    try:
        until = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                happened = "does not answer" if (status := process.poll()) is None else f"ended with {status}"
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
def gateway(
    config: Path, log: Path, programs: Path = PROGRAMS, port: int = 0, before: Sequence[str] = ()
) -> Iterator[Server]:
    """Run `flamecrest serve`, with a configuration file. With port 0 it chooses a free port and logs it.

    It is executed from another directory of programs than ours, or with words `before` the command; else the fork
    server starts it, which is faster.
    """
    argv = [
        *before,
        str(programs / "flamecrest"),
        "serve",
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    known = log.stat().st_size if log.exists() else 0

    def url() -> str:
        found = re.search(rb" listens on (https?://\S+) ", log.read_bytes()[known:])
        return found[1].decode() if found else ""

    start = Forked if programs == PROGRAMS and not before else _executed
    with running(argv, log, lambda: bool(url()), start=start) as pid:
        yield Server(url(), pid, log)


def _end(process: Process) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
