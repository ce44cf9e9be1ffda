"""Nodes for all users over the toy Slurm: by one command of the service account, and what a user could do to them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flamecrest.sandbox.centre import Centre
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.cluster import Gateway
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.schedulers.values import Node
from flamecrest.server.settings import load
from flamecrest.server.wiring.gateway import open_gateway
from tests.contract.gateways import soon
from tests.live.site import write_settings

pytestmark = pytest.mark.anyio

USERS = ("fireuser", "user01")
# programs of a user: the nodes have other names, and nothing is private
FORGED = {
    "sinfo": "sinfo \"$@\" | sed 's/nid/forged-/g'",
    "scontrol": "scontrol \"$@\" | sed 's/^PrivateData.*/PrivateData = none/'",
}


@asynccontextmanager
async def opened(folder: Path, *, account: bool, forger: str = "") -> AsyncIterator[tuple[Gateway, str]]:
    """A gateway and its cluster. The start-up file of `forger` puts programs of the user's before Slurm's."""
    async with Centre(folder / "centre") as centre:
        centre.ssh.faults.rc_files = True
        if forger:
            home = centre.home(forger)
            (home / "bin").mkdir()
            for name, line in FORGED.items():
                (home / "bin" / name).write_text(f"#!/bin/sh\nPATH=${{PATH#*:}}\n{line}\n")
                (home / "bin" / name).chmod(0o755)
            (home / ".bashrc").write_text("PATH=$HOME/bin:$PATH\n")
        made = centre.config(probing={} if account else None)
        settings = load(await asyncio.to_thread(write_settings, made, folder / "flamecrest.yaml"), {})
        async with open_gateway(settings) as gateway:
            yield gateway, centre.system


async def as_user(gateway: Gateway, system: str, user: str) -> Scheduler:
    return (await gateway.cluster(system).allow(Identity(user), Verb.STATUS, soon())).scheduler()


async def nodes(gateway: Gateway, system: str, users: Sequence[str]) -> list[list[Node]]:
    return [await (await as_user(gateway, system, user)).nodes(soon()) for user in users]


def counts(gateway: Gateway) -> Counter[str]:
    (source,) = [source for source in gateway.counters if source.component == "scheduler"]
    return Counter(source.read())


async def shared(gateway: Gateway, system: str, users: Sequence[str]) -> list[list[Node]]:
    """What the users get once all get the same answer."""
    async with asyncio.timeout(50):
        while True:
            found = await nodes(gateway, system, users)
            if all(one is found[0] for one in found):
                return found
            await asyncio.sleep(0.05)


async def test_nodes_are_asked_once_for_all_users_where_nothing_is_private(tmp_path: Path):
    async with opened(tmp_path, account=True) as (gateway, system):
        (first, *_) = await shared(gateway, system, USERS)
        before = counts(gateway)["nodes.asked"]
        for found in await asyncio.gather(*(nodes(gateway, system, USERS) for _ in range(20))):
            assert found == [first, first]
        assert counts(gateway)["nodes.asked"] - before <= 10  # one a second; a request for each would be 40
        assert counts(gateway)["privacy.asked"] == 1
        for user in USERS:
            scheduler = await as_user(gateway, system, user)
            assert await scheduler.partitions(soon(), hidden=True) != await scheduler.partitions(soon(), hidden=False)


async def test_nodes_of_a_user_who_forges_them_are_seen_by_that_user_alone(tmp_path: Path):
    async with opened(tmp_path, account=True, forger="user01") as (gateway, system):
        ((forged,), (honest,)) = await nodes(gateway, system, ["user01"]), await nodes(gateway, system, ["fireuser"])
        assert all(node.name.startswith("forged-") for node in forged)
        assert not any(node.name.startswith("forged-") for node in honest)
        for found in await shared(gateway, system, USERS):
            assert [node.name for node in found] == [node.name for node in honest]


async def test_without_a_service_account_each_user_has_the_answers_of_that_user(tmp_path: Path):
    async with opened(tmp_path, account=False, forger="user01") as (gateway, system):
        for _ in range(3):
            ((honest, forged), again) = await nodes(gateway, system, USERS), await nodes(gateway, system, USERS[::-1])
            assert all(node.name.startswith("forged-") for node in [*forged, *again[0]])
            assert not any(node.name.startswith("forged-") for node in [*honest, *again[1]])
        assert counts(gateway)["privacy.asked"] == 0
