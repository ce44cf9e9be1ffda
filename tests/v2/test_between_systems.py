"""Folders and files from one system to another of the same gateway, and jobs that are submitted when all is there."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from flamecrest.sandbox.centre import Centre
from tests.live.process import gateway

from .test_tracked_transfers import Client
from .test_user_pages import example, run_example

OTHER = "other"
USER = "fireuser"
PATIENCE = 60  # seconds


@dataclass(frozen=True)
class Two:
    """A gateway with two systems that are the same machine."""

    http: httpx.Client
    system: str
    home: Path
    config: Path
    token: str

    def client(self, work: Path) -> Client:
        return Client(self.http, self, str(work))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("two")
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        centre = stack.enter_context(portal.wrap_async_context_manager(Centre(folder / "centre")))
        settings = centre.config()
        settings["clusters"] += [{**settings["clusters"][0], "name": OTHER}]
        config = folder / "flamecrest.yaml"
        config.write_text(yaml.safe_dump({**settings, "transfers": {"part_size": 1024 * 1024}}))
        server = stack.enter_context(gateway(config, folder / "gateway.log"))
        token = centre.token(USER)
        headers = {"Authorization": f"Bearer {token}"}
        http = stack.enter_context(httpx.Client(base_url=server.url, headers=headers, timeout=30, verify=False))
        yield Two(http, centre.system, Path(str(centre.home(USER))), config, token)


@pytest.fixture
def work(two: Two, request: pytest.FixtureRequest) -> Path:
    folder: Path = two.home / f"{request.node.name.replace('/', '_')}-{uuid4().hex[:8]}"  # a test may run twice
    folder.mkdir()
    return folder


def wait_for(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


def job(work: Path) -> dict[str, Any]:
    return {
        "workingDirectory": str(work), "script": f"#!/bin/sh\nls {work}/to >> {work}/seen\n", "account": "test",
    }  # fmt: skip


def test_a_folder_goes_to_another_system(two, work):
    client = two.client(work)
    (work / "from" / "sub").mkdir(parents=True)
    (work / "from" / "sub" / "large").write_bytes(os.urandom(5_000_000))
    (work / "from" / os.fsdecode(b"odd \xff\n")).write_bytes(b"")
    (work / "from" / "link").symlink_to("sub")
    done = client.ended(client.sync(targetSystem=OTHER, thenSubmit=job(work)))
    assert (done["state"], done["targetSystem"], done["bytesDone"], done["error"]) == (
        "COMPLETED",
        OTHER,
        5_000_000,
        None,
    )
    assert (work / "to" / "sub" / "large").read_bytes() == (work / "from" / "sub" / "large").read_bytes()
    assert (work / "to" / os.fsdecode(b"odd \xff\n")).exists()
    assert (work / "to" / "link").is_symlink()
    submitted = two.http.get(f"/compute/{OTHER}/jobs/{done['thenJobId']}")
    assert submitted.status_code == 200, submitted.text


@pytest.mark.parametrize(("source", "target"), [("from", "from/sub"), ("from/sub", "from"), ("from", "from")])
@pytest.mark.parametrize("kind", ["sync", "copy"])
def test_a_folder_of_a_shared_file_system_does_not_go_into_itself(two, work, kind, source, target):
    (work / "from" / "sub").mkdir(parents=True)
    (work / "from" / "file").write_bytes(b"content")
    (work / "from" / "sub" / "other").write_bytes(b"content")
    body = {"path": f"{work}/{source}", "targetPath": f"{work}/{target}", "targetSystem": OTHER}
    answer = two.http.post(f"{two.client(work).url}/{kind}", json=body)
    assert answer.status_code == 400, answer.text
    assert "contains the other" in answer.text
    found = {str(one.relative_to(work)) for one in work.rglob("*")}
    assert found == {"from", "from/sub", "from/file", "from/sub/other"}


def test_a_file_is_copied_and_compared(two, work):
    client = two.client(work)
    content = os.urandom(3_500_000)
    (work / "file").write_bytes(content)
    (work / "to").mkdir()
    body = {"path": f"{work}/file", "targetPath": f"{work}/to", "targetSystem": OTHER}
    done = client.ended(two.http.post(f"{client.url}/copy", json=body))
    assert (done["state"], done["sha256"]) == ("COMPLETED", hashlib.sha256(content).hexdigest())
    assert (done["targetPath"], done["bytesDone"], done["bytesTotal"]) == (f"{work}/to/file", 3_500_000, 3_500_000)
    assert (work / "to" / "file").read_bytes() == content
    assert {one.name for one in (work / "to").iterdir()} == {"file"}


def test_a_folder_is_copied_into_another(two, work):
    client = two.client(work)
    (work / "from").mkdir()
    (work / "from" / "a").write_bytes(b"a")
    (work / "to").mkdir()
    body = {"path": f"{work}/from", "targetPath": f"{work}/to", "targetSystem": OTHER}
    done = client.ended(two.http.post(f"{client.url}/copy", json=body))
    assert (done["state"], done["targetPath"]) == ("COMPLETED", f"{work}/to/from")
    assert (work / "to" / "from" / "a").read_bytes() == b"a"


def test_a_folder_that_is_copied_again_goes_to_the_same_place(two, work):
    client = two.client(work)
    (work / "from").mkdir()
    (work / "from" / "a").write_bytes(b"a")
    (work / "to" / "from" / "a").mkdir(parents=True)
    body = {"path": f"{work}/from", "targetPath": f"{work}/to", "targetSystem": OTHER}
    failed = client.ended(two.http.post(f"{client.url}/copy", json=body))
    assert failed["state"] == "FAILED"
    (work / "to" / "from" / "a").rmdir()
    again = client.ended(two.http.post(f"{client.url}/{failed['id']}/retry"))
    assert (again["state"], again["targetPath"]) == ("COMPLETED", f"{work}/to/from")
    assert {str(one.relative_to(work)) for one in (work / "to").rglob("*")} == {"to/from", "to/from/a"}


def test_a_failed_copy_leaves_the_old_file(two, work):
    client = two.client(work)
    (work / "file").write_bytes(b"new")
    (work / "to").mkdir()
    (work / "to" / "file").write_bytes(b"old")
    (work / "to").chmod(0o500)
    (work / "to" / "file").chmod(0o400)
    body = {"path": f"{work}/file", "targetPath": f"{work}/to/file", "targetSystem": OTHER, "thenSubmit": job(work)}
    failed = client.ended(two.http.post(f"{client.url}/copy", json=body))
    (work / "to").chmod(0o700)
    assert (failed["state"], failed["thenJobId"]) == ("FAILED", None)
    assert "Permission denied" in failed["error"]
    assert failed["hint"] is not None
    assert (work / "to" / "file").read_bytes() == b"old"
    (work / "to" / "file").chmod(0o600)
    again = client.ended(two.http.post(f"{client.url}/{failed['id']}/retry"))
    assert again["state"] == "COMPLETED", again
    assert again["thenJobId"]
    assert (work / "to" / "file").read_bytes() == b"new"


def test_a_job_that_is_refused_is_reported(two, work):
    client = two.client(work)
    (work / "from").mkdir()
    refused = client.sync(thenSubmit={"workingDirectory": str(work)})
    assert refused.status_code == 400
    assert "thenSubmit" in refused.json()["message"]
    done = client.ended(client.sync(thenSubmit={**job(work), "partition": "nosuch"}))
    assert (done["state"], done["thenJobId"]) == ("COMPLETED", None)
    assert "partition" in done["error"].lower()


def test_jobs_of_the_scheduler_are_listed(two, work):
    client = two.client(work)
    (work / "file").write_bytes(b"data")
    begun = two.http.post(
        f"{client.url}/cp", json={"path": f"{work}/file", "targetPath": f"{work}/to", "account": "test"}
    )
    job_id = begun.json()["transferJob"]["jobId"]

    def shown() -> dict[str, Any] | None:
        found = two.http.get(client.url).json()["transfers"]
        return next((dict(one) for one in found if one["jobId"] == job_id), None)

    until = time.monotonic() + 60
    while ((one := shown()) is None or one["ended"] is None) and time.monotonic() < until:
        time.sleep(0.05)
    assert one is not None
    assert (one["method"], one["state"], one["targetPath"]) == ("cp", "COMPLETED", f"{work}/to")
    assert one["logs"] == begun.json()["transferJob"]["logs"]
    assert client.get(job_id)["id"] == one["id"]
    assert two.http.delete(f"{client.url}/{job_id}").status_code == 204
    missing = {"path": f"{work}/none", "targetPath": f"{work}/other", "account": "test"}
    failing = two.http.post(f"{client.url}/mv", json=missing).json()["transferJob"]["jobId"]
    job_id = failing
    while ((one := shown()) is None or one["ended"] is None) and time.monotonic() < until:
        time.sleep(0.05)
    assert one is not None
    assert one["state"] == "FAILED"
    (work / "none").write_bytes(b"now")
    again = two.http.post(f"{client.url}/{one['id']}/retry")
    assert again.status_code == 201, again.text
    job_id = again.json()["transferJob"]["jobId"]
    while ((one := shown()) is None or one["ended"] is None) and time.monotonic() < until:
        time.sleep(0.05)
    assert (work / "other").read_bytes() == b"now"


def test_systems_with_one_home_do_not_take_jobs_of_others_for_transfers(two, work):
    client = two.client(work)
    (work / "file").write_bytes(b"content")
    body = {"path": f"{work}/file", "targetPath": f"{work}/copy"}
    submitted = two.http.post(f"{client.url}/cp", json=body)
    wait_for(
        lambda: submitted.json()["transferJob"]["jobId"] in two.http.get(client.url).text
    )  # it is noted after the answer
    copied = client.ended(submitted)
    directives = {"transferMethod": "direct", "fileSize": 3}
    upload = two.http.post(f"{client.url}/upload", json={"path": f"{work}/new", "transferDirectives": directives})
    ids = {copied["jobId"], copied["id"], upload.json()["transferJob"]["jobId"]}
    other = f"/filesystem/{OTHER}/transfer"
    listed = {two.http.get(url).text.count(one) > 0 for url in (client.url,) for one in ids}
    assert listed == {True}
    shown = two.http.get(other).json()["transfers"]
    assert not ids & {text for one in shown for text in (one["id"], one["jobId"])}, shown
    for one in ids:
        for answer in (
            two.http.get(f"{other}/{one}"),
            two.http.delete(f"{other}/{one}"),
            two.http.post(f"{other}/{one}/retry"),
        ):
            assert answer.status_code == 404, (one, answer.request, answer.text)
    assert client.get(upload.json()["transferJob"]["jobId"])["state"] == "PENDING"


def test_example_of_a_copy_on_the_page_about_transfers(two, work, tmp_path):
    url = str(two.http.base_url).rstrip("/")
    shown = run_example(example("targetSystem"), url, two.system, two.token, str(work), tmp_path, OTHER=OTHER)
    assert '"name":"one.txt"' in shown
    assert (work / "copied" / "one.txt").read_text() == "one\n"
