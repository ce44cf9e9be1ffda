"""Routes of resumable uploads: root path, limits, permissions, and invalid headers."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Invalid
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.http.files.tus.headers import parse_metadata
from tests.contract.files.places import Place, on_sandbox
from tests.unit.http.world import World

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}


class Uploading(World):
    """A world whose resumable uploads go to the sandbox's SSH server."""

    def __init__(self, place: Place, limit: int | None) -> None:
        super().__init__(place.folder)
        cluster = self.gateway.clusters["toy"]
        cluster.limits = replace(self.limits, max_ops_file_size=limit)
        cluster._ports = replace(cluster._ports, uploads=lambda _: RemoteUploads(place.session))
        self.gateway = replace(self.gateway, clusters={"toy": cluster})


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with on_sandbox(tmp_path, subsystem=True) as found:
        yield found


@asynccontextmanager
async def asked(place: Place, limit: int | None = None, root_path: str = "") -> AsyncIterator[httpx.AsyncClient]:
    world = Uploading(place, limit)
    async with world.client(app=world.app(root_path=root_path)) as client:
        yield client


def named(path: str, length: int) -> dict[str, str]:
    return {**TUS, "Upload-Length": str(length), "Upload-Metadata": f"path {base64.b64encode(path.encode()).decode()}"}


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["", "/api", "/a/b c"])
async def test_location_includes_the_root_path(place: Place, prefix: str) -> None:
    async with asked(place, root_path=prefix) as client:
        made = await client.post("/filesystem/toy/uploads", headers=named(place.path("f"), 2))
        assert made.status_code == 201
        location = made.headers["Location"]
        assert location.startswith(prefix.replace(" ", "%20") + "/filesystem/Toy/uploads/")
        answer = await client.patch(location, headers={**PIECE, "Upload-Offset": "0"}, content=b"ok")
        assert answer.status_code == 204
    assert Path(place.path("f")).read_bytes() == b"ok"


@pytest.mark.anyio
async def test_size_limit_is_inclusive(place: Place) -> None:
    async with asked(place, limit=5) as client:
        url = "/filesystem/toy/uploads"
        assert (await client.options(url)).headers["Tus-Max-Size"] == "5"
        assert (await client.post(url, headers=named(place.path("f"), 6))).status_code == 413
        assert (await client.post(url, headers=named(place.path("f"), 5))).status_code == 201
        unknown = named(place.path("g"), 0) | {"Upload-Defer-Length": "1"}
        del unknown["Upload-Length"]
        location = (await client.post(url, headers=unknown)).headers["Location"]
        assert (
            await client.patch(location, headers={**PIECE, "Upload-Offset": "0"}, content=b"abcd")
        ).status_code == 204
        more = {**PIECE, "Upload-Offset": "4"}
        assert (await client.patch(location, headers=more, content=b"ef")).status_code == 413
        assert (await client.patch(location, headers={**more, "Upload-Length": "6"}, content=b"e")).status_code == 413
        done = await client.patch(location, headers={**more, "Upload-Length": "5"}, content=b"e")
        assert done.status_code == 204
    assert Path(place.path("g")).read_bytes() == b"abcde"


@pytest.mark.anyio
async def test_forbidden_write_gives_403(place: Place) -> None:
    world = Uploading(place, None)
    async with world.client() as client:
        made = await client.post("/filesystem/toy/uploads", headers=named(place.path("f"), 2))
        world.rules.forbidden.add(("fireuser", Verb.FILES_WRITE))
        location = made.headers["Location"]
        assert (await client.post("/filesystem/toy/uploads", headers=named(place.path("f"), 2))).status_code == 403
        meant = {**TUS, "X-HTTP-Method-Override": "HEAD"}
        assert (await client.post(location, headers=meant)).status_code == 403
        assert (await client.delete(location, headers=TUS)).status_code == 403
        patch = await client.patch(location, headers={**PIECE, "Upload-Offset": "0"}, content=b"ok")
        assert patch.status_code == 403
        assert patch.headers["Tus-Resumable"] == "1.0.0"


@pytest.mark.anyio
async def test_cluster_without_resumable_uploads_gives_501(world: World, client: httpx.AsyncClient) -> None:
    answer = await client.post("/filesystem/toy/uploads", headers=named(f"{world.root}/f", 2))
    assert answer.status_code == 501


@given(st.text(max_size=60))
def test_any_metadata_is_parsed_or_refused(text: str) -> None:
    try:
        found = parse_metadata(text)
    except Invalid:
        return
    assert all(key and " " not in key and "," not in key for key in found)


def test_metadata_of_any_bytes() -> None:
    assert parse_metadata(f"path {base64.b64encode(bytes(range(1, 256))).decode()},flag") == {
        "path": bytes(range(1, 256)).decode("utf-8", "surrogateescape"),
        "flag": "",
    }
    with pytest.raises(Invalid):
        parse_metadata("a " + "A" * 20000)
