"""A store that accepts connections and does not answer, in front of a whole gateway."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import SYSTEM, Centre
from flamecrest.sandbox.store import ObjectStore, SignedOnly
from tests.live.process import gateway


def _nothing(*_: Any) -> list[bytes]:
    return []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[httpx.Client, str, int]]:
    """A client of a gateway whose requests have 3 seconds, the home of its user, and its process."""
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        # the kernel takes the connections of this listener, and nobody answers
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        centre = stack.enter_context(portal.wrap_async_context_manager(Centre(tmp_path / "centre")))
        config = centre.config()
        for cluster in config["clusters"]:
            cluster["data_operation"]["data_transfer"] = ObjectStore(address, SignedOnly(_nothing)).settings(
                mover="gateway"
            )
            cluster["ssh"]["timeout"] = {"connection": 1, "login": 1, "command_execution": 1}
        path = tmp_path / "flamecrest.yaml"
        path.write_text(yaml.safe_dump(config))
        server = stack.enter_context(gateway(path, tmp_path / "gateway.log"))
        user = {"Authorization": f"Bearer {centre.token('fireuser')}"}
        client = stack.enter_context(httpx.Client(base_url=server.url, headers=user, timeout=60))
        yield client, str(centre.home("fireuser")), server.pid


def test_a_store_that_hangs(place: tuple[httpx.Client, str, int]) -> None:
    http, home, pid = place
    url = f"/filesystem/{SYSTEM}/transfer"
    body = {"path": f"{home}/file", "transferDirectives": {"transferMethod": "s3", "fileSize": 3}}
    refused = http.post(f"{url}/upload", json=body)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5"), refused.text
    assert "The object store sandbox-store does not answer" in refused.json()["message"]
    assert [name.name for name in Path(home).iterdir() if name.name == "file"] == []
    listed = http.get(url)
    assert (listed.status_code, listed.json()["transfers"]) == (200, [])
    process = os.pidfd_open(pid)
    signal.pidfd_send_signal(process, signal.SIGTERM)
    assert select.select([process], [], [], 50)[0], "the gateway waits for the store"
    os.close(process)
