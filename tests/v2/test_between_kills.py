"""Folders and files on their way to another system while gateways are killed, and transfers are cancelled.

Two gateways with the same configuration stand in front of two systems, which are one machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import SYSTEM, Centre
from flamecrest.sandbox.slurm.toy import ToySlurm
from tests.live.process import Server, gateway

from .test_between_systems import OTHER, PATIENCE, USER, wait_for
from .test_tracked_transfers import Client

pytestmark = pytest.mark.timeout(200)

LARGE = 32 * 1024 * 1024  # bytes of a file in a folder: long enough under way that its parts are seen
SMALL = 12 * 1024 * 1024  # bytes of a file alone, whose copy waits for the server
SLOW = 0.006  # seconds before each SFTP request
KEY = "a-key-for-the-tests-of-32-characters-or-more"


@dataclass
class World:
    """The user's home directory, and clients of both gateways."""

    home: Path
    system: str
    servers: list[Server]
    clients: list[httpx.Client]
    slurm: ToySlurm

    def client(self, number: int, work: Path) -> Client:
        return Client(self.clients[number], self, str(work))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    tmp_path = tmp_path_factory.mktemp("between")
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        centre = stack.enter_context(portal.wrap_async_context_manager(Centre(tmp_path / "centre")))
        centre.ssh.faults.slow = SLOW
        settings = centre.config()
        settings["clusters"] += [{**settings["clusters"][0], "name": OTHER}]
        config = tmp_path / "flamecrest.yaml"
        config.write_text(yaml.safe_dump({**settings, "transfers": {"part_size": 1024 * 1024, "signing_key": KEY}}))
        servers = [stack.enter_context(gateway(config, tmp_path / f"{number}.log")) for number in (1, 2)]
        headers = {"Authorization": f"Bearer {centre.token(USER)}"}
        clients = [httpx.Client(base_url=one.url, headers=headers, timeout=PATIENCE, verify=False) for one in servers]
        for client in clients:
            stack.callback(client.close)
        yield World(Path(str(centre.home(USER))), centre.system, servers, clients, centre.slurm)


@pytest.fixture
def work(world: World) -> Path:
    """A large file, in a folder and alone, and an older one where each goes."""
    folder = world.home / f"work {len(list(world.home.iterdir()))}"
    large = os.urandom(LARGE)
    for name, content in (("from", large), ("alone", large[:SMALL]), ("to", b"old"), ("copies", b"old")):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_bytes(content)
    return folder


def end_of(client: Client, transfer: str) -> dict[str, Any]:
    found: dict[str, Any] = wait_for(lambda: (shown := client.get(transfer))["ended"] and shown)
    return found


def end_of_job(client: Client, transfer: str) -> dict[str, Any]:
    """The status of a transfer as a job, when it has ended: nobody has asked for the transfer itself."""

    def status() -> dict[str, Any] | None:
        answer = client.http.get(f"/compute/{SYSTEM}/jobs/{transfer}")
        assert answer.status_code == 200, answer.text
        (job,) = answer.json()["jobs"]
        return None if job["status"]["state"] == "RUNNING" else job["status"]

    found: dict[str, Any] = wait_for(status)
    return found


def left(folder: Path) -> list[Path]:
    return list(folder.glob(".flamecrest-*"))


def begin(client: Client, kind: str, target: str, **more: Any) -> str:
    source = f"{client.work}/from" if kind == "sync" else f"{client.work}/alone/file"
    body = {"path": source, "targetPath": f"{client.work}/{target}", "targetSystem": OTHER, **more}
    begun = client.http.post(f"{client.url}/{kind}", json=body)
    assert begun.status_code == 201, begun.text
    return str(begun.json()["transferJob"]["jobId"])


def records(world: World) -> Path:
    return world.home / ".flamecrest-transfers" / SYSTEM


def is_under_way(world: World, transfer: str, folder: Path) -> bool:
    """Whether some of a file is there, or the transfer has ended already."""
    if (records(world) / f"{transfer}.end").exists():
        return True
    with suppress(FileNotFoundError):
        return any(one.stat().st_size > 4 * 1024 * 1024 for one in left(folder))
    return False


def upload_is_noted(world: World, transfer: str) -> bool:
    with suppress(FileNotFoundError):
        return bool(json.loads((records(world) / f"{transfer}.progress").read_bytes())["upload"])
    return False


@pytest.mark.parametrize("number", [0, 1], ids=["at the same gateway", "at another gateway"])
@pytest.mark.parametrize(("kind", "folder"), [("sync", "to"), ("copy", "copies")])
def test_a_transfer_is_cancelled(world: World, work: Path, kind: str, folder: str, number: int) -> None:
    transfer = begin(world.client(0, work), kind, folder)
    wait_for(lambda: is_under_way(world, transfer, work / folder))
    client = world.client(number, work)
    assert client.http.delete(f"{client.url}/{transfer}").status_code == 204
    state = client.get(transfer)["state"]
    wait_for(lambda: not left(work / folder))
    new = (work / {"to": "from", "copies": "alone"}[folder] / "file").read_bytes()
    either = kind == "sync" or number == 1  # the file may have been replaced just before its transfer was stopped
    expected = {"CANCELLED": (b"old", new) if either else (b"old",), "COMPLETED": (new,)}
    assert (work / folder / "file").read_bytes() in expected[state]


def test_a_copy_that_is_cancelled_when_the_file_is_in_its_place(world: World, work: Path) -> None:
    """The transfer is complete, and its job, which is being submitted just then, follows."""
    client, target = world.client(0, work), work / "copies/file"
    then = {"workingDirectory": str(work), "script": "#!/bin/sh\ntrue\n", "account": "test"}
    world.slurm.set(slow=1.0)
    try:
        transfer = begin(client, "copy", "copies/file", thenSubmit=then)
        wait_for(lambda: target.stat().st_size == SMALL)
        assert client.http.delete(f"{client.url}/{transfer}").status_code == 204
        assert client.get(transfer)["state"] == "COMPLETED"
    finally:
        world.slurm.set(slow=0.0)
    wait_for(lambda: client.get(transfer)["thenJobId"])


def test_what_a_killed_gateway_has_left_is_finished_by_another(world: World, work: Path) -> None:
    one, two = world.client(0, work), world.client(1, work)
    synced, copied = begin(one, "sync", "to"), begin(one, "copy", "copies")
    wait_for(lambda: is_under_way(world, copied, work / "copies"))
    wait_for(lambda: upload_is_noted(world, copied) or (records(world) / f"{copied}.end").exists())
    os.kill(world.servers[0].pid, signal.SIGKILL)
    for transfer, source, folder in ((synced, "from", "to"), (copied, "alone", "copies")):
        new = (work / source / "file").read_bytes()
        job, ended = end_of_job(two, transfer), end_of(two, transfer)
        assert (job["state"], job["stateReason"]) == (ended["state"], ended["error"])
        content = (work / folder / "file").read_bytes()
        if ended["state"] == "COMPLETED":
            assert content == new
            continue
        assert (ended["state"], content in (b"old", new)) == ("FAILED", True)
        assert "was stopped" in ended["error"]
        again = two.ended(two.http.post(f"{two.url}/{transfer}/retry"))
        assert (again["state"], again["error"]) == ("COMPLETED", None)
        assert (work / folder / "file").read_bytes() == new
        assert folder == "to" or again["sha256"] == hashlib.sha256(new).hexdigest()
    # the copy went on with the upload that was there
    found = [json.loads(one.read_bytes()) for one in records(world).parent.glob("*/*.json")]
    target = f"{work}/copies/file"
    assert len([one for one in found if (one["method"], one["path"]) == ("direct", target)]) == 1
    wait_for(lambda: not left(work / "to") and not left(work / "copies"))
