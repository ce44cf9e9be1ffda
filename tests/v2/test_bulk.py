"""Many files in one request, through a real gateway: archives out, and one operation on many paths."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest

from tests.live import faults

from .archives import bulk, contents, fetch, listed, packed, send
from .conftest import Api

NAMES = "plain", "with space", "-dash", "ünï", "new\nline", "back\\tslash", "'quote'", "tail ", "*"


def test_a_thousand_files_round_trip(api: Api, work: str) -> None:
    files = {f"d{n % 7}/f{n:04}": b"%d\n" % n * 100 for n in range(1000)}
    with api.http() as client:
        answer = send(client, api, work, packed(files))
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"created": 1000, "failed": [], "failures": 0}
        paths = [f"{work}/{name}" for name in files]
        response = fetch(client, api, paths)
    assert response.headers["content-type"] == "application/x-tar"
    assert response.headers["x-flamecrest-missing"] == "0"
    assert contents(response.content) == files
    told = subprocess.run(["tar", "-tf", "-"], input=response.content, capture_output=True, check=True)
    assert (len(told.stdout.splitlines()), told.stderr) == (1000, b"")


@pytest.mark.parametrize(
    ("accept", "program"),
    [
        ("application/gzip", ["tar", "-xzOf", "-"]),
        ("application/zstd", ["tar", "--zstd", "-xOf", "-"]),
        ("application/x-tar", ["tar", "-xOf", "-"]),
    ],
)
@pytest.mark.parametrize("missing", [False, True])
def test_stock_tar_reads_every_form(api: Api, work: str, accept: str, program: list[str], missing: bool) -> None:
    with api.http() as client:
        assert send(client, api, work, packed({"a": b"A" * 5000, "zeros": bytes(5000)})).json()["created"] == 2
        response = fetch(client, api, [f"{work}/a", f"{work}/zeros", *[f"{work}/none"] * missing], accept)
    assert response.headers["content-type"] == accept
    out = subprocess.run(program, input=response.content, capture_output=True, check=True)
    assert out.stderr == b""
    assert out.stdout[:10000] == b"A" * 5000 + bytes(5000)
    rest = out.stdout[10000:]
    assert (json.loads(rest)["errors"][0]["path"] == f"{work}/none") if missing else rest == b""
    assert response.headers["x-flamecrest-missing"] == str(int(missing))


def test_zip(api: Api, work: str) -> None:
    big = b"0123456789" * 100_000
    with api.http() as client:
        assert send(client, api, work, packed({"d/a": b"A", "d/big": big, "d/e": None})).json()["created"] == 3
        response = fetch(client, api, [f"{work}/d", f"{work}/none"], "application/zip;q=0.9, application/pdf")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist() if name.startswith("d/")} == {
            "d/": b"",
            "d/e/": b"",
            "d/a": b"A",
            "d/big": big,
        }
        assert json.loads(archive.read(".flamecrest-errors.json"))["errors"][0]["path"] == f"{work}/none"


def test_missing_files_are_reported_in_header_and_archive(api: Api, work: str) -> None:
    with api.http() as client:
        assert send(client, api, work, packed({"a": b"A", "shut/b": b"B", "shut/c": b"C"})).json()["created"] == 3
        chmod = {"items": [{"path": f"{work}/shut/b", "mode": "000"}]}
        assert client.post(bulk(api, "chmod"), json=chmod).json()["results"][0]["status"] == 200
        response = fetch(client, api, [f"{work}/a", f"{work}/no, ne", f"{work}/shut"])
        found = contents(response.content)
        assert fetch(client, api, [f"{work}/none", f"{work}/*.none"]).status_code == 404
    assert response.headers["x-flamecrest-missing"] == "1"
    assert response.headers["x-flamecrest-missing-paths"] == f"{work}/no%2C%20ne"
    assert list(found)[-1] == ".flamecrest-errors.json"
    errors = json.loads(found.pop(".flamecrest-errors.json") or b"")["errors"]
    assert errors[0] == {"path": f"{work}/no, ne", "message": "No such file or directory"}
    unreadable = (
        api.live or os.geteuid() != 0
    )  # the sandbox runs as the user of the tests, and root can read everything
    assert found == {"a": b"A", "shut": None, "shut/c": b"C"} | ({} if unreadable else {"shut/b": b"B"})
    assert (
        errors[1:]
        == [
            {"path": f"{work}/shut/b", "message": "Cannot open: Permission denied"},
        ][: int(unreadable)]
    )


def test_names_of_all_kinds(api: Api, work: str) -> None:
    files = {f"x/{name}": name.encode() for name in NAMES}
    with api.http() as client:
        assert send(client, api, work, packed(files)).json()["failed"] == []
        one_by_one = fetch(client, api, [f"{work}/{name}" for name in files], base=work)
        from_inside = fetch(client, api, [f"{work}/x/{name}" for name in NAMES])
        whole = fetch(client, api, [work + "/x/"])
        raw = quote_from_bytes(f"{work}/x/".encode() + b"\xff\xfe")
        body = {"encoding": "percent", "paths": [raw]}
        assert client.post(bulk(api, "download"), json=body).status_code == 404
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", encoding="utf-8", errors="surrogateescape") as archive:
            archive.addfile(tarfile.TarInfo("x/\udcff\udcfe"))
        assert send(client, api, work, out.getvalue()).json() == {"created": 1, "failed": [], "failures": 0}
        assert list(contents(client.post(bulk(api, "download"), json=body).content)) == ["\udcff\udcfe"]
    assert contents(one_by_one.content) == files
    assert contents(from_inside.content) == {name: name.encode() for name in NAMES}
    assert {name: data for name, data in contents(whole.content).items() if data is not None} == files


def test_patterns(api: Api, work: str) -> None:
    names = ["a.txt", "b.txt", "c.dat", ".h.txt", "d/e.txt", "d/f/g.txt", "d/f/.i/j.txt", "[x].txt", "x.txt"]
    with api.http() as client:
        assert send(client, api, work, packed(dict.fromkeys(names, b"."))).json()["failures"] == 0

        def matched(*patterns: str) -> set[str]:
            return set(contents(fetch(client, api, [f"{work}/{one}" for one in patterns], base=work).content))

        assert matched("*.txt") == {"a.txt", "b.txt", "[x].txt", "x.txt"}
        assert matched("[ab].*", ".h*") == {"a.txt", "b.txt", ".h.txt"}
        assert matched("[x].txt") == {"[x].txt"}  # an existing path is not a pattern
        assert matched("?/e.txt") == {"d/e.txt"}
        assert matched("**/*.txt") == {"a.txt", "b.txt", "[x].txt", "x.txt", "d/e.txt", "d/f/g.txt"}
        assert matched("d*", "d/f", "d/e.txt") == {"d", "d/e.txt", "d/f", "d/f/g.txt", "d/f/.i", "d/f/.i/j.txt"}
        deep = fetch(client, api, [f"{work}/d/f/*"])
        assert list(contents(deep.content)) == ["g.txt"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"paths": []}, 400),
        ({"paths": ["relative"]}, 400),
        ({"paths": ["/nowhere/x"]}, 400),
        ({"paths": ["{work}/a/../../x"]}, 400),
        ({"paths": ["{work}/**/../x"]}, 400),
        ({"paths": ["{work}/a"], "base": "{work}/b"}, 400),
        ({"paths": ["{work}/a"], "base": "/nowhere"}, 400),
        ({"paths": ["{work}/a\0"]}, 400),
        ({"paths": [5]}, 400),
        ({"paths": ["{work}/none"]}, 404),
        ({"paths": ["{work}/a"] * 10_001}, 400),
    ],
)
def test_invalid_downloads(api: Api, work: str, body: dict[str, Any], status: int) -> None:
    asked = json.loads(json.dumps(body).replace("{work}", work))
    with api.http() as client:
        answer = client.post(bulk(api, "download"), json=asked)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("text/html", None),
        ("application/x-tar;q=0", None),
        ("*/*;q=0", None),
        ("application/*;q=0.1, application/zip;q=0.01, application/gzip;q=0.2", "application/gzip"),
        ("application/x-tar;q=0, */*", "application/zstd"),
        ("text/html, */*;q=0.1", "application/x-tar"),
        ("", "application/x-tar"),
        (",;;q=, application/gzip;q=nan, application/zip", "application/zip"),
    ],
)
def test_accept(api: Api, work: str, accept: str, form: str | None) -> None:
    with api.http() as client:
        send(client, api, work, packed({"a": b"A"}))
        answer = fetch(client, api, [f"{work}/a"], accept)
    assert (answer.status_code, answer.headers["content-type"]) == ((200, form) if form else (406, "application/json"))


def test_client_disconnect_ends_tar(api: Api, work: str, tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(8 << 30)  # more than all buffers hold
    argv = ["tar", "-cSf", "-", "--format=gnu", "-C", str(tmp_path), "hole"]
    hole = subprocess.run(argv, capture_output=True, check=True).stdout
    with api.http() as client:
        assert send(client, api, work, hole).json()["created"] == 1
        many = {"paths": [f"{work}/hole"]}
        with client.stream("POST", bulk(api, "download"), json=many) as response:
            assert response.status_code == 200
            next(response.iter_raw())
            assert faults.running(f"--directory={work}")
        faults.until(lambda: not faults.running(f"--directory={work}"), "tar has ended")
        assert fetch(client, api, [f"{work}/none"]).status_code == 404


# --- items


def test_items(api: Api, work: str) -> None:
    with api.http() as client:

        def results(end: str, items: list[dict[str, Any]]) -> list[tuple[str, int]]:
            answer = client.post(bulk(api, end), json={"items": items})
            assert answer.status_code == 200, answer.text
            assert all(one.keys() & {"output", "message"} for one in answer.json()["results"])
            return [(one["path"].removeprefix(work), one["status"]) for one in answer.json()["results"]]

        def at(*names: str, **more: Any) -> list[dict[str, Any]]:
            return [{"path": work + name, **more} for name in names]

        made = results("mkdir", [*at("/a/b/c", "/a/b", "/a"), *at("/x/y"), *at("/p/q", parent=True)])
        assert made == [("/a/b/c", 201), ("/a/b", 201), ("/a", 201), ("/x/y", 404), ("/p/q", 201)]
        assert results("mkdir", at("/a")) == [("/a", 400)]
        bad = [{"path": "relative"}, {"path": "/nowhere/x"}, {"path": "a\0b"}, {"path": "/%zz", "encoding": "percent"}]
        assert [status for _, status in results("stat", [*at("/a", "/none"), *bad, *at("/a/b")])] == [
            200,
            404,
            400,
            400,
            400,
            400,
            200,
        ]
        assert results("chmod", [*at("/a/b", mode="700"), *at("/none", mode="u+x"), *at("/a", mode="rwx")]) == [
            ("/a/b", 200),
            ("/none", 404),
            ("/a", 400),
        ]
        send(client, api, work, packed({"a/f": b"."}))
        assert results("rm", at("/a", "/a/f", "/none", "/p")) == [
            ("/a", 204),
            ("/a/f", 204),
            ("/none", 404),
            ("/p", 204),
        ]
        assert listed(client, api, work) == []


def test_a_thousand_items(api: Api, work: str) -> None:
    items = [{"path": f"{work}/d{n}"} for n in range(1000)]
    with api.http() as client:
        for end, status in (("mkdir", 201), ("stat", 200)):
            answer = client.post(bulk(api, end), json={"items": items}).json()["results"]
            assert [(one["path"], one["status"]) for one in answer] == [(one["path"], status) for one in items]
        assert client.post(bulk(api, "stat"), json={"items": items * 11}).status_code == 400
        assert client.post(bulk(api, "stat"), json={}).status_code == 400
        assert client.post(bulk(api, "stat"), json={"items": []}).status_code == 400
        assert client.post(bulk(api, "chmod"), json={"items": items}).status_code == 400
