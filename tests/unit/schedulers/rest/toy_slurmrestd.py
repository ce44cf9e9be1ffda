"""A server on loopback that answers as slurmrestd did: with recordings, or with what a test gives it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.job_lookup import JobLookup
from flamecrest.server.schedulers.once.submissions import Submissions
from flamecrest.server.schedulers.reading.cluster_reads import ClusterReads
from flamecrest.server.schedulers.reading.sharing import Kind, Privacy
from flamecrest.server.schedulers.slurm.rest.client import RestClient, http_client
from flamecrest.server.schedulers.slurm.rest.scheduler import RestScheduler
from flamecrest.server.schedulers.slurm.rest.tokens import SignedTokens, Tokens
from flamecrest.server.schedulers.slurm.rest.versions import parse_version

FOLDER = Path(__file__).parents[3] / "recorded" / "slurmrestd"
VERSIONS = ("v0.0.38", "v0.0.40", "v0.0.42", "v0.0.45")  # 22.05, 24.11 (twice), 26.05
KEY = b"0123456789abcdef0123456789abcdef"

Answer = tuple[int, bytes]


@cache
def recordings(version: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((FOLDER / f"{version}.json").read_text())
    return found


def recorded(version: str, name: str) -> Answer:
    one = recordings(version)[name]
    return one["status"], one["body"].encode("latin-1" if "control-name" in name else "utf-8")


def body(version: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(recorded(version, name)[1])
    return found


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ToySlurmrestd:
    """`answers` by `METHOD /path?query`; a function is called with the writer and makes the answer itself."""

    answers: dict[str, Answer | Callable[[asyncio.StreamWriter], Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    def play(self, version: str, *names: str) -> None:
        """Answer the requests of these recordings as recorded."""
        for name in names:
            self.answers[recordings(version)[name]["request"].replace("/?", "?").rstrip("/")] = recorded(version, name)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        sent = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(method, target, headers, sent))
        answer = self.answers.get(f"{method} {target}", (404, b"Unable find requested URL."))
        if callable(answer):
            await answer(writer)
            return False
        status, content = answer
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(content)) + content)
        await writer.drain()
        return True


@asynccontextmanager
async def slurmrestd(path: Path | None = None) -> AsyncIterator[ToySlurmrestd]:
    """A running server; on a socket in the folder if `path` is given."""
    toy = ToySlurmrestd()
    if path is None:
        server = await asyncio.start_server(toy.serve, "127.0.0.1", 0)
        toy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    else:
        server = await asyncio.start_unix_server(toy.serve, path)
        toy.url = f"unix:{path}"
    try:
        yield toy
    finally:
        server.close()


@asynccontextmanager
async def client_of(toy: ToySlurmrestd, version: str | None, tokens: Tokens | None = None) -> AsyncIterator[RestClient]:
    chosen = None if version is None else parse_version(version)
    client = RestClient(*http_client(toy.url), tokens or SignedTokens(KEY), chosen)
    try:
        yield client
    finally:
        await client.close()


def scheduler_of(client: RestClient, *, now: float = 1_795_853_800.0) -> RestScheduler:
    lookup = JobLookup("slurm", SchedulerCounters())
    submissions = Submissions(search_seconds=0)
    identity = Identity("fireuser", token="own")
    return RestScheduler(client, lookup, identity, submissions=submissions, clock=lambda: now)


def shared_schedulers(client: RestClient, users: Sequence[str], private: frozenset[Kind]) -> list[RestScheduler]:
    """Schedulers that share their reads; `private` is what the configuration of Slurm keeps so."""
    counters = SchedulerCounters()
    lookup = JobLookup("slurm", counters)

    async def configuration(_: Deadline) -> frozenset[Kind]:
        return private

    async def account(_: Deadline) -> Identity:
        return Identity("service")

    reads = ClusterReads(counters, Privacy(configuration, counters, lookup.note_failure), life=60)
    return [RestScheduler(client, lookup, Identity(user), cluster_reads=reads, account=account) for user in users]


def soon() -> Deadline:
    return Deadline.after(20)
