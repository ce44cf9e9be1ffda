"""Network analysis: the SSH traffic of a server, from the counters that it logs on SIGUSR1.

The gateway logs one line per cluster (logger `flamecrest.pool`). The baselines log one line in the same format.
A process that does not handle the signal gets none, because the signal would end it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from .logs import parsed

LOGGERS = {"flamecrest.pool", "bench.pool"}
COUNTS = {
    "opened": "connections",
    "channels_opened": "channels",
    "messages_sent": "messages sent",
    "messages_received": "messages received",
    "bytes_sent": "bytes sent",
    "bytes_received": "bytes received",
}
GAUGES = ("connections", "channels", "ahead", "shared", "waiting", "dialing")  # the pool's numbers of now
TIMEOUT = 5  # seconds until the counters must be in the log


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def counted(lines: Iterable[bytes], names: Iterable[str] = tuple(COUNTS)) -> dict[str, int] | None:
    """The sums of the counters over all clusters; None if no line has counters. Missing counters are left out."""
    clusters: dict[str, dict[str, int]] = {}
    for line in lines:
        fields = parsed(line)
        if fields is None or fields.get("logger") not in LOGGERS or fields.get("message") != "pool":
            continue
        numbers = {name: fields[name] for name in names if type(fields.get(name)) is int}
        clusters[str(fields.get("cluster"))] = numbers
    total: Counter[str] = Counter()
    for numbers in clusters.values():
        total.update(numbers)
    return dict(total) if clusters else None


async def read_counters(pid: int, log: Path, names: Sequence[str] = tuple(COUNTS)) -> dict[str, int] | None:
    """Make a server log its counters and return them; None if it does not count.

    Raises TimeoutError if nothing is logged.
    """
    if not handles(pid, signal.SIGUSR1):
        return None
    start = log.stat().st_size
    os.kill(pid, signal.SIGUSR1)
    async with asyncio.timeout(TIMEOUT):
        found, before = counted(since(log, start), names), None
        while found is None or found != before:  # wait until the lines of all clusters are there
            await asyncio.sleep(0.05)
            before, found = found, counted(since(log, start), names)
    return found


def since(log: Path, start: int) -> list[bytes]:
    """The complete lines after the first `start` bytes of a log."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read()
    return text[: text.rfind(b"\n") + 1].splitlines()
