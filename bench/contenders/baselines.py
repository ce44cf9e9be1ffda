"""The servers that the gateway is compared with: FirecREST's methods behind the gateway's HTTP and token check.

`python -m bench.contenders.baselines FILE PORT` runs one of them; FILE contains the fields of BaselineConfig as JSON.
  a  one new SSH connection per command, one request at a time (FirecREST v1)
  b  one new SSH connection per request, any number at a time (FirecREST v2 without its pool)
  c  a command per request over a connection that is kept (FirecREST v2 with its pool)
  0  no SSH, a constant response of the right size: the cost of HTTP and the token check
They use asyncssh without changes. Keys are loaded once and no ssh configuration is read, which makes them faster.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import asyncssh
import httpx
import uvloop
from fastapi import FastAPI, HTTPException, Request, Response

from flamecrest.cli.serving.options import HttpOptions
from flamecrest.cli.serving.with_granian import granian_server
from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.oidc import OidcAuthenticator

from .operations import Commands, Constants, Operations
from .routes import ROUTERS

BaselineKind = Literal["a", "b", "c", "0"]

CHANNELS = 90  # open at a time on one connection; the centre's MaxSessions is 100
PREFIX = "timeout 5 "  # FirecREST writes this before every command


@dataclass(frozen=True, slots=True)
class BaselineConfig:
    """The configuration of a baseline. It contains no secrets, only the paths of files with secrets."""

    kind: BaselineKind
    issuer: str
    audience: str
    host: str
    port: int
    keys: str  # a directory with one private key file per user
    known_hosts: str


class SshShell:
    """Opens SSH connections and runs commands on them; common to the three SSH baselines."""

    def __init__(self, config: BaselineConfig) -> None:
        self._config = config
        self._keys: dict[str, asyncssh.SSHKey] = {}
        self.counts: Counter[str] = Counter()

    async def connect(self, user: str) -> asyncssh.SSHClientConnection:
        if user not in self._keys:
            self._keys[user] = asyncssh.read_private_key(Path(self._config.keys) / user)
        self.counts["opened"] += 1
        return await asyncssh.connect(
            self._config.host,
            self._config.port,
            username=user,
            client_keys=[self._keys[user]],
            known_hosts=self._config.known_hosts,
            config=None,
            agent_path=None,
        )

    async def execute(self, connection: asyncssh.SSHClientConnection, command: str, stdin: bytes) -> bytes:
        done = await connection.run(PREFIX + command, input=stdin, encoding=None)
        assert isinstance(done.stdout, bytes)
        assert isinstance(done.stderr, bytes)
        self.counts["channels_opened"] += 1
        self.counts["bytes_sent"] += len(PREFIX + command) + len(stdin)
        self.counts["bytes_received"] += len(done.stdout) + len(done.stderr)
        if done.exit_status != 0:
            raise HTTPException(500, done.stderr.decode("utf-8", "replace"))
        return done.stdout


class NewConnections(SshShell):
    """One connection per command; with `single`, one at a time for all users together."""

    def __init__(self, config: BaselineConfig, *, single: bool) -> None:
        super().__init__(config)
        self._turn: AbstractAsyncContextManager[Any, None] = asyncio.Lock() if single else nullcontext()

    async def run(self, user: str, command: str, stdin: bytes = b"") -> bytes:
        async with self._turn:
            connection = await self.connect(user)
            try:
                return await self.execute(connection, command, stdin)
            finally:
                connection.close()
                await connection.wait_closed()


class KeptConnections(SshShell):
    """One open connection per user. Commands wait for a channel when CHANNELS are in use."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self._connections: dict[str, asyncio.Task[asyncssh.SSHClientConnection]] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def run(self, user: str, command: str, stdin: bytes = b"") -> bytes:
        if user not in self._connections:
            self._connections[user] = asyncio.create_task(self.connect(user))
            self._slots[user] = asyncio.Semaphore(CHANNELS)
        connection = await asyncio.shield(self._connections[user])
        async with self._slots[user]:
            return await self.execute(connection, command, stdin)

    async def close(self) -> None:
        for task in self._connections.values():
            (await task).abort()


async def _failed(request: Request, error: Exception) -> Response:
    print(f"{request.url.path}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return Response(status_code=424)


def make_app(config: BaselineConfig) -> FastAPI:
    """The HTTP application, the same for all baselines: the paths and the token check of the gateway."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx.AsyncClient(trust_env=False) as http:
            tokens = OidcAuthenticator(
                ClaimRules(issuer=config.issuer, audience=frozenset({config.audience})), http=http
            )
            async with tokens, _operations(config) as app.state.operations:
                app.state.tokens = tokens
                yield

    app = FastAPI(lifespan=lifespan, exception_handlers={asyncssh.Error: _failed, OSError: _failed})
    for router in ROUTERS:
        app.include_router(router)
    return app


@asynccontextmanager
async def _operations(config: BaselineConfig) -> AsyncIterator[Operations]:
    if config.kind == "0":
        yield Constants()
        return
    if config.kind == "c":
        shell: NewConnections | KeptConnections = KeptConnections(config)
    else:
        shell = NewConnections(config, single=config.kind == "a")
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _log_counts, shell.counts)
    yield Commands(shell)
    if isinstance(shell, KeptConnections):
        await shell.close()


def _log_counts(counts: Counter[str]) -> None:
    """Write the counters in the format of the gateway's log line. asyncssh does not count messages."""
    print(json.dumps({"logger": "bench.pool", "message": "pool", **counts}), file=sys.stderr, flush=True)


async def serve(app: FastAPI, port: int) -> None:
    """Serve until SIGTERM or SIGINT, with the HTTP server of the gateway."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with socket.create_server(("127.0.0.1", port), backlog=2048) as listener:
        async with app.router.lifespan_context(app), granian_server(app, listener, HttpOptions()):
            await stop.wait()


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    file, port = sys.argv[1:]
    uvloop.run(serve(make_app(BaselineConfig(**json.loads(Path(file).read_text("utf-8")))), int(port)))


if __name__ == "__main__":
    main()
