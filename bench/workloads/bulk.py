"""A thousand small files at once: one archive from the gateway, compared with `ssh host tar` and single requests."""

from __future__ import annotations

import asyncio
import io
import json
import shlex
import tarfile
from collections.abc import Sequence

from bench.columns import GATEWAY, OPENSSH, OPENSSH_OPEN
from bench.contenders.sites import FILES, SIZE
from bench.measure import load
from bench.measure.http_client import client
from bench.results import Cell

from .workload import Bench, rotated

Sample = tuple[float, int]  # seconds, number of wrong files


class BulkDownload:
    """All files of a directory, requested as the directory and by their names. (c) is the same in both rows."""

    name = "bulk"
    title = f"{FILES} files of 1 KB at once: bulk download, ssh host tar, and one request each (c)"
    rows = "asked for as"
    needs: Sequence[str] = ("c", GATEWAY)

    async def run(self, bench: Bench) -> list[Cell]:
        if not bench.ssh.installed():
            bench.say(f"{self.name}: skipped, ssh is not installed (apt-get install openssh-client)")
            return []
        folder = shlex.quote(bench.folder)
        names = " ".join(path.rpartition("/")[2] for path in bench.files)
        rows = {
            "a folder": ([bench.folder], f"tar -C {folder} -cf - ."),
            f"{FILES} names": (list(bench.files), f"cd {folder} && tar -cf - -- {names}"),
        }
        cells = []
        async with bench.ssh.opened():
            for key in bench.gateways:
                await self._archive(bench, key, [bench.folder])  # warm-up
            single = {"c": await self._single_requests(bench)} if "c" in bench.contenders else {}
            for row, (paths, command) in rows.items():
                found = await self._row(bench, row, paths, command)
                for key, samples in {**single, **found}.items():
                    seconds, wrong = tuple(one for one, _ in samples), sum(bad for _, bad in samples)
                    cells.append(Cell(self.name, key, "seconds", row, seconds, "", wrong))
        return cells

    async def _row(self, bench: Bench, row: str, paths: Sequence[str], command: str) -> dict[str, list[Sample]]:
        found: dict[str, list[Sample]] = {key: [] for key in (*bench.gateways, OPENSSH, OPENSSH_OPEN)}
        for turn in range(bench.runs(5, 15)):
            bench.say(f"{self.name}: {row}, run {turn + 1}")
            for key in rotated(bench.gateways, turn):
                found[key].append(await self._archive(bench, key, paths))
            for key in (OPENSSH, OPENSSH_OPEN):
                seconds, output = await bench.ssh.run(command, shared=key == OPENSSH_OPEN)
                found[key].append((seconds, _wrong(output)))
        return found

    async def _single_requests(self, bench: Bench) -> list[Sample]:
        samples = []
        for turn in range(1 if bench.quick else 5):
            bench.say(f"{self.name}: one request each, run {turn + 1}")
            samples.append(await load.download_all(bench.contenders["c"].endpoint, bench.files, SIZE))
        return samples

    async def _archive(self, bench: Bench, key: str, paths: Sequence[str]) -> Sample:
        body = json.dumps({"paths": list(paths)}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/x-tar"}
        with client(bench.contenders[key].endpoint) as http:
            response = await asyncio.to_thread(
                http.request, "POST", "/bulk/download", body=body, headers=headers, keep=True
            )
        return response.seconds, FILES if response.status != 200 else _wrong(response.body)


def _wrong(archive: bytes) -> int:
    """The number of files that are missing in an archive or have a wrong length."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            right = sum(member.isfile() and member.size == SIZE for member in tar)
    except tarfile.TarError:
        return FILES
    return abs(FILES - right)
