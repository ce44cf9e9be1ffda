"""Fault injection: a separate SSH server, stopped processes, a profile that prints.

Only `stopped` and `ended` touch the centre's own servers, for as long as their callers need.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .process import free_port
from .site import Site

CENTRE = Path(__file__).parent / "centre"


def until(true: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait for a condition; fail if it does not become true."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"it did not happen: {what}")
        time.sleep(0.02)


# --- processes


def _stat(pid: int) -> tuple[str, int]:
    """State and parent of a process."""
    state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[:2]
    return state, int(parent)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    parents: dict[int, list[int]] = {}
    for one in pids():
        with contextlib.suppress(OSError):
            parents.setdefault(_stat(one)[1], []).append(one)
    found, more = [], [pid]
    while more:
        more = [child for one in more for child in parents.get(one, [])]
        found += more
    return found


def running(words: str) -> list[int]:
    """The processes whose command line holds these words, except zombies and this process."""
    found = []
    for pid in pids():
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if words in line and _stat(pid)[0] != "Z" and pid != os.getpid():
                found.append(pid)
    return found


def end(some: list[int], number: int = signal.SIGKILL) -> None:
    for pid in some:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def stopped(*some: int) -> Iterator[None]:
    """Stop these processes (SIGSTOP) for the duration of the block."""
    end(list(some), signal.SIGSTOP)
    try:
        yield
    finally:
        end(list(some), signal.SIGCONT)


def first_pid(path: Path) -> int:
    """The pid in a pid file. Of a daemon that was killed, the rest of a longer pid may follow on a second line."""
    return int(path.read_text().split()[0])


def pid_of(piece: str, suite: str = "") -> int:
    """The pid of one of the centre's own servers, or of the centre of that suite."""
    folder = Path(os.environ.get("CLUSTER_DIR") or "/tmp/flamecrest-centre")
    if suite:
        folder = Site.of_suite(suite).keys.parent
    return first_pid(folder / "run" / f"{piece}.pid")


@contextmanager
def ended(piece: str, suite: str = "") -> Iterator[None]:
    """End one of the centre's own servers for the duration of the block."""
    pid = pid_of(piece, suite)
    os.kill(pid, signal.SIGTERM)
    try:
        until(lambda: not Path(f"/proc/{pid}").exists() or _stat(pid)[0] == "Z", f"{piece} ends")
        yield
    finally:
        up(suite)


def up(suite: str = "") -> None:
    """Start the centre's servers that are down, and wait until all respond."""
    environ = os.environ | ({"SUITE": suite} if suite else {})
    done = subprocess.run(
        [str(CENTRE / "up.sh")], check=False, capture_output=True, text=True, timeout=120, env=environ
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- an SSH server


@dataclass
class Sshd:
    """A second sshd of the centre, on another port and with some settings changed."""

    port: int
    known_hosts: Path
    config: Path
    log: Path
    root: Path = Path("/")  # of the system that it is a program of: a chroot has another OpenSSH
    limits: Sequence[str] = ()  # options of prlimit
    host: str = "127.0.0.1"
    enter: Sequence[str] = ()  # the words before a command that run it on that host
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [
            *self.enter,
            "prlimit",
            *self.limits,
            "chroot",
            str(self.root),
            "/usr/sbin/sshd",
            "-D",
            "-e",
            "-f",
            f"/{self.config.relative_to(self.root)}",
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self.answers, "our sshd answers")

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=2) as probe:
            return probe.recv(4) == b"SSH-"
        return False

    def known_as(self, host: str, port: int) -> None:
        """Its keys are known under another address as well, such as that of a proxy before it."""
        mine, other = f"[{self.host}]:{self.port} ", f"[{host}]:{port} "
        lines = self.known_hosts.read_text().splitlines(keepends=True)
        self.known_hosts.write_text("".join([*lines, *(line.replace(mine, other) for line in lines if mine in line)]))

    def sessions(self) -> list[int]:
        """The sshd processes of its connections, without the programs that they run."""
        if self.process is None:
            return []
        return [pid for pid in children(self.process.pid) if _name(pid).startswith("sshd")]

    def processes(self) -> list[int]:
        """Those of its connections, and itself."""
        return [] if self.process is None else [self.process.pid, *self.sessions()]

    def cut(self) -> None:
        """Cut every connection. Remote programs keep running, as with OpenSSH."""
        end(self.sessions())

    def stop(self) -> None:
        """End it and all its connections, as a crash of the login node does."""
        if self.process is None:
            return
        sessions = self.sessions()
        self.process.kill()
        self.process.wait()
        self.process = None
        end(sessions)


@contextmanager
def sshd(
    site: Site,
    folder: Path,
    root: Path = Path("/"),
    limits: Sequence[str] = (),
    host: str = "127.0.0.1",
    enter: Sequence[str] = (),
    **options: str,
) -> Iterator[Sshd]:
    """Run it, in that root directory, with options of prlimit. Options of sshd_config replace the centre's.

    `host` is its address, and `enter` the words before a command that run it there.
    """
    port = free_port()
    theirs = (site.known_hosts.parent / "sshd_config").read_text()
    given = {"ListenAddress": host, "Port": str(port), "PidFile": "none", **options}
    kept = [line for line in theirs.splitlines() if line.partition(" ")[0] not in given]
    config = (folder if root == Path("/") else root / "tmp") / f"sshd_config_{port}"
    config.write_text("\n".join([*kept, *(f"{name} {value}" for name, value in given.items()), ""]))
    known = folder / f"known_hosts_{port}"
    known.write_text(re.sub(r"(?m)^\[127\.0\.0\.1\]:\d+", f"[{host}]:{port}", site.known_hosts.read_text()))
    server = Sshd(port, known, config, folder / "sshd.log", root, limits, host, enter)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        config.unlink()


# --- users' files


@contextmanager
def big_file(site: Site, user: str) -> Iterator[str]:
    """A file of 200 GB, of which nothing is on disk."""
    path = Path(site.home(user)) / f"big-{os.getpid()}-{time.monotonic_ns()}"
    with path.open("wb") as file:
        file.truncate(200 * 10**9)
    give(path, user)
    try:
        yield str(path)
    finally:
        path.unlink()


@contextmanager
def noisy_profile(site: Site, user: str, text: str) -> Iterator[None]:
    """A ~/.bashrc that prints: bash reads it for every command over SSH."""
    path = Path(site.home(user)) / ".bashrc"
    before = path.read_bytes() if path.exists() else None
    path.write_text(text)
    give(path, user)
    try:
        yield
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def give(path: Path, user: str) -> None:
    """Change the owner to the user."""
    entry = pwd.getpwnam(user)
    os.chown(path, entry.pw_uid, entry.pw_gid)
