"""Gateways over a whole centre, for the contract suites: the sandbox's, and the live site if there is one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flamecrest.sandbox.centre import Centre
from flamecrest.sandbox.issuer import Issuer
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.cluster import Gateway, Permission
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unavailable
from flamecrest.server.settings import load
from flamecrest.server.wiring.gateway import open_gateway
from tests.live.no_subsystem import with_variables
from tests.live.site import SUITES, Site, write_settings

T = TypeVar("T")


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


async def when_certain(submit: Callable[[Deadline], Awaitable[T]]) -> T:
    """The result of a submission with a key, which is refused until the accounting has the user's latest jobs."""
    end = soon()
    while True:
        try:
            return await submit(soon())
        except Unavailable as error:
            if not error.public.startswith("Nothing was submitted") or end.left() <= 0:
                raise


@asynccontextmanager
async def over_sandbox(
    folder: Path,
    *,
    probing: Mapping[str, Any] | None = None,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    **options: Any,
) -> AsyncIterator[Reached]:
    """The sandbox, with a service account if `probing` is given; `change` changes the configuration."""
    async with Centre(folder / "centre", **options) as centre:
        made = centre.config(probing=probing)
        change(made)
        config = await asyncio.to_thread(write_settings, made, folder / "flamecrest.yaml")
        settings = await asyncio.to_thread(load, config, {})
        async with open_gateway(settings) as gateway:
            root = str(centre.home("fireuser").parent)
            yield Reached(gateway, centre.system, ("fireuser", "user01"), root)


@asynccontextmanager
async def over_live_site(
    folder: Path, *, site: Site | None = None, variables: Mapping[str, str] | None = None
) -> AsyncIterator[Reached]:
    """The live site (another one if it is given), with `variables` in the environment of each login."""
    site = site or Site.from_environment()
    if reason := site.why_not():
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
    with ExitStack() as stack:
        if variables is not None:
            site = stack.enter_context(with_variables(site, folder, variables))
        async with _over_site(site, folder) as found:
            yield found


def live_site(adapter: str) -> Site:
    """The site of a live adapter: the live site, or that of a suite, with the connection mode that is named last."""
    words = adapter.split("-")[1:]
    suite = next((word for word in words if word in SUITES), None)
    mode = next((word for word in words if word in {"rest", "hybrid"}), "ssh")
    local = {"cpus": 16, "kill_wait": 2, "remember": 300} if "local" in words else None
    site = replace(
        Site.from_environment() if suite is None else Site.of_suite(suite), connection_mode=mode, local=local
    )
    if suite is not None and suite not in os.environ.get("SUITES", "").split() and (reason := site.why_not()):
        pytest.skip(reason)
    if mode == "rest":
        site = site.second()
    if mode != "ssh" and not os.access(site.jwt_key, os.R_OK):
        pytest.skip(f"{site.jwt_key} cannot be read: set FLAMECREST_LIVE_API_URL and FLAMECREST_LIVE_JWT_KEY")
    return site


@asynccontextmanager
async def _over_site(site: Site, folder: Path) -> AsyncIterator[Reached]:
    async with Issuer(site.clients(), ttl=3600) as issuer:
        config = write_settings(site.settings(issuer, folder / "secret", probing=False), folder / "flamecrest.yaml")
        settings = await asyncio.to_thread(load, config, {})
        async with open_gateway(settings) as gateway:
            yield Reached(gateway, site.system, (site.user, site.users[2]), site.root.rstrip("/"))
