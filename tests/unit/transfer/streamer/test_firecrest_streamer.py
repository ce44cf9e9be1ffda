"""The client of firecrest-streamer from PyPI, unchanged, with jobs of ours."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from streamer import streamer_client as client

from .conftest import SECRET, content, names

MESSAGE = 5 * 1024 * 1024


def config(job, path: Path, secret: str = SECRET):
    found = client.set_coordinates(job.coordinates(secret).encoded())
    found.target = str(path)
    return found


def send(config: client.ClientConfig) -> None:
    asyncio.run(client.client_send(config))


def receive(config: client.ClientConfig) -> None:
    asyncio.run(client.client_receive(config))


@pytest.mark.parametrize("size", [0, 1, 2 * MESSAGE + 7])
def test_upload(run, tmp_path: Path, size: int) -> None:
    (tmp_path / "here").write_bytes(content(size))
    (tmp_path / "there").mkdir()
    job = run("upload", tmp_path / "there" / "file")
    send(config(job, tmp_path / "here"))
    assert (tmp_path / "there" / "file").read_bytes() == content(size)  # it is there when the client returns
    job.worked()
    assert names(tmp_path / "there") == ["file"]


@pytest.mark.parametrize("size", [0, 1, 2 * MESSAGE + 7])
def test_download(run, tmp_path: Path, size: int) -> None:
    (tmp_path / "there").write_bytes(content(size))
    job = run("download", tmp_path / "there")
    receive(config(job, tmp_path / "here"))
    assert (tmp_path / "here").read_bytes() == content(size)
    job.worked()


def test_a_replaced_file_keeps_its_mode_and_its_links(run, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old content")
    (tmp_path / "old").chmod(0o640)
    (tmp_path / "link").symlink_to("old")
    job = run("upload", tmp_path / "link")
    send(config(job, tmp_path / "here"))
    job.worked()
    assert (tmp_path / "old").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o640
    os.link(tmp_path / "old", tmp_path / "second")
    (tmp_path / "here").write_bytes(b"newer")
    job = run("upload", tmp_path / "old")
    send(config(job, tmp_path / "here"))
    job.worked()
    assert (tmp_path / "second").read_bytes() == b"newer"


def test_a_stranger_does_not_end_the_wait(run, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"mine")
    job = run("upload", tmp_path / "file")
    send(config(job, tmp_path / "here", "another-secret"))
    assert not (tmp_path / "file").exists()
    send(config(job, tmp_path / "here"))
    job.worked()
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_the_limit(run, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(content(1001))
    (tmp_path / "file").write_bytes(b"old")
    job = run("upload", tmp_path / "file", limit=1000)
    send(config(job, tmp_path / "here"))
    job.failed("The file has 1001 bytes; the limit is 1000 bytes.")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_client_that_cannot_write(run, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(content(3 * MESSAGE))
    (tmp_path / "here").write_bytes(b"old")
    job = run("download", tmp_path / "there", retry_timeout=0.1)
    receive(config(job, tmp_path / "here"))  # it refuses to replace a file
    job.failed("No client has come in time.")
    assert "FileNotFoundError" in job.log.read_text()  # what the client sends for it
