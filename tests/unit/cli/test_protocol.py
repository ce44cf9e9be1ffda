"""Connections without a valid request: each gets an error in the envelope and is closed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flamecrest.cli.connection import MAX_HEAD

from .test_serve import PROGRAM

MINIMAL = (Path(__file__).parents[1] / "settings" / "minimal.yaml").read_text("utf-8")
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


@contextmanager
def served(folder: Path, head_timeout: float) -> Iterator[int]:
    """The port of a server with this timeout for request heads, in seconds."""
    config = folder / "flamecrest.yaml"
    config.write_text(f"{MINIMAL}\nserver: {{header_timeout: {head_timeout}}}\n", "utf-8")
    argv = [sys.executable, "-c", PROGRAM, str(config), "good"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.kill()


@pytest.fixture(scope="module")
def long_timeout_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(tmp_path_factory.mktemp("long_timeout_port"), 30) as port:
        yield port


@pytest.fixture(scope="module")
def short_timeout_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(tmp_path_factory.mktemp("short_timeout_port"), 0.3) as port:
        yield port


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=50)


def read_error(client: socket.socket) -> tuple[bytes, dict[str, object]]:
    """Read until the server closes; return the status line and envelope of the last response."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    head, _, body = data[data.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], json.loads(body)


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", GET + b"A\x00: b\r\n\r\n", GET + b": b\r\n\r\n"],
)
def test_invalid_http(long_timeout_port, sent):
    with connected(long_timeout_port) as client:
        client.sendall(sent)
        status, envelope = read_error(client)
    assert status == b"HTTP/1.1 400 Bad Request"
    assert (envelope["errorType"], envelope["message"]) == ("error", "Invalid HTTP request received.")


@pytest.mark.parametrize("sent", [b"", GET, GET + b"\r\n" + GET])
def test_head_timeout(short_timeout_port, sent):
    with connected(short_timeout_port) as client:
        client.sendall(sent)
        status, envelope = read_error(client)
    assert status == b"HTTP/1.1 408 Request Timeout"
    assert envelope["message"] == "The request did not come in time"


def test_head_timeout_of_the_second_request(short_timeout_port):
    first = b""
    while not first.startswith(b"HTTP/1.1 200"):  # on a busy machine even the first request may time out
        with connected(short_timeout_port) as client:
            client.sendall(GET + b"\r\n")
            first = client.recv(65536)
            if first.startswith(b"HTTP/1.1 200"):  # an incomplete second request on the kept connection
                client.sendall(b"G")
                assert read_error(client)[0] == b"HTTP/1.1 408 Request Timeout"
            else:
                assert first.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("line", [b"A: b\r\n", b"A" * 100])
def test_endless_head(long_timeout_port, line):
    with connected(long_timeout_port) as client:
        client.sendall(GET)
        try:
            for _ in range(40):
                client.sendall(line * (MAX_HEAD // 10 // len(line)))
            status, envelope = read_error(client)
        except (ConnectionResetError, BrokenPipeError):
            return  # the server closed before the response was read
    assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert envelope["message"] == "The request's headers are too large"
