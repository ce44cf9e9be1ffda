"""Clients that do not keep to the protocol, strangers, interruptions and cancelled jobs: the old file stays."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .conftest import SECRET, Job, content, names

HEAD = (
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {}\r\n\r\n"
)
BINARY, CLOSE, PING, FINAL = 0x2, 0x8, 0x9, 0x80


OPEN: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


class Client:
    """A WebSocket client that can do what it should not."""

    def __init__(self, job: Job, head: str = HEAD.format(SECRET)) -> None:
        self.socket = socket.create_connection(("127.0.0.1", job.port), 30)
        OPEN.append(self.socket)
        self.socket.sendall(head.encode())
        self.answer = self.read_until(b"\r\n\r\n")

    def read_until(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end):
            piece = self.socket.recv(1)
            if not piece:
                break
            data += piece
        return data

    def send(self, payload: bytes, first: int = FINAL | BINARY, *, mask: bytes | None = b"\1\2\3\4", size=None) -> None:
        length = len(payload) if size is None else size
        bit = 0 if mask is None else 0x80
        head = bytes([first, bit | length]) if length < 126 else bytes([first, bit | 127]) + struct.pack("!Q", length)
        masked = payload if mask is None else bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.socket.sendall(head + (mask or b"") + masked)

    def begin(self, size: object) -> None:
        self.send(json.dumps({"type": "init", "num_chunks": 1, "file_size": size}).encode())

    def end(self, data: bytes) -> None:
        self.send(json.dumps({"type": "eof", "sha256_hash": hashlib.sha256(data).hexdigest()}).encode())

    def closed_with(self) -> int | None:
        """The code of the Close that the job sends; None if it just ends the connection."""
        while True:
            head = self.socket.recv(2, socket.MSG_WAITALL)
            if len(head) < 2:
                return None
            payload = self.socket.recv(head[1] & 0x7F, socket.MSG_WAITALL)
            if head[0] & 0x0F == CLOSE:
                return int(struct.unpack("!H", payload[:2])[0])

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(b"old")
    return tmp_path / "there" / "file"


def unchanged(target: Path) -> None:
    assert target.read_bytes() == b"old"
    until = time.monotonic() + 20
    while names(target.parent) != ["file"]:
        assert time.monotonic() < until, names(target.parent)
        time.sleep(0.02)


def upload(job: Job, data: bytes) -> None:
    client = next_client(job)
    client.begin(len(data))
    client.send(data)
    client.end(data)
    assert client.closed_with() == 1000
    client.close()


def next_client(job: Job) -> Client:
    """A client that is let in: the job may not have noticed yet that the one before has gone."""
    until = time.monotonic() + 30
    while True:
        client = Client(job)
        if b" 101 " in client.answer:
            return client
        assert time.monotonic() < until, client.answer
        client.close()


VIOLATIONS = {
    "not masked": (lambda client: client.send(b"{}", mask=None), 1002),
    "reserved bits": (lambda client: client.send(b"{}", 0xC0 | BINARY), 1002),
    "unknown opcode": (lambda client: client.send(b"{}", FINAL | 0x5), 1002),
    "large ping": (lambda client: client.send(b"x" * 126, FINAL | PING), 1002),
    "fragmented ping": (lambda client: client.send(b"x", PING), 1002),
    "continuation first": (lambda client: client.send(b"x", FINAL), 1002),
    "message in a message": (lambda client: (client.send(b"{", BINARY), client.send(b"}")), 1002),
    "not JSON": (lambda client: client.send(b"\xff"), 1002),
    "deep JSON": (lambda client: client.send(b"[" * 60_000), 1002),
    "a list": (lambda client: client.send(b"[]"), 1002),
    "large first message": (lambda client: client.send(b" " * 70_000), 1009),
    "endless first message": (lambda client: client.send(b" " * 70_000, size=2**62), 1009),
    "no size": (lambda client: client.send(b'{"type": "init"}'), 1002),
    "negative size": (lambda client: client.begin(-1), 1002),
    "a bool": (lambda client: client.begin(True), 1002),
    "a float": (lambda client: client.begin(1e9), 1002),
    "too long": (lambda client: (client.begin(2), client.send(b"abc")), 1002),
    "longer by a message": (lambda client: (client.begin(2), client.send(b"ab"), client.send(b"c")), 1002),
    "other end": (lambda client: (client.begin(2), client.send(b"ab"), client.send(b"{}")), 1002),
}


def test_violations(run, target: Path) -> None:
    """Each ends its connection alone: the job waits for the next client."""
    job = run("upload", target)
    for name, (act, code) in VIOLATIONS.items():
        client = next_client(job)
        with suppress(ConnectionResetError, BrokenPipeError):  # if the job has not read everything
            act(client)
            assert client.closed_with() == code, name
        client.close()
        unchanged(target)
    upload(job, b"new")
    job.worked()
    assert target.read_bytes() == b"new"


def test_fragments_and_pings(run, target: Path) -> None:
    job = run("upload", target)
    client = Client(job)
    client.begin(6)
    client.send(b"ab", BINARY)
    client.send(b"are you there", FINAL | PING)
    client.send(b"", 0)
    client.send(b"cd", FINAL)
    client.send(b"")
    client.send(b"ef", mask=b"\0\0\0\0")
    client.end(b"abcdef")
    assert client.socket.recv(2, socket.MSG_WAITALL) == bytes([0x8A, 13])
    assert client.socket.recv(13, socket.MSG_WAITALL) == b"are you there"
    assert client.closed_with() == 1000
    client.close()
    job.worked()
    assert target.read_bytes() == b"abcdef"


def test_a_wrong_hash(run, target: Path) -> None:
    job = run("upload", target)
    client = Client(job)
    client.begin(3)
    client.send(b"abc")
    client.end(b"abd")
    assert client.closed_with() == 1011
    client.close()
    job.failed("The SHA-256 of the received bytes is not the one that the client has sent.")
    unchanged(target)


def test_a_lost_client_may_come_again(run, target: Path) -> None:
    job = run("upload", target)
    client = Client(job)
    client.begin(1000)
    client.send(b"abc")
    second = Client(job)  # at the same time
    assert second.answer.startswith(b"HTTP/1.1 409 ")
    second.close()
    client.close()
    job.wait_for("The client was lost")
    unchanged(target)
    upload(job, b"new")
    job.worked()


def test_a_lost_client_that_does_not_come_again(run, target: Path) -> None:
    job = run("upload", target, retry_timeout=0.1)
    client = Client(job)
    client.begin(1000)
    client.close()
    job.failed("No client has come in time.")
    unchanged(target)


def test_nobody_comes(run, target: Path) -> None:
    run("upload", target, wait_timeout=0.1).failed("No client has come in time.")
    run("download", target, wait_timeout=0.1).failed("No client has come in time.")
    unchanged(target)


KNOWN = f"Authorization: Bearer {SECRET}\r\n\r\n"
HEADS = {
    "no secret": ("GET / HTTP/1.1\r\n\r\n", b"401"),
    "wrong secret": (HEAD.format("wrong"), b"403"),
    "empty secret": (HEAD.format(""), b"40"),
    "a prefix": (HEAD.format(SECRET[:-1]), b"403"),
    "not ASCII": (HEAD.format("\u00fc"), b"403"),
    "basic": ("GET / HTTP/1.1\r\nAuthorization: Basic eDp5\r\n\r\n", b"401"),
    "other path": (f"GET /x HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\n\r\n", b"404"),
    "no key": (f"GET / HTTP/1.1\r\nUpgrade: websocket\r\nAuthorization: Bearer {SECRET}\r\n\r\n", b"400"),
    "a strange part": ("PUT /parts/9 HTTP/1.1\r\nContent-Length: 40\r\n" + KNOWN, b"409"),
    "a strange length": ("PUT /parts/0 HTTP/1.1\r\nContent-Length: -1\r\n" + KNOWN, b"400"),
    "chunks": ("POST /transfer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + KNOWN, b"400"),
    "not HTTP": ("SSH-2.0-x\r\n\r\n", None),
    "a long head": ("GET / HTTP/1.1\r\nX: " + "x" * 100_000, None),
    "TLS": ("\x16\x03\x01\x00\x05hello\r\n\r\n", None),
}  # fmt: skip


def test_strangers(run, target: Path) -> None:
    job = run("upload", target)
    OPEN.extend(socket.create_connection(("127.0.0.1", job.port), 30) for _ in range(70))  # more than are kept
    for name, (head, status) in HEADS.items():
        if status is None:
            with suppress(ConnectionResetError, BrokenPipeError):
                assert not Client(job, head).answer.startswith(b"HTTP"), name
            continue
        answer = Client(job, head).answer
        assert answer.startswith(b"HTTP/1.1 " + status), (name, answer)
    unchanged(target)
    upload(job, b"new")
    job.worked()
    assert SECRET not in job.log.read_text() + job.output.read_text()


def test_tls_can_be_required(run, target: Path) -> None:
    job = run("upload", target, require_tls=True)
    client = Client(job)
    assert client.answer.startswith(b"HTTP/1.1 426 ")
    client.close()
    unchanged(target)


def test_the_secret_is_not_shown(run, target: Path) -> None:
    """Neither in argument lists nor in the job script. The certificate's key is not there, either."""
    job = run("upload", target)
    assert job.port
    processes = []
    for process in Path("/proc").glob("[0-9]*"):  # of this job only: other tests run programs with the same secret
        with contextlib.suppress(OSError, ProcessLookupError):
            if os.getsid(int(process.name)) == job.process.pid:
                processes.append((process / "cmdline").read_bytes().decode())
    assert any("python" in one for one in processes)
    shown = "".join(processes) + (job.folder / "script").read_text()
    assert (SECRET in shown, "PRIVATE KEY" in shown, str(target) in shown) == (False, False, False)


@pytest.mark.parametrize("moment", ["waiting", "receiving"])
def test_a_cancelled_job_leaves_nothing(run, target: Path, moment: str) -> None:
    job = run("upload", target)
    if moment == "receiving":
        client = Client(job)
        client.begin(1000)
        client.send(b"abc")
        until = time.monotonic() + 30
        while names(target.parent) == ["file"]:  # the job is perhaps just creating its file
            assert time.monotonic() < until
    assert job.port
    os.killpg(job.process.pid, signal.SIGTERM)  # as schedulers cancel a job
    assert job.ended() != 0
    unchanged(target)


@pytest.mark.parametrize("end", ["cancelled", "complete", "broken off"])
def test_a_folder_that_is_renamed_meanwhile(run, target: Path, end: str) -> None:
    """The temporary file in it is removed all the same."""
    job = run("upload", target, wait_timeout=60, retry_timeout=1)
    client = next_client(job)
    client.begin(3)
    client.send(b"ne")
    until = time.monotonic() + 30
    while names(target.parent) == ["file"]:
        assert time.monotonic() < until
    moved = target.parent.rename(target.parent.with_name("moved")) / "file"
    if end == "cancelled":
        os.killpg(job.process.pid, signal.SIGTERM)
        assert job.ended() != 0
    elif end == "complete":
        client.send(b"w")
        client.end(b"new")
        assert client.closed_with() == 1011
        client.close()
        job.failed("The target or its folder was renamed or removed meanwhile")
    else:
        client.close()
    unchanged(moved)
    assert not target.parent.exists()


def test_what_a_killed_job_has_left_is_removed(run, target: Path) -> None:
    left = target.with_name(".flamecrest-upload-0123456789abcdef")
    left.write_bytes(b"left")
    fresh = target.with_name(".flamecrest-upload-0123456789abcde0")
    fresh.write_bytes(b"of another job")
    old = time.time() - 2 * 24 * 3600
    os.utime(left, (old, old))
    job = run("upload", target)
    upload(job, b"new")
    job.worked()
    assert names(target.parent) == [fresh.name, "file"]


@pytest.mark.parametrize(
    ("verb", "path", "reason"),
    [
        ("upload", "none/file", "No such file or directory"),
        ("upload", "there", "Is a directory"),
        ("upload", "dangling", "leads nowhere"),
        ("upload", "fifo", "Not a regular file"),
        ("download", "none", "No such file or directory"),
        ("download", "there", "Not a regular file"),
        ("download", "fifo", "Not a regular file"),
    ],
)
def test_a_wrong_path(run, tmp_path: Path, target: Path, verb: str, path: str, reason: str) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    run(verb, tmp_path / path).failed(reason)


def test_names_of_any_kind(run, tmp_path: Path) -> None:
    for name in (b"it's \n$(x) \xff\xfe", "ü".encode()):
        path = os.fsencode(tmp_path) + b"/" + name
        job = run("upload", path)
        upload(job, b"new")
        job.worked()
        with open(path, "rb") as file:  # noqa: PTH123 -- bytes
            assert file.read() == b"new"


def test_no_port_is_free(run, target: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run("upload", target, ports=(port, port)).failed("is free on this node")


def test_a_full_limit_of_file_size(run, target: Path) -> None:
    """What the system refuses to write is reported in its words, as on a full disk."""
    job = run("upload", target, file_size="1")
    client = Client(job)
    client.begin(5000)
    client.send(content(5000))
    assert client.closed_with() == 1011
    client.close()
    job.failed("File too large")
    unchanged(target)


def test_coordinates_are_firecrests(run, target: Path) -> None:
    job = run("upload", target)
    shown = json.loads(base64.urlsafe_b64decode(job.coordinates().encoded()))
    assert {name: shown[name] for name in ("ports", "ips", "secret")} == {
        "ports": [job.port, job.port],
        "ips": ["127.0.0.1"],
        "secret": SECRET,
    }
