"""Uploads in parts while things break: killed gateways, several gateways, lost connections, expiry, other users.

Two gateways with the same key stand in front of one centre. What is started at the second expires after a second.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from flamecrest.sandbox.centre import SYSTEM, Centre

from .test_large_files import Transfer
from .tus_world import USER, Gateway

pytestmark = pytest.mark.timeout(300)

PART = 256 * 1024  # bytes
PATIENCE = 30.0  # seconds for something to happen
KEY = "a-key-for-the-tests-of-32-characters-or-more"
BASE = "https://api.example.org/v2"  # of the second gateway
RECORDS = f".flamecrest-transfers/{SYSTEM}"


class World:
    """The centre and its gateways, `one` and `two`."""

    def __init__(self, centre: Centre, portal: BlockingPortal, gateways: dict[str, Gateway]) -> None:
        self.centre = centre
        self.portal = portal
        self.gateways = gateways
        self.token = centre.token(USER)
        self.home = centre.home(USER)

    def client(self, gateway: str, token: str | None = "") -> httpx.Client:
        """A client of a gateway; "" is the user's token, None no token."""
        bearer = self.token if token == "" else token
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        base = f"http://127.0.0.1:{self.gateways[gateway].port}"
        return httpx.Client(base_url=base, headers=headers, timeout=PATIENCE, verify=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("large")
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        centre: Any = stack.enter_context(portal.wrap_async_context_manager(Centre(root / "centre")))
        text = centre.write_config(root / "flamecrest.yaml").read_text()
        gateways = {}
        for name, more in {"one": "", "two": f", lifetime: 1, public_url: {BASE}", "unused": ""}.items():
            path = root / f"{name}.yaml"
            path.write_text(f"{text}\ntransfers: {{part_size: {PART}, signing_key: {KEY}{more}}}\n")
            path.chmod(0o600)
            gateways[name] = Gateway(path, root / f"{name}.log")
            gateways[name].start()
            stack.callback(gateways[name].stop)
        yield World(centre, portal, gateways)


@pytest.fixture
def folder(world: World) -> Iterator[Path]:
    path = world.home / "work"
    path.mkdir()
    yield path
    path.chmod(0o700)
    shutil.rmtree(path)


def start(world: World, gateway: str, path: Path, size: int) -> Transfer:
    with world.client(gateway) as http:
        body = {"path": str(path), "transferDirectives": {"transferMethod": "direct", "fileSize": size}}
        response = http.post(f"/filesystem/{world.centre.system}/transfer/upload", json=body)
        return Transfer(http, world.centre.system, response)


def relative(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path.removeprefix(urlsplit(BASE).path)}?{parts.query}"


def put(world: World, gateway: str, url: str, data: Any) -> int:
    with world.client(gateway, None) as web:
        return web.put(relative(url), content=data).status_code


def complete(world: World, gateway: str, transfer: Transfer) -> httpx.Response:
    with world.client(gateway, None) as web:
        return web.post(relative(transfer.complete))


def job(world: World, gateway: str, transfer: Transfer) -> dict[str, Any]:
    with world.client(gateway) as http:
        response = http.get(transfer.url + transfer.id)
        assert response.status_code == 200, response.text
        return dict(response.json()["jobs"][0]["status"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class HalfPart:
    """A request that has sent half a part, and sends no more."""

    def __init__(self, world: World, gateway: str, url: str, data: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", world.gateways[gateway].port))
        head = f"PUT {relative(url)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        self._socket.sendall(head.encode() + data[: len(data) // 2])

    def status(self) -> bytes:
        self._socket.settimeout(PATIENCE)
        return self._socket.recv(12)[9:12]

    def close(self) -> None:
        self._socket.close()


def begun(world: World, transfer: Transfer) -> bool:
    """Whether the first part has a line that says that it is being written."""
    path = world.home / RECORDS / f"{transfer.id}.parts"
    return path.read_bytes()[:1] == b"w"


def test_replicas_share_an_upload(world: World, folder: Path) -> None:
    data = os.urandom(3 * PART)
    transfer = start(world, "one", folder / "file", len(data))
    for number, url in enumerate(transfer.parts):
        assert put(world, ("two", "one")[number % 2], url, data[number * PART : (number + 1) * PART]) == 200
    assert job(world, "two", transfer)["state"] == "RUNNING"
    assert complete(world, "two", transfer).status_code == 200
    assert (folder / "file").read_bytes() == data
    assert names(folder) == ["file"]
    assert job(world, "one", transfer)["state"] == "COMPLETED"


def test_killed_gateway(world: World, folder: Path) -> None:
    """Killed after a part, and while the next arrives: another gateway goes on, and this one as well."""
    data = os.urandom(2 * PART)
    (folder / "file").write_bytes(b"old")
    transfer = start(world, "one", folder / "file", len(data))
    assert put(world, "one", transfer.parts[1], data[PART:]) == 200
    half = HalfPart(world, "one", transfer.parts[0], data[:PART])
    until(lambda: begun(world, transfer))
    world.gateways["one"].kill()
    half.close()
    assert "1" in complete(world, "two", transfer).json()["message"]
    assert (folder / "file").read_bytes() == b"old"
    world.gateways["one"].start()
    assert put(world, "two", transfer.parts[0], data[:PART]) == 200
    assert complete(world, "one", transfer).status_code == 200
    assert (folder / "file").read_bytes() == data
    assert names(folder) == ["file"]


def test_part_from_two_gateways(world: World, folder: Path) -> None:
    """The later request wins; the earlier one gives up. What is in the file is compared with the later one's MD5."""
    data = os.urandom(PART)
    transfer = start(world, "one", folder / "file", PART)
    half = HalfPart(world, "one", transfer.parts[0], os.urandom(PART))
    until(lambda: begun(world, transfer))
    assert put(world, "two", transfer.parts[0], data) == 200
    half._socket.sendall(os.urandom(PART // 2))
    assert half.status() == b"423"
    half.close()
    done = complete(world, "two", transfer)
    if done.status_code != 200:  # the earlier request has written something
        assert "Two requests have sent part 1" in done.json()["message"]
        assert put(world, "two", transfer.parts[0], data) == 200
        assert complete(world, "two", transfer).status_code == 200
    assert (folder / "file").read_bytes() == data


def test_part_from_two_gateways_that_differ(world: World, folder: Path) -> None:
    """Bytes that another request has written over the part are found."""
    transfer = start(world, "one", folder / "file", PART)
    half = HalfPart(world, "one", transfer.parts[0], os.urandom(PART))
    until(lambda: begun(world, transfer))
    assert put(world, "two", transfer.parts[0], b"a" * PART) == 200
    (hidden,) = [name for name in names(folder) if name != "file"]
    with (folder / hidden).open("r+b") as file:
        file.write(b"b")
    refused = complete(world, "two", transfer)
    assert (refused.status_code, "Two requests have sent part 1" in refused.json()["message"]) == (400, True)
    half.close()
    assert "Two requests" in job(world, "two", transfer)["stateReason"]
    assert names(folder) == [hidden]


def test_client_that_goes_away(world: World, folder: Path) -> None:
    data = os.urandom(PART)
    transfer = start(world, "one", folder / "file", PART)
    half = HalfPart(world, "one", transfer.parts[0], os.urandom(PART))
    until(lambda: begun(world, transfer))
    half.close()
    until(lambda: not begun(world, transfer))
    assert put(world, "one", transfer.parts[0], data) == 200
    line = (world.home / RECORDS / f"{transfer.id}.parts").read_bytes()
    assert line[1:2] == b" "  # no other request may have written to it
    assert complete(world, "one", transfer).status_code == 200
    assert (folder / "file").read_bytes() == data


def test_repeated_part_ends_the_earlier_request(world: World, folder: Path) -> None:
    data = os.urandom(PART)
    transfer = start(world, "one", folder / "file", PART)
    half = HalfPart(world, "one", transfer.parts[0], os.urandom(PART))
    until(lambda: begun(world, transfer))
    assert put(world, "one", transfer.parts[0], data) == 200
    half._socket.sendall(os.urandom(PART // 2))
    assert half.status() == b"423"
    half.close()
    assert complete(world, "one", transfer).status_code == 200
    assert (folder / "file").read_bytes() == data


def test_lost_connection(world: World, folder: Path) -> None:
    data = os.urandom(PART)
    transfer = start(world, "one", folder / "file", PART)
    half = HalfPart(world, "one", transfer.parts[0], data)
    until(lambda: begun(world, transfer))
    world.portal.call(world.centre.ssh.drop)
    half._socket.sendall(data[PART // 2 :])
    assert half.status() == b"503"
    half.close()
    assert put(world, "one", transfer.parts[0], data) == 200
    assert complete(world, "one", transfer).status_code == 200
    assert (folder / "file").read_bytes() == data


def test_killed_before_the_end_was_recorded(world: World, folder: Path) -> None:
    """The file is in place, and its parts are still there, as a gateway leaves them that is killed at the last step."""
    transfer = start(world, "one", folder / "file", 3)
    assert put(world, "one", transfer.parts[0], b"abc") == 200
    records = world.home / RECORDS
    parts = (records / f"{transfer.id}.parts").read_bytes()
    done = complete(world, "one", transfer)
    for by_client in (True, False):
        until(lambda: not (records / f"{transfer.id}.parts").exists())
        (records / f"{transfer.id}.parts").write_bytes(parts)
        (records / f"{transfer.id}.end").unlink()
        if by_client:
            assert complete(world, "two", transfer).text == done.text
        assert job(world, "two", transfer)["state"] == "COMPLETED"
    assert (folder / "file").read_bytes() == b"abc"


def test_expired(world: World, folder: Path) -> None:
    transfer = start(world, "two", folder / "file", 3)
    assert transfer.parts[0].startswith(f"{BASE}/filesystem/")
    put(world, "two", transfer.parts[0], b"abc")
    until(lambda: put(world, "two", transfer.parts[0], b"abc") == 403)
    assert "expired" in complete(world, "two", transfer).json()["message"]
    status = job(world, "one", transfer)
    assert (status["state"], status["stateReason"]) == ("TIMEOUT", "The transfer was not finished in time.")
    assert names(folder) == []


def test_the_reason_of_an_end_does_not_wait_for_the_log(world: World, folder: Path) -> None:
    """A gateway that has recorded the end may be slow to write the log, or killed before it."""
    transfer = start(world, "one", folder / "file", PART)
    Path(transfer.logs["errorLog"]).unlink()
    with world.client("one", None) as web:
        assert web.delete(relative(transfer.abort)).status_code == 204
    status = job(world, "two", transfer)
    assert (status["state"], status["stateReason"]) == ("CANCELLED", "The transfer was cancelled.")


@pytest.mark.parametrize("suffix", ["end", "json"])
def test_what_another_gateway_writes_is_waited_for(world: World, folder: Path, suffix: str) -> None:
    """A file that is there and still empty is no damaged one: DELETE would remove the records of the transfer."""
    transfer = start(world, "one", folder / "file", PART)
    file = world.home / RECORDS / f"{transfer.id}.{suffix}"
    content = file.read_bytes() if suffix == "json" else b'{"state": "FAILED", "at": 1, "error": "for a test"}\n'
    file.write_bytes(b"")
    with ThreadPoolExecutor() as threads:
        found = threads.submit(job, world, "one", transfer)
        time.sleep(0.2)  # the request has most likely seen the empty file
        file.write_bytes(content)
        assert found.result()["state"] == ("FAILED" if suffix == "end" else "PENDING")


def test_next_transfer_removes_what_has_expired(world: World, folder: Path) -> None:
    transfer = start(world, "two", folder / "file", 3)
    until(lambda: put(world, "two", transfer.parts[0], b"abc") == 403)
    later = start(world, "unused", folder / "later", 3)  # the others have swept the folder a moment ago
    until(lambda: len(names(folder)) == 1)
    with world.client("unused") as http:
        assert http.delete(later.url + later.id).status_code == 204
    assert names(folder) == []
    records = {name.partition(".")[2] for name in names(world.home / RECORDS) if name.startswith(transfer.id)}
    assert {"json", "end", "log", "err"} <= records


def test_other_users(world: World, folder: Path) -> None:
    transfer = start(world, "one", folder / "file", 3)
    with world.client("one", world.centre.token("user01")) as http:
        for method in ("GET", "DELETE"):
            response = http.request(method, transfer.url + transfer.id)
            assert (response.status_code, "Job not found" in response.json()["message"]) == (404, True)
        assert http.get(f"{transfer.url}{transfer.id}/metadata").status_code == 404
    assert job(world, "one", transfer)["state"] == "PENDING"


def test_folder_that_takes_no_file(world: World, folder: Path) -> None:
    """A new file is refused; an existing one is replaced from the folder of records."""
    (folder / "old").write_bytes(b"old")
    folder.chmod(0o500)
    body = {"path": str(folder / "new"), "transferDirectives": {"transferMethod": "direct", "fileSize": 1}}
    with world.client("one") as http:
        response = http.post(f"/filesystem/{world.centre.system}/transfer/upload", json=body)
    assert (response.status_code, "Permission denied" in response.json()["message"]) == (403, True)
    transfer = start(world, "one", folder / "old", 3)
    assert put(world, "one", transfer.parts[0], b"new") == 200
    assert complete(world, "one", transfer).status_code == 200
    assert (folder / "old").read_bytes() == b"new"
    assert not list((world.home / RECORDS).glob("*.data"))


def test_target_that_became_a_folder(world: World, folder: Path) -> None:
    transfer = start(world, "one", folder / "file", 3)
    assert put(world, "one", transfer.parts[0], b"abc") == 200
    (folder / "file").mkdir()
    refused = complete(world, "one", transfer)
    assert (refused.status_code, "Is a directory" in refused.json()["message"]) == (400, True)
    assert "Is a directory" in job(world, "one", transfer)["stateReason"]
    (folder / "file").rmdir()
    assert complete(world, "one", transfer).status_code == 200
    assert (folder / "file").read_bytes() == b"abc"


def test_target_that_may_not_be_written_any_more(world: World, folder: Path) -> None:
    (folder / "file").write_bytes(b"old")
    transfer = start(world, "one", folder / "file", 3)
    assert put(world, "one", transfer.parts[0], b"abc") == 200
    (folder / "file").chmod(0o400)
    assert complete(world, "one", transfer).status_code == 403
    assert "Permission denied" in job(world, "one", transfer)["stateReason"]
    (folder / "file").chmod(0o600)
    assert complete(world, "one", transfer).status_code == 200
    assert job(world, "one", transfer)["state"] == "COMPLETED"


@pytest.mark.parametrize("data", ["removed", "link", "shorter"])
def test_data_that_was_changed(world: World, folder: Path, data: str) -> None:
    transfer = start(world, "one", folder / "file", 3)
    assert put(world, "one", transfer.parts[0], b"abc") == 200
    (hidden,) = names(folder)
    if data != "shorter":
        (folder / hidden).unlink()
    if data == "link":
        (folder / "secret").write_bytes(b"abc")
        (folder / hidden).symlink_to(folder / "secret")
    if data == "shorter":
        os.truncate(folder / hidden, 1)
    assert complete(world, "one", transfer).status_code == 400
    assert put(world, "one", transfer.parts[0], b"xyz") in ({200} if data == "shorter" else {400, 410})
    assert not (folder / "file").exists()
    if data == "link":
        assert (folder / "secret").read_bytes() == b"abc"
    if data == "removed":
        shown = job(world, "one", transfer)
        assert (shown["state"], "is gone" in shown["stateReason"]) == ("FAILED", True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"direction": 1}', b"\xff" * 99])
def test_damaged_records(world: World, folder: Path, content: bytes) -> None:
    transfer = start(world, "one", folder / "file", 3)
    record = world.home / RECORDS / f"{transfer.id}.json"
    record.write_bytes(content)
    with world.client("one") as http:
        response = http.get(transfer.url + transfer.id)
    assert (response.status_code, "damaged" in response.json()["message"]) == (400, True)
    assert complete(world, "one", transfer).status_code == 400
    record.unlink()
    start(world, "one", folder / "another", 3)  # others go on
