"""Has the cluster write the data of uploads to disk while more of it comes. Knows no parts and no SFTP.

A node with much memory begins to write late. The fsync at the end of a part would then write the data of all parts,
and the SFTP server, which does one thing at a time, would serve none of the user's requests meanwhile. So a command
beside it syncs the file at intervals. Nobody waits for it: the fsync at the end of each part is what counts.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.command import Command

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Output

EVERY: Final = 128 * 1024 * 1024  # bytes between two commands
SECONDS: Final = 60.0  # for which a command may run
_MOST: Final = 4096  # uploads that are remembered


class CommandRunner(Protocol):
    """Runs commands on a login node as one user; an SSH Session is one."""

    async def run(self, command: Command[bool], deadline: Deadline) -> bool:
        """Run the command; see Session.run."""
        ...


@dataclass(slots=True)
class _Upload:
    """Bytes that were written since the last command; the command that runs; whether commands work."""

    written: int = 0
    running: asyncio.Task[None] | None = None
    works: bool = True


class WriteOut:
    """The uploads of one cluster, by the paths of their data. `every`: bytes between two commands."""

    def __init__(self, every: int = EVERY) -> None:
        self._every = every
        self._uploads: OrderedDict[bytes, _Upload] = OrderedDict()

    def wrote(self, runner: CommandRunner, path: bytes, size: int) -> None:
        """Note that so many bytes of a file were written. One command at a time runs for a file."""
        upload = self._uploads.get(path)
        if upload is None:
            upload = self._uploads[path] = _Upload()
            if len(self._uploads) > _MOST:
                self._uploads.popitem(last=False)
        upload.written += size
        if upload.written >= self._every and upload.running is None and upload.works:
            upload.written = 0
            upload.running = asyncio.create_task(self._sync(runner, path, upload))

    @staticmethod
    async def _sync(runner: CommandRunner, path: bytes, upload: _Upload) -> None:
        try:
            upload.works = await runner.run(sync_command(path), Deadline.after(SECONDS))
        except GatewayError:
            upload.works = False
        finally:
            upload.running = None

    def __len__(self) -> int:
        """The number of uploads that are remembered."""
        return len(self._uploads)


def sync_command(path: bytes) -> Command[bool]:
    """Run dd, which writes nothing into an existing file, then syncs it. Returns whether it could."""

    def parse(output: Output) -> bool:
        return output.status == 0

    options = ("if=/dev/null", f"of={os.fsdecode(path)}", "conv=notrunc,nocreat,fdatasync", "status=none")
    return Command(("dd", *options), parse)
