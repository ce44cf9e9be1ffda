"""The clusters of a running gateway change at one moment, and are closed when nothing uses them; no connections."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx
import pytest

from flamecrest.server.settings import ClusterSettings, Problem, Settings, SettingsError, SourceLocation
from flamecrest.server.telemetry.counters import Counters
from flamecrest.server.transfer.s3.watch import Watch
from flamecrest.server.transfer.tracking.background import RunningTransfers
from flamecrest.server.transfer.tracking.followed import Followed
from flamecrest.server.wiring.clusters import Clusters, OpenCluster, made_of
from flamecrest.server.wiring.stores import Background
from tests.unit.http.world import World

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


class Opener:
    """Opens clusters that consist of a name, and notes which of them are open."""

    def __init__(self, folder: Path, http: httpx.AsyncClient) -> None:
        self.background = Background(http, Watch(), RunningTransfers(), Followed())
        self.open_now: list[str] = []
        self._folder = folder

    async def open(self, settings: Settings, cluster: ClusterSettings) -> OpenCluster:
        if cluster.name == "broken":
            raise SettingsError(Problem(SourceLocation("configuration"), "clusters", "is broken"))
        shown = f"{cluster.name}:{cluster.ssh.port}"
        self.open_now.append(shown)
        stack = AsyncExitStack()
        stack.callback(self.open_now.remove, shown)
        counters = Counters()
        counters.register(cluster.name, "pool", dict)
        made = World(str(self._folder)).gateway.cluster("toy")
        return OpenCluster(made, made_of(settings, cluster), 30.0, counters, stack, AsyncExitStack())


def settings(*clusters: str) -> Settings:
    """A configuration with clusters of these names and ports."""
    return Settings.model_validate(
        {
            "auth": {"authentication": {"public_certs": ["https://issuer.example.org/keys"]}},
            "ssh_credentials": {"type": "SSHStaticKeys", "keys": {}},
            "clusters": [
                {
                    "name": name,
                    "ssh": {"host": "login.example.org", "port": int(port)},
                    "scheduler": {"type": "slurm", "version": "24.05"},
                }
                for name, _, port in (one.partition(":") for one in clusters)
            ],
        }
    )


async def test_clusters_are_opened_before_and_closed_after_their_last_request(tmp_path: Path):
    async with httpx.AsyncClient() as http:
        opener, counters, ended, transferred = Opener(tmp_path, http), Counters(), asyncio.Event(), asyncio.Event()
        clusters = Clusters(opener, counters)
        await clusters.change(settings("one:22", "two:22"))
        one = clusters.by_name["one"]

        async def look() -> bool:
            return transferred.is_set()

        opener.background.followed.follow("ann", "transfer", look)
        with pytest.raises(SettingsError):
            await clusters.change(settings("one:23", "new:22", "broken:22"), ended.wait)
        assert opener.open_now == ["one:22", "two:22"], "what was opened is closed, all else stays"
        assert clusters.by_name["one"] is one

        found = await clusters.change(settings("one:22", "two:2222", "new:22"), ended.wait)
        assert (found.added, found.changed, found.removed) == (("new",), ("two",), ())
        assert clusters.by_name["one"] is one
        assert [source.cluster for source in counters] == ["one", "two", "new"]
        found = await clusters.change(settings("one:22"), ended.wait)
        assert found.removed == ("two", "new")
        assert list(clusters.by_name) == ["one"]
        assert set(opener.open_now) == {"one:22", "two:22", "two:2222", "new:22"}, "requests and a transfer use them"

        ended.set()
        await asyncio.sleep(0)
        assert len(opener.open_now) == 4, "the transfer still runs"
        transferred.set()
        async with asyncio.timeout(30):
            while len(opener.open_now) > 1:
                await asyncio.sleep(0.02)
        assert opener.open_now == ["one:22"]
        await clusters.close()
        assert opener.open_now == []


async def test_settings_that_need_a_restart_are_named_and_not_used(tmp_path: Path):
    async with httpx.AsyncClient() as http:
        clusters = Clusters(Opener(tmp_path, http), Counters())
        before = settings("one:22")
        await clusters.change(before)
        changed = before.model_copy(update={"apis_root_path": "/v2", "app_debug": True})
        assert set((await clusters.change(changed)).ignored) == {"apis_root_path", "app_debug"}
        assert (await clusters.change(before)).ignored == ()
        await clusters.close()
