"""Destinations and records that misbehave in ways that nobody foresees: the log goes on, and says what has failed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from flamecrest.server.audit.chain import Chain
from flamecrest.server.audit.destinations import FileDestination, SyslogDestination
from flamecrest.server.audit.writer import AuditWriter

from .test_writer import numbers, problems, records, until, writer

pytestmark = pytest.mark.anyio


def sample(log: AuditWriter, name: str) -> float:
    return next(one.value for one in log.samples() if one.metric == f"flamecrest_audit_{name}")


async def written(log: AuditWriter, number: int) -> None:
    log.add({"event": "call", "number": number})
    await until(lambda: not log._waiting)


async def test_a_descriptor_that_something_else_has_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = FileDestination(tmp_path / "audit")
    async with writer(file) as log:
        await written(log, 1)
        os.close(file._fd)
        await written(log, 2)
        assert sample(log, "failures_total") == 1
        assert sample(log, "destinations_failing") == 0
    assert numbers(records(tmp_path / "audit")) == [1, 2]
    assert problems(tmp_path / "audit") == []
    assert "Bad file descriptor" in caplog.text


async def test_an_address_that_cannot_be_encoded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The resolver raises UnicodeError, which is no OSError."""
    syslog = SyslogDestination(f"udp://{'x' * 70}.example.org:514")
    file = tmp_path / "audit"
    file.touch()
    async with AuditWriter([syslog, FileDestination(file)], Chain, close_seconds=0.1) as log:
        for number in range(3):
            log.add({"event": "call", "number": number})
            await until(lambda line=b'"number":%d' % number: line in file.read_bytes())  # type: ignore[misc]
        await until(lambda: sample(log, "failures_total") > 1)
        assert sample(log, "destinations_failing") == 1
    assert problems(tmp_path / "audit") == []
    assert "audit records cannot be written and wait: UnicodeError" in caplog.text
    lost = [json.loads(record.fields["record"]) for record in caplog.records if hasattr(record, "fields")]
    assert [one["event"] for one in lost] == ["start", "call", "call", "call", "stop"]


class Unreadable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def endless() -> dict[str, Any]:
    found: dict[str, Any] = {"number": 2}
    found["itself"] = found
    return found


async def test_records_that_are_no_json(tmp_path: Path) -> None:
    strange: list[dict[Any, Any]] = [
        {("a", "b"): 1},
        {"x": Unreadable()},
        {"x": "\ud800"},
        {"x": {1, 2}},
        endless(),
        {"x": "y" * 100_000},
    ]
    async with writer(FileDestination(tmp_path / "audit")) as log:
        for number, record in enumerate(strange):
            log.add(cast("Mapping[str, Any]", {"event": "call", **record, "number": number}))
    found = records(tmp_path / "audit")
    assert numbers(found) == list(range(len(strange)))
    assert found[2]["x"] == {"unreadable": "Unreadable"}
    assert found[5]["itself"] == {"unreadable": "dict"}
    assert problems(tmp_path / "audit") == []


async def test_a_file_whose_last_line_cannot_be_read_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = FileDestination(tmp_path / "audit")
    (tmp_path / "audit").mkdir()
    async with AuditWriter([file], lambda: Chain(b"k", file.last_hash())) as log:
        log.add({"event": "call", "number": 1})
        await until(lambda: sample(log, "failures_total") > 1)
        assert sample(log, "records_waiting") == 1
        (tmp_path / "audit").rmdir()
        await written(log, 2)
    assert numbers(records(tmp_path / "audit")) == [1, 2]
    assert problems(tmp_path / "audit", key=b"k") == []
    assert "audit records cannot be chained and wait" in caplog.text
    assert "audit records are chained again" in caplog.text


async def test_without_a_chain_the_log_has_the_records(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "audit").mkdir()
    file = FileDestination(tmp_path / "audit")
    async with AuditWriter([file], lambda: Chain(b"k", file.last_hash()), close_seconds=0.1) as log:
        log.add({"event": "call", "number": 1})
    lost = [json.loads(record.fields["record"]) for record in caplog.records if hasattr(record, "fields")]
    assert [one["event"] for one in lost] == ["call", "stop"]


async def test_a_line_that_is_too_long_for_a_datagram_stops_no_other(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        syslog = SyslogDestination(f"udp://127.0.0.1:{server.getsockname()[1]}")
        async with writer(syslog, FileDestination(tmp_path / "audit")) as log:
            log.add({"event": "call", "user": "ann", "decisions": [{"paths": ["\U0001f600" * 1024] * 50}]})
            await written(log, 1)
            assert sample(log, "failures_total") == 0
        got = [json.loads(server.recv(65536).partition(b" audit - ")[2]) for _ in range(4)]
    whole = records(tmp_path / "audit")
    assert [one["hash"] for one in got] == [one["hash"] for one in whole]
    assert got[1].pop("cut_from_bytes") > 65536
    assert got[1] == {name: one for name, one in whole[1].items() if name != "decisions"}
    assert problems(tmp_path / "audit") == []


async def test_a_folder_that_is_removed_and_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    async with writer(FileDestination(folder / "audit")) as log:
        await written(log, 1)
        shutil.rmtree(folder)
        log.add({"event": "call", "number": 2})
        await until(lambda: sample(log, "destinations_failing") == 1)
        folder.mkdir()
        await written(log, 3)
    assert numbers(records(folder / "audit")) == [2, 3]


async def test_a_file_that_is_cut_short_by_another_program(tmp_path: Path) -> None:
    """As by logrotate's copytruncate, which must not be used: what is written after it is whole, and the cut shows."""
    file, copy = tmp_path / "audit", tmp_path / "audit.1"
    async with writer(FileDestination(file)) as log:
        await written(log, 1)
        shutil.copy(file, copy)
        os.truncate(file, 0)
        await written(log, 2)
    assert b"\x00" not in file.read_bytes()
    assert problems(copy, file) == []
    assert problems(file) != []


PIPE = """
import asyncio, os
from flamecrest.server.audit.chain import Chain
from flamecrest.server.audit.destinations import StdoutDestination
from flamecrest.server.audit.writer import AuditWriter
async def main():
    os.set_blocking(1, False)
    async with AuditWriter([StdoutDestination()], Chain) as log:
        for number in range(3000):
            log.add({"event": "call", "number": number, "text": "x" * 100})
        while not log._failing:
            await asyncio.sleep(0.01)
        while log._waiting:
            await asyncio.sleep(0.01)
asyncio.run(main())
"""


async def test_a_pipe_that_is_full(tmp_path: Path) -> None:
    """What reads standard output is slow: no line is lost, repeated or torn."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=1024
    )
    assert program.stderr is not None
    async with asyncio.timeout(50):
        await program.stderr.readuntil(b"wait: ")
        output, said = await program.communicate()
    assert program.returncode == 0
    assert b"written again" in said
    (tmp_path / "audit").write_bytes(output)
    assert numbers(records(tmp_path / "audit")) == list(range(3000))
    assert problems(tmp_path / "audit") == []


MEMORY = """
import asyncio, resource, sys
from pathlib import Path
from flamecrest.server.audit.chain import Chain
from flamecrest.server.audit.destinations import FileDestination
from flamecrest.server.audit.writer import AuditWriter
async def until(condition):
    while not condition():
        await asyncio.sleep(0.02)
async def main():
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    async with AuditWriter([FileDestination(Path(sys.argv[1]))], Chain) as log:
        log.add({"event": "call", "number": 1})
        await until(lambda: not log._waiting)
        text = "x" * 64 * 1024 * 1024
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 32 * 1024 * 1024, hard))
        log.add({"event": "call", "number": 2, "text": text})
        log.add({"event": "call", "number": 3})
        await until(lambda: log._failures > 1)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        await until(lambda: not log._waiting)
asyncio.run(main())
"""


async def test_too_little_memory(tmp_path: Path) -> None:
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", MEMORY, str(tmp_path / "audit"))
    async with asyncio.timeout(50):
        assert await program.wait() == 0
    assert numbers(records(tmp_path / "audit")) == [1, 2, 3]
    assert problems(tmp_path / "audit") == []
