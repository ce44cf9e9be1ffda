"""The local scheduler without SSH: its commands run in a shell of this machine, as one user with a home of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flamecrest.sandbox import processes
from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.schedulers.cli import CliScheduler
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.job_lookup import JobLookup
from flamecrest.server.schedulers.local.dialect import Local
from flamecrest.server.schedulers.local.program import Limits, Program
from flamecrest.server.schedulers.values import Job, JobSpec
from flamecrest.server.ssh.command import Command, Output

T = TypeVar("T")
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
SLEEP = "#!/bin/sh\nsleep 300\n"


def soon() -> Deadline:
    return Deadline.after(60)


class Shell:
    """Runs commands on this machine."""

    def __init__(self, home: Path) -> None:
        self.env = {"HOME": str(home), "PATH": os.defpath, processes.MARK: str(home), "LOGIN": "yes"}

    def of(self, identity: Identity) -> Shell:
        del identity
        return self

    async def start(self, command: Command[Any]) -> asyncio.subprocess.Process:
        """Start a command in a process group of its own. Its input is still to be written."""
        env = {**self.env, **command.env}
        return await asyncio.create_subprocess_exec(
            *command.argv, stdin=-1, stdout=-1, stderr=-1, env=env, start_new_session=True
        )

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        async with asyncio.timeout(deadline.left()):
            process = await self.start(command)
            stdout, stderr = await process.communicate(command.stdin)
        return command.parse(Output(process.returncode or 0, stdout, stderr))


@dataclass(frozen=True)
class Machine:
    """The scheduler and its dialect, the user's home, and a shell."""

    scheduler: CliScheduler
    dialect: Local
    home: Path
    shell: Shell

    def with_limits(self, **limits: Any) -> Machine:
        """The same machine, whose gateway has other limits."""
        return machine_at(self.home, **limits)

    @property
    def state(self) -> Path:
        """The state folder."""
        (found,) = (self.home / ".local/state/flamecrest").iterdir()
        return found

    def spec(self, script: str = "#!/bin/sh\ntrue\n", **more: Any) -> JobSpec:
        return JobSpec(str(self.home), script=None if "script_path" in more else script, **more)

    async def submit(self, script: str = "#!/bin/sh\ntrue\n", **more: Any) -> str:
        return await self.scheduler.submit(self.spec(script, **more), soon())

    async def job(self, job_id: str) -> Job:
        (found,) = await self.scheduler.job(job_id, soon())
        return found

    async def jobs(self) -> dict[str, Job]:
        found = await self.scheduler.jobs(all_users=False, account=None, name=None, window=3600, deadline=soon())
        return {job.id: job for job in found}

    async def until(self, job_id: str, *states: str) -> Job:
        deadline = soon()
        while (job := await self.job(job_id)).state not in (states or FINAL):
            assert deadline.left() > 0, f"{job_id} is {job.state}, not one of {states or FINAL}"
            await asyncio.sleep(0.05)
        return job

    async def until_file(self, name: str) -> str:
        """The content of a file in the home directory, once it has a whole line."""
        deadline = soon()
        path = self.home / name
        while not await asyncio.to_thread(path.exists) or "\n" not in path.read_text():
            assert deadline.left() > 0, f"{name} was not written"
            await asyncio.sleep(0.02)
        return path.read_text().strip()


def machine_at(home: Path, **limits: Any) -> Machine:
    shell = Shell(home)
    dialect = Local(Program(Limits(**{"cpus": 4, "memory": 4096, "kill_wait": 1, **limits})), "me")
    lookup = JobLookup("local", SchedulerCounters())
    return Machine(CliScheduler(dialect, lookup, shell, Identity("me")), dialect, home, shell)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    yield machine_at(tmp_path)
    await asyncio.to_thread(processes.end_all, tmp_path)
