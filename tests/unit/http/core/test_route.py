"""The order in which a request is processed: authentication, system, parameters, permission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flamecrest.server.app import routes
from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Unavailable
from flamecrest.server.http.core.route import GatewayRoute
from tests.openapi import openapi
from tests.unit.http.core.test_permission import READS_TOO
from tests.unit.http.world import fields

if TYPE_CHECKING:
    from tests.unit.http.world import World

pytestmark = pytest.mark.anyio

EVERY = [
    ("GET", "/status/systems"),
    ("GET", "/status/toy/nodes"),
    ("GET", "/filesystem/toy/ops/stat?path=/x"),
    ("GET", "/filesystem/toy/ops/stat"),
    ("GET", "/filesystem/nosuch/ops/stat"),
    ("POST", "/filesystem/toy/ops/mkdir"),
    ("POST", "/filesystem/toy/ops/upload?path=/x"),
    ("POST", "/filesystem/toy/transfer/cp"),
    ("POST", "/compute/toy/jobs"),
    ("DELETE", "/compute/toy/jobs/-"),
]


@pytest.mark.parametrize(("method", "path"), EVERY)
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Basic token-of-fireuser", "Bearer \u00ff"])
async def test_authentication_comes_first(
    client: httpx.AsyncClient, method: str, path: str, header: str | None
) -> None:
    sent = [(b"authorization", (header or "").encode("latin-1"))]
    request = client.build_request(method, path, content=b"{" * 5000, headers=sent)
    if header is None:
        del request.headers["authorization"]
    response = await client.send(request)
    assert response.status_code == 401
    body = response.json()
    assert body["message"] == ("Not authenticated" if header is None else "Access token is invalid.")
    assert (body["data"], body["user"]) == (None, None)
    assert "f7t-authusername" not in response.headers


async def test_two_authorization_headers_are_401(client: httpx.AsyncClient) -> None:
    good = client.headers["authorization"].encode()
    request = client.build_request("GET", "/status/systems")
    request.headers = httpx.Headers([*request.headers.raw, (b"authorization", good)])
    assert (await client.send(request)).status_code == 401


async def test_unknown_system_is_404_before_anything_is_validated(client: httpx.AsyncClient) -> None:
    for request, shown in (
        (client.get("/filesystem/nosuch/ops/stat"), ": nosuch"),
        (client.post("/compute/nosuch/jobs", content=b"{"), ": nosuch"),
        (client.get("/status/no%00such/nodes"), ""),
    ):
        response = await request
        assert (response.status_code, response.json()["message"]) == (404, f"System not found{shown}")
        assert response.headers["f7t-authusername"] == "fireuser"


async def test_parameters_are_validated_before_the_permission(client: httpx.AsyncClient, world: World) -> None:
    world.rules.forbidden = {("fireuser", verb) for verb in Verb}
    assert fields(await client.get("/filesystem/toy/ops/stat")) == [("query", "path")]
    assert fields(await client.post("/compute/toy/jobs", json={})) == [("body", "job")]
    refused = await client.get("/filesystem/toy/ops/stat", params={"path": f"{world.root}/x"})
    assert refused.status_code == 403
    assert refused.json()["user"] == "fireuser"


VERBS = {
    Verb.STATUS: [("GET", "/status/toy/nodes"), ("GET", "/status/toy/partitions"), ("GET", "/status/toy/userinfo"),
                  ("GET", "/status/toy/reservations"), ("GET", "/status/toy/capabilities")],
    Verb.JOBS_READ: [("GET", "/compute/toy/jobs"), ("GET", "/compute/toy/jobs/1"),
                     ("GET", "/compute/toy/jobs/events"), ("GET", "/compute/toy/jobs/1/metadata"),
                     ("GET", "/compute/toy/jobs/1/output"),
                     ("POST", "/compute/toy/bulk/status")],
    Verb.JOBS_SUBMIT: [("POST", "/compute/toy/jobs"), ("DELETE", "/compute/toy/jobs/1"),
                       ("PUT", "/compute/toy/jobs/1/attach"), ("PATCH", "/compute/toy/jobs/1"),
                       ("POST", "/compute/toy/jobs/validate")]
                      + [("POST", f"/compute/toy/jobs/1/{action}")
                         for action in ("hold", "release", "requeue", "suspend", "resume", "signal")]
                      + [("POST", f"/compute/toy/bulk/{what}") for what in ("submit", "cancel", "hold", "release")],
    Verb.FILES_READ: [("GET", f"/filesystem/toy/ops/{what}")
                      for what in ("ls", "stat", "file", "head", "tail", "view", "checksum", "download", "df", "du")]
                     + [("HEAD", "/filesystem/toy/ops/download")]
                     + [("POST", "/filesystem/toy/bulk/download"), ("POST", "/filesystem/toy/bulk/stat")],
    Verb.FILES_WRITE: [("PUT", "/filesystem/toy/ops/upload"),
                       ("PUT", "/filesystem/toy/ops/chmod"), ("PUT", "/filesystem/toy/ops/chown"),
                       ("DELETE", "/filesystem/toy/ops/rm")]
                      + [("POST", f"/filesystem/toy/ops/{what}")
                         for what in ("mkdir", "symlink", "upload", "compress", "extract",
                                      "mv", "cp", "touch", "truncate")]
                      + [("POST", f"/filesystem/toy/bulk/{what}") for what in ("upload", "rm", "chmod", "mkdir")],
    Verb.TRANSFER: [("DELETE", "/filesystem/toy/transfer/rm"), ("GET", "/filesystem/toy/transfer"),
                    ("GET", "/filesystem/toy/transfer/1"), ("DELETE", "/filesystem/toy/transfer/1"),
                    ("POST", "/filesystem/toy/transfer/1/retry")]
                   + [("POST", f"/filesystem/toy/transfer/{what}")
                      for what in ("mv", "cp", "compress", "extract", "upload", "download", "sync", "copy")],
}  # fmt: skip


# Their verb is tested where their protocol's headers are: files/tus/test_routes.py.
UPLOADS = {("OPTIONS", "/filesystem/toy/uploads"), ("POST", "/filesystem/toy/uploads")} | {
    (method, "/filesystem/toy/uploads/{upload}") for method in ("HEAD", "PATCH", "DELETE")
}


# On no cluster, so that they have no verb: test_tokens.py.
TOKENS = {("GET", "/tokens"), ("POST", "/tokens"), ("DELETE", "/tokens/{token_id}")}


def test_every_operation_has_its_verb() -> None:
    paths = openapi()["paths"]
    named = {(method, path) for several in VERBS.values() for method, path in several}
    have = {
        (method.upper(), path.replace("{system_name}", "toy").replace("{job_id}", "1").replace("{transfer_id}", "1"))
        for path, operations in paths.items()
        for method in operations
    }
    assert named | UPLOADS | TOKENS | {("GET", "/status/systems"), ("GET", "/status/liveness/")} == have


@pytest.mark.parametrize("verb", Verb)
async def test_denied_verb_denies_exactly_its_operations(client: httpx.AsyncClient, world: World, verb: Verb) -> None:
    """One verb is forbidden: exactly its operations are."""
    world.rules.forbidden = {("fireuser", verb)}
    world.queue.fault = Unavailable("down")  # of lists: a stream of events would not end
    body = {
        "path": world.root, "targetPath": world.root, "linkPath": world.root, "mode": "700", "size": 5,
        "command": "true",
        "job": {"workingDirectory": "/", "script": "#!/bin/sh"}, "transferDirectives": {"transferMethod": "s3"},
        "paths": [world.root], "items": [{"path": f"{world.root}/none", "mode": "700"}], "targetSystem": "toy",
    }  # fmt: skip
    for one, operations in VERBS.items():
        for method, path in operations:
            sent: dict[str, Any] = (
                {"params": {"path": world.root}} if method in {"GET", "HEAD", "DELETE"} else {"json": body}
            )
            if method == "PATCH" or path.endswith("signal"):
                sent = {"json": {"name": "n"} if method == "PATCH" else {"signal": "USR1"}}
            if path.startswith("/compute/toy/bulk/"):
                sent = {"json": {"jobs": [body["job"]]} if path.endswith("submit") else {"jobIds": ["1"]}}
            if path.endswith("ops/upload"):
                sent = {"params": {"path": world.root}, "files": {"file": ("x", b"")}}
            if path.endswith("bulk/upload"):
                sent = {"params": {"path": world.root}, "content": bytes(1024)}
            if one is not verb and path.endswith("ops/rm"):
                continue  # the rest still needs the folder
            response = await client.request(method, path, **sent)
            refused = one is verb or (verb is Verb.FILES_READ and path.endswith(READS_TOO[1:]))
            assert (response.status_code == 403) == refused, (method, path, response.text)


async def test_system_names_ignore_case(client: httpx.AsyncClient, world: World) -> None:
    for name in ("toy", "Toy", "TOY"):
        response = await client.get(f"/filesystem/{name}/ops/ls", params={"path": world.root})
        assert response.status_code == 200
    assert (await client.get("/STATUS/systems")).status_code == 404


async def test_another_caller(client: httpx.AsyncClient) -> None:
    response = await client.get("/status/toy/userinfo", headers={"Authorization": "bearer token-of-bob"})
    assert response.json()["user"]["name"] == response.headers["f7t-authusername"] == "bob"


def test_file_routes_have_the_deadline_of_file_operations_and_others_that_of_jobs() -> None:
    for route in routes():
        if isinstance(route, GatewayRoute):
            assert route.timeout == ("files" if route.path.startswith("/filesystem/") else "jobs"), route.path
