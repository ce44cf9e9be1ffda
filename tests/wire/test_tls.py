"""HTTPS: clients that offer HTTP/2 by ALPN get HTTP/1.1 (RFC 9113, 3.2; RFC 7301), and broken ones end with theirs."""

from __future__ import annotations

import os
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from flamecrest.sandbox.centre import Centre
from tests.certificates import write_certificate
from tests.live.process import gateway

from .conftest import SERVERS, USER, Gate, soon, written
from .raw import Wire

pytestmark = pytest.mark.live


@dataclass(frozen=True)
class Secure:
    """A gateway that serves HTTPS."""

    url: str
    gate: Gate
    certificate: Path

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


@pytest.fixture(params=SERVERS)
def secure(request: pytest.FixtureRequest, centre: Centre, tmp_path: Path) -> Iterator[Secure]:
    certificate, key = write_certificate(tmp_path)
    config = written(centre, tmp_path, request.param, tls_certificate=str(certificate), tls_key=str(key))
    work = centre.home(USER) / f"tls-{request.param}"
    work.mkdir(exist_ok=True)
    with gateway(config, tmp_path / "gateway.log") as server:
        port = int(server.url.rpartition(":")[2])
        yield Secure(
            server.url, Gate(port, server.pid, centre.token(USER), centre.system, work, server.log), certificate
        )


def test_clients_over_tls(secure: Secure) -> None:
    gate = secure.gate
    headers = {"Authorization": f"Bearer {gate.token}"}
    with httpx.Client(http2=True, verify=secure.context(), headers=headers, trust_env=False) as client:
        assert client.put(secure.url + gate.op("upload", "f"), content=b"hello" * 100_000).status_code in {201, 204}
        found = client.get(secure.url + gate.op("download", "f"))
    assert (found.http_version, found.content) == ("HTTP/1.1", b"hello" * 100_000)
    for version in ("--http2", "--http1.1"):
        argv = ["curl", "-sS", version, "--cacert", str(secure.certificate), "-w", "%{http_version} %{http_code}"]
        target = [secure.url + gate.op("upload", "g"), "-X", "PUT", "--data-binary", "hello"]
        bearer = ["-H", f"Authorization: Bearer {gate.token}", "-o", "/dev/null"]
        done = subprocess.run([*argv, *bearer, *target], capture_output=True, text=True, check=False)
        assert done.stdout in {"1.1 201", "1.1 204"}, done.stderr
        assert gate.content("g") == b"hello"


def test_old_versions_are_refused(secure: Secure) -> None:
    context = secure.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with secure.gate.dial() as wire, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(wire.socket, server_hostname="127.0.0.1")


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16" + os.urandom(500)], ids=["nothing", "HTTP", "random"]
)
def test_broken_handshakes_end(secure: Secure, sent: bytes) -> None:
    """Those that stop, too, within a minute (the limit of Python's TLS); others are served meanwhile."""
    gate = secure.gate
    wires: list[Wire] = [gate.dial() for _ in range(20)]
    try:
        for wire in wires:
            wire.send(sent)
        assert httpx.get(f"{secure.url}/status/liveness", verify=secure.context(), trust_env=False).status_code == 200
        assert soon(lambda: gate.connections() == 0, patience=90.0)
    finally:
        for wire in wires:
            wire.socket.close()


def test_a_client_that_goes_in_a_body_writes_nothing(secure: Secure) -> None:
    """Without close_notify the end of a connection is no end of a body (RFC 9112, 9.8)."""
    gate = secure.gate
    for framing in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
        with gate.dial() as wire:
            stream = secure.context().wrap_socket(wire.socket, server_hostname="127.0.0.1")
            stream.sendall(gate.head("PUT", gate.op("upload", "short"), framing) + b"5\r\nhello")
            stream.close()
        assert soon(lambda: gate.connections() == 0)
        assert gate.content("short") is None
        assert soon(lambda: not list(gate.work.glob(".flamecrest*")))
