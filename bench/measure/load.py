"""Load: requests by httpx as a Python client sends them, and by wrk for what httpx is too slow for.

It knows URLs and tokens, and checks that the answers are right; it knows nothing of who answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

IN_FLIGHT = 8  # requests of httpx; its own cost per request grows with its connections (measured for a constant
# answer: 2.2 ms at 8, 2.8 at 16, 7.6 at 100, and 20 when a thousand requests wait for 100 connections),
# and every contender was slower with more of them, those that spend their time in SSH too
GRACE = 30  # seconds that wrk may take longer than it was told

_SCRIPT = """
local requests = { %s }
local ready = {}
local at = 0
wrk.headers["Authorization"] = "Bearer %s"
function init(args)
  for number, r in ipairs(requests) do
    wrk.headers["Content-Type"] = r[3]
    ready[number] = wrk.format(r[1], r[2], nil, r[4])
  end
end
function request()
  at = at %% #ready + 1
  return ready[at]
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %%d, "microseconds": %%d, "p50": %%d, "p99": %%d, "wrong": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\0": "\\0"})


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: path and query below the system's address, and for a POST the body with its type."""

    target: str
    body: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Burst:
    """What wrk measured: requests, those per second, latency in milliseconds, answers that were no success."""

    requests: int
    rate: float
    p50: float
    p99: float
    wrong: int


@dataclass(frozen=True, slots=True)
class Caller:
    """How to reach one contender."""

    url: str  # up to and including the system's name: http://…/filesystem/NAME
    token: str

    def client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, limits=limits, timeout=600, trust_env=False)


async def download_all(caller: Caller, paths: Sequence[str], size: int) -> tuple[float, int]:
    """Download every path with a request of its own, side by side: seconds, and how many answers were wrong."""
    turn = asyncio.Semaphore(IN_FLIGHT)

    async def right(path: str) -> bool:
        try:
            async with turn:
                answer = await client.get("/ops/download", params={"path": path})
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK and len(answer.content) == size

    async with caller.client() as client:
        start = time.perf_counter()
        answers = await asyncio.gather(*map(right, paths))
        seconds = time.perf_counter() - start
    return seconds, answers.count(False)


async def send(caller: Caller, requests: Sequence[Request]) -> int:
    """Send each request once, side by side; how many answers were no success."""
    turn = asyncio.Semaphore(IN_FLIGHT)

    async def right(request: Request) -> bool:
        method = "GET" if request.body is None else "POST"
        headers = {} if request.kind is None else {"Content-Type": request.kind}
        content = None if request.body is None else request.body.encode()
        async with turn:
            answer = await client.request(method, request.target, content=content, headers=headers)
        return answer.is_success

    async with caller.client() as client:
        return (await asyncio.gather(*map(right, requests))).count(False)


def have_wrk() -> bool:
    """Whether wrk can be run here."""
    return shutil.which("wrk") is not None


async def wrk(caller: Caller, requests: Sequence[Request], connections: int, seconds: float) -> Burst:
    """Send the requests in turn over that many connections for that long."""
    parts = httpx.URL(caller.url)
    lines = ",\n".join(_table(parts.path, request) for request in requests)
    with _script(_SCRIPT % (lines, caller.token)) as script:
        origin = f"http://{parts.host}:{parts.port}"
        options = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "20s", "-s", str(script)]
        process = await asyncio.create_subprocess_exec(
            "wrk", *options, origin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(seconds + GRACE):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return burst(output.decode())


def burst(output: str) -> Burst:
    """Read the line that our script has wrk print."""
    for line in output.splitlines():
        if line.startswith("RESULT "):
            found = json.loads(line.removeprefix("RESULT "))
            rate = found["requests"] / (found["microseconds"] / 1e6)
            return Burst(found["requests"], rate, found["p50"] / 1e3, found["p99"] / 1e3, found["wrong"])
    raise RuntimeError(f"wrk says: {output.strip()[-2000:]}")


@contextmanager
def _script(text: str) -> Iterator[Path]:
    """A file that only we can read: it holds the token, which must not stand on a command line."""
    descriptor, name = tempfile.mkstemp(suffix=".lua")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        yield Path(name)
    finally:
        Path(name).unlink()


def _table(path: str, request: Request) -> str:
    method = "GET" if request.body is None else "POST"
    words = (method, path + request.target, request.kind, request.body)
    return f"{{ {', '.join(map(_lua, words))} }}"


def _lua(text: str | None) -> str:
    return "nil" if text is None else f'"{text.translate(_ESCAPES)}"'
