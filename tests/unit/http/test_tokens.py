"""Narrow tokens over HTTP: made by a caller, used for less than the caller may do, listed and revoked."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.auth.narrow.authorizer import RestrictingAuthorizer
from flamecrest.server.auth.narrow.store import TokenFolder
from flamecrest.server.auth.narrow.tokens import NarrowTokens, WithNarrowTokens
from flamecrest.server.auth.port import Verb
from flamecrest.server.auth.possession import Possession

from .core.test_audit import Audited
from .world import World

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.anyio

POSSESSION = Possession(max_age=60.0, clock=time.time)


class Narrow(World):
    """A world whose gateway makes tokens, with the folder `mine` that has the file `a`, and the file `other` beside."""

    def __init__(self, folder: Path) -> None:
        self.root = str(folder / "root")
        (folder / "root/mine").mkdir(parents=True)
        (folder / "root/mine/a").write_text("hello")
        (folder / "root/other").write_text("secret")
        super().__init__(self.root)
        tokens = NarrowTokens(TokenFolder(folder / "tokens"), b"k" * 32, longest=3600, most=5)
        cluster = self.gateway.clusters["toy"]
        cluster._authorizer = RestrictingAuthorizer(self.rules)
        self.gateway = replace(
            self.gateway,
            authenticator=WithNarrowTokens(self.gateway.authenticator, tokens, POSSESSION),
            authorizer=RestrictingAuthorizer(self.rules),
            tokens=tokens,
        )


async def made(client: httpx.AsyncClient, **limits: Any) -> tuple[str, dict[str, str]]:
    response = await client.post("/tokens", json=limits)
    assert response.status_code == 201, response.text
    body = response.json()
    return body["id"], {"Authorization": f"Bearer {body['token']}"}


async def test_a_gateway_without_tokens_says_so(tmp_path: Path) -> None:
    async with World(str(tmp_path)).client() as client:
        for method, url in (("GET", "/tokens"), ("POST", "/tokens"), ("DELETE", "/tokens/abc")):
            answer = await client.request(method, url, json={"verbs": ["status"]} if method == "POST" else None)
            assert answer.status_code == 404
            assert "The centre has not enabled tokens of the gateway" in answer.json()["message"]


async def test_token_for_a_folder(tmp_path: Path) -> None:
    world = Narrow(tmp_path)
    mine, other = f"{world.root}/mine/a", f"{world.root}/other"
    async with world.client() as client:
        _, narrow = await made(client, verbs=["files:read"], paths=[f"{world.root}/mine/"], clusters=["TOY"])

        async def status(path: str, method: str = "GET", operation: str = "stat") -> int:
            url = f"/filesystem/toy/ops/{operation}"
            return (await client.request(method, url, params={"path": path}, headers=narrow)).status_code

        assert await status(mine) == 200
        for path in (other, world.root, f"{world.root}/mine/../other", f"{world.root}/mine2"):
            assert await status(path) == 403
        assert await status(mine, "DELETE", "rm") == 403
        assert (tmp_path / "root/mine/a").exists()
        assert (await client.get("/compute/toy/jobs", headers=narrow)).status_code == 403
        response = await client.get("/filesystem/toy/ops/stat", params={"path": other})
        assert response.status_code == 200  # the owner's own token


async def test_a_path_in_no_file_system_is_refused(tmp_path: Path) -> None:
    world = Narrow(tmp_path)
    async with world.client() as client:
        for path in ("/nowhere", f"{world.root}2", "/", f"{world.root}/a/b\ud800"):
            body = json.dumps({"verbs": ["files:read"], "paths": [path]})
            answer = await client.post("/tokens", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, path
        body = json.dumps({"verbs": ["files:read"], "paths": ["/nowhere"], "clusters": ["toy"]})
        answer = await client.post("/tokens", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, "outside the file systems" in answer.json()["message"]) == (400, True)


async def test_token_for_a_folder_follows_no_links_in_it(tmp_path: Path) -> None:
    """A link inside of a folder may lead out of it, and the holder of the token may have made it by an archive."""
    world = Narrow(tmp_path)
    mine = f"{world.root}/mine"
    (tmp_path / "root/mine/sub").mkdir()
    (tmp_path / "root/mine/sub/link").symlink_to("../../other")
    source, target = f"{mine}/sub", f"{mine}/new"
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("ops/cp", {"path": source, "targetPath": target}),
        ("ops/compress", {"path": source, "targetPath": target}),
        ("transfer/cp", {"path": source, "targetPath": target}),
        ("transfer/compress", {"path": source, "targetPath": target}),
    ]
    async with world.client() as client:
        _, narrow = await made(client, verbs=["files:read", "files:write", "transfer"], paths=[mine])

        async def denied(method: str, url: str, **options: Any) -> bool:
            response = await client.request(method, f"/filesystem/toy/{url}", headers=narrow, **options)
            return response.status_code == 403

        for url, body in bodies:
            assert await denied("POST", url, json={**body, "dereference": True})
            assert not await denied("POST", url, json=body)
        assert await denied("GET", "ops/ls", params={"path": mine, "recursive": True, "dereference": True})
        assert not await denied("GET", "ops/ls", params={"path": mine, "recursive": True})
        assert await denied("POST", "bulk/download", json={"paths": [f"{mine}/*/link"]})
        assert not await denied("POST", "bulk/download", json={"paths": [f"{mine}/s*"]})


async def test_rules_for_the_owner_hold_too(tmp_path: Path) -> None:
    world = Narrow(tmp_path)
    async with world.client() as client:
        _, narrow = await made(client, verbs=["files:read", "status"])
        world.rules.forbidden = {("fireuser", Verb.FILES_READ)}
        response = await client.get("/filesystem/toy/ops/stat", params={"path": f"{world.root}/other"}, headers=narrow)
        assert response.status_code == 403


async def test_list_and_revoke(tmp_path: Path) -> None:
    world = Narrow(tmp_path)
    async with world.client() as client:
        name, narrow = await made(client, verbs=["status"], description="nightly", uses=5, jobIds=["7"])
        assert (await client.get("/status/systems", headers=narrow)).status_code == 200
        listed = (await client.get("/tokens")).json()["tokens"]
        assert [one["id"] for one in listed] == [name]
        assert (listed[0]["used"], listed[0]["uses"], listed[0]["jobIds"]) == (1, 5, ["7"])
        assert "token" not in listed[0]
        for method, url in (("GET", "/tokens"), ("DELETE", f"/tokens/{name}")):
            assert (await client.request(method, url, headers=narrow)).status_code == 403
        assert (await client.post("/tokens", json={"verbs": ["status"]}, headers=narrow)).status_code == 403
        assert (await client.delete(f"/tokens/{name}")).status_code == 204
        refused = await client.get("/status/systems", headers=narrow)
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert (await client.delete("/tokens/unknown-token-name")).status_code == 404


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({}, 400),
        ({"verbs": []}, 400),
        ({"verbs": ["admin"]}, 400),
        ({"verbs": ["status"], "clusters": ["unknown"]}, 404),
        ({"verbs": ["status"], "path": ["/home/ann"]}, 400),
        ({"verbs": ["status"], "use": 1}, 400),
        ({"verbs": ["files:read"], "paths": ["home"]}, 400),
        ({"verbs": ["files:read"], "paths": ["/home/../etc"]}, 400),
        ({"verbs": ["files:read"], "paths": ["/a\0b"]}, 400),
        ({"verbs": ["jobs:submit"], "paths": ["/home"]}, 400),
        ({"verbs": ["jobs:submit"], "paths": ["/home"], "jobIds": ["7"]}, 400),
        ({"verbs": ["status"], "lifetime": 0}, 400),
        ({"verbs": ["status"], "uses": 0}, 400),
    ],
)
async def test_limits_that_are_refused(tmp_path: Path, limits: dict[str, Any], status: int) -> None:
    async with Narrow(tmp_path).client() as client:
        assert (await client.post("/tokens", json=limits)).status_code == status


async def test_off_by_default(tmp_path: Path) -> None:
    async with World(str(tmp_path)).client() as client:
        for method, url in (("GET", "/tokens"), ("POST", "/tokens"), ("DELETE", "/tokens/x")):
            response = await client.request(method, url, json={"verbs": ["status"]} if method == "POST" else None)
            assert response.status_code == 404
        refused = await client.get("/status/systems", headers={"Authorization": "Bearer fct_a.b.c"})
        assert refused.status_code == 401


async def test_audit_names_both_tokens(tmp_path: Path) -> None:
    world = Audited(tmp_path)
    tokens = NarrowTokens(TokenFolder(tmp_path / "tokens"), b"k" * 32, longest=3600, most=5)
    world.gateway = replace(
        world.gateway, authenticator=WithNarrowTokens(world.gateway.authenticator, tokens, POSSESSION), tokens=tokens
    )
    async with world.client() as client:
        name, narrow = await made(client, verbs=["files:write"])
        await client.post("/filesystem/toy/ops/mkdir", json={"path": f"{tmp_path}/new"}, headers=narrow)
        await client.get("/tokens", headers=narrow)
        await client.delete(f"/tokens/{name}")
    lines = world.lines()
    assert [(one["event"], one["route"]) for one in lines] == [
        ("call", "/tokens"),
        ("call", "/filesystem/{system_name}/ops/mkdir"),
        ("denial", "/tokens"),
        ("call", "/tokens/{token_id}"),
    ]
    assert [one["token_id"] for one in lines] == ["token-7", f"token-7/{name}", f"token-7/{name}", "token-7"]
    assert (lines[0]["reason"], lines[3]["reason"]) == (f"made the token {name}", f"revoked the token {name}")
    assert narrow["Authorization"].removeprefix("Bearer ") not in world.file.read_text()


async def test_bulk_operations_have_a_result_for_each_path(tmp_path: Path) -> None:
    world = Narrow(tmp_path)
    mine, other = f"{world.root}/mine/a", f"{world.root}/other"
    async with world.client() as client:
        _, narrow = await made(client, verbs=["files:read"], paths=[f"{world.root}/mine"])

        async def results(operation: str) -> list[int] | int:
            items = [{"path": path, "mode": "600"} for path in (mine, other, f"{world.root}/mine/none")]
            response = await client.post(f"/filesystem/toy/bulk/{operation}", json={"items": items}, headers=narrow)
            found = response.json().get("results")
            return response.status_code if found is None else [one["status"] for one in found]

        assert await results("stat") == [200, 403, 404]
        assert await results("chmod") == [403, 403, 403]
