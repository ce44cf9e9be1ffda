"""Transfers through an object store, and copies to another cluster."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from firecrest import ClientCredentialsAuth
from firecrest.v2 import AsyncFirecrest, Firecrest

from tests.v2.conftest import Api
from tests.v2.test_large_files import Transfer, names, read, start
from tests.v2.test_pyfirecrest import Blocking

from .place import MIB, MOVERS, PATIENCE, ended, send, view

pytestmark = pytest.mark.timeout(300)


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # httpx's, about the client's own request
@pytest.mark.parametrize(("kind", "size"), [(Firecrest, 12 * MIB + 1), (AsyncFirecrest, 0), (Firecrest, 1)])
def test_pyfirecrest_uploads_and_downloads(api, work, http, tmp_path: Path, kind: Any, size: int) -> None:
    def make() -> Any:
        client = kind(api.url, ClientCredentialsAuth(api.client_id, api.secret, api.token_url), verify=False)
        client.MAX_DIRECT_UPLOAD_SIZE = 0  # no file is too small for a transfer
        return client

    client = make() if kind is Firecrest else Blocking(make)
    data, name = os.urandom(size), "it's a, $(file) \\ ü.bin"
    (tmp_path / "file").write_bytes(data)
    client.upload(api.system, str(tmp_path / "file"), work, name, account=api.account, blocking=True)
    assert names(http, api, work) == [name]
    client.download(api.system, f"{work}/{name}", str(tmp_path / "back"), account=api.account, blocking=True)
    assert (tmp_path / "back").read_bytes() == data
    if kind is Firecrest:
        client.close_session()


def test_upload_replaces_a_file(api, work, http, web, store) -> None:
    path = f"{work}/file"
    old = Path(path)
    old.write_bytes(b"old")
    old.chmod(0o640)
    data = os.urandom(5 * MIB + 7)
    following = {"workingDirectory": work, "script": "#!/bin/sh\ntrue\n"}
    if api.system == MOVERS["gateway"]:
        body = {"path": path, "transferDirectives": {"transferMethod": "s3", "fileSize": 1}}
        body["thenSubmit"] = {**following, "account": "test"}
        refused = http.post(f"/filesystem/{api.system}/transfer/upload", json=body)
        assert (refused.status_code, "no such field" in refused.json()["message"]) == (400, True), refused.text
    transfer = start(http, api, path, len(data), "s3", thenSubmit=following)
    assert all(url.startswith(store.url) for url in (*transfer.parts, transfer.complete, transfer.abort))
    assert transfer.state == "PENDING"
    assert read(http, api, path) == b"old"
    send(web, transfer, data)
    job = ended(transfer)
    assert job["status"]["state"] == "COMPLETED", job
    assert read(http, api, path) == data
    assert old.stat().st_mode & 0o777 == 0o640
    assert names(http, api, work) == ["file"]
    assert "File was successfully uploaded" in transfer.log()
    assert transfer.log("errorLog") == ""
    until = time.monotonic() + PATIENCE
    while (shown := view(http, api, transfer.id))["thenJobId"] is None:
        assert (shown["error"], time.monotonic() < until) == (None, True)
        time.sleep(0.1)
    assert http.get(f"/compute/{api.system}/jobs/{shown['thenJobId']}").status_code == 200


@pytest.mark.parametrize("right", [True, False])
def test_the_digest_that_a_client_gives(api, place, work, http, web, right: bool) -> None:
    Path(f"{work}/file").write_bytes(b"old")
    data = os.urandom(5 * MIB + 1)
    sha256 = hashlib.sha256(data if right else b"other").hexdigest()
    directives = {"transferMethod": "s3", "fileSize": len(data), "sha256": sha256.upper()}
    body = {"path": f"{work}/file", "transferDirectives": directives}
    transfer = Transfer(http, api.system, http.post(f"/filesystem/{api.system}/transfer/upload", json=body))
    send(web, transfer, data)
    ended(transfer)
    shown = view(http, api, transfer.id)
    assert shown["state"] == ("COMPLETED" if right else "FAILED"), shown
    assert read(http, api, f"{work}/file") == (data if right else b"old")
    assert names(http, api, work) == ["file"]
    if right:
        assert shown["sha256"] == sha256
    else:
        assert "does not have the SHA-256 that was given" in shown["error"] + transfer.log("errorLog")
        assert "Send the file" in shown["hint"]


@pytest.mark.parametrize("api", ["gateway"], indirect=True)
@pytest.mark.parametrize("direction", ["upload", "download"])
def test_the_progress_of_the_gateway_as_the_mover(api, work, http, web, store, direction: str) -> None:
    data = os.urandom(10 * MIB + 1)
    store.gate.go_on.clear()
    store.gate.held = f"bytes={10 * MIB}-" if direction == "upload" else "partNumber=3"  # the last part
    try:
        if direction == "upload":
            transfer = start(http, api, f"{work}/file", len(data), "s3")
            send(web, transfer, data)
        else:
            Path(f"{work}/file").write_bytes(data)
            transfer = start(http, api, f"{work}/file", None, "s3")
        until = time.monotonic() + PATIENCE
        while not (shown := view(http, api, transfer.id))["bytesDone"]:
            assert time.monotonic() < until, shown
            time.sleep(0.1)
        assert (shown["state"], shown["bytesTotal"]) == ("RUNNING", len(data)), shown
        assert shown["bytesDone"] in {5 * MIB, 10 * MIB}
    finally:
        store.gate.held = ""
        store.gate.go_on.set()
    assert ended(transfer)["status"]["state"] == "COMPLETED"
    shown = view(http, api, transfer.id)
    assert (shown["bytesDone"], shown["filesDone"]) == (len(data), None), shown


def test_a_download_says_the_digest(api, work, http) -> None:
    data = os.urandom(5 * MIB + 1)
    Path(f"{work}/it's -a file").write_bytes(data)
    transfer = start(http, api, f"{work}/it's -a file", None, "s3")
    assert ended(transfer)["status"]["state"] == "COMPLETED"
    assert view(http, api, transfer.id)["sha256"] == hashlib.sha256(data).hexdigest()


# Copies to another cluster


def other_system(api: Api) -> str:
    return next(system for system in MOVERS.values() if system != api.system)


def copy(http: httpx.Client, api: Api, path: str, target: str, **more: Any) -> str:
    body = {"path": path, "targetPath": target, "targetSystem": other_system(api), **more}
    begun = http.post(f"/filesystem/{api.system}/transfer/copy", json=body)
    assert begun.status_code == 201, begun.text
    return str(begun.json()["transferJob"]["jobId"])


def copied(http: httpx.Client, api: Api, transfer: str) -> dict[str, Any]:
    """A copy when it has ended."""
    until = time.monotonic() + PATIENCE
    while (shown := view(http, api, transfer))["state"] in {"PENDING", "RUNNING"}:
        assert time.monotonic() < until, shown
        time.sleep(0.1)
    return shown


@pytest.mark.parametrize("size", [12 * MIB + 1, 0])
def test_a_copy_goes_through_the_store(api, work, http, store, size: int) -> None:
    data = os.urandom(size)
    Path(f"{work}/file").write_bytes(data)
    before = len(store.gate.seen)
    shown = copied(http, api, copy(http, api, f"{work}/file", f"{work}/it's a copy"))
    assert shown["state"] == "COMPLETED", shown
    assert Path(f"{work}/it's a copy").read_bytes() == data
    assert shown["sha256"] == hashlib.sha256(data).hexdigest()
    assert names(http, api, work) == ["file", "it's a copy"]
    until = time.monotonic() + PATIENCE
    while "DELETE" not in store.gate.seen[before:]:  # the object is removed when the file is in its place
        assert time.monotonic() < until
        time.sleep(0.1)
    seen = [one.partition(" ")[0] for one in store.gate.seen[before:]]
    assert seen.count("PUT") >= max(1, -(-size // (5 * MIB)))


def test_a_copy_that_cannot_be_written(api, work, http, store) -> None:
    Path(f"{work}/file").write_bytes(b"new")
    before = len(store.gate.seen)
    failed = copied(http, api, transfer := copy(http, api, f"{work}/file", f"{work}/none/file"))
    assert failed["state"] == "FAILED"
    assert "No such file or directory" in failed["error"]
    assert not [one for one in store.gate.seen[before:] if one.startswith("PUT")]
    Path(f"{work}/none").mkdir()
    again = http.post(f"/filesystem/{api.system}/transfer/{transfer}/retry")
    assert again.status_code == 201, again.text
    assert copied(http, api, again.json()["transferJob"]["jobId"])["state"] == "COMPLETED"
    assert Path(f"{work}/none/file").read_bytes() == b"new"


def test_a_copy_that_is_cancelled(place, api, work, http, store) -> None:
    Path(f"{work}/file").write_bytes(b"new")
    store.gate.down = api.system != MOVERS["job"]  # the gateway as the mover tries again and again
    place[0].slurm.set(start_delay=600)  # a mover job waits
    try:
        url = f"/filesystem/{api.system}/transfer/{copy(http, api, f'{work}/file', f'{work}/copy')}"
        assert http.delete(url).status_code == 204
    finally:
        place[0].slurm.set(start_delay=0.2)
        store.gate.down = False
    assert http.get(url).json()["transfer"]["state"] == "CANCELLED"
    assert names(http, api, work) == ["file"]
