"""A gateway in one process for the HTTP tests: real ports over a local folder and memory, and clients.

`World.client()` checks every response: the common headers, and the body against the schema of its route.
`World.served()` runs the same application behind the real HTTP server, for tests that need a socket.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
from fastapi.routing import APIRoute
from starlette.routing import Match

from flamecrest.server.app import build_app
from flamecrest.server.cluster import Cluster, Gateway
from flamecrest.server.files.port import Files
from flamecrest.server.health.board import Board, Service
from flamecrest.server.ports import Limits, Ports
from flamecrest.server.telemetry.counters import Counters
from flamecrest.server.telemetry.log import JsonFormatter
from flamecrest.wire import status as wire
from flamecrest.wire.errors import ApiResponseError
from tests.unit.cli.served import dialed, serving

from .local_bulk import LocalBulk
from .local_files import LocalFiles
from .toy_ports import Movers, Queue, Rules, Tokens, no_uploads, the_user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from fastapi import FastAPI

    from flamecrest.server.health.maintenance import MaintenanceWindow
    from flamecrest.server.http.edge.application import Edge


CALLER = {"Authorization": "Bearer token-of-fireuser"}


class World:
    """One gateway with one cluster, `Toy`, whose file system is a folder."""

    def __init__(
        self,
        root: str,
        *,
        limits: Limits | None = None,
        files: LocalFiles | None = None,
        queue: Queue | None = None,
        windows: Sequence[MaintenanceWindow] = (),
    ) -> None:
        self.root = root
        self.files = files or LocalFiles()
        self.queue = queue or Queue()
        self.movers = Movers()
        self.rules = Rules()
        self.passed = 0.0  # the time of the board, which tests let pass
        self.board = Board(windows=windows, monotonic=lambda: self.passed)
        self.limits = limits or Limits(files=5, jobs=10, max_ops_file_size=5242880, view_size=5242880)
        self.gateway = Gateway(Tokens(), {"toy": self._cluster()}, Counters(), self.rules)
        self.entered = self.left = 0

    def ports(self) -> Ports:
        return Ports(
            files=lambda _: Files(self.files, self.files, self.files),
            scheduler=lambda _: self.queue,
            transfers=lambda _: self.movers,
            user=the_user,
            uploads=no_uploads,
            bulk=lambda _: LocalBulk(),
            scheduler_services=(Service.SSH, Service.SCHEDULER),
        )

    def _cluster(self) -> Cluster:
        return Cluster(
            "Toy",
            roots=[self.root],
            limits=self.limits,
            ports=self.ports(),
            board=self.board,
            describe=self.describe,
            authorizer=self.rules,
        )

    def describe(self) -> wire.HPCCluster:
        return wire.HPCCluster(
            name="Toy",
            ssh=wire.SSHClientPool(host="127.0.0.1", port=22),
            scheduler=wire.Scheduler(type=wire.SchedulerType.SLURM, version="22.05.8"),
            probing=wire.ProbingServices(),
            file_systems=[wire.FileSystem(path=self.root, data_type=wire.FileSystemDataType.USERS)],
            services_health=[
                wire.FilesystemServiceHealth(service_type=wire.BackendServiceType.FILESYSTEM, path=self.root)
            ],
            data_operation=wire.DataOperation(
                data_transfer=wire.S3DataTransfer(
                    service_type="s3", name="store", public_url="https://s3.example.org", region="r", ttl=60
                )
            ),
        )

    def with_limits(self, **limits: Any) -> World:
        return World(self.root, limits=replace(self.limits, **limits), files=self.files)

    @asynccontextmanager
    async def context(self) -> AsyncIterator[Gateway]:
        self.entered += 1
        yield self.gateway
        self.left += 1

    def app(self, **options: Any) -> Edge:
        return build_app(self.context, **options)

    @asynccontextmanager
    async def client(self, *, app: FastAPI | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """An in-process client of the application, without a socket, that checks every response."""
        application = app or self.app()
        transport = httpx.ASGITransport(application, raise_app_exceptions=True)

        async def check(response: httpx.Response) -> None:
            await response.aread()
            check_response(application, response)

        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(
                transport=transport, base_url="http://gateway", headers=CALLER, event_hooks={"response": [check]}
            ) as client,
        ):
            yield client

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Served]:
        """The application behind a real server on a socket of its own."""
        async with serving(self.app()) as port:
            yield Served(port)


@dataclass(frozen=True)
class Served:
    """Where a world is served."""

    port: int

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a separate connection; it is aborted at the end of the block."""
        async with dialed(self.port) as streams:
            yield streams

    async def raw(self, request: bytes) -> bytes:
        """Send bytes and read until the server closes."""
        async with self.connect() as (reader, writer):
            writer.write(request)
            return await reader.read()


def check_response(app: FastAPI, response: httpx.Response) -> None:
    """Fail unless a response has the common headers, and the status and schema that its route declares."""
    headers = response.headers
    assert headers["f7t-appversion"] == "2.5.7"
    assert abs(float(headers["f7t-timestamp"]) - time.time()) < 60
    assert headers["x-request-id"]
    assert headers["x-correlation-id"]
    if response.status_code >= 400:
        assert headers["content-type"] == "application/json"
        if response.request.method == "HEAD":
            assert not response.content
            return
        body = response.json()
        assert set(body) == {"errorType", "message", "causedBy", "data", "user"}
        ApiResponseError.model_validate(body)
        assert body["user"] == headers.get("f7t-authusername")
        assert response.status_code != 401 or headers["www-authenticate"].startswith("Bearer")
        return
    scope = {"type": "http", "path": response.request.url.path, "method": response.request.method}
    for route in app.router.routes:
        if isinstance(route, APIRoute) and route.matches(scope)[0] is Match.FULL:
            others = {status for status in route.responses if isinstance(status, int)}
            assert response.status_code in {route.status_code or 200, *others}
            if route.response_model is not None and response.status_code != 304:
                seen = response.json()
                parsed = route.response_model.model_validate(seen)
                assert _without_encoding(parsed.model_dump(mode="json", by_alias=True)) == _without_encoding(seen)
            return  # the first one serves it


def _without_encoding(data: Any) -> Any:
    """Only these extension fields are omitted from a response when they have no value."""
    match data:
        case dict():
            return {
                name: _without_encoding(value)
                for name, value in data.items()
                if value is not None or name not in {"encoding", "nextCursor", "output", "message"}
            }
        case list():
            return [_without_encoding(item) for item in data]
        case _:
            return data


@contextmanager
def logged(level: int = logging.INFO) -> Iterator[list[dict[str, Any]]]:
    """The log lines of the block, formatted as in production."""
    stream = io.StringIO()
    lines: list[dict[str, Any]] = []
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("flamecrest")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        lines += [json.loads(line) for line in stream.getvalue().splitlines()]


def fields(response: httpx.Response) -> list[tuple[str, str]]:
    """The invalid fields that an error response names, each with its location."""
    assert response.status_code == 400, response.text
    assert response.json()["data"], (response.request.url, response.request.content, response.text)
    return [(one["location"], one["name"]) for one in response.json()["data"]["fields"]]


def names(answer: Sequence[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in answer]


def raw_names(folder: str) -> set[bytes]:
    return set(os.listdir(os.fsencode(folder)))  # noqa: PTH208 -- bytes
