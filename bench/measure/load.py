"""Load generators: httpx, as a Python client sends requests, and wrk, where httpx would be the bottleneck."""

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

# Concurrent requests of httpx. Its cost per request grows with the number of connections (measured with a constant
# response: 2.2 ms at 8, 2.8 ms at 16, 7.6 ms at 100), so every contender was slower with more of them.
IN_FLIGHT = 8
GRACE = 30  # seconds that wrk may run longer than the duration it was given

_SCRIPT = """
local requests = { %s }
local ready = {}
local at = 0
local own = "Bearer %s"
%s
function init(args)
  for number, r in ipairs(requests) do
    wrk.headers["Content-Type"] = r[3]
    wrk.headers["Authorization"] = r[5] or own
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
_DELAY = "function delay() return math.random(%d, %d) end"  # milliseconds
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\0": "\\0"})


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an endpoint: GET, or POST if there is a body."""

    target: str  # path and query, appended to the endpoint's URL
    body: str | None = None
    media_type: str | None = None
    token: str | None = None  # of another user than the endpoint's


@dataclass(frozen=True, slots=True)
class Burst:
    """The result of a run of wrk: `rate` is requests per second, `p50` and `p99` latencies in milliseconds.

    `wrong` counts failed connections, timeouts and responses whose status is not 2xx or 3xx.
    """

    requests: int
    rate: float
    p50: float
    p99: float
    wrong: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a contender, with an access token."""

    url: str  # http://HOST:PORT/filesystem/SYSTEM
    token: str

    def client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, limits=limits, timeout=600, trust_env=False)


async def download_all(endpoint: Endpoint, paths: Sequence[str], size: int) -> tuple[float, int]:
    """Download every path with a request of its own; return the seconds and the number of wrong responses."""
    limit = asyncio.Semaphore(IN_FLIGHT)

    async def succeeds(path: str) -> bool:
        try:
            async with limit:
                response = await client.get("/ops/download", params={"path": path})
        except httpx.TransportError:
            return False
        return response.status_code == httpx.codes.OK and len(response.content) == size

    async with endpoint.client() as client:
        start = time.perf_counter()
        results = await asyncio.gather(*map(succeeds, paths))
        seconds = time.perf_counter() - start
    return seconds, results.count(False)


async def send(endpoint: Endpoint, requests: Sequence[Request]) -> int:
    """Send each request once, concurrently; return the number of responses without a 2xx status."""
    limit = asyncio.Semaphore(IN_FLIGHT)

    async def succeeds(request: Request) -> bool:
        method = "GET" if request.body is None else "POST"
        headers = {} if request.media_type is None else {"Content-Type": request.media_type}
        content = None if request.body is None else request.body.encode()
        async with limit:
            response = await client.request(method, request.target, content=content, headers=headers)
        return response.is_success

    async with endpoint.client() as client:
        return (await asyncio.gather(*map(succeeds, requests))).count(False)


def wrk_installed() -> bool:
    return shutil.which("wrk") is not None


async def wrk(
    endpoint: Endpoint, requests: Sequence[Request], connections: int, seconds: float, pause: float = 0.0
) -> Burst:
    """Send the requests in rotation over `connections` connections for `seconds` seconds.

    `pause`: the mean of the seconds that a connection waits before each request, between half and one and a half of it.
    """
    parts = httpx.URL(endpoint.url)
    lines = ",\n".join(_table(parts.path, request) for request in requests)
    delay = _DELAY % (round(500 * pause), round(1500 * pause)) if pause else ""
    with _script(_SCRIPT % (lines, endpoint.token, delay)) as script:
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
    """Parse the line that the script makes wrk print."""
    for line in output.splitlines():
        if line.startswith("RESULT "):
            found = json.loads(line.removeprefix("RESULT "))
            rate = found["requests"] / (found["microseconds"] / 1e6)
            return Burst(found["requests"], rate, found["p50"] / 1e3, found["p99"] / 1e3, found["wrong"])
    raise RuntimeError(f"wrk printed no result: {output.strip()[-2000:]}")


@contextmanager
def _script(text: str) -> Iterator[Path]:
    """A file readable by its owner only: it contains the token, which must not appear on a command line."""
    descriptor, name = tempfile.mkstemp(suffix=".lua")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        yield Path(name)
    finally:
        Path(name).unlink()


def _table(path: str, request: Request) -> str:
    method = "GET" if request.body is None else "POST"
    own = None if request.token is None else f"Bearer {request.token}"
    fields = (method, path + request.target, request.media_type, request.body, own)
    return f"{{ {', '.join(map(_lua, fields))} }}"


def _lua(text: str | None) -> str:
    return "nil" if text is None else f'"{text.translate(_ESCAPES)}"'
