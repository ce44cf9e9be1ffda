"""Resumable uploads through a real gateway: the tus protocol, and hostile requests."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tusclient.client import TusClient

from .conftest import Api

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}


def b64(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


@pytest.fixture
def http(api: Api) -> Iterator[httpx.Client]:
    with api.http() as client:
        yield client


class Uploads:
    """Shorthands for the requests."""

    def __init__(self, http: httpx.Client, api: Api, work: str) -> None:
        self.http = http
        self.url = f"/filesystem/{api.system}/uploads"
        self.ops = f"/filesystem/{api.system}/ops"
        self.work = work

    def create(self, length: int | str, path: str | bytes, **options: Any) -> httpx.Response:
        headers = {**TUS, "Upload-Length": str(length), "Upload-Metadata": f"path {b64(path)}".strip()}
        return self.http.post(self.url, headers=headers | options.pop("headers", {}), **options)

    def begun(self, length: int, name: str) -> str:
        made = self.create(length, f"{self.work}/{name}")
        assert made.status_code == 201, made.text
        return made.headers["Location"]

    def patch(self, location: str, offset: int | str, data: bytes, **headers: str) -> httpx.Response:
        return self.http.patch(location, headers={**PIECE, "Upload-Offset": str(offset), **headers}, content=data)

    def head(self, location: str) -> httpx.Response:
        return self.http.head(location, headers=TUS)

    def content(self, path: str) -> bytes | None:
        answer = self.http.get(f"{self.ops}/download", params={"path": path})
        return answer.content if answer.status_code == 200 else None

    def names(self) -> list[str]:
        listed = self.http.get(f"{self.ops}/ls", params={"path": self.work, "showHidden": "true"})
        return [entry["name"] for entry in listed.json()["output"]]

    def mode(self, name: str) -> int:
        found = self.http.get(f"{self.ops}/stat", params={"path": f"{self.work}/{name}"}).json()["output"]
        return int(found["mode"]) & 0o7777


@pytest.fixture
def uploads(http: httpx.Client, api: Api, work: str) -> Uploads:
    return Uploads(http, api, work)


def test_options(uploads: Uploads) -> None:
    answer = uploads.http.options(uploads.url)
    assert answer.status_code == 204
    assert answer.headers["Tus-Resumable"] == answer.headers["Tus-Version"] == "1.0.0"
    extensions = {"creation", "creation-with-upload", "creation-defer-length", "checksum", "expiration", "termination"}
    assert set(answer.headers["Tus-Extension"].split(",")) == extensions
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,md5"
    assert "Tus-Max-Size" not in answer.headers


def test_upload_in_pieces(uploads: Uploads) -> None:
    location = uploads.begun(10, "new")
    assert location.startswith("/filesystem/")
    beside = uploads.names()
    assert len(beside) == 2
    assert all(name.startswith(".flamecrest-upload-") for name in beside)
    assert [uploads.mode(name) for name in beside] == [0o600, 0o600]
    first = uploads.patch(location, 0, b"hello")
    assert (first.status_code, first.headers["Upload-Offset"]) == (204, "5")
    assert "GMT" in first.headers["Upload-Expires"]
    head = uploads.head(location)
    assert (head.status_code, head.headers["Upload-Offset"], head.headers["Upload-Length"]) == (200, "5", "10")
    assert head.headers["Cache-Control"] == "no-store"
    assert head.headers["Upload-Metadata"] == f"path {b64(uploads.work + '/new')}"
    assert uploads.content(f"{uploads.work}/new") is None
    assert uploads.patch(location, 5, b"world").headers["Upload-Offset"] == "10"
    assert uploads.content(f"{uploads.work}/new") == b"helloworld"
    assert uploads.names() == ["new"]
    # the last response may have been lost: the status can still be queried
    again = uploads.head(location)
    assert (again.headers["Upload-Offset"], again.headers["Upload-Length"]) == ("10", "10")
    assert uploads.patch(location, 10, b"").status_code == 204
    assert uploads.patch(location, 5, b"world").status_code == 409


def test_new_file_gets_the_default_mode_and_existing_file_keeps_its_mode(uploads: Uploads) -> None:
    plain: dict[str, Any] = {"files": {"file": ("plain", b"x")}, "params": {"path": uploads.work}}
    assert uploads.http.post(f"{uploads.ops}/upload", **plain).status_code == 204
    uploads.patch(uploads.begun(1, "new"), 0, b"y")
    assert uploads.mode("new") == uploads.mode("plain")
    body = {"path": f"{uploads.work}/plain", "mode": "750"}
    assert uploads.http.put(f"{uploads.ops}/chmod", json=body).status_code == 200
    location = uploads.begun(3, "plain")
    assert uploads.content(f"{uploads.work}/plain") == b"x"
    uploads.patch(location, 0, b"new")
    assert uploads.content(f"{uploads.work}/plain") == b"new"
    assert uploads.mode("plain") == 0o750


def test_upload_to_a_symlink_replaces_its_target(uploads: Uploads) -> None:
    uploads.patch(uploads.begun(1, "real"), 0, b"a")
    link = {"path": f"{uploads.work}/real", "linkPath": f"{uploads.work}/link"}
    assert uploads.http.post(f"{uploads.ops}/symlink", json=link).status_code == 201
    location = uploads.begun(2, "link")
    assert uploads.patch(location, 0, b"bb").status_code == 204
    assert uploads.head(location).headers["Upload-Offset"] == "2"
    assert uploads.content(f"{uploads.work}/real") == b"bb"
    assert sorted(uploads.names()) == ["link", "real"]


@pytest.mark.parametrize("name", [b"caf\xe9", b"a'b\n$(x)", b" -rf", "ünï".encode(), b"%41"])
def test_any_name(uploads: Uploads, name: bytes) -> None:
    made = uploads.create(2, os.fsencode(uploads.work) + b"/" + name)
    assert made.status_code == 201
    assert uploads.patch(made.headers["Location"], 0, b"ok").status_code == 204
    found = uploads.http.get(f"{uploads.ops}/download?path={quote(uploads.work)}/{quote(name)}")
    assert found.content == b"ok"


def test_directory_and_file_name(uploads: Uploads) -> None:
    headers = {**TUS, "Upload-Length": "0", "Upload-Metadata": f"filename {b64('empty')},kind {b64('x')},flag"}
    made = uploads.http.post(uploads.url, headers=headers, params={"path": uploads.work})
    assert made.status_code == 201
    assert made.headers["Upload-Offset"] == "0"
    assert uploads.content(f"{uploads.work}/empty") == b""
    assert uploads.names() == ["empty"]


def test_creation_with_upload(uploads: Uploads) -> None:
    made = uploads.create(6, f"{uploads.work}/f", headers=PIECE, content=b"abc")
    assert (made.status_code, made.headers["Upload-Offset"]) == (201, "3")
    assert uploads.patch(made.headers["Location"], 3, b"def").headers["Upload-Offset"] == "6"
    assert uploads.content(f"{uploads.work}/f") == b"abcdef"
    whole = uploads.create(3, f"{uploads.work}/g", headers=PIECE, content=b"abc")
    assert (whole.status_code, whole.headers["Upload-Offset"]) == (201, "3")
    assert uploads.content(f"{uploads.work}/g") == b"abc"
    wrong = uploads.create(3, f"{uploads.work}/h", content=b"abc", headers={"Content-Type": "text/plain"})
    assert wrong.status_code == 415
    long = uploads.create(3, f"{uploads.work}/h", headers=PIECE, content=b"abcd")
    assert long.status_code == 413
    assert sorted(uploads.names()) == ["f", "g"]


def test_deferred_length(uploads: Uploads) -> None:
    headers = {**TUS, "Upload-Defer-Length": "1", "Upload-Metadata": f"path {b64(uploads.work + '/f')}"}
    location = uploads.http.post(uploads.url, headers=headers).headers["Location"]
    assert uploads.patch(location, 0, b"abc").status_code == 204
    head = uploads.head(location)
    assert head.headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in head.headers
    assert uploads.patch(location, 3, b"", **{"Upload-Length": "2"}).status_code == 400
    assert uploads.patch(location, 3, b"d", **{"Upload-Length": "5"}).status_code == 204
    assert uploads.patch(location, 4, b"e", **{"Upload-Length": "6"}).status_code == 400
    assert uploads.patch(location, 4, b"e").status_code == 204
    assert uploads.content(f"{uploads.work}/f") == b"abcde"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_checksum(uploads: Uploads, algorithm: str) -> None:
    location = uploads.begun(6, "f")

    def given(data: bytes) -> dict[str, str]:
        return {"Upload-Checksum": f"{algorithm} {b64(hashlib.new(algorithm, data).digest())}"}

    assert uploads.patch(location, 0, b"abc", **given(b"abc")).status_code == 204
    bad = uploads.patch(location, 3, b"xyz", **given(b"def"))
    assert bad.status_code == 460
    assert bad.headers["Tus-Resumable"] == "1.0.0"
    assert bad.json()["errorType"] == "error"
    assert uploads.head(location).headers["Upload-Offset"] == "3"
    assert uploads.content(f"{uploads.work}/f") is None
    assert uploads.patch(location, 3, b"def", **given(b"def")).status_code == 204
    assert uploads.content(f"{uploads.work}/f") == b"abcdef"


def test_termination(uploads: Uploads) -> None:
    location = uploads.begun(6, "f")
    uploads.patch(location, 0, b"abc")
    assert uploads.http.delete(location, headers=TUS).status_code == 204
    assert uploads.names() == []
    assert uploads.head(location).status_code == 404
    assert uploads.patch(location, 3, b"def").status_code == 404
    assert uploads.http.delete(location, headers=TUS).status_code == 404


def test_method_override(uploads: Uploads) -> None:
    location = uploads.begun(6, "f")

    def post(method: str, headers: dict[str, str], content: bytes = b"") -> httpx.Response:
        return uploads.http.post(location, headers={**headers, "X-HTTP-Method-Override": method}, content=content)

    assert post("PATCH", {**PIECE, "Upload-Offset": "0"}, b"abc").status_code == 204
    assert post("HEAD", TUS).headers["Upload-Offset"] == "3"
    assert post("DELETE", TUS).status_code == 204
    assert post("TRACE", TUS).status_code == 405
    assert uploads.names() == []


def test_offsets_that_do_not_match(uploads: Uploads) -> None:
    location = uploads.begun(6, "f")
    for offset in (1, 6, 2**63 - 1):
        assert uploads.patch(location, offset, b"abc").status_code == 409
    uploads.patch(location, 0, b"abc")
    for offset in (0, 2, 4):
        assert uploads.patch(location, offset, b"x").status_code == 409
    for given in ("-1", "x", "", "1e3", "9" * 30, "0x1", "³"):
        headers = [*PIECE.items(), ("Upload-Offset", given)]
        encoded = httpx.Headers(headers, encoding="latin-1")
        assert uploads.http.patch(location, headers=encoded, content=b"x").status_code == 400, given
    assert uploads.head(location).headers["Upload-Offset"] == "3"
    # excess bytes are refused; earlier bytes may be kept, but never more than the declared length
    assert uploads.patch(location, 3, b"defg").status_code == 413
    assert uploads.content(f"{uploads.work}/f") is None


def test_missing_or_invalid_headers(uploads: Uploads) -> None:
    location = uploads.begun(6, "f")
    versions: list[dict[str, str]] = [{}, {"Tus-Resumable": "0.2.2"}, {"Tus-Resumable": ""}]
    for version in versions:
        head = uploads.http.head(location, headers=version)
        assert (head.status_code, head.headers["Tus-Version"]) == (412, "1.0.0")
        assert head.headers["Tus-Resumable"] == "1.0.0"
        post = uploads.http.post(uploads.url, headers={**version, "Upload-Length": "1"})
        assert post.status_code == 412
        patch = uploads.http.patch(location, headers={"Upload-Offset": "0", **version}, content=b"x")
        assert patch.status_code == 412
        assert uploads.http.delete(location, headers=version).status_code == 412
    assert uploads.http.patch(location, headers={**TUS, "Upload-Offset": "0"}, content=b"x").status_code == 415
    assert uploads.http.patch(location, headers=PIECE, content=b"x").status_code == 400
    for checksum in ("sha1", "crc32 AAAA", "sha1 !!!", "sha1 AAAA", "sha256 " + b64(b"x" * 20), ""):
        assert uploads.patch(location, 0, b"x", **{"Upload-Checksum": checksum}).status_code == 400, checksum
    twice = [*PIECE.items(), ("Upload-Offset", "0"), ("Upload-Offset", "1")]
    assert uploads.http.patch(location, headers=twice, content=b"x").status_code == 400
    assert uploads.head(location).headers["Upload-Offset"] == "0"


def test_invalid_creations(uploads: Uploads) -> None:
    path = f"{uploads.work}/f"
    for length in ("-1", "", "x", "1.5", "9" * 25, str(2**63)):
        assert uploads.create(length, path).status_code == 400, length
    for value in (
        "path !!!",
        "path",
        f"path {b64(path)},path {b64(path)}",
        f",path {b64(path)}",
        "",
        "name " + b64("x"),
    ):
        headers = {**TUS, "Upload-Length": "1", "Upload-Metadata": value}
        assert uploads.http.post(uploads.url, headers=headers).status_code == 400, value
    for name in ("../f", "a/b", "..", ".", "", "\0", "n" * 256):
        headers = {**TUS, "Upload-Length": "1", "Upload-Metadata": f"filename {b64(name)}".strip()}
        refused = uploads.http.post(uploads.url, headers=headers, params={"path": uploads.work})
        assert refused.status_code == 400, name
    headers = {**TUS, "Upload-Metadata": f"path {b64(path)}"}
    assert uploads.http.post(uploads.url, headers=headers).status_code == 400
    both = {**headers, "Upload-Length": "1", "Upload-Defer-Length": "1"}
    assert uploads.http.post(uploads.url, headers=both).status_code == 400
    assert uploads.http.post(uploads.url, headers={**headers, "Upload-Defer-Length": "2"}).status_code == 400
    concat = {**headers, "Upload-Length": "1", "Upload-Concat": "partial"}
    assert uploads.http.post(uploads.url, headers=concat).status_code == 400
    assert uploads.names() == []


def test_invalid_targets(uploads: Uploads) -> None:
    for path in ("/etc/cron.d/x", f"{uploads.work}/../../../../etc/x", "f", "", "\0", f"{uploads.work}/a\0b"):
        assert uploads.create(1, path).status_code == 400, path
    assert uploads.create(1, uploads.work).status_code == 400
    assert uploads.create(1, uploads.work + "/").status_code == 400
    assert uploads.create(1, f"{uploads.work}/nowhere/f").status_code == 404
    assert uploads.create(1, f"{uploads.work}/" + "n" * 256).status_code == 400
    assert uploads.names() == []


def test_a_target_that_becomes_a_directory(uploads: Uploads) -> None:
    location = uploads.begun(3, "f")
    made = uploads.http.post(f"{uploads.ops}/mkdir", json={"path": f"{uploads.work}/f"})
    assert made.status_code == 201
    assert uploads.patch(location, 0, b"abc").status_code == 400
    assert uploads.head(location).status_code == 400


def test_forged_upload_ids(uploads: Uploads, api: Api) -> None:
    def made(path: str, expires: int = 2**32 - 1, inode: int = 0) -> str:
        raw = expires.to_bytes(4, "big") + secrets.token_bytes(12) + inode.to_bytes(8, "big") + path.encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    plain: dict[str, Any] = {"files": {"file": ("there", b"x")}, "params": {"path": uploads.work}}
    assert uploads.http.post(f"{uploads.ops}/upload", **plain).status_code == 204
    expected = {
        made("/etc/passwd"): {400},
        made(f"{uploads.work}/../../../../etc/passwd"): {400},
        made(f"{uploads.work}/x"): {404},
        made(f"{uploads.work}/there"): {404},
        made(f"{uploads.work}/there", inode=1): {404},
        made(f"{uploads.work}/nowhere/x"): {404},
        made(uploads.work): {400},
        made(f"{uploads.work}/there", expires=1): {410},
        made("relative"): {400},
        made(""): {404},
        "x": {404},
        "A" * 3: {404},
        "%00": {404},
        "..": {404, 405},
        "é": {404},
        "QUJD=": {404},
        made(f"{uploads.work}/x") + "A": {400, 404},
    }
    for forged, statuses in expected.items():
        url = f"{uploads.url}/{quote(forged, safe='%')}"
        assert uploads.head(url).status_code in statuses, forged
        assert uploads.patch(url, 0, b"evil").status_code in statuses | {409}, forged
        assert uploads.http.delete(url, headers=TUS).status_code in statuses, forged
    assert uploads.content(f"{uploads.work}/there") == b"x"
    assert uploads.names() == ["there"]


def test_missing_token_gives_401(uploads: Uploads, api: Api) -> None:
    location = uploads.begun(3, "f")
    with httpx.Client(base_url=api.url, verify=False) as anonymous:
        for method in ("HEAD", "PATCH", "DELETE"):
            answer = anonymous.request(method, location, headers=TUS)
            assert answer.status_code == 401
            assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert anonymous.post(uploads.url, headers=TUS).status_code == 401
        assert anonymous.options(uploads.url).status_code == 401


@pytest.mark.parametrize("checksum", [False, True])
def test_a_stock_client(api: Api, work: str, uploads: Uploads, checksum: bool) -> None:
    source = secrets.token_bytes(1_000_003)
    client = TusClient(api.url + uploads.url, headers={"Authorization": f"Bearer {api.token}"})
    uploader = client.uploader(
        file_stream=io.BytesIO(source), chunk_size=300_000, metadata={"path": f"{work}/big"}, upload_checksum=checksum
    )
    uploader.upload()
    assert uploads.content(f"{work}/big") == source
    assert uploads.names() == ["big"]
