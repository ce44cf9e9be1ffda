"""One client of a workflow manager: it looks at files, writes and reads small ones, submits a job, and polls it."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Any, Final

from .clients import CONTENT, Client

NAME: Final = "flamecrest-bench-soak"  # of the jobs
SCRIPT: Final = "#!/bin/sh\n#SBATCH --ntasks=1 --mem=1M --time=2\ncat input > result\n"
ENTRIES: Final = {"input", "notes", "result", "out", "err"}  # what a client's folder may contain
UNFINISHED: Final = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"}
ROUNDS_A_JOB_STEP: Final = 3  # a workflow manager looks at files more often than at its jobs
LAST_POLL: Final = 2.0  # seconds, by default
ENDING: Final = 180  # seconds within which the last job has ended


@dataclass(slots=True)
class Submissions:
    """How many jobs the clients together may submit: so many a second, and so many that have not ended."""

    rate: float
    most: int
    open: int = 0
    all: int = 0
    _next: float = 0.0

    def take(self, now: float) -> bool:
        """Whether one job more may be submitted now; it is counted as open."""
        if self.open >= self.most or now < self._next:
            return False
        self._next = max(self._next, now - 1) + 1 / self.rate
        self.open += 1
        self.all += 1
        return True


class Workflow:
    """A client with a folder and at most one job. `pause`: the least and greatest seconds between two calls.

    `submissions`: None on a site without a scheduler. `last_poll`: seconds between two questions when only the end of
    the job is waited for.
    """

    def __init__(
        self,
        client: Client,
        folder: str,
        pause: tuple[float, float],
        submissions: Submissions | None,
        seed: int,
        last_poll: float = LAST_POLL,
    ) -> None:
        self._client, self._folder, self._pause, self._submissions = client, folder, pause, submissions
        self._last_poll = last_poll
        self._random = random.Random(seed)
        self._job: str | None = None
        self._rounds = 0

    async def run(self, seconds: float) -> None:
        """Work until the log's clock shows `seconds`, then wait for the end of the last job."""
        client = self._client
        await asyncio.sleep(self._random.uniform(0, sum(self._pause)))
        await client.mkdir(self._folder)
        await client.upload(self._folder, "input")
        while client.log.now < seconds:
            await self._round(seconds)
        for _ in range(int(ENDING / self._last_poll)):
            if self._job is None:
                return
            await self._poll()
            await asyncio.sleep(self._last_poll)
        client.log.failed("job", f"job {self._job} has not ended")

    async def _round(self, seconds: float) -> None:
        self._rounds += 1
        client, notes = self._client, f"round {self._rounds} of {self._folder}\n".encode() * 20
        jobs_too = self._submissions is not None and self._rounds % ROUNDS_A_JOB_STEP == 0
        steps = (
            lambda: client.stat(f"{self._folder}/input"),
            self._look,
            lambda: client.upload(self._folder, "notes", notes),
            lambda: client.download(f"{self._folder}/notes", notes),
            *((self._step_of_the_job,) if jobs_too else ()),
        )
        for step in steps:
            if client.log.now >= seconds:
                return
            await step()
            await asyncio.sleep(self._random.uniform(*self._pause))

    async def _look(self) -> None:
        """List the folder: no temporary file is ever seen in it, and none is left."""
        found = set(await self._client.ls(self._folder))
        hidden = {name for name in found if name.startswith(".")}
        if found and (("input" not in found) or found - hidden - ENTRIES):
            self._client.log.failed("ls", f"unexpected entries: {sorted(found)}")

    async def _step_of_the_job(self) -> None:
        assert self._submissions is not None
        if self._job is not None:
            await self._poll()
        elif self._submissions.take(self._client.log.now):
            await self._submit()
        else:
            await self._client.list_jobs()

    async def _submit(self) -> None:
        assert self._submissions is not None
        folder = self._folder
        job: dict[str, Any] = {
            "name": NAME,
            "workingDirectory": folder,
            "standardOutput": f"{folder}/out",
            "standardError": f"{folder}/err",
            "script": SCRIPT,
        }
        body = await self._client.call("submit", "POST", self._client.jobs, json={"job": job})
        if body is None:
            self._submissions.open -= 1
            return
        self._job = str(json.loads(body)["jobId"])

    async def _poll(self) -> None:
        assert self._submissions is not None
        found = await self._client.ask("poll", f"{self._client.jobs}/{self._job}", "jobs")
        if found is None:
            return
        if not found:
            self._client.log.failed("poll", f"job {self._job} is not known")
            return
        state = str(found[0]["status"]["state"])
        if state in UNFINISHED:
            return
        if state != "COMPLETED":
            self._client.log.failed("job", f"job {self._job} is {state}")
        else:
            await self._client.download(f"{self._folder}/result", CONTENT)
        self._job = None
        self._submissions.open -= 1
