"""One big file down and up, compared with `ssh host cat` with the same cipher, and the memory that it takes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from bench.columns import GATEWAY, OPENSSH
from bench.contenders.openssh import CIPHER
from bench.contenders.servers import Contender
from bench.measure.http_client import client
from bench.measure.resources import Growth
from bench.results import Cell

from .workload import Bench, rotated

WHOLE, QUICK = 1024, 128  # MiB
MIB = 1024 * 1024
DIRECTIONS = ("down", "up")


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
                for key in bench.gateways:
                    for direction in DIRECTIONS:
                        cells.append(await self._memory(bench, key, copy, direction))
        await bench.shell(f"rm -f {shlex.quote(copy.path)}")
        return sorted(cells, key=lambda cell: str(cell.parameter))

    async def _row(self, bench: Bench, copy: FileCopy, direction: str) -> list[Cell]:
        samples: dict[str, list[float]] = {key: [] for key in (OPENSSH, *bench.gateways)}
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

    async def run(self, direction: str, gateway: Contender | None) -> tuple[float, bool]:
        """Copy by a gateway, or by OpenSSH if it is None; return the seconds, and whether the result is right."""
        if direction == "down":
            return await (self._cat() if gateway is None else self._get(gateway))
        await self._bench.shell(f"rm -f {shlex.quote(self.path)}")
        seconds = await (self._write() if gateway is None else self._put(gateway))
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


def fill(path: Path, size: int) -> str:
    """Write `size` MiB of random bytes to a file and return their SHA-256 digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size):
            data = os.urandom(MIB)
            digest.update(data)
            file.write(data)
    return digest.hexdigest()
