"""No route gets a port without the authorizer's permission."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute

from flamecrest.server.app import routes
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unavailable, Unsupported
from flamecrest.server.files.resumable.state import UploadKey
from tests.unit.http.world import World

if TYPE_CHECKING:
    from pathlib import Path

from flamecrest.server.ports import Ports

pytestmark = pytest.mark.anyio

# These use no port: liveness and the list of systems are known to the gateway, OPTIONS answers with constants, and the
# gateway's own tokens are on no cluster.
OPEN = {
    ("GET", "/status/liveness"),
    ("GET", "/status/liveness/"),
    ("GET", "/status/systems"),
    ("GET", "/tokens"),
    ("POST", "/tokens"),
    ("DELETE", "/tokens/{token_id}"),
    ("OPTIONS", "/filesystem/{system_name}/uploads"),
    ("OPTIONS", "/filesystem/{system_name}/uploads/{upload}"),
}
PORTS = ("files", "scheduler", "transfers", "user", "uploads", "bulk")
# Requests of /compute that change jobs, and operations on files that change nothing.
ACTIONS = ("hold", "release", "requeue", "suspend", "resume", "signal")
SUBMITTING = {
    ("POST", ""), ("POST", "/validate"), ("DELETE", "/{job_id}"), ("PATCH", "/{job_id}"), ("PUT", "/{job_id}/attach"),
} | {("POST", f"/{{job_id}}/{action}") for action in ACTIONS}  # fmt: skip
READS_TOO = ("/output", "/ops/cp", "/ops/compress", "/ops/extract", "/ops/symlink")  # these need files:read as well
READING = {"stat", "download", "ls", "view", "head", "tail", "checksum", "file", "df", "du"}
ROUTES = {(method, route.path) for route in routes() if isinstance(route, APIRoute) for method in route.methods or ()}
SIGNED = {(method, path) for method, path in ROUTES if "{ticket}" in path}  # the authorizer was asked before


class Closed(World):
    """A world that denies every verb and records the ports that are handed out."""

    def __init__(self, root: str) -> None:
        self.touched: list[str] = []
        super().__init__(root)
        self.rules.forbidden = {("fireuser", verb) for verb in Verb}

    def ports(self) -> Ports:
        def recorded(name: str, make: Any) -> Any:
            def port(*args: Any) -> Any:
                self.touched.append(name)
                return make(*args)

            return port

        ports = super().ports()
        made = {name: recorded(name, getattr(ports, name)) for name in PORTS}
        return replace(ports, **made)


def request(method: str, path: str, root: str) -> dict[str, Any]:
    """A valid request of the route."""
    key = UploadKey.new(f"{root}/upload", int(time.time()) + 3600)
    path = (
        path.replace("{system_name}", "toy")
        .replace("{job_id}", "1")
        .replace("{upload}", key.text)
        .replace("{transfer_id}", "1")
    )
    tus = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": "1",
        "Upload-Metadata": "filename eA==",
        "Upload-Offset": "0",
        "X-HTTP-Method-Override": "PATCH",
    }
    if "/uploads" in path:
        headers = {**tus, "Content-Type": "application/offset+octet-stream"}
        return {"url": path, "headers": headers, "params": {"path": root} if path.endswith("/uploads") else {}}
    if path.endswith("/upload") and not path.endswith("transfer/upload"):
        return {"url": path, "params": {"path": root}, "files": {"file": ("x", b"")}}
    if method in {"GET", "HEAD", "DELETE"}:
        return {"url": path, "params": {"path": root} if path.startswith("/filesystem") else {}}
    if method == "PATCH":
        return {"url": path, "json": {"name": "n"}}
    if path.startswith("/compute/toy/bulk/"):
        job = {"workingDirectory": "/", "script": "#!/bin/sh"}
        return {"url": path, "json": {"jobs": [job]} if path.endswith("submit") else {"jobIds": ["1"]}}
    if path == "/tokens":
        return {"url": path, "json": {"verbs": ["status"]}}
    if path.endswith("/signal"):
        return {"url": path, "json": {"signal": "USR1"}}
    body = {
        "path": root, "targetPath": root, "linkPath": root, "mode": "700", "size": 5, "command": "true",
        "job": {"workingDirectory": "/", "script": "#!/bin/sh"}, "transferDirectives": {"transferMethod": "s3"},
        "paths": [root], "items": [{"path": root, "mode": "700"}], "targetSystem": "toy",
    }  # fmt: skip
    return {"url": path, "json": body}


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES - OPEN))
async def test_without_permission_no_port_is_handed_out(tmp_path: Path, method: str, path: str) -> None:
    world = Closed(str(tmp_path))
    async with world.client() as client:
        response = await client.request(method, **request(method, path, str(tmp_path)))
    assert (response.status_code, world.touched) == (403, [])


def verb_of(method: str, path: str) -> Verb:
    """The verb that a route must ask for."""
    if path.startswith("/status/"):
        return Verb.STATUS
    if path.startswith("/compute/"):
        rest = path.removeprefix("/compute/{system_name}/jobs")
        submits = rest.rpartition("/")[2] in {"submit", "cancel", "hold", "release"}
        return Verb.JOBS_SUBMIT if (method, rest) in SUBMITTING or submits else Verb.JOBS_READ
    _, _, _, room, *operation = path.split("/")
    if room == "transfer":
        return Verb.TRANSFER
    return Verb.FILES_READ if room in {"ops", "bulk"} and operation[0] in READING else Verb.FILES_WRITE


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES - OPEN - SIGNED))
async def test_each_route_asks_for_its_own_verb_only(tmp_path: Path, method: str, path: str) -> None:
    """With all verbs but this one it is refused, with this one alone it is not."""
    world = Closed(str(tmp_path))
    verb = verb_of(method, path)
    statuses = []
    needed = {verb, Verb.FILES_READ} if path.endswith(READS_TOO) else {verb}
    for forbidden in ({verb}, set(Verb) - needed):
        world.rules.forbidden = {("fireuser", one) for one in forbidden}
        world.queue.fault = Unavailable("down") if path.endswith("/jobs/events") else None  # else it never ends
        async with world.client() as client:
            response = await client.request(method, **request(method, path, str(tmp_path)))
        statuses.append(response.status_code)
    assert statuses[0] == 403
    assert statuses[1] not in {403, 500}


@pytest.mark.parametrize(("method", "path"), sorted(one for one in ROUTES if "{job_id}" in one[1]))
async def test_the_authorizer_is_asked_about_the_job(tmp_path: Path, method: str, path: str) -> None:
    world = Closed(str(tmp_path))
    async with world.client() as client:
        await client.request(method, **request(method, path, str(tmp_path)))
    assert [one.jobs for one in world.rules.asked] == [("1",)]


async def test_a_path_that_was_not_in_the_request_is_a_mistake_of_the_route(tmp_path: Path) -> None:
    world = Closed(str(tmp_path))
    world.rules.forbidden.clear()
    async with world.context() as gateway:
        allowed = await gateway.cluster("toy").allow(
            Identity("fireuser"), Verb.FILES_READ, Deadline.after(60), f"{tmp_path}/a"
        )
        allowed.files(path=f"{tmp_path}/a")
        with pytest.raises(RuntimeError, match="path was not in the request to the authorizer"):
            allowed.files(path=f"{tmp_path}/b")


async def test_items_of_a_batch_are_decided_one_by_one(tmp_path: Path) -> None:
    world = Closed(str(tmp_path))
    world.rules.forbidden.clear()
    world.rules.forbidden_paths = {f"{tmp_path}/b"}
    for name in "ab":
        (tmp_path / name).touch()
    items = [{"path": f"{tmp_path}/{name}"} for name in "ab"]
    async with world.client() as client:
        response = await client.post("/filesystem/toy/bulk/rm", json={"items": items})
    assert [one["status"] for one in response.json()["results"]] == [204, 403]
    assert (tmp_path / "b").exists()
    assert [(one.paths, one.tree) for one in world.rules.asked[1:]] == [((i["path"],), True) for i in items]


async def test_patterns_are_asked_about_with_the_folder_that_they_search(tmp_path: Path) -> None:
    world = Closed(str(tmp_path))
    async with world.client() as client:
        await client.post("/filesystem/toy/bulk/download", json={"paths": [f"{tmp_path}/d/x*y/z", f"{tmp_path}/e"]})
    assert world.rules.asked[0].paths == (f"{tmp_path}/d/x*y/z", f"{tmp_path}/e", f"{tmp_path}/d")


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
async def test_open_routes_use_no_port(tmp_path: Path, method: str, path: str) -> None:
    world = Closed(str(tmp_path))
    async with world.client() as client:
        response = await client.request(method, **request(method, path, str(tmp_path)))
    off = "/tokens" in path  # the world makes no tokens
    assert (response.status_code == 404 if off else response.is_success, world.touched) == (True, [])


async def test_with_permission_the_port_is_recorded(tmp_path: Path) -> None:
    world = Closed(str(tmp_path))
    world.rules.forbidden.clear()
    async with world.client() as client:
        response = await client.get("/filesystem/toy/ops/stat", params={"path": str(tmp_path)})
    assert (response.status_code, world.touched) == (200, ["files"])


@pytest.mark.parametrize(
    ("port", "verbs"),
    [
        ("files", {Verb.FILES_READ, Verb.FILES_WRITE}),
        ("bulk", {Verb.FILES_READ, Verb.FILES_WRITE}),
        ("uploads", {Verb.FILES_WRITE}),
        ("scheduler", {Verb.JOBS_READ, Verb.JOBS_SUBMIT, Verb.STATUS}),
        ("transfers", {Verb.TRANSFER}),
        ("user", {Verb.STATUS}),
    ],
)
@pytest.mark.parametrize("verb", Verb)
async def test_a_verb_hands_out_its_own_ports_only(tmp_path: Path, port: str, verbs: set[Verb], verb: Verb) -> None:
    world = Closed(str(tmp_path))
    world.rules.forbidden.clear()
    async with world.context() as gateway:
        deadline = Deadline.after(60)
        allowed = await gateway.cluster("toy").allow(Identity("fireuser"), verb, deadline)
        # the toy cluster takes no uploads; by then the port was handed out
        refused = pytest.raises(RuntimeError, match=f"^{verb} does not allow this port$")
        with suppress(Unsupported) if verb in verbs else refused:
            handed_out = getattr(allowed, port)(*([deadline] if port == "user" else []))
            if port == "user":
                await handed_out
    assert world.touched == ([port] if verb in verbs else [])
