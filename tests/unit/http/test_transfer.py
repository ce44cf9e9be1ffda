"""Transfer routes: the arguments that the port receives, and the responses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.files.values import CompressOptions
from flamecrest.server.transfer.port import S3Directives, StreamerDirectives, TransferRequest, WormholeDirectives

from .world import World, fields

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.anyio

URL = "/filesystem/toy/transfer"
PLAIN: dict[str, Any] = {"account": None, "key": None}


@pytest.mark.parametrize(
    ("verb", "sent", "options"),
    [
        ("mv", {}, PLAIN),
        ("mv", {"account": "a"}, PLAIN | {"account": "a"}),
        ("mv", {"account": ""}, PLAIN),
        ("cp", {"dereference": "true"}, PLAIN | {"dereference": True}),
        ("compress", {}, PLAIN | {"options": CompressOptions("gzip")}),
        ("compress", {"match_pattern": "*.x$(id)", "compression": "xz", "dereference": 1},
         PLAIN | {"options": CompressOptions("xz", "*.x$(id)", dereference=True)}),
        ("compress", {"matchPattern": ""}, PLAIN | {"options": CompressOptions("gzip")}),
        ("extract", {"compression": "none", "account": "b"}, PLAIN | {"account": "b", "compression": "none"}),
    ],
)  # fmt: skip
async def test_port_receives_the_request_arguments(
    client: httpx.AsyncClient, world: World, verb: str, sent: Any, options: Any
) -> None:
    paths = (f"{world.root}/it's", f"{world.root}/b c")
    response = await client.post(f"{URL}/{verb}", json={"source_path": paths[0], "target_path": paths[1], **sent})
    assert response.status_code == 201
    job = response.json()["transferJob"]
    assert (job["jobId"], job["system"], job["logs"]["outputLog"]) == ("320", "Toy", "/home/fireuser/.out.log")
    assert world.movers.asked == [(verb, paths, options)]


@pytest.mark.parametrize("account", [None, "", "a"])
async def test_rm_gives_200(client: httpx.AsyncClient, world: World, account: str | None) -> None:
    query = {"path": f"{world.root}/x"} | ({} if account is None else {"account": account})
    assert (await client.delete(f"{URL}/rm", params=query)).status_code == 200
    assert world.movers.asked == [("rm", (f"{world.root}/x",), {"account": account or None, "key": None})]


async def test_percent_encoded_paths(client: httpx.AsyncClient, world: World) -> None:
    body = {"path": f"{world.root}/%FF", "targetPath": f"{world.root}/%25", "encoding": "percent"}
    assert (await client.post(f"{URL}/mv", json=body)).status_code == 201
    assert world.movers.asked[0][1] == (f"{world.root}/\udcff", f"{world.root}/%")


@pytest.mark.parametrize("account", ["a\0", "a\n#SBATCH --wrap=id", "x" * 300])
async def test_account_syntax(client: httpx.AsyncClient, world: World, account: str) -> None:
    response = await client.delete(f"{URL}/rm", params={"path": world.root, "account": account})
    assert fields(response) == [("query", "account")]
    body = {"path": world.root, "targetPath": world.root, "account": account}
    for what in ("mv", "cp", "compress", "extract"):
        assert fields(await client.post(f"{URL}/{what}", json=body)) == [("body", "account")]
    assert world.movers.asked == []


@pytest.mark.parametrize("what", ["upload", "download"])
@pytest.mark.parametrize("method", ["streamer", "wormhole"])
async def test_unknown_method_gives_400_and_lists_the_known(
    client: httpx.AsyncClient, world: World, what: str, method: str
) -> None:
    directives = {"transfer_method": method, "fileSize": "7", "wormholeCode": "1-a-b"}
    response = await client.post(f"{URL}/{what}", json={"path": world.root, "transferDirectives": directives})
    assert fields(response) == [("body", "transferMethod")]
    assert "(available: s3)" in response.json()["message"]
    assert world.movers.asked == []


@pytest.mark.parametrize("what", ["upload", "download"])
@pytest.mark.parametrize(
    ("sent", "upload", "directives", "shown"),
    [
        (
            {"transferMethod": "s3", "fileSize": 7},
            TransferRequest("s3", file_size=7),
            S3Directives(["https://s3/1"], "https://s3/end", max_part_size=5),
            {"partsUploadUrls": ["https://s3/1"], "completeUploadUrl": "https://s3/end", "downloadUrl": None,
             "maxPartSize": 5, "abortUploadUrl": None, "resumableUploadUrl": None, "rangeDownloadUrl": None},
        ),
        (
            {"transferMethod": "streamer"},
            TransferRequest("streamer"),
            StreamerDirectives("host:5665"),
            {"coordinates": "host:5665"},
        ),
        (
            {"transferMethod": "wormhole", "wormholeCode": "1-a-b"},
            TransferRequest("wormhole", wormhole_code="1-a-b"),
            WormholeDirectives("1-a-b"),
            {"wormholeCode": "1-a-b"},
        ),
    ],
)  # fmt: skip
async def test_started_transfer_response(
    client: httpx.AsyncClient, world: World, what: str, sent: Any, upload: Any, directives: Any, shown: Any
) -> None:
    world.movers.methods = {upload.method: directives}
    body = {"path": f"{world.root}/it's", "account": "a", "transferDirectives": sent}
    response = await client.post(f"{URL}/{what}", json=body)
    assert response.status_code == 201
    assert response.json()["transferDirectives"] == {"transferMethod": upload.method, **shown}
    assert response.json()["transferJob"]["jobId"] == "320"
    request = upload if what == "upload" else replace(upload, wormhole_code=None)
    assert world.movers.asked == [(what, (f"{world.root}/it's",), {"account": "a", "request": request})]


@pytest.mark.parametrize(
    ("what", "directives", "name"),
    [
        ("upload", None, "transferDirectives"),
        ("upload", [], "transferDirectives"),
        ("upload", {}, "transferMethod"),
        ("upload", {"transferMethod": "carrier pigeon"}, "transferMethod"),
        ("upload", {"transferMethod": ["s3"]}, "transferMethod"),
        ("upload", {"transferMethod": "wormhole"}, "wormholeCode"),
        ("upload", {"transferMethod": "wormhole", "wormhole_code": "a\n"}, "wormhole_code"),
        ("upload", {"transferMethod": "s3", "fileSize": -1}, "fileSize"),
        ("upload", {"transferMethod": "s3", "file_size": "many"}, "file_size"),
        ("download", {"transferMethod": 3}, "transferMethod"),
    ],
)
async def test_invalid_directives(
    client: httpx.AsyncClient, world: World, what: str, directives: Any, name: str
) -> None:
    response = await client.post(f"{URL}/{what}", json={"path": world.root, "transferDirectives": directives})
    assert fields(response) == [("body", name)]
