"""`thenSubmit`: jobs that are submitted once when a transfer is complete."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import httpx
import pytest

from .conftest import Api
from .test_large_files import start
from .test_tracked_transfers import Client, client, http

__all__ = ["client", "http"]
pytestmark = pytest.mark.timeout(300)
PATIENCE = 120.0  # seconds; a busy Slurm is slow to say whether a key was used


def job(api: Api, work: str) -> dict[str, Any]:
    return {"workingDirectory": work, "script": "#!/bin/sh\ntrue\n", "name": uuid4().hex, "account": api.account}


def submitted(client: Client, transfer: str) -> str:
    """The job that followed a transfer."""
    until = time.monotonic() + PATIENCE
    while (found := client.get(transfer))["thenJobId"] is None:
        assert time.monotonic() < until, found
        assert found["error"] is None, found
        time.sleep(0.1)
    return str(found["thenJobId"])


def accepted(client: Client, operation: str, body: dict[str, Any], key: dict[str, str]) -> httpx.Response:
    """The answer to a request, which is repeated as clients do while the scheduler is not sure."""
    until = time.monotonic() + PATIENCE
    while True:
        answer = client.http.post(f"{client.url}/{operation}", json=body, headers=key)
        if answer.status_code not in {409, 503}:
            assert answer.status_code == 201, answer.text
            return answer
        assert time.monotonic() < until, answer.text
        time.sleep(1)


def named(client: Client, api: Api, name: str) -> list[str]:
    listed = client.http.get(f"/compute/{api.system}/jobs", params={"name": name})
    assert listed.status_code == 200, listed.text
    return [one["jobId"] for one in listed.json()["jobs"] or [] if one["name"] == name]


def test_a_job_follows_an_upload(client: Client, api: Api, work: str) -> None:
    following = job(api, work)
    upload = start(client.http, api, f"{work}/file", 3, thenSubmit=following)
    assert client.get(upload.id)["thenJobId"] is None
    with httpx.Client(base_url=api.url, timeout=30, verify=False) as web:
        assert web.put(upload.parts[0], content=b"abc").status_code == 200
        assert not named(client, api, following["name"])
        assert web.post(upload.complete).status_code == 200
    found = submitted(client, upload.id)
    assert named(client, api, following["name"]) in ([], [found])
    shown = client.http.get(f"/compute/{api.system}/jobs/{found}")
    assert (shown.status_code, shown.json()["jobs"][0]["name"]) == (200, following["name"])


@pytest.mark.parametrize("operation", ["mv", "cp", "compress"])
def test_a_job_follows_a_transfer_job(client: Client, api: Api, work: str, operation: str) -> None:
    client.write("file")
    following, key = job(api, work), {"Idempotency-Key": uuid4().hex}
    body = {"path": f"{work}/file", "targetPath": f"{work}/to", "account": api.account, "thenSubmit": following}
    begun = [accepted(client, operation, body, key) for _ in range(2)]
    (transfer,) = {one.json()["transferJob"]["jobId"] for one in begun}
    found = submitted(client, transfer)
    accepted(client, operation, body, key)
    assert submitted(client, transfer) == found
    shown = client.http.get(f"/compute/{api.system}/jobs/{found}").json()["jobs"][0]
    assert shown["name"] == following["name"]


def test_no_job_follows_what_has_failed(client: Client, api: Api, work: str) -> None:
    following = job(api, work)
    body = {"path": f"{work}/none", "targetPath": f"{work}/to", "account": api.account, "thenSubmit": following}
    failed = client.ended(client.http.post(f"{client.url}/mv", json=body))
    assert (failed["state"], failed["thenJobId"]) == ("FAILED", None)
    client.write("none")
    again = client.http.post(f"{client.url}/{failed['id']}/retry")
    assert again.status_code == 201, again.text
    assert submitted(client, again.json()["transferJob"]["jobId"])
    assert client.get(failed["id"])["thenJobId"] is None


def test_a_job_that_cannot_be_submitted_is_refused_before_the_transfer(client: Client, api: Api, work: str) -> None:
    wrong = {**job(api, work), "script": ""}
    body = {"path": f"{work}/a", "targetPath": f"{work}/b", "account": api.account, "thenSubmit": wrong}
    refused = client.http.post(f"{client.url}/mv", json=body)
    assert (refused.status_code, "`thenSubmit`: `script`" in refused.json()["message"]) == (400, True), refused.text
    listed = client.http.get(client.url).json()["transfers"]
    assert f"{work}/a" not in {one["path"] for one in listed}


def test_a_job_that_cannot_be_read_any_more(client: Client, api: Api, work: str) -> None:
    """Its user has put a folder in the place of its file: nobody tries again and again to read it."""
    upload = start(client.http, api, f"{work}/file", 3, thenSubmit=job(api, work))
    kept = f"{api.home}/.flamecrest-transfers/{api.system}/{upload.id}.then"
    assert client.http.delete(f"{client.ops}/rm", params={"path": kept}).status_code == 204
    assert client.http.post(f"{client.ops}/mkdir", json={"path": kept}).status_code == 201
    with httpx.Client(base_url=api.url, timeout=30, verify=False) as web:
        assert web.put(upload.parts[0], content=b"abc").status_code == 200
        assert web.post(upload.complete).status_code == 200
    until = time.monotonic() + PATIENCE
    while (found := client.get(upload.id))["error"] is None:
        assert time.monotonic() < until, found
        time.sleep(0.1)
    assert (found["state"], found["thenJobId"]) == ("COMPLETED", None)
    assert "cannot be read any more" in found["error"]
