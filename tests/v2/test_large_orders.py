"""Requests of one upload in parts that come in a rare order, and an end that a killed gateway has not recorded."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .test_large_faults import RECORDS, World, complete, folder, job, names, put, relative, start, until, world
from .test_large_files import Transfer

__all__ = ["folder", "world"]

pytestmark = pytest.mark.timeout(300)


@contextmanager
def locked(world: World, transfer: Transfer) -> Iterator[Path]:
    """Hold the lock of an upload, as a request does that completes it: with heartbeats."""
    path = world.home / RECORDS / f"{transfer.id}.lock"
    stop, beats = threading.Event(), 0
    path.write_bytes(b"a" * 32 + b"%016d" % beats)

    def beat() -> None:
        nonlocal beats
        while not stop.wait(0.1):
            beats += 1
            with path.open("r+b") as file:
                file.seek(32)
                file.write(b"%016d" % beats)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield path
    finally:
        stop.set()
        thread.join()
        path.unlink()


@pytest.mark.parametrize("gateway", ["one", "two"])
def test_a_part_that_comes_while_the_upload_is_completed(world: World, folder: Path, gateway: str) -> None:
    """It would be written into a file that was verified, or that is the target by then. The part before stays."""
    transfer = start(world, "one", folder / "file", 3)
    assert put(world, "one", transfer.parts[0], b"abc") == 200
    with locked(world, transfer):
        assert put(world, gateway, transfer.parts[0], b"xyz") == 423
    assert complete(world, "one", transfer).status_code == 200
    assert (folder / "file").read_bytes() == b"abc"
    assert names(folder) == ["file"]


@pytest.mark.parametrize("data", [b"", b"abc"])
def test_a_part_that_finds_the_lock_of_a_killed_gateway(world: World, folder: Path, data: bytes) -> None:
    transfer = start(world, "one", folder / "file", len(data))
    lock = world.home / RECORDS / f"{transfer.id}.lock"
    lock.write_bytes(b"a" * 48)
    assert put(world, "one", transfer.parts[0], data) == 200
    until(lambda: not lock.exists())
    assert complete(world, "one", transfer).status_code == 200
    assert (folder / "file").read_bytes() == data


def unrecorded(world: World, gateway: str, transfer: Transfer, data: bytes) -> None:
    """Complete an upload, and leave it as a gateway does that is killed before it has recorded the end."""
    assert put(world, gateway, transfer.parts[0], data) == 200
    records = world.home / RECORDS
    parts = records / f"{transfer.id}.parts"
    content = parts.read_bytes()
    assert complete(world, gateway, transfer).status_code == 200
    until(lambda: not parts.exists())
    parts.write_bytes(content)
    (records / f"{transfer.id}.end").unlink()


@pytest.mark.parametrize("by", ["url", "job", "transfer"])
def test_cancelled_when_the_file_is_in_place(world: World, folder: Path, by: str) -> None:
    """The transfer says that the file has arrived, and not that it was cancelled."""
    data = os.urandom(3)
    transfer = start(world, "one", folder / "file", len(data))
    unrecorded(world, "one", transfer, data)
    system = world.centre.system
    urls = {"job": transfer.url + transfer.id, "transfer": f"/filesystem/{system}/transfer/{transfer.id}"}
    with world.client("two", None if by == "url" else "") as http:
        assert http.delete(urls.get(by) or relative(transfer.abort)).status_code == 204
    assert (folder / "file").read_bytes() == data
    assert job(world, "one", transfer)["state"] == "COMPLETED"


@pytest.mark.parametrize("swept", [False, True])
def test_expired_when_the_file_is_in_place(world: World, folder: Path, swept: bool) -> None:
    transfer = start(world, "two", folder / "file", 3)
    unrecorded(world, "two", transfer, b"abc")
    until(lambda: put(world, "two", transfer.parts[0], b"abc") == 403)
    if swept:  # by the next transfer of a gateway that has not swept the folder a moment ago
        begun = start(world, "two", folder / "other", 3)
        until(lambda: put(world, "two", begun.parts[0], b"abc") == 403)
        start(world, "unused", folder / "later", 3)
        until((world.home / RECORDS / f"{begun.id}.end").exists)
    assert job(world, "one", transfer)["state"] == "COMPLETED"
    assert (folder / "file").read_bytes() == b"abc"
