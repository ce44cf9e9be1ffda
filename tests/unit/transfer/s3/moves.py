"""Moves of mover jobs: their scripts, run by bash against an object store."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flamecrest.sandbox.store import ACCESS_KEY, REGION, SECRET_KEY, ObjectStore
from flamecrest.server.transfer.direct.parts import PartPlan
from flamecrest.server.transfer.jobs.script import TransferJob, job_script
from flamecrest.server.transfer.s3.mover_scripts import fetch_script, send_script
from flamecrest.server.transfer.s3.presign import Presigner, StoreKey

MIB = 1024 * 1024
PART = 5 * MIB
NAME = "it's a $(file) \\ ü"


@dataclass
class Move:
    """A record's files in a folder, and an object."""

    folder: Path
    store: ObjectStore
    client: Any
    size: int
    path: str = "/usr/local/bin:/usr/bin:/bin"

    def __post_init__(self) -> None:
        self.store.gate.failures = 0
        self.store.gate.seen.clear()
        self.plan = PartPlan(self.size, PART)
        self.signer = Presigner(self.store.url, StoreKey(ACCESS_KEY, SECRET_KEY, REGION), "path")
        self.key = self.folder.name
        self.content = os.urandom(self.size)
        self.target, self.data, self.base = self.folder / NAME, self.folder / ".data", self.folder / "record"
        self.upload = self.client.create_multipart_upload(Bucket="bucket", Key=self.key)["UploadId"]

    def put(self) -> str:
        """Put the content into the store; its entity tag."""
        parts = []
        for number in range(1, self.plan.count + 1):
            start, size = self.plan.span(number)
            body = self.content[start : start + size]
            part = self.client.upload_part(
                Bucket="bucket", Key=self.key, UploadId=self.upload, PartNumber=number, Body=body
            )
            parts.append({"PartNumber": number, "ETag": part["ETag"]})
        done = self.client.complete_multipart_upload(
            Bucket="bucket", Key=self.key, UploadId=self.upload, MultipartUpload={"Parts": parts}
        )
        self.store.gate.seen.clear()
        return str(done["ETag"]).strip('"')

    def fetch(self, etag: str, life: int = 600, mode: int | None = 0o640, parallel: int = 2, sha256: str = "") -> int:
        self.data.touch()
        self._urls([self.signer.url(method, "bucket", self.key, life) for method in ("GET", "DELETE")])
        paths = str(self.data), str(self.target)
        script = fetch_script(str(self.base), self.plan, parallel, *paths, mode, etag, sha256)
        return self._run(TransferJob.of("upload", "uploaded", script))

    def send(self, mtime: int | None = None) -> int:
        query = {"uploadId": self.upload}
        urls = [self.signer.url(method, "bucket", self.key, 600, query) for method in ("POST", "DELETE")]
        urls.append(self.signer.url("HEAD", "bucket", self.key, 600))
        urls += self.signer.part_urls("bucket", self.key, self.upload, range(1, self.plan.count + 1), 600)
        self._urls(urls)
        mtime = int(self.target.stat().st_mtime) if mtime is None else mtime
        return self._run(
            TransferJob.of("download", "downloaded", send_script(str(self.base), self.plan, 2, str(self.target), mtime))
        )

    def _urls(self, urls: list[str]) -> None:
        (self.folder / "record.urls").write_text("".join(f"{url}\n" for url in urls))

    def _run(self, job: TransferJob) -> int:
        text = job_script("", str(self.folder), job)
        assert "X-Amz" not in text
        environ = {"PATH": self.path, "SLURM_JOB_ID": "7", "TMPDIR": str(self.folder.parent)}
        script = self.folder / "script"
        script.write_text(text)
        done = subprocess.run(["bash", script], env=environ, capture_output=True, timeout=55, check=False)
        script.unlink()
        assert b"X-Amz" not in done.stdout + done.stderr
        return done.returncode

    @property
    def end(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "record.end").read_bytes()))

    def log(self, kind: str) -> str:
        path = self.folder / f"record.{kind}"
        return path.read_text() if path.exists() else ""

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"record.progress"}

    def in_store(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket="bucket", Prefix=self.key).get("Contents", [])
        uploads = self.client.list_multipart_uploads(Bucket="bucket", Prefix=self.key).get("Uploads", [])
        return [one["Key"] for one in (*found, *uploads)]
