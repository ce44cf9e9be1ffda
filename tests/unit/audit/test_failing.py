"""The audit log while it cannot be written: whole lines only, nothing is lost in silence, and memory has a bound."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.audit.chain import Chain
from flamecrest.server.audit.destinations import FileDestination
from flamecrest.server.audit.writer import MOST_KEPT, AuditWriter

from .test_writer import numbers, problems, records, until

pytestmark = pytest.mark.anyio


async def test_a_flood_of_denials_does_not_fill_the_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "later"
    async with AuditWriter([FileDestination(folder / "audit")], Chain) as log:
        log.add({"event": "denial", "number": 0}, changes=False)
        await until(lambda: log._failing == {0})
        for number in range(1, MOST_KEPT + 500):
            log.add({"event": "denial", "number": number}, changes=False)
        log.add({"event": "call", "number": -1})  # of a change that had begun: it is never left out
        # all others wait, with the line of the start; the writer counts no line that is just being chained
        await until(lambda: log._waiting == 1 + (MOST_KEPT + 500 - log._left_out) + 1)
        folder.mkdir()
        await until(lambda: not log._waiting)
        await until(lambda: b"left_out" in (folder / "audit").read_bytes())
        log.add({"event": "denial", "number": -2}, changes=False)
    found = records(folder / "audit")
    count = next(one["count"] for one in found if one["event"] == "left_out")
    assert count in {500, 501}  # 500: one was being chained when there was no more room
    assert numbers(found) == [*range(MOST_KEPT + 500 - count), -1, -2]
    assert problems(folder / "audit") == []
    assert f"{count} audit records" in caplog.text


async def test_what_was_left_out_is_said_at_a_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with AuditWriter([FileDestination(tmp_path / "no" / "audit")], Chain, close_seconds=0.1) as log:
        for number in range(MOST_KEPT + 3):
            log.add({"event": "denial", "number": number}, changes=False)
    fields: list[Any] = [getattr(record, "fields", {}) for record in caplog.records]
    last = [json.loads(one["record"]) for one in fields if "record" in one][-2:]
    assert [one["event"] for one in last] == ["left_out", "stop"]
    assert last[0]["count"] in {3, 4}  # the line of the start may be among those that wait


PROGRAM = """
import asyncio, resource, sys
from pathlib import Path
from flamecrest.server.audit.chain import Chain
from flamecrest.server.audit.destinations import FileDestination
from flamecrest.server.audit.writer import AuditWriter
async def until(condition):
    while not condition():
        await asyncio.sleep(0.02)
async def main():
    file, rotated = Path(sys.argv[1]), bool(sys.argv[2])
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # as a disk on which there is room for 5000 bytes
    async with AuditWriter([FileDestination(file, max_size=4000 if rotated else None)], Chain) as log:
        for number in range(100):
            log.add({"event": "call", "number": number})
            if number % 5 == 0:
                await asyncio.sleep(0.06)
        await until(lambda: log._failing)
        whole = file.read_bytes()
        print(len(whole), whole.endswith(b"\\n"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await until(lambda: not log._failing and not log._waiting)
asyncio.run(main())
"""


async def ran(file: Path, rotated: str) -> str:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(file), rotated, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(50):
        output, _ = await program.communicate()
    assert program.returncode == 0
    return output.decode()


async def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A line that fits in part is taken back; when there is room again, all are there, in order."""
    file = tmp_path / "audit"
    size, whole = (await ran(file, "")).split()
    assert (0 < int(size) <= 5000, whole) == (True, "True")
    assert numbers(records(file)) == list(range(100))
    assert problems(file) == []
