"""The scripts of mover jobs, run by bash against an object store."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.store import ACCESS_KEY, REGION, SECRET_KEY, ObjectStore, object_store
from flamecrest.server.transfer.direct.parts import PartPlan
from flamecrest.server.transfer.jobs.script import TransferJob, job_script
from flamecrest.server.transfer.s3.mover_scripts import fetch_script, send_script
from flamecrest.server.transfer.s3.presign import Presigner, StoreKey

MIB = 1024 * 1024
PART = 5 * MIB
NAME = "it's a $(file) \\ ü"


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(object_store()) as found:
        yield found


@pytest.fixture(scope="module")
def client(store: ObjectStore) -> Any:
    """One for all tests, because to make it takes as long as most of them."""
    client = botocore.session.Session().create_client(
        "s3", endpoint_url=store.url, region_name=REGION,
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
    )  # fmt: skip
    client.create_bucket(Bucket="bucket")
    return client


@dataclass
class Move:
    """A record's files in a folder, and an object."""

    folder: Path
    store: ObjectStore
    client: Any
    size: int

    def __post_init__(self) -> None:
        self.store.gate.failures = 0
        self.store.gate.seen.clear()
        self.plan = PartPlan(self.size, PART)
        self.signer = Presigner(self.store.url, StoreKey(ACCESS_KEY, SECRET_KEY, REGION), "path")
        self.key = self.folder.name
        self.content = os.urandom(self.size)
        self.target, self.data, self.base = self.folder / NAME, self.folder / ".data", self.folder / "record"
        self.upload = self.client.create_multipart_upload(Bucket="bucket", Key=self.key)["UploadId"]

    def put(self) -> str:
        """Put the content into the store; its entity tag."""
        parts = []
        for number in range(1, self.plan.count + 1):
            start, size = self.plan.span(number)
            body = self.content[start : start + size]
            part = self.client.upload_part(
                Bucket="bucket", Key=self.key, UploadId=self.upload, PartNumber=number, Body=body
            )
            parts.append({"PartNumber": number, "ETag": part["ETag"]})
        done = self.client.complete_multipart_upload(
            Bucket="bucket", Key=self.key, UploadId=self.upload, MultipartUpload={"Parts": parts}
        )
        self.store.gate.seen.clear()
        return str(done["ETag"]).strip('"')

    def fetch(self, etag: str, life: int = 600, mode: int | None = 0o640, parallel: int = 2, sha256: str = "") -> int:
        self.data.touch()
        self._urls([self.signer.url(method, "bucket", self.key, life) for method in ("GET", "DELETE")])
        paths = str(self.data), str(self.target)
        script = fetch_script(str(self.base), self.plan, parallel, *paths, mode, etag, sha256)
        return self._run(TransferJob.of("upload", "uploaded", script))

    def send(self, mtime: int | None = None) -> int:
        query = {"uploadId": self.upload}
        urls = [self.signer.url(method, "bucket", self.key, 600, query) for method in ("POST", "DELETE")]
        urls.append(self.signer.url("HEAD", "bucket", self.key, 600))
        urls += self.signer.part_urls("bucket", self.key, self.upload, range(1, self.plan.count + 1), 600)
        self._urls(urls)
        mtime = int(self.target.stat().st_mtime) if mtime is None else mtime
        return self._run(
            TransferJob.of("download", "downloaded", send_script(str(self.base), self.plan, 2, str(self.target), mtime))
        )

    def _urls(self, urls: list[str]) -> None:
        (self.folder / "record.urls").write_text("".join(f"{url}\n" for url in urls))

    def _run(self, job: TransferJob) -> int:
        text = job_script("", str(self.folder), job)
        assert "X-Amz" not in text
        environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "SLURM_JOB_ID": "7", "TMPDIR": str(self.folder.parent)}
        script = self.folder / "script"
        script.write_text(text)
        done = subprocess.run(["bash", script], env=environ, capture_output=True, timeout=55, check=False)
        script.unlink()
        assert b"X-Amz" not in done.stdout + done.stderr
        return done.returncode

    @property
    def end(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "record.end").read_bytes()))

    def log(self, kind: str) -> str:
        path = self.folder / f"record.{kind}"
        return path.read_text() if path.exists() else ""

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"record.progress"}

    def in_store(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket="bucket", Prefix=self.key).get("Contents", [])
        uploads = self.client.list_multipart_uploads(Bucket="bucket", Prefix=self.key).get("Uploads", [])
        return [one["Key"] for one in (*found, *uploads)]


@pytest.fixture
def move(store: ObjectStore, client: Any, tmp_path: Path) -> Move:
    folder = tmp_path / "work"
    folder.mkdir()
    return Move(folder.rename(tmp_path / f"work-{os.urandom(4).hex()}"), store, client, 2 * PART + 3)


def test_an_object_becomes_a_file(move: Move) -> None:
    etag = move.put()
    sha256 = hashlib.sha256(move.content).hexdigest()
    assert move.fetch(etag, sha256=sha256) == 0, move.log("err")
    assert move.end["sha256"] == sha256
    assert move.target.read_bytes() == move.content
    assert move.target.stat().st_mode & 0o777 == 0o640
    assert (move.end["state"], move.end["etag"]) == ("COMPLETED", etag)
    assert "File was successfully uploaded" in move.log("log")
    assert "Job 7 " in move.log("log")
    assert move.log("err") == ""
    assert move.files == {NAME, "record.end", "record.log"}
    assert move.in_store() == []


def test_a_file_becomes_an_object(move: Move) -> None:
    move.target.write_bytes(move.content)
    assert move.send() == 0, move.log("err")
    found = move.client.get_object(Bucket="bucket", Key=move.key)
    assert found["Body"].read() == move.content
    assert move.end["state"] == "COMPLETED"
    assert move.end["etag"] == found["ETag"].strip('"')
    assert move.end["sha256"] == hashlib.sha256(move.content).hexdigest()
    assert "Multipart file upload successfully completed" in move.log("log")
    assert move.files == {NAME, "record.end", "record.log"}


def test_a_store_whose_tags_are_no_md5(move: Move) -> None:
    """It compares the MD5 itself then: of the part that was sent again, and of those after it."""
    move.target.write_bytes(move.content)
    move.store.gate.other_tags = 1
    move.store.gate.seen.clear()
    assert move.send() == 0, move.log("err")
    assert move.store.gate.other_tags == 0
    puts = [one for one in move.store.gate.seen if one.startswith("PUT")]
    assert (len(puts), puts[0], puts[-1]) == (move.plan.count + 1, "PUT", "PUT with MD5")
    found = move.client.get_object(Bucket="bucket", Key=move.key)
    assert found["Body"].read() == move.content
    assert move.end["etag"] == found["ETag"].strip('"')


def test_many_parts_that_end_at_the_same_time(store: ObjectStore, client: Any, tmp_path: Path) -> None:
    move = Move(tmp_path, store, client, 40)
    move.put()
    move.plan = PartPlan(40, 1)
    assert move.fetch("", parallel=8) == 0, move.log("err")
    assert move.target.read_bytes() == move.content


def test_a_store_that_fails_for_a_while(move: Move) -> None:
    etag = move.put()
    move.store.gate.failures = 2
    assert move.fetch(etag) == 0, move.log("err")
    assert move.target.read_bytes() == move.content
    move = Move(move.folder, move.store, move.client, 3)
    move.target.write_bytes(move.content)
    (move.folder / "record.end").unlink()
    move.client.delete_object(Bucket="bucket", Key=move.key)
    move.store.gate.failures = 1
    assert move.send() == 0, move.log("err")
    assert move.client.get_object(Bucket="bucket", Key=move.key)["Body"].read() == move.content


def test_a_job_that_is_started_again_moves_what_is_missing(move: Move) -> None:
    etag = move.put()
    first = hashlib.md5(move.content[:PART], usedforsecurity=False).hexdigest()
    damaged = hashlib.md5(b"other", usedforsecurity=False).hexdigest()
    (move.folder / "record.parts").write_text(f"1 {first}\n2 {damaged}\nx y\n")
    move.data.write_bytes(move.content[:PART])
    assert move.fetch(etag) == 0, move.log("err")
    assert move.target.read_bytes() == move.content
    assert f"GET bytes={PART}-{2 * PART - 1}" in move.store.gate.seen
    assert f"GET bytes=0-{PART - 1}" not in move.store.gate.seen


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("checksum", "The data does not have the checksum of the object"),
        ("sha256", "does not have the SHA-256 that was given"),
        ("gone", "The object, or its upload, is gone"),
        ("expired", "it has expired, or the access key may not do this"),
        ("link", "The file for the data is gone, or was replaced"),
    ],
)
def test_the_old_file_stays(move: Move, fault: str, reason: str) -> None:
    etag = move.put()
    move.target.write_bytes(b"old")
    if fault == "gone":
        move.client.delete_object(Bucket="bucket", Key=move.key)
    if fault == "link":
        (move.folder / "other").write_bytes(b"other")
        move.data.symlink_to(move.folder / "other")
    wrong = f"{'0' * 32}-3" if fault == "checksum" else etag
    sha256 = "0" * 64 if fault == "sha256" else ""
    assert move.fetch(wrong, life=-1 if fault == "expired" else 600, sha256=sha256) == 1
    assert reason in move.log("err")
    assert move.target.read_bytes() == b"old"
    assert move.end["state"] == "FAILED"
    assert "successfully" not in move.log("log")
    assert move.files - {"record.log", "other"} == {NAME, "record.end", "record.err"}
    if fault == "link":
        assert (move.folder / "other").read_bytes() == b"other"


@pytest.mark.parametrize("fault", ["time", "size", "removed"])
def test_a_file_that_changes_while_it_is_sent(move: Move, fault: str) -> None:
    move.target.write_bytes(move.content + (b"x" if fault == "size" else b""))
    mtime = int(move.target.stat().st_mtime)
    if fault == "removed":
        move.target.unlink()
    assert move.send(mtime - 1 if fault == "time" else mtime) == 1
    assert "The file was changed while it was read" in move.log("err")
    assert move.end["state"] == "FAILED"
    assert move.in_store() == []


def test_an_end_that_is_there_stays(move: Move) -> None:
    etag = move.put()
    (move.folder / "record.end").write_text('{"state": "CANCELLED", "at": 1}')
    move.fetch(etag)
    assert move.end == {"state": "CANCELLED", "at": 1}
