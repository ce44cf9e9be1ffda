"""The load of Slurm's daemons: questions that they are asked, from their own statistics, and their processor time.

A question is a message that asks for jobs (or nodes, or partitions); `squeue` sends two or three messages for one. The
statistics count the messages of all users, so other load on the cluster shows in them. Those of slurmdbd are for
administrators only: they are read on this machine, if it has the daemon and this account may ask.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from .resources import listener, processor

_COUNT = re.compile(r"^\s+([A-Z_]+)\s+\(\s*\d+\)\s+count:(\d+)", re.MULTILINE)
_ASKS_CONTROLLER = re.compile(r"REQUEST_(?:JOB|NODE|RESERVATION)_\w*INFO\w*|REQUEST_JOB_WILL_RUN")
_ASKS_DATABASE = re.compile(r"DBD_GET_JOBS_COND")
_PORT = re.compile(r"^(SlurmctldPort|AccountingStoragePort)\s*=\s*([0-9]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SlurmLoad:
    """What the daemons have done since they started, as far as can be seen: counts, and seconds of processor time."""

    questions: int = 0  # to slurmctld
    messages: int = 0  # to slurmctld, questions included
    history_questions: int | None = None  # to slurmdbd
    controller_seconds: float | None = None
    database_seconds: float | None = None

    def since(self, before: SlurmLoad, per: str, count: float) -> Iterator[tuple[str, float]]:
        """The differences to an earlier load divided by `count`, by name; `per` may be "a request". Times are in ms."""
        for name, value in self._differences(before):
            what, comma, daemon = name.partition(",")
            yield f"{what} {per}{comma}{daemon}", value / count

    def _differences(self, before: SlurmLoad) -> Iterator[tuple[str, float]]:
        yield "questions to slurmctld", self.questions - before.questions
        yield "messages to slurmctld", self.messages - before.messages
        if self.history_questions is not None and before.history_questions is not None:
            yield "questions to slurmdbd", self.history_questions - before.history_questions
        if self.controller_seconds is not None and before.controller_seconds is not None:
            yield "ms of processor, slurmctld", 1000 * (self.controller_seconds - before.controller_seconds)
        if self.database_seconds is not None and before.database_seconds is not None:
            yield "ms of processor, slurmdbd", 1000 * (self.database_seconds - before.database_seconds)


class SlurmMeter:
    """Reads the load. `shell` runs a command on the login node, as a user who may run sdiag."""

    def __init__(self, shell: Callable[[str], Awaitable[str]], controller: int | None, database: int | None) -> None:
        """`controller` and `database` are the pids of the daemons on this machine."""
        self._shell = shell
        self._controller = controller
        self._database = database

    @classmethod
    async def of(cls, shell: Callable[[str], Awaitable[str]]) -> SlurmMeter:
        """Find the daemons by the ports that they listen on."""
        ports = dict(_PORT.findall(await shell("scontrol show config")))
        controller, database = (ports.get(name) for name in ("SlurmctldPort", "AccountingStoragePort"))
        pids = (None if port is None else listener(int(port)) for port in (controller, database))
        return cls(shell, *pids)

    async def load(self) -> SlurmLoad:
        """The load until now, without that of reading it."""
        counts = message_counts(await self._shell("sdiag"))
        history = await self._history()
        return SlurmLoad(
            sum(count for name, count in counts.items() if _ASKS_CONTROLLER.fullmatch(name)),
            sum(count for name, count in counts.items() if name != "REQUEST_STATS_INFO"),
            history,
            None if self._controller is None else processor([self._controller]),
            None if self._database is None else processor([self._database]),
        )

    async def _history(self) -> int | None:
        """The questions to slurmdbd; None if this account may not read its statistics here."""
        if self._database is None:
            return None
        try:
            process = await asyncio.create_subprocess_exec(
                "sacctmgr", "show", "stats", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
        except FileNotFoundError:
            return None
        output, _ = await process.communicate()
        counts = message_counts(output.decode())
        return None if not counts else sum(n for name, n in counts.items() if _ASKS_DATABASE.fullmatch(name))


def message_counts(statistics: str) -> dict[str, int]:
    """The numbers of messages by type, in the output of `sdiag` or `sacctmgr show stats`."""
    return {name: int(count) for name, count in _COUNT.findall(statistics)}
