"""The configuration is read again while a gateway runs in front of the sandbox."""

from __future__ import annotations

import asyncio
import copy
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from flamecrest.cli.serving.reloading import reload_configuration
from flamecrest.sandbox.centre import Centre
from flamecrest.server.app import create_app
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.settings import Settings, SettingsError, load
from flamecrest.server.wiring.gateway import open_gateway
from tests.unit.http.world import logged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flamecrest.server.cluster import Cluster

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def gateway(
    centre: Centre, file: Path, refused: list[SettingsError]
) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.Event]]:
    """A client of a gateway that reads its configuration again when it has changed, or when the event is set.

    `refused` gets the errors of files that are not valid.
    """

    def read() -> Settings:
        try:
            return load(file, {})
        except SettingsError as error:
            refused.append(error)
            raise

    app = create_app(await asyncio.to_thread(load, file, {}))
    asked = asyncio.Event()
    headers = {"Authorization": f"Bearer {centre.token('fireuser')}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", headers=headers) as client,
    ):
        reading = asyncio.create_task(reload_configuration(app, file, read, asked, look_seconds=0.05))
        try:
            yield client, asked
        finally:
            reading.cancel()


async def until(holds: Callable[[], Any]) -> None:
    """Wait until an awaitable answer is true."""
    async with asyncio.timeout(30):
        while not await holds():
            await asyncio.sleep(0.02)


async def test_clusters_come_change_and_go_and_a_bad_file_is_refused(tmp_path: Path):
    async with Centre(tmp_path / "centre") as centre:
        file, config = tmp_path / "flamecrest.yaml", centre.config()
        file.write_text(yaml.safe_dump(config))
        one = config["clusters"][0]
        other = {**copy.deepcopy(one), "name": "other"}
        home = str(centre.home("fireuser"))
        refused: list[SettingsError] = []
        async with gateway(centre, file, refused) as (client, asked):

            async def status(name: str) -> int:
                found = await client.get(f"/filesystem/{name}/ops/stat", params={"path": home})
                return found.status_code

            assert (await status(centre.system), await status("other")) == (200, 404)
            file.write_text(yaml.safe_dump({**config, "clusters": [one, other]}))
            await until(lambda: served(status, "other", 200))

            with logged() as lines:
                file.write_text("clusters: [")
                asked.set()
                await until(lambda: happened(refused))
                assert (await status(centre.system), await status("other")) == (200, 200)
                closed = {**other, "maintenance": [{"message": "new disks"}]}
                file.write_text(yaml.safe_dump({**config, "clusters": [one, closed]}))
                await until(lambda: served(status, "other", 503))
            assert "not usable" in str(lines)

            file.write_text(yaml.safe_dump({**config, "clusters": [one]}))
            await until(lambda: served(status, "other", 404))
            assert await status(centre.system) == 200


async def served(status: Callable[[str], Any], name: str, expected: int) -> bool:
    found: int = await status(name)
    return found == expected


async def happened(events: list[SettingsError]) -> bool:
    return bool(events)


async def test_a_request_on_a_removed_cluster_is_served_to_its_end(tmp_path: Path):
    async with Centre(tmp_path / "centre") as centre:
        file, config = tmp_path / "flamecrest.yaml", centre.config()
        file.write_text(yaml.safe_dump(config))
        settings = await asyncio.to_thread(load, file, {})
        without = settings.model_copy(update={"clusters": ()})
        ended = asyncio.Event()
        async with open_gateway(settings) as running:
            cluster = running.cluster(centre.system)
            kept = settings.clusters[0]
            assert running.reload is not None
            same = await running.reload(settings.model_copy(update={"app_debug": True}), ended.wait)
            assert running.cluster(centre.system) is cluster, "an unchanged cluster keeps its connections"
            assert "app_debug" in str(same)
            found = await running.reload(without, ended.wait)
            assert centre.system in str(found)
            assert not running.clusters
            await reads(centre, cluster)  # a request that began before
            ended.set()
            back = await running.reload(settings, ended.wait)
            assert f"added=('{kept.name}',)" in str(back)
            await reads(centre, running.cluster(centre.system))


async def reads(centre: Centre, cluster: Cluster) -> None:
    """A request reads a file's attributes."""
    home, deadline = str(centre.home("fireuser")), Deadline.after(40)
    allowed = await cluster.allow(Identity("fireuser"), Verb.FILES_READ, deadline, home)
    assert await allowed.files(path=home).queries.stat(home, deadline, follow=True)
