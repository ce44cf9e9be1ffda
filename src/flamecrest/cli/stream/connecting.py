"""Find the job of a transfer among the addresses and ports of its coordinates, and exchange requests with it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from flamecrest.server.transfer.programs.requests import HEAD_LIMIT, Head, Invalid, parse_object
from flamecrest.server.transfer.programs.streams import Broken, Stream
from flamecrest.server.transfer.programs.websocket import WebSocket, accept_key
from flamecrest.server.transfer.streamer.coordinates import Coordinates

CONNECT_TIMEOUT: Final = 5.0  # seconds for a connection and its TLS handshake
IDLE_TIMEOUT: Final = 120.0  # seconds in which the job sends or receives nothing
AT_ONCE: Final = 16  # connections that are tried at the same time
PAUSE: Final = 1.0  # seconds between two searches
Place = tuple[str, int]


class Failure(Exception):
    """The transfer has failed. The text is for the user."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job that was found: one with TLS and the protocol of parts, or one of firecrest-streamer."""

    coordinates: Coordinates
    place: Place

    def connect(self) -> Stream:
        """A connection to a job with TLS. Raises Broken."""
        stream = _secure(self.coordinates, self.place)
        if stream is None:
            raise Broken("the job is not there")
        return stream

    def request(self, stream: Stream, method: str, target: str, body: bytes = b"") -> None:
        """Send the head of a request, with a body or its beginning."""
        send_head(stream, self, method, target, len(body))
        stream.send(body)

    def ask(self, stream: Stream, method: str, target: str, value: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send a JSON object; the status and the JSON object of the answer."""
        self.request(stream, method, target, json.dumps(value).encode())
        return read_answer(stream)


def send_head(stream: Stream, job: Job, method: str, target: str, length: int) -> None:
    """Send the head of a request whose body has that many bytes."""
    host = f"{job.place[0]}:{job.place[1]}"
    secret = f"Authorization: Bearer {job.coordinates.secret}"
    lines = (f"{method} {target} HTTP/1.1", f"Host: {host}", secret, f"Content-Length: {length}", "", "")
    stream.send("\r\n".join(lines).encode("latin-1", "replace"))


def read_answer(stream: Stream) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object of an answer, empty for a body that is none. Raises Broken."""
    try:
        head = Head(stream.read_head(HEAD_LIMIT))
        status, body = int(head.first[1]), stream.read_exactly(head.length())
    except (Invalid, ValueError) as error:
        raise Broken(str(error)) from None
    try:
        return status, parse_object(body)
    except Invalid:
        return status, {"error": body.decode("utf-8", "replace").strip()} if body else {}


def find_job(coordinates: Coordinates, wait: float, waiting: Callable[[], None]) -> Job:
    """The job with TLS, which may not have started yet: at most `wait` seconds. Raises Failure."""
    until = time.monotonic() + wait
    while True:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for place, stream in zip(
                places(coordinates), pool.map(lambda one: _secure(coordinates, one), places(coordinates)), strict=True
            ):
                if stream is not None:
                    stream.close()
                    return Job(coordinates, place)
        _pause(until, waiting)


def open_websocket(coordinates: Coordinates, wait: float, waiting: Callable[[], None]) -> WebSocket:
    """A WebSocket to a job of firecrest-streamer: at most `wait` seconds. Raises Failure."""
    until = time.monotonic() + wait
    while True:
        for place in places(coordinates):
            with suppress(Broken, Invalid, ValueError):
                return _plain(coordinates, place)
        _pause(until, waiting)


def places(coordinates: Coordinates) -> Sequence[Place]:
    """All addresses and ports, in the order in which they are tried."""
    first, last = coordinates.ports
    return [(address, port) for address in coordinates.addresses for port in range(first, last + 1)]


def _pause(until: float, waiting: Callable[[], None]) -> None:
    if time.monotonic() + PAUSE > until:
        raise Failure("no job listens at these coordinates")
    waiting()
    time.sleep(PAUSE)


def _secure(coordinates: Coordinates, place: Place) -> Stream | None:
    """A connection if the job has the certificate of the coordinates: nobody else gets the secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the certificate itself is compared
    try:
        plain = socket.create_connection(place, CONNECT_TIMEOUT)
    except OSError:
        return None
    try:
        secure = context.wrap_socket(plain)
    except (OSError, ValueError):
        plain.close()
        return None
    if hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest() != coordinates.certificate:
        secure.close()
        return None
    return Stream(secure, IDLE_TIMEOUT)


def _plain(coordinates: Coordinates, place: Place) -> WebSocket:
    """A WebSocket. Raises Broken, Invalid, or ValueError if there is none."""
    try:
        stream = Stream(socket.create_connection(place, CONNECT_TIMEOUT), IDLE_TIMEOUT)
    except OSError as error:
        raise Broken(str(error)) from None
    try:
        key = base64.b64encode(os.urandom(16))
        lines = (
            "GET / HTTP/1.1", f"Host: {place[0]}:{place[1]}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}", "Sec-WebSocket-Version: 13",
            f"Authorization: Bearer {coordinates.secret}", "", "",
        )  # fmt: skip
        stream.send("\r\n".join(lines).encode("latin-1", "replace"))
        head = Head(stream.read_head(HEAD_LIMIT))
        if head.first[1] != "101" or head.fields.get("sec-websocket-accept") != accept_key(key):
            raise Broken(f"the answer is {' '.join(head.first)}")
    except BaseException:
        stream.close()
        raise
    return WebSocket(stream, client=True)
