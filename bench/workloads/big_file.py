"""One big file down and up, compared with `ssh host cat` with the same cipher, and the memory that it takes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shlex
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from bench.columns import GATEWAY, OPENSSH
from bench.contenders.openssh import CIPHER
from bench.contenders.servers import Contender
from bench.measure.http_client import Response, client
from bench.measure.resources import Growth
from bench.results import Cell

from .workload import Bench, rotated

WHOLE, QUICK = 1024, 128  # MiB
MIB = 1024 * 1024
JSON = {"Content-Type": "application/json"}
DIRECTIONS = ("down", "parts down", "up", "parts")  # parts: by signed URLs; `parts` goes up
PART = 64 * MIB  # bytes, of a download
IN_PARTS = {"parts": "/transfer/upload", "parts down": "/transfer/download"}
AT_ONCE = 16  # parts


class BigFile:
    """Contenders take turns. Every upload is checked by its digest on the cluster, and one download by a local one."""

    name = "big"
    title = f"A big file, beside ssh -c {CIPHER} host cat"
    rows = "direction"
    needs: Sequence[str] = (GATEWAY,)

    async def run(self, bench: Bench) -> list[Cell]:
        if not bench.ssh.installed():
            bench.say(f"{self.name}: skipped, ssh is not installed (apt-get install openssh-client)")
            return []
        size = QUICK if bench.quick else WHOLE
        with tempfile.TemporaryDirectory(prefix="flamecrest-bench-") as folder:
            local = Path(folder) / "big"
            digest = await asyncio.to_thread(fill, local, size)
            copy = FileCopy(bench, local, size, digest)
            cells = []
            for direction in reversed(DIRECTIONS):  # the uploaded file is downloaded afterwards
                cells += await self._row(bench, copy, direction)
            if bench.contenders[GATEWAY].pid is not None:
                for direction in DIRECTIONS:
                    for key in await copy.gateways(direction):
                        cells.append(await self._memory(bench, key, copy, direction))
        await bench.shell(f"rm -f {shlex.quote(copy.path)}")
        return sorted(cells, key=lambda cell: str(cell.parameter))

    async def _row(self, bench: Bench, copy: FileCopy, direction: str) -> list[Cell]:
        samples: dict[str, list[float]] = {key: [] for key in (OPENSSH, *await copy.gateways(direction))}
        wrong = dict.fromkeys(samples, 0)
        for turn in range(bench.runs(2, 5)):
            for key in rotated([*samples], turn):
                bench.say(f"{self.name}: {direction}, run {turn + 1}, {key}")
                seconds, right = await copy.run(direction, bench.contenders.get(key))
                samples[key].append(copy.size / seconds)
                wrong[key] += not right
        if direction == "down":
            for key in bench.gateways:
                wrong[key] += not await copy.downloads_right_content(bench.contenders[key])
        note = f"{copy.size} MiB" if bench.quick else ""
        return [Cell(self.name, key, "MiB/s", direction, tuple(samples[key]), note, wrong[key]) for key in samples]

    async def _memory(self, bench: Bench, key: str, copy: FileCopy, direction: str) -> Cell:
        """The growth of a new gateway during one copy."""
        bench.say(f"{self.name}: {direction}, memory, {key}")
        with ExitStack() as stack:
            gateway = await asyncio.to_thread(stack.enter_context, bench.servers.gateway(key, "new"))
            assert gateway.pid is not None
            with client(gateway.endpoint) as http:
                await asyncio.to_thread(http.request, "GET", f"/ops/download?path={quote(bench.files[0])}")
            growth = Growth(gateway.pid)
            _, right = await copy.run(direction, gateway)
            peak = growth.peak()
        note = f"{copy.size} MiB" if bench.quick else ""
        return Cell(self.name, key, "MiB more", direction, (peak,), note, int(not right))


class FileCopy:
    """Copies one local file to the cluster and back."""

    def __init__(self, bench: Bench, local: Path, size: int, digest: str) -> None:
        self._bench, self._local, self._digest = bench, local, digest
        self.size = size  # MiB
        self.path = f"{bench.folder}.big"

    async def gateways(self, direction: str) -> list[str]:
        """The keys of the gateways that can copy in this direction: older versions have no upload in parts."""
        keys = list(self._bench.gateways)
        if direction not in IN_PARTS:
            return keys
        started = [await self._start(self._bench.contenders[key], IN_PARTS[direction]) for key in keys]
        return [key for key, response in zip(keys, started, strict=True) if response.status == 201]

    async def run(self, direction: str, gateway: Contender | None) -> tuple[float, bool]:
        """Copy by a gateway, or by OpenSSH if it is None; return the seconds, and whether the result is right."""
        if direction in {"down", "parts down"}:
            get = self._get if direction == "down" else self._get_parts
            return await (self._cat() if gateway is None else get(gateway))
        await self._bench.shell(f"rm -f {shlex.quote(self.path)}")
        put = self._put_parts if direction == "parts" else self._put
        seconds = await (self._write() if gateway is None else put(gateway))
        found = await self._bench.shell(f"sha256sum < {shlex.quote(self.path)}")
        return seconds, found.split()[:1] == [self._digest]

    async def downloads_right_content(self, gateway: Contender) -> bool:
        """Whether a download has the right digest. It is not timed: the digest costs as much as the download."""
        digest = hashlib.sha256()
        with client(gateway.endpoint) as http:
            await asyncio.to_thread(http.request, "GET", f"/ops/download?path={quote(self.path)}", digest=digest)
        return digest.hexdigest() == self._digest

    async def _cat(self) -> tuple[float, bool]:
        return await self._bench.ssh.discard(f"cat {shlex.quote(self.path)}"), True

    async def _get(self, gateway: Contender) -> tuple[float, bool]:
        with client(gateway.endpoint) as http:
            response = await asyncio.to_thread(http.request, "GET", f"/ops/download?path={quote(self.path)}")
        return response.seconds, response.status == 200 and response.length == self.size * MIB

    async def _get_parts(self, gateway: Contender) -> tuple[float, bool]:
        begun = time.perf_counter()
        started = await self._start(gateway, IN_PARTS["parts down"])
        url, size = json.loads(started.body)["transferDirectives"]["downloadUrl"], self.size * MIB
        with ThreadPoolExecutor(AT_ONCE) as pool:
            ranges = [(first, min(first + PART, size) - 1) for first in range(0, size, PART)]
            gets = [asyncio.wrap_future(pool.submit(_receive, url, *one)) for one in ranges]
            lengths = await asyncio.gather(*gets)
        return time.perf_counter() - begun, sum(lengths) == size

    async def _write(self) -> float:
        with self._local.open("rb") as file:
            seconds, _ = await self._bench.ssh.run(f"cat > {shlex.quote(self.path)}", stdin=file)
        return seconds

    async def _put(self, gateway: Contender) -> float:
        headers = {"Content-Length": str(self.size * MIB), "Content-Type": "application/octet-stream"}
        with self._local.open("rb") as file, client(gateway.endpoint) as http:
            response = await asyncio.to_thread(
                http.request, "PUT", f"/ops/upload?path={quote(self.path)}", body=file, headers=headers
            )
        if response.status not in {200, 201, 204}:
            self._bench.say(f"upload: status {response.status}")
        return response.seconds

    async def _put_parts(self, gateway: Contender) -> float:
        begun = time.perf_counter()
        started = await self._start(gateway, IN_PARTS["parts"])
        urls = json.loads(started.body)["transferDirectives"]
        size = urls["maxPartSize"]

        def put(number: int, url: str) -> int:
            with self._local.open("rb") as file:
                file.seek(number * size)
                length = min(size, self.size * MIB - number * size)
                return _send("PUT", url, FilePart(file, length), length)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            puts = [asyncio.wrap_future(pool.submit(put, *one)) for one in enumerate(urls["partsUploadUrls"])]
            statuses = {*await asyncio.gather(*puts), await asyncio.to_thread(_send, "POST", urls["completeUploadUrl"])}
        if statuses != {200}:
            self._bench.say(f"upload in parts: statuses {statuses}")
        return time.perf_counter() - begun

    async def _start(self, gateway: Contender, route: str) -> Response:
        """Start a transfer in parts."""
        directives = {"transferMethod": "direct"} | ({"fileSize": self.size * MIB} if route.endswith("upload") else {})
        body = json.dumps({"path": self.path, "transferDirectives": directives}).encode()
        with client(gateway.endpoint) as http:
            return await asyncio.to_thread(http.request, "POST", route, body=body, headers=JSON, keep=True)


class FilePart:
    """Some bytes of an open file from its position on, for http.client."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def read(self, size: int = MIB, /) -> bytes:
        """The next bytes; b"" at the end."""
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


def _send(method: str, url: str, body: FilePart | bytes = b"", length: int = 0) -> int:
    """Send a request to a signed URL; its status."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=300, blocksize=MIB)
    with closing(connection):
        connection.request(method, f"{parts.path}?{parts.query}", body=body, headers={"Content-Length": str(length)})
        response = connection.getresponse()
        response.read()
        return response.status


def _receive(url: str, first: int, last: int) -> int:
    """Get a range of a signed URL; the number of bytes, or 0 for another answer than that range."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=300, blocksize=MIB)
    length, buffer = 0, memoryview(bytearray(MIB))
    with closing(connection):
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"Range": f"bytes={first}-{last}"})
        response = connection.getresponse()
        while count := response.readinto(buffer):
            length += count
    return length if response.status == 206 else 0


def fill(path: Path, size: int) -> str:
    """Write `size` MiB of random bytes to a file and return their SHA-256 digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size):
            data = os.urandom(MIB)
            digest.update(data)
            file.write(data)
    return digest.hexdigest()
