"""The dialect of tinyq in the gateway's place for schedulers, over the sandbox's SSH server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from flamecrest.sandbox.centre import Centre
from flamecrest.server.settings import load
from flamecrest.server.ssh.session import PooledSessions
from flamecrest.server.wiring.credentials import CredentialSources
from flamecrest.server.wiring.gateway import open_gateway
from flamecrest.server.wiring.scheduler import SchedulerChoice, over_commands
from flamecrest.server.wiring.ssh import make_pool
from tests.contract.gateways import Reached

from . import tinyq
from .dialect import TinyQ


def install(programs: Path, state: Path) -> None:
    """Write tinyq as an executable. Its state is that of all users."""
    state.mkdir()
    program = programs / "tinyq"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -IS '{tinyq.__file__}' '{state}' \"$@\"\n")
    program.chmod(0o755)


@asynccontextmanager
async def over_tinyq(folder: Path) -> AsyncIterator[tuple[Reached, SchedulerChoice]]:
    """A gateway to a centre whose login node has tinyq, and the scheduler with its dialect."""
    async with Centre(folder / "centre") as centre:
        await asyncio.to_thread(install, centre.root / "bin", folder / "tinyq")
        config = await asyncio.to_thread(centre.write_config, folder / "flamecrest.yaml")
        settings = await asyncio.to_thread(load, config, {})
        (cluster,) = settings.clusters
        async with open_gateway(settings) as gateway, AsyncExitStack() as stack:
            credentials = await CredentialSources(stack).of(settings, cluster)
            pool = await stack.enter_async_context(make_pool(cluster.ssh, credentials))
            root = str(centre.home("fireuser").parent)
            choice = over_commands(TinyQ.name, TinyQ(), cluster.scheduler.shared_reads, PooledSessions(pool))
            yield Reached(gateway, centre.system, ("fireuser", "user01"), root), choice
