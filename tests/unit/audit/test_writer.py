"""The writer and its destinations: nothing is lost at a stop, files rotate, processes share a file, syslog."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.audit.chain import Chain, verify
from flamecrest.server.audit.destinations import Destination, FileDestination, SyslogDestination
from flamecrest.server.audit.writer import MOST_WAITING, AuditWriter

pytestmark = pytest.mark.anyio


def problems(*files: Path, key: bytes = b"") -> list[str]:
    lines = [(f"{file}", line) for file in files for line in file.read_bytes().splitlines(keepends=True)]
    return verify(lines, key).problems


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def numbers(lines: Iterable[dict[str, Any]]) -> list[int]:
    return [line["number"] for line in lines if "number" in line]


def writer(*destinations: Destination) -> AuditWriter:
    return AuditWriter(destinations, Chain)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_nothing_is_lost_at_a_stop(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    async with writer(FileDestination(file)) as log:
        for number in range(3000):
            log.add({"event": "call", "number": number})
    found = records(file)
    assert numbers(found) == list(range(3000))
    assert [found[0]["event"], found[-1]["event"]] == ["start", "stop"]
    assert problems(file) == []
    assert file.stat().st_mode & 0o777 == 0o600


async def test_the_next_process_continues_the_file(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    for number in range(3):
        destination = FileDestination(file)
        async with AuditWriter([destination], lambda: Chain(b"k", destination.last_hash())) as log:  # noqa: B023
            log.add({"event": "call", "number": number})
    assert numbers(records(file)) == [0, 1, 2]
    assert problems(file, key=b"k") == []
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2] + lines[3:]))  # the last line of the first process is cut out
    assert problems(file, key=b"k")


async def test_a_file_is_renamed_when_it_is_full(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    async with writer(FileDestination(file, max_size=2000, keep=2)) as log:
        for number in range(40):
            log.add({"event": "call", "number": number})
            await until(lambda: not log._records)
    old = sorted(tmp_path.glob("audit.2*"))
    assert len(old) == 2
    kept = numbers(line for one in (*old, file) for line in records(one))
    assert kept == list(range(kept[0], 40))
    assert all(one.stat().st_size <= 2000 for one in old)


async def test_a_file_that_was_renamed_by_another_program(tmp_path: Path) -> None:
    file, moved = tmp_path / "audit", tmp_path / "audit.1"
    async with writer(FileDestination(file)) as log:
        log.add({"event": "call", "number": 1})
        await until(lambda: file.exists() and b"number" in file.read_bytes())
        file.rename(moved)
        log.add({"event": "call", "number": 2})
    assert numbers(records(moved)) == [1]
    assert numbers(records(file)) == [2]
    assert problems(moved, file) == []


async def test_records_wait_for_a_destination_that_fails(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    async with writer(FileDestination(folder / "audit"), FileDestination(tmp_path / "audit")) as log:
        log.add({"event": "call", "number": 1})
        await until(lambda: log._failing == {0})
        for number in range(2, MOST_WAITING + 2):
            log.add({"event": "call", "number": number})
        assert log.behind
        folder.mkdir()
        await until(lambda: not log.behind)
    assert numbers(records(folder / "audit")) == list(range(1, MOST_WAITING + 2))
    assert problems(folder / "audit") == problems(tmp_path / "audit") == []


async def test_what_cannot_be_written_at_a_stop_goes_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = FileDestination(tmp_path / "no" / "audit")
    async with AuditWriter([missing], Chain, close_seconds=0.1) as log:
        log.add({"event": "call", "number": 1})
    lost = [record.fields["record"] for record in caplog.records if hasattr(record, "fields")]
    assert [json.loads(line)["event"] for line in lost] == ["start", "call", "stop"]


PROGRAM = """
import asyncio, sys
from pathlib import Path
from flamecrest.server.audit.chain import Chain
from flamecrest.server.audit.destinations import FileDestination
from flamecrest.server.audit.writer import AuditWriter
async def main():
    file = FileDestination(Path(sys.argv[1]), max_size=20000)
    async with AuditWriter([file], lambda: Chain(b"", file.last_hash())) as log:
        for number in range(300):
            log.add({"event": "call", "number": number})
            if number % 20 == 0:
                await asyncio.sleep(0.03)
asyncio.run(main())
"""


async def test_several_processes_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, str(file)) for _ in range(3)]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    files = [*sorted(tmp_path.glob("audit.2*")), file]
    assert len(files) > 1
    assert problems(*files) == []
    assert sorted(numbers(line for one in files for line in records(one))) == sorted([*range(300)] * 3)


def seal(*numbers: int) -> list[bytes]:
    chain = Chain()
    return [chain.seal({"event": "call", "number": number}) for number in numbers]


def test_syslog_over_a_unix_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        destination = SyslogDestination(f"unix:{tmp_path / 'log'}")
        lines = seal(1, 2)
        assert destination.write(lines) == 2
        head, _, line = server.recv(65536).partition(b"]: ")
        assert head.startswith(b"<109>flamecrest[")
        assert line + b"\n" == lines[0]
        destination.close()


def test_syslog_over_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        destination = SyslogDestination(f"udp://127.0.0.1:{server.getsockname()[1]}")
        lines = seal(1)
        assert destination.write(lines) == 1
        words = server.recv(65536).split(b" ", 7)
        assert (words[0], words[3], words[5], words[6], words[7]) == (
            b"<109>1",
            b"flamecrest",
            b"audit",
            b"-",
            lines[0][:-1],
        )
        destination.close()


def test_syslog_over_tcp_connects_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        got: list[bytes] = []

        def serve() -> None:
            for _ in range(2):
                client, _ = server.accept()
                with client, client.makefile("rb") as stream:
                    length = b""
                    while (digit := stream.read(1)) != b" ":
                        length += digit
                    got.append(stream.read(int(length)))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        destination = SyslogDestination(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        lines = seal(1, 2)
        assert destination.write(lines[:1]) == 1
        destination.close()
        assert destination.write(lines[1:]) == 1
        thread.join(30)
        destination.close()
    assert [one.partition(b" audit - ")[2] + b"\n" for one in got] == lines
