"""The scripts of mover jobs, run by bash against an object store."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from flamecrest.sandbox.store import ObjectStore
from flamecrest.server.transfer.direct.parts import PartPlan

from .moves import NAME, PART, Move


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


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_target_that_became_something_else(move: Move, kind: str) -> None:
    """A link that another user puts there could lead to any file of this user."""
    etag, other = move.put(), move.folder / "other"
    other.write_bytes(b"other")
    if kind == "link":
        move.target.symlink_to(other)
    elif kind == "folder":
        move.target.mkdir()
    else:
        os.mkfifo(move.target)
    assert move.fetch(etag) == 1
    assert move.end["state"] == "FAILED"
    assert ("leads to another file" if kind == "link" else "not a regular file") in move.log("err")
    assert other.read_bytes() == b"other"
    assert not move.data.exists()


def test_an_end_that_is_there_stays(move: Move) -> None:
    etag = move.put()
    (move.folder / "record.end").write_text('{"state": "CANCELLED", "at": 1}')
    move.fetch(etag)
    assert move.end == {"state": "CANCELLED", "at": 1}
