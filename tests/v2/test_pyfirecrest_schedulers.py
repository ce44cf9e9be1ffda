"""The unchanged pyfirecrest, from submission to output, on clusters without Slurm: OpenPBS (the toy) and local."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from anyio.from_thread import start_blocking_portal
from firecrest import ClientCredentialsAuth
from firecrest.FirecrestException import UnexpectedStatusException
from firecrest.v2 import Firecrest

from flamecrest.sandbox.centre import Centre
from tests.live.process import gateway

pytestmark = pytest.mark.timeout(120)

PORTS = [20000, 30000]
SCRIPT = '#!/bin/bash\necho out "$GREETING"\n'
LONG = "#!/bin/bash\nsleep 100\n"


class World(NamedTuple):
    client: Firecrest
    system: str
    home: str
    scheduler: str


@pytest.fixture(scope="module", params=["pbs", "local"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    with start_blocking_portal("asyncio") as portal, ExitStack() as stack:
        centre = Centre(folder / "centre", scheduler=request.param)
        centre = stack.enter_context(portal.wrap_async_context_manager(centre))
        settings = centre.config()
        streamer = {"service_type": "streamer", "host": "127.0.0.1", "port_range": PORTS, "public_ips": ["127.0.0.1"]}
        settings["clusters"][0].setdefault("data_operation", {})["data_transfer"] = streamer
        config = folder / "flamecrest.yaml"
        config.write_text(yaml.safe_dump(settings))
        server = stack.enter_context(gateway(config, folder / "gateway.log"))
        clients = centre.issuer.clients
        name = next(name for name, (_, user) in clients.items() if user == "fireuser")
        auth = ClientCredentialsAuth(name, clients[name][0], centre.issuer.token_url)
        client = Firecrest(server.url, auth, verify=False)
        stack.callback(client.close_session)
        yield World(client, centre.system, str(centre.home("fireuser")), request.param)


def until(world: World, job: str, state: str) -> None:
    deadline = time.monotonic() + 60
    while (found := world.client.job_info(world.system, job)[0])["status"]["state"] != state:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_a_job_from_submit_to_output(world: World):
    client, system = world.client, world.system
    greeting = "a,b \"c\" 'd' $HOME"
    job = client.submit(system, world.home, script_str=SCRIPT, env_vars={"GREETING": greeting})["jobId"]
    [done] = client.wait_for_job(system, job)
    assert (done["jobId"], done["status"]["state"], done["status"]["exitCode"]) == (job, "COMPLETED", 0)
    [meta] = client.job_metadata(system, job)
    assert client.view(system, meta["standardOutput"]) == f"out {greeting}\n"
    assert job in [one["jobId"] for one in client.job_info(system)]
    client.set_api_version("2.6.0")
    assert job in [one["jobId"] for one in client.job_info(system, time_window="1h")]
    assert job not in [one["jobId"] for one in client.job_info(system, name="nosuch")]


def test_cancel_and_what_is_unknown(world: World):
    client, system = world.client, world.system
    job = client.submit(system, world.home, script_str=LONG)["jobId"]
    until(world, job, "RUNNING")
    client.cancel_job(system, job)
    until(world, job, "CANCELLED")
    client.cancel_job(system, job)  # again
    for call in (client.cancel_job, client.job_info, client.job_metadata):
        with pytest.raises(UnexpectedStatusException) as caught:
            call(system, "99999999")
        assert caught.value.responses[-1].status_code == 404
        assert "Job not found" in caught.value.responses[-1].json()["message"]


def test_the_cluster(world: World):
    client, system = world.client, world.system
    assert [one["scheduler"]["type"] for one in client.systems()] == [world.scheduler]
    assert client.nodes(system)
    assert client.partitions(system)
    if world.scheduler == "pbs":
        assert client.reservations(system) == []


def test_a_file_copied_by_a_job(world: World):
    client, system = world.client, world.system
    client.mkdir(system, f"{world.home}/from")
    client.cp(system, f"{world.home}/from", f"{world.home}/to", blocking=True)
    assert {"from", "to"} <= {one["name"] for one in client.list_files(system, world.home)}


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # httpx's, about the client's own request
def test_a_file_by_a_job_of_the_streamer(world: World, tmp_path: Path):
    client, system, content = world.client, world.system, os.urandom(2_000_000)
    (tmp_path / "here").write_bytes(content)
    given = {"transfer_method": "streamer", "blocking": True}
    client.upload(system, str(tmp_path / "here"), world.home, "streamed", **given)
    client.download(system, f"{world.home}/streamed", str(tmp_path / "back"), **given)
    assert (tmp_path / "back").read_bytes() == content
