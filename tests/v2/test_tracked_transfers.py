"""Transfers as things: listed, shown, cancelled, retried; folders that are synchronized within a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .test_large_files import start


@pytest.fixture
def http(api) -> Iterator[httpx.Client]:
    with api.http() as client:
        yield client


class Client:
    """What a user does with transfers."""

    def __init__(self, http: httpx.Client, api: Any, work: str) -> None:
        self.http = http
        self.url = f"/filesystem/{api.system}/transfer"
        self.ops = f"/filesystem/{api.system}/ops"
        self.work = work

    def write(self, name: str, content: bytes = b"content") -> None:
        folder, _, file = f"{self.work}/{name}".rpartition("/")
        self.http.post(f"{self.ops}/mkdir", json={"path": folder, "parent": True})
        sent = self.http.post(f"{self.ops}/upload", params={"path": folder}, files={"file": (file, content)})
        assert sent.status_code == 204, sent.text

    def read(self, name: str) -> bytes:
        return self.http.get(f"{self.ops}/download", params={"path": f"{self.work}/{name}"}).content

    def names(self, name: str) -> set[str]:
        answer = self.http.get(f"{self.ops}/ls", params={"path": f"{self.work}/{name}", "showHidden": True})
        return {one["name"] for one in answer.json()["output"]}

    def sync(self, **body: Any) -> httpx.Response:
        source, target = f"{self.work}/from", f"{self.work}/to"
        return self.http.post(f"{self.url}/sync", json={"path": source, "targetPath": target, **body})

    def get(self, transfer: str) -> dict[str, Any]:
        answer = self.http.get(f"{self.url}/{transfer}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["transfer"])

    def ended(self, response: httpx.Response) -> dict[str, Any]:
        """The transfer that a response has begun, when it has ended."""
        assert response.status_code == 201, response.text
        transfer = response.json()["transferJob"]["jobId"]
        until = time.monotonic() + 60
        while time.monotonic() < until:
            found = self.get(transfer)
            if found["ended"] is not None:
                return found
            time.sleep(0.05)
        raise AssertionError(found)


@pytest.fixture
def client(http: httpx.Client, api: Any, work: str) -> Client:
    return Client(http, api, work)


def test_a_folder_is_synchronized(client):
    client.write("from/a", b"a" * 1000)
    client.write("from/b/c")
    plan = client.sync(dryRun=True)
    assert plan.status_code == 200, plan.text
    assert plan.json()["plan"]["counts"] == {"create": 3}, plan.text
    assert plan.json()["plan"]["bytes"] == 1007
    done = client.ended(client.sync())
    assert (done["state"], done["method"], done["bytesDone"], done["bytesTotal"]) == ("COMPLETED", "sync", 1007, 1007)
    assert client.read("to/b/c") == b"content"
    client.write("to/extra")
    assert client.sync(dryRun=True, delete=True).json()["plan"]["steps"] == [
        {"action": "delete", "path": "extra", "type": "file", "size": 7, "reason": None, "encoding": None}
    ]
    assert client.ended(client.sync(delete=True))["bytesDone"] == 0
    assert client.names("to") == {"a", "b"}


def test_transfers_are_listed(client, http, api, work):
    client.write("from/a")
    synced = client.ended(client.sync())
    upload = start(http, api, f"{work}/file", 3)
    first = http.get(client.url, params={"limit": 2}).json()
    ids = {one["id"] for one in first["transfers"]}
    assert ids <= {upload.id, synced["id"]} or len(ids) == 2
    shown = client.get(upload.id)
    assert (shown["state"], shown["bytesDone"], shown["bytesTotal"]) == ("PENDING", 0, 3)
    second = http.get(client.url, params={"limit": 1, "cursor": first["transfers"][0]["id"]}).json()
    assert second["transfers"][0] == first["transfers"][1]
    assert http.delete(f"{client.url}/{upload.id}").status_code == 204
    assert client.get(upload.id)["state"] == "CANCELLED"


def test_an_upload_goes_on_with_new_urls(client, http, api, work):
    upload = start(http, api, f"{work}/file", 3)
    again = http.post(f"{client.url}/{upload.id}/retry")
    assert again.status_code == 201, again.text
    urls = again.json()["transferDirectives"]
    with httpx.Client(base_url=api.url, timeout=30, verify=False) as web:
        assert web.put(urls["partsUploadUrls"][0], content=b"abc").status_code == 200
        assert client.get(upload.id)["bytesDone"] == 3
        assert web.post(urls["completeUploadUrl"]).status_code == 200
    assert client.get(upload.id)["state"] == "COMPLETED"
    refused = http.post(f"{client.url}/{upload.id}/retry")
    assert (refused.status_code, refused.json()["message"]) == (
        400, "The transfer was completed: there is nothing to retry",
    )  # fmt: skip


def test_a_failure_is_explained_and_a_retry_goes_on(client, http):
    client.write("from/a")
    client.write("from/file")
    client.write("to/file/inside")
    failed = client.ended(client.sync())
    assert failed["state"] == "FAILED"
    assert failed["error"] == (
        "1 entry was not transferred. The first: file: a folder is in the way: it is replaced only with `delete`"
    )
    assert "Remove the folder" in failed["hint"]
    log = http.get(f"{client.ops}/view", params={"path": failed["logs"]["errorLog"]}).json()["output"]
    assert "file: a folder is in the way" in log
    assert http.delete(f"{client.ops}/rm", params={"path": f"{client.work}/to/file"}).status_code == 204
    again = client.ended(http.post(f"{client.url}/{failed['id']}/retry"))
    assert (again["state"], again["filesDone"]) == ("COMPLETED", 1)


def test_a_job_is_a_transfer_as_soon_as_it_was_submitted(client, http, api):
    """Its record is written when the request has its answer."""
    client.write("a")
    for name in "bcd":
        moved = {"path": f"{client.work}/a", "targetPath": f"{client.work}/{name}", "account": api.account}
        job = http.post(f"{client.url}/cp", json=moved).json()["transferJob"]["jobId"]
        shown = http.get(f"{client.url}/{job}")
        assert (shown.status_code, shown.json()["transfer"]["jobId"]) == (200, job)


def test_refusals(client, http, api):
    client.write("from/a")
    assert client.sync(path=f"{client.work}/missing").status_code == 404
    assert client.sync(path=f"{client.work}/from/a").status_code == 400
    inside = client.sync(targetPath=f"{client.work}/from/sub")
    assert (inside.status_code, inside.json()["message"]) == (
        400, "`targetPath`: one of the folders contains the other",
    )  # fmt: skip
    for one in (client.sync(targetPath="/etc/x"), client.sync(path="/etc/x")):
        assert one.status_code == 400
        assert one.json()["message"].startswith(("`path` is outside", "`targetPath` is outside")), one.text
    copy = {"source_path": "/etc/x", "targetSystem": api.system, "target_path": f"{client.work}/x"}
    assert http.post(f"{client.url}/copy", json=copy).json()["message"].startswith("`source_path` is outside")
    copy |= {"source_path": f"{client.work}/from", "target_path": "/etc/x"}
    assert http.post(f"{client.url}/copy", json=copy).json()["message"].startswith("`target_path` is outside")
    assert client.sync(targetSystem="nowhere").status_code == 404
    assert http.get(f"{client.url}/transfer-{'a' * 26}").status_code == 404
    assert http.delete(f"{client.url}/no-such-job").status_code == 404
    same = http.post(f"{client.url}/copy", json={"path": "/x", "targetPath": "/y", "targetSystem": api.system})
    assert same.status_code == 400


def records(api: Any) -> str:
    return f"{api.home}/.flamecrest-transfers/{api.system}"


@pytest.mark.parametrize("kind", ["json", "end"])
def test_a_damaged_record_is_shown_and_can_be_removed(client, http, api, work, kind):
    upload = start(http, api, f"{work}/file", 3)
    path = f"{records(api)}/{upload.id}.{kind}"
    written = http.put(f"{client.ops}/upload", params={"path": path}, content=b"{")
    assert written.status_code in {201, 204}, written.text
    shown = client.get(upload.id)
    assert shown in http.get(client.url).json()["transfers"]
    assert (shown["state"], shown["method"], shown["path"]) == ("FAILED", None, "")
    assert "damaged" in shown["error"]
    assert "DELETE" in shown["hint"]
    refused = http.post(f"{client.url}/{upload.id}/retry")
    assert (refused.status_code, "damaged" in refused.json()["message"]) == (400, True), refused.text
    assert http.delete(f"{client.url}/{upload.id}").status_code == 204
    assert http.get(f"{client.url}/{upload.id}").status_code == 404
    left = http.get(f"{client.ops}/ls", params={"path": records(api), "showHidden": True}).json()["output"]
    assert not [one["name"] for one in left if one["name"].startswith(upload.id)]


def test_the_log_of_a_gateway_that_was_killed_at_the_end(client, http, api, work):
    """It had recorded the end, and had not written the last line of the log."""
    upload = start(http, api, f"{work}/file", 3)
    with httpx.Client(base_url=api.url, timeout=60, verify=False) as web:
        assert web.put(upload.parts[0], content=b"abc").status_code == 200
        assert web.post(upload.complete).status_code == 200
    log, end = f"{records(api)}/{upload.id}.log", f"{records(api)}/{upload.id}.end"
    read = lambda path: http.get(f"{client.ops}/download", params={"path": path}).content  # noqa: E731
    assert read(log).count(b"successfully completed") == 1
    assert read(end)[-1:] == b"\n"
    for path, content in {log: b"", end: read(end)[:-1] + b" "}.items():
        assert http.put(f"{client.ops}/upload", params={"path": path}, content=content).status_code in {201, 204}
    shown = http.get(upload.url + upload.id).json()["jobs"][0]["status"]
    assert (shown["state"], read(log).count(b"successfully completed"), read(end)[-1:]) == ("COMPLETED", 1, b"\n")
