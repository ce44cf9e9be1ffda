"""A CommandRunner that answers with recorded output of real Slurm, and with faults on demand."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.schedulers.cli import CliScheduler
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.job_lookup import JobLookup
from flamecrest.server.schedulers.once.submissions import Submissions
from flamecrest.server.schedulers.script_files import with_regular_script
from flamecrest.server.schedulers.slurm.dialect import Slurm
from flamecrest.server.ssh.command import Command, Output

if TYPE_CHECKING:
    from flamecrest.server.errors import GatewayError

T = TypeVar("T")

HOME = "/home/fireuser"
RECORDED_AT = 1_795_300_100.0  # a moment when the recorded jobs were fresh

FOLDER = Path(__file__).parents[2] / "recorded"
VERSIONS = ("22.05", "24.11", "26.05")  # of Slurm; the same commands were recorded on each
SEP = "\x1f0a1b2c3d"  # the separator that was given when the recordings from 500 on were made


@dataclass(frozen=True)
class Recording:
    name: str
    line: str
    output: Output


def recording(name: str, version: str = VERSIONS[0]) -> Recording:
    """The recording of this name, with or without its number; there must be exactly one."""
    folder = FOLDER / f"slurm-{version}"
    found = sorted(folder.glob(f"{name}.cmd")) or sorted(folder.glob(f"[0-9][0-9][0-9]-{name}.cmd"))
    assert len(found) == 1, f"{name}: {[path.name for path in found]}"
    return _load(found[0])


def recordings(pattern: str, version: str = VERSIONS[0]) -> list[Recording]:
    found = [_load(path) for path in sorted((FOLDER / f"slurm-{version}").glob(f"{pattern}.cmd"))]
    assert found, pattern
    return found


def output(name: str, version: str = VERSIONS[0]) -> Output:
    return recording(name, version).output


def _load(path: Path) -> Recording:
    text = path.read_bytes().decode()
    status = re.search(r"^# exit status (\d+)$", text, re.MULTILINE)
    assert status, path
    line = text[: text.index("\n# run as ")]
    err = path.with_suffix(".err")
    stderr = err.read_bytes() if err.exists() else b""
    return Recording(path.stem, line, Output(int(status[1]), path.with_suffix(".out").read_bytes(), stderr))


def argv_of(command: Command[Any]) -> Sequence[str]:
    """The program and its arguments; without the shell that looks at the file of a script before."""
    shell = with_regular_script(command, "").argv[:3]
    return command.argv[len(shell) + 2 :] if tuple(command.argv[: len(shell)]) == tuple(shell) else command.argv


def line_of(command: Command[Any]) -> str:
    env = [f"{name}={shlex.quote(value)}" for name, value in command.env.items()]
    return " ".join([*env, shlex.join(argv_of(command))])


class RecordedSession:
    """Answers exactly the command lines of the recordings it is given; any other fails the test.

    `faults` maps a program to an error that the session raises, to an Output, or to an Event to wait for
    before the recorded answer comes (never set: the command hangs until the deadline).
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        *,
        faults: Mapping[str, GatewayError | Output | asyncio.Event] | None = None,
        version: str = VERSIONS[0],
    ) -> None:
        self.answers: dict[str, list[Output]] = defaultdict(list)
        for name in names:
            one = recording(name, version)
            self.answers[one.line].append(one.output)
        self.faults = dict(faults or {})
        self.ran: list[Command[Any]] = []
        self.deadlines: list[Deadline] = []
        self.cancelled: list[str] = []

    def of(self, identity: Identity) -> RecordedSession:
        assert identity.username == "fireuser", "the user of the recordings"
        return self

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        program = argv_of(command)[0].rpartition("/")[2]
        self.ran.append(command)
        self.deadlines.append(deadline)
        fault = self.faults.get(program)
        try:
            async with deadline.enforce(program):
                await (fault.wait() if isinstance(fault, asyncio.Event) else asyncio.sleep(0))
        except asyncio.CancelledError:
            self.cancelled.append(program)
            raise
        if isinstance(fault, Output):
            return command.parse(fault)
        if isinstance(fault, Exception):
            raise fault
        outputs = self.answers.get(line_of(command))
        assert outputs, f"no recording of {line_of(command)!r}"
        return command.parse(outputs.pop(0) if len(outputs) > 1 else outputs[0])

    def programs(self) -> list[str]:
        return [argv_of(command)[0].rpartition("/")[2] for command in self.ran]


def scheduler(
    session: RecordedSession,
    *,
    second_source_seconds: float = 5.0,
    counters: SchedulerCounters | None = None,
    now: float = RECORDED_AT,
    details: bool = False,
) -> CliScheduler:
    """The CLI scheduler with Slurm's dialect, as the user of the recordings, most of which are without details."""
    return CliScheduler(
        Slurm(separator=lambda: SEP, details=details),
        JobLookup("slurm", counters or SchedulerCounters(), second_source_seconds=second_source_seconds),
        session,
        Identity("fireuser"),
        submissions=Submissions(search_seconds=0),
        clock=lambda: now,
    )


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(seconds)


def both(name: str) -> list[str]:
    """The names of the recordings of both sources at one moment."""
    return [f"{name}-live", f"{name}-history"]
