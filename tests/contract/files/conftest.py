"""Run every contract test on every place with the needed capabilities; on live places if FLAMECREST_LIVE is set.

The places: `sandbox` and `live` have the SFTP subsystem; `commands` (the sandbox without it) and `live-commands` have
neither that nor OpenSSH's program, so that our own server is used; `live-program` is real sshd without the subsystem;
`local` is the stand-in of the HTTP tests.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from tests.live.no_subsystem import without_subsystem
from tests.live.site import Site

from .places import CAPABILITIES, Place, on_local_disk, on_sandbox, on_site


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


@pytest.fixture
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    match request.param:
        case "local":
            yield on_local_disk(tmp_path)
        case "sandbox" | "commands":
            async with on_sandbox(tmp_path, subsystem=request.param == "sandbox") as found:
                yield found
        case _:
            async with AsyncExitStack() as stack:
                yield await stack.enter_async_context(live_place(request.param, stack, tmp_path))


def live_place(name: str, stack: AsyncExitStack, tmp_path: Path) -> AbstractAsyncContextManager[Place]:
    site = Site.from_environment()
    reason = site.why_not()
    if reason is not None:
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
    if name != "live":
        site = stack.enter_context(without_subsystem(site, tmp_path))
    return on_site(site, SftpOpener(servers=()) if name == "live-commands" else SftpOpener())
