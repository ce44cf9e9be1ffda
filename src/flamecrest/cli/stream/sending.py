"""Send a file to a job."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from flamecrest.server.transfer.programs.streams import PIECE, Broken, Stream
from flamecrest.server.transfer.programs.websocket import BINARY, NORMAL, TEXT, Closed, Violation, WebSocket

from .connecting import Failure, Job, read_answer, send_head
from .parts import Parts

if TYPE_CHECKING:
    from pathlib import Path

PART: Final = 16 * 1024 * 1024  # bytes
MOST_PARTS: Final = 10_000  # larger files have larger parts
MESSAGE: Final = 5 * 1024 * 1024  # bytes: firecrest-streamer accepts 6.25 MiB
Advance = Callable[[int], None]  # is called with the number of bytes that were sent or received


def send(job: Job, path: Path, streams: int, retry: float, advance: Advance) -> None:
    """Send a file in parts. Raises Failure, Broken, OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size, identity = _identity(fd)
        part_size = max(PART, -(-size // MOST_PARTS))
        plan = {"size": size, "part_size": part_size, "identity": identity}
        while missing := _begin(job, plan, size, part_size, advance):

            def work(stream: Stream, number: int) -> bool:
                start = number * part_size
                return _put(job, stream, number, fd, start, min(size, start + part_size), advance)

            Parts(job, missing, work, retry).run(streams)
        if _identity(fd) != (size, identity):
            raise Failure("the file has changed while it was sent")
        _complete(job, size)
    finally:
        os.close(fd)


def _begin(job: Job, plan: dict[str, object], size: int, part_size: int, advance: Advance) -> list[int]:
    """The parts that the job does not have."""
    stream = job.connect()
    try:
        status, answer = job.ask(stream, "POST", "/transfer", plan)
    finally:
        stream.close()
    if status == 404 and answer.get("operation") == "send":
        raise Failure("this job sends a file: use `flamecrest stream receive`")
    if status != 200:
        raise Failure(str(answer.get("error", status)))
    missing = [number for number in answer.get("missing", []) if isinstance(number, int)]
    advance(max(0, size - len(missing) * part_size))
    return missing


def _put(job: Job, stream: Stream, number: int, fd: int, start: int, end: int, advance: Advance) -> bool:
    send_head(stream, job, "PUT", f"/parts/{number}", end - start + hashlib.sha256().digest_size)
    digest = hashlib.sha256()
    for offset in range(start, end, PIECE):
        piece = os.pread(fd, min(PIECE, end - offset), offset)
        if not piece or len(piece) < min(PIECE, end - offset):
            raise Failure("the file has changed while it was sent")
        digest.update(piece)
        stream.send(piece)
        advance(len(piece))
    stream.send(digest.digest())
    status, answer = read_answer(stream)
    if status not in (204, 422):
        raise Failure(str(answer.get("error", status)))
    return status == 204


def _complete(job: Job, size: int) -> None:
    stream = job.connect()
    try:
        status, answer = job.ask(stream, "POST", "/complete", {"size": size})
    except Broken:
        raise Failure("the connection was lost at the end: the log of the job says whether the file is there") from None
    finally:
        stream.close()
    if status != 200:
        raise Failure(str(answer.get("error", status)))


def send_by_websocket(websocket: WebSocket, path: Path, advance: Advance) -> None:
    """Send a file to a job of firecrest-streamer. Raises Failure, OSError."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            count = -(-size // MESSAGE)
            websocket.send(BINARY, json.dumps({"type": "init", "num_chunks": count, "file_size": size}).encode())
            digest = hashlib.sha256()
            for _ in range(count):
                message = file.read(MESSAGE)
                digest.update(message)
                websocket.send(BINARY, message)
                websocket.answer_control()
                advance(len(message))
            # firecrest-streamer compares the digest, and ends the file, only for exactly this text
            websocket.send(TEXT, b'{"type":"eof","sha256_hash":"%s"}' % digest.hexdigest().encode())
        websocket.close(NORMAL, "")
        websocket.next_message()
    except Closed as closed:
        if closed.code not in (NORMAL, 1005):
            raise Failure(f"the job has refused the file: {closed}") from None
    except (Broken, Violation) as error:
        raise Failure(f"the connection was lost: {error}") from None


def _identity(fd: int) -> tuple[int, str]:
    found = os.fstat(fd)
    return found.st_size, f"{found.st_ino:x}-{found.st_mtime_ns:x}"
