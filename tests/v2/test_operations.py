"""The file operations beyond FirecREST v2, through a real gateway: requests, responses and permissions."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.live import faults

from .conftest import Api


@pytest.fixture
def client(api: Api) -> Iterator[httpx.Client]:
    with api.http() as client:
        client.base_url = f"{api.url}/filesystem/{api.system}/ops/"
        yield client


def put(client: httpx.Client, folder: str, name: str, data: bytes = b"text\n") -> str:
    sent = client.post("upload", params={"path": folder}, files={"file": (name, data)})
    assert sent.status_code == 204, sent.text
    return f"{folder}/{name}"


def said(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    message: str = response.json()["message"]
    return message


def names(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [one["name"] for one in response.json()["output"]]


def test_mv_and_cp(client: httpx.Client, work: str) -> None:
    path = put(client, work, "a", b"12345")
    moved = client.post("mv", json={"sourcePath": path, "targetPath": f"{work}/b"})
    assert moved.status_code == 200
    assert (moved.json()["output"]["name"], moved.json()["output"]["size"]) == (f"{work}/b", "5")
    copied = client.post("cp", json={"path": f"{work}/b", "target_path": f"{work}/c"})
    assert copied.status_code == 201
    assert copied.json()["output"]["name"] == f"{work}/c"
    for operation in ("mv", "cp"):
        body: dict[str, Any] = {"path": f"{work}/b", "targetPath": f"{work}/c"}
        assert "File exists" in said(client.post(operation, json=body), 400)
        assert "No such file" in said(client.post(operation, json=body | {"path": f"{work}/none"}), 404)
        for wrong in ("relative", "/etc/x", f"{work}/../../../../etc/x"):
            assert "targetPath" in said(client.post(operation, json=body | {"targetPath": wrong}), 400)
        assert client.post(operation, json=body | {"overwrite": "maybe"}).status_code == 400
    assert client.post("mv", json=body | {"overwrite": True}).status_code == 200
    assert names(client.get("ls", params={"path": work})) == ["c"]


def test_mkdir_touch_truncate_links(client: httpx.Client, work: str) -> None:
    for _ in range(2):
        assert client.post("mkdir", json={"path": f"{work}/d", "existOk": True}).status_code == 201
    assert "File exists" in said(client.post("mkdir", json={"path": f"{work}/d"}), 400)
    touched = client.post("touch", json={"path": f"{work}/f", "mtime": 1_000_000_000})
    assert touched.status_code == 200
    assert client.post("truncate", json={"path": f"{work}/f", "size": 7}).json()["output"]["size"] == "7"
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("touch", {"mtime": 2**32}),
        ("touch", {"mtime": -1}),
        ("touch", {"mtime": "now"}),
        ("truncate", {}),
        ("truncate", {"size": -1}),
        ("truncate", {"size": 2**63}),
    ]
    for operation, body in wrong:
        assert client.post(operation, json={"path": f"{work}/f", **body}).status_code == 400
    link = {"path": f"{work}/f", "linkPath": f"{work}/d/l", "relative": True}
    assert client.post("symlink", json=link).json()["output"]["linkTarget"] == "../f"
    given = {"path": "../f", "linkPath": f"{work}/d/m", "relative": True}
    assert client.post("symlink", json=given).json()["output"]["linkTarget"] == "../f"
    assert "`path`" in said(client.post("symlink", json=given | {"relative": False}), 400)
    for out in ("../" * 40 + "etc/passwd", ""):
        assert "`path`" in said(client.post("symlink", json=given | {"path": out, "linkPath": f"{work}/o"}), 400)


def test_space_and_checksums(client: httpx.Client, work: str) -> None:
    path = put(client, work, "f", b"x" * 1000)
    space = client.get("df", params={"path": work}).json()["output"]
    assert 0 < space["available"] <= space["total"]
    assert space["quota"] is None or {"user", "group"} == set(space["quota"])
    usage = client.get("du", params={"path": work}).json()["output"]
    assert usage["entries"] == 2
    assert usage["size"] > 1000
    assert usage["complete"] is True
    program = {"md5": "MD5", "sha1": "SHA1", "sha256": "SHA256", "sha512": "SHA512", "blake2b": "BLAKE2b"}
    for algorithm, name in program.items():
        found = client.get("checksum", params={"path": path, "algorithm": algorithm}).json()["output"]
        assert found["algorithm"] == name
    assert client.get("checksum", params={"path": path}).json()["output"]["algorithm"] == "SHA256"
    for wrong in ("", "MD5", "sha3", "sha256; id", "--help"):
        assert client.get("checksum", params={"path": path, "algorithm": wrong}).status_code == 400


def test_listings(client: httpx.Client, work: str) -> None:
    for number in range(7):
        put(client, work, f"f{number}.txt", b"x" * number)
    put(client, work, "other.log")
    shown: dict[str, Any] = {"path": work, "glob": "f*.txt", "limit": 3, "sort": "-size"}
    seen, cursor = [], None
    while True:
        page = client.get("ls", params=shown | ({"cursor": cursor} if cursor else {}))
        seen.append(names(page))
        cursor = page.json()["nextCursor"]
        if cursor is None:
            break
    assert seen == [["f6.txt", "f5.txt", "f4.txt"], ["f3.txt", "f2.txt", "f1.txt"], ["f0.txt"]]
    assert "nextCursor" not in client.get("ls", params={"path": work}).json()
    first = client.get("ls", params=shown).json()["nextCursor"]
    for wrong in (
        {"sort": "name"},
        {"cursor": "x"},
        {"cursor": "%00"},
        {"cursor": "é"},
        {"cursor": first[:9]},
        {"sort": "owner"},
        {"type": "f"},
        {"limit": 0},
        {"limit": 10**6},
        {"glob": ""},
        {"glob": "x" * 300},
    ):
        assert client.get("ls", params={**shown, "cursor": first, **wrong}).status_code == 400, wrong  # fmt: skip
    assert names(client.get("ls", params={"path": work, "glob": "*a" * 100 + "b"})) == []


def test_listings_as_lines(client: httpx.Client, work: str) -> None:
    for number in range(5):
        put(client, work, f"f{number}")
    accept = {"Accept": "application/x-ndjson"}
    answer = client.get("ls", params={"path": work}, headers=accept)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted(lines, key=lambda one: one["name"]) == client.get("ls", params={"path": work}).json()["output"]
    page = client.get("ls", params={"path": work, "limit": 2}, headers=accept)
    assert [json.loads(line)["name"] for line in page.text.splitlines()] == ["f0", "f1"]
    rest = client.get("ls", params={"path": work, "cursor": page.headers["x-next-cursor"]}, headers=accept)
    assert [json.loads(line)["name"] for line in rest.text.splitlines()] == ["f2", "f3", "f4"]
    assert "No such file" in said(client.get("ls", params={"path": f"{work}/none"}, headers=accept), 404)


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Server-sent events, as a browser reads them; comments are left out."""
    one: dict[str, Any] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            if name:
                one[name] = json.loads(value) if name == "data" else value
        else:
            if "data" in one:
                yield one
            one = {}


def test_tail_follows(client: httpx.Client, api: Api, work: str) -> None:
    path = put(client, work, "log", b"one\ntwo\n")
    asked: dict[str, Any] = {"path": path, "follow": "true", "lines": 1}
    with api.http() as other:
        other.base_url = client.base_url
        with client.stream("GET", "tail", params=asked) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream"
            seen = events(answer.iter_lines())
            first = next(seen)
            assert first["data"] == {"content": "two\n", "startPosition": 4, "endPosition": 8}
            other.post("truncate", json={"path": path, "size": 10})
            second = next(seen)
            assert second["data"]["content"] == "\0\0"
            other.post("truncate", json={"path": path, "size": 3})
            assert next(seen)["event"] == "truncated"
            assert next(seen)["data"]["content"] == "one"
        other.post("truncate", json={"path": path, "size": 10})
        with client.stream("GET", "tail", params=asked, headers={"Last-Event-ID": first["id"]}) as answer:
            assert next(events(answer.iter_lines()))["data"]["startPosition"] == 8


def test_tail_refuses_other_file_types(client: httpx.Client, work: str) -> None:
    path = put(client, work, "log")
    hostile: list[Any] = ["x", "-", "1-2-3", "1" * 17 + "-0", "٣-٣".encode(), b"1-2\xff"]
    for wrong in hostile:
        answer = client.get("tail", params={"path": path, "follow": "true"}, headers={"Last-Event-ID": wrong})
        assert "Last-Event-ID" in said(answer, 400)
    for also in ({"bytes": 3}, {"skipHeading": "true"}, {"lines": 0}):
        assert client.get("tail", params={"path": path, "follow": "true", **also}).status_code == 400
    assert said(client.get("tail", params={"path": work, "follow": "true"}), 400)
    assert said(client.get("tail", params={"path": f"{work}/none", "follow": "true"}), 404)
    assert client.get("tail", params={"path": "/etc/passwd", "follow": "true"}).status_code == 400


def test_request_timeout_parameter(client: httpx.Client, work: str) -> None:
    path = put(client, work, "f")
    big = client.post("truncate", json={"path": path, "size": 2**40})
    assert big.status_code == 200
    ways: list[dict[str, Any]] = [{"params": {"timeout": "0.6"}}, {"headers": {"Request-Timeout": "0.6"}}]
    for asked in ways:
        params = {"path": path, **asked.get("params", {})}
        message = said(client.get("checksum", params=params, headers=asked.get("headers")), 408)
        assert "timeout=" in message
        assert "/jobs" in message
    for wrong in ("0", "-1", "301", "nan", "inf", "1e400", "x", "", "1" * 40):
        assert client.get("checksum", params={"path": path, "timeout": wrong}).status_code == 400, wrong
        if wrong:
            refused = client.get("checksum", params={"path": path}, headers={"Request-Timeout": wrong})
            assert "Request-Timeout" in said(refused, 400)
    for operation in ("cp", "compress", "extract"):
        body = {"path": path, "targetPath": f"{work}/t"}
        slow = client.post(operation, json=body, params={"timeout": "0.0001"})
        assert f"/transfer/{operation}" in said(slow, 408)
    assert "/transfer/rm" in said(client.delete("rm", params={"path": work, "timeout": "0.0001"}), 408)


def test_client_disconnect_ends_remote_work(client: httpx.Client, work: str) -> None:
    path = put(client, work, "f")
    client.post("truncate", json={"path": path, "size": 2**40})
    asked = client.build_request("GET", "checksum", params={"path": path, "timeout": "300"})
    head = "".join(f"{name}: {value}\r\n" for name, value in asked.headers.items())
    with socket.create_connection((asked.url.host, asked.url.port)) as connection:
        connection.sendall(f"GET {asked.url.raw_path.decode()} HTTP/1.1\r\n{head}\r\n".encode())
        faults.until(lambda: faults.running(f"sha256sum -b -- {path}"), "the checksum has begun")
    faults.until(lambda: not faults.running(f"sha256sum -b -- {path}"), "the checksum's process has ended")


def test_an_upload_in_the_place_of_a_folder(client: httpx.Client, work: str) -> None:
    """The error says what to send instead, for each way to send a file."""
    there = f"{work}/there"
    assert client.post("mkdir", json={"path": there}).status_code == 201
    itself = f"upload: {there}: Is a directory. The path must be that of the file itself, such as {there}/NAME"
    for data in (b"small", b"x" * 300_000):  # by the agent, and by SFTP
        assert said(client.put("upload", params={"path": there}, content=data), 400) == itself
        form = {"file": ("there", data)}
        advice = f"Give the file another name; to put it into that folder, send path={there}"
        message = said(client.post("upload", params={"path": work}, files=form), 400)
        assert message == f"upload: {there}: Is a directory. {advice}"
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "3"}
    tus["Upload-Metadata"] = f"path {base64.b64encode(there.encode()).decode()}"
    assert said(client.post("../uploads", headers=tus), 400) == itself
    for method in ("direct", "s3"):
        body = {"path": there, "transferDirectives": {"transferMethod": method, "fileSize": 3}}
        assert said(client.post("../transfer/upload", json=body), 400) == itself
        inside = said(client.post("../transfer/upload", json=body | {"path": f"{there}/"}), 400)
        assert inside.endswith(f" such as {there}/NAME")
    assert names(client.get("ls", params={"path": there})) == []


@pytest.mark.parametrize("data", [b"small", b"x" * 300_000], ids=["agent", "SFTP"])
def test_a_form_whose_path_is_no_folder(client: httpx.Client, work: str, data: bytes) -> None:
    """Who gives the path of the file itself is told that it is that of the folder."""
    file = put(client, work, "file")
    for path in (file, f"{work}/none"):
        message = said(client.post("upload", params={"path": path}, files={"file": ("file", data)}), 404)
        assert message.startswith(f"upload: {path}/file: No such file or directory. `path` must be the folder")
        assert message.endswith(f", and it must exist: {path}")
    assert names(client.get("ls", params={"path": work})) == ["file"]
