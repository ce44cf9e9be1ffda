"""When the data of an upload is synced while it comes, and what the command does to the file."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unsupported
from flamecrest.server.ssh.command import Output
from flamecrest.server.transfer.direct.write_out import WriteOut, sync_command

pytestmark = pytest.mark.anyio


class Node:
    """A login node whose commands end when `done` is set, with a status."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.commands: list[str] = []
        self.done = asyncio.Event()

    async def run(self, command: Any, deadline: Deadline) -> Any:
        assert deadline.left() > 10
        self.commands.append(command.argv[2])
        await self.done.wait()
        if self.status < 0:
            raise Unsupported("The account runs no commands")
        return command.parse(Output(self.status))


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_command_at_a_time_for_each_file() -> None:
    node, out = Node(), WriteOut(every=100)
    out.wrote(node, b"/a", 99)
    await settled()
    assert node.commands == []
    for _ in range(5):
        out.wrote(node, b"/a", 100)
    out.wrote(node, b"/b", 100)
    await settled()
    assert node.commands == ["of=/a", "of=/b"]
    node.done.set()
    await settled()
    out.wrote(node, b"/a", 1)
    await settled()
    assert node.commands == ["of=/a", "of=/b", "of=/a"]


@pytest.mark.parametrize("status", [127, 1, -1], ids=["no dd", "an old dd", "no commands"])
async def test_what_does_not_work_is_not_tried_again(status: int) -> None:
    node, out = Node(status), WriteOut(every=100)
    node.done.set()
    for _ in range(3):
        out.wrote(node, b"/a", 100)
        await settled()
    assert node.commands == ["of=/a"]


async def test_memory_is_bounded() -> None:
    node, out = Node(), WriteOut()
    for number in range(5000):
        out.wrote(node, b"/%d" % number, 1)
    assert len(out) == 4096


def test_the_command_changes_no_file_and_makes_none(tmp_path: Path) -> None:
    file = tmp_path / "a part's data\nof=\udcff"
    file.write_bytes(b"content")
    before = file.stat().st_mtime_ns
    done = subprocess.run(sync_command(bytes(file)).argv, check=True, capture_output=True)
    assert (done.stdout, done.stderr, file.read_bytes(), file.stat().st_mtime_ns) == (b"", b"", b"content", before)
    missing = tmp_path / "missing"
    assert subprocess.run(sync_command(bytes(missing)).argv, check=False, capture_output=True).returncode != 0
    assert not missing.exists()
