"""Mover jobs on nodes with few programs or a full disk, and with a store that sends what it was not asked for."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .moves import MIB, NAME, PART, Move


@pytest.fixture
def bare(move: Move, tmp_path: Path) -> Move:
    """A node without perl and openssl."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for one in (*Path("/usr/bin").iterdir(), *Path("/bin").iterdir()):
        if not one.name.startswith(("perl", "openssl")) and not (programs / one.name).is_symlink():
            (programs / one.name).symlink_to(one)
    move.path = str(programs)
    return move


def test_a_node_that_has_only_curl_and_coreutils(bare: Move) -> None:
    etag = bare.put()
    assert bare.fetch(etag, sha256=hashlib.sha256(bare.content).hexdigest()) == 0, bare.log("err")
    assert bare.target.read_bytes() == bare.content
    (bare.folder / "record.end").unlink()
    bare.upload = bare.client.create_multipart_upload(Bucket="bucket", Key=bare.key)["UploadId"]
    assert bare.send() == 0, bare.log("err")
    assert bare.client.get_object(Bucket="bucket", Key=bare.key)["Body"].read() == bare.content
    assert bare.end["sha256"] == hashlib.sha256(bare.content).hexdigest()
    assert bare.end["etag"] == etag


@pytest.mark.parametrize("wrong", ["long", "endless", "whole", "other"])
def test_a_store_that_sends_something_else(move: Move, wrong: str) -> None:
    """A part that is there stays as it is, and the one before it is fetched again."""
    etag = move.put()
    last = move.content[2 * PART :]
    move.data.write_bytes(bytes(2 * PART) + last)
    (move.folder / "record.parts").write_text(f"3 {hashlib.md5(last, usedforsecurity=False).hexdigest()}\n")
    with answering(move.content, wrong) as (url, asked):
        move.signer = Elsewhere(url)  # type: ignore[assignment]
        assert move.fetch(etag, parallel=1) == (1 if wrong == "other" else 0), move.log("err")
    if wrong == "other":
        assert "The data does not have the checksum of the object" in move.log("err")
        assert not move.target.exists()
    else:
        assert move.target.read_bytes() == move.content
        assert asked == [f"bytes={at}-{at + PART - 1}" for at in (0, PART, PART)]


class Elsewhere:
    """The URL of another store, in place of presigned ones."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, *_: object) -> str:
        return self._url


@contextmanager
def answering(content: bytes, wrong: str) -> Iterator[tuple[str, list[str]]]:
    """A server whose second answer is wrong; its address, and the ranges that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.headers["Range"])
            first, last = (int(one) for one in asked[-1].removeprefix("bytes=").split("-"))
            body = content[first : last + 1]
            if len(asked) == 2:
                self.close_connection = True
                body = {"other": bytes(len(body)), "whole": content}.get(wrong, body + bytes(MIB))
            self.send_response(200 if body is content else 206)
            chunked = wrong == "endless" and len(asked) == 2
            self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))))
            self.end_headers()
            try:
                self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body)
            except ConnectionError:
                self.close_connection = True

        def do_DELETE(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/object", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.live  # only root can mount
def test_a_disk_that_becomes_full(move: Move) -> None:
    etag = move.put()
    with ExitStack() as stack:
        disk = move.folder / "disk"
        disk.mkdir()
        try:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6M", "tmpfs", disk], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no mount here: {error}")
        stack.callback(lambda: subprocess.run(["umount", "-l", disk], check=True))
        move.data, move.target = disk / ".data", disk / NAME
        move.target.write_bytes(b"old")
        assert move.fetch(etag) == 1
        assert "The data cannot be written: No space left on device" in move.log("err")
        assert [path.name for path in disk.iterdir()] == [NAME]
        assert move.target.read_bytes() == b"old"
