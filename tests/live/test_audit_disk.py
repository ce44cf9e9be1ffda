"""The audit log on a file system that is full: a tmpfs of 64 KiB in a mount namespace of the program's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, subprocess, sys
from pathlib import Path
from flamecrest.server.audit.chain import Chain, verify
from flamecrest.server.audit.destinations import FileDestination
from flamecrest.server.audit.writer import AuditWriter
place, rotated = Path(sys.argv[1]), sys.argv[2] == "rotated"
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=True)
file, filler = place / "audit", place / "filler"
async def until(condition):
    while not condition():
        await asyncio.sleep(0.02)
async def main():
    filler.write_bytes(b"x" * 40 * 1024)
    async with AuditWriter([FileDestination(file, max_size=8192 if rotated else None)], Chain) as log:
        for number in range(100):
            log.add({"event": "call", "number": number, "text": "x" * 100})
            if number % 10 == 0:
                await asyncio.sleep(0.06)
        await until(lambda: log._failing)
        assert all(one.read_bytes().endswith(b"\\n") for one in place.glob("audit*") if one.stat().st_size)
        subprocess.run(["mount", "-o", "remount,size=1m", place], check=True)
        await until(lambda: not log._failing and not log._waiting)
asyncio.run(main())
files = [*sorted(place.glob("audit.2*")), file]
lines = [(str(one), line) for one in files for line in one.read_bytes().splitlines(keepends=True)]
report = verify(lines)
print(report.records, report.problems, len(files) > 1)
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting needs root and unshare")
@pytest.mark.parametrize("way", ["plain", "rotated"])
def test_a_disk_that_is_full(tmp_path: Path, way: str) -> None:
    """No line is lost, torn or repeated: when there is room again, all are there."""
    command = ["unshare", "--mount", sys.executable, "-c", PROGRAM, str(tmp_path), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(" ", 1) == ["102", f"[] {way == 'rotated'}\n"]
    assert list(tmp_path.iterdir()) == []
