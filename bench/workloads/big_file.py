"""One big file down and up, beside `ssh host cat` with the same cipher, and what the gateway grows by meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bench.columns import GATEWAY, OPENSSH
from bench.contenders.openssh import CIPHER
from bench.measure.http_client import client
from bench.measure.resources import Growth
from bench.results import Cell

from .workload import Bench, rotated

if TYPE_CHECKING:
    from bench.contenders.servers import Contender

WHOLE, QUICK = 1024, 128  # MiB
MIB = 1024 * 1024
DIRECTIONS = ("down", "up")


class Big:
    """Contenders take turns; every upload is checked by its digest on the cluster, and one download by ours."""

    name = "big"
    title = f"A big file, beside ssh -c {CIPHER} host cat"
    rows = "direction"
    needs: Sequence[str] = (GATEWAY,)

    async def run(self, bench: Bench) -> list[Cell]:
        if not bench.ssh.found():
            bench.say(f"{self.name}: left out, ssh is missing (apt-get install openssh-client)")
            return []
        size = QUICK if bench.quick else WHOLE
        with tempfile.TemporaryDirectory(prefix="flamecrest-bench-") as folder:
            local = Path(folder) / "big"
            digest = await asyncio.to_thread(fill, local, size)
            transfer = Transfer(bench, local, size, digest)
            cells = []
            for direction in reversed(DIRECTIONS):  # what was sent up comes down again
                cells += await self._row(bench, transfer, direction)
            if bench.contenders[GATEWAY].pid is not None:
                for direction in DIRECTIONS:
                    cells.append(await self._memory(bench, transfer, direction))
        await bench.shell(f"rm -f {shlex.quote(transfer.path)}")
        return sorted(cells, key=lambda cell: str(cell.parameter))

    async def _row(self, bench: Bench, transfer: Transfer, direction: str) -> list[Cell]:
        samples: dict[str, list[float]] = {OPENSSH: [], GATEWAY: []}
        wrong = dict.fromkeys(samples, 0)
        for turn in range(2 if bench.quick else 5):
            for key in rotated([*samples], turn):
                bench.say(f"{self.name}: {direction}, run {turn + 1}, {key}")
                gateway = bench.contenders[GATEWAY] if key == GATEWAY else None
                seconds, right = await transfer.run(direction, gateway)
                samples[key].append(transfer.size / seconds)
                wrong[key] += not right
        wrong[GATEWAY] += direction == "down" and not await transfer.comes_back(bench.contenders[GATEWAY])
        note = f"{transfer.size} MiB" if bench.quick else ""
        return [Cell(self.name, key, "MiB/s", direction, tuple(samples[key]), note, wrong[key]) for key in samples]

    async def _memory(self, bench: Bench, transfer: Transfer, direction: str) -> Cell:
        """A gateway that has moved nothing large before."""
        bench.say(f"{self.name}: {direction}, memory")
        with ExitStack() as stack:
            gateway = await asyncio.to_thread(stack.enter_context, bench.fresh())
            assert gateway.pid is not None
            with client(gateway.caller) as asking:
                await asyncio.to_thread(asking.ask, "GET", f"/ops/download?path={quote(bench.files[0])}")
            growth = Growth(gateway.pid)
            _, right = await transfer.run(direction, gateway)
            peak = growth.peak()
        note = f"{transfer.size} MiB" if bench.quick else ""
        return Cell(self.name, GATEWAY, "MiB more", direction, (peak,), note, int(not right))


class Transfer:
    """Moves one local file and its copy on the cluster."""

    def __init__(self, bench: Bench, local: Path, size: int, digest: str) -> None:
        self._bench, self._local, self._digest = bench, local, digest
        self.size = size  # MiB
        self.path = f"{bench.folder}.big"

    async def run(self, direction: str, gateway: Contender | None) -> tuple[float, bool]:
        """Seconds that it took by the gateway, or by OpenSSH, and whether it went right."""
        if direction == "down":
            return await (self._cat() if gateway is None else self._get(gateway))
        await self._bench.shell(f"rm -f {shlex.quote(self.path)}")
        seconds = await (self._fill() if gateway is None else self._put(gateway))
        found = await self._bench.shell(f"sha256sum < {shlex.quote(self.path)}")
        return seconds, found.split()[:1] == [self._digest]

    async def comes_back(self, gateway: Contender) -> bool:
        """Whether a download has the right bytes; its time does not count: the digest costs as much as the rest."""
        digest = hashlib.sha256()
        with client(gateway.caller) as asking:
            await asyncio.to_thread(asking.ask, "GET", f"/ops/download?path={quote(self.path)}", digest=digest)
        return digest.hexdigest() == self._digest

    async def _cat(self) -> tuple[float, bool]:
        return await self._bench.ssh.discard(f"cat {shlex.quote(self.path)}"), True

    async def _get(self, gateway: Contender) -> tuple[float, bool]:
        with client(gateway.caller) as asking:
            answer = await asyncio.to_thread(asking.ask, "GET", f"/ops/download?path={quote(self.path)}")
        return answer.seconds, answer.status == 200 and answer.length == self.size * MIB

    async def _fill(self) -> float:
        with self._local.open("rb") as file:
            seconds, _ = await self._bench.ssh.run(f"cat > {shlex.quote(self.path)}", stdin=file)
        return seconds

    async def _put(self, gateway: Contender) -> float:
        headers = {"Content-Length": str(self.size * MIB), "Content-Type": "application/octet-stream"}
        with self._local.open("rb") as file, client(gateway.caller) as asking:
            answer = await asyncio.to_thread(
                asking.ask, "PUT", f"/ops/upload?path={quote(self.path)}", body=file, headers=headers
            )
        if answer.status not in {200, 201, 204}:
            self._bench.say(f"upload: status {answer.status}")
        return answer.seconds


def fill(path: Path, size: int) -> str:
    """Write so many MiB of random bytes; their digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size):
            data = os.urandom(MIB)
            digest.update(data)
            file.write(data)
    return digest.hexdigest()
