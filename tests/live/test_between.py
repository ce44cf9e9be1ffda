"""Synchronizations and copies over real sshd, between two systems of one gateway; jobs on real Slurm that follow them.

Both systems are the same centre. A small file system in memory is full when it has to be.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.issuer import Issuer
from tests.live.process import gateway
from tests.live.site import Site, write_settings
from tests.v2.test_tracked_transfers import Client

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

OTHER = "the-other-name"
FULL = "full-records"  # a third name, for a folder of records of its own
MIB = 1024 * 1024
PATIENCE = 120.0  # seconds


@dataclass(frozen=True)
class Place:
    """A folder of the user's, and a client."""

    client: Client
    folder: Path
    account: str

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.own()
        return path

    def own(self) -> None:
        """Everything belongs to the user."""
        owner = self.folder.stat()
        for one in self.folder.rglob("*"):
            os.chown(one, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def start(self, kind: str, source: str, target: str, **more: Any) -> httpx.Response:
        body = {"path": f"{self.folder}/{source}", "targetPath": f"{self.folder}/{target}", **more}
        return self.client.http.post(f"{self.client.url}/{kind}", json=body)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    site, root = Site.from_environment(), tmp_path_factory.mktemp("between")
    if reason := site.why_not():
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        issuer = stack.enter_context(portal.wrap_async_context_manager(Issuer(site.clients(), ttl=7200)))
        settings = site.settings(issuer, root / "secret", probing=False)
        settings["clusters"] += [{**settings["clusters"][0], "name": name} for name in (OTHER, FULL)]
        settings["transfers"] = {"part_size": MIB}
        server = stack.enter_context(gateway(write_settings(settings, root / "flamecrest.yaml"), root / "gateway.log"))
        headers = {"Authorization": f"Bearer {issuer.mint(site.user)}"}
        http = stack.enter_context(httpx.Client(base_url=server.url, headers=headers, timeout=60, verify=False))
        folder = f"{site.home(site.user)}/between-{os.getpid()}"
        client = Client(http, site, folder)
        made = http.post(f"{client.ops}/mkdir", json={"path": folder})
        assert made.status_code == 201, made.text
        stack.callback(lambda: http.delete(f"{client.ops}/rm", params={"path": folder}))
        yield Place(client, Path(folder), site.account)


def test_a_folder_goes_to_another_system_and_a_job_follows(place: Place) -> None:
    content = os.urandom(30 * MIB)
    for name, data in (("from/sub/large", content), ("from/small", b"x"), ("to/extra", b"of no use")):
        place.write(name, data)
    script = f"#!/bin/bash\ncksum < {place.folder}/to/sub/large > {place.folder}/seen\n"
    job = {"script": script, "workingDirectory": str(place.folder), "account": place.account}
    done = place.client.ended(place.start("sync", "from", "to", targetSystem=OTHER, delete=True, thenSubmit=job))
    assert (done["state"], done["bytesDone"], done["targetSystem"]) == ("COMPLETED", len(content) + 1, OTHER), done
    assert (place.folder / "to" / "sub" / "large").read_bytes() == content
    assert not (place.folder / "to" / "extra").exists()
    assert done["thenJobId"], done
    until = time.monotonic() + PATIENCE
    while not (seen := place.folder / "seen").exists() or not seen.read_text():
        assert time.monotonic() < until, place.client.http.get(f"/compute/{OTHER}/jobs/{done['thenJobId']}").text
        time.sleep(0.1)
    again = place.client.ended(place.start("sync", "from", "to", targetSystem=OTHER, delete=True))
    assert (again["state"], again["bytesDone"], again["filesDone"]) == ("COMPLETED", 0, 0)


def test_a_file_is_copied_to_another_system(place: Place) -> None:
    content = os.urandom(20 * MIB + 1)
    place.write("it's a file", content)
    old = place.write("copies/target", b"old")
    old.chmod(0o640)
    done = place.client.ended(place.start("copy", "it's a file", "copies/target", targetSystem=OTHER))
    assert (done["state"], done["sha256"]) == ("COMPLETED", hashlib.sha256(content).hexdigest()), done
    assert (old.read_bytes() == content, old.stat().st_mode & 0o777) == (True, 0o640)
    assert [one.name for one in old.parent.iterdir()] == ["target"]


@pytest.fixture
def small(place: Place) -> Iterator[Path]:
    """A folder on a file system of 4 MiB."""
    folder, owner = place.folder / "small", place.folder.stat()
    folder.mkdir()
    options = f"size=4m,uid={owner.st_uid},gid={owner.st_gid},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    folder.rmdir()


@pytest.mark.parametrize("system", [None, OTHER], ids=["one system", "two systems"])
def test_a_full_disk_is_reported_and_a_retry_goes_on(place: Place, small: Path, system: str | None) -> None:
    place.write("full/a", b"a" * 1000)
    place.write("full/large", os.urandom(6 * MIB))
    place.write("full/z", b"z" * 1000)
    (small / "large").write_bytes(b"old")
    place.own()
    given = {} if system is None else {"targetSystem": system}
    failed = place.client.ended(place.start("sync", "full", "small", **given))
    assert failed["state"] == "FAILED", failed
    assert "large: No space left on device" in failed["error"]
    assert "Free space" in failed["hint"]
    assert (small / "large").read_bytes() == b"old"
    assert {one.name for one in small.iterdir()} == {"a", "large", "z"}
    subprocess.run(["mount", "-o", "remount,size=16m", small], check=True)
    again = place.client.ended(place.client.http.post(f"{place.client.url}/{failed['id']}/retry"))
    assert (again["state"], again["filesDone"]) == ("COMPLETED", 1), again
    assert (small / "large").read_bytes() == (place.folder / "full" / "large").read_bytes()


@pytest.fixture
def records(place: Place) -> Iterator[Path]:
    """The folder of the user's records on one system, on a file system of 128 KiB."""
    owner, folder = place.folder.stat(), place.folder.parent / ".flamecrest-transfers" / FULL
    for one in (folder.parent, folder):
        one.mkdir(exist_ok=True)
        os.chown(one, owner.st_uid, owner.st_gid)
    options = f"size=128k,uid={owner.st_uid},gid={owner.st_gid},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    folder.rmdir()


def test_records_that_cannot_be_written(place: Place, records: Path) -> None:
    """Nothing begins, nothing is left behind, and the same request succeeds when there is room."""
    place.write("from/file", b"content")
    (records / "filler").write_bytes(bytes(128 * 1024))
    url, key = f"/filesystem/{FULL}/transfer", {"Idempotency-Key": "a-key"}
    upload = {"path": f"{place.folder}/new", "transferDirectives": {"transferMethod": "direct", "fileSize": 3}}
    folders = {"path": f"{place.folder}/from", "targetPath": f"{place.folder}/records"}
    requests: list[tuple[str, dict[str, Any]]] = [("upload", upload), ("sync", folders)]
    for kind, body in requests:
        for headers in ({}, key):
            refused = place.client.http.post(f"{url}/{kind}", json=body, headers=headers)
            assert (refused.status_code, "disk full" in refused.text) == (424, True), refused.text
    until = time.monotonic() + PATIENCE
    while [one.name for one in records.iterdir()] != ["filler"]:
        assert time.monotonic() < until, list(records.iterdir())
        time.sleep(0.1)
    assert not [one.name for one in place.folder.iterdir() if one.name.startswith(".")]
    (records / "filler").unlink()
    assert place.client.http.get(url).json()["transfers"] == []
    begun = place.client.http.post(f"{url}/upload", json=upload, headers=key)
    assert begun.status_code == 201, begun.text
    assert place.client.http.delete(f"{url}/{begun.json()['transferJob']['jobId']}").status_code == 204


def test_a_source_that_cannot_be_read_removes_nothing(place: Place) -> None:
    place.write("locked/open/file", b"content")
    place.write("locked/closed/file", b"content")
    place.write("kept/open/file", b"content")
    place.write("kept/closed/file", b"content")
    place.write("kept/extra", b"content")
    closed = place.folder / "locked" / "closed"
    closed.chmod(0)
    for system in ({}, {"targetSystem": OTHER}):
        failed = place.client.ended(place.start("sync", "locked", "kept", delete=True, **system))
        assert (failed["state"], "closed: Permission denied" in failed["error"]) == ("FAILED", True), failed
        assert (place.folder / "kept" / "closed" / "file").read_bytes() == b"content"
        assert not (place.folder / "kept" / "extra").exists()
    (place.folder / "locked").chmod(0)
    failed = place.client.ended(place.start("sync", "locked", "kept", delete=True, targetSystem=OTHER))
    assert (failed["state"], "Permission denied" in failed["error"]) == ("FAILED", True), failed
    (place.folder / "locked").chmod(0o700)
    closed.chmod(0o700)
    assert (place.folder / "kept" / "open" / "file").exists()


def test_a_folder_that_is_mounted_twice_is_not_emptied(place: Place) -> None:
    """Its two paths do not show that the target contains the source."""
    kept = place.write("twice/source/file", b"content")
    alias = place.folder / "alias"
    alias.mkdir()
    place.own()
    subprocess.run(["mount", "--bind", place.folder / "twice", alias], check=True)
    try:
        failed = place.client.ended(place.start("sync", "twice/source", "alias", delete=True))
    finally:
        subprocess.run(["umount", "-l", alias], check=True)
    assert (failed["state"], "contains the other" in failed["error"]) == ("FAILED", True), failed
    assert kept.read_bytes() == b"content"
