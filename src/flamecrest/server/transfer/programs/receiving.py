"""The program of a job that receives a file: by firecrest-streamer's protocol, or in parts from several connections."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from typing import Any

from .progress import Meter
from .replacing import Refused, Replacement, find_target, reason, write_at
from .requests import Head, answer, answer_json, is_count, read_json
from .running import log, run
from .server import serve
from .streams import PIECE, Broken, Stream
from .websocket import INTERNAL_ERROR, NORMAL, TOO_BIG, Closed, Violation, WebSocket

MESSAGE_LIMIT = 64 * 1024  # bytes of a message that is JSON
MOST_PARTS = 1000000
DIGEST = 32  # bytes of a SHA-256, which follows the bytes of a part


class Receiving:
    """One file, to its target."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.path = base64.b64decode(options["path"])
        self.limit = options["limit"]
        self.done = False
        self.file: Replacement | None = None
        self.plan: dict[str, Any] = {}
        self.missing: set[int] = set()
        self.meter = Meter(0)
        self.writing = 0  # parts that are being written
        self.lock = threading.RLock()
        find_target(self.path)  # the job fails at once if it cannot write there

    def discard(self) -> None:
        self.lock.acquire()  # and never released: no thread creates another file before the program has ended
        self.drop()

    def drop(self) -> None:
        """Remove what has been received."""
        with self.lock:
            if self.file is not None:
                self.file.discard()
                self.file = None
            self.plan = {}

    def begin(self, size: int) -> Replacement:
        """A new temporary file for that many bytes."""
        if self.limit is not None and size > self.limit:
            raise Refused(f"The file has {size} bytes; the limit is {self.limit} bytes.")
        name = b".flamecrest-upload-" + base64.b16encode(os.urandom(8)).lower()
        with self.lock:
            self.drop()
            self.file = file = Replacement(self.path, os.getcwdb(), name)
            file.create()
            self.meter = Meter(size)
        return file

    def finish(self, file: Replacement, size: int) -> None:
        """Put the file in place."""
        with self.lock:
            file.commit()
            self.file = None
        log(f"{size} bytes were received.")
        self.done = True

    def by_websocket(self, websocket: WebSocket) -> None:
        try:
            self.receive(websocket)
        except Refused as error:
            end(websocket, TOO_BIG if "limit is" in str(error) else INTERNAL_ERROR, str(error))
            raise
        except OSError as error:
            end(websocket, INTERNAL_ERROR, reason(error))
            raise
        except Violation as error:
            end(websocket, error.code, str(error))
            raise
        else:
            end(websocket, NORMAL, "")
        finally:
            self.drop()

    def receive(self, websocket: WebSocket) -> None:
        """The first message has the size, then comes the content, and after it the SHA-256."""
        websocket.next_message()
        first = object_in(websocket.read_message(MESSAGE_LIMIT))
        announced = first.get("file_size")
        if first.get("type") != "init" or not is_count(announced):
            raise Violation("the first message does not have the size of the file")
        size = int(announced or 0)
        file = self.begin(size)
        received, digest = 0, hashlib.sha256()
        while received < size:
            websocket.next_message()
            piece = websocket.read(PIECE)
            while piece:
                if received + len(piece) > size:
                    raise Violation("more bytes have come than were announced")
                write_at(file.fd, piece, received)
                digest.update(piece)
                received += len(piece)
                self.meter.note(received)
                piece = websocket.read(PIECE)
        websocket.next_message()
        last = object_in(websocket.read_message(MESSAGE_LIMIT))
        if last.get("type") != "eof":
            raise Violation("more bytes have come than were announced")
        if last.get("sha256_hash") != digest.hexdigest():
            raise Refused("The SHA-256 of the received bytes is not the one that the client has sent.")
        self.finish(file, received)

    def by_request(self, stream: Stream, head: Head) -> None:
        method, target = head.first[:2]
        if method == "POST" and target == "/transfer":
            self.start(stream, read_json(stream, head))
        elif method == "PUT" and target.startswith("/parts/"):
            self.put(stream, head, target[7:])
        elif method == "POST" and target == "/complete":
            self.complete(stream, read_json(stream, head))
        else:
            answer_json(stream, 404, {"error": "not found; this job receives a file", "operation": "receive"})
            raise Broken("a request for something else")

    def start(self, stream: Stream, wanted: dict[str, Any]) -> None:
        """Begin an upload, or go on with the same one: the parts that are missing."""
        plan: dict[str, Any] = {name: wanted.get(name) for name in ("size", "part_size", "identity")}
        if not is_plan(plan):
            answer_json(stream, 400, {"error": "an invalid size or part_size"})
            raise Broken("an invalid request")
        with self.lock:
            if self.plan != plan and self.writing:
                answer_json(stream, 409, {"error": "another file is being received"})
                raise Broken("a second upload")
            try:
                if self.plan != plan:
                    self.begin(int(plan["size"]))
                    self.plan = plan
                    self.missing = set(range(-(-int(plan["size"]) // int(plan["part_size"]))))
            except Refused as error:
                answer_json(stream, 413, {"error": str(error)})
                raise
            answer_json(stream, 200, {"operation": "receive", "missing": sorted(self.missing)})

    def put(self, stream: Stream, head: Head, number: str) -> None:
        """Write a part at its place. It counts if its SHA-256, which follows it, is right."""
        size = head.length() - DIGEST
        with self.lock:
            file, plan = self.file, self.plan
            if file is None or not number.isdigit() or size != part_length(plan, int(number)):
                answer_json(stream, 409, {"error": "no such part"})
                raise Broken("a part that was not expected")
            self.writing += 1
        try:
            right = write_part(stream, file.fd, int(number) * plan["part_size"], size)
        except OSError as error:
            answer_json(stream, 500, {"error": reason(error)})
            raise
        finally:
            with self.lock:
                self.writing -= 1
        if not right:
            answer_json(stream, 422, {"error": "the SHA-256 of the part is wrong"})
            return
        with self.lock:
            self.missing.discard(int(number))
            self.meter.note(max(0, plan["size"] - len(self.missing) * plan["part_size"]))
        answer(stream, 204, b"")

    def complete(self, stream: Stream, wanted: dict[str, Any]) -> None:
        """Put the file in place if all parts have come."""
        with self.lock:
            file, plan, missing = self.file, self.plan, sorted(self.missing)
            if file is None or missing or self.writing or wanted.get("size") != plan["size"]:
                answer_json(stream, 409, {"error": "parts are missing", "missing": missing})
                return
            try:
                self.finish(file, plan["size"])
            except OSError as error:
                answer_json(stream, 500, {"error": reason(error)})
                raise
        answer_json(stream, 200, {"size": plan["size"]})


def write_part(stream: Stream, fd: int, offset: int, left: int) -> bool:
    """Write that many bytes at their place; whether the SHA-256 that follows them is right."""
    digest = hashlib.sha256()
    while left:
        piece = stream.read(min(left, PIECE))
        write_at(fd, piece, offset)
        digest.update(piece)
        offset, left = offset + len(piece), left - len(piece)
    return stream.read_exactly(DIGEST) == digest.digest()


def is_plan(plan: dict[str, Any]) -> bool:
    """Whether size and part_size are numbers of bytes, and make a number of parts that can be kept."""
    size, part_size = plan["size"], plan["part_size"]
    return is_count(size) and is_count(part_size) and part_size > 0 and size // part_size < MOST_PARTS


def part_length(plan: dict[str, Any], number: int) -> int:
    """The bytes of a part; -1 if there is none of that number."""
    left = int(plan["size"]) - number * int(plan["part_size"]) if plan else -1
    return min(left, int(plan["part_size"])) if left > 0 else -1


def object_in(message: bytes) -> dict[str, Any]:
    """The JSON object in a message. Raises Violation."""
    try:
        value = json.loads(message.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Violation("a message is not JSON") from None
    if not isinstance(value, dict):
        raise Violation("a message is not a JSON object")
    return value


def end(websocket: WebSocket, code: int, text: str) -> None:
    """Close a WebSocket, and wait until the client has read why."""
    try:
        websocket.close(code, text)
        websocket.stream.socket.settimeout(10)
        while True:
            websocket.next_message()
            while websocket.read(PIECE):
                pass
    except (Broken, Closed, Violation):
        pass


def main() -> None:
    """Receive the file that the environment describes."""
    run(Receiving, serve)
