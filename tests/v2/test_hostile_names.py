"""Names of every kind through every file operation and every transfer job, by HTTP."""

from __future__ import annotations

import hashlib
import os
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import anyio
import httpx
import pytest

from flamecrest.wire.text import percent_encode

from . import hostile_answers as answers
from .conftest import Api
from .hostile_operations import BOUNDARY

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

FEW = [  # with several dangers in one name
    b"-x'; touch pwned; '\"$(touch pwned) ", b"a\nb\tc\\d*?[x]{a,b}%2e%2e%2f\\",
    b"\xc3\xbcml\xc3\xa4ut \xe6\x97\xa5\xe6\x9c\xac\xf0\x9f\x94\xa5", b"not utf-8 \xff\xfe", b"n" * 255,
]  # fmt: skip
NAMES = [
    b"it's", b'say "hi"', b" a b  c ", b"-rf", b"x'; touch pwned; '", b"$(touch pwned)", b"a\nb\ttab", b"back\\slash\\",
    b"*?[x]{a,b}", b"\xc3\xbcml\xc3\xa4ut \xe6\x97\xa5\xe6\x9c\xac\xf0\x9f\x94\xa5", b"%2e%2e%2f",
    b"~",
]  # fmt: skip
HOSTILE_NAMES = [
    b"-x'; touch pwned; '\n#SBATCH --output=pwned\n",
    b'$(touch pwned)`touch pwned`"\\ \t',
    b"\xff%41\xfe*",
]


def shown(raw: bytes) -> str:
    return ascii(raw)[2:20]


class Place:
    """The operations on one folder. Paths are bytes: as they are in queries, percent-encoded in bodies."""

    def __init__(self, api: Api, http: httpx.AsyncClient, folder: str) -> None:
        self.api = api
        self.http = http
        self.folder = os.fsencode(folder)

    async def get(self, operation: str, path: bytes, **more: Any) -> httpx.Response:
        query = "&".join(
            [f"path={quote_from_bytes(path, safe='')}", *(f"{name}={value}" for name, value in more.items())]
        )
        return await self.ok(self.http.get(f"/filesystem/{self.api.system}/ops/{operation}?{query}"))

    async def output(self, operation: str, path: bytes, **more: Any) -> Any:
        return (await self.get(operation, path, **more)).json()["output"]

    async def do(self, method: str, operation: str, **body: Any) -> Any:
        """Paths are bytes: they are percent-encoded, with `encoding` set."""
        json = {name: percent_encode(os.fsdecode(one)) if isinstance(one, bytes) else one for name, one in body.items()}
        url = f"/filesystem/{self.api.system}/{operation}"
        answer = await self.ok(self.http.request(method, url, json=json | {"encoding": "percent"}))
        return answer.json() if answer.content else None

    async def rm(self, path: bytes) -> None:
        url = f"/filesystem/{self.api.system}/ops/rm?path={quote_from_bytes(path, safe='')}"
        assert (await self.ok(self.http.delete(url))).status_code == 204

    async def upload(self, folder: bytes, name: bytes, data: bytes) -> None:
        extended = quote_from_bytes(name, safe="").encode()
        head = b"--%s\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''%s\r\n\r\n"
        body = head % (BOUNDARY.encode(), extended) + data + b"\r\n--%s--\r\n" % BOUNDARY.encode()
        url = f"/filesystem/{self.api.system}/ops/upload?path={quote_from_bytes(folder, safe='')}"
        kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        await self.ok(self.http.post(url, content=body, headers=kind))

    async def ok(self, asked: Any) -> httpx.Response:
        answer: httpx.Response = await asked
        assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.text}"
        return answer

    async def names(self, path: bytes, **more: Any) -> set[bytes]:
        """The names of a listing as bytes, percent-decoded where `encoding` is set."""
        found = set()
        for entry in await self.output("ls", path, showHidden=True, **more):
            percent = entry.get("encoding") == "percent"
            assert percent or entry["name"].encode()
            found.add(unquote_to_bytes(entry["name"]) if percent else entry["name"].encode())
        return found

    async def job(self, method: str, operation: str, path: bytes, **body: Any) -> None:
        """Run a transfer job to its end; check its exit code and log."""
        account = self.api.account
        if method == "DELETE":
            query = f"path={quote_from_bytes(path, safe='')}&account={account}"
            url = f"/filesystem/{self.api.system}/transfer/{operation}?{query}"
            begun = (await self.ok(self.http.delete(url))).json()["transferJob"]
        else:
            begun = (await self.do(method, f"transfer/{operation}", path=path, account=account, **body))["transferJob"]
        with anyio.fail_after(40):
            while True:
                answer = await self.ok(self.http.get(f"/compute/{self.api.system}/jobs/{begun['jobId']}"))
                status = answer.json()["jobs"][0]["status"]
                if status["state"] not in {"PENDING", "RUNNING"}:
                    break
                await anyio.sleep(0.1)
        said = await self.output("view", begun["logs"]["errorLog"].encode())
        assert (status["state"], status["exitCode"]) == ("COMPLETED", 0), said
        assert "Files were successfully" in await self.output("view", begun["logs"]["outputLog"].encode())
        for log in begun["logs"].values():
            await self.rm(log.encode())


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.live) for name in NAMES)], ids=shown)
async def test_every_operation(api: Api, http: httpx.AsyncClient, work: str, name: bytes) -> None:
    place = Place(api, http, work)
    data = b"content of " + name + b"\n"
    path = place.folder + b"/" + name
    await place.do("POST", "ops/mkdir", path=path)
    assert await place.names(place.folder) == {name}
    assert await place.names(path) == set()
    await place.upload(path, name, data)
    inner = path + b"/" + name
    assert await place.names(place.folder, recursive=True) == {name, name + b"/" + name}
    assert (await place.output("stat", inner))["size"] == len(data)
    assert (await place.get("download", inner)).content == data
    text = data.decode("utf-8", "replace")
    assert (await place.output("head", inner, bytes=1000))["content"] == text
    assert (await place.output("tail", inner, bytes=1000))["content"] == text
    assert await place.output("view", inner) == text
    assert (await place.output("checksum", inner))["checksum"] == hashlib.sha256(data).hexdigest()
    assert "text" in await place.output("file", inner) or "data" in await place.output("file", inner)
    for mode, letters in (("600", "rw-------"), ("u+x,g=r", "rwxr-----")):
        changed = await place.do("PUT", "ops/chmod", path=inner, mode=mode)
        assert changed["output"]["permissions"] == letters
    owned = await place.do("PUT", "ops/chown", path=inner, owner=api.user, group=api.user)
    assert owned["output"]["user"] == api.user
    link = place.folder + b"/l" + name[:200]
    made = (await place.do("POST", "ops/symlink", path=inner, linkPath=link))["output"]
    assert made["linkTarget"] in {percent_encode(os.fsdecode(inner)), os.fsdecode(inner)}
    assert (await place.get("download", link)).content == data
    archive = place.folder + b"/a" + name[:200]
    for compression in ("none", "gzip"):
        out = place.folder + b"/" + compression.encode() + name[:200]
        await place.do("POST", "ops/compress", path=path, targetPath=archive, compression=compression)
        await place.do("POST", "ops/extract", path=archive, targetPath=out, compression=compression)
        assert (await place.get("download", out + b"/" + name + b"/" + name)).content == data
        await place.rm(out)
    for gone in (archive, link, path):
        await place.rm(gone)
    assert await place.names(place.folder) == set()
    await answers.no_canary(http, api, "pwned", work)


async def test_every_transfer_job(api: Api, http: httpx.AsyncClient, work: str) -> None:
    """The target of each job is again a hostile name."""
    place = Place(api, http, work)

    async def through(name: bytes) -> None:
        number = str(HOSTILE_NAMES.index(name)).encode()
        folder = place.folder + b"/" + number
        await place.do("POST", "ops/mkdir", path=folder)
        await place.upload(folder, name, b"data")
        path, copy, moved = folder + b"/" + name, folder + b"/c" + name, folder + b"/m" + name
        await place.job("POST", "cp", path, targetPath=copy)
        await place.job("POST", "mv", copy, targetPath=moved)
        assert await place.names(folder) == {name, b"m" + name}
        archive = folder + b"/t" + name
        await place.job("POST", "compress", moved, targetPath=archive)
        await place.job("POST", "extract", archive, targetPath=folder + b"/o" + name)
        assert (await place.get("download", folder + b"/o" + name + b"/m" + name)).content == b"data"
        await place.job("DELETE", "rm", folder)

    async with anyio.create_task_group() as group:
        for name in HOSTILE_NAMES:
            group.start_soon(through, name)
    assert await place.names(place.folder) == set()
    await answers.no_canary(http, api, "pwned", work)


async def test_percent_sign_in_bodies_and_queries(api: Api, http: httpx.AsyncClient, work: str) -> None:
    """A percent sign is literal in plain bodies; it starts an escape in bodies with `encoding` and in queries."""
    place = Place(api, http, work)
    ops = f"/filesystem/{api.system}/ops"
    assert (await http.post(f"{ops}/mkdir", json={"path": f"{work}/%41"})).status_code == 201
    assert await place.names(place.folder) == {b"%41"}
    assert (await http.post(f"{ops}/mkdir", json={"path": f"{work}/%41", "encoding": "percent"})).status_code == 201
    assert await place.names(place.folder) == {b"%41", b"A"}
    assert (await http.get(f"{ops}/stat?path={work}/%2541")).status_code == 200
    assert (await http.delete(f"{ops}/rm?path={work}/%41")).status_code == 204
    assert await place.names(place.folder) == {b"%41"}
