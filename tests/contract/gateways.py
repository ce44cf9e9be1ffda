"""Gateways over a whole centre, for the contract suites: the sandbox's, and the live site if there is one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flamecrest.sandbox.centre import Centre
from flamecrest.sandbox.issuer import Issuer
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.cluster import Gateway, Permission
from flamecrest.server.deadline import Deadline
from flamecrest.server.settings import load
from flamecrest.server.wiring.gateway import open_gateway
from tests.live.no_subsystem import with_variables
from tests.live.site import Site, write_settings


@dataclass(frozen=True)
class Reached:
    """A running gateway, the cluster behind it, two users of the cluster, and the root of their homes."""

    gateway: Gateway
    system: str
    users: Sequence[str]
    root: str

    async def allowed(self, user: str, verb: Verb) -> Permission:
        return await self.gateway.cluster(self.system).allow(Identity(user), verb, soon())

    def home(self, user: str) -> str:
        return f"{self.root}/{user}"


def soon() -> Deadline:
    return Deadline.after(60)


@asynccontextmanager
async def over_sandbox(folder: Path, **options: Any) -> AsyncIterator[Reached]:
    async with Centre(folder / "centre", **options) as centre:
        config = await asyncio.to_thread(centre.write_config, folder / "flamecrest.yaml")
        settings = await asyncio.to_thread(load, config, {})
        async with open_gateway(settings) as gateway:
            root = str(centre.home("fireuser").parent)
            yield Reached(gateway, centre.system, ("fireuser", "user01"), root)


@asynccontextmanager
async def over_live_site(folder: Path, *, variables: Mapping[str, str] | None = None) -> AsyncIterator[Reached]:
    """The live site, with `variables` in the environment of each login."""
    site = Site.from_environment()
    if reason := site.why_not():
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
    with ExitStack() as stack:
        if variables is not None:
            site = stack.enter_context(with_variables(site, folder, variables))
        async with _over_site(site, folder) as found:
            yield found


@asynccontextmanager
async def _over_site(site: Site, folder: Path) -> AsyncIterator[Reached]:
    async with Issuer(site.clients(), ttl=3600) as issuer:
        config = write_settings(site.settings(issuer, folder / "secret", probing=False), folder / "flamecrest.yaml")
        settings = await asyncio.to_thread(load, config, {})
        async with open_gateway(settings) as gateway:
            yield Reached(gateway, site.system, (site.user, site.users[2]), site.root.rstrip("/"))
