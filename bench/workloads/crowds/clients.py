"""Clients with a connection of their own each: their calls, and what all of them have measured.

They run on aiohttp and uvloop, which take 0.2 ms of processor time a request, a tenth of what httpx takes with a
thousand connections.
"""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

import aiohttp
import uvloop

from bench.contenders.servers import Servers
from bench.measure.load import Endpoint
from bench.workloads.workload import Bench

TIMEOUT: Final = 60  # seconds for one call
EXAMPLES: Final = 5  # wrong responses that are printed
CONTENT: Final = b"x" * 1024
T = TypeVar("T")


@dataclass(slots=True)
class Log:
    """What the clients have measured: milliseconds by window of time and operation, and wrong responses.

    Times are seconds since `begun`. `window` is the length of a window in seconds.
    """

    window: float
    begun: float = field(default_factory=time.perf_counter)
    times: dict[tuple[int, str], array[float]] = field(default_factory=dict)
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def now(self) -> float:
        return time.perf_counter() - self.begun

    def took(self, operation: str, since: float, milliseconds: float) -> None:
        at = (int((since - self.begun) / self.window), operation)
        self.times.setdefault(at, array("d")).append(milliseconds)

    def failed(self, operation: str, how: str) -> None:
        self.wrong[operation] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{operation} after {self.now:.1f} s: {how[:300]}")

    def add_wrong(self, before: Log) -> None:
        """Count the wrong responses of preparations, too."""
        self.wrong.update(before.wrong)
        self.examples = [*before.examples, *self.examples][:EXAMPLES]

    def windows(self) -> list[int]:
        """The windows in which something was measured, in order."""
        return sorted({window for window, _ in self.times})

    def operations(self) -> list[str]:
        return sorted({operation for _, operation in self.times})

    def of(self, operation: str | None = None, windows: range | None = None) -> Sequence[float]:
        """The sorted times of an operation, and in some windows; None: of all."""
        found = (
            times
            for (window, name), times in self.times.items()
            if operation in {None, name} and (windows is None or window in windows)
        )
        return sorted(one for times in found for one in times)


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway or baseline with many users: the URL in front of every path, and the users' tokens and homes."""

    origin: str
    system: str
    tokens: Mapping[str, str]
    homes: Mapping[str, str]

    @classmethod
    def of(cls, servers: Servers, endpoint: Endpoint, most: int) -> Self:
        """At most so many users of the servers' site."""
        users = servers.site.users[:most]
        tokens = {user: servers.issuer.mint(user) for user in users}
        homes = {user: servers.site.home(user) for user in users}
        return cls(endpoint.url.partition("/filesystem/")[0], servers.site.system, tokens, homes)

    @property
    def users(self) -> Sequence[str]:
        return [*self.tokens]


class Client:
    """One client of a user. To be used as a context manager in a running event loop."""

    def __init__(self, target: Target, user: str, log: Log) -> None:
        self.user, self.log, self.home = user, log, target.homes[user]
        self.files = f"{target.origin}/filesystem/{target.system}/ops/"
        self.jobs = f"{target.origin}/compute/{target.system}/jobs"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=TIMEOUT),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Authorization": f"Bearer {target.tokens[user]}"},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, operation: str, method: str, url: str, **more: Any) -> bytes | None:
        """Send a request and note its time. Returns the body; None if the response is wrong, which is noted, too."""
        since = time.perf_counter()
        try:
            async with self._session.request(method, url, **more) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.log.failed(operation, repr(error))
            return None
        if not response.ok:
            self.log.failed(operation, f"status {response.status}: {body.decode('utf-8', 'replace')}")
            return None
        self.log.took(operation, since, (time.perf_counter() - since) * 1000)
        return body

    async def ask(self, operation: str, url: str, key: str, **params: str) -> Any:
        """GET a JSON object and return its member `key`; None if the response is wrong."""
        body = await self.call(operation, "GET", url, params=params)
        if body is None:
            return None
        try:
            return json.loads(body)[key]
        except (ValueError, KeyError, TypeError) as error:
            self.log.failed(operation, repr(error))
            return None

    async def stat(self, path: str) -> None:
        found = await self.ask("stat", self.files + "stat", "output", path=path)
        if found is not None and found["size"] != len(CONTENT):
            self.log.failed("stat", f"size {found['size']}")

    async def ls(self, path: str) -> list[str]:
        """The names of a directory's entries."""
        found = await self.ask("ls", self.files + "ls", "output", path=path)
        return [entry["name"] for entry in found or ()]

    async def list_jobs(self) -> None:
        await self.ask("jobs", self.jobs, "jobs")

    async def download(self, path: str, content: bytes = CONTENT) -> None:
        body = await self.call("download", "GET", self.files + "download", params={"path": path})
        if body is not None and body != content:
            self.log.failed("download", f"{len(body)} bytes, wanted {len(content)}: {body[:60]!r}")

    async def upload(self, folder: str, name: str, content: bytes = CONTENT) -> None:
        form = aiohttp.FormData()
        form.add_field("file", content, filename=name, content_type="application/octet-stream")
        await self.call("upload", "POST", self.files + "upload", params={"path": folder}, data=form)

    async def mkdir(self, path: str) -> None:
        await self.call("mkdir", "POST", self.files + "mkdir", json={"path": path, "parent": True})

    async def remove(self, path: str) -> None:
        await self.call("rm", "DELETE", self.files + "rm", params={"path": path})


async def with_folders(target: Target, folder: str, log: Log, *, remove: bool = False) -> None:
    """Make that folder in every user's home, with the file `input` in it; or remove it."""

    async def one(user: str) -> None:
        path = f"{target.homes[user]}/{folder}"
        async with limit, Client(target, user, log) as client:
            if remove:
                await client.remove(path)
            else:
                await client.mkdir(path)
                await client.upload(path, "input")

    limit = asyncio.Semaphore(8)
    await asyncio.gather(*map(one, target.users))


async def in_uvloop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the clients in a faster event loop of their own, in a thread."""
    return await asyncio.to_thread(lambda: uvloop.run(work()))


def spread(count: int, users: Sequence[str]) -> Iterator[str]:
    """The user of each of so many clients."""
    return (users[number % len(users)] for number in range(count))


def report(bench: Bench, name: str, log: Log) -> None:
    """Print examples of wrong responses."""
    for example in log.examples:
        bench.say(f"{name}: {example}")
