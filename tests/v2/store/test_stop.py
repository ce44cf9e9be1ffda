"""The gateway is stopped while the object store is silent: it ends, and says that it has stopped what it had begun."""

from __future__ import annotations

import os
import select
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import LOCAL_SYSTEM, SYSTEM, Centre
from flamecrest.sandbox.store import ObjectStore, object_store
from tests.live.process import Server, gateway

pytestmark = pytest.mark.timeout(120)
ENDS = 40  # seconds; requests to the store have 60 while the gateway runs


class Front(socketserver.ThreadingTCPServer):
    """A TCP server in front of a store. It passes requests on until one contains `last`.

    That one and all others after it have no answer, except those for the list of buckets, which probes are.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, store: ObjectStore, last: bytes) -> None:
        self.store = httpx.URL(store.url)
        self.last = last
        self.silent = threading.Event()
        self.gone = threading.Event()
        super().__init__(("127.0.0.1", 0), _Connection)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answered(self, head: bytes) -> bool:
        if self.last in head:
            self.silent.set()
        return not self.silent.is_set() or head.startswith(b"GET / ")


class _Connection(socketserver.StreamRequestHandler):
    server: Front

    def handle(self) -> None:
        """One request: the store closes the connection after it."""
        with suppress(OSError):
            head = b"".join(iter(self.rfile.readline, b"\r\n"))
            if not self.server.answered(head.partition(b"\r\n")[0]):
                self.server.gone.wait()
                return
            with socket.create_connection((self.server.store.host, self.server.store.port or 80)) as there:
                there.sendall(head + b"Connection: close\r\n\r\n")
                threading.Thread(target=self._body, args=[there], daemon=True).start()
                while data := there.recv(65536):
                    self.wfile.write(data)

    def _body(self, there: socket.socket) -> None:
        with suppress(OSError, ValueError):  # the answer has come, and the connection was closed
            while data := self.rfile.read1(65536):
                there.sendall(data)


@contextmanager
def front(last: bytes) -> Iterator[Front]:
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal("asyncio"))
        store = stack.enter_context(portal.wrap_async_context_manager(object_store()))
        server = stack.enter_context(Front(store, last))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        stack.callback(server.gone.set)
        yield server


@contextmanager
def place(folder: Path, url: str) -> Iterator[tuple[Centre, Path]]:
    """A centre of two clusters, and the configuration of gateways that move files through the store with this URL."""
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal("asyncio"))
        centre = stack.enter_context(portal.wrap_async_context_manager(Centre(folder / "centre", with_local=True)))
        config: dict[str, Any] = centre.config()
        for cluster in config["clusters"]:
            given = ObjectStore(url, None).settings(mover="gateway", copy_through="store")  # type: ignore[arg-type]
            cluster["data_operation"]["data_transfer"] = given
        config["transfers"] = {"signing_key": "of all gateways of the tests " * 2}
        config["server"] = {"shutdown_timeout": 0.1}
        path = folder / "flamecrest.yaml"
        path.write_text(yaml.safe_dump(config))
        yield centre, path


def client(centre: Centre, server: Server) -> httpx.Client:
    user = {"Authorization": f"Bearer {centre.token('fireuser')}"}
    return httpx.Client(base_url=server.url, headers=user, timeout=50)


def stopped(pid: int) -> bool:
    """Ask a gateway to stop. Whether it ends."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        return bool(select.select([process], [], [], ENDS)[0])
    finally:
        os.close(process)


def test_a_request_that_waits_for_the_store(tmp_path: Path) -> None:
    """The process does not wait for the thread that it is in, either."""
    with ExitStack() as stack:
        server = stack.enter_context(front(b"HEAD /"))  # looks for the bucket
        centre, config = stack.enter_context(place(tmp_path, server.url))
        running = stack.enter_context(gateway(config, tmp_path / "gateway.log"))
        http, threads = stack.enter_context(client(centre, running)), stack.enter_context(ThreadPoolExecutor(1))
        body = {
            "path": f"{centre.home('fireuser')}/file",
            "transferDirectives": {"transferMethod": "s3", "fileSize": 3},
        }
        asked = threads.submit(http.post, f"/filesystem/{SYSTEM}/transfer/upload", json=body)
        assert server.silent.wait(ENDS)
        assert stopped(running.pid), "the gateway waits for the store"
        assert asked.result().status_code == 503


def test_a_copy_that_waits_for_the_store(tmp_path: Path) -> None:
    """The gateway tidies up: the store, which answers probes, has little time to remove the object."""
    with ExitStack() as stack:
        server = stack.enter_context(front(b"partNumber="))
        centre, config = stack.enter_context(place(tmp_path, server.url))
        home, url = Path(centre.home("fireuser")), f"/filesystem/{SYSTEM}/transfer"
        (home / "file").write_bytes(b"text")
        with gateway(config, tmp_path / "gateway.log") as running, client(centre, running) as http:
            body = {"path": f"{home}/file", "targetPath": f"{home}/copy", "targetSystem": LOCAL_SYSTEM}
            begun = http.post(f"{url}/copy", json=body)
            assert begun.status_code == 201, begun.text
            assert server.silent.wait(ENDS)
            assert stopped(running.pid), "the gateway waits for the store"
        with gateway(config, tmp_path / "next.log") as other, client(centre, other) as http:
            shown = http.get(f"{url}/{begun.json()['transferJob']['jobId']}").json()["transfer"]
        assert (shown["state"], "was stopped" in shown["error"]) == ("FAILED", True), shown
        assert not (home / "copy").exists()
