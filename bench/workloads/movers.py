"""The scripts of mover jobs between an object store and a file, beside curl alone on the same object."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import botocore.session

from bench.columns import CURL, GATEWAY
from bench.measure.network import HERE, can_limit, limited_network
from bench.results import Cell
from flamecrest.sandbox.store import ACCESS_KEY, REGION, SECRET_KEY, object_store
from flamecrest.server.transfer.direct.parts import PartPlan
from flamecrest.server.transfer.jobs.script import TransferJob, job_script
from flamecrest.server.transfer.s3.mover_scripts import fetch_script, send_script
from flamecrest.server.transfer.s3.presign import Presigner, StoreKey

from .big_file import MIB, fill
from .workload import Bench, rotated

WHOLE, QUICK = 256, 128  # MiB: radosgw has 8 GiB of memory for all that is sent to it, also for what was removed
LINK = "1gbit"
PART, PARALLEL = 64 * MIB, 3  # bytes, parts: defaults of the settings
BUCKET = "bench"
LIFE = 3600.0  # seconds
RADOSGW = Path(__file__).parents[2] / "tests/live/centre/store-up.sh"
RADOSGW_KEY = StoreKey("live-key", "live-secret", REGION)  # made by that script
PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "ceph-authtool")


class Movers:
    """The scripts run by bash, without a scheduler. They compare checksums and replace the target; curl does not.

    The store is radosgw, if that is installed and may be started (as root); else the sandbox's. It shares the
    processors with the scripts, so radosgw is measured a second time over a link of LINK, where the network is what
    the time goes to, as between a node and a store elsewhere.
    """

    name = "movers"
    title = "Mover jobs of an object store, beside curl alone"
    rows = "direction"
    needs: Sequence[str] = (GATEWAY,)

    async def run(self, bench: Bench) -> list[Cell]:
        if shutil.which("curl") is None:
            bench.say(f"{self.name}: skipped, curl is not installed (apt-get install curl)")
            return []
        size = QUICK if bench.quick else WHOLE
        samples: dict[tuple[str, str], list[float]] = {}
        wrong: dict[tuple[str, str], int] = {}
        with tempfile.TemporaryDirectory(prefix="flamecrest-bench-") as folder, ExitStack() as stack:
            async with _store(Path(folder)) as store:
                places = {"": StoredFile(Path(folder), store, store.url, size)}
                if store.elsewhere is not None:
                    try:
                        command = await asyncio.to_thread(stack.enter_context, limited_network(LINK))
                        places[f", {LINK}"] = StoredFile(Path(folder), store, store.elsewhere, size, command)
                    except subprocess.CalledProcessError as error:
                        bench.say(f"{self.name}: no link of {LINK}: {error.stderr.decode().strip()}")
                await asyncio.to_thread(places[""].prepare)
                for turn in range(1 + bench.runs(2, 5)):
                    for key, (suffix, place) in product(rotated((GATEWAY, CURL), turn), places.items()):
                        for direction in ("fetch", "send"):
                            at = key, f"{direction}{suffix}"
                            bench.say(f"{self.name}: {at[1]}, run {turn}, {key}, {store.name}")
                            seconds, right = await place.run(direction, by_curl=key == CURL)
                            wrong[at] = wrong.get(at, 0) + (not right)
                            if turn:  # the first run fills caches
                                samples.setdefault(at, []).append(size / seconds)
        notes = [store.name] if store.name != "radosgw" else []
        notes += [f"{size} MiB"] if bench.quick else []
        return [
            Cell(self.name, key, "MiB/s", row, tuple(found), ", ".join(notes), wrong[key, row])
            for (key, row), found in samples.items()
        ]


@dataclass(frozen=True)
class Store:
    """A running store: its name, its URL from here and from a limited network, its key, and a client."""

    name: str
    url: str
    elsewhere: str | None
    key: StoreKey
    client: Any


@dataclass(frozen=True)
class StoredFile:
    """A file of `size` MiB in a folder, and objects with the same content.

    Programs are started with `command` before their arguments, and reach the store by `url`.
    """

    folder: Path
    store: Store
    url: str
    size: int
    command: Sequence[str] = ()

    def prepare(self) -> None:
        """Make the file, and the object that is fetched."""
        fill(self.source, self.size)
        self.client.create_bucket(Bucket=BUCKET)
        self._put()

    @property
    def client(self) -> Any:
        return self.store.client

    @property
    def presigner(self) -> Presigner:
        return Presigner(self.url, self.store.key, "path")

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def plan(self) -> PartPlan:
        return PartPlan(self.size * MIB, PART)

    async def run(self, direction: str, *, by_curl: bool) -> tuple[float, bool]:
        """Fetch an object, or send the file; the seconds, and whether the copy is right."""
        if direction == "fetch":
            target = self.folder / "target"
            seconds, right = await (self._fetch_by_curl(target) if by_curl else self._fetch(target))
            right = right and await self._is_right(target)
            target.unlink(missing_ok=True)
        else:
            seconds, right = await (self._send_by_curl() if by_curl else self._send())
            found = await asyncio.to_thread(self.client.head_object, Bucket=BUCKET, Key="sent")
            right = right and found["ContentLength"] == self.size * MIB
            await asyncio.to_thread(self.client.delete_object, Bucket=BUCKET, Key="sent")
        return seconds, right

    def _put(self) -> None:
        """Make the object in parts, as clients do."""
        begun, parts = self._begin("object"), []
        with self.source.open("rb") as file:
            for number in range(1, self.plan.count + 1):
                part = self.client.upload_part(
                    Bucket=BUCKET, Key="object", UploadId=begun, PartNumber=number, Body=file.read(PART)
                )
                parts.append({"PartNumber": number, "ETag": part["ETag"]})
        self.client.complete_multipart_upload(
            Bucket=BUCKET, Key="object", UploadId=begun, MultipartUpload={"Parts": parts}
        )

    def _begin(self, key: str) -> str:
        return str(self.client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"])

    async def _fetch(self, target: Path) -> tuple[float, bool]:
        data = self.folder / "data"
        data.touch()
        etag = (await asyncio.to_thread(self.client.head_object, Bucket=BUCKET, Key="object"))["ETag"].strip('"')
        wanted = ("GET", "object"), ("DELETE", "another")  # the object stays, for the next run
        self._write_urls([self.presigner.url(method, BUCKET, key, LIFE) for method, key in wanted])
        script = fetch_script(str(self._base), self.plan, PARALLEL, str(data), str(target), 0o600, etag)
        return await self._job(TransferJob.of("upload", "uploaded", script))

    async def _send(self) -> tuple[float, bool]:
        upload = self._begin("sent")
        query = {"uploadId": upload}
        urls = [self.presigner.url(method, BUCKET, "sent", LIFE, query) for method in ("POST", "DELETE")]
        urls.append(self.presigner.url("HEAD", BUCKET, "sent", LIFE))
        urls += self.presigner.part_urls(BUCKET, "sent", upload, range(1, self.plan.count + 1), LIFE)
        self._write_urls(urls)
        mtime = int(self.source.stat().st_mtime)
        script = send_script(str(self._base), self.plan, PARALLEL, str(self.source), mtime)
        return await self._job(TransferJob.of("download", "downloaded", script))

    async def _fetch_by_curl(self, target: Path) -> tuple[float, bool]:
        return await self._timed("curl", "-sSf", "-o", str(target), self.presigner.url("GET", BUCKET, "object", LIFE))

    async def _send_by_curl(self) -> tuple[float, bool]:
        url = self.presigner.url("PUT", BUCKET, "sent", LIFE)
        return await self._timed("curl", "-sSf", "-H", "Expect:", "-T", str(self.source), url)

    async def _timed(self, *argv: str) -> tuple[float, bool]:
        return await _timed(*self.command, *argv)

    async def _job(self, job: TransferJob) -> tuple[float, bool]:
        script = self.folder / "script"
        script.write_text(job_script("", str(self.folder), job))
        done = await self._timed("bash", str(script))
        for left in self.folder.glob("record.*"):
            left.unlink()
        return done

    @property
    def _base(self) -> Path:
        return self.folder / "record"

    def _write_urls(self, urls: Sequence[str]) -> None:
        (self.folder / "record.urls").write_text("".join(f"{url}\n" for url in urls))

    async def _is_right(self, target: Path) -> bool:
        return target.exists() and (await _timed("cmp", str(self.source), str(target)))[1]


async def _timed(*argv: str) -> tuple[float, bool]:
    """Run a program; the seconds, and whether it has succeeded."""
    begun = time.perf_counter()
    nothing = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdin=nothing, stdout=nothing)
    status = await process.wait()
    return time.perf_counter() - begun, status == 0


@asynccontextmanager
async def _store(folder: Path) -> AsyncIterator[Store]:
    if os.geteuid() == 0 and all(map(shutil.which, PROGRAMS)):
        port = 19004
        url = f"http://127.0.0.1:{port}"
        try:
            _, right = await _timed(str(RADOSGW), str(folder / "radosgw"), str(port), "0.0.0.0")
            if not right:
                raise RuntimeError(f"{RADOSGW} has failed")
            elsewhere = f"http://{HERE}:{port}" if can_limit() else None
            yield Store("radosgw", url, elsewhere, RADOSGW_KEY, _client(url, RADOSGW_KEY))
        finally:
            await _timed(str(RADOSGW.with_name("store-down.sh")), str(folder / "radosgw"))
    else:
        key = StoreKey(ACCESS_KEY, SECRET_KEY, REGION)
        async with object_store() as store:
            yield Store("the sandbox's store", store.url, None, key, _client(store.url, key))


def _client(url: str, key: StoreKey) -> Any:
    return botocore.session.Session().create_client(
        "s3", endpoint_url=url, region_name=REGION,
        aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key,
    )  # fmt: skip
