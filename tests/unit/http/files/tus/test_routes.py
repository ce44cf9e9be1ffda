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


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["", "/x", f"/{'A' * 40}"])
async def test_every_answer_names_the_version(place: Place, path: str) -> None:
    async with asked(place) as client:
        for system in ("toy", "none"):
            for method in ("GET", "PUT", "POST", "PATCH", "HEAD", "DELETE", "OPTIONS", "TRACE"):
                for headers in ({}, TUS, {**TUS, "Authorization": ""}):
                    answer = await client.request(method, f"/filesystem/{system}/uploads{path}", headers=headers)
                    assert answer.headers.get_list("tus-resumable") == ["1.0.0"], (method, answer.status_code)


@pytest.mark.anyio
async def test_methods(place: Place) -> None:
    async with asked(place) as client:
        url = "/filesystem/toy/uploads"
        refused = await client.get(url)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST, OPTIONS")
        for path in (url, f"{url}/x"):
            answer = await client.options(path)
            assert answer.status_code == 204
            assert answer.headers["tus-version"] == "1.0.0"
            assert "creation-with-upload" in answer.headers["tus-extension"]
        assert set((await client.get(f"{url}/x")).headers["allow"].split(", ")) >= {
            "HEAD",
            "PATCH",
            "DELETE",
            "OPTIONS",
        }
        plain = await client.post(f"{url}/x", headers=TUS)
        assert (plain.status_code, plain.headers["allow"]) == (405, "HEAD, PATCH, DELETE, OPTIONS")
        wrong = await client.head(f"{url}/x", headers={"Tus-Resumable": "0.2.2"})
        assert (wrong.status_code, wrong.headers["tus-version"]) == (412, "1.0.0")


@pytest.mark.anyio
async def test_bytes_behind_the_end_are_refused(place: Place) -> None:
    async with asked(place) as client:
        made = await client.post("/filesystem/toy/uploads", headers=named(place.path("f"), 2))
        location = made.headers["Location"]

        async def patch(offset: int, content: bytes) -> int:
            headers = {**PIECE, "Upload-Offset": str(offset)}
            return (await client.patch(location, headers=headers, content=content)).status_code

        assert await patch(0, b"okay") == 413
        assert await patch(0, b"ok") == 204
        assert await patch(2, b"") == 204  # a repetition of the last one whose answer was lost
        assert await patch(2, b"ay") == 413
        assert await patch(4, b"ay") == 409
        assert await patch(0, b"ok") == 409
    assert Path(place.path("f")).read_bytes() == b"ok"


@pytest.mark.anyio
async def test_a_complete_upload_that_was_removed_is_gone(place: Place) -> None:
    """Its file stays (https://tus.io/protocols/resumable-upload#termination: 204, then 404 or 410)."""
    async with asked(place) as client:
        made = await client.post("/filesystem/toy/uploads", headers=named(place.path("f"), 2))
        location = made.headers["Location"]
        await client.patch(location, headers={**PIECE, "Upload-Offset": "0"}, content=b"ok")
        assert (await client.head(location, headers=TUS)).status_code == 200
        assert (await client.delete(location, headers=TUS)).status_code == 204
        for method in ("HEAD", "DELETE", "PATCH"):
            answer = await client.request(method, location, headers={**PIECE, "Upload-Offset": "2"})
            assert answer.status_code == 410, method
        again = await client.post("/filesystem/toy/uploads", headers=named(place.path("f"), 3))
        piece = {**PIECE, "Upload-Offset": "0"}
        assert (await client.patch(again.headers["Location"], headers=piece, content=b"new")).status_code == 204
        assert (await client.head(location, headers=TUS)).status_code == 410
    assert Path(place.path("f")).read_bytes() == b"new"


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
