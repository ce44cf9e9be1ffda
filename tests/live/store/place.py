"""What tests of object stores share: the gateway with its clusters, radosgw, and the requests of a client."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import httpx
from botocore.config import Config
from botocore.handlers import validate_bucket_name

from tests.live.process import Server, answers
from tests.live.site import Site

MIB = 1024 * 1024
PAGE = "https://portal.example.org"  # the origin of web pages that may use the API
PATIENCE = 120.0  # seconds until something must have happened
KEYS = {"flamecrest": ("live-key", "live-secret"), "other": ("other-key", "other-secret")}
KEYS |= {"tenant": ("tenant-key", "tenant-secret"), "full": ("full-key", "full-secret")}  # made by store-up.sh


@dataclass(frozen=True)
class Place:
    """A gateway whose clusters are one site with different stores, and what a test needs of it."""

    site: Site
    token: str
    store: str
    start: Callable[[], Server]
    folder: str
    daemon: Path  # the directory of radosgw

    def http(self, server: Server) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=server.url, headers=headers, timeout=60, verify=False)

    def s3(self, owner: str = "flamecrest") -> Any:
        key, secret = KEYS[owner]
        client = botocore.session.Session().create_client(
            "s3", endpoint_url=self.store, region_name="us-east-1", aws_access_key_id=key,
            aws_secret_access_key=secret, config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip
        client.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
        return client

    @property
    def pid(self) -> int:
        """The process of radosgw."""
        return int((self.daemon / "run/client.rgw.pid").read_text())

    def stop(self) -> None:
        """Stop radosgw; what it holds stays."""
        os.kill(pid := self.pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])

    def administer(self, *words: str) -> None:
        """Run radosgw-admin."""
        given = [
            "-n",
            "client.rgw",
            "--conf",
            str(self.daemon / "ceph.conf"),
            "--keyring",
            str(self.daemon / "keyring"),
        ]
        subprocess.run(["radosgw-admin", *given, *words], check=True, capture_output=True, timeout=60)

    def start_again(self) -> None:
        """Start radosgw again, and wait until it responds."""
        with (self.daemon / "log/rgw.out").open("ab") as log:
            given = {"-c": "ceph.conf", "--keyring": "keyring"}
            argv = ["radosgw", "-n", "client.rgw"]
            argv += [word for name, file in given.items() for word in (name, str(self.daemon / file))]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60)
        until(lambda: answers(self.store))

    def left(self, bucket: str, owner: str = "flamecrest") -> list[str]:
        """The keys of objects and of multipart uploads in a bucket."""
        client = self.s3(owner)
        if bucket not in {one["Name"] for one in client.list_buckets()["Buckets"]} and ":" not in bucket:
            return []
        found = [one["Key"] for one in client.list_objects_v2(Bucket=bucket).get("Contents", ())]
        return found + [one["Key"] for one in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


def until(happened: Callable[[], object]) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < limit
        time.sleep(0.1)


def begin(http: httpx.Client, place: Place, system: str, name: str, size: int | None) -> dict[str, Any]:
    body: dict[str, Any] = {"path": f"{place.folder}/{name}", "account": place.site.account}
    body["transferDirectives"] = {"transferMethod": "s3"} | ({} if size is None else {"fileSize": size})
    verb = "download" if size is None else "upload"
    response = http.post(f"/filesystem/{system}/transfer/{verb}", json=body)
    assert response.status_code == 201, response.text
    return dict(response.json())


def send(begun: dict[str, Any], data: bytes) -> None:
    """Upload the parts and complete the object, as a client without a token."""
    given, listed = begun["transferDirectives"], ""
    size = given["maxPartSize"]
    with httpx.Client(timeout=60, verify=False) as web:
        for number, url in enumerate(given["partsUploadUrls"], 1):
            response = web.put(url, content=data[(number - 1) * size : number * size])
            assert response.status_code == 200, response.text
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{response.headers['etag']}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        assert web.post(given["completeUploadUrl"], content=body).status_code == 200


def ended(http: httpx.Client, system: str, begun: dict[str, Any]) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE
    while True:
        response = http.get(f"/compute/{system}/jobs/{begun['transferJob']['jobId']}")
        assert response.status_code == 200, response.text
        status = dict(response.json()["jobs"][0]["status"])
        if status["state"] not in {"PENDING", "RUNNING", "COMPLETING"}:
            return status
        assert time.monotonic() < until, status
        time.sleep(0.2)


def read(http: httpx.Client, place: Place, name: str) -> bytes:
    response = http.get("/filesystem/jobs/ops/download", params={"path": f"{place.folder}/{name}"})
    assert response.status_code == 200, response.text
    return response.content


def names(http: httpx.Client, place: Place) -> set[str]:
    query = {"path": place.folder, "showHidden": "true"}
    return {one["name"] for one in http.get("/filesystem/jobs/ops/ls", params=query).json()["output"] or ()}
