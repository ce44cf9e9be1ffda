"""Every route of the application without a token, with an expired one, and with one whose owner may do nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from starlette.routing import Route

import flamecrest.server.wiring.gateway  # noqa: F401 -- it reads programs, for which no event loop may wait
from flamecrest.sandbox.centre import Centre
from flamecrest.server.app import create_app
from flamecrest.server.files.resumable.state import UploadKey
from flamecrest.server.settings import load
from tests.openapi import openapi
from tests.v2.hostile_operations import Ground, operations

pytestmark = pytest.mark.anyio

VALUES = {
    "{system_name}": "cluster-slurm-ssh", "{ticket}": "none", "{part}": "1",
    "{name}": "redoc.standalone.js", "{path:path}": "",
}  # fmt: skip
# What anyone may ask for. A signed URL needs its ticket instead of a token.
OPEN = {
    *((method, f"/health/{name}") for method in ("GET", "HEAD") for name in ("live", "ready")),
    ("GET", "/status/liveness"), ("GET", "/status/liveness/"),
    ("GET", "/.well-known/oauth-protected-resource"), ("HEAD", "/.well-known/oauth-protected-resource"),
    ("GET", "/.well-known/oauth-protected-resource/{path:path}"),
    ("HEAD", "/.well-known/oauth-protected-resource/{path:path}"),
    ("GET", "/"), ("HEAD", "/"),
    ("GET", "/docs"), ("HEAD", "/docs"), ("GET", "/redoc"), ("HEAD", "/redoc"), ("GET", "/docs/{name}"),
    ("HEAD", "/docs/{name}"), ("GET", "/docs/oauth2-redirect"), ("HEAD", "/docs/oauth2-redirect"),
    ("GET", "/openapi.json"), ("HEAD", "/openapi.json"),
}  # fmt: skip
SIGNED: tuple[str, ...] = ("/filesystem/{system_name}/transfer/parts/", "/filesystem/{system_name}/transfer/uploads/")
SIGNED += ("/filesystem/{system_name}/transfer/content/",)
# About no cluster: the caller's systems, of which there are none, and the caller's own narrow tokens.
OWN = {("GET", "/status/systems"): 200, ("POST", "/tokens"): 201, ("GET", "/tokens"): 200}
OWN |= {("DELETE", "/tokens/{token_id}"): 404}
OWN |= {  # what the protocol of resumable uploads is here
    ("OPTIONS", "/filesystem/{system_name}/uploads"): 204,
    ("OPTIONS", "/filesystem/{system_name}/uploads/{upload}"): 204,
}


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Centre, list[Route]]]:
    """A client of a gateway whose rules allow everything to `firesrv` alone, its centre, and all routes."""
    async with Centre(folder / "centre") as centre:
        config = centre.write_config(folder / "flamecrest.yaml")
        settings = yaml.safe_load(config.read_text())
        settings["auth"] |= {
            "tokens": {"folder": str(folder / "tokens"), "signing_key": "k" * 32},
            "authorization": {"rules": [{"name": "service", "users": ["firesrv"]}]},
        }
        config.write_text(yaml.safe_dump(settings))
        app = create_app(load(config, {}))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client, centre, [route for route in app.router.routes if isinstance(route, Route)]


def every_request(
    routes: Sequence[Route], centre: Centre, client: httpx.AsyncClient
) -> dict[tuple[str, str], httpx.Request]:
    """A valid request for each method of each route, by method and path of the route."""
    home = str(centre.home("fireuser"))
    ground, upload = Ground(centre.system, home, "test", "1"), UploadKey.new(f"{home}/file", 2**31).text
    documented = {(one.method, one.path): one for one in operations(openapi())}
    found = {}
    for method, path in [(method, route.path) for route in routes for method in route.methods or ()]:
        if (operation := documented.get((method, path))) is None:
            url = path
            for name, value in {**VALUES, "{upload}": upload}.items():
                url = url.replace(name, value)
            assert "{" not in url, f"{url} needs a value"
            headers = {"Tus-Resumable": "1.0.0", "X-HTTP-Method-Override": "DELETE"}
            found[method, path] = client.build_request(method, url, headers=headers)
        else:
            request = ground.request(operation, operation.choices()[0])
            request.body |= {"name": "changed"} if method == "PATCH" and operation.media == "application/json" else {}
            request.path |= {"upload": upload} if "upload" in request.path else {}
            if method == "PATCH" and "uploads" in path:
                request.headers["Content-Type"] = "application/offset+octet-stream"
            found[method, path] = request.build(client)
    return found


async def test_no_route_serves_callers_who_may_do_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, centre, routes):
        requests = every_request(routes, centre, client)
        tokens = {
            "none": None,
            "expired": centre.issuer.mint("fireuser", expires=-60),
            "powerless": centre.token("fireuser"),
        }
        wrong = []
        for key, request in requests.items():
            for kind, token in tokens.items():
                headers = {**request.headers, **({} if token is None else {"Authorization": f"Bearer {token}"})}
                asked = client.build_request(request.method, request.url, content=request.content, headers=headers)
                response = await client.send(asked)
                if key in OPEN:
                    right = 200
                elif key[1].startswith(SIGNED):
                    right = 403
                else:
                    right = 401 if kind != "powerless" else OWN.get(key, 403)
                if response.status_code != right:
                    wrong.append((*key, kind, response.status_code, response.text[:200]))
        assert not wrong, "\n".join(map(str, wrong))
        assert (centre.ssh.counts.connections, centre.ssh.counts.logins) == (0, 0)
        systems = await client.get("/status/systems", headers={"Authorization": f"Bearer {tokens['powerless']}"})
        assert systems.json() == {"systems": []}
