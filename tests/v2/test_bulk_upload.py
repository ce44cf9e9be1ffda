"""Archives unpacked through a real gateway: all formats, truncated archives, and hostile ones."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from .archives import bulk, contents, fetch, listed, packed, send
from .conftest import Api


def test_archive_formats(api: Api, work: str) -> None:
    files = {"a": b"A" * 3000, "d/b": b"B" * 300_000}
    plain = packed(files)
    zstd = subprocess.run(["zstd", "-q", "-c"], input=plain, capture_output=True, check=True).stdout
    forms = {
        "plain": plain,
        "gzip": gzip.compress(plain),
        "members": gzip.compress(plain[:1000]) + gzip.compress(plain[1000:]),
        "zstd": zstd,
        "pax": packed(files, format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}),
        "ustar": packed(files, format=tarfile.USTAR_FORMAT),
        "gnu": packed(files, format=tarfile.GNU_FORMAT),
    }
    with api.http() as client:
        for name, data in forms.items():
            folder = f"{work}/{name}"
            client.post(bulk(api, "mkdir"), json={"items": [{"path": folder}]})
            answer = send(client, api, folder, data)
            assert answer.json() == {"created": 2, "failed": [], "failures": 0}, (name, answer.text)
            assert contents(fetch(client, api, [f"{folder}/a", f"{folder}/d/b"], base=folder).content) == files


def test_long_names_sparse_files_and_times(api: Api, work: str) -> None:
    long = "/".join(["n" * 200] * 10)
    with api.http() as client:
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            assert send(client, api, work, packed({long: b"deep"}, format=form)).json()["failed"] == []
            answer = fetch(client, api, [f"{work}/{long}"], base=work)
            assert contents(answer.content) == {long: b"deep"}
        stat = client.post(bulk(api, "stat"), json={"items": [{"path": f"{work}/{long}"}]}).json()
        assert stat["results"][0]["output"]["mtime"] == 1_600_000_000


@pytest.mark.parametrize("form", ["gnu", "posix", "0.1", "0.0"])
def test_sparse(api: Api, work: str, form: str, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        for n in range(30):  # more than a header holds
            file.seek(n * 65536)
            file.write(b"%08d" % n * 512)
        file.truncate(3_000_000)
    options = ["--format=gnu"] if form == "gnu" else ["--format=posix"]
    if form.startswith("0"):
        options += [f"--sparse-version={form}"]
    argv = ["tar", "-cSf", "-", *options, "-C", str(tmp_path), "sparse"]
    archive = subprocess.run(argv, capture_output=True, check=True).stdout
    assert len(archive) < 1_000_000
    with api.http() as client:
        assert send(client, api, work, archive).json() == {"created": 1, "failed": [], "failures": 0}
        found = contents(fetch(client, api, [f"{work}/sparse"]).content)
    assert found == {"sparse": (tmp_path / "sparse").read_bytes()}


def entry(name: str, kind: bytes, link: str = "", content: bytes = b"", mode: int = 0o644) -> tuple[Any, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(content), mode
    return info, content


def archive_of(*entries: tuple[Any, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


FILE, LINK, HARD, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../x", FILE, content=b"evil")],
        [entry("in/../../x", FILE, content=b"evil")],
        [entry("{work}/x", FILE, content=b"evil")],
        [entry("..", FOLDER), entry("x/..", FOLDER)],
        [entry("l", LINK, ".."), entry("l/x", FILE, content=b"evil")],
        [entry("l", LINK, "{work}"), entry("l/x", FILE, content=b"evil")],
        [entry("d", FOLDER), entry("d/l", LINK, "../../x")],
        [entry("inside", FILE, content=b"."), entry("l", LINK, "inside/../..")],
        [entry("d", FOLDER), entry("d/y", LINK, "."), entry("l", LINK, "d/y/../..")],  # d/y/.. is `target`
        [entry("h", HARD, "../secret")],
        [entry("h", HARD, "{work}/secret")],
        [entry("out/secret", FILE, content=b"evil")],  # `out` is an existing link
        [entry("h", HARD, "out/secret")],
        [entry("out", FOLDER), entry("out/x", FILE, content=b"evil")],
        [entry("fifo", tarfile.FIFOTYPE), entry("dev", tarfile.CHRTYPE), entry("blk", tarfile.BLKTYPE)],
        [entry("e" * 256, FILE), entry("x/" * 2050 + "y", FILE)],
    ],
)
def test_members_outside_the_folder_are_refused(api: Api, work: str, entries: list[tuple[Any, bytes]]) -> None:
    data = archive_of(
        *[
            entry(info.name.replace("{work}", work), info.type, info.linkname.replace("{work}", work), content)
            for info, content in entries
        ]
    )
    with api.http() as client:
        items = [{"path": f"{work}/target"}]
        assert client.post(bulk(api, "mkdir"), json={"items": items}).json()["results"][0]["status"] == 201
        send(client, api, work, packed({"secret": b"mine"}))
        link = {"path": work, "linkPath": f"{work}/target/out"}
        assert client.post(f"/filesystem/{api.system}/ops/symlink", json=link).status_code == 201
        answer = send(client, api, f"{work}/target", data)
        assert answer.status_code == 200, answer.text
        assert answer.json()["failures"] > 0
        outside = [name for name in listed(client, api, work) if not name.startswith("target")]
        assert outside == ["secret"]
        assert contents(fetch(client, api, [f"{work}/secret"]).content) == {"secret": b"mine"}
        assert not [name for name in listed(client, api, work) if "flamecrest" in name]


def test_links_within_modes_and_replacement(api: Api, work: str) -> None:
    data = archive_of(
        entry("a", FILE, content=b"one"),
        entry("a", FILE, content=b"two", mode=0o6750),
        entry("d", FOLDER, mode=0o555),
        entry("d/b", FILE, content=b"B", mode=0o400),
        entry("d/l", LINK, "../a"),
        entry("h", HARD, "d/b"),
    )
    with api.http() as client:
        for setuid, mode in ((False, 0o750), (True, 0o6750)):
            answer = send(client, api, work, data, setuid=setuid)
            assert answer.json()["failed"] == []
            items = [{"path": f"{work}/{name}"} for name in ("a", "h", "d/b", "d/l")]
            found = [one["output"] for one in client.post(bulk(api, "stat"), json={"items": items}).json()["results"]]
            assert found[0]["mode"] & 0o7777 == mode
            assert found[1]["ino"] == found[2]["ino"]
            assert found[3]["mode"] & 0o170000 == 0o120000
            assert contents(fetch(client, api, [f"{work}/a"]).content) == {"a": b"two"}


def test_truncated_anywhere(api: Api, work: str) -> None:
    """Truncation before the end mark gives 400. Complete files stay; no partial or temporary file is left."""
    files = {"a": b"A" * 700, "n" * 150: b"B" * 10, "d/e": b"C" * 2000}
    data = packed(files, format=tarfile.GNU_FORMAT)
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    with api.http() as client:
        for cut in [*range(0, end + 1, 512), 1, 700, 3000]:
            folder = f"{work}/{cut}"
            client.post(bulk(api, "mkdir"), json={"items": [{"path": folder}]})
            answer = send(client, api, folder, data[:cut])
            assert answer.status_code == 400, (cut, answer.text)
            facts = answer.json()["data"]
            found = [name for name in listed(client, api, folder) if name != "d"]
            assert facts["created"] == len(found) < 4
            whole = (
                contents(fetch(client, api, [f"{folder}/{name}" for name in found], base=folder).content)
                if found
                else {}
            )
            assert whole.items() <= files.items()
        assert send(client, api, work, data[: end + 512]).status_code == 200
        squeezed = gzip.compress(data)
        for cut in (5, 12, len(squeezed) // 2, len(squeezed) - 4):
            assert send(client, api, work, squeezed[:cut]).status_code == 400
        zstd = subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout
        for cut in (len(zstd) // 2, len(zstd) - 2):
            answer = send(client, api, work, zstd[:cut])
            assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    "data",
    [
        b"no archive" * 100,
        b"\x1f\x8bno gzip",
        b"\x28\xb5\x2f\xfdno zstd",
        b"BZh91AY",
        b"PK\x03\x04" + bytes(600),
        packed({"a": b""})[:100] + b"9" * 8 + packed({"a": b""})[108:],
        gzip.compress(packed({"a": b"A"}), mtime=0)[:-8] + bytes(8),
    ],
    ids=["text", "gzip", "zstd", "bzip2", "zip", "checksum", "trailer"],
)
def test_invalid_archives(api: Api, work: str, data: bytes) -> None:
    with api.http() as client:
        answer = send(client, api, work, data)
    assert answer.status_code == 400, answer.text
    assert "archive" in answer.json()["message"].lower()


def test_decompression_bomb(api: Api, work: str) -> None:
    info = tarfile.TarInfo("bomb")
    info.size = 1 << 50
    with api.http() as client:
        assert send(client, api, work, info.tobuf(tarfile.GNU_FORMAT) + bytes(512)).status_code == 413
        assert listed(client, api, work) == []


def test_upload_needs_an_existing_folder(api: Api, work: str) -> None:
    data = packed({"a": b"A"})
    with api.http() as client:
        assert send(client, api, f"{work}/none", data).status_code == 404
        assert send(client, api, work, data).status_code == 200
        assert send(client, api, f"{work}/a", data).status_code == 400
        assert send(client, api, "/nowhere", data).status_code == 400
    assert httpx.post(api.url + bulk(api, "upload"), params={"path": work}, content=data).status_code == 401
