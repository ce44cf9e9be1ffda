"""Receive a file from a job: beside its target first, so that the target is the old file or the whole new one."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from flamecrest.server.transfer.programs.requests import HEAD_LIMIT, Head, Invalid, is_count, parse_object
from flamecrest.server.transfer.programs.streams import PIECE, Broken, Stream
from flamecrest.server.transfer.programs.websocket import NORMAL, Closed, Violation, WebSocket

from .connecting import Failure, Job
from .parts import Parts
from .sending import MOST_PARTS, PART, Advance

JSON_LIMIT = 64 * 1024  # bytes


def receive(job: Job, path: Path, streams: int, retry: float, advance: Advance) -> None:
    """Receive a file in parts; those of an earlier attempt are kept. Raises Failure, Broken, OSError."""
    stream = job.connect()
    try:
        status, answer = job.ask(stream, "GET", "/transfer", {})
    finally:
        stream.close()
    if status == 404 and answer.get("operation") == "receive":
        raise Failure("this job receives a file: use `flamecrest stream send`")
    size, identity = answer.get("size"), answer.get("identity")
    if status != 200 or not is_count(size) or not isinstance(identity, str):
        raise Failure(str(answer.get("error", status)))
    partial = Partial(path, int(size or 0), identity)
    advance(partial.bytes_done())
    try:
        partial.fetch(job, streams, retry, advance)
        _complete(job, partial.size)
        partial.land()
    finally:
        os.close(partial.fd)


class Partial:
    """A file beside its target, and beside it a list of the parts that it has."""

    def __init__(self, path: Path, size: int, identity: str) -> None:
        self.target, self.size, self.identity = path, size, identity
        self.part_size = max(PART, -(-size // MOST_PARTS))
        self.path = path.with_name(f".{path.name}.flamecrest-part")
        self.list = path.with_name(f".{path.name}.flamecrest-parts")
        self.done = self._earlier()
        self.lock = threading.Lock()
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | (0 if self.done else os.O_TRUNC), 0o666)

    def _earlier(self) -> set[int]:
        """The parts of an earlier attempt at the same file."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self.list.read_text(encoding="utf-8"))
            same = (kept["size"], kept["identity"]) == (self.size, self.identity) and self.path.is_file()
            return {int(number) for number in kept["done"]} if same else set()
        return set()

    def bytes_done(self) -> int:
        return sum(self._end(number) - number * self.part_size for number in self.done)

    def _end(self, number: int) -> int:
        return min(self.size, (number + 1) * self.part_size)

    def fetch(self, job: Job, streams: int, retry: float, advance: Advance) -> None:
        """Receive the parts that are missing."""

        def work(stream: Stream, number: int) -> bool:
            right = self._get(job, stream, number, advance)
            if right:
                self._note(number)
            return right

        numbers = range(-(-self.size // self.part_size))
        Parts(job, [number for number in numbers if number not in self.done], work, retry).run(streams)

    def _get(self, job: Job, stream: Stream, number: int, advance: Advance) -> bool:
        offset, end = number * self.part_size, self._end(number)
        job.request(stream, "GET", f"/bytes/{offset}-{end}")
        head = Head(stream.read_head(HEAD_LIMIT))
        if head.first[1] != "200":
            raise Failure(f"the job answers {' '.join(head.first[1:])}")
        digest = hashlib.sha256()
        while offset < end:
            piece = stream.read(min(PIECE, end - offset))
            os.pwrite(self.fd, piece, offset)
            digest.update(piece)
            offset += len(piece)
            advance(len(piece))
        return stream.read_exactly(digest.digest_size) == digest.digest()

    def _note(self, number: int) -> None:
        with self.lock:
            self.done.add(number)
            text = json.dumps({"size": self.size, "identity": self.identity, "done": sorted(self.done)})
            new = self.list.with_name(self.list.name + "~")
            new.write_text(text, encoding="utf-8")
            new.replace(self.list)

    def land(self) -> None:
        """Put the file in place."""
        os.ftruncate(self.fd, self.size)
        os.fsync(self.fd)
        self.path.replace(self.target)
        self.list.unlink(missing_ok=True)


def _complete(job: Job, size: int) -> None:
    """Tell the job that the file has arrived; it says whether the file has changed since."""
    stream = job.connect()
    try:
        status, answer = job.ask(stream, "POST", "/complete", {"size": size})
    finally:
        stream.close()
    if status != 200:
        raise Failure(str(answer.get("error", status)))


def receive_by_websocket(websocket: WebSocket, path: Path, advance: Advance) -> None:
    """Receive a file from a job of firecrest-streamer. Raises Failure, OSError."""
    temporary = path.with_name(f".{path.name}.flamecrest-part")
    try:
        with temporary.open("wb") as file:
            websocket.next_message()
            size = _object(websocket).get("file_size")
            if not is_count(size):
                raise Failure("the job has not sent the size of the file")
            digest, left = hashlib.sha256(), int(size or 0)
            for piece in _content(websocket, left):
                file.write(piece)
                digest.update(piece)
                advance(len(piece))
            websocket.next_message()
            if _object(websocket).get("sha256_hash") != digest.hexdigest():
                raise Failure("the SHA-256 of the received bytes is not the one that the job has sent")
            file.flush()
            os.fsync(file.fileno())
        websocket.close(NORMAL, "")
        temporary.replace(path)
    except Closed as closed:
        raise Failure(f"the job has ended the transfer: {closed}") from None
    except (Broken, Violation, Invalid) as error:
        raise Failure(f"the connection was lost: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _content(websocket: WebSocket, left: int) -> Iterator[bytes]:
    while left:
        websocket.next_message()
        while piece := websocket.read(PIECE):
            if len(piece) > left:
                raise Failure("the job has sent more bytes than it has announced")
            left -= len(piece)
            yield piece


def _object(websocket: WebSocket) -> dict[str, Any]:
    return parse_object(websocket.read_message(JSON_LIMIT))
