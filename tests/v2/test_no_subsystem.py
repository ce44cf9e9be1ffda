"""A gateway in front of an SSH server without the SFTP subsystem: clients see no difference."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import Centre
from tests.live.process import gateway

from .archives import contents

TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[tuple[Centre, httpx.Client]]:
    """A centre, and a client of the gateway in front of it."""
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        centre = stack.enter_context(portal.wrap_async_context_manager(Centre(tmp_path / "centre")))
        centre.ssh.sftp = False
        server = stack.enter_context(gateway(centre.write_config(tmp_path / "config.yaml"), tmp_path / "log"))
        bearer = {"Authorization": f"Bearer {centre.token('fireuser')}"}
        yield centre, stack.enter_context(httpx.Client(base_url=server.url, headers=bearer, timeout=30, verify=False))


def test_file_operations_work(centre: tuple[Centre, httpx.Client]) -> None:
    site, http = centre
    home, files = site.home("fireuser"), f"/filesystem/{site.system}"
    content = os.urandom(3_000_000)
    put = http.put(f"{files}/ops/upload", params={"path": f"{home}/up"}, content=content)
    assert put.status_code == 201, put.text
    assert (home / "up").read_bytes() == content

    listed = http.get(f"{files}/ops/ls", params={"path": str(home)}).json()["output"]
    assert [(entry["name"], entry["size"]) for entry in listed] == [("up", str(len(content)))]
    told = http.get(f"{files}/ops/stat", params={"path": f"{home}/up"}).json()["output"]
    assert (told["size"], told["ino"]) == (len(content), (home / "up").stat().st_ino)
    space = http.get(f"{files}/ops/df", params={"path": str(home)})
    assert space.json()["output"]["total"] > 0

    part = http.get(f"{files}/ops/download", params={"path": f"{home}/up"}, headers={"Range": "bytes=999990-1000009"})
    assert (part.status_code, part.content) == (206, content[999_990:1_000_010])
    assert http.get(f"{files}/ops/download", params={"path": f"{home}/none"}).status_code == 404

    path = base64.b64encode(f"{home}/tus".encode()).decode()
    begun = http.post(f"{files}/uploads", headers={**TUS, "Upload-Length": "10", "Upload-Metadata": f"path {path}"})
    assert begun.status_code == 201, begun.text
    piece = {**TUS, "Content-Type": "application/offset+octet-stream"}
    for offset, data in ((0, b"hello"), (5, b"world")):
        sent = http.patch(begun.headers["Location"], headers={**piece, "Upload-Offset": str(offset)}, content=data)
        assert sent.status_code == 204, sent.text
    assert (home / "tus").read_bytes() == b"helloworld"

    bulk = http.post(f"{files}/bulk/download", json={"paths": [f"{home}/up", f"{home}/tus"]})
    assert bulk.status_code == 200, bulk.text
    assert contents(bulk.content) == {"up": content, "tus": b"helloworld"}
    assert site.ssh.counts.sftp_sessions == 0
