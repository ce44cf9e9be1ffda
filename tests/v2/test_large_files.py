"""Uploads and downloads by the signed URLs of the gateway: what they do, what they refuse, and how they are shown."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from firecrest import ClientCredentialsAuth
from firecrest.v2 import AsyncFirecrest, Firecrest

from .conftest import PART_SIZE
from .test_pyfirecrest import Blocking

XML = "<CompleteMultipartUpload>{}</CompleteMultipartUpload>"
PART = "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>"
TICKET = re.compile(r"/transfer/(?:parts|uploads|content)/([A-Za-z0-9_-]+)")


@pytest.fixture
def http(api) -> Iterator[httpx.Client]:
    with api.http() as client:
        yield client


@pytest.fixture
def web(api) -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(base_url=api.url, timeout=30, verify=False) as client:
        yield client


@pytest.fixture
def part_size(api) -> int:
    """Bytes of a part."""
    return 64 * 1024 * 1024 if api.live else PART_SIZE


class Transfer:
    """A transfer that was started."""

    def __init__(self, http: httpx.Client, system: str, response: httpx.Response) -> None:
        assert response.status_code == 201, response.text
        self._http = http
        self.url = f"/compute/{system}/jobs/"
        self._view = f"/filesystem/{system}/ops/view"
        self.id: str = response.json()["transferJob"]["jobId"]
        self.logs = response.json()["transferJob"]["logs"]
        self.directives: dict[str, Any] = response.json()["transferDirectives"]
        self.parts: list[str] = self.directives["partsUploadUrls"] or []
        self.complete: str = self.directives["completeUploadUrl"]
        self.abort: str = self.directives["abortUploadUrl"]
        self.content: str = self.directives["downloadUrl"]

    def job(self) -> dict[str, Any]:
        response = self._http.get(self.url + self.id)
        assert response.status_code == 200, response.text
        (job,) = response.json()["jobs"]
        return dict(job)

    @property
    def state(self) -> str:
        return str(self.job()["status"]["state"])

    def log(self, kind: str = "outputLog") -> str:
        response = self._http.get(self._view, params={"path": self.logs[kind]})
        assert response.status_code == 200, response.text
        return str(response.json()["output"])


def start(http: httpx.Client, api, path: str, size: int | None, method: str = "direct", **more: Any) -> Transfer:
    directives = {"transferMethod": method} | ({} if size is None else {"fileSize": size})
    body = {"path": path, "transferDirectives": directives, **more}
    verb = "download" if size is None else "upload"
    return Transfer(http, api.system, http.post(f"/filesystem/{api.system}/transfer/{verb}", json=body))


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def names(http: httpx.Client, api, folder: str) -> list[str]:
    query = {"path": folder, "showHidden": "true"}
    response = http.get(f"/filesystem/{api.system}/ops/ls", params=query)
    return sorted(one["name"] for one in response.json()["output"] or [])


def read(http: httpx.Client, api, path: str) -> bytes:
    response = http.get(f"/filesystem/{api.system}/ops/download", params={"path": path})
    assert response.status_code == 200, response.text
    return response.content


# The stock client


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # httpx's, about the client's own request
@pytest.mark.parametrize("kind", [Firecrest, AsyncFirecrest], ids=["sync", "async"])
@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_pyfirecrest_uploads_and_downloads(api, work, http, tmp_path: Path, kind: Any, size: int) -> None:
    def make() -> Any:
        client = kind(api.url, ClientCredentialsAuth(api.client_id, api.secret, api.token_url), verify=False)
        client.MAX_DIRECT_UPLOAD_SIZE = 0  # no file is too small for a transfer
        return client

    client = make() if kind is Firecrest else Blocking(make)
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    client.upload(api.system, str(tmp_path / "file"), work, "it's a, file.bin", account=api.account, blocking=True)
    assert names(http, api, work) == ["it's a, file.bin"]
    client.download(api.system, f"{work}/it's a, file.bin", str(tmp_path / "back"), account=api.account, blocking=True)
    assert (tmp_path / "back").read_bytes() == data
    if kind is Firecrest:
        client.close_session()


# Uploads


def test_parts_in_any_order_and_repeated(api, work, http, web, part_size) -> None:
    data = os.urandom(2 * part_size + 5)
    transfer = start(http, api, f"{work}/file", len(data))
    assert transfer.directives["maxPartSize"] == part_size
    assert transfer.state == "PENDING"
    parts = [data[at : at + part_size] for at in range(0, len(data), part_size)]
    assert len(transfer.parts) == len(parts)
    assert web.put(transfer.parts[0], content=os.urandom(part_size)).status_code == 200
    assert transfer.state == "RUNNING"
    for number in (2, 1, 0):
        response = web.put(transfer.parts[number], content=parts[number])
        assert (response.status_code, response.headers["etag"]) == (200, f'"{md5(parts[number])}"')
    assert len(names(http, api, work)) == 1  # the temporary file
    listed = "".join(PART.format(number, f'"{md5(part)}"') for number, part in enumerate(parts, 1))
    done = web.post(transfer.complete, content=XML.format(listed))
    assert done.status_code == 200
    assert done.headers["content-type"] == "application/xml"
    etag = md5(b"".join(bytes.fromhex(md5(part)) for part in parts))
    assert f'<ETag>"{etag}-3"</ETag>' in done.text
    assert read(http, api, f"{work}/file") == data
    assert names(http, api, work) == ["file"]
    assert transfer.state == "COMPLETED"
    assert transfer.job()["status"]["exitCode"] == 0
    assert "Multipart file upload successfully completed" in transfer.log()
    assert transfer.log("errorLog") == ""
    metadata = http.get(f"{transfer.url}{transfer.id}/metadata").json()["jobs"][0]
    assert (metadata["standardOutput"], metadata["standardError"]) == tuple(transfer.logs.values())
    # after the end nothing is open
    assert web.post(transfer.complete, content=XML.format(listed)).text == done.text
    assert web.put(transfer.parts[0], content=parts[0]).status_code == 410
    assert web.delete(transfer.abort).status_code == 204
    assert http.delete(f"{transfer.url}{transfer.id}").status_code == 204
    assert transfer.state == "COMPLETED"
    assert read(http, api, f"{work}/file") == data


def test_curl_needs_no_xml(api, work, http, web) -> None:
    transfer = start(http, api, f"{work}/file", 3)
    assert web.put(transfer.parts[0], content=iter([b"a", b"bc"])).status_code == 200  # chunked
    assert web.post(transfer.complete).status_code == 200
    assert read(http, api, f"{work}/file") == b"abc"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"ab", {}, 400),
        (b"abcd", {}, 400),
        ([b"a", b"b"], {}, 400),
        ([b"abcd"], {}, 413),
        (b"abc", {"Content-MD5": base64.b64encode(hashlib.md5(b"abd").digest()).decode()}, 400),
        (b"abc", {"Content-MD5": "x"}, 400),
        (b"abc", {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(b"abd").digest()).decode()}, 400),
        (b"abc", {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(b'x').digest()).decode()}:"}, 400),
    ],
)
def test_wrong_parts_do_not_count(api, work, http, web, body: Any, headers: dict[str, str], status: int) -> None:
    transfer = start(http, api, f"{work}/file", 3)
    assert web.put(transfer.parts[0], content=b"abc").status_code == 200
    refused = web.put(transfer.parts[0], content=body, headers=headers)
    assert refused.status_code == status, refused.text
    reason = transfer.job()["status"]["stateReason"]
    done = web.post(transfer.complete)
    if (isinstance(body, bytes) and not headers) or headers.get(
        "Content-MD5"
    ) == "x":  # refused before anything was written
        assert done.status_code == 200
        return
    assert reason == f"Part 1 has to be sent again: {refused.json()['message']}"
    assert done.status_code == 400
    assert "Parts have not been sent: 1" in done.json()["message"]
    assert transfer.state == "RUNNING"
    assert "Parts have not been sent: 1" in transfer.job()["status"]["stateReason"]
    right = base64.b64encode(hashlib.sha256(b"abc").digest()).decode()
    assert web.put(transfer.parts[0], content=b"abc", headers={"x-amz-checksum-sha256": right}).status_code == 200
    assert web.post(transfer.complete).status_code == 200
    assert read(http, api, f"{work}/file") == b"abc"


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("", "lacks parts: 1, 2"),
        (PART.format(1, md5(b"a" * 7)), "lacks parts: 2"),
        (PART.format(1, md5(b"a" * 7)) + PART.format(2, md5(b"c")), "another ETag than the list says: 2"),
        (PART.format(1, md5(b"a" * 7)) + PART.format(2, md5(b"b")) + PART.format(3, md5(b"")), "no such parts: 3"),
        (PART.format(1, "x"), "not valid"),
        (PART.format(1, md5(b"")) * 2, "not valid"),
        ("<Part/>", "not valid"),
        ("<", "not valid"),
    ],
)
def test_list_of_parts_is_compared(api, work, http, web, part_size, listed: str, message: str) -> None:
    data = b"a" * part_size
    transfer = start(http, api, f"{work}/file", part_size + 1)
    listed = listed.replace(md5(b"a" * 7), md5(data))
    for url, part in zip(transfer.parts, (data, b"b"), strict=True):
        assert web.put(url, content=part).status_code == 200
    refused = web.post(transfer.complete, content=XML.format(listed))
    assert refused.status_code == 400
    assert message in refused.json()["message"]
    assert web.post(transfer.complete).status_code == 200


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE x [<!ENTITY a "1">]><CompleteMultipartUpload>&a;</CompleteMultipartUpload>',
        "<x/>",
        "<?xml version='1.0' encoding='nonsense'?><CompleteMultipartUpload/>",
        "\0",
    ],
)
def test_hostile_documents(api, work, http, web, document: str) -> None:
    transfer = start(http, api, f"{work}/file", 3)
    assert web.put(transfer.parts[0], content=b"abc").status_code == 200
    assert web.post(transfer.complete, content=document).status_code == 400
    assert web.post(transfer.complete, content=b" " * (5 * 1024 * 1024)).status_code == 413
    assert web.post(transfer.complete).status_code == 200


def test_upload_replaces_a_file_as_other_uploads_do(api, work, http, web) -> None:
    path = f"{work}/old"
    files = {"file": ("old", b"old content")}
    assert http.post(f"/filesystem/{api.system}/ops/upload", params={"path": work}, files=files).status_code == 204
    change = {"path": path, "mode": "640"}
    assert http.put(f"/filesystem/{api.system}/ops/chmod", json=change).status_code == 200
    link = {"path": path, "linkPath": f"{work}/link"}
    assert http.post(f"/filesystem/{api.system}/ops/symlink", json=link).status_code == 201
    transfer = start(http, api, f"{work}/link", 3)
    assert web.put(transfer.parts[0], content=b"new").status_code == 200
    assert read(http, api, path) == b"old content"
    hidden = next(name for name in names(http, api, work) if name.startswith(".flamecrest-upload-"))
    shown = http.get(f"/filesystem/{api.system}/ops/stat", params={"path": f"{work}/{hidden}"}).json()["output"]
    assert stat.S_IMODE(shown["mode"]) == 0o600
    assert web.post(transfer.complete).status_code == 200
    assert read(http, api, path) == b"new"
    shown = http.get(f"/filesystem/{api.system}/ops/stat", params={"path": path}).json()["output"]
    assert stat.S_IMODE(shown["mode"]) == 0o640
    assert names(http, api, work) == ["link", "old"]


@pytest.mark.parametrize("by", ["url", "job"])
def test_aborted_uploads_leave_nothing(api, work, http, web, by: str) -> None:
    transfer = start(http, api, f"{work}/file", 3)
    assert web.put(transfer.parts[0], content=b"abc").status_code == 200
    for _ in range(2):
        ended = web.delete(transfer.abort) if by == "url" else http.delete(f"{transfer.url}{transfer.id}")
        assert ended.status_code == 204
    assert names(http, api, work) == []
    assert transfer.state == "CANCELLED"
    assert "successfully" not in transfer.log()
    assert web.put(transfer.parts[0], content=b"abc").status_code == 410
    assert web.post(transfer.complete).status_code == 410
    assert names(http, api, work) == []


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [("missing/file", 404, "No such file"), ("", 400, "directory"), ("x" * 300, 400, "too long")],
)
def test_uploads_that_cannot_be(api, work, http, path: str, status: int, text: str) -> None:
    body = {"path": f"{work}/{path}", "transferDirectives": {"transferMethod": "s3", "fileSize": 1}}
    response = http.post(f"/filesystem/{api.system}/transfer/upload", json=body)
    assert (response.status_code, text in response.json()["message"]) == (status, True), response.text
    assert names(http, api, work) == []


def test_size_is_required(api, work, http) -> None:
    body = {"path": f"{work}/file", "transferDirectives": {"transferMethod": "s3"}}
    response = http.post(f"/filesystem/{api.system}/transfer/upload", json=body)
    assert response.json()["data"]["fields"] == [{"location": "body", "name": "fileSize", "message": "Field required"}]


def test_a_terabyte(api, work, http, part_size) -> None:
    transfer = start(http, api, f"{work}/file", 10**12)
    assert len(transfer.parts) == -(-(10**12) // transfer.directives["maxPartSize"]) <= 10_000
    assert len(set(transfer.parts)) == len(transfer.parts)
    assert http.delete(f"{transfer.url}{transfer.id}").status_code == 204


# Downloads


def test_download_with_head_and_range(api, work, http, web) -> None:
    data = os.urandom(100_000)
    files = {"file": ("it's", data)}
    assert http.post(f"/filesystem/{api.system}/ops/upload", params={"path": work}, files=files).status_code == 204
    transfer = start(http, api, f"{work}/it's", None)
    assert transfer.state == "COMPLETED"
    assert "File was successfully" in transfer.log()
    assert web.get(transfer.content).content == data
    head = web.head(transfer.content)
    assert (head.headers["content-length"], head.content) == ("100000", b"")
    part = web.get(transfer.content, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, data[5:10])
    there = httpx.URL(transfer.directives["rangeDownloadUrl"])
    assert http.get(there).content == data
    assert httpx.URL(start(http, api, f"{work}/n", 1).directives["resumableUploadUrl"]).path.endswith("/uploads")


@pytest.mark.parametrize(("path", "status", "text"), [("missing", 404, "No such file"), ("", 400, "Is a directory")])
def test_downloads_that_cannot_be(api, work, http, path: str, status: int, text: str) -> None:
    body = {"path": f"{work}/{path}", "transferDirectives": {"transferMethod": "s3"}}
    response = http.post(f"/filesystem/{api.system}/transfer/download", json=body)
    assert (response.status_code, text in response.json()["message"]) == (status, True), response.text


# Attacks on URLs


def test_altered_urls_open_nothing(api, work, http, web) -> None:
    mine, other = start(http, api, f"{work}/mine", 3), start(http, api, f"{work}/other", 3)
    part = httpx.URL(mine.parts[0]).raw_path.decode()
    path, _, query = part.partition("?")
    signature = query.partition("=")[2]
    complete = httpx.URL(mine.complete).raw_path.decode()
    ticket, foreign = TICKET.findall(mine.parts[0])[0], TICKET.findall(other.parts[0])[0]
    altered = [
        path, f"{path}?", f"{path}?signature=", f"{path}?signature={signature[:-1]}", f"{part}&x=1", f"{part}&{query}",
        f"{path}?x=1&{query}", f"{path}?Signature={signature}", f"{path}?%73ignature={signature}",
        f"{path}?signature=%{ord(signature[0]):02x}{signature[1:]}",
        f"{path}?{httpx.URL(other.parts[0]).query.decode()}", f"{path}?{httpx.URL(mine.complete).query.decode()}",
        part.replace("/1?", "/2?"), part.replace("/1?", "/01?"), part.replace("/1?", "/%31?"),
        part.replace(ticket, foreign), part.replace(ticket, f"{ticket}="), part.replace(api.system, "another"),
        part.replace(ticket, f"%{ord(ticket[0]):02x}{ticket[1:]}"), part.replace("/1?", "/1/?"),
    ]  # fmt: skip
    for url in altered:
        refused = web.put(url, content=b"bad")
        assert refused.status_code == 403, (url, refused.text)
        assert http.put(url, content=b"bad").status_code == 403  # a token does not help
    for method in ("GET", "POST", "DELETE", "PATCH"):
        assert web.request(method, part).status_code == 405
    for method, url in (("DELETE", mine.complete), ("POST", mine.abort), ("POST", complete.replace(ticket, foreign))):
        assert web.request(method, url).status_code == 403
    read_it = complete.replace("/uploads/", "/content/")
    assert web.get(read_it).status_code == web.get(part.replace("/parts/", "/content/").replace("/1?", "?")).status_code
    assert web.get(read_it).status_code == 403
    assert (mine.state, other.state) == ("PENDING", "PENDING")
    assert web.put(mine.parts[0].replace(api.system, api.system.upper()), content=b"abc").status_code == 200


def test_other_users_do_not_see_a_transfer(api, work, http) -> None:
    transfer = start(http, api, f"{work}/file", 3)
    assert http.get(f"{transfer.url}transfer-{'a' * 26}").status_code == 404
    response = http.get(f"{transfer.url}{transfer.id.upper()}")
    assert response.status_code in {400, 404}


def test_signatures_are_not_logged(api, work, http, web) -> None:
    transfer = start(http, api, f"{work}/file", 3)
    assert web.put(transfer.parts[0], content=b"abc").status_code == 200
    assert web.put(transfer.parts[0] + "x", content=b"abc").status_code == 403
    assert web.post(transfer.complete).status_code == 200
    text = api.log.read_text()
    assert "/transfer/parts/{ticket}/{part}" in text
    for url in (transfer.parts[0], transfer.complete, transfer.abort):
        assert url.rpartition("signature=")[2] not in text


def test_status_names_the_methods(api, http, part_size) -> None:
    (system,) = [one for one in http.get("/status/systems").json()["systems"] if one["name"] == api.system]
    shown = system["dataOperation"]["data_transfer"]
    assert (shown["serviceType"], shown["name"], shown["ttl"]) == ("s3", "gateway", 86400)
    assert shown["multipart"]["max_part_size"] == part_size
    body = {"path": api.home, "transferDirectives": {"transferMethod": "streamer"}}
    refused = http.post(f"/filesystem/{api.system}/transfer/download", json=body)
    assert (refused.status_code, "(available: s3, direct)" in refused.json()["message"]) == (400, True)


# Narrow tokens


def test_the_url_of_a_narrow_token_leads_nowhere_else(api, work, http, web) -> None:
    """Its holder may change links in the folder of the token, and so must not reach other files by the URL."""
    ops = f"/filesystem/{api.system}/ops"
    for name, content in (("mine/file", b"mine"), ("mine/other", b"also mine"), ("secret", b"secret")):
        made = http.put(f"{ops}/upload", params={"path": f"{work}/{name}", "parents": "true"}, content=content)
        assert made.status_code == 201, made.text
    limits = {"verbs": ["transfer"], "paths": [f"{work}/mine"]}
    token = http.post("/tokens", json=limits).json()["token"]
    with httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {token}"}, timeout=30, verify=False) as own:
        url = start(own, api, f"{work}/mine/file", None).content
    assert web.get(url).content == b"mine"
    for target, found in (("mine/other", (200, b"also mine")), ("secret", (403, None))):
        assert http.delete(f"{ops}/rm", params={"path": f"{work}/mine/file"}).status_code == 204
        link = {"path": f"{work}/{target}", "linkPath": f"{work}/mine/file"}
        assert http.post(f"{ops}/symlink", json=link).status_code == 201
        response = web.get(url)
        assert (response.status_code, response.content if found[1] else None) == found
