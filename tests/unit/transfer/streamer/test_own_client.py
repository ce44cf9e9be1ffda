"""`flamecrest stream`, with jobs of ours and with servers of firecrest-streamer from PyPI."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flamecrest.cli.main import app
from flamecrest.cli.stream import receiving, sending
from flamecrest.cli.stream.connecting import Failure, find_job
from flamecrest.server.transfer.streamer.coordinates import Coordinates

from .conftest import SECRET, content, names

PART = 16 * 1024 * 1024
SIZES = [0, PART + 7]


def stream(command: str, path: Path, coordinates: str, *options: str) -> Result:
    arguments = ["stream", command, "--wait", "40", *options, str(path)]
    return CliRunner().invoke(app, arguments, env={"FLAMECREST_COORDINATES": coordinates})


@pytest.mark.parametrize("size", SIZES)
def test_send(run, tmp_path: Path, size: int) -> None:
    (tmp_path / "here").write_bytes(content(size))
    (tmp_path / "there").mkdir()
    job = run("upload", tmp_path / "there" / "file", require_tls=True)
    done = stream("send", tmp_path / "here", job.coordinates().encoded())
    assert done.exit_code == 0, done.output
    job.worked()
    assert (tmp_path / "there" / "file").read_bytes() == content(size)
    assert names(tmp_path / "there") == ["file"]


@pytest.mark.parametrize("size", SIZES)
def test_receive(run, tmp_path: Path, size: int) -> None:
    (tmp_path / "there").write_bytes(content(size))
    (tmp_path / "here").mkdir()
    job = run("download", tmp_path / "there", require_tls=True)
    done = stream("receive", tmp_path / "here" / "file", job.coordinates().encoded())
    assert done.exit_code == 0, done.output
    job.worked()
    assert (tmp_path / "here" / "file").read_bytes() == content(size)
    assert names(tmp_path / "here") == ["file"]


@pytest.mark.parametrize("form", ["answer", "text", "standard input"])
def test_coordinates(run, tmp_path: Path, form: str) -> None:
    (tmp_path / "there").write_bytes(b"abc")
    job = run("download", tmp_path / "there")
    text = job.coordinates().encoded()
    if form == "answer":
        text = json.dumps({"transferDirectives": {"transferMethod": "streamer", "coordinates": text}})
    (tmp_path / "given").write_text(text)
    given = "-" if form == "standard input" else str(tmp_path / "given")
    arguments = ["stream", "receive", "--coordinates", given, str(tmp_path / "here")]
    done = CliRunner().invoke(app, arguments, input=text)
    assert (done.exit_code, (tmp_path / "here").read_bytes()) == (0, b"abc"), done.output


def test_invalid_coordinates(tmp_path: Path) -> None:
    for text in ("", "x", "eyJ9", "{}", '{"transferDirectives": {}}'):
        done = stream("send", tmp_path / "file", text)
        assert (done.exit_code, "no valid coordinates" in done.stderr) == (1, True)


def test_an_answer_that_refuses_the_transfer(tmp_path: Path) -> None:
    refusal = {"errorType": "validation", "message": "the method streamer is not available (available: s3)"}
    done = stream("send", tmp_path / "file", json.dumps(refusal))
    assert (done.exit_code, "refused the transfer: the method streamer is not available" in done.stderr) == (1, True)


@pytest.mark.parametrize(("verb", "command"), [("upload", "receive"), ("download", "send")])
def test_the_wrong_direction(run, tmp_path: Path, verb: str, command: str) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    job = run(verb, tmp_path / "file")
    done = stream(command, tmp_path / "file", job.coordinates().encoded())
    assert (done.exit_code, "use `flamecrest stream" in done.stderr) == (1, True)


def test_another_job_does_not_get_the_secret(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    job, other = run("download", tmp_path / "file"), run("download", tmp_path / "file")
    confused = Coordinates(("127.0.0.1",), (other.port, other.port), SECRET, job.certificate)
    done = stream("receive", tmp_path / "here", confused.encoded(), "--wait", "0")
    assert (done.exit_code, "no job listens" in done.stderr) == (1, True)


def test_the_limit(run, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(content(1001))
    job = run("upload", tmp_path / "file", limit=1000)
    done = stream("send", tmp_path / "here", job.coordinates().encoded())
    assert (done.exit_code, "the limit is 1000 bytes" in done.stderr) == (1, True)
    job.failed("the limit is 1000 bytes")


class Enough(Exception):
    """The client was killed."""


def stop_after(size: int) -> Callable[[int], None]:
    seen = [0]

    def advance(count: int) -> None:
        seen[0] += count
        if seen[0] >= size:
            raise Enough

    return advance


def test_an_interrupted_upload_goes_on(run, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(content(3 * PART))
    job = run("upload", tmp_path / "file")
    found = find_job(job.coordinates(), 30, lambda: None)
    with pytest.raises(Enough):
        sending.send(found, tmp_path / "here", 1, 5, stop_after(PART + 1))
    counted: list[int] = []
    sending.send(found, tmp_path / "here", 2, 5, counted.append)
    job.worked()
    assert (tmp_path / "file").read_bytes() == content(3 * PART)
    assert counted[0] == PART  # the first part was there


def test_an_interrupted_download_goes_on(run, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(content(3 * PART))
    job = run("download", tmp_path / "there")
    found = find_job(job.coordinates(), 30, lambda: None)
    (tmp_path / "here").mkdir()
    with pytest.raises(Enough):
        receiving.receive(found, tmp_path / "here" / "file", 1, 5, stop_after(PART + 1))
    assert names(tmp_path / "here") == [".file.flamecrest-part", ".file.flamecrest-parts"]
    counted: list[int] = []
    receiving.receive(found, tmp_path / "here" / "file", 2, 5, counted.append)
    job.worked()
    assert (tmp_path / "here" / "file").read_bytes() == content(3 * PART)
    assert counted[0] == PART
    assert names(tmp_path / "here") == ["file"]


def test_a_file_that_changes_is_not_received(run, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(content(2 * PART))
    job = run("download", tmp_path / "there")
    found = find_job(job.coordinates(), 30, lambda: None)
    with pytest.raises(Enough):
        receiving.receive(found, tmp_path / "here", 1, 5, stop_after(PART + 1))
    os.utime(tmp_path / "there", (1, 1))
    with pytest.raises(Failure, match="has changed"):
        receiving.receive(found, tmp_path / "here", 2, 0, lambda _: None)
    job.failed("The file has changed while it was sent.")
    assert not (tmp_path / "here").exists()


@pytest.fixture
def firecrest(tmp_path: Path) -> Iterator[Callable[..., Coordinates]]:
    """Start a server of firecrest-streamer."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(operation: str, path: Path) -> Coordinates:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = ["--secret", SECRET, "--host", "127.0.0.1", "--port-range", str(port), str(port)]
        argv = [sys.executable, "-m", "streamer", "server", *given, operation, "--path", str(path)]
        processes.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL))
        return Coordinates(("127.0.0.1",), (port, port), SECRET)

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("size", [0, 5 * 1024 * 1024 + 3])
def test_a_server_of_firecrest(firecrest, tmp_path: Path, size: int) -> None:
    (tmp_path / "here").write_bytes(content(size))
    done = stream("send", tmp_path / "here", firecrest("receive", tmp_path / "there").encoded())
    assert done.exit_code == 0, done.output
    until = time.monotonic() + 30
    while (tmp_path / "there").read_bytes() != content(size):
        assert time.monotonic() < until
        time.sleep(0.02)
    done = stream("receive", tmp_path / "back", firecrest("send", tmp_path / "here").encoded())
    assert done.exit_code == 0, done.output
    assert (tmp_path / "back").read_bytes() == content(size)


def test_a_server_of_firecrest_that_refuses(firecrest, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"abc")
    (tmp_path / "there").write_bytes(b"old")
    done = stream("send", tmp_path / "here", firecrest("receive", tmp_path / "there").encoded())
    assert (done.exit_code, "3003" in done.stderr) == (1, True)
