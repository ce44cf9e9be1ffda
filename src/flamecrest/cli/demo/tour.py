"""The tour of `flamecrest demo`: requests to a gateway in front of the sandbox centre, with their times."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from . import stock_client
from .output import USER, DemoError, DemoOutput
from .stock_client import CHUNK, LARGE, chunk_of

if TYPE_CHECKING:
    from flamecrest.sandbox.centre import Centre

CONCURRENCY = 32  # requests
FILE_SIZE = 1024  # bytes
TIMEOUT = 60.0  # seconds for the start of the gateway, and for the job
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
TEXT = "the quick brown fox jumps over the lazy dog and the dog sleeps on\n"
GREETING = "quotes ' and \" and $HOME are passed unchanged"
SCRIPT = """#!/bin/bash
#SBATCH --time=00:02:00
echo "job $SLURM_JOB_ID on $SLURMD_NODENAME, submitted by $USER"
echo "$GREETING"
tr -s ' ' '\\n' < words.txt | sort | uniq -c | sort -rn | head -3
sleep 1
"""


class Tour:
    """The steps of the tour: token, status, files, a job, many small files."""

    def __init__(self, centre: Centre, show: DemoOutput, url: str) -> None:
        self._centre = centre
        self._show = show
        self._http = httpx.AsyncClient(
            base_url=url, timeout=30, limits=httpx.Limits(max_connections=CONCURRENCY), trust_env=False
        )
        self._url = url
        self._ops = f"/filesystem/{centre.system}/ops"
        self._jobs = f"/compute/{centre.system}/jobs"
        self._folder = f"{centre.home(USER)}/demo"
        self._took: list[float] = []

    async def take(self, files: int) -> None:
        async with self._http:
            await self._token()
            await self._systems()
            await self._prepare()
            await self._job()
            await self._local_job()
            await self._download()
            await self._large()
            await self._by_stock_client()
            await self._many(files)
            await self._clean_up()
        took = sorted(self._took)
        middle, late = (1000 * took[int(len(took) * share)] for share in (0.5, 0.99))
        self._show.step("total", None, f"{len(took)} requests, median {middle:.0f} ms, 99th percentile {late:.0f} ms")
        self._show.note("Times depend on this machine and its load; the centre runs on it, too.")

    async def _call(self, method: str, path: str, *, expect: int = 200, **options: Any) -> tuple[httpx.Response, float]:
        """Send a request and measure its time; raises DemoError for any other status than `expect`."""
        began = time.perf_counter()
        answer = await self._http.request(method, path, **options)
        took = time.perf_counter() - began
        self._took.append(took)
        if answer.status_code != expect:
            raise DemoError(f"{method} {path} returned {answer.status_code} instead of {expect}: {answer.text[:500]}")
        return answer, took

    async def _step(self, name: str, detail: str, method: str, path: str, **options: Any) -> httpx.Response:
        answer, took = await self._call(method, path, **options)
        self._show.step(name, took, detail)
        return answer

    async def _token(self) -> None:
        began = time.perf_counter()
        client = httpx.BasicAuth(USER, self._centre.client_secret(USER))
        answer = await self._http.post(
            self._centre.issuer.token_url, data={"grant_type": "client_credentials"}, auth=client
        )
        if answer.status_code != httpx.codes.OK:
            raise DemoError(f"the token endpoint returned {answer.status_code}")
        self._show.step("token", time.perf_counter() - began, f"of {USER}, by client credentials")
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    async def _systems(self) -> None:
        answer, took = await self._call("GET", "/status/systems")
        for system in answer.json()["systems"]:
            scheduler = system["scheduler"]
            self._show.step("systems", took, f"{system['name']}: {scheduler['type']} {scheduler['version']}")
        answer, took = await self._call("GET", f"/status/{self._centre.system}/nodes")
        nodes = answer.json()["nodes"]
        self._show.step("nodes", took, f"{len(nodes)} nodes with {sum(node['cpus'] for node in nodes)} CPUs")

    async def _prepare(self) -> None:
        await self._step("mkdir", self._folder, "POST", f"{self._ops}/mkdir", expect=201, json={"path": self._folder})
        words = (TEXT * 50).encode()
        await self._step(
            "upload",
            f"words.txt, {len(words):,} bytes",
            "POST",
            f"{self._ops}/upload",
            expect=204,
            params={"path": self._folder},
            files={"file": ("words.txt", words)},
        )

    async def _job(self) -> None:
        job = {
            "name": "count words",
            "workingDirectory": self._folder,
            "standardOutput": f"{self._folder}/counted.txt",
            "env": {"GREETING": GREETING},
            "script": SCRIPT,
        }
        answer, took = await self._call("POST", self._jobs, expect=201, json={"job": job})
        number = answer.json()["jobId"]
        self._show.step("submit", took, f"job {number}, {job['name']!r}")
        state = await self._watch(number)
        if state != "COMPLETED":
            raise DemoError(f"job {number} ended in state {state}")
        path = f"{self._folder}/counted.txt"
        answer = await self._step("output", path, "GET", f"{self._ops}/view", params={"path": path})
        text = answer.json()["output"]
        self._show.output("counted.txt", text)
        if f"job {number}" not in text or GREETING not in text:
            raise DemoError(f"unexpected output of the job: {text!r}")

    async def _local_job(self) -> None:
        """A typed job on the cluster without a scheduler, if the centre has one: an array."""
        system = next((name for name, scheduler in self._centre.systems.items() if scheduler == "local"), None)
        if system is None:
            return
        job = {
            "workingDirectory": self._folder,
            "script": '#!/bin/sh\nwc -w < words.txt > "words-$FLAMECREST_ARRAY_INDEX"\n',
            "resources": {"memory": "256MiB"},
            "timeLimit": "2m",
            "array": {"elements": "1-3", "maxRunning": 1},
        }
        jobs = f"/compute/{system}/jobs"
        answer, took = await self._call("POST", jobs, expect=201, json={"job": job})
        number = answer.json()["jobId"]
        self._show.step("submit", took, f"job {number} with three elements on {system}, a machine without a scheduler")
        state = await self._watch(number, jobs)
        if state != "COMPLETED":
            raise DemoError(f"job {number} on {system} ended in state {state}")

    async def _watch(self, number: str, jobs: str | None = None) -> str:
        """Print the states of the job as they change; returns the final one."""
        began, state, asked = time.monotonic(), "", 0
        with self._show.waiting(f"job {number}"):
            while state not in FINAL:
                if time.monotonic() - began > TIMEOUT:
                    raise DemoError(f"job {number} is still {state} after {TIMEOUT:.0f} s")
                answer, took = await self._call("GET", f"{jobs or self._jobs}/{number}")
                asked += 1
                (job,) = answer.json()["jobs"]
                if job["status"]["state"] != state:
                    state = job["status"]["state"]
                    where = f" on {job['nodes']}" if job["nodes"] else ""
                    self._show.step("state", took, f"{state}{where}, {time.monotonic() - began:.1f} s after submission")
                await asyncio.sleep(0.1)
        return state

    async def _download(self) -> None:
        path = {"path": f"{self._folder}/words.txt"}
        answer = await self._step("download", path["path"], "GET", f"{self._ops}/download", params=path)
        here = hashlib.sha256(answer.content).hexdigest()
        answer = await self._step(
            "checksum", "SHA-256 of both copies is equal", "GET", f"{self._ops}/checksum", params=path
        )
        if answer.json()["output"]["checksum"] != here:
            raise DemoError("the downloaded file differs from the uploaded one")

    async def _large(self) -> None:
        """A file in parts to signed URLs, which need no token, and back."""
        path = f"{self._folder}/large.bin"
        transfer = f"/filesystem/{self._centre.system}/transfer"
        wanted = {"path": path, "transferDirectives": {"transferMethod": "direct", "fileSize": LARGE}}
        answer, _ = await self._call("POST", f"{transfer}/upload", expect=201, json=wanted)
        urls, sent, began = answer.json()["transferDirectives"], hashlib.sha256(), time.perf_counter()

        async def content() -> AsyncIterator[bytes]:
            for number in range(LARGE // CHUNK):
                chunk = chunk_of(number)
                sent.update(chunk)
                self._show.progress(status, f"uploading {path}", (number + 1) * CHUNK / LARGE)
                yield chunk

        size = urls["maxPartSize"]  # bytes
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as web:
            with self._show.waiting(f"uploading {path}") as status:
                chunks = content()
                for number, part in enumerate(urls["partsUploadUrls"]):
                    headers = {"Content-Length": str(min(size, LARGE - number * size))}
                    part_of = _some(chunks, size // CHUNK)
                    (await web.put(part, content=part_of, headers=headers)).raise_for_status()
                (await web.post(urls["completeUploadUrl"])).raise_for_status()
            self._show.step(
                "upload",
                time.perf_counter() - began,
                f"large.bin, {LARGE:,} bytes, by {len(urls['partsUploadUrls'])} signed URLs",
            )
            answer, _ = await self._call("POST", f"{transfer}/download", expect=201, json=wanted)
            url = answer.json()["transferDirectives"]["downloadUrl"]
            got, received, began = hashlib.sha256(), 0, time.perf_counter()
            with self._show.waiting(f"downloading {path}") as status:
                async with web.stream("GET", url) as response:
                    async for chunk in response.aiter_bytes(CHUNK):
                        got.update(chunk)
                        received += len(chunk)
                        self._show.progress(status, f"downloading {path}", received / LARGE)
        if got.digest() != sent.digest():
            raise DemoError(f"{path} has changed")
        self._show.step("download", time.perf_counter() - began, "the same bytes, by a signed URL")

    async def _by_stock_client(self) -> None:
        """The same with pyfirecrest, which asks for signed URLs by itself."""
        if not stock_client.is_installed():
            self._show.note("pyfirecrest is not installed: the transfers by it are left out.")
            return
        token = str(self._http.headers["Authorization"]).partition(" ")[2]
        how = "by pyfirecrest" if self._centre.store is None else "by pyfirecrest, through the object store"
        details = {"upload": f"by-client.bin, {LARGE:,} bytes, {how}", "download": f"the same, {how}"}
        for verb in ("upload", "download"):
            began = time.perf_counter()
            with self._show.waiting(f"{verb}ing by pyfirecrest") as status:
                show = partial(self._show_share, status, f"{verb}ing by pyfirecrest")
                where = (self._url, token, self._centre.system, self._folder)
                await asyncio.to_thread(stock_client.transfer, verb, *where, show)
            self._show.step(verb, time.perf_counter() - began, details[verb])

    def _show_share(self, status: Any, what: str, done: int) -> None:
        self._show.progress(status, what, done / LARGE)

    async def _many(self, count: int) -> None:
        folder = f"{self._folder}/many"
        await self._call("POST", f"{self._ops}/mkdir", expect=201, json={"path": folder})
        workers = min(CONCURRENCY, count)

        async def upload(number: int) -> None:
            options = {"params": {"path": folder}, "files": {"file": (f"{number:05}.dat", _content(number))}}
            await self._call("POST", f"{self._ops}/upload", expect=204, **options)

        async def download(number: int) -> None:
            path = {"path": f"{folder}/{number:05}.dat"}
            answer, _ = await self._call("GET", f"{self._ops}/download", params=path)
            if answer.content != _content(number):
                raise DemoError(f"{number:05}.dat has changed")

        for name, transfer in (("up", upload), ("down", download)):
            began = time.perf_counter()
            with self._show.waiting(f"{name}loading {count} files"):
                await _in_parallel(range(count), transfer, workers)
            took = time.perf_counter() - began
            rate = f"{count / took:,.0f} files/s, {workers} at a time"
            self._show.step(f"{name}load", took, f"{count} files of {FILE_SIZE} bytes, one request each: {rate}")
        answer, took = await self._call("GET", f"{self._ops}/ls", params={"path": folder})
        if len(answer.json()["output"]) != count:
            raise DemoError(f"{folder} has {len(answer.json()['output'])} files instead of {count}")
        self._show.step("ls", took, f"{count} entries in {folder}")

    async def _clean_up(self) -> None:
        where = {"path": self._folder}
        await self._step("clean-up", f"rm {self._folder}", "DELETE", f"{self._ops}/rm", expect=204, params=where)
        await self._call("GET", f"{self._ops}/stat", expect=404, params=where)


async def _in_parallel(numbers: Iterable[int], work: Callable[[int], Awaitable[None]], workers: int) -> None:
    """Run `work` for every number in a fixed number of tasks.

    With a task per number, requests would wait in the client for a connection, and the wait would count as their time.
    """
    rest = iter(numbers)

    async def take() -> None:
        for number in rest:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(take())


async def _some(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The next chunks, at most so many."""
    for _ in range(most):
        try:
            yield await anext(chunks)
        except StopAsyncIteration:
            return


def _content(number: int) -> bytes:
    return f"file {number}\n".encode().ljust(FILE_SIZE, b".")
