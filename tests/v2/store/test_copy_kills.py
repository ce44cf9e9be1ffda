"""Copies through the object store whose gateway is killed on the way: another gateway shows the end, and retries."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.process import Server, gateway
from tests.v2.conftest import Api
from tests.v2.test_large_files import names, read

from .place import MIB, MOVERS, PATIENCE, view
from .test_transfers import copied, copy, other_system

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]  # a gateway is known to be dead after 8 seconds


@pytest.fixture
def doomed(place: Any, tmp_path: Path) -> Iterator[Server]:
    """A second gateway with the same configuration."""
    with gateway(place[3].with_name("flamecrest.yaml"), tmp_path / "doomed.log") as server:
        yield server


def until(happened: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < limit
        time.sleep(0.05)


def step_of(api: Api, system: str, direction: str, path: str) -> str | None:
    """The mover job of a step of a copy, empty if it has none; None while there is no such step."""
    for record in (Path(api.home) / ".flamecrest-transfers" / system).glob("*.json"):
        with suppress(OSError, ValueError):
            found = json.loads(record.read_bytes())
            if (found["method"], found["direction"], found["path"]) == ("s3", direction, path):
                with suppress(FileNotFoundError):
                    return str(json.loads(record.with_suffix(".progress").read_bytes())["job_id"])
                return ""
    return None


def test_killed_while_the_file_is_sent(place, doomed, api, work, http) -> None:
    """The mover job waits for a node, or the gateway is the mover, and has just begun."""
    by_job = api.system == MOVERS["job"]
    data = prepare(work)
    place[0].slurm.set(start_delay=600)
    try:
        transfer = begin(doomed, api, work)
        until(lambda: step_of(api, api.system, "download", f"{work}/file") not in ({None, ""} if by_job else {None}))
        os.kill(doomed.pid, signal.SIGKILL)
    finally:
        place[0].slurm.set(start_delay=0.2)
    finish(api, work, http, transfer, data)


@pytest.mark.parametrize("api", ["gateway"], indirect=True)
def test_killed_while_the_file_is_fetched(place, doomed, api, work, http) -> None:
    """The gateway has sent the file; the job that fetches it waits for a node."""
    data = prepare(work)
    place[0].slurm.set(start_delay=600)
    try:
        transfer = begin(doomed, api, work)
        until(lambda: step_of(api, other_system(api), "upload", f"{work}/copy"))
        os.kill(doomed.pid, signal.SIGKILL)
    finally:
        place[0].slurm.set(start_delay=0.2)
    finish(api, work, http, transfer, data)


def prepare(work: str) -> bytes:
    data = os.urandom(6 * MIB)
    Path(f"{work}/file").write_bytes(data)
    Path(f"{work}/copy").write_bytes(b"old")
    return data


def begin(server: Server, api: Api, work: str) -> str:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {api.token}"}, timeout=60) as client:
        return copy(client, api, f"{work}/file", f"{work}/copy")


def finish(api: Api, work: str, http: httpx.Client, transfer: str, data: bytes) -> None:
    """The state says that it was stopped; the target is the old or the new file; a retry finishes; nothing is left."""
    ended = copied(http, api, transfer)
    assert (ended["state"], "was stopped" in ended["error"]) == ("FAILED", True), ended
    assert "Retry" in ended["hint"]
    assert read(http, api, f"{work}/copy") in (b"old", data)
    again = http.post(f"/filesystem/{api.system}/transfer/{transfer}/retry")
    assert again.status_code == 201, again.text
    done = copied(http, api, again.json()["transferJob"]["jobId"])
    assert (done["state"], done["sha256"]) == ("COMPLETED", hashlib.sha256(data).hexdigest()), done
    assert read(http, api, f"{work}/copy") == data
    until(lambda: names(http, api, work) == ["copy", "file"])
    assert view(http, api, transfer)["state"] == "FAILED"
