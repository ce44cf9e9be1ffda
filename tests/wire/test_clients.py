"""Real clients that offer other protocols: curl, Java's HttpClient, and HTTP/2 without an upgrade (RFC 9113, 3)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h2.connection
import h2.events
import httpx
import pytest

from .conftest import Gate

JAVA = shutil.which("java")


def curl(gate: Gate, *arguments: str) -> tuple[int, str]:
    """Exit status and output of curl with a token."""
    argv = ["curl", "-sS", "--max-time", "30", "-H", f"Authorization: Bearer {gate.token}", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def url(gate: Gate, operation: str, file: str) -> str:
    return f"http://127.0.0.1:{gate.port}{gate.op(operation, file)}"


@pytest.mark.parametrize("version", ["--http2", "--http1.1", "--http1.0"])
@pytest.mark.parametrize("size", [5, 3_000_000])
def test_curl(gate: Gate, tmp_path: Path, version: str, size: int) -> None:
    """--http2 offers an upgrade to h2c with each request, those with a body included."""
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "given").write_bytes(content)
    written = ("-w", "%{http_code}", "-o", "/dev/null")
    for way, status in (("-T", "201"), ("--data-binary", "204")):
        data = str(tmp_path / "given") if way == "-T" else f"@{tmp_path / 'given'}"
        assert curl(gate, version, way, data, "-X", "PUT", *written, url(gate, "upload", "f")) == (0, status)
        assert gate.content("f") == content
    form = ("-F", f"file=@{tmp_path / 'given'};filename=g")
    assert curl(gate, version, *form, *written, url(gate, "upload", ".")) == (0, "204")
    assert gate.content("g") == content
    assert curl(gate, version, "-o", str(tmp_path / "got"), url(gate, "download", "f")) == (0, "")
    assert (tmp_path / "got").read_bytes() == content


def test_curl_with_prior_knowledge_of_http_2(gate: Gate, tmp_path: Path) -> None:
    """The gateway speaks HTTP/1.1 on its port: the client fails, and nothing is written."""
    (tmp_path / "given").write_bytes(b"hello")
    failed, output = curl(
        gate, "--http2-prior-knowledge", "-T", str(tmp_path / "given"), "--max-time", "10", url(gate, "upload", "f")
    )
    assert failed
    assert "hello" not in output
    assert gate.content("f") is None


def test_http_2_client_with_prior_knowledge(gate: Gate) -> None:
    """What a client of RFC 9113, 3.3 sends is no request; the connection ends."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    fields = [(":method", "PUT"), (":scheme", "http"), (":authority", "gateway"), (":path", gate.op("upload", "f"))]
    client.send_headers(1, [*fields, ("authorization", f"Bearer {gate.token}")])
    client.send_data(1, gate.intruder(), end_stream=True)
    with gate.dial() as wire:
        wire.send(client.data_to_send())
        wire.end()
        data = wire.rest()
    assert data == b"" or data.startswith((b"HTTP/1.1 400", b"HTTP/1.1 505"))
    assert gate.content("f") is None


def test_httpx_with_http_2(gate: Gate) -> None:
    """Without TLS there is no ALPN: it speaks HTTP/1.1, and works."""
    headers = {"Authorization": f"Bearer {gate.token}"}
    with httpx.Client(http2=True, headers=headers, verify=False, trust_env=False) as client:
        assert client.put(url(gate, "upload", "f"), content=b"hello").status_code == 201
        found = client.get(url(gate, "download", "f"))
    assert (found.http_version, found.content) == ("HTTP/1.1", b"hello")


@pytest.mark.live
@pytest.mark.parametrize("version", ["HTTP_2", "HTTP_1_1"])
def test_java(gate: Gate, version: str) -> None:
    """Java's HttpClient offers h2c in its first request of each connection, which has a body here."""
    assert JAVA is not None, "java is missing: apt-get install openjdk-17-jdk-headless"
    ops = f"http://127.0.0.1:{gate.port}/filesystem/{gate.system}/ops/"
    argv = [JAVA, str(Path(__file__).with_name("Client.java")), ops, gate.token, str(gate.work / "f"), version]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"HTTP_1_1 {line}"
        for line in (
            "PUT 201 0",
            "GET 200 5",
            "PUT 204 0",
            "GET 200 1000000",
            "PUT 204 0",
            "GET 200 100000",
            "PUT 204 0",
            "HEAD 200 0",
            "DELETE 204 0",
        )
    ]
