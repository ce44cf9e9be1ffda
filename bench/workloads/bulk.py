"""A thousand small files at once: one archive by the gateway, beside a command each and beside a plain remote tar."""

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

from .workload import Bench

Taken = tuple[float, int]  # seconds, wrong answers


class Bulk:
    """All files of a folder, asked for as the folder and by their names; (c) is the same in both."""

    name = "bulk"
    title = f"{FILES} files of 1 KB at once: bulk download, ssh host tar, and one request each (c)"
    rows = "asked for as"
    needs: Sequence[str] = ("c", GATEWAY)

    async def run(self, bench: Bench) -> list[Cell]:
        if not bench.ssh.found():
            bench.say(f"{self.name}: left out, ssh is missing (apt-get install openssh-client)")
            return []
        folder = shlex.quote(bench.folder)
        names = "\n".join(path.rpartition("/")[2] for path in bench.files)
        named = f"cd {folder} && tar -cf - -- {' '.join(names.split())}"
        ways = {
            "a folder": ([bench.folder], f"tar -C {folder} -cf - ."),
            f"{FILES} names": (list(bench.files), named),
        }
        cells = []
        async with bench.ssh.opened():
            await self._archive(bench, [bench.folder])
            commands = await self._each(bench)
            for row, (paths, command) in ways.items():
                found = await self._row(bench, row, paths, command)
                for key, taken in {"c": commands, **found}.items():
                    samples, wrong = tuple(one for one, _ in taken), sum(bad for _, bad in taken)
                    cells.append(Cell(self.name, key, "seconds", row, samples, "", wrong))
        return cells

    async def _row(self, bench: Bench, row: str, paths: Sequence[str], command: str) -> dict[str, list[Taken]]:
        found: dict[str, list[Taken]] = {GATEWAY: [], OPENSSH: [], OPENSSH_OPEN: []}
        for turn in range(5 if bench.quick else 15):
            bench.say(f"{self.name}: {row}, run {turn + 1}")
            found[GATEWAY].append(await self._archive(bench, paths))
            for key in (OPENSSH, OPENSSH_OPEN):
                seconds, output = await bench.ssh.run(command, shared=key == OPENSSH_OPEN)
                found[key].append((seconds, _wrong(output)))
        return found

    async def _each(self, bench: Bench) -> list[Taken]:
        taken = []
        for turn in range(1 if bench.quick else 5):
            bench.say(f"{self.name}: one request each, run {turn + 1}")
            taken.append(await load.download_all(bench.contenders["c"].caller, bench.files, SIZE))
        return taken

    async def _archive(self, bench: Bench, paths: Sequence[str]) -> Taken:
        body = json.dumps({"paths": list(paths)}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/x-tar"}
        with client(bench.contenders[GATEWAY].caller) as asking:
            answer = await asyncio.to_thread(
                asking.ask, "POST", "/bulk/download", body=body, headers=headers, keep=True
            )
        return answer.seconds, FILES if answer.status != 200 else _wrong(answer.body)


def _wrong(archive: bytes) -> int:
    """How many of the files an archive does not hold with the right length."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            right = sum(member.isfile() and member.size == SIZE for member in tar)
    except tarfile.TarError:
        return FILES
    return abs(FILES - right)
