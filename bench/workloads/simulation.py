"""One simulated client of the workload `lifecycle`: the requests of a job's complete life, timed step by step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

STEPS: Final = ("systems", "mkdir", "upload", "submit", "monitor", "results", "clean up")
POLL: Final = 1.0  # seconds
CONTENT: Final = b"x" * 1024
NAME: Final = "flamecrest-bench-life"  # of the jobs
SCRIPT: Final = "#!/bin/sh\n#SBATCH --ntasks=1 --mem=1M --time=5\ncat input > result\n"
_UNFINISHED: Final = {"", "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"}


class WrongResponse(Exception):
    """A response that is not the expected one, or a job that has failed."""


@dataclass(slots=True)
class Measured:
    """What clients have measured: seconds by step, and how many of them have failed at which step, with an example."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    whole: list[float] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    example: str = ""


@dataclass(slots=True)
class Simulation:
    """A client. `origin` is the URL of the server, `folder` a directory on the cluster that does not exist yet.

    `poll`: seconds between two questions for the state of the job.
    """

    http: httpx.AsyncClient
    origin: str
    system: str
    token: str
    folder: str
    poll: float = POLL
    _job_id: str = ""

    async def run(self, measured: Measured) -> None:
        """Send the requests of one life, and note the times, or the step that failed."""
        since, at = time.perf_counter(), ""
        try:
            for at, step in self._steps():
                begun = time.perf_counter()
                await step
                measured.seconds[at].append(time.perf_counter() - begun)
            measured.whole.append(time.perf_counter() - since)
        except (WrongResponse, httpx.HTTPError, asyncio.CancelledError) as error:
            measured.failed[at] = measured.failed.get(at, 0) + 1
            measured.example = measured.example or f"{at}: {error!r}"
            if isinstance(error, asyncio.CancelledError):
                raise

    def _steps(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        files = f"/filesystem/{self.system}/ops"
        jobs = f"/compute/{self.system}/jobs"
        yield "systems", self._send("GET", "/status/systems")
        yield "mkdir", self._send("POST", f"{files}/mkdir", json={"path": self.folder, "parent": True})
        upload = {"file": ("input", CONTENT, "application/octet-stream")}
        yield "upload", self._send("POST", f"{files}/upload", params={"path": self.folder}, files=upload)
        yield "submit", self._submit(jobs)
        yield "monitor", self._monitor(jobs)
        yield "results", self._results(f"{files}/download")
        yield "clean up", self._send("DELETE", f"{files}/rm", params={"path": self.folder})

    async def _submit(self, jobs: str) -> None:
        job = {
            "name": NAME,
            "workingDirectory": self.folder,
            "standardOutput": f"{self.folder}/out",
            "standardError": f"{self.folder}/err",
            "script": SCRIPT,
        }
        self._job_id = str((await self._request("POST", jobs, json={"job": job})).json()["jobId"])

    async def _monitor(self, jobs: str) -> None:
        """Wait for the end of the job. A scheduler's history may not have it yet."""
        state = ""
        while state in _UNFINISHED:
            await asyncio.sleep(self.poll)
            found = (await self._request("GET", f"{jobs}/{self._job_id}")).json()["jobs"]
            state = _state(found[0]) if found else ""
        if state != "COMPLETED":
            raise WrongResponse(f"job {self._job_id} is {state}")

    async def _results(self, download: str) -> None:
        response = await self._request("GET", download, params={"path": f"{self.folder}/result"})
        if response.content != CONTENT:
            raise WrongResponse(f"{len(response.content)} bytes")

    async def _send(self, method: str, path: str, **more: Any) -> None:
        await self._request(method, path, **more)

    async def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        response = await self.http.request(method, self.origin + path, headers=headers, **more)
        if not response.is_success:
            raise WrongResponse(f"status {response.status_code}: {response.text[:200]}")
        return response


def _state(job: dict[str, Any]) -> str:
    """The state, as the gateway (`status`) or a baseline (a column of sacct) gives it."""
    state = job["status"]["state"] if "status" in job else job["State"]
    return str(state).partition(" ")[0].rstrip("+")
