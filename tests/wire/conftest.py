"""A gateway in a process of its own for each HTTP server, and what must hold after every test."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import Centre
from tests.live.process import PROGRAMS, Server, gateway

from .connections import connected
from .raw import PATIENCE, Answer, Wire

USER = "fireuser"
SERVERS = ("granian", "uvicorn")
HEADER_TIMEOUT = 2.0  # seconds
STALL_TIMEOUT = 2.0
TIMEOUTS = {"header_timeout": HEADER_TIMEOUT, "stall_timeout": STALL_TIMEOUT}
LIVENESS = b"/status/liveness"
RESUMABLE = re.compile(r"\.flamecrest-upload-[0-9a-f]{32}(\.json|\.lock)?")
Case = TypeVar("Case")


@dataclass(frozen=True)
class Gate:
    """A running gateway, and a folder of its user on the cluster."""

    port: int
    pid: int
    token: str
    system: str
    work: Path
    log: Path

    def dial(self, *, receive_buffer: int | None = None) -> Wire:
        return Wire(self.port, receive_buffer=receive_buffer)

    def head(self, method: str, target: str | bytes, *lines: bytes, bare: bool = False) -> bytes:
        """The head of a request, with Host and a token unless it is to be bare."""
        target = target if isinstance(target, bytes) else target.encode()
        ours = () if bare else (b"Host: gateway", b"Authorization: Bearer " + self.token.encode())
        return b"\r\n".join((method.encode() + b" " + target + b" HTTP/1.1", *ours, *lines, b"", b""))

    def request(self, method: str, target: str | bytes, *lines: bytes, body: bytes = b"") -> bytes:
        """A whole request; a body has its Content-Length."""
        length = (b"Content-Length: %d" % len(body),) if body else ()
        return self.head(method, target, *lines, *length) + body

    def op(self, name: str, file: str, **more: str) -> str:
        """The target of an operation on a file in the work folder."""
        query = "".join(f"&{key}={quote(value)}" for key, value in more.items())
        return f"/filesystem/{self.system}/ops/{name}?path={quote(str(self.work / file))}{query}"

    def intruder(self, name: str = "smuggled") -> bytes:
        """A request that must never be executed: it makes a file."""
        return self.request("PUT", self.op("upload", name), body=b"x")

    def content(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        path = self.work / name
        return path.read_bytes() if path.exists() else None

    def finish(self, wire: Wire) -> list[Answer]:
        """Ask for the end of a connection: what it answers until it is closed."""
        wire.send(self.head("GET", LIVENESS, b"Connection: close"))
        return wire.answers()

    def serves(self) -> bool:
        """Whether another client is served."""
        with self.dial() as wire:
            wire.send(self.head("GET", LIVENESS, b"Connection: close"))
            answer = wire.answer()
        return answer is not None and answer.status == 200

    def connections(self) -> int:
        """The connections that the gateway has accepted and not closed."""
        return sum(local == self.port for local, _ in connected())

    def holds(self, wire: Wire) -> bool:
        """Whether the gateway has a connection open whose client is this one."""
        return (self.port, wire.socket.getsockname()[1]) in connected()

    def descriptors(self) -> int:
        """The open file descriptors of the gateway's processes."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in _family(self.pid))  # noqa: PTH208

    def memory(self) -> int:
        """The resident memory of the gateway's processes in bytes."""
        return sum(_resident(pid) for pid in _family(self.pid))


@pytest.fixture(scope="module", autouse=True)
def never_blocked() -> None:
    """Watch no event loop of this process: gateways run in others, and the sandbox's SSH server may block its own."""


@pytest.fixture(scope="session")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        yield stack.enter_context(portal.wrap_async_context_manager(Centre(tmp_path_factory.mktemp("wire") / "centre")))


def written(centre: Centre, folder: Path, server: str, **settings: object) -> Path:
    """A configuration for one of the HTTP servers, with short timeouts."""
    config = centre.write_config(folder / f"{server}.yaml")
    given = yaml.safe_load(config.read_text())
    given["server"] = given.get("server", {}) | {"http": server} | TIMEOUTS | settings
    config.write_text(yaml.safe_dump(given))
    return config


class Gateways:
    """The running gateways, by HTTP server; each is started when it is needed first."""

    def __init__(self, centre: Centre, folder: Path, stack: ExitStack) -> None:
        self._centre = centre
        self._folder = folder
        self._stack = stack
        self._running: dict[str, Server] = {}
        self._token = centre.token(USER)

    def gate(self, server: str, work: Path, programs: Path = PROGRAMS) -> Gate:
        """A gateway with a folder of its user. `programs` has the command to run it with."""
        name = f"{server}-{programs.name}"
        if name not in self._running:
            config, log = written(self._centre, self._folder, server), self._folder / f"{name}.log"
            self._running[name] = self._stack.enter_context(gateway(config, log, programs))
            first = self.gate(server, work, programs)
            with first.dial() as wire:  # the SSH connection is there when tests begin
                wire.send(first.head("GET", first.op("ls", "."), b"Connection: close"))
                assert [answer.status for answer in wire.answers()] == [200]
        found = self._running[name]
        return Gate(int(found.url.rpartition(":")[2]), found.pid, self._token, self._centre.system, work, found.log)


@pytest.fixture(scope="session")
def gateways(centre: Centre, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    with ExitStack() as stack:
        yield Gateways(centre, tmp_path_factory.mktemp("gateways"), stack)


@pytest.fixture(params=SERVERS)
def gate(request: pytest.FixtureRequest, gateways: Gateways, centre: Centre) -> Iterator[Gate]:
    """A gateway with an empty folder. After the test it serves, and nothing is left of broken requests."""
    work = centre.home(USER) / f"wire-{secrets.token_hex(4)}"
    work.mkdir()
    found = gateways.gate(request.param, work)
    logged = found.log.stat().st_size
    yield found
    assert found.serves()
    assert soon(lambda: found.connections() == 0), "the gateway keeps connections of clients that have gone"
    assert soon(lambda: not left_over(work)), list(work.rglob("*"))
    assert list(work.rglob("smuggled")) == [], "a body was executed as a request"
    with found.log.open("rb") as log:
        log.seek(logged)
        assert not re.findall(rb"(?m)^.*(?:Traceback|unexpected error|panicked).*$", log.read())


def check_all(gate: Gate, cases: Mapping[str, Case], check: Callable[[Gate, Case], None]) -> None:
    """Check each case in a folder of its own, and report all that failed.

    A test of many cases is faster than many tests: what must hold after a test is looked at once.
    """
    failed: dict[str, Exception] = {}
    for number, (name, case) in enumerate(cases.items()):
        folder = gate.work / str(number)
        folder.mkdir()
        try:
            check(replace(gate, work=folder), case)
        except (AssertionError, OSError) as error:
            failed[name] = error
    assert not failed, "\n".join(f"{name}: {error!r}" for name, error in failed.items())


def left_over(work: Path, *, resumable: bool = False) -> list[Path]:
    """The gateway's temporary files. Those of resumable uploads that were broken wait to be continued."""
    found = work.rglob(".flamecrest*")
    return [path for path in found if resumable or RESUMABLE.fullmatch(path.name) is None]


def soon(holds: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Whether a condition becomes true."""
    until, pause = time.monotonic() + patience, 0.002
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.3)  # seconds; to look at all connections costs the processor that the gateway needs
    return True


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if entry.isdecimal():
            try:
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    family = [pid]
    for one in family:
        family += [child for child, parent in parents.items() if parent == one]
    return family


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
