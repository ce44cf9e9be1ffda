"""Network analysis: what a server has sent to the cluster so far, as it says when it gets SIGUSR1.

The gateway logs one line per cluster (logger `flamecrest.pool`), the baselines of this benchmark one of the same
form. A process that does not handle the signal is left alone: it would end.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterable
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
PATIENCE = 5  # seconds in which a server must have answered the signal


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether the process handles the signal."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def counted(lines: Iterable[bytes]) -> dict[str, int] | None:
    """The counters of all clusters together; None when no line has any. Those that are not there are not in it."""
    clusters: dict[str, dict[str, int]] = {}
    for line in lines:
        fields = parsed(line)
        if fields is None or fields.get("logger") not in LOGGERS or fields.get("message") != "pool":
            continue
        numbers = {name: fields[name] for name in COUNTS if type(fields.get(name)) is int}
        clusters[str(fields.get("cluster"))] = numbers
    total: Counter[str] = Counter()
    for numbers in clusters.values():
        total.update(numbers)
    return dict(total) if clusters else None


async def ask(pid: int, log: Path) -> dict[str, int] | None:
    """The counters of a server now; None when it has none."""
    if not handles(pid, signal.SIGUSR1):
        return None
    start = log.stat().st_size
    os.kill(pid, signal.SIGUSR1)
    async with asyncio.timeout(PATIENCE):
        found, before = counted(since(log, start)), None
        while found is None or found != before:  # each cluster has a line
            await asyncio.sleep(0.05)
            before, found = found, counted(since(log, start))
    return found


def since(log: Path, start: int) -> list[bytes]:
    """The whole lines that were written to a log after that many bytes."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read()
    return text[: text.rfind(b"\n") + 1].splitlines()
