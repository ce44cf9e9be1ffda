"""Transfers through radosgw with real Slurm jobs: presigned parts, tenants, other owners, a killed gateway."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from firecrest.v2 import Firecrest

from flamecrest.sandbox.issuer import Issuer
from tests.live.process import ROOT, Server
from tests.live.test_large_files import Token, cli, fill
from tests.v2.test_user_pages import example, run_example

from .place import MIB, PAGE, PATIENCE, Place, begin, ended, names, read, send, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(420)]


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # httpx's, about the client's own request
@pytest.mark.parametrize(
    ("system", "owner", "bucket"),
    [("jobs", "flamecrest", "jobs-"), ("relayed", "flamecrest", "relayed-"), ("tenant", "tenant", "hpc:")],
)
def test_pyfirecrest(place: Place, server: Server, tmp_path: Path, system: str, owner: str, bucket: str) -> None:
    site, name = place.site, f"{system} it's a, $(file) \\ ü.bin"
    digest = fill(tmp_path / "file", 40)
    client = Firecrest(server.url, Token(place.token), verify=False)
    if system == "tenant":  # by the command line
        cli(client, "upload", "--system", system, str(tmp_path / "file"), place.folder, name, "--account", site.account)
    else:
        client.upload(system, str(tmp_path / "file"), place.folder, name, account=site.account, blocking=True)
    assert client.checksum(system, f"{place.folder}/{name}")["checksum"] == digest
    client.download(system, f"{place.folder}/{name}", str(tmp_path / "back"), account=site.account, blocking=True)
    assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == digest
    client.close_session()
    bucket += site.user
    rules = place.s3(owner).get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert [rule["Expiration"]["Days"] for rule in rules] == [3]
    assert [key for key in place.left(bucket, owner) if not key.endswith(".bin")] == []
    assert len(place.left(bucket, owner)) == 1  # the download, until it expires


@pytest.mark.parametrize("system", ["jobs", "relayed"])
def test_the_example_of_the_users_page(place: Place, server: Server, tmp_path: Path, system: str) -> None:
    where = (server.url, system, place.token, place.folder, tmp_path)
    shown = run_example(example("<PartNumber>"), *where, ACCOUNT=place.site.account)
    assert "CompleteMultipartUploadResult" in shown
    assert (tmp_path / "back.bin").stat().st_size == 12_000_000  # in two parts


def test_aiida(
    place: Place, server: Server, http: httpx.Client, live_issuer: Issuer, aiida_python: Path, tmp_path: Path
) -> None:
    data, name = os.urandom(9 * MIB), "aiida's file"
    (tmp_path / "file").write_bytes(data)
    client = f"{place.site.user}-client"
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIIDA_PATH": str(tmp_path), "NO_PROXY": "*",
        "FIRECREST_URL": server.url, "FIRECREST_TOKEN_URL": live_issuer.token_url, "FIRECREST_CLIENT_ID": client,
        "FIRECREST_SECRET": live_issuer.clients[client][0], "FIRECREST_SYSTEM": "jobs",
        "FIRECREST_ACCOUNT": place.site.account,
    }  # fmt: skip
    words = ["-m", "tests.live.store.aiida_files", str(tmp_path / "file"), f"{place.folder}/{name}"]
    argv = [str(aiida_python), *words]
    done = subprocess.run(argv, cwd=ROOT, env=environ, check=False, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read(http, place, name) == data
    assert (tmp_path / "file back").read_bytes() == data


@pytest.mark.parametrize("system", ["jobs", "relayed"])
def test_empty_file(place: Place, http: httpx.Client, system: str) -> None:
    begun = begin(http, place, system, f"{system}-empty", 0)
    send(begun, b"")
    assert ended(http, system, begun)["state"] == "COMPLETED"
    assert read(http, place, f"{system}-empty") == b""
    begun = begin(http, place, system, f"{system}-empty", None)
    assert ended(http, system, begun)["state"] == "COMPLETED"
    got = httpx.get(begun["transferDirectives"]["downloadUrl"], verify=False)
    assert (got.status_code, got.content) == (200, b"")


@pytest.mark.parametrize(("system", "target"), [("jobs", "relayed"), ("relayed", "jobs"), ("jobs", "tenant")])
def test_copy_to_another_system(place: Place, http: httpx.Client, system: str, target: str) -> None:
    """Through the store, by a job on one side; without a common store through the gateway."""
    data, path = os.urandom(9 * MIB), f"{place.folder}/to copy"
    http.put("/filesystem/jobs/ops/upload", params={"path": path}, content=data).raise_for_status()
    before = place.left(f"{system}-{place.site.user}")
    name = f"copy on {target}"
    body = {"path": path, "targetPath": f"{place.folder}/{name}", "targetSystem": target, "account": place.site.account}
    begun = http.post(f"/filesystem/{system}/transfer/copy", json=body)
    assert begun.status_code == 201, begun.text
    url = f"/filesystem/{system}/transfer/{begun.json()['transferJob']['jobId']}"
    until(lambda: http.get(url).json()["transfer"]["state"] not in {"PENDING", "RUNNING"})
    shown = http.get(url).json()["transfer"]
    assert shown["state"] == "COMPLETED", shown
    assert shown["sha256"] == hashlib.sha256(data).hexdigest()
    assert read(http, place, name) == data
    until(lambda: place.left(f"{system}-{place.site.user}") == before)
    known = http.get(f"/filesystem/{target}/transfer").json()["transfers"]
    through_store = [one for one in known if one["targetPath"] == f"{place.folder}/{name}" and one["method"] == "s3"]
    assert len(through_store) == (target != "tenant")


def test_pages_of_allowed_origins(place: Place, http: httpx.Client) -> None:
    made = begin(http, place, "jobs", "of a page", 1)
    url = made["transferDirectives"]["partsUploadUrls"][0]
    for origin, allowed in ((PAGE, True), ("https://other.example.org", False)):
        asked = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        assert (httpx.options(url, headers=asked).headers.get("access-control-allow-origin") == origin) is allowed
    sent = httpx.put(url, content=b"x", headers={"Origin": PAGE})
    assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "etag" in sent.headers["access-control-expose-headers"].lower()
    cancelled = http.delete(f"/filesystem/jobs/transfer/{made['transferJob']['jobId']}")
    assert cancelled.status_code == 204, cancelled.text
    assert not [name for name in names(http, place) if name.startswith(".flamecrest")]


def test_bucket_of_another_owner(place: Place, http: httpx.Client) -> None:
    send(made := begin(http, place, "jobs", "mine", 1), b"x")
    assert ended(http, "jobs", made)["state"] == "COMPLETED"
    body = {
        "path": f"{place.folder}/other",
        "account": place.site.account,
        "transferDirectives": {"transferMethod": "s3", "fileSize": 1},
    }
    refused = http.post("/filesystem/foreign/transfer/upload", json=body)
    assert refused.status_code == 400
    assert "belongs to another owner" in refused.json()["message"]
    assert "other" not in names(http, place)


def test_cancelled_mover_leaves_the_old_file(place: Place, http: httpx.Client) -> None:
    http.put("/filesystem/jobs/ops/upload", params={"path": f"{place.folder}/old"}, content=b"old").raise_for_status()
    before = names(http, place)
    send(begun := begin(http, place, "held", "old", 3), b"new")
    until = time.monotonic() + PATIENCE
    job_url = f"/compute/held/jobs/{begun['transferJob']['jobId']}"
    while "Job " not in (reason := http.get(job_url).json()["jobs"][0]["status"]["stateReason"] or ""):
        assert time.monotonic() < until, reason
        time.sleep(0.2)
    subprocess.run(["scancel", reason.split()[1].rstrip(":")], check=True)
    status = ended(http, "held", begun)
    assert status["state"] == "CANCELLED"
    assert "The older file at its place is unchanged" in status["stateReason"]
    assert read(http, place, "old") == b"old"
    assert names(http, place) == before
    assert place.left(f"held-{place.site.user}") == []


def test_killed_gateway(place: Place) -> None:
    data, systems = os.urandom(9 * MIB), ("jobs", "relayed")
    first = place.start()
    with place.http(first) as http:
        begun = {system: begin(http, place, system, f"{system}-killed", len(data)) for system in systems}
        os.kill(first.pid, signal.SIGKILL)
    for one in begun.values():
        send(one, data)
    with place.http(place.start()) as http:
        for system in systems:
            assert ended(http, system, begun[system])["state"] == "COMPLETED"
            assert read(http, place, f"{system}-killed") == data
        assert not [name for name in names(http, place) if name.startswith(".flamecrest")]
