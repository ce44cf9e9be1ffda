"""Key sources that are slow, too large, wrong or unreachable."""

from __future__ import annotations

import datetime as dt
import gzip
import ipaddress
import json
import logging
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from flamecrest.server.auth.key_sources import Unreadable, configured_sources
from tests.unit.auth.world import answering, http_answer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def read(http: httpx.AsyncClient, *, certs: tuple[str, ...] = (), issuer: str = "") -> bytes:
    (source,) = configured_sources(certs, issuer, http)
    return await source.read()


async def test_what_a_url_answers(http: httpx.AsyncClient):
    async with answering(http_answer("the keys")) as (url, received):
        assert await read(http, certs=(f"{url}/jwks?realm=a",)) == b"the keys"
        assert received[0].startswith(b"GET /jwks?realm=a HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (http_answer("", "301 Moved", "Location: http://127.0.0.1:1/other"), "status 301"),
        (http_answer("secret text", "404 Not Found"), "status 404"),
        (http_answer("", "204 No Content"), "status 204"),
        (http_answer("x" * (512 * 1024 + 1)), "too large"),
        (b"", "RemoteProtocolError"),
        (b"\0\xff\r\n\r\n", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", "RemoteProtocolError"),
    ],
)
async def test_answers_that_are_none(http: httpx.AsyncClient, answer: bytes, reason: str):
    async with answering(answer) as (url, received):
        with pytest.raises(Unreadable, match=reason) as caught:
            await read(http, certs=(f"{url}/jwks",))
        assert "secret text" not in str(caught.value)
        assert len(received) == 1


async def test_compressed_answers_are_not_unpacked(http: httpx.AsyncClient):
    bomb = gzip.compress(b"\0" * 10_000_000)
    async with answering(http_answer(bomb, "200 OK", "Content-Encoding: gzip")) as (url, received):
        assert await read(http, certs=(url,)) == bomb
        assert b"accept-encoding: identity" in received[0].lower()


async def test_nobody_listens(http: httpx.AsyncClient):
    async with answering(b"") as (url, _):
        pass
    with pytest.raises(Unreadable, match="ConnectError"):
        await read(http, certs=(url,))


@pytest.mark.parametrize("path", ["", "/realms/hpc", "/tenant/"])
async def test_discovery_names_the_place_of_the_keys(http: httpx.AsyncClient, path: str):
    def document(url: str) -> bytes:
        return http_answer(json.dumps({"issuer": url + path, "jwks_uri": f"{url}/the/keys"}))

    async with answering(document, http_answer("the keys")) as (url, received):
        assert await read(http, issuer=url + path) == b"the keys"
        paths = [request.split(b" ")[1].decode() for request in received]
        assert paths == [path.rstrip("/") + "/.well-known/openid-configuration", "/the/keys"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"issuer": "http://evil.example.org", "jwks_uri": "http://127.0.0.1:1/"}, "names the issuer 'http://evil"),
        ({"jwks_uri": "http://127.0.0.1:1/"}, "names the issuer a NoneType"),
        ([], "names the issuer nothing"),
        ({"issuer": None}, "jwks_uri is missing"),
        ({"issuer": None, "jwks_uri": 5}, "jwks_uri is missing"),
        ({"issuer": None, "jwks_uri": "file:///etc/passwd"}, "jwks_uri must be an http"),
        ({"issuer": None, "jwks_uri": "/jwks"}, "jwks_uri must be an http"),
        ({"issuer": None, "jwks_uri": "http://[::1"}, "jwks_uri must be"),
        ({"issuer": None, "jwks_uri": "http://127.0.0.1:99999/"}, "jwks_uri must be"),
        ({"issuer": None, "jwks_uri": "http://127.0.0.1:1/\n"}, "jwks_uri must be"),
        ({"issuer": None, "jwks_uri": "http://\ud800/"}, "jwks_uri must be"),
    ],
)
async def test_discovery_documents_that_lie(http: httpx.AsyncClient, document, reason: str):
    def made(url: str) -> bytes:
        own = isinstance(document, dict) and document.get("issuer", "") is None
        return http_answer(json.dumps({**document, "issuer": url} if own else document))

    async with answering(made) as (url, _):
        with pytest.raises(Unreadable, match=reason):
            await read(http, issuer=url)


async def test_an_issuer_behind_tls_cannot_name_keys_without_it(tmp_path):
    server, client = certified(tmp_path / "tls.pem")
    async with (
        httpx.AsyncClient(trust_env=False, verify=client) as http,
        answering(http_answer("the keys")) as (plain, _),
    ):

        def to(place: str):
            return lambda url: http_answer(json.dumps({"issuer": url, "jwks_uri": place or f"{url}/keys"}))

        async with answering(to(f"{plain}/keys"), tls=server) as (url, _):
            with pytest.raises(Unreadable, match="not an https URL"):
                await read(http, issuer=url)
        async with answering(to(""), http_answer("the keys"), tls=server) as (url, _):
            assert await read(http, issuer=url) == b"the keys"
        async with answering(to(""), tls=server) as (url, _), httpx.AsyncClient(trust_env=False) as stranger:
            with pytest.raises(Unreadable, match="ConnectError"):
                await read(stranger, issuer=url)


def certified(place: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A self-signed certificate for 127.0.0.1: TLS contexts of the server and of a client that trusts only it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - dt.timedelta(days=1), now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    place.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(place)
    return server, ssl.create_default_context(cadata=pem.decode())


async def test_passwords_in_a_url_are_not_named(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "flamecrest")
    (source,) = configured_sources(["http://name:secret@127.0.0.1:1/jwks?key=hidden"], "", http)
    with pytest.raises(Unreadable) as caught:
        await source.read()
    said = source.name + str(caught.value) + caplog.text
    assert "127.0.0.1:1/jwks" in said
    assert "secret" not in said
    assert "hidden" not in said


async def test_files(http: httpx.AsyncClient, tmp_path):
    place = tmp_path / "a b.json"
    with pytest.raises(Unreadable, match="No such file"):
        await read(http, certs=(place.as_uri(),))
    with pytest.raises(Unreadable, match="Is a directory"):
        await read(http, certs=(str(tmp_path),))
    place.write_bytes(b"{}")
    assert await read(http, certs=(place.as_uri(),)) == b"{}"
    assert await read(http, certs=(f"file://localhost{place.as_uri().removeprefix('file://')}",)) == b"{}"
    place.write_bytes(b"x" * 600_000)
    with pytest.raises(Unreadable, match="too large"):
        await read(http, certs=(str(place),))
