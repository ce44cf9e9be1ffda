"""A gateway made from settings: what the wiring chooses, and the counters that it registers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from flamecrest.sandbox.centre import SERVICE, Centre
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import NotFound, Unavailable
from flamecrest.server.health.board import ProbeResult, Service
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
            deadline = Deadline.after(40)
            identity = await gateway.authenticator.authenticate(f"Bearer {centre.token('fireuser')}", deadline)
            allowed = await cluster.allow(identity, Verb.JOBS_READ, deadline)
            with pytest.raises(NotFound):
                await allowed.scheduler().job("999999", deadline)
            sources = {(source.cluster, source.component): source.read() for source in gateway.counters}
            with logged() as lines:
                gateway.report()
    shared, own = (
        {(None, "authenticator"), (None, "transfers")},
        {(centre.system, "pool"), (centre.system, "scheduler")},
    )
    assert sources.keys() == shared | own
    assert sources[None, "authenticator"]["accepted"] == 1
    assert sources[centre.system, "pool"]["connections"] == 1
    assert [(line["logger"], line["message"], line.get("cluster")) for line in lines] == [
        ("flamecrest.authenticator", "authenticator", None),
        ("flamecrest.transfers", "transfers", None),
        ("flamecrest.pool", "pool", centre.system),
        ("flamecrest.scheduler", "scheduler", centre.system),
    ]
    assert lines[2]["connections"] == 1


PROBING = {"interval_check": 60, "services": {name: {"timeout": 10} for name in ("ssh", "scheduler", "filesystem")}}


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the client has gone
    writer.close()


@pytest.mark.parametrize(
    "broken", ["issuer is down", "issuer hangs", "key is refused", "key is missing", "key is unreadable"]
)
async def test_probes_that_cannot_be_made_keep_nobody_out(tmp_path: Path, broken: str):
    silent = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    async with silent, Centre(tmp_path / "centre") as centre:
        config = centre.config(probing=PROBING)
        keys = config["ssh_credentials"]["keys"]
        match broken:
            case "issuer is down":
                await centre.issuer.stop()
            case "issuer hangs":
                port = silent.sockets[0].getsockname()[1]
                config["auth"]["authentication"]["tokenUrl"] = f"http://127.0.0.1:{port}/token"
                config["clusters"][0]["probing"] = {**PROBING, "services": {"ssh": {"timeout": 1}}}
            case "key is refused":
                keys[SERVICE] = keys["user01"]
            case "key is missing":
                del keys[SERVICE]
            case _:
                keys[SERVICE] = {"private_key": "no key"}
        path = tmp_path / "flamecrest.yaml"
        path.write_text(yaml.safe_dump(config))
        async with open_gateway(await asyncio.to_thread(load, path, {})) as gateway:
            cluster = gateway.cluster(centre.system)
            deadline = Deadline.after(30)
            while len(cluster.board.results()) < (1 if broken == "issuer hangs" else 4):
                assert deadline.left() > 0
                await asyncio.sleep(0.01)
            assert all(one.unknown and one.healthy for one in cluster.board.results()), cluster.board.results()
            shown = cluster.describe().services_health or []
            assert {(one.healthy, (one.message or "")[:35]) for one in shown} == {
                (True, "Unknown: the probe could not be mad")
            }
            assert not cluster.board.refused
            allowed = await cluster.allow(Identity("fireuser"), Verb.JOBS_READ, deadline)
            with pytest.raises(NotFound):
                await allowed.scheduler().job("999999", deadline)


async def test_start_up_file_of_the_service_account_is_no_outage(tmp_path: Path):
    async with Centre(tmp_path / "centre") as centre:
        centre.ssh.faults.rc_files = True
        (centre.users.root / "home" / SERVICE / ".bashrc").write_text("echo 'No logins today' >&2; exit 0\n")
        path = tmp_path / "flamecrest.yaml"
        path.write_text(yaml.safe_dump(centre.config(probing=PROBING)))
        async with open_gateway(await asyncio.to_thread(load, path, {})) as gateway:
            cluster, deadline = gateway.cluster(centre.system), Deadline.after(30)
            while len(cluster.board.results()) < 4:
                assert deadline.left() > 0
                await asyncio.sleep(0.01)
            found = {one.service: one for one in cluster.board.results()}
            assert all(one.healthy for one in found.values()), found
            assert not found[Service.FILESYSTEM].unknown, "SFTP serves"
            for service in (Service.SSH, Service.SCHEDULER):
                assert found[service].unknown
                assert "No logins today" in (found[service].message or "")


async def test_service_that_is_down_opens_by_the_request_that_tries_it(tmp_path: Path):
    async with Centre(tmp_path / "centre") as centre:
        config = tmp_path / "flamecrest.yaml"
        config.write_text(yaml.safe_dump(centre.config(probing={"retry_interval": 1})))
        async with open_gateway(await asyncio.to_thread(load, config, {})) as gateway:
            cluster, deadline = gateway.cluster(centre.system), Deadline.after(40)
            long_ago = datetime.now(UTC) - timedelta(hours=1)
            for _ in range(2):
                cluster.board.record(ProbeResult(Service.SSH, healthy=False, checked=long_ago, latency=0.1))
            assert cluster.board.refused
            await asyncio.sleep(1.1)  # until a request may try
            trying = await cluster.allow(Identity("fireuser"), Verb.STATUS, deadline)
            trial = asyncio.create_task(trying.user(deadline))
            refused = await cluster.allow(Identity("user01"), Verb.STATUS, deadline)
            await asyncio.sleep(0)  # until the trial has begun
            with pytest.raises(Unavailable):
                await refused.user(deadline)
            assert (await trial).user.name == "fireuser"
            trying.succeeded()
            assert not cluster.board.refused
            assert await refused.user(deadline)
