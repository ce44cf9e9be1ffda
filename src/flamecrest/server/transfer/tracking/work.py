"""A synchronization as work in the background: its progress, its errors, and how it has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flamecrest.server.transfer.records.record import End, Progress

if TYPE_CHECKING:
    from flamecrest.server.transfer.trees.sync import Synchronization


class FolderWork:
    """Runs a synchronization."""

    def __init__(self, synchronization: Synchronization) -> None:
        self._synchronization = synchronization

    async def run(self) -> End:
        """Make the target like the source."""
        report = await self._synchronization.run()
        if not report.failed:
            return End("COMPLETED", int(time.time()))
        entries = "1 entry was" if report.failed == 1 else f"{report.failed} entries were"
        return End("FAILED", int(time.time()), error=f"{entries} not transferred. The first: {report.errors[0]}")

    def progress(self) -> Progress:
        """How far it is; the total is known when everything was compared."""
        report = self._synchronization.report
        total = report.total if report.compared else 0
        return Progress(int(time.time()), report.done + report.under_way, total, report.files)

    def errors(self) -> list[str]:
        """What could not be transferred."""
        return self._synchronization.report.errors
