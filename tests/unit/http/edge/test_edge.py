"""The edge: ids, headers, access log, path prefix, documentation pages."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flamecrest.server.health.board import ProbeResult, Service
from flamecrest.server.http.core.openapi import code_scheme, openid_scheme
from flamecrest.server.telemetry.trace import current_trace
from tests.unit.http.world import logged

if TYPE_CHECKING:
    import httpx

    from tests.unit.http.world import World

pytestmark = pytest.mark.anyio

HOSTILE = [b"", b"a" * 129, b"a b", b"\xff\xfe", b'x"y', b"{}", b"%0a", b"x;y", b"a\tb"]


async def test_ids_are_taken_over(client: httpx.AsyncClient) -> None:
    sent = {"X-Request-ID": "req-1:a/b.c=@+", "X-Correlation-ID": "corr_2"}
    response = await client.get("/nope", headers=sent)
    assert {name: response.headers[name] for name in sent} == sent


async def test_ids_are_made(client: httpx.AsyncClient) -> None:
    first, second = [(await client.get("/nope")).headers for _ in range(2)]
    assert re.fullmatch("[0-9a-f]{32}", first["x-request-id"])
    assert first["x-request-id"] != second["x-request-id"]
    assert first["x-correlation-id"] == first["x-request-id"]


@pytest.mark.parametrize("value", HOSTILE)
async def test_invalid_ids_are_replaced(client: httpx.AsyncClient, value: bytes) -> None:
    names = (b"x-request-id", b"x-correlation-id")
    response = await client.get("/nope", headers=[(name, value) for name in names])
    for name in names:
        assert re.fullmatch("[0-9a-f]{32}", response.headers[name.decode()])


@pytest.mark.parametrize("host", ["", "a b", "gate/way", "user@gateway"])
async def test_an_invalid_host_is_refused_after_a_valid_one(client: httpx.AsyncClient, host: str) -> None:
    for _ in range(2):
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/live", headers={"Host": host})).status_code == 400


async def test_one_log_line_per_request(client: httpx.AsyncClient, world: World) -> None:
    secret = f"{world.root}/hunter2"
    with logged() as lines:
        response = await client.get(
            "/filesystem/TOY/ops/stat", params={"path": secret, "token": "hunter2"}, headers={"X-Correlation-ID": "c1"}
        )
    (line,) = lines
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "flamecrest.access", "request")
    assert line["request_id"] == response.headers["x-request-id"]
    assert line["correlation_id"] == "c1"
    assert (line["user"], line["cluster"], line["method"], line["status"]) == ("fireuser", "Toy", "GET", 404)
    assert line["route"] == "/filesystem/{system_name}/ops/stat"
    assert line["bytes"] == len(response.content)
    assert 0 <= line["ms"] < 10_000
    assert datetime.fromisoformat(line["ts"]).tzinfo is not None
    assert line["error"] == "NotFound"
    line.pop("detail")  # what the adapter says to the log alone may name the path
    assert "hunter2" not in json.dumps(line)
    assert "token-of-fireuser" not in json.dumps(lines)


async def test_the_path_is_logged_at_debug_level_only(client: httpx.AsyncClient) -> None:
    with logged(logging.DEBUG) as lines:
        await client.get("/no/such?query=hunter2")
    (line,) = [line for line in lines if line["logger"] == "flamecrest.access"]
    assert line["path"] == "/no/such"
    assert line["route"] == ""
    assert "hunter2" not in json.dumps(line)


async def test_request_cannot_inject_a_log_line(client: httpx.AsyncClient) -> None:
    with logged(logging.DEBUG) as lines:
        await client.get('/x%0a{"level":"ERROR"}%0d%1b[31m%00')
    assert len([line for line in lines if line["logger"] == "flamecrest.access"]) == 1


async def test_disabled_log_formats_nothing(client: httpx.AsyncClient) -> None:
    with logged(logging.ERROR) as lines:
        await client.get("/nope")
    assert lines == []


async def test_liveness_is_open_with_and_without_a_slash(client: httpx.AsyncClient, world: World) -> None:
    for path in ("/status/liveness/", "/status/liveness"):
        request = client.build_request("GET", path)
        del request.headers["authorization"]
        response = await client.send(request)
        assert response.json() == {"healthcheckRuns": {}, "lastUpdate": 0}
    world.board.record(ProbeResult(Service.SSH, healthy=True, checked=datetime(2026, 1, 2, tzinfo=UTC), latency=0.1))
    body = (await client.get("/status/liveness/")).json()
    assert list(body["healthcheckRuns"]) == ["Toy"]
    assert body["lastUpdate"] > 0


async def test_trailing_slash_is_served_without_redirect(client: httpx.AsyncClient) -> None:
    assert (await client.get("/status/systems/")).status_code == 200


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("prefix", ["", "/firecrest/v2"])
async def test_the_front_page(world: World, prefix: str) -> None:
    """Programs are told what this is and where its documents are, browsers are sent to the documentation."""
    async with world.client(app=world.app(root_path=prefix, guide="https://docs.example.org/hpc")) as client:
        del client.headers["authorization"]
        for path in {"/", prefix or "/", f"{prefix}/"}:
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["vary"]) == (200, "Accept"), path
            shown = answer.json()
            assert shown["name"] == "Flamecrest"
            assert shown["guide"] == "https://docs.example.org/hpc"
            for name in ("documentation", "openapi", "authorization"):
                assert (await client.get(shown[name])).status_code == 200, name
            assert (await client.head(path)).status_code == 200
            assert (await client.post(path)).status_code == 405
            page = await client.get(path, headers={"accept": BROWSER})
            assert (page.status_code, page.headers["location"]) == (307, f"{prefix}/docs")
            for accept in ("application/json", "*/*", "image/png", "text/html;q=0", "\t;;,q=,", "text/html;q=9"):
                answer = await client.get(path, headers={"accept": accept})
                assert answer.headers["content-type"] == "application/json", accept
        document = (await client.get("/openapi.json")).json()
        assert document["externalDocs"]["url"] == "https://docs.example.org/hpc"
        assert "/" not in document["paths"]


async def test_the_front_page_redirects_to_no_other_host(client: httpx.AsyncClient) -> None:
    for path in ("//", "///", "//evil.example", "//evil.example/", "/\\evil.example"):
        url = str(client.base_url).rstrip("/") + path  # as it is: `//host` alone would be another host to the client
        answer = await client.get(url, headers={"accept": BROWSER, "x-forwarded-host": "evil.example"})
        assert (answer.status_code, "location" in answer.headers) == (404, False), path


async def test_a_prefix(world: World) -> None:
    app = world.app(root_path="/firecrest/v2")
    async with world.client(app=app) as client:
        for prefix in ("/firecrest/v2", ""):
            for path in ("/status/systems", "/status/liveness/", "/status/liveness"):
                assert (await client.get(prefix + path)).status_code == 200
        assert (await client.get("/other/status/systems")).status_code == 404
        assert (await client.get("/firecrest/v2/nope")).json()["message"] == "Not Found"
        document = (await client.get("/firecrest/v2/openapi.json")).json()
        assert document["servers"] == [{"url": "/firecrest/v2"}]
        assert "/firecrest/v2/openapi.json" in (await client.get("/firecrest/v2/docs")).text


async def test_documentation_names_the_configured_servers(world: World) -> None:
    servers = [{"url": "https://api.example.org", "description": "Production"}]
    async with world.client(app=world.app(root_path="/v2", servers=servers)) as client:
        assert (await client.get("/openapi.json")).json()["servers"] == servers


async def test_the_documentation_is_open(client: httpx.AsyncClient) -> None:
    for path, words in (("/docs", "swagger"), ("/redoc", "redoc"), ("/openapi.json", "HTTPBearer")):
        request = client.build_request("GET", path)
        del request.headers["authorization"]
        response = await client.send(request)
        assert response.status_code == 200
        assert words in response.text


async def test_the_documentation_logs_in_at_the_issuer(world: World) -> None:
    """Swagger UI discovers the issuer, logs in with PKCE and without a secret, and may ask no other host."""
    app = world.app(
        root_path="/v2",
        oauth2=openid_scheme("https://id.example.org/realms/hpc"),
        docs_client="flamecrest-docs",
        docs_scopes=["openid"],
    )
    async with world.client(app=app) as client:
        page = await client.get("/docs")
        assert '"clientId": "flamecrest-docs"' in page.text
        assert '"usePkceWithAuthorizationCodeGrant": true' in page.text
        assert "/v2/docs/oauth2-redirect" in page.text
        assert page.text.count("definitionsToAuthorize") == 1  # of the issuer's flows, the form of one is shown
        assert "connect-src 'self' https://id.example.org;" in page.headers["content-security-policy"]
        back = await client.get("/docs/oauth2-redirect")
        assert "swaggerUIRedirectOauth2" in back.text
        schemes = (await client.get("/openapi.json")).json()["components"]["securitySchemes"]
        assert schemes["OAuth2"] == {
            "type": "openIdConnect",
            "openIdConnectUrl": "https://id.example.org/realms/hpc/.well-known/openid-configuration",
        }


async def test_the_documentation_logs_in_where_discovery_cannot_be_used(world: World) -> None:
    scheme = code_scheme("https://id.example.org/auth", "https://token.example.org/token", {"openid": "Identity"})
    app = world.app(oauth2=scheme, docs_client="flamecrest-docs", docs_scopes=["openid"])
    async with world.client(app=app) as client:
        policy = (await client.get("/docs")).headers["content-security-policy"]
        assert "connect-src 'self' https://token.example.org;" in policy
        schemes = (await client.get("/openapi.json")).json()["components"]["securitySchemes"]
        assert schemes["OAuth2"]["flows"] == {
            "authorizationCode": {
                "authorizationUrl": "https://id.example.org/auth",
                "tokenUrl": "https://token.example.org/token",
                "scopes": {"openid": "Identity"},
            }
        }


async def test_responses_are_no_pages(client: httpx.AsyncClient, world: World) -> None:
    """A browser that is made to show a user's file guesses no type, runs no script, and sends nothing."""
    file = Path(world.root, "x.html")
    file.write_text("<script>fetch('/status/systems')</script>")
    path = {"path": str(file)}
    for response in (
        await client.get("/filesystem/toy/ops/download", params=path),
        await client.get("/filesystem/toy/ops/view", params=path),
        await client.get("/status/systems"),
        await client.get("/nothing"),
        await client.get("/openapi.json"),
    ):
        assert response.headers.get_list("x-content-type-options") == ["nosniff"]
        assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"


async def test_pages_have_a_policy_of_their_own(client: httpx.AsyncClient) -> None:
    for page in ("/docs", "/redoc"):
        (policy,) = (await client.get(page)).headers.get_list("content-security-policy")
        assert {"default-src 'self'", "frame-ancestors 'none'", "object-src 'none'"} <= set(policy.split("; "))


async def test_pages_load_nothing_from_other_hosts(world: World) -> None:
    async with world.client(app=world.app(root_path="/v2")) as client:
        for page in ("/v2/docs", "/docs", "/redoc"):
            text = (await client.get(page)).text
            assert not re.search(r"""(?:src|href)\s*=\s*["'](?:https?:)?//""", text), text
            for asset in re.findall(r"""(?:src|href)\s*=\s*["'](/[^"']+)""", text):
                answer = await client.get(asset)
                assert answer.status_code == 200, asset
                assert len(answer.content) > 10_000
        for name in ("nothing.js", "..%2f..%2fconsts.py", "%2fetc%2fpasswd", "favicon.png"):
            assert (await client.get(f"/docs/{name}")).status_code == 404


async def test_gateway_is_opened_and_closed_with_the_application(world: World) -> None:
    first, second = world.app(), world.app()
    async with world.client(app=first), world.client(app=second) as client:
        assert (await client.get("/status/systems")).status_code == 200
        assert (world.entered, world.left) == (2, 0)
    assert (world.entered, world.left) == (2, 2)


async def test_the_trace_of_a_request_ends_with_it(client: httpx.AsyncClient) -> None:
    await client.get("/status/systems")
    assert current_trace.get() is None


async def test_a_websocket_is_refused(world: World) -> None:
    sent = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    scope = {
        "type": "websocket",
        "path": "/status/systems",
        "headers": [],
        "query_string": b"",
        "asgi": {"version": "3"},
    }
    await world.app()(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]  # type: ignore[index]
