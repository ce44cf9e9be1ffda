"""Listens on a port of a range, and hands connections of those who know the secret to a transfer. One thread each."""

from __future__ import annotations

import errno
import hmac
import select
import socket
import ssl
import tempfile
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from .replacing import Refused, reason
from .requests import HEAD_LIMIT, Head, Invalid, answer, answer_json
from .running import log
from .streams import Broken, Stream
from .websocket import Closed, Violation, WebSocket, accept_key

STRANGERS = 64  # connections at the same time that have not shown the secret; then the oldest is closed
HEAD_TIMEOUT = 20.0  # seconds for a TLS handshake and the head of a request
LEAVE_TIMEOUT = 2.0  # seconds that a client waits for another one to leave
IDLE_TIMEOUT = 120.0  # seconds in which a client sends or receives nothing


if TYPE_CHECKING:

    class Transfer(Protocol):
        """What is sent or received. Methods raise Refused and OSError for what ends the transfer, else Broken etc."""

        done: bool  # set when the file has arrived

        def by_websocket(self, websocket: WebSocket) -> None:
            """The protocol of firecrest-streamer."""

        def by_request(self, stream: Stream, head: Head) -> None:
            """Answer one request of the protocol of parts."""

        def discard(self) -> None:
            """Remove what is incomplete."""


class Server:
    """Runs until the file has arrived, the transfer has failed, or nobody has come in time."""

    def __init__(self, options: dict[str, Any], transfer: Transfer) -> None:
        self.options = options
        self.transfer = transfer
        self.secret = options["secret"].encode()
        self.tls = tls_context(options)
        self.lock = threading.Lock()
        self.left = threading.Condition(self.lock)
        self.count = 0  # of all connections, which numbers them
        self.strangers: dict[int, socket.socket] = {}
        self.known: set[int] = set()  # the connections that have shown the secret
        self.websockets = 0  # clients that are served now, by protocol
        self.requests = 0
        self.deadline = time.monotonic() + options["wait_timeout"]
        self.failure: str | None = None
        self.wake = socket.socketpair()

    def run(self) -> int:
        """Listen, and return the exit status."""
        listeners = listen(self.options["host"], self.options["ports"])
        if not listeners:
            log("None of the ports {}-{} is free on this node.".format(*self.options["ports"]))
            return 1
        log(f"Listening on port {listeners[0].getsockname()[1]}.")
        while not self.transfer.done and self.failure is None:
            left = self.time_left()
            if left <= 0:
                self.failure = "No client has come in time."
                break
            for ready in select.select([*listeners, self.wake[0]], [], [], left)[0]:
                if ready is self.wake[0]:
                    ready.recv(64)
                else:
                    self.accept(ready)
        if not self.transfer.done:
            log(f"{self.failure}")
        return 0 if self.transfer.done else 1

    def time_left(self) -> float:
        """Seconds until the server stops waiting for a client."""
        with self.lock:
            busy = self.websockets or self.requests
            return 3600.0 if busy else min(3600.0, self.deadline - time.monotonic())

    def accept(self, listener: socket.socket) -> None:
        """Serve the next connection in a thread of its own."""
        try:
            sock, _ = listener.accept()
        except OSError:
            time.sleep(0.1)  # no file descriptors: a client may go
            return
        sock.settimeout(HEAD_TIMEOUT)
        self.count += 1
        with self.lock:
            self.strangers[self.count] = sock
            oldest = self.strangers.pop(min(self.strangers)) if len(self.strangers) > STRANGERS else None
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        threading.Thread(target=self.connection, args=(self.count, sock), daemon=True).start()

    def connection(self, number: int, sock: socket.socket) -> None:
        """Serve one connection, and note how the transfer has ended if it has."""
        failure = None
        try:
            self.secured(number, sock)
        except Refused as error:
            failure = str(error)
        except OSError as error:
            failure = reason(error)
        except (Broken, Closed, Violation, Invalid) as error:
            if number in self.known:
                log(f"The client was lost: {error}")
        except Exception as error:  # noqa: BLE001 -- a thread must not die in silence
            failure = f"{type(error).__name__}: {error}"
        with self.lock:
            self.strangers.pop(number, None)
        if failure is not None:
            self.failure = failure
        if failure is not None or self.transfer.done:
            self.wake[1].send(b"1")

    def secured(self, number: int, sock: socket.socket) -> None:
        """Serve a connection with TLS if it begins with a handshake."""
        stream, secure = sock, False
        try:
            secure = sock.recv(1, socket.MSG_PEEK) == b"\x16"  # the first byte of a TLS handshake
            if secure:
                stream = wrapped = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                with self.lock:
                    if number in self.strangers:
                        self.strangers[number] = wrapped
                wrapped.do_handshake()
        except (OSError, ValueError):
            stream.close()
            raise Broken("no TLS handshake") from None
        self.requests_of(number, Stream(stream, HEAD_TIMEOUT), secure)

    def requests_of(self, number: int, stream: Stream, secure: bool) -> None:
        """Serve a client if it knows the secret, and end the connection."""
        try:
            head = Head(stream.read_head(HEAD_LIMIT))
            if self.is_allowed(stream, head, secure):
                with self.lock:
                    self.strangers.pop(number, None)
                    self.known.add(number)
                stream.socket.settimeout(IDLE_TIMEOUT)
                self.serve(stream, head)
        finally:
            stream.close()

    def is_allowed(self, stream: Stream, head: Head, secure: bool) -> bool:
        """Whether the request has the secret; else it is answered."""
        given = head.fields.get("authorization", "")
        if not given.startswith("Bearer "):
            answer(stream, 401, b"Missing Authorization header\n", "WWW-Authenticate: Bearer", "Connection: close")
        elif not hmac.compare_digest(given[7:].strip().encode("latin-1"), self.secret):
            answer(stream, 403, b"Invalid secret\n", "Connection: close")
        elif self.options["require_tls"] and not secure:
            answer(stream, 426, b"TLS is required\n", "Upgrade: TLS/1.2", "Connection: close")
        else:
            return True
        return False

    def serve(self, stream: Stream, head: Head) -> None:
        """Serve a client that knows the secret."""
        upgrade = head.fields.get("upgrade", "").lower() == "websocket"
        if not self.enter(upgrade):
            answer(stream, 409, b"Another client is connected\n", "Connection: close")
            return
        try:
            if upgrade:
                self.open_websocket(stream, head)
                return
            while True:
                self.transfer.by_request(stream, head)
                if self.transfer.done:
                    return
                head = Head(stream.read_head(HEAD_LIMIT))
        except Invalid as error:
            answer_json(stream, 400, {"error": str(error)})
        finally:
            self.leave(upgrade)

    def enter(self, upgrade: bool) -> bool:
        """Count the client in; False if another one is served, which may be about to end."""
        with self.left:
            free = self.left.wait_for(lambda: not self.websockets and not (upgrade and self.requests), LEAVE_TIMEOUT)
            if not free or self.transfer.done:
                return False
            self.websockets += upgrade
            self.requests += not upgrade
        return True

    def leave(self, upgrade: bool) -> None:
        with self.left:
            self.websockets -= upgrade
            self.requests -= not upgrade
            self.left.notify_all()
            self.deadline = time.monotonic() + self.options["retry_timeout"]
        self.wake[1].send(b"1")

    def open_websocket(self, stream: Stream, head: Head) -> None:
        key = head.fields.get("sec-websocket-key", "")
        if head.first[0] != "GET" or not key or head.fields.get("sec-websocket-version") != "13":
            raise Invalid("an invalid WebSocket handshake")
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept_key(key.encode())}")
        stream.send("\r\n".join(["HTTP/1.1 101 Switching Protocols", *upgrade, "", ""]).encode())
        log("A client has connected.")
        self.transfer.by_websocket(WebSocket(stream, client=False))


def listen(host: str | None, ports: tuple[int, int]) -> list[socket.socket]:
    """Listen on the first free port; sockets for all addresses of `host`, or of the node. Empty if none is free."""
    for port in range(ports[0], ports[1] + 1):
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise Refused(f"{host}: {reason(error)}") from None
        found = [address for address in found if is_usable(address)] or found
        sockets: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                sock = socket.socket(family, kind, protocol)
                sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                sock.listen(STRANGERS)
        except OSError as error:
            for sock in sockets:
                sock.close()
            if error.errno != errno.EADDRINUSE:
                raise Refused(f"{host}: {reason(error)}") from None
        else:
            return sockets
    return []


def is_usable(address: tuple[Any, ...]) -> bool:
    """Whether the node has this family of addresses, and this address."""
    family, kind, protocol, _, where = address
    try:
        with socket.socket(family, kind, protocol) as sock:
            sock.bind((where[0], 0, *where[2:]))
    except OSError:
        return False
    return True


def tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    """TLS with the certificate that the gateway has made for this transfer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:  # of mode 600
        file.write(options["certificate"].encode())
        file.flush()
        context.load_cert_chain(file.name)
    return context


def serve(options: dict[str, Any], transfer: Transfer) -> int:
    """Run a server until the transfer has ended; the exit status."""
    return Server(options, transfer).run()
