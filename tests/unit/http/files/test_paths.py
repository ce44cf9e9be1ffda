"""Paths of arbitrary bytes in every operation, and invalid paths."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes

import pytest

from flamecrest.wire.text import percent_encode
from tests.unit.http.world import CALLER, fields, raw_names

if TYPE_CHECKING:
    import httpx
    from starlette.types import Message

    from tests.unit.http.world import World

pytestmark = pytest.mark.anyio

OPS = "/filesystem/toy/ops"

FEW = [  # with several dangers in one name
    b" it's \"quoted\" $(id)`id`; rm -rf ~ ", b"-rf", b"new\nline\ttab\x07\x01\x7f", b"back\\slash\\",
    b"100%%41%2Fa+b&b=c#?", b"\xc3\xa9\xe6\x97\xa5\xf0\x9f\x92\xa9e\xcc\x81", b"\xff\xfelatin-\xe9\xc3%",
    b"\xed\xa0\x80", b"*[a]{}<script>", b"~root", b"...", b".hidden", b"x" * 255,
]  # fmt: skip
NAMES = [
    b"plain", b"with space", b" leading and trailing ", b"it's", b'quote"quote', b"$(id)", b"`id`", b"; rm -rf ~",
    b"-rf", b"--help", b"new\nline", b"tab\tbell\x07", b"back\\slash", b"\\", b"100%", b"%41", b"%2F", b"a+b",
    b"a&b=c", b"#?", b"\xc3\xa9\xe6\x97\xa5\xf0\x9f\x92\xa9", b"e\xcc\x81", b"\xff\xfe", b"latin-\xe9", b"\xc3%",
    b"\xed\xa0\x80", b"\x01\x7f", b"*", b"[a]", b"{}", b"~", b"~root", b"...", b".hidden", b"CON", b"<script>",
]  # fmt: skip


@pytest.mark.parametrize("raw", [*FEW, *(pytest.param(raw, marks=pytest.mark.live) for raw in NAMES)])
async def test_all_operations_accept_any_file_name(client: httpx.AsyncClient, tmp_path: Path, raw: bytes) -> None:
    name = os.fsdecode(raw)
    path = f"{tmp_path}/folder/{name}"
    query = quote(os.fsencode(path))
    escaped = percent_encode(path)

    def body(**more: Any) -> dict[str, Any]:
        return {"path": escaped, "encoding": "percent", **more}

    async def ok(response: Any) -> Any:
        answer = await response
        assert answer.is_success, answer.text
        return answer

    (tmp_path / "folder").mkdir()
    await ok(client.post(f"{OPS}/mkdir", json=body()))
    assert raw_names(f"{tmp_path}/folder") == {raw}
    for what in ("stat", "ls", "file"):
        await ok(client.get(f"{OPS}/{what}?path={query}"))
    await ok(client.delete(f"{OPS}/rm?path={query}"))
    disposition = b"form-data; name=\"file\"; filename*=UTF-8''" + quote(raw, safe="").encode()
    form = b"--B\r\nContent-Disposition: " + disposition + b"\r\n\r\nhello\r\n--B--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=B"}
    folder = quote(f"{tmp_path}/folder")
    await ok(client.post(f"{OPS}/upload?path={folder}", content=form, headers=kind))
    assert raw_names(f"{tmp_path}/folder") == {raw}
    assert (await ok(client.get(f"{OPS}/download?path={query}"))).content == b"hello"
    for what in ("head", "tail", "view"):
        assert "hello" in (await ok(client.get(f"{OPS}/{what}?path={query}"))).text
    sum_ = (await ok(client.get(f"{OPS}/checksum?path={query}"))).json()["output"]["checksum"]
    assert sum_ == hashlib.sha256(b"hello").hexdigest()
    await ok(client.put(f"{OPS}/chmod", json=body(mode="600")))
    await ok(client.put(f"{OPS}/chown", json=body()))
    (listed,) = (await ok(client.get(f"{OPS}/ls?path={folder}"))).json()["output"] or [None] * (raw[:1] == b".")
    if listed is not None:
        utf8 = raw == raw.decode("utf-8", "replace").encode()
        assert listed["name"] == (raw.decode() if utf8 else percent_encode(name))
        assert listed.get("encoding") == (None if utf8 else "percent")
    link = percent_encode(f"{tmp_path}/link")
    linked = await ok(client.post(f"{OPS}/symlink", json=body(linkPath=link)))
    assert os.readlink(f"{tmp_path}/link") == path  # noqa: PTH115 -- Path would tidy it
    assert linked.json()["output"]["linkTarget"] in (path, escaped)
    archive = f"{tmp_path}/archive.tgz"
    await ok(client.post(f"{OPS}/compress", json=body(targetPath=archive)))
    await ok(client.post(f"{OPS}/extract", json={"path": archive, "targetPath": f"{tmp_path}/out"}))
    assert raw_names(f"{tmp_path}/out") == {raw}


@pytest.mark.parametrize("raw", [name for name in NAMES if name == name.decode("utf-8", "replace").encode()])
async def test_utf8_names_need_no_encoding(client: httpx.AsyncClient, tmp_path: Path, raw: bytes) -> None:
    path = f"{tmp_path}/{raw.decode()}"
    assert (await client.post(f"{OPS}/mkdir", json={"path": path})).json()["output"]["name"] == path
    assert raw_names(str(tmp_path)) == {raw}
    assert (await client.delete(f"{OPS}/rm", params={"path": path})).status_code == 204
    assert raw_names(str(tmp_path)) == set()


@pytest.mark.parametrize("raw", [b"\xff", b"caf\xe9", b"%FF", b"caf%e9"])
async def test_raw_bytes_in_the_query(world: World, tmp_path: Path, raw: bytes) -> None:
    """uvicorn refuses unescaped bytes, other ASGI servers do not."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + unquote_to_bytes(raw))).touch()
    app, sent = world.app(), []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http", "method": "GET", "path": f"{OPS}/stat",
        "query_string": b"path=" + os.fsencode(tmp_path) + b"/" + raw,
        "headers": [(name.lower().encode(), value.encode()) for name, value in ({"Host": "x"} | CALLER).items()],
    }  # fmt: skip
    async with app.router.lifespan_context(app):
        await app(scope, receive, send)
    assert sent[0]["status"] == 200


async def test_not_found_message_replaces_undecodable_bytes(client: httpx.AsyncClient, tmp_path: Path) -> None:
    response = await client.get(f"{OPS}/stat?path={quote(str(tmp_path))}/%FF")
    assert response.status_code == 404
    assert response.json()["message"].endswith("/\ufffd': No such file or directory")


BAD = [
    "",
    "relative",
    "~/x",
    ".",
    "/",
    "/etc/passwd",
    "/../etc",
    "{root}/../../../../etc/passwd",
    "{root}x",
    "//etc/x",
    "\\etc",
]


@pytest.mark.parametrize("path", BAD)
async def test_path_outside_the_file_systems_gives_400(client: httpx.AsyncClient, world: World, path: str) -> None:
    path = path.replace("{root}", world.root)
    inside = f"{world.root}/x"

    async def refused(response: Any, name: str) -> None:
        answer = await response
        assert answer.status_code == 400, answer.request.url
        assert f"`{name}`" in answer.json()["message"]

    for what in ("ls", "stat", "file", "head", "tail", "view", "checksum", "download"):
        await refused(client.get(f"{OPS}/{what}", params={"path": path}), "path")
    for where in (OPS, "/filesystem/toy/transfer"):
        await refused(client.delete(f"{where}/rm", params={"path": path}), "path")
    await refused(client.post(f"{OPS}/upload", params={"path": path}, files={"file": ("x", b"")}), "path")
    more = {"mode": "700", "targetPath": inside, "linkPath": inside, "transferDirectives": {"transferMethod": "s3"}}
    one = [("PUT", f"{OPS}/chmod"), ("PUT", f"{OPS}/chown"), ("POST", f"{OPS}/mkdir"), ("POST", f"{OPS}/symlink")]
    moves = [("POST", f"/filesystem/toy/transfer/{what}") for what in ("mv", "cp", "compress", "extract")]
    several = [("POST", f"{OPS}/compress"), ("POST", f"{OPS}/extract"), *moves]
    goes = [("POST", f"/filesystem/toy/transfer/{what}") for what in ("upload", "download")]
    for method, url in one + several + goes:
        await refused(client.request(method, url, json={**more, "path": path}), "path")
    for method, url in several:
        await refused(client.request(method, url, json={"path": inside, "targetPath": path}), "targetPath")
    await refused(client.post(f"{OPS}/symlink", json={"path": inside, "linkPath": path}), "linkPath")
    assert raw_names(world.root) == set()
    assert world.movers.asked == []


@pytest.mark.parametrize("source", ["path", "sourcePath", "source_path"])
@pytest.mark.parametrize(("target", "link"), [("targetPath", "linkPath"), ("target_path", "link_path")])
async def test_errors_name_a_path_as_the_request_does(
    client: httpx.AsyncClient, world: World, source: str, target: str, link: str
) -> None:
    outside, inside = "/etc/passwd", f"{world.root}/x"
    more = {"transferDirectives": {"transferMethod": "s3"}, "size": 1}
    for wrong, right in ((source, target), (target, source)):
        for url in (f"{OPS}/mv", f"{OPS}/cp", f"{OPS}/extract", "/filesystem/toy/transfer/cp"):
            answer = await client.post(url, json={**more, wrong: outside, right: inside})
            assert answer.status_code == 400, url
            assert answer.json()["message"].startswith(f"`{wrong}` is outside"), url
    for url in (f"{OPS}/touch", f"{OPS}/truncate", f"{OPS}/mkdir", "/filesystem/toy/transfer/download"):
        # `targetPath` is no field of these
        answer = await client.post(url, json={**more, source: outside, target: inside})
        assert answer.json()["message"].startswith(f"`{source}` is outside"), url
    both = {source: inside, link: "x", "relative": True}
    assert (await client.post(f"{OPS}/symlink", json=both)).json()["message"].startswith(f"`{link}` must be")
    both = {source: "", link: inside, "relative": True}
    assert fields(await client.post(f"{OPS}/symlink", json=both)) == [("body", source)]


async def test_the_missing_path_of_an_item_is_named_as_documented(client: httpx.AsyncClient) -> None:
    answer = await client.post("/filesystem/toy/bulk/stat", json={"items": [{}]})
    assert fields(answer) == [("body", "path")]


@pytest.mark.parametrize("path", ["/a\0b", "/" + "x" * 5000, "/" + "é" * 3000])
async def test_impossible_paths_are_refused(client: httpx.AsyncClient, path: str) -> None:
    query = "path=" + quote(path)
    assert fields(await client.get(f"{OPS}/stat?{query}")) == [("query", "path")]
    assert fields(await client.post(f"{OPS}/upload?{query}", files={"file": ("x", b"")})) == [("query", "path")]
    body = {"source_path": path, "target_path": path, "link_path": path}
    assert fields(await client.post(f"{OPS}/mkdir", json=body)) == [("body", "source_path")]
    assert fields(await client.post(f"{OPS}/extract", json=body)) == [("body", "source_path"), ("body", "target_path")]
    assert fields(await client.post(f"{OPS}/symlink", json=body)) == [("body", "source_path"), ("body", "link_path")]


async def test_duplicate_parameter_is_refused(client: httpx.AsyncClient, world: World) -> None:
    twice = f"path={world.root}&p%61th=/etc&x=1&x=2"
    assert fields(await client.get(f"{OPS}/stat?{twice}")) == [("query", "path")]
    assert (await client.get(f"{OPS}/stat?path={world.root}&x=1&x=2&&=&x")).status_code == 200


async def test_query_decoding_of_plus_and_parameter_names(client: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "a b+c").touch()
    assert (await client.get(f"{OPS}/stat?%70ath={tmp_path}/a+b%2Bc")).status_code == 200


@pytest.mark.parametrize("end", ["", "/", "/.", "/x/..", "/.."])
async def test_a_whole_file_system_is_not_removed(client: httpx.AsyncClient, world: World, end: str) -> None:
    Path(world.root, "x").mkdir()
    path = world.root + end
    for where in (OPS, "/filesystem/toy/transfer"):
        assert (await client.delete(f"{where}/rm", params={"path": path})).status_code == 400
    answer = await client.post("/filesystem/toy/bulk/rm", json={"items": [{"path": path}]})
    assert [one["status"] for one in answer.json()["results"]] == [400]
    assert Path(world.root, "x").is_dir()
