"""Run every contract test on every place with the needed capabilities; on live places if FLAMECREST_LIVE is set.

The places: `sandbox` and `live` have the SFTP subsystem; `commands` (the sandbox without it) and `live-commands` have
neither that nor OpenSSH's program, so that our own server is used; `live-program` is real sshd without the subsystem;
`local` is the stand-in of the HTTP tests.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from tests.live.no_subsystem import without_subsystem
from tests.live.site import Site

from .places import CAPABILITIES, Place, on_local_disk, on_sandbox, on_site, soon

Shared = Callable[[str], Awaitable[Place]]
CHANGING = {"accounts", "deadlines", "faults"}  # tests that need these change their server, or end its connections


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" not in metafunc.fixturenames:
        return
    needed = {name for mark in metafunc.definition.iter_markers("needs") for name in mark.args}
    # all tests on `commands` would take minutes
    fast = {"sandbox", "local", *(("commands",) if metafunc.definition.get_closest_marker("without_subsystem") else ())}
    places = [
        pytest.param(name, marks=() if name in fast else pytest.mark.live)
        for name, capabilities in CAPABILITIES.items()
        if needed <= capabilities
    ]
    metafunc.parametrize("place", places, indirect=True)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared]:
    """A place by its name, with a folder of its own. All tests of a module use one login: it takes most of the time."""
    async with AsyncExitStack() as stack:
        places: dict[str, Place] = {}

        async def share(name: str) -> Place:
            if name not in places:
                entering = entered(name, stack, tmp_path_factory.mktemp(name))
                places[name] = await stack.enter_async_context(entering)
            made = replace(places[name], folder=f"{places[name].folder}/{secrets.token_hex(4)}")
            if name.startswith("live"):
                await made.changes.mkdir(made.folder, soon())
            else:
                await asyncio.to_thread(Path(made.folder).mkdir)  # sooner
            return made

        yield share


@pytest.fixture
async def place(request: pytest.FixtureRequest, tmp_path: Path, shared: Shared) -> AsyncIterator[Place]:
    needed = {name for mark in request.node.iter_markers("needs") for name in mark.args}
    if request.param == "local":
        yield on_local_disk(tmp_path)
    elif needed & CHANGING:
        async with AsyncExitStack() as stack:
            yield await stack.enter_async_context(entered(request.param, stack, tmp_path))
    else:
        yield await shared(request.param)


def entered(name: str, stack: AsyncExitStack, folder: Path) -> AbstractAsyncContextManager[Place]:
    """A new place, which is entered by the caller. What it needs ends with `stack`."""
    if not name.startswith("live"):
        return on_sandbox(folder, subsystem=name == "sandbox")
    site = Site.from_environment()
    if reason := site.why_not():
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
    if name != "live":
        site = stack.enter_context(without_subsystem(site, folder))
    return on_site(site, SftpOpener(servers=()) if name == "live-commands" else SftpOpener())
