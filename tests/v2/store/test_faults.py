"""Transfers through an object store that fail, are given up or retried, and attacks on them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.v2.test_large_files import Transfer, names, read, start

from .place import MIB, MOVERS, PATIENCE, ended, send, view

pytestmark = pytest.mark.timeout(300)


def test_a_missing_part(api, work, http, web) -> None:
    Path(f"{work}/file").write_bytes(b"old")
    transfer = start(http, api, f"{work}/file", 5 * MIB + 1, "s3")
    response = web.put(transfer.parts[0], content=bytes(5 * MIB))
    assert transfer.state == "RUNNING"
    listed = f"<Part><PartNumber>1</PartNumber><ETag>{response.headers['etag']}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
    assert web.post(transfer.complete, content=body).status_code == 200
    status = ended(transfer)["status"]
    assert status["state"] == "FAILED"
    assert "a part is missing or has another size" in status["stateReason"]
    assert read(http, api, f"{work}/file") == b"old"
    assert names(http, api, work) == ["file"]
    assert "a part is missing" in transfer.log("errorLog")
    assert "successfully" not in transfer.log()


def test_a_move_that_failed_is_retried(api, work, http, web) -> None:
    folder = Path(f"{work}/folder")
    folder.mkdir()
    transfer = start(http, api, f"{folder}/file", 3, "s3")
    for left in folder.iterdir():
        left.unlink()
    folder.rmdir()
    send(web, transfer, b"abc")
    status = ended(transfer)["status"]
    assert status["state"] == "FAILED", status
    retry = f"/filesystem/{api.system}/transfer/{transfer.id}/retry"
    assert http.post(retry).status_code == 404
    folder.mkdir()
    until = time.monotonic() + PATIENCE

    def moved(again: httpx.Response) -> str:
        assert again.status_code == 201, again.text
        url = f"/compute/{api.system}/jobs/{again.json()['transferJob']['jobId']}"
        while (status := http.get(url).json()["jobs"][0]["status"])["state"] in {"PENDING", "RUNNING"}:
            assert time.monotonic() < until, status
            time.sleep(0.1)
        return str(status["state"])

    assert moved(http.post(retry)) == "COMPLETED"
    assert read(http, api, f"{folder}/file") == b"abc"
    # The object is removed after the end is noted. Until then a retry moves it again; then the client uploads again.
    while "transferDirectives" not in (answer := http.post(retry)).json():
        moved(answer)
    anew = Transfer(http, api.system, answer)
    send(web, anew, b"new")
    assert ended(anew)["status"]["state"] == "COMPLETED"
    assert read(http, api, f"{folder}/file") == b"new"


@pytest.mark.parametrize("api", ["job"], indirect=True)
def test_a_mover_job_that_was_preempted(place, api, work, http, web) -> None:
    centre = place[0]
    centre.slurm.set(start_delay=600)
    try:
        transfer = start(http, api, f"{work}/file", 3, "s3")
        send(web, transfer, b"abc")
        until = time.monotonic() + PATIENCE
        while not (jobs := [job for job in centre.slurm.jobs() if not job.ended]):
            assert time.monotonic() < until, transfer.job()
            assert transfer.state in {"PENDING", "RUNNING"}
            time.sleep(0.1)
        for job in jobs:
            centre.slurm.end(job.id, "PREEMPTED")
        status = ended(transfer)["status"]
    finally:
        centre.slurm.set(start_delay=0.2)
    assert status["state"] == "FAILED", status
    assert "state PREEMPTED before the data was moved" in transfer.log("errorLog")


def test_an_upload_whose_urls_are_lost_goes_on(api, work, http, web) -> None:
    data = os.urandom(5 * MIB + 1)
    transfer = start(http, api, f"{work}/file", len(data), "s3")
    assert web.put(transfer.parts[0], content=data[: 5 * MIB]).status_code == 200
    retry = f"/filesystem/{api.system}/transfer/{transfer.id}/retry"
    again = Transfer(http, api.system, http.post(retry))
    assert again.id == transfer.id
    send(web, again, data)
    assert http.post(retry).status_code == 400  # still under way, or complete
    assert ended(transfer)["status"]["state"] == "COMPLETED"
    assert read(http, api, f"{work}/file") == data
    assert "was completed" in http.post(retry).json()["message"]


@pytest.mark.parametrize("by", ["job", "URL"])
def test_an_upload_that_is_given_up(api, work, http, web, by: str) -> None:
    transfer = start(http, api, f"{work}/file", 5 * MIB + 1, "s3")
    assert web.put(transfer.parts[0], content=bytes(5 * MIB)).status_code == 200
    if by == "job":
        assert http.delete(transfer.url + transfer.id).status_code == 204
    else:
        assert web.delete(transfer.abort).status_code == 204
    assert transfer.state == "CANCELLED"
    assert names(http, api, work) == []
    assert web.put(transfer.parts[1], content=b"x").status_code >= 400
    assert http.delete(transfer.url + transfer.id).status_code == 204  # it stays as it is
    again = Transfer(http, api.system, http.post(f"/filesystem/{api.system}/transfer/{transfer.id}/retry"))
    assert again.id != transfer.id
    send(web, again, bytes(5 * MIB + 1))
    assert ended(again)["status"]["state"] == "COMPLETED"


def test_a_store_that_is_down(api, work, http, web, store) -> None:
    transfer = start(http, api, f"{work}/file", 3, "s3")
    store.gate.down = True
    job = transfer.job()["status"]
    assert job["state"] == "PENDING"
    assert "The object store sandbox-store is overloaded" in job["stateReason"]
    body = {"path": f"{work}/other", "transferDirectives": {"transferMethod": "s3", "fileSize": 3}}
    refused = http.post(f"/filesystem/{api.system}/transfer/upload", json=body)
    assert refused.status_code == 503
    assert len(names(http, api, work)) == 1  # nothing of the refused one
    store.gate.down = False
    send(web, transfer, b"abc")
    assert ended(transfer)["status"]["state"] == "COMPLETED"
    assert read(http, api, f"{work}/file") == b"abc"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (
            {"path": "{}/no/file", "transferDirectives": {"transferMethod": "s3", "fileSize": 1}},
            404,
            "folder for the file must exist",
        ),
        ({"path": "{}", "transferDirectives": {"transferMethod": "s3", "fileSize": 1}}, 400, "Is a directory"),
        ({"path": "{}/x", "transferDirectives": {"transferMethod": "s3"}}, 400, "fileSize"),
        ({"path": "{}/x", "transferDirectives": {"transferMethod": "s3", "fileSize": 6 * 10**13}}, 400, "at most"),
        ({"path": "/etc/x", "transferDirectives": {"transferMethod": "s3", "fileSize": 1}}, 400, "`path`"),
    ],
)
def test_uploads_that_are_refused(api, work, http, body: dict[str, Any], status: int, message: str) -> None:
    body = body | {"path": body["path"].format(work)}
    refused = http.post(f"/filesystem/{api.system}/transfer/upload", json=body)
    assert (refused.status_code, message in refused.text) == (status, True), refused.text
    assert names(http, api, work) == []


def test_an_account_that_no_job_can_be_charged_to(api, work, http) -> None:
    """It is refused before the file is sent, where a job is to fetch it; the gateway charges nobody."""
    body = {"path": f"{work}/x", "account": "two words", "transferDirectives": {"transferMethod": "s3", "fileSize": 1}}
    begun = http.post(f"/filesystem/{api.system}/transfer/upload", json=body)
    if api.system == MOVERS["job"]:
        assert (begun.status_code, "`account` must be" in begun.json()["message"]) == (400, True), begun.text
    else:
        assert begun.status_code == 201, begun.text
        assert http.delete(f"/filesystem/{api.system}/transfer/{begun.json()['transferJob']['jobId']}").is_success
    assert names(http, api, work) == []


def test_downloads_that_are_refused(api, work, http) -> None:
    for path, status in ((f"{work}/none", 404), (work, 400)):
        body = {"path": path, "transferDirectives": {"transferMethod": "s3"}}
        assert http.post(f"/filesystem/{api.system}/transfer/download", json=body).status_code == status


# Attacks


def test_a_url_opens_nothing_else(api, work, http, web) -> None:
    first, second = (start(http, api, f"{work}/{name}", 5 * MIB + 1, "s3") for name in ("one", "two"))
    url, key = first.parts[0], httpx.URL(first.parts[0]).path
    for changed in (
        url.replace("partNumber=1", "partNumber=2"),
        url.replace(key, httpx.URL(second.parts[0]).path),
        url.replace("X-Amz-Expires=3600", "X-Amz-Expires=360000"),
        url.replace("uploadId=", "uploadId=x"),
        url + "&partNumber=2",
        url.replace("partNumber=1", "partNumber=2&partNumber=1"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
    ):
        assert changed != url
        assert web.put(changed, content=b"x").status_code == 403, changed
    assert web.get(url).status_code == 403
    assert web.delete(url).status_code == 403
    assert web.put(url, content=b"x", headers={"x-amz-acl": "public-read"}).status_code == 403
    assert web.put(url, content=bytes(5 * MIB)).status_code == 200
    for transfer in (first, second):
        assert http.delete(transfer.url + transfer.id).status_code == 204


def test_a_record_opens_no_bucket_of_others(api, work, http, web) -> None:
    transfer = start(http, api, f"{work}/file", 3, "s3")
    record = Path(api.home) / ".flamecrest-transfers" / api.system / f"{transfer.id}.json"
    right = record.read_text()
    record.write_text(right.replace("-fireuser", "-user01"))
    shown = http.get(transfer.url + transfer.id)
    assert (shown.status_code, "damaged" in shown.text) == (400, True), shown.text
    url = f"/filesystem/{api.system}/transfer"
    assert http.post(f"{url}/{transfer.id}/retry").status_code == 400
    found = view(http, api, transfer.id)
    assert (found["state"], found["method"], "damaged" in found["error"]) == ("FAILED", None, True), found
    assert found in http.get(url).json()["transfers"]
    record.write_text(right)
    send(web, transfer, b"abc")
    assert ended(transfer)["status"]["state"] == "COMPLETED"
    other = start(http, api, f"{work}/file", 3, "s3")
    record = record.with_name(f"{other.id}.json")
    record.write_text(record.read_text().replace("-fireuser", "-user01"))
    assert http.delete(f"{url}/{other.id}").status_code == 204
    assert http.get(f"{url}/{other.id}").status_code == 404
    assert not list(record.parent.glob(f"{other.id}*"))
    send(web, other, b"new")  # nothing in the store was touched, and nobody fetches it
    assert read(http, api, f"{work}/file") == b"abc"


def test_transfers_are_their_owners(api, place, work, http, web) -> None:
    transfer = start(http, api, f"{work}/file", 3, "s3")
    other = {"Authorization": f"Bearer {place[0].token('user01')}"}
    assert http.get(transfer.url + transfer.id, headers=other).status_code == 404
    assert http.delete(transfer.url + transfer.id, headers=other).status_code == 404
    send(web, transfer, b"abc")
    assert ended(transfer)["status"]["state"] == "COMPLETED"
    assert web.put(transfer.parts[0], content=b"new").status_code >= 400
    assert read(http, api, f"{work}/file") == b"abc"


def test_secrets_stay_out_of_logs_and_scripts(api, place, work, http, web) -> None:
    transfer = start(http, api, f"{work}/file", 3, "s3")
    send(web, transfer, b"abc")
    assert ended(transfer)["status"]["state"] == "COMPLETED"
    home, shown = Path(api.home), transfer.log() + transfer.log("errorLog") + api.log.read_text("utf-8", "replace")
    for path in [*home.glob(".f7t_file_handling_job*"), *home.glob(".flamecrest-transfers/*/*")]:
        if path.suffix != ".urls":
            shown += path.read_text("utf-8", "replace")
    assert "X-Amz-Signature" not in shown
    assert "sandbox-secret" not in shown
    assert not (home / ".flamecrest-transfers" / api.system / f"{transfer.id}.urls").exists()


@pytest.mark.parametrize("api", ["job"], indirect=True)
def test_a_download_while_the_accounting_is_late(place, api, work, http) -> None:
    """No job can have been submitted for a transfer that begins: the records of others are not waited for."""
    centre = place[0]
    Path(f"{work}/file").write_bytes(b"abc")
    job = {"workingDirectory": work, "script": "#!/bin/sh\ntrue\n", "account": "test", "comment": "mine", "hold": True}
    body = {"path": f"{work}/file", "transferDirectives": {"transferMethod": "s3"}}
    url, key = f"/filesystem/{api.system}/transfer/download", {"Idempotency-Key": os.urandom(8).hex()}
    centre.slurm.set(history_lag=600)
    try:
        submitted = http.post(f"/compute/{api.system}/jobs", json={"job": job | {"standardOutput": "/dev/null"}})
        assert submitted.status_code == 201, submitted.text
        first = http.post(url, json=body, headers=key)
        assert first.status_code == 201, first.text
        before = len(centre.slurm.jobs())
        assert http.post(url, json=body, headers=key).json() == first.json()
        assert len(centre.slurm.jobs()) == before
    finally:
        centre.slurm.set(history_lag=0)
        http.delete(f"/compute/{api.system}/jobs/{submitted.json()['jobId']}")
    assert ended(Transfer(http, api.system, first))["status"]["state"] == "COMPLETED"
