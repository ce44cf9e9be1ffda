"""Which services must be up before a port is handed out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.cluster import Cluster, Permission
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Invalid, Unavailable
from flamecrest.server.health.board import ProbeResult, Service
from tests.unit.http.world import World

pytestmark = pytest.mark.anyio

BY_COMMANDS, BY_HTTP = (Service.SSH, Service.SCHEDULER), (Service.SCHEDULER,)


async def allowed(
    tmp_path: Path, scheduler_services: tuple[Service, ...], *down: Service
) -> Callable[[Verb], Permission]:
    """The permissions of a cluster some of whose services are down, by their verb."""
    world = World(str(tmp_path))
    for service in down:
        path = str(tmp_path) if service is Service.FILESYSTEM else None
        for _ in range(2):
            world.board.record(ProbeResult(service, healthy=False, checked=datetime.now(UTC), latency=0, path=path))
    cluster = Cluster(
        "Toy",
        roots=[world.root],
        limits=world.limits,
        ports=replace(world.ports(), scheduler_services=scheduler_services),
        board=world.board,
        describe=world.describe,
        authorizer=None,
    )
    deadline = Deadline.after(10)
    return {verb: await cluster.allow(Identity("fireuser"), verb, deadline) for verb in Verb}.__getitem__


async def test_command_line_scheduler_needs_ssh(tmp_path: Path):
    permission = await allowed(tmp_path, BY_COMMANDS, Service.SSH)
    with pytest.raises(Unavailable, match="The SSH service"):
        permission(Verb.STATUS).scheduler()
    with pytest.raises(Unavailable, match="The SSH service"):
        permission(Verb.TRANSFER).transfers(path=str(tmp_path))


async def test_rest_scheduler_does_not_need_ssh(tmp_path: Path):
    permission = await allowed(tmp_path, BY_HTTP, Service.SSH)
    permission(Verb.STATUS).scheduler()
    permission(Verb.TRANSFER).transfers(path=str(tmp_path))
    with pytest.raises(Unavailable, match="The SSH service"):
        permission(Verb.FILES_READ).files(path=str(tmp_path))


@pytest.mark.parametrize("services", [BY_COMMANDS, BY_HTTP])
async def test_scheduler_must_be_up(tmp_path: Path, services: tuple[Service, ...]):
    permission = await allowed(tmp_path, services, Service.SCHEDULER)
    permission(Verb.FILES_READ).files(path=str(tmp_path))
    with pytest.raises(Unavailable, match="The scheduler"):
        permission(Verb.STATUS).scheduler()
    with pytest.raises(Unavailable, match="The scheduler"):
        permission(Verb.TRANSFER).transfers(path=str(tmp_path))
    with pytest.raises(Invalid):  # invalid whether the scheduler is up or not
        permission(Verb.TRANSFER).transfers(path="/elsewhere")


async def test_transfer_needs_its_file_system(tmp_path: Path):
    permission = await allowed(tmp_path, BY_HTTP, Service.FILESYSTEM)
    permission(Verb.STATUS).scheduler()
    with pytest.raises(Unavailable, match="The file system"):
        permission(Verb.TRANSFER).transfers(path=str(tmp_path))
