"""Routes of status: systems, nodes, partitions, reservations, the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Unavailable, Unsupported, Upstream

from .toy_ports import Queue
from .world import World, names

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.values import Account

pytestmark = pytest.mark.anyio


async def test_systems_keep_firecrest_spellings(client: httpx.AsyncClient) -> None:
    (system,) = (await client.get("/status/systems")).json()["systems"]
    assert set(system["dataOperation"]) == {"max_ops_file_size", "datatransfer_jobs_directives", "data_transfer"}
    assert system["servicesHealth"][0]["serviceType"] == "filesystem"
    assert system["servicesHealth"][0]["path"] == system["fileSystems"][0]["path"]
    assert system["dataOperation"]["data_transfer"]["publicUrl"] == "https://s3.example.org"
    assert not set(system["dataOperation"]["data_transfer"]) & {"accessKeyId", "secretAccessKey", "privateUrl"}


async def test_partitions(client: httpx.AsyncClient) -> None:
    for query, found in (("", ["debug"]), ("?show_hidden=true", ["debug", "secret"]), ("?show_hidden=0", ["debug"])):
        assert names((await client.get(f"/status/toy/partitions{query}")).json()["partitions"]) == found


async def test_nodes_and_reservations(client: httpx.AsyncClient) -> None:
    (node,) = (await client.get("/status/toy/nodes")).json()["nodes"]
    assert (node["name"], node["state"], node["allocMemory"], node["idleCpus"]) == ("nid001", ["IDLE"], 16000, 8)
    (reservation,) = (await client.get("/status/toy/reservations")).json()["reservations"]
    assert (reservation["startTime"], reservation["endTime"]) == (1795293308, 1826829308)


async def test_userinfo(client: httpx.AsyncClient) -> None:
    info = (await client.get("/status/toy/userinfo")).json()
    assert info["user"] == info["group"] == {"id": "1001", "name": "fireuser"}
    assert names(info["groups"]) == ["fireuser", "sudo"]
    assert info["accounts"][1] == {"name": "test", "default": True}


class NoAccounts(Queue):
    """A scheduler whose `accounts` returns None or raises the given error."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self._error = error

    async def accounts(self, deadline: Deadline) -> list[Account] | None:  # noqa: ARG002
        if self._error is not None:
            raise self._error
        return None


@pytest.mark.parametrize("error", [Unavailable("down"), Unsupported("none"), None])
async def test_userinfo_without_accounts(tmp_path: Path, error: Exception | None) -> None:
    async with World(str(tmp_path), queue=NoAccounts(error)).client() as client:
        info = (await client.get("/status/toy/userinfo")).json()
    assert (info["user"]["name"], info["accounts"]) == ("fireuser", None)


async def test_scheduler_error_is_reported(tmp_path: Path) -> None:
    world = World(str(tmp_path), queue=NoAccounts(Upstream("sacctmgr: segmentation fault")))
    async with world.client() as client:
        assert (await client.get("/status/toy/userinfo")).status_code == 424


async def test_capabilities(client: httpx.AsyncClient, world: World) -> None:
    can = (await client.get("/status/toy/capabilities")).json()
    assert {"timeLimit", "resources.gpus"} <= set(can["fields"])
    assert "hold" in can["operations"]
    assert "suspend" not in can["operations"]
    assert can["changes"] == sorted(can["changes"])
    world.rules.forbidden = {("fireuser", Verb.STATUS)}
    assert (await client.get("/status/toy/capabilities")).status_code == 403
