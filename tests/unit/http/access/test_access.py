"""The protected-resource metadata, the header WWW-Authenticate, and what a request shows as proof of a key."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest
from starlette.requests import Request

from flamecrest.server.auth.port import Confirmation, Identity, RequestProof
from flamecrest.server.auth.resource import ProtectedResource
from flamecrest.server.errors import InsufficientScope, Unauthenticated
from flamecrest.server.http.access.challenge import challenge
from flamecrest.server.http.access.proof import proof_of, read_certificate
from tests.unit.http.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flamecrest.server.deadline import Deadline

pytestmark = pytest.mark.anyio

DER = bytes(range(256)) * 3
BASE64 = base64.b64encode(DER).decode()
PEM = "-----BEGIN CERTIFICATE-----\n" + BASE64 + "\n-----END CERTIFICATE-----\n"
WELL_KNOWN = "/.well-known/oauth-protected-resource"


class Proving:
    """An authenticator that accepts every token and keeps the proof of the request, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen: list[RequestProof] = []

    async def authenticate(
        self,
        authorization: str | None,  # noqa: ARG002 -- as the port says
        deadline: Deadline,  # noqa: ARG002
        proof: Callable[[], RequestProof] | None = None,
    ) -> Identity:
        if self.error is not None:
            raise self.error
        assert proof is not None
        self.seen.append(proof())
        return Identity("fireuser", confirmation=Confirmation(key="x"))


def world(tmp_path: Path, resource: ProtectedResource | None = None, public_url: str | None = None) -> World:
    made = World(str(tmp_path))
    made.gateway = replace(made.gateway, resource=resource or ProtectedResource(), public_url=public_url)
    return made


async def test_metadata(tmp_path: Path) -> None:
    known = ProtectedResource(("https://id.example.org", "https://partner.example"), ("firecrest",))
    async with world(tmp_path, known).client() as client:
        response = await client.get(WELL_KNOWN, headers={"Authorization": ""})
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        shown = response.json()
        assert shown["resource"] == "http://gateway"
        assert shown["authorization_servers"] == ["https://id.example.org", "https://partner.example"]
        assert shown["scopes_supported"] == ["firecrest"]
        assert shown["bearer_methods_supported"] == ["header"]
        assert "ES256" in shown["dpop_signing_alg_values_supported"]
        assert shown["tls_client_certificate_bound_access_tokens"] is False
        assert (await client.get(f"{WELL_KNOWN}/v3")).status_code == 404


@pytest.mark.parametrize("place", [f"{WELL_KNOWN}/api/v2", WELL_KNOWN, f"/api/v2{WELL_KNOWN}"])
async def test_metadata_of_an_api_below_a_path(tmp_path: Path, place: str) -> None:
    made = world(tmp_path, public_url="https://hpc.example.org/api/v2/")
    async with made.client(app=made.app(root_path="/api/v2")) as client:
        response = await client.get(place)
        assert response.json()["resource"] == "https://hpc.example.org/api/v2"
        assert "authorization_servers" not in response.json()
        refused = await client.get("/status/systems", headers={"Authorization": "Bearer no"})
        assert refused.headers["www-authenticate"] == (
            'Bearer resource_metadata="https://hpc.example.org/.well-known/oauth-protected-resource/api/v2"'
        )


async def test_the_network_of_a_request(tmp_path: Path) -> None:
    made = world(tmp_path)
    seen = Proving()
    made.gateway = replace(made.gateway, authenticator=seen)
    app = made.app()
    async with app.router.lifespan_context(app):
        for client in (("192.0.2.7", 1), ("2001:db8:1:2:3::4", 1)):
            transport = httpx.ASGITransport(app, client=client)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
                await http.get("/status/systems", headers={"X-Forwarded-For": "198.51.100.1"})
    assert [proof.network for proof in seen.seen] == ["192.0.2.7", "2001:db8:1:2::/64"]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Unauthenticated("no"), 401, ""),
        (Unauthenticated("no", code="invalid_token"), 401, ', error="invalid_token"'),
        (
            InsufficientScope("no", scopes=("firecrest", "jobs")),
            403,
            ', error="insufficient_scope", scope="firecrest jobs"',
        ),
    ],
)
async def test_challenge(tmp_path: Path, error: Exception, status: int, words: str) -> None:
    made = world(tmp_path)
    made.gateway = replace(made.gateway, authenticator=Proving(error))
    async with made.client() as client:
        response = await client.get("/status/systems")
        assert response.status_code == status
        expected = f'Bearer resource_metadata="http://gateway{WELL_KNOWN}"{words}'
        assert response.headers["www-authenticate"] == expected


async def test_challenge_for_a_proof(tmp_path: Path) -> None:
    made = world(tmp_path)
    request = Request({"type": "http", "headers": [(b"host", b"a")], "method": "GET", "path": "/", "app": made})
    value = challenge(request, Unauthenticated("no", code="invalid_dpop_proof"))
    assert value.startswith(f'DPoP resource_metadata="http://a{WELL_KNOWN}", error="invalid_dpop_proof", algs="ES256 ')


@pytest.mark.parametrize(
    ("public_url", "prefix", "path", "urls"),
    [
        (None, "", "/status/systems?a=b", ("http://gateway/status/systems",)),
        (None, "/v2", "/v2/status/systems", ("http://gateway/v2/status/systems",)),
        (None, "/v2", "/status/systems", ("http://gateway/v2/status/systems", "http://gateway/status/systems")),
        ("https://a.example/v2", "/v2", "/status/systems", ("https://a.example/v2/status/systems",)),
        ("https://a.example/v2", "/v2", "/v2/status/systems", ("https://a.example/v2/status/systems",)),
    ],
)
async def test_address_of_a_request(
    tmp_path: Path, public_url: str | None, prefix: str, path: str, urls: tuple[str, ...]
) -> None:
    made = world(tmp_path, public_url=public_url)
    proving = Proving()
    made.gateway = replace(made.gateway, authenticator=proving)
    async with made.client(app=made.app(root_path=prefix)) as client:
        await client.get(path, headers=[("DPoP", "one"), ("dpop", "two")])
    assert proving.seen == [RequestProof("GET", urls, ("one", "two"), None, "127.0.0.1")]


@pytest.mark.parametrize(("proxies", "known"), [(["127.0.0.1"], True), (["192.0.2.1"], False), ([], False)])
async def test_certificate_counts_from_a_trusted_proxy_only(tmp_path: Path, proxies: list[str], known: bool) -> None:
    made = world(tmp_path, ProtectedResource(client_certificate_header="client-cert"))
    proving = Proving()
    made.gateway = replace(made.gateway, authenticator=proving)
    headers = {"Client-Cert": f":{BASE64}:", "X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "https"}
    async with made.client(app=made.app(trusted_proxies=proxies)) as client:
        await client.get("/status/systems", headers=headers)
        await client.get("/status/systems", headers={"Client-Cert": f":{BASE64}:"})
    assert [one.certificate for one in proving.seen] == [DER if known else None, None]
    assert proving.seen[0].urls == (f"http{'s' if known else ''}://gateway/status/systems",)


async def test_certificate_header_that_is_not_configured_does_not_count(tmp_path: Path) -> None:
    scope = {"type": "http", "headers": [(b"client-cert", BASE64.encode())], "method": "GET", "path": "/"}
    made = world(tmp_path)
    request = Request({**scope, "app": made, "flamecrest.from_proxy": True})
    assert proof_of(request).certificate is None


@pytest.mark.parametrize("value", [f":{BASE64}:", BASE64, quote(PEM), quote(PEM, safe=""), PEM.replace("\n", " ")])
def test_forms_of_a_certificate(value: str) -> None:
    assert read_certificate([value]) == DER


@pytest.mark.parametrize(
    "values", [[], ["", ""], [BASE64, BASE64], [""], ["(null)"], ["::"], ["%"], [f"{BASE64},{BASE64}"], ["A" * 20_000]]
)
def test_no_certificate(values: list[str]) -> None:
    assert read_certificate(values) is None
