"""What breaks transfers through radosgw: killed movers, a store that stops, quotas, URLs that expire or are altered."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.process import Server

from .place import MIB, PATIENCE, Place, begin, ended, names, read, send, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(420)]

WAITING = {"PENDING", "RUNNING", "COMPLETING"}


@pytest.fixture
def old(place: Place, http: httpx.Client) -> Iterator[set[str]]:
    """The names in the folder, of which one is that of an older file, `old`."""
    url = "/filesystem/jobs/ops/upload"
    http.put(url, params={"path": f"{place.folder}/old"}, content=b"old").raise_for_status()
    yield names(http, place)
    http.delete("/filesystem/jobs/ops/rm", params={"path": f"{place.folder}/old"})


def job_of(http: httpx.Client, system: str, begun: dict[str, Any]) -> str:
    """The id of the mover job of an upload, when it is submitted."""
    limit = time.monotonic() + PATIENCE
    while True:
        response = http.get(f"/compute/{system}/jobs/{begun['transferJob']['jobId']}")
        reason = response.json()["jobs"][0]["status"]["stateReason"] or ""
        if found := re.match(r"Job (\d+)", reason):
            return found[1]
        assert time.monotonic() < limit, reason
        time.sleep(0.2)


def view(http: httpx.Client, system: str, begun: dict[str, Any]) -> dict[str, Any]:
    response = http.get(f"/filesystem/{system}/transfer/{begun['transferJob']['jobId']}")
    assert response.status_code == 200, response.text
    return dict(response.json()["transfer"])


def processes(job: str, name: str) -> list[int]:
    """The processes of a job that run a program."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "comm").read_text() == f"{name}\n" and f"SLURM_JOB_ID={job}\0" in (
                folder / "environ"
            ).read_text():
                found.append(int(folder.name))
    return found


@contextmanager
def frozen(place: Place) -> Iterator[None]:
    """The store does not respond, and keeps its connections."""
    pid = place.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def shown_to_others(job: str) -> str:
    """What other users see of a job, and of all processes."""
    lines = [path.read_bytes().decode("utf-8", "replace") for path in Path("/proc").glob("[0-9]*/cmdline")]
    asked = (
        ["scontrol", "show", "job", job],
        ["scontrol", "write", "batch_script", job, "-"],
        ["sacct", "-j", job, "-P", "-o", "ALL"],
    )
    lines += [subprocess.run(argv, capture_output=True, text=True, check=False).stdout for argv in asked]
    return "\n".join(lines)


@pytest.mark.parametrize("victim", ["slurm_script", "curl"])
def test_killed_while_it_fetches(place: Place, http: httpx.Client, old: set[str], victim: str) -> None:
    data = os.urandom(20 * MIB)
    send(begun := begin(http, place, "held", "old", len(data)), data)
    job = job_of(http, "held", begun)
    waits = view(http, "held", begun)
    assert (waits["state"], waits["stateReason"]) == ("PENDING", f"Job {job}: JobHeldUser"), waits
    assert waits["hint"] == "You hold it. Release it."
    with frozen(place):
        subprocess.run(["scontrol", "release", job], check=True)
        until(lambda: processes(job, "curl"))
        shown = shown_to_others(job)
        assert f"JobId={job} " in shown
        assert "X-Amz" not in shown
        assert "live-secret" not in shown
        for pid in processes(job, victim):
            os.kill(pid, signal.SIGKILL)
    if victim == "slurm_script":
        status = ended(http, "held", begun)
        assert status["state"] == "FAILED", status
        assert f"Job {job} has ended in state FAILED" in status["stateReason"]
        assert "The older file at its place is unchanged" in status["stateReason"]
        assert read(http, place, "old") == b"old"
        assert names(http, place) == old
        again = http.post(f"/filesystem/held/transfer/{begun['transferJob']['jobId']}/retry")
        assert again.status_code == 201, again.text
        begun = again.json()
        subprocess.run(["scontrol", "release", job_of(http, "held", begun)], check=True)
    assert ended(http, "held", begun)["state"] == "COMPLETED"
    assert read(http, place, "old") == data
    assert names(http, place) == old
    until(lambda: place.left(f"held-{place.site.user}") == [])


def test_a_store_that_stops_and_comes_back(place: Place, http: httpx.Client, old: set[str]) -> None:
    data = os.urandom(20 * MIB)
    send(held := begin(http, place, "held", "old", len(data)), data)
    job = job_of(http, "held", held)
    relayed = begin(http, place, "relayed", "relayed", len(data))
    send(relayed, data)
    place.stop()
    try:
        subprocess.run(["scontrol", "release", job], check=True)
        state = ["squeue", "-h", "-o", "%T", "-j", job]
        until(lambda: subprocess.run(state, capture_output=True, text=True, check=True).stdout == "RUNNING\n")
        assert http.get(f"/compute/relayed/jobs/{relayed['transferJob']['jobId']}").status_code == 200
        body = {
            "path": f"{place.folder}/new",
            "account": place.site.account,
            "transferDirectives": {"transferMethod": "s3", "fileSize": 1},
        }
        refused = http.post("/filesystem/jobs/transfer/upload", json=body)
        assert (refused.status_code, "does not respond" in refused.text) == (503, True), refused.text
    finally:
        place.start_again()
    for system, begun, name in (("held", held, "old"), ("relayed", relayed, "relayed")):
        assert ended(http, system, begun)["state"] == "COMPLETED"
        assert read(http, place, name) == data
    assert names(http, place) == old | {"relayed"}


@pytest.mark.parametrize("system", ["full", "full-relayed"])
def test_a_quota_of_the_store(place: Place, http: httpx.Client, old: set[str], system: str) -> None:
    path = {"path": f"{place.folder}/large"}
    http.put("/filesystem/jobs/ops/upload", params=path, content=bytes(9 * MIB)).raise_for_status()
    begun = begin(http, place, system, "large", None)
    status = ended(http, system, begun)
    assert status["state"] == "FAILED"
    shown = view(http, system, begun)
    assert "quota" in shown["error"].lower() + status["stateReason"].lower()
    assert place.left(f"full-{place.site.user}", "full") == []
    begun = begin(http, place, system, "old", 9 * MIB)
    refused = httpx.put(begun["transferDirectives"]["partsUploadUrls"][0], content=bytes(8 * MIB), timeout=60)
    assert (refused.status_code, "QuotaExceeded" in refused.text) == (403, True), refused.text
    assert httpx.delete(begun["transferDirectives"]["abortUploadUrl"]).status_code == 204
    assert ended(http, system, begun)["state"] == "CANCELLED"
    assert read(http, place, "old") == b"old"
    assert names(http, place) == old | {"large"}
    http.delete("/filesystem/jobs/ops/rm", params=path)


def test_a_quota_of_one_bucket(place: Place, http: httpx.Client, old: set[str]) -> None:
    bucket = f"relayed-{place.site.user}"
    quota = ("--quota-scope=bucket", f"--bucket={bucket}")
    begun = begin(http, place, "relayed", "old", 9 * MIB)  # makes the bucket
    try:
        place.administer("quota", "set", *quota, "--max-size=4M")
        place.administer("quota", "enable", *quota)
        refused = httpx.put(begun["transferDirectives"]["partsUploadUrls"][0], content=bytes(8 * MIB), timeout=60)
        assert (refused.status_code, "QuotaExceeded" in refused.text) == (403, True), refused.text
    finally:
        place.administer("quota", "disable", *quota)
    send(begun, bytes(9 * MIB))
    assert ended(http, "relayed", begun)["state"] == "COMPLETED"
    assert names(http, place) == old
    assert place.left(bucket) == []


def test_the_last_of_10_000_parts(place: Place, http: httpx.Client, old: set[str]) -> None:
    begun = begin(http, place, "relayed", "old", 10_000 * 8 * MIB)
    urls = begun["transferDirectives"]["partsUploadUrls"]
    assert len(urls) == 10_000
    assert httpx.put(urls[-1], content=b"last", timeout=60).status_code == 200
    assert httpx.delete(begun["transferDirectives"]["abortUploadUrl"]).status_code == 204
    assert ended(http, "relayed", begun)["state"] == "CANCELLED"
    assert read(http, place, "old") == b"old"
    assert names(http, place) == old
    assert place.left(f"relayed-{place.site.user}") == []


def test_urls_that_expire(place: Place, http: httpx.Client, old: set[str]) -> None:
    begun = begin(http, place, "brief", "old", 9 * MIB)
    first, second = begun["transferDirectives"]["partsUploadUrls"]
    until(lambda: httpx.put(second, content=b"x", timeout=60).status_code == 403)
    assert httpx.put(first, content=bytes(8 * MIB), timeout=60).status_code == 403
    status = ended(http, "brief", begun)
    assert status["state"] == "TIMEOUT"
    assert "not completed in time" in status["stateReason"]
    assert read(http, place, "old") == b"old"
    assert names(http, place) == old
    assert place.left(f"brief-{place.site.user}") == []


def test_parts_twice_and_missing(place: Place, http: httpx.Client, old: set[str]) -> None:
    data = os.urandom(9 * MIB)
    begun = begin(http, place, "relayed", "old", len(data))
    given = begun["transferDirectives"]
    url, size = given["partsUploadUrls"][0], given["maxPartSize"]
    for changed in (
        url.replace("partNumber=1", "partNumber=2"),
        url.replace("X-Amz-Expires=", "X-Amz-Expires=9"),
        url.replace("relayed-", "jobs-"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
    ):
        assert httpx.put(changed, content=b"x", timeout=60).status_code == 403, changed
    assert httpx.get(url).status_code == 403
    assert httpx.put(url, content=os.urandom(size), timeout=60).status_code == 200
    send(begun, data)  # the first part again
    assert ended(http, "relayed", begun)["state"] == "COMPLETED"
    assert read(http, place, "old") == data
    begun = begin(http, place, "relayed", "old", len(data) + size)
    two = begun["transferDirectives"]["partsUploadUrls"][:2]
    send({"transferDirectives": begun["transferDirectives"] | {"partsUploadUrls": two}}, data)
    status = ended(http, "relayed", begun)
    assert status["state"] == "FAILED"
    assert "a part is missing or has another size" in status["stateReason"]
    assert read(http, place, "old") == data
    assert names(http, place) == old
    assert place.left(f"relayed-{place.site.user}") == []


def test_virtual_hosts(place: Place, server: Server, http: httpx.Client) -> None:
    hosts = Path("/etc/hosts")
    line = f"127.0.0.1 virtual-{place.site.user}.localhost  # flamecrest live tests\n"
    before = hosts.read_text()
    with hosts.open("a") as file:
        file.write(line if before.endswith("\n") or not before else "\n" + line)
    try:
        data = os.urandom(9 * MIB)
        begun = begin(http, place, "virtual", "virtual", len(data))
        host = httpx.URL(begun["transferDirectives"]["completeUploadUrl"]).host
        assert host == f"virtual-{place.site.user}.localhost"
        send(begun, data)
        assert ended(http, "virtual", begun)["state"] == "COMPLETED"
        assert read(http, place, "virtual") == data
        begun = begin(http, place, "virtual", "virtual", None)
        assert ended(http, "virtual", begun)["state"] == "COMPLETED"
        assert httpx.get(begun["transferDirectives"]["downloadUrl"]).content == data
    finally:
        hosts.write_text(hosts.read_text().replace(line, ""))
