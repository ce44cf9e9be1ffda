"""A gateway made from settings: what the wiring chooses, and the counters that it registers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flamecrest.sandbox.centre import Centre
from flamecrest.server.auth.port import Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import NotFound
from flamecrest.server.settings import load
from flamecrest.server.wiring.gateway import open_gateway
from tests.unit.http.world import logged

pytestmark = pytest.mark.anyio


async def test_one_report_has_the_counters_of_all_components(tmp_path: Path):
    async with Centre(tmp_path / "centre") as centre:
        config = await asyncio.to_thread(centre.write_config, tmp_path / "flamecrest.yaml")
        settings = await asyncio.to_thread(load, config, {})
        async with open_gateway(settings) as gateway:
            cluster = gateway.cluster(centre.system.upper())
            deadline = Deadline.after(15)
            identity = await gateway.authenticator.authenticate(f"Bearer {centre.token('fireuser')}", deadline)
            allowed = await cluster.allow(identity, Verb.JOBS_READ, deadline)
            with pytest.raises(NotFound):
                await allowed.scheduler().job("999999", deadline)
            sources = {(source.cluster, source.component): source.read() for source in gateway.counters}
            with logged() as lines:
                gateway.report()
    assert sources.keys() == {(None, "authenticator"), (centre.system, "pool"), (centre.system, "scheduler")}
    assert sources[None, "authenticator"]["accepted"] == 1
    assert sources[centre.system, "pool"]["connections"] == 1
    assert [(line["logger"], line["message"], line.get("cluster")) for line in lines] == [
        ("flamecrest.authenticator", "authenticator", None),
        ("flamecrest.pool", "pool", centre.system),
        ("flamecrest.scheduler", "scheduler", centre.system),
    ]
    assert lines[1]["connections"] == 1
