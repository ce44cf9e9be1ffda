"""The walk of a request: which files and functions of the gateway a warm request runs through, in order.

Measured on a real request: the application over the sandbox's SSH server and scheduler, in one process. The HTTP
server above the application is not part of it, nor are the sandbox and the libraries.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import httpx

import flamecrest
import flamecrest.server.wiring.gateway  # it reads programs, for which no event loop may wait
from flamecrest.sandbox.centre import Centre
from flamecrest.server.app import create_app
from flamecrest.server.http.edge.exchange import Exchange
from flamecrest.server.settings import load
from flamecrest.server.ssh.pool.pool import BACKGROUND
from flamecrest.server.telemetry.log import log_to_stream

SOURCE: Final = Path(flamecrest.__file__).parent
USER: Final = "fireuser"
QUIET: Final = ("asyncssh", "httpx", "httpcore")  # libraries that log only warnings under `flamecrest serve`
OF_A_TIMER: Final = Exchange._listen.__code__  # in a task that a timer starts while a request lasts long
REPEATS: Final = 12  # the shortest walk counts: background tasks of the gateway may run during one of them


@dataclass(frozen=True)
class Walk:
    """Functions in the order of their first call, as (file below src/flamecrest, qualified name)."""

    steps: tuple[tuple[str, str], ...]

    @property
    def files(self) -> list[str]:
        """The files, in order of the first function of each."""
        return list(dict.fromkeys(file for file, _ in self.steps))

    def __str__(self) -> str:
        lines: list[str] = []
        for file in self.files:
            names = [name for of, name in self.steps if of == file]
            lines.append(f"{len(lines) + 1:3} {file}\n      {', '.join(names)}")
        return "\n".join([*lines, f"{len(self.files)} files, {len(self.steps)} functions"])


class Recorder:
    """Records the first call of each function while its block runs, in the thread that enters it."""

    def __init__(self) -> None:
        self._codes: dict[CodeType, None] = {}
        self._known: dict[str, str | None] = {}

    def __enter__(self) -> None:
        sys.setprofile(self._profile)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or frame.f_code in self._codes:
            return
        if not _in_background() and not _called_by_timer(frame):
            self._codes[frame.f_code] = None

    def walk(self) -> Walk:
        """What was recorded: named functions of the server and the wire models; comprehensions are part of theirs."""
        steps: dict[tuple[str, str], None] = {}
        for code in self._codes:
            path = Path(code.co_filename)
            if path.is_relative_to(SOURCE) and not code.co_name.startswith(("<list", "<gen", "<dict", "<set")):
                file = path.relative_to(SOURCE).as_posix()
                if file.startswith(("server/", "wire/")):
                    steps[file, code.co_qualname] = None
        return Walk(tuple(steps))


def _in_background() -> bool:
    """Whether a task that outlives its request is running: the request does not wait for it."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop
        return False
    return task is not None and task.get_name() == BACKGROUND


def _called_by_timer(frame: FrameType | None) -> bool:
    """Whether a timer of the event loop has called: it belongs to no request, and a slow machine meets more of them."""
    while frame is not None:
        if frame.f_code is OF_A_TIMER or isinstance(frame.f_locals.get("self"), asyncio.TimerHandle):
            return True
        frame = frame.f_back
    return False


@contextmanager
def access_log() -> Iterator[None]:
    """Log as `flamecrest serve` does, into memory."""
    root = logging.getLogger()
    libraries = [logging.getLogger(name) for name in QUIET]
    levels, handlers = [logger.level for logger in (root, *libraries)], root.handlers[:]
    root.handlers.clear()
    log_to_stream(io.StringIO())
    for library in libraries:
        library.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, level in zip((root, *libraries), levels, strict=True):
            logger.setLevel(level)


@asynccontextmanager
async def sandbox_client(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Centre]]:
    """A client of the application, which runs in this event loop in front of a sandbox of its own."""
    async with Centre(folder) as centre:
        app = create_app(load(centre.write_config(), {}))
        async with app.router.lifespan_context(app):
            headers = {"Authorization": f"Bearer {centre.token(USER)}"}
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
                with access_log():
                    yield client, centre


def request(flow: str, centre: Centre) -> dict[str, Any]:
    """The request of a flow, as arguments of httpx.AsyncClient.request."""
    home = centre.home(USER)
    ops = f"/filesystem/{centre.system}/ops"
    match flow:
        case "stat":
            return {"method": "GET", "url": f"{ops}/stat", "params": {"path": str(home)}}
        case "upload":
            form = {"file": ("small.txt", b"0123456789\n")}
            return {"method": "POST", "url": f"{ops}/upload", "params": {"path": str(home)}, "files": form}
        case "submit":
            job = {"script": "#!/bin/sh\ntrue\n", "workingDirectory": str(home), "account": "test"}
            return {"method": "POST", "url": f"/compute/{centre.system}/jobs", "json": {"job": job}}
    raise ValueError(flow)


FLOWS: Final = ("stat", "submit", "upload")


async def measure(client: httpx.AsyncClient, centre: Centre, flow: str) -> Walk:
    """The shortest walk of several warm requests."""
    asked = request(flow, centre)
    walks = []
    for number in range(REPEATS + 1):
        recorder = Recorder()
        prepared = client.build_request(**asked)
        with recorder:
            answer = await client.send(prepared)
        answer.raise_for_status()
        if number:  # the first one opens the connection
            walks.append(recorder.walk())
    return min(walks, key=lambda walk: (len(walk.files), len(walk.steps)))


async def _main(flow: str, folder: Path) -> None:
    async with sandbox_client(folder) as (client, centre):
        sys.stdout.write(f"{await measure(client, centre, flow)}\n")


def main(arguments: list[str]) -> None:
    """`python -m tests.walk FLOW`."""
    if len(arguments) != 1 or arguments[0] not in FLOWS:
        raise SystemExit(f"usage: scripts/walk {'|'.join(FLOWS)}")
    with tempfile.TemporaryDirectory(prefix="flamecrest-walk-") as folder:
        asyncio.run(_main(arguments[0], Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
